// Files on their way to the engine: three at once, each with its progress, and what became of those that were not taken.

import { read, upload } from "./api.js";
import { $, button, bytes, count, el, icon } from "./ui.js";
import { adviceOf, mayTryAgain, plain } from "./library-words.js";

const PARALLEL = 3;
const HASHED_BYTES = 64 * 2 ** 20; // of a larger file the digest isn't asked about: it would be held in memory whole
const TRIES = 4;
const LONGEST_PAUSE_MS = 15_000;
const TOLD = 5; // of files that are there already, so many are named

export class Uploads {
  /**
   * @param {{taken: (document: object) => void, collection: () => string}} others
   *   `taken`: the engine has a file; `collection`: into which new ones go, or ""
   */
  constructor({ taken, collection }) {
    Object.assign(this, { taken, collection });
    this.waiting = [];
    this.active = new Set();
    this.reset();
    this.place = $("uploads");
    this.words = el("h2", { role: "status" });
    this.bar = el("progress", { class: "bar", "aria-label": "All files", max: 1, value: 0 });
    this.acts = el("div", { class: "row end" });
    this.lines = el("ul", { class: "list" });
    this.rest = el("p", { class: "quiet small", hidden: true });
    this.place.append(el("div", { class: "row" }, this.words, this.acts), this.bar, this.lines, this.rest);
    this.stop = button("Stop", { icon: "stop", small: true }, () => this.stopAll());
    this.clear = button("Clear", { small: true, bare: true }, () => this.dismissAll());
    addEventListener("beforeunload", (event) => this.busy && event.preventDefault());
  }

  reset() {
    Object.assign(this, { files: 0, done: 0, added: 0, known: 0, bytes: 0, sent: 0 });
  }

  get busy() {
    return this.waiting.length + this.active.size > 0;
  }

  add(files) {
    if (!files.length) return;
    if (!this.busy) this.reset();
    this.files += files.length;
    this.bytes += files.reduce((sum, { size }) => sum + size, 0);
    const collection = this.collection();
    this.waiting.push(...files.map((file) => new Upload(file, collection, this)));
    this.pump();
  }

  again(one) {
    if (!this.busy) this.reset();
    this.files += 1;
    this.bytes += one.file.size;
    one.counted = 0;
    this.waiting.push(one);
    this.pump();
  }

  pump() {
    while (this.active.size < PARALLEL && this.waiting.length) {
      const one = this.waiting.shift();
      this.active.add(one);
      one.run().finally(() => {
        this.active.delete(one);
        this.done += 1;
        this.pump();
      });
    }
    this.show();
  }

  stopAll() {
    const left = this.waiting.splice(0);
    this.files -= left.length;
    this.bytes -= left.reduce((sum, { file }) => sum + file.size, 0);
    for (const one of this.active) one.cancel();
    this.show();
  }

  dismissAll() {
    this.lines.replaceChildren();
    this.rest.hidden = true;
    this.known = 0;
    this.show();
  }

  /** How far all of them are. */
  show() {
    this.place.hidden = !this.busy && !this.lines.childElementCount;
    this.bar.hidden = !this.busy;
    this.bar.value = this.bytes ? Math.min(1, this.sent / this.bytes) : 0;
    const words = this.busy ? `Adding: ${this.done.toLocaleString()} of ${count(this.files, "file")}` : this.summary();
    if (this.words.textContent !== words) this.words.textContent = words;
    const act = this.busy ? this.stop : this.clear;
    if (this.acts.firstChild !== act) this.acts.replaceChildren(act);
  }

  summary() {
    const refused = this.lines.querySelectorAll(".refused").length;
    const parts = [
      this.added && `${count(this.added, "file")} added`,
      this.known && `${this.known.toLocaleString()} you had already`,
      refused && `${refused.toLocaleString()} not added`,
    ];
    return parts.filter(Boolean).join(", ");
  }

  /** One has it already. */
  tell(one, document, placed = false) {
    this.known += 1;
    if (this.known > TOLD) {
      one.line.remove();
      this.rest.textContent = `And ${count(this.known - TOLD, "other file")} that you have already.`;
      this.rest.hidden = false;
    } else {
      const link = el("a", { href: `/documents/${document.document_id}` }, el("bdi", {}, document.name));
      one.end("known", "check", [placed ? "You had this already, and it is in this collection now: " : "You have this already: ", link]);
    }
  }
}

/** One file on its way. */
class Upload {
  constructor(file, collection, all) {
    Object.assign(this, { file, collection, all, counted: 0 });
    this.words = el("span", { class: "step small figures" });
    this.bar = el("progress", { class: "bar", "aria-label": `Uploading ${plain(file.name)}` });
    this.acts = el("span", { class: "row" });
    this.name = plain(file.name);
    const name = el("bdi", { class: "title one-line", title: plain(file.webkitRelativePath || file.name) }, this.name);
    this.line = el("li", { class: "upload" }, name, this.words, this.acts, this.bar);
  }

