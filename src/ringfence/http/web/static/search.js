// Passages, without an answer. What is looked for stands in the address, so a search can be kept, and gone back to.

import { query as inAddress, read } from "./api.js";
import { $, button, count, el, empty, icon, marked, onSubmit, report, shortcut, skeleton, trouble } from "./ui.js";

const LANGUAGES = "ar cs da de el en es fa fi fr he hi hu id it ja ko nl no pl pt ro ru sv th tr uk vi zh".split(" ");
const FIELDS = ["q", "mode", "collection", "tag", "language", "from", "to", "document"];
const LIMIT = 20;
const SHOWN = 440; // characters of a long passage
const form = $("search");
let running = new AbortController();

const asked = () => Object.fromEntries(FIELDS.map((name) => [name, form.elements[name].value.trim()]));

/** Fill the form from the address. */
function restore() {
  const wanted = new URLSearchParams(location.search);
  for (const name of FIELDS) form.elements[name].value = wanted.get(name) ?? (name === "mode" ? "hybrid" : "");
  if (!form.elements.mode.value) form.elements.mode.value = "hybrid";
  $("filters").open = FIELDS.slice(2, 7).some((name) => form.elements[name].value);
  showDocument();
}

function remember(values) {
  const set = FIELDS.filter((name) => values[name] && !(name === "mode" && values.mode === "hybrid"));
  const next = `/search?${new URLSearchParams(set.map((name) => [name, values[name]]))}`;
  if (next !== location.pathname + location.search) history.pushState(null, "", next);
}

/** The day after a date, since the API's end is open. */
function dayAfter(date) {
  const next = new Date(`${date}T00:00:00`);
  next.setDate(next.getDate() + 1);
  return next.toISOString();
}

function filterOf({ collection, tag, language, from, to, document }) {
  const filter = {
    ...(document && { documents: [document] }),
    ...(collection && { collections: [collection] }),
    ...(tag && { tags: [tag] }),
    ...(language && { languages: [language] }),
    ...(from && { created_from: new Date(`${from}T00:00:00`).toISOString() }),
    ...(to && { created_to: dayAfter(to) }),
  };
  return Object.keys(filter).length ? filter : null;
}

async function find() {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const values = asked();
  $("summary").textContent = "";
  if (!values.q) return $("results").replaceChildren(empty("search", "Find a passage", "In all that you have, by meaning and by words. Nothing is kept of it."));
  const results = $("results");
  results.setAttribute("aria-busy", "true");
  results.replaceChildren(skeleton(6));
  const json = { query: values.q, mode: values.mode, limit: LIMIT, filter: filterOf(values) };
  try {
    show(values.q, await read("/search", { method: "POST", json, signal }));
  } catch (error) {
    if (error.name === "AbortError") return;
    const refused = error.status >= 400 && error.status < 429;
    results.replaceChildren(refused ? "" : trouble(error, find));
    if (refused) form.querySelector(".form-wrong").textContent = error.message;
  } finally {
    if (!signal.aborted) results.setAttribute("aria-busy", "false");
  }
}

function show(query, { results }) {
  $("summary").textContent = results.length ? `${count(results.length, "passage")}, best first` : "";
  const nothing = empty("search", "Nothing found", "Try other words or fewer filters, or add a document.", el("a", { class: "button", href: "/library" }, "To the library"));
  $("results").replaceChildren(results.length ? el("ol", {}, results.map(hit)) : nothing);
}

function hit({ document_id, document: name, places, text, context, highlights, scores, rerank_score }) {
  const { page, ...words } = placeOf(places, highlights);
  const link = el("a", { href: `/documents/${document_id}${inAddress({ page, ...words })}` }, el("bdi", {}, name));
  const parts = [["match", scores.fused], ["meaning", scores.dense], ["words", scores.lexical], ["reranked", rerank_score]];
  const told = parts.filter(([, value]) => value !== null).map(([part, value]) => el("span", {}, `${part} ${value.toFixed(2)}`));
  return el(
    "li",
    { class: "hit" },
    el("h2", { class: "row" }, icon("file"), link, el("span", { class: "quiet small" }, `page ${page}`)),
    context && el("p", { class: "quiet small", dir: "auto" }, context),
    passage(text, highlights),
    el("p", { class: "score quiet small figures" }, told),
  );
}

