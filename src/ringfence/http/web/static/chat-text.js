// The words of an answer while it is written: plain text in paragraphs, citations as chips, sentences in doubt marked.

import { el } from "./ui.js";

const MARKER = /[ \u00a0]*\[(\d{1,3}(?:, \d{1,3})*)\]/g; // as the server writes citations: [2], [1, 3]
const BEGUN = /[ \u00a0]*(?:\[[\d, ]{0,30})?$/; // may yet become one
const BREAK = /\n{2,}/g;
const TITLES = {
  unsupported: "Your documents do not say this.",
  partly: "Your documents say this in part only.",
};

/** A sentence's place in UTF-16, where the server counts characters. */
function places(text, claims) {
  if (!/[\ud800-\udfff]/.test(text)) return claims;
  const at = [0];
  for (const character of text) at.push(at.at(-1) + character.length);
  return claims.map(({ start, end, verdict }) => ({ start: at[start] ?? text.length, end: at[end] ?? text.length, verdict }));
}

/** Mark what the server's HTML or this module says is in doubt. */
export function explain(element) {
  for (const [verdict, title] of Object.entries(TITLES)) {
    for (const span of element.querySelectorAll(`.${verdict}`)) span.title = title;
  }
}

/** Text that grows. `chip(n)` is the button of a citation, null for a number that names no source. */
export class LiveText {
  blocks = []; // {key, element}, a paragraph each: what has not changed is left alone, with focus and selection

  constructor(element, chip) {
    this.element = element;
    this.chip = chip;
  }

  show(text, claims, { whole = false } = {}) {
    const seen = whole ? text : text.slice(0, BEGUN.exec(text)?.index ?? text.length);
    const doubts = places(text, claims).filter(({ verdict }) => verdict !== "supported");
    let at = 0;
    const ends = [...seen.matchAll(BREAK)].map(({ index, 0: found }) => [index, index + found.length]);
    const parts = [...ends, [seen.length, seen.length]].map(([end, next]) => {
      const part = { start: at, end };
      at = next;
      return part;
    });
    parts.filter(({ start, end }) => start < end).forEach((part, index) => this.block(index, seen, part, doubts));
  }

  block(index, text, { start, end }, doubts) {
    const within = doubts.filter((one) => one.start < end && one.end > start);
    const key = text.slice(start, end) + within.map((one) => `\n${one.start - start} ${one.end - start} ${one.verdict}`).join("");
    const old = this.blocks[index];
    if (old?.key === key) return;
    const element = old?.element ?? this.element.appendChild(el("p", { dir: "auto" }));
    element.replaceChildren(...this.pieces(text, start, end, within));
    this.blocks[index] = { key, element };
  }

  *pieces(text, start, end, doubts) {
    let at = start;
    for (const doubt of doubts) {
      yield* this.words(text.slice(at, Math.max(doubt.start, at)));
      const from = Math.max(doubt.start, at);
      at = Math.min(doubt.end, end);
      if (from < at) yield el("span", { class: doubt.verdict, title: TITLES[doubt.verdict] }, ...this.words(text.slice(from, at)));
    }
    yield* this.words(text.slice(at, end));
  }

  *words(text) {
    let at = 0;
    for (const match of text.matchAll(MARKER)) {
      yield text.slice(at, match.index);
      yield* match[1].split(", ").map((n) => this.chip(Number(n))).filter(Boolean);
      at = match.index + match[0].length;
    }
    yield text.slice(at);
  }
}