  say(words, done = null) {
    this.words.replaceChildren(words);
    if (done === null) this.bar.removeAttribute("value");
    else this.bar.value = done;
  }

  cancel() {
    this.stopping.abort();
  }

  async run() {
    this.stopping = new AbortController();
    this.line.className = "upload";
    this.bar.hidden = false;
    this.say("Looking at it");
    this.acts.replaceChildren(button("Stop", { icon: "close", only: true, small: true, bare: true, "aria-label": `Stop ${this.name}` }, () => this.cancel()));
    this.all.lines.prepend(this.line);
    try {
      await this.send();
    } catch (error) {
      if (error.name === "AbortError") this.line.remove();
      else this.refused(error);
    }
    this.count(this.file.size);
  }

  async send() {
    const there = await this.there();
    if (there?.stage === "failed") this.take(await read(`/documents/${there.document_id}/retry`, { method: "POST" }));
    else if (there) await this.had(await read(`/documents/${there.document_id}`));
    else {
      const { status, body } = await this.persist();
      if (status === 200) await this.had(body);
      else this.take(await this.named(body));
    }
  }

  /** One has it already; the collection that is open gets it all the same. */
  async had(document) {
    const outside = this.collection && !document.collections.includes(this.collection);
    const placed = { collections: [...document.collections, this.collection] };
    const now = outside ? await read(`/documents/${document.document_id}`, { method: "PATCH", json: placed }) : document;
    this.all.taken(now);
    this.all.tell(this, now, outside);
  }

  /** A form's field can't hold a quotation mark in a file's name: browsers send %22. */
  async named(document) {
    if (!this.file.name.includes('"') || document.name === this.file.name) return document;
    return read(`/documents/${document.document_id}`, { method: "PATCH", json: { name: this.file.name } }).catch(() => document);
  }

  take(document) {
    this.line.remove();
    this.all.added += 1;
    this.all.taken(document);
  }

  /** The document that has this content already, if that can be told without sending it. */
  async there() {
    if (!this.file.size || this.file.size > HASHED_BYTES || !crypto.subtle) return null; // no digests over plain HTTP
    let digest;
    try {
      digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await this.file.arrayBuffer()));
    } catch {
      throw new Error("This file can’t be read. It may have been moved or changed meanwhile: please choose it again.");
    }
    const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    const { known } = await this.patiently(() => read("/documents/known", { method: "POST", json: { sha256: [hex] } }));
    return known[0]?.document;
  }

  persist() {
    const fields = this.collection ? { collections: this.collection } : {};
    const onProgress = (sent, total) => {
      this.count((this.file.size * sent) / total);
      this.say(`${bytes((this.file.size * sent) / total)} of ${bytes(this.file.size)}`, sent / total);
    };
    return this.patiently(() => upload("/documents", this.file, { fields, onProgress, signal: this.stopping.signal }));
  }

  /** Try until the engine can be reached and has time. */
  async patiently(act) {
    for (let tries = 1, pause = 1000; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      this.stopping.signal.throwIfAborted();
      try {
        return await act();
      } catch (error) {
        const lost = error.status === 0 && !(await reachable());
        const busy = [429, 503].includes(error.status) || error.status === 0;
        if (!busy || (!lost && ++tries > TRIES)) throw error;
        this.say(lost ? "The connection is lost. This goes on by itself once it is there again." : "The engine is busy. This goes on in a moment.");
        await this.wait(Math.min((error.retryAfter ?? 0) * 1000 || pause, 60_000));
      }
    }
  }

  wait(milliseconds) {
    return new Promise((resolve) => {
      setTimeout(resolve, milliseconds);
      addEventListener("online", resolve, { once: true });
      this.stopping.signal.addEventListener("abort", resolve);
    });
  }

  count(sent) {
    this.all.sent += sent - this.counted;
    this.counted = sent;
    this.all.show();
  }

  end(kind, picture, words, ...acts) {
    this.line.classList.add(kind);
    this.bar.hidden = true;
    this.words.replaceChildren(icon(picture), el("span", {}, words));
    const dismiss = button("Dismiss", { icon: "close", only: true, small: true, bare: true, "aria-label": `Dismiss ${this.name}` }, () => this.dismiss());
    this.acts.replaceChildren(...acts, dismiss);
  }

  dismiss() {
    this.line.remove();
    this.all.show();
  }

  refused(error) {
    const words = [error.message, " ", adviceOf(error)];
    if (error.code === "quota_exceeded") words.push(el("a", { href: "/account" }, "See what you use"), ", or delete for good what is in ", el("a", { href: "/library?bin=1" }, "the bin"), ".");
    const again = mayTryAgain(error) && button("Try again", { small: true, icon: "again" }, () => this.all.again(this));
    this.end("refused", "warn", words, ...(again ? [again] : []));
  }
}

const reachable = () => read("/me/usage").then(() => true, ({ status }) => status !== 0);
