// The list of documents: pages of it, what is selected, and the keys that move in it.

import { read } from "./api.js";
import { $, button, el, empty, trouble } from "./ui.js";
import { matches, narrows, queryOf } from "./library-filters.js";
import { Row } from "./library-row.js";
import { inWork } from "./library-words.js";

const PAGE = 50;

export class List {
  /**
   * @param {object} actions what `Row` needs
   * @param {{nameOf: (id: string) => string | undefined, onSelect: () => void, onLoad: (documents: object[]) => void}} others
   */
  constructor(actions, { nameOf, onSelect, onLoad }) {
    Object.assign(this, { nameOf, onSelect, onLoad });
    this.actions = { ...actions, pick: (row, event) => this.pick(row, event.shiftKey) };
    this.body = $("document-list");
    this.below = $("below-list");
    this.rows = new Map(); // by document id, as they stand
    this.selected = new Set(); // ids
    this.filters = null;
    this.reading = new AbortController();
    this.sight = new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && this.more(), { rootMargin: "400px" });
    this.body.addEventListener("keydown", (event) => this.onKey(event));
    this.body.addEventListener("focusin", ({ target }) => this.rove(target.closest("tr")));
    $("select-all").addEventListener("change", ({ target }) => this.pickAll(target.checked));
  }

  /** Show a list from its beginning. */
  async show(filters) {
    this.reading.abort();
    this.reading = new AbortController();
    this.filters = filters;
    this.cursor = null;
    this.clear();
    this.rows.clear();
    $("document-table").setAttribute("aria-busy", "true");
    this.body.replaceChildren(...Array.from({ length: 4 }, ghost));
    this.below.replaceChildren();
    await this.load();
  }

  async load() {
    const { signal } = this.reading;
    try {
      const page = await read(`/documents${queryOf(this.filters, PAGE, this.cursor)}`, { signal });
      if (!this.rows.size) this.body.replaceChildren();
      this.cursor = page.next_cursor;
      for (const document of page.documents) this.put(document);
      this.onLoad(page.documents);
      this.settle();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!this.rows.size) this.body.replaceChildren();
      this.below.replaceChildren(trouble(error, () => this.load()));
    }
    $("document-table").removeAttribute("aria-busy");
  }

  async more() {
    if (!this.cursor || this.loading) return;
    this.loading = true;
    await this.load();
    this.loading = false;
  }

  /** What stands below the list: more of it, or that there is nothing. */
  settle() {
    this.sight.disconnect();
    $("document-table").classList.toggle("without-rows", !this.rows.size);
    if (this.cursor) {
      const next = button("Show more", { class: "button" }, () => this.more());
      this.below.replaceChildren(next);
      this.sight.observe(next);
    } else if (this.rows.size) this.below.replaceChildren();
    else this.below.replaceChildren(this.nothing());
    if (this.rows.size && !this.body.querySelector('tr[tabindex="0"]')) this.body.firstElementChild.tabIndex = 0;
  }

  nothing() {
    if (this.filters.bin) return empty("trash", "The bin is empty", "What you delete stays here for a day, then it is gone.");
    if (narrows(this.filters)) {
      const all = el("a", { class: "button small", href: "/library" }, "Show all");
      return empty("search", "Nothing like that", "No document is in this selection.", all);
    }
    const add = button("Add files", { icon: "plus" }, () => $("files").click());
    const words = "There are none yet. Drop files or a whole folder anywhere on this page: PDF, Office files, web pages, mails, pictures, text. Only you will see yours.";
    return empty("library", "Your documents", words, add);
  }

  put(document) {
    const there = this.rows.get(document.document_id); // it came meanwhile, or has another place now
    if (there) return there.update(document);
    const row = new Row(document, this.actions, this.nameOf);
    this.rows.set(row.id, row);
    return this.body.append(row.element);
  }

  /** Show a document as it is now, where it is in the list; a new one that belongs into it comes first. */
  upsert(document) {
    const row = this.rows.get(document.document_id);
    if (row) return row.update(document);
    if (!this.filters || !matches(document, this.filters)) return null;
    if (!this.rows.size) this.body.replaceChildren();
    this.put(document);
    this.body.prepend(this.rows.get(document.document_id).element);
    return this.settle();
  }

  remove(id) {
    const row = this.rows.get(id);
    if (!row) return;
    const focused = row.element.contains(document.activeElement);
    const next = row.element.nextElementSibling ?? row.element.previousElementSibling;
    if (focused && next) next.focus();
    row.element.remove();
    this.rows.delete(id);
    if (this.selected.delete(id)) this.onSelect();
    this.settle();
  }

  /** The documents that are not done, as the list has them. */
  get pending() {
    return [...this.rows.values()].filter((row) => inWork(row.document)).map((row) => row.document);
  }

  /** The documents that are selected. */
  get picked() {
    return [...this.selected].map((id) => this.rows.get(id).document);
  }

  /** Select a row or not; with `range`, as all between it and the one before. */
  pick(row, range = false) {
    const yes = !this.selected.has(row.id);
    const all = [...this.body.children].map((element) => this.rows.get(element.dataset.id));
    const [from, to] = [all.indexOf(this.anchor), all.indexOf(row)].sort((one, other) => one - other);
    const meant = range && from >= 0 ? all.slice(from, to + 1) : [row];
    for (const one of meant) this.mark(one, yes);
    this.anchor = row;
    this.onSelect();
  }

  pickAll(yes) {
    for (const row of this.rows.values()) this.mark(row, yes);
    this.onSelect();
  }

  clear() {
    this.anchor = null;
    this.pickAll(false);
  }

  mark(row, yes) {
    row.picked = yes;
    this.selected[yes ? "add" : "delete"](row.id);
  }

  /** One row is reached by Tab, the others by the arrows. */
  rove(element) {
    if (!element?.dataset.id) return;
    for (const other of this.body.querySelectorAll('tr[tabindex="0"]')) other.tabIndex = -1;
    element.tabIndex = 0;
  }

  onKey(event) {
    const row = this.rows.get(event.target.closest("tr")?.dataset.id);
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const inside = event.target !== row.element;
    const keys = {
      ArrowDown: () => row.element.nextElementSibling?.focus(),
      ArrowUp: () => row.element.previousElementSibling?.focus(),
      Home: () => this.body.firstElementChild.focus(),
      End: () => this.body.lastElementChild.focus(),
      F2: () => row.document.deleted_at || row.rename(),
      Delete: () => this.actions[row.document.deleted_at ? "purge" : "remove"](this.selected.has(row.id) ? this.picked : [row.document]),
      ...(inside ? {} : { " ": () => this.pick(row, event.shiftKey), Enter: () => row.element.querySelector(".named a")?.click() }),
    };
    if (!keys[event.key] || row.element.querySelector(".menu[open]")) return;
    event.preventDefault();
    keys[event.key]();
  }
}

function ghost() {
  const bar = () => el("div", { class: "skeleton" });
  return el("tr", { class: "document ghost", "aria-hidden": "true" }, ["pick", "name", "state", "pages", "size", "date", "acts"].map((part) => el("td", { class: part }, ["name", "state", "date"].includes(part) && bar())));
}
