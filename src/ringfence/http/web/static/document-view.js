// A document, page by page: a picture with its words over it to be selected, or, where pages have no picture, its text.

import { call, read, url } from "./api.js";
import { button, el, empty, report, trouble } from "./ui.js";

const MOST_WORDS = 20_000; // characters whose boxes the engine tells at once
const ZOOMS = [0.5, 0.75, 1, 1.25, 1.5, 2, 3];
const PICTURED = /^(application\/(pdf|oxps|vnd\.ms-xpsdocument)|image\/)/;
const PAPER = [595, 842]; // A4 in points, until the page's own size is known

/** Where characters are in a string, as the engine counts them. */
function sliced(text, start, end) {
  const characters = Array.from(text);
  return [characters.slice(0, start), characters.slice(start, end), characters.slice(end)].map((part) => part.join(""));
}

const share = (part, whole) => `${(part / whole) * 100}%`;

/** The viewer in an element; `closed` is told when it was closed, `turned(page)` when another page is shown. */
export class DocumentView {
  zoom = 2;
  turn = 0; // which page was asked for last: what comes late is dropped

  constructor(element, { closed = null, turned = () => {} } = {}) {
    this.element = element;
    this.closed = closed;
    this.turned = turned;
    this.name = el(closed ? "h2" : "h1", { class: "viewer-name one-line", dir: "auto" }, "Document");
    const only = { only: true, small: true, bare: true };
    this.before = button("Previous page", { icon: "back", ...only }, () => this.go(this.page - 1));
    this.after = button("Next page", { icon: "forth", ...only }, () => this.go(this.page + 1));
    this.input = el("input", { class: "input page-number", inputmode: "numeric", "aria-label": "Page", autocomplete: "off" });
    this.input.addEventListener("change", () => this.go(Number(this.input.value) || this.page).catch(report));
    this.total = el("span", { class: "quiet small figures" });
    this.zoomer = el("span", { class: "row zoom" }, el("button", { type: "button", class: "button small bare square", "aria-label": "Smaller", onclick: () => this.resize(-1) }, "−"), el("button", { type: "button", class: "button small bare square", "aria-label": "Larger", onclick: () => this.resize(1) }, "+"));
    this.own = el("a", { class: "button small bare" }, "Open");
    const end = closed ? [this.own, button("Close the document", { icon: "close", ...only }, () => this.close())] : [];
    this.head = el("header", { class: "viewer-head" }, this.name, el("span", { class: "row pages" }, this.before, this.input, this.total, this.after), this.zoomer, ...end);
    this.body = el("div", { class: "viewer-body", tabindex: "0", "aria-label": "Page" });
    element.replaceChildren(this.head, this.body);
    element.addEventListener("keydown", (event) => this.key(event));
  }

  get isOpen() {
    return !this.element.hidden;
  }

  /** Open a document at a page; `start` and `end` are words of it. The focus goes back to `opener`. */
  async open({ document_id: id, document: name, page = 1, start = null, end = null }, opener = null) {
    this.opener = opener;
    this.cited = start === null ? null : { page, start, end };
    this.element.hidden = false;
    this.name.textContent = name ?? "Document";
    if (this.closed) this.body.focus({ preventScroll: true });
    try {
      if (this.document?.document_id !== id) {
        this.document = null;
        this.size = PAPER;
        this.body.replaceChildren(this.sheet());
        this.document = await read(`/documents/${id}`);
      }
    } catch (error) {
      this.fail(error, () => this.open({ document_id: id, document: name, page, start, end }, opener));
      return;
    }
    this.name.textContent = this.document.name;
    await this.go(page);
  }

  close() {
    this.element.hidden = true;
    this.turn += 1;
    this.closed?.();
    if (this.opener?.isConnected) this.opener.focus();
  }

  key(event) {
    if (event.target === this.input || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: -1, PageUp: -1, ArrowRight: 1, PageDown: 1 }[event.key];
    const size = { "+": 1, "-": -1 }[event.key];
    if (!step && !size) return;
    event.preventDefault();
    if (step) this.go(this.page + step).catch(report);
    else this.resize(size);
  }

  resize(by) {
    this.zoom = Math.max(0, Math.min(ZOOMS.length - 1, this.zoom + by));
    this.apply();
  }

  apply() {
    for (const sheet of this.body.querySelectorAll(".sheet")) sheet.style.inlineSize = `${ZOOMS[this.zoom] * 100}%`;
    for (const text of this.body.querySelectorAll(".page-text")) text.style.fontSize = `${ZOOMS[this.zoom]}em`;
    fit(this.body);
  }

  /** Show a page. */
  async go(wanted) {
    if (!this.document) return;
    const last = this.document.pages ?? 1;
    const page = Math.max(1, Math.min(last, wanted));
    const mine = ++this.turn;
    this.page = page;
    this.input.value = page;
    this.total.textContent = `of ${last.toLocaleString()}`;
    this.before.disabled = page <= 1;
    this.after.disabled = page >= last;
    this.own.href = this.address();
    this.turned(page, this.address());
    const cited = this.cited?.page === page ? this.cited : null;
    try {
      const pictured = PICTURED.test(this.document.media_type);
      if (pictured) this.body.replaceChildren(this.sheet());
      else this.body.replaceChildren(el("div", { class: "page-text skeleton" }));
      const text = await read(this.path("text"));
      if (mine !== this.turn) return;
      if (pictured) await this.picture(text, cited, mine);
      else this.words(text, cited);
    } catch (error) {
      if (mine === this.turn) this.fail(error, () => this.go(page));
    }
  }