/** On which page the first words that were found stand, and where there; of a passage without any, where it begins. */
function placeOf(places, highlights) {
  const [first, ...others] = highlights;
  let at = 0; // of a page's part in the passage; one line break lies between two
  for (const { page, start, end } of places) {
    const stop = at + end - start;
    if (first && first.start < stop) {
      let last = first.end;
      for (const one of others) if (one.start - last <= 1) last = one.end;
      return { page, start: start + first.start - at, end: start + Math.min(last, stop) - at };
    }
    at = stop + 1;
  }
  return { page: places[0].page };
}

/** A passage; of a long one the part around the first words that were found, and the rest at a press. */
function passage(text, highlights) {
  const whole = marked(text, highlights);
  const found = highlights.length ? Math.min(...highlights.map(({ start }) => start)) : 0;
  const characters = Array.from(text);
  if (characters.length <= 1.3 * SHOWN) return el("p", { class: "text", dir: "auto" }, whole);
  const earliest = Math.max(0, Math.min(found - SHOWN / 4, characters.length - SHOWN));
  const begin = earliest && characters.findIndex((character, at) => at >= earliest && /\s/.test(character)) + 1;
  const end = begin + SHOWN;
  const inside = highlights.filter((one) => one.start >= begin && one.end <= end);
  const part = marked(
    characters.slice(begin, end).join(""),
    inside.map((one) => ({ start: one.start - begin, end: one.end - begin })),
  );
  const place = el("p", { class: "text part", dir: "auto" }, begin > 0 && "… ", part, end < characters.length && "… ");
  const all = el("button", { type: "button", class: "link small", onclick: () => place.replaceWith(el("p", { class: "text", dir: "auto" }, whole)) }, "All of it");
  place.append(all);
  return place;
}

/** Which document alone is looked in, if one is. */
async function showDocument() {
  const id = form.elements.document.value;
  $("document-chip").replaceChildren();
  if (!id) return;
  const { name } = await read(`/documents/${encodeURIComponent(id)}`).catch(() => ({ name: "one document" }));
  const clear = button("Look in all documents", { icon: "close", only: true, small: true, bare: true }, async () => {
    form.elements.document.value = "";
    form.requestSubmit();
    $("document-chip").replaceChildren();
  });
  $("document-chip").replaceChildren(el("span", { class: "chip on" }, icon("file"), el("bdi", { class: "one-line" }, name), clear));
}

onSubmit(form, async () => {
  remember(asked());
  find().catch(report); // not waited for: the newest search counts
});
for (const input of form.querySelectorAll("[type=radio], select, [type=date]")) {
  input.addEventListener("change", () => {
    const halfTyped = input.type === "date" && input.value && input.value < "1000"; // a year's first digits
    if (form.elements.q.value.trim() && !halfTyped) form.requestSubmit();
  });
}

addEventListener("popstate", () => {
  restore();
  find().catch(report);
});

shortcut("/", "Look for something", () => form.elements.q.select());
shortcut("escape", "Back to the search field", () => form.elements.q.select());
addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const links = [...document.querySelectorAll(".hit h2 a")];
  const at = links.indexOf(document.activeElement);
  if (!step || (at < 0 && document.activeElement !== form.elements.q) || !links.length) return;
  event.preventDefault();
  (links[at + step] ?? (at + step < 0 ? form.elements.q : links.at(-1))).focus();
});

async function begin() {
  const names = new Intl.DisplayNames(undefined, { type: "language" });
  const languages = LANGUAGES.map((code) => [names.of(code), code]).sort(([a], [b]) => a.localeCompare(b));
  form.elements.language.append(...languages.map(([name, value]) => el("option", { value }, name)));
  try {
    const { collections } = await read("/collections");
    form.elements.collection.append(...collections.map(({ collection_id, name }) => el("option", { value: collection_id }, name)));
  } catch (error) {
    report(error); // one can search without them
  }
  restore();
  await find();
}

begin().catch(report);
