// Questions and answers.

import { Problem, events } from "./api.js";
import { $, el, onSubmit } from "./ui.js";

const MARKER = /\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]/; // [2] or [1, 3], as the server counts citations
const MARKER_BEGUN = /\[[\d\s,;]{0,30}$/;

/** The answer that is on the page. */
class Answer {
  sources = new Map(); // by number
  held = ""; // words that may yet become a marker
  ended = false;

  constructor(question) {
    $("answer").className = "stack tight";
    $("answer").hidden = false;
    $("asked").textContent = question;
    $("answer-text").replaceChildren();
    $("answer-text").setAttribute("aria-busy", "true"); // read aloud when it is whole
    $("sources").replaceChildren();
    $("evidence").hidden = true;
    this.status("Searching your documents …");
  }

  status(text) {
    $("answer-status").textContent = text;
  }

  take(event) {
    if (event.type === "sources") this.show(event.sources);
    else if (event.type === "token") this.write(event.text);
    else if (event.type === "done") this.done(event);
    else if (event.type === "error") this.end(`The answer broke off: ${event.message}`, "broken");
  }

  show(sources) {
    this.status("Writing the answer …");
    $("evidence").hidden = sources.length === 0;
    $("sources-title").textContent = "Meanwhile, what your documents say";
    for (const source of sources) {
      const origin = el("span", { class: "origin" }, `[${source.n}] ${source.document}, page ${source.quote.page}`);
      const quote = el("blockquote", { dir: "auto" }, `“${source.quote.text}”`);
      const item = el("li", { class: "source", tabindex: "-1", id: `source-${source.n}` }, origin, quote);
      $("sources").append(item);
      this.sources.set(source.n, { source, item });
    }
  }

  write(text) {
    $("sources-title").textContent = "Sources";
    this.held += text;
    for (let match; (match = MARKER.exec(this.held)); this.held = this.held.slice(match.index + match[0].length)) {
      const marker = match[1].split(/(\d+)/).map((part) => this.citation(Number(part)) ?? part);
      $("answer-text").append(this.held.slice(0, match.index), "[", ...marker, "]");
    }
    const begun = MARKER_BEGUN.exec(this.held)?.index ?? this.held.length;
    $("answer-text").append(this.held.slice(0, begun));
    this.held = this.held.slice(begun);
  }

  /** A link to a source; nothing for a number that names none. */
  citation(n) {
    const found = this.sources.get(n);
    if (!found) return null;
    found.item.classList.add("cited");
    const focus = (event) => {
      event.preventDefault(); // no step in the history
      found.item.focus();
    };
    const { document: name, quote } = found.source;
    return el("a", { href: `#${found.item.id}`, title: `${name}, page ${quote.page}`, onclick: focus }, String(n));
  }

  done({ refused, model, citations, nearest, unsupported }) {
    if (refused) {
      $("evidence").hidden = true;
      const names = nearest.map((one) => one.document).join(", ");
      this.end(`${names ? `Nearest to it: ${names}. ` : ""}Try other words, or add a document that covers it.`, "refused");
      $("answer-text").textContent = $("answer-text").textContent; // without links to what is not shown
    } else if (!model) this.end("Quoted from your documents; no model wrote this.");
    else {
      const doubts = unsupported.map((sentence) => ` Not supported by your documents: “${sentence}”`);
      this.end(`Written by ${model}.${citations.length ? "" : " It cites none of your documents."}${doubts.join("")}`);
    }
  }

  end(status, kind = "") {
    if (this.ended) return;
    this.ended = true;
    $("answer-text").append(this.held);
    $("answer-text").removeAttribute("aria-busy");
    if (kind) $("answer").classList.add(kind);
    this.status(status);
  }
}

let stopper = null;

onSubmit($("ask-form"), async ({ question }) => {
  stopper = new AbortController();
  const answer = new Answer(question);
  $("stop").hidden = false;
  try {
    const request = { method: "POST", json: { question }, signal: stopper.signal };
    for await (const { data } of events("/answers", request)) answer.take(data);
    answer.end("The answer broke off: the connection was lost.", "broken");
  } catch (error) {
    if (error.name === "AbortError") answer.end("Stopped.");
    else if (error instanceof Problem) answer.end(error.message, "broken");
    else throw error;
  } finally {
    $("stop").hidden = true;
  }
});

$("stop").addEventListener("click", () => {
  stopper.abort();
  $("question").focus();
});
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask-form").requestSubmit();
});
