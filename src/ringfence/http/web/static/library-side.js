// Beside the list: collections with their counts, the bin, and how much of the quota is used.

import { call, read } from "./api.js";
import { $, bytes, confirmed, count, el, icon, later, report } from "./ui.js";
import { addressOf, change, current } from "./library-filters.js";
import { asked } from "./library-labels.js";

const NARROW = matchMedia("(max-width: 55.99rem)");
const SHELF = { collection: "", bin: "", state: "", name: "", tag: "" };

export class Shelves {
  constructor() {
    this.collections = [];
    this.soon = later(() => this.refresh().catch(report), 400);
    $("new-collection").addEventListener("click", () => this.make());
    $("rename-collection").addEventListener("click", () => this.rename());
    $("delete-collection").addEventListener("click", () => this.remove());
    const move = () => (NARROW.matches ? $("side-below") : document.querySelector(".side-more")).append($("library-side"));
    NARROW.addEventListener("change", move);
    move();
  }

  nameOf(id) {
    return this.collections.find((one) => one.collection_id === id)?.name;
  }

  /** The id of a collection by its name; where there is none, one is made. */
  async idOf(name) {
    const same = (one) => one.name.toLowerCase() === name.trim().toLowerCase();
    const found = this.collections.find(same);
    if (found) return found.collection_id;
    const made = await read("/collections", { method: "POST", json: { name } });
    this.collections.push(made);
    this.show();
    return made.collection_id;
  }

  async refresh() {
    const [{ collections }, usage] = await Promise.all([read("/collections"), read("/me/usage")]);
    this.collections = collections;
    this.show();
    showQuota(usage);
  }

  show() {
    const { collection, bin } = current();
    const line = (words, picture, values, number) => {
      const here = (values.collection ?? "") === collection && (values.bin ?? "") === bin;
      const link = el("a", { href: addressOf({ ...SHELF, ...values }), "aria-current": here ? "page" : null }, icon(picture), el("bdi", { class: "one-line", title: words }, words), number === undefined ? "" : el("span", { class: "number quiet" }, number.toLocaleString()));
      return el("li", {}, link);
    };
    const own = this.collections.map(({ collection_id, name, documents }) => line(name, "folder", { collection: collection_id }, documents));
    $("shelves").replaceChildren(line("All documents", "library", {}), ...own, line("Bin", "trash", { bin: "1" }));
    $("known-collections").replaceChildren(...this.collections.map(({ name }) => el("option", { value: name })));
    const name = this.nameOf(collection);
    $("library-title").textContent = name ?? (bin ? "Bin" : "Library");
    $("collection-actions").hidden = !name;
  }

  make() {
    return asked("New collection", { label: "Name", action: "Make it" }, async (name) => {
      const made = await read("/collections", { method: "POST", json: { name } });
      await this.refresh();
      change({ ...SHELF, collection: made.collection_id });
    });
  }

  rename() {
    const { collection } = current();
    const said = { label: "Name", action: "Rename", value: this.nameOf(collection) };
    return asked("Rename this collection", said, async (name) => {
      await read(`/collections/${collection}`, { method: "PATCH", json: { name } });
      await this.refresh();
      dispatchEvent(new Event("filters"));
    });
  }

  async remove() {
    const { collection } = current();
    if (!(await confirmed(`Delete “${this.nameOf(collection)}”?`, "The documents in it stay in your library.", "Delete it"))) return;
    await call(`/collections/${collection}`, { method: "DELETE" }).catch(report);
    change(SHELF);
    this.soon();
  }
}

function showQuota({ documents, bytes: kept }) {
  const line = (label, { used, limit }, words, number = words) => {
    const said = limit === null ? words(used) : `${number(used)} of ${words(limit)}`;
    const full = used >= 0.9 * limit;
    const bar = limit !== null && el("progress", { class: `bar${full ? " full" : ""}`, max: limit, value: used, "aria-label": `${label}: ${said}` });
    return el("div", { class: "used" }, el("p", { class: "small quiet" }, said), bar);
  };
  $("quota").replaceChildren(line("Documents", documents, (number) => count(number, "document"), (number) => number.toLocaleString()), line("Storage", kept, bytes));
}
