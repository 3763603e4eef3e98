// One document in the list.

import { url } from "./api.js";
import { button, bytes, count, el, icon, menu, time } from "./ui.js";
import { addressOf } from "./library-filters.js";
import { inWork, kindOf, remedyOf, stepOf } from "./library-words.js";

const OFFERS = { retry: ["Try again", "again"], password: ["Give the password", "lock"], replace: ["Replace the file", "upload"] };

/**
 * A line of the table. Its element has the id and the actions, which it calls as `actions.retry(document)` and so on:
 * retry, password, replace, rename, details, remove, restore, purge, pick.
 */
export class Row {
  constructor(document, actions, nameOf) {
    this.actions = actions;
    this.nameOf = nameOf; // of a collection
    this.tick = el("input", { type: "checkbox" });
    this.cells = Object.fromEntries(["name", "state", "pages", "size", "date", "acts"].map((part) => [part, el("td", { class: part })]));
    for (const part of ["pages", "size"]) this.cells[part].classList.add("number");
    const pick = el("td", { class: "pick" }, this.tick);
    this.element = el("tr", { class: "document", tabindex: "-1", dataset: { id: document.document_id } }, pick, Object.values(this.cells));
    this.tick.addEventListener("click", (event) => actions.pick(this, event));
    this.update(document);
  }

  get id() {
    return this.document.document_id;
  }

  set picked(yes) {
    this.tick.checked = yes;
    this.element.classList.toggle("picked", yes);
  }

  /** Show the document as it is now. */
  update(document) {
    this.document = document;
    const { name, size, created_at, deleted_at } = document;
    this.tick.setAttribute("aria-label", `Select ${name}`);
    this.element.classList.toggle("failed", document.state === "failed");
    if (!this.cells.name.querySelector("input")) this.showName();
    this.showState();
    this.cells.size.replaceChildren(bytes(size));
    this.cells.date.replaceChildren(time(deleted_at ?? created_at));
    if (!this.cells.acts.contains(globalThis.document.activeElement)) this.cells.acts.replaceChildren(this.menu());
  }

  showName() {
    const { name, deleted_at } = this.document;
    const [kind, picture] = kindOf(this.document);
    const title = el("bdi", { class: "title", title: name }, name);
    const link = deleted_at ? title : el("a", { href: `/documents/${this.id}` }, title);
    const sign = el("span", { class: "kind", title: kind }, icon(picture), el("span", { class: "unseen" }, `${kind}: `));
    this.cells.name.replaceChildren(sign, el("div", { class: "named" }, link, this.labels()));
  }

  labels() {
    const { collections, tags } = this.document;
    const chip = (words, change, picture) => el("a", { class: "label", href: addressOf(change) }, icon(picture), el("bdi", {}, words));
    const inside = collections.map((id) => [this.nameOf(id), id]).filter(([words]) => words);
    const chips = [
      ...inside.map(([words, id]) => chip(words, { collection: id, tag: "" }, "folder")),
      ...tags.map((tag) => chip(tag, { tag }, "tag")),
    ];
    return chips.length ? el("div", { class: "labels" }, chips) : null;
  }

  showState() {
    const { state, pages, pages_done } = this.document;
    this.cells.pages.replaceChildren(pages && state === "ready" ? el("span", {}, pages.toLocaleString(), el("span", { class: "noun" }, pages === 1 ? " page" : " pages")) : "");
    if (inWork(this.document)) return this.progress({ stage: state === "queued" ? "queued" : "parsing", pages, pages_done });
    const failed = state === "failed" ? this.document : this.document.replacement;
    return failed?.state === "failed" ? this.showFailure(failed) : this.showReady();
  }

  showReady() {
    const { chunks, state } = this.document;
    if (state !== "ready") return this.cells.state.replaceChildren("Not read yet"); // and it is in the bin
    return this.cells.state.replaceChildren(el("span", { class: "ready", title: count(chunks, "passage") }, icon("check"), "Ready"));
  }

  showFailure(failed) {
    const { advice, offers } = remedyOf(failed);
    const whole = failed === this.document;
    const said = whole ? "" : "The new file could not be read: ";
    const shown = this.document.deleted_at ? [] : whole ? offers : ["replace"];
    const acts = shown.map((offer) => {
      const [words, picture] = OFFERS[offer];
      return button(words, { small: true, icon: picture }, () => this.actions[offer](this.document));
    });
    this.cells.state.replaceChildren(
      el("p", { class: "why" }, icon("warn"), el("span", {}, said, failed.reason ?? "Nobody knows why it failed.", advice && ` ${advice}`)),
      acts.length ? el("div", { class: "row" }, acts) : "",
    );
  }

  /** Show how far it has come, as a stream says; `{words, done, total}` of an upload too. */
  progress(step) {
    const { words, done, total } = step.words ? step : stepOf(step);
    const before = this.cells.state.querySelector(".bar");
    const bar = before ?? el("progress", { class: "bar" });
    bar.setAttribute("aria-label", `${this.document.name}: ${words}`);
    if (total) [bar.max, bar.value] = [total, done];
    else bar.removeAttribute("value");
    if (before) this.cells.state.querySelector(".step").textContent = words;
    else this.cells.state.replaceChildren(el("span", { class: "step figures" }, words), bar);
  }

  menu() {
    const { actions, document } = this;
    const open = el("a", { href: url(`/documents/${this.id}/content`), download: document.name, hidden: true });
    const items = document.deleted_at
      ? [["Restore", "undo", () => actions.restore([this.document])], ["Delete for good", "trash", () => actions.purge([this.document]), { danger: true }]]
      : [
          ["Rename", "pencil", () => this.rename()],
          ["Details", "tag", () => actions.details(this.document)],
          ["Replace the file", "upload", () => actions.replace(this.document)],
          ["Download", "download", () => open.click()],
          ["Delete", "trash", () => actions.remove([this.document]), { danger: true }],
        ];
    const box = menu(`More for ${document.name}`, items);
    return el("div", {}, box, open);
  }

  /** Let its name be written over: Enter and leaving keep what was written, Esc does not. */
  rename() {
    const { name } = this.document;
    const input = el("input", { class: "input", "aria-label": `New name of ${name}`, maxlength: 255, dir: "auto" });
    input.value = name;
    let open = true;
    const close = (keep, focus) => {
      if (!open) return;
      open = false;
      const wanted = input.value.trim();
      input.remove();
      this.showName();
      if (focus) this.element.focus();
      if (keep && wanted && wanted !== name) this.actions.rename(this.document, wanted);
    };
    input.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.isComposing || !["Enter", "Escape"].includes(event.key)) return;
      event.preventDefault();
      close(event.key === "Enter", true);
    });
    input.addEventListener("blur", () => close(true, false));
    this.cells.name.querySelector(".named").replaceChildren(input);
    input.focus();
    const dot = name.lastIndexOf(".");
    input.setSelectionRange(0, dot > 0 ? dot : name.length);
  }
}