  address() {
    const words = this.cited?.page === this.page ? `&start=${this.cited.start}&end=${this.cited.end}` : "";
    return `/documents/${this.document.document_id}?page=${this.page}${words}`;
  }

  path(what) {
    return `/documents/${this.document.document_id}/pages/${this.page}${what.startsWith(".") ? "" : "/"}${what}`;
  }

  sheet() {
    const sheet = el("div", { class: "sheet skeleton" });
    sheet.style.aspectRatio = `${this.size[0]} / ${this.size[1]}`;
    sheet.style.inlineSize = `${ZOOMS[this.zoom] * 100}%`;
    return sheet;
  }

  async picture(text, cited, mine) {
    const sheet = this.body.querySelector(".sheet");
    const length = text.start + Array.from(text.text).length;
    const scale = Math.min(4, Math.max(1.5, devicePixelRatio * 1.5));
    const drawn = el("img", { alt: `Page ${this.page}`, src: url(this.path(`.png?scale=${scale}`)), draggable: "false" });
    const ready = new Promise((resolve, reject) => {
      drawn.addEventListener("load", resolve);
      drawn.addEventListener("error", reject);
    });
    const [hits, lines] = await Promise.all([
      cited ? this.rects(cited.start, cited.end) : null,
      text.text ? this.rects(text.start, Math.min(length, text.start + MOST_WORDS)) : null,
    ]);
    if (mine !== this.turn) return;
    const known = hits ?? lines;
    if (known) {
      this.size = [known.width, known.height];
      sheet.style.aspectRatio = `${known.width} / ${known.height}`;
    }
    sheet.append(drawn);
    if (hits) sheet.append(...hits.rects.map((rect) => placed("div", "hit", rect, hits)));
    if (lines) sheet.append(textLayer(lines, text.start));
    else if (text.text) this.words(text, cited, true);
    fit(this.body);
    sheet.querySelector(".hit")?.scrollIntoView({ block: "center", inline: "nearest" });
    try {
      await ready;
    } catch {
      await this.undrawn(text, cited, mine);
      return;
    }
    sheet.classList.remove("skeleton");
    if (!known) {
      this.size = [drawn.naturalWidth, drawn.naturalHeight];
      sheet.style.aspectRatio = `${this.size[0]} / ${this.size[1]}`;
    }
  }

  /** The page could not be drawn: why, and its text. */
  async undrawn(text, cited, mine) {
    const error = await call(this.path(".png")).then(() => null, (found) => found);
    if (mine !== this.turn) return;
    if (error) this.fail(error, () => this.go(this.page));
    else await this.go(this.page);
    if (text.text) this.words(text, cited, true);
  }

  /** Boxes of words; null where the page has none, such as a scan's. */
  async rects(start, end) {
    try {
      return await read(this.path(`rects?start=${start}&end=${end}`));
    } catch (error) {
      if (["no_rectangles", "outside_page", "bad_range", "document_encrypted"].includes(error.code)) return null;
      throw error;
    }
  }

  words({ start, text }, cited, besides = false) {
    const place = el("div", { class: "page-text", dir: "auto" });
    const parts = cited ? sliced(text, Math.max(0, cited.start - start), Math.max(0, cited.end - start)) : [text, "", ""];
    place.append(parts[0], parts[1] ? el("mark", {}, parts[1]) : "", parts[2]);
    if (!text) place.append(el("span", { class: "quiet" }, "There is no text on this page."));
    if (besides) this.body.append(place);
    else this.body.replaceChildren(place);
    this.apply();
    place.querySelector("mark")?.scrollIntoView({ block: "center" });
  }

  fail(error, again) {
    const gone = empty("file", "The document is gone", "It was deleted. If that was within a day, it may be in the bin.", el("a", { class: "button small", href: "/library?bin=1" }, "To the bin"));
    this.body.replaceChildren(error.code === "document_not_found" ? gone : trouble(error, again));
  }
}

function placed(tag, kind, { x0, y0, x1, y1 }, { width, height }) {
  const box = el(tag, { class: kind });
  Object.assign(box.style, { left: share(x0, width), top: share(y0, height), width: share(x1 - x0, width), height: share(y1 - y0, height) });
  return box;
}

/** Words over their picture, unseen, so that they can be selected and searched. */
function textLayer(lines, start) {
  const characters = Array.from(lines.text);
  const layer = el("div", { class: "text-layer" });
  for (const rect of lines.rects) {
    const span = placed("span", "line", rect, lines);
    span.style.fontSize = `${((rect.y1 - rect.y0) / lines.width) * 80}cqi`;
    span.append(el("span", {}, characters.slice(rect.start - start, rect.end - start).join("")));
    layer.append(span, "\n");
  }
  return layer;
}

/** Stretch each line to the width that it has in the picture. */
function fit(body) {
  const lines = [...body.querySelectorAll(".line")].map((line) => [line.firstChild, line.clientWidth, line.firstChild.offsetWidth]);
  for (const [words, wanted, natural] of lines) if (natural) words.style.transform = `scaleX(${wanted / natural})`;
}
