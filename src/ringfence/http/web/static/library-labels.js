// What an owner says of documents: collections and tags, of one or of several, and what the engine knows of one.

import { read } from "./api.js";
import { $, button, bytes, count, dialog, el, icon, moment, onSubmit } from "./ui.js";
import { kindOf } from "./library-words.js";

const PARALLEL = 4;

/**
 * Do something for each of them, a few at a time.
 *
 * @throws the first error, once all were tried
 */
export async function forEach(items, act) {
  const waiting = [...items];
  const errors = [];
  const work = async () => {
    while (waiting.length) await act(waiting.shift()).catch((error) => errors.push(error));
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  if (errors.length) throw errors[0];
}

/** Change a document; the engine's answer is the document as it is then. */
export const patch = ({ document_id }, json) => read(`/documents/${document_id}`, { method: "PATCH", json });

const fold = (text) => text.trim().toLowerCase();

/** All that is known of a document, and its labels, which are kept at once. */
export function details(document, { shelves, changed }) {
  let present = document;
  const keep = async (json) => {
    present = await patch(present, json);
    changed(present);
  };
  const collections = {
    label: "Collections",
    list: "known-collections",
    picture: "folder",
    values: () => present.collections.map((id) => [id, shelves.nameOf(id) ?? "…"]),
    add: async (text) => keep({ collections: [...present.collections, await shelves.idOf(text)] }),
    remove: (id) => keep({ collections: present.collections.filter((one) => one !== id) }),
  };
  const tags = {
    label: "Tags",
    list: "known-tags",
    picture: "tag",
    values: () => present.tags.map((tag) => [tag, tag]),
    add: (text) => keep({ tags: [...present.tags, text] }),
    remove: (tag) => keep({ tags: present.tags.filter((one) => one !== tag) }),
  };
  return dialog(document.name, (close) => [
    editor(collections),
    editor(tags),
    facts(document),
    el("div", { class: "actions" }, button("Close", {}, () => close())),
  ]);
}

/** Chips, with a field that adds one. */
function editor({ label, list, picture, values, add, remove }) {
  const chips = el("ul", { class: "row chips" });
  const id = `add-${list}`;
  const input = el("input", { class: "input", id, name: "text", list, maxlength: 100, autocomplete: "off", required: true, "aria-describedby": `${id}-wrong` });
  const wrong = el("p", { class: "form-wrong", role: "alert" });
  const show = () => chips.replaceChildren(...values().map(chip));
  const chip = ([value, text]) => {
    const act = async () => {
      await remove(value);
      show();
      input.focus();
    };
    return el("li", { class: "chip" }, icon(picture), el("bdi", {}, text), button(`Remove ${text}`, { icon: "close", only: true, bare: true }, act));
  };
  const form = el("form", { class: "field", novalidate: true }, el("label", { for: id }, label), chips, el("div", { class: "adding" }, input, el("button", { class: "button" }, "Add")), el("p", { class: "wrong", id: `${id}-wrong` }), wrong);
  onSubmit(form, async ({ text }) => {
    await add(text);
    input.value = "";
    show();
  });
  show();
  return form;
}

function facts(document) {
  const { size, pages, chunks, language, version, created_at, sha256, metadata } = document;
  const languages = new Intl.DisplayNames(undefined, { type: "language" });
  const known = [
    ["Kind", kindOf(document)[0]],
    ["Size", bytes(size)],
    ["Read as", pages && `${count(pages, "page")}, ${count(chunks, "passage")}`],
    ["Language", language && languages.of(language)],
    ["Added", moment(created_at)],
    ["Version", version > 1 && String(version)],
    ["SHA-256", el("code", {}, sha256)],
    ...Object.entries(metadata).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
  ];
  const line = ([name, value]) => [el("dt", { dir: "auto" }, name), el("dd", { dir: "auto" }, value)];
  return el("dl", { class: "facts" }, known.filter(([, value]) => value).flatMap(line));
}

/** Ask for one word, such as a name; undefined, if nobody gives one. `act` may refuse it. */
export function asked(title, { label, action, list, type = "text", value = "", hint = "", autocomplete = "off" }, act) {
  return dialog(title, (close) => {
    const input = el("input", { class: "input", id: "asked", name: "text", type, list, value, autocomplete, dir: "auto", required: true, maxlength: 256, "aria-describedby": "asked-hint asked-wrong", autofocus: true });
    const field = el("div", { class: "field" }, el("label", { for: "asked" }, label), input, el("p", { class: "hint", id: "asked-hint" }, hint), el("p", { class: "wrong", id: "asked-wrong" }));
    const actions = el("div", { class: "actions" }, button("Cancel", {}, () => close()), el("button", { class: "button primary" }, action));
    const form = el("form", { class: "stack", novalidate: true }, field, el("p", { class: "form-wrong", role: "alert" }), actions);
    onSubmit(form, async ({ text }) => {
      await act(text.trim());
      close(text);
    });
    return [form];
  });
}

/** Put several documents into a collection, or give them a tag. */
export function labelSeveral(documents, kind, { shelves, changed }) {
  const many = count(documents.length, "document");
  const collection = kind === "collection";
  const said = collection
    ? { label: "Collection", action: "Add", list: "known-collections", hint: "One of those that there are, or the name of a new one." }
    : { label: "Tag", action: "Tag", list: "known-tags" };
  return asked(collection ? `Add ${many} to a collection` : `Tag ${many}`, said, async (text) => {
    const id = collection && (await shelves.idOf(text));
    const json = (document) => (collection ? { collections: [...new Set([...document.collections, id])] } : { tags: [...new Set([...document.tags, text])] });
    await forEach(documents, async (document) => changed(await patch(document, json(document))));
  });
}

/** Offer the tags of these documents wherever one is asked for. */
export function learnTags(documents) {
  const place = $("known-tags");
  const known = new Set([...place.children].map(({ value }) => value));
  const found = documents.flatMap(({ tags }) => tags).filter((tag) => !known.has(fold(tag)));
  place.append(...[...new Set(found)].map((tag) => el("option", { value: tag })));
}
