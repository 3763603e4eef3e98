// The library: what one has, and what is being added. Whatever comes from outside is inserted as text.

import { call, read, upload, url } from "./api.js";
import { $, button, count, el, notify, report } from "./ui.js";

const POLL_MS = 1000;
const LISTED = 100;

const entries = new Map(); // by document id

function statusOf({ state, pages, pages_done, chunks, reason }) {
  if (state === "queued") return "Waiting to be read";
  if (state === "failed") return `Failed: ${reason ?? "no reason was given"}`;
  if (state === "ready") return `Ready · ${count(pages ?? pages_done, "page")}, ${count(chunks, "passage")}`;
  return pages ? `Reading · page ${pages_done} of ${pages}, ${count(chunks, "passage")}` : "Reading";
}

/** A line of the list: first an upload, then a document. */
class Entry {
  constructor(name) {
    this.name = el("bdi", { class: "name" }, name);
    this.said = el("span", { class: "status quiet small" });
    this.bar = el("progress", { class: "bar", hidden: true });
    this.actions = el("span", { class: "row" });
    this.item = el("li", { class: "document" }, this.name, this.said, this.bar, this.actions);
    $("document-list").prepend(this.item);
    $("no-documents").hidden = true;
  }

  status(text, done = null, total = null) {
    this.said.textContent = text;
    this.bar.hidden = done === null;
    this.bar.setAttribute("aria-label", text);
    if (total) [this.bar.max, this.bar.value] = [total, done];
    else this.bar.removeAttribute("value");
  }

  get pending() {
    return this.view.state === "queued" || this.view.state === "processing";
  }

  update(view) {
    const before = this.view;
    this.view = view;
    entries.set(view.document_id, this);
    this.status(statusOf(view), this.pending ? view.pages_done : null, view.pages);
    this.name.textContent = view.name;
    this.item.classList.toggle("failed", view.state === "failed");
    const file = url(`/documents/${view.document_id}/content`);
    const download = el("a", { class: "button small bare", href: file, download: view.name, "aria-label": `Download ${view.name}` }, "Download");
    if (!before) this.actions.replaceChildren(download, this.offer("Delete", view.name));
    if (before && !this.pending) $("announcement").textContent = `${view.name}: ${statusOf(view)}`;
  }

  offer(verb, name) {
    return button(verb, { small: true, bare: true, "aria-label": `${verb} ${name}` }, () => this.remove());
  }

  fail(reason) {
    this.status(`Not uploaded: ${reason}`);
    this.item.classList.add("failed");
    this.actions.replaceChildren(this.offer("Dismiss", this.name.textContent));
  }

  vanish() {
    entries.delete(this.view?.document_id);
    this.item.remove();
    $("no-documents").hidden = $("document-list").childElementCount > 0;
  }

  async remove() {
    if (this.view) {
      await call(`/documents/${this.view.document_id}`, { method: "DELETE" }).catch(unlessGone);
      offerUndo(this.view);
    }
    this.vanish();
    $("files").focus();
  }
}

/** For as long as the notice is there, a document that was deleted can be had back. */
function offerUndo({ document_id, name }) {
  const act = async () => {
    const view = await read(`/documents/${document_id}/restore`, { method: "POST" });
    new Entry(view.name).update(view);
  };
  notify(`“${name}” was deleted.`, { action: { label: "Undo", act }, lasts: 20_000 });
}

function unlessGone(error) {
  if (error.status !== 404) throw error;
}

async function add(files) {
  const waiting = [...files].map((file) => ({ file, entry: new Entry(file.name) }));
  for (const { entry } of waiting) entry.status("Waiting to be uploaded", 0);
  for (const { file, entry } of waiting) {
    try {
      const { body: view } = await upload("/documents", file, {
        onProgress: (done, total) => entry.status(`Uploading · ${Math.round((100 * done) / total)} %`, done, total),
      });
      const known = entries.get(view.document_id);
      if (known) {
        entry.vanish();
        notify(`You have this file already: ${view.name}`);
      }
      (known ?? entry).update(view);
    } catch (error) {
      entry.fail(error.message);
    }
  }
}

/** Follow the documents that are not done yet. */
async function poll() {
  for (const [id, entry] of [...entries]) {
    if (!entry.pending) continue;
    try {
      const view = await read(`/documents/${id}`);
      if (entries.has(id)) entry.update(view); // it may have been deleted meanwhile
    } catch (error) {
      if (error.status === 404) entry.vanish();
      else report(error);
    }
  }
  setTimeout(poll, POLL_MS);
}

$("files").addEventListener("change", ({ target }) => {
  add(target.files);
  target.value = "";
});

// A file may be dropped anywhere; beside the page's own handling, the browser would leave the page for the file.
const dragging = (event, inside) => {
  event.preventDefault();
  $("documents").classList.toggle("dragging", inside && event.dataTransfer.types.includes("Files"));
};
addEventListener("dragover", (event) => dragging(event, true));
addEventListener("dragleave", (event) => dragging(event, event.relatedTarget !== null));
addEventListener("drop", (event) => {
  dragging(event, false);
  add(event.dataTransfer.files);
});

async function begin() {
  const { documents } = await read(`/documents?limit=${LISTED}`);
  $("no-documents").hidden = documents.length > 0;
  for (const view of documents.reverse()) new Entry(view.name).update(view);
  poll();
}

begin().catch(report);
