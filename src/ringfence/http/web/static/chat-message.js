// Questions and answers as they stand in a chat.

import { call, read } from "./api.js";
import { LiveText, explain } from "./chat-text.js";
import { fill } from "./markup.js";
import { button, copy, count, dialog, el, icon, notify, report, trouble } from "./ui.js";

const percent = (score) => `${Math.round(Math.max(0, Math.min(1, score)) * 100)} %`;
const ENDINGS = {
  stopped: "You stopped this answer.",
  interrupted: "This answer was broken off.",
  failed: "This answer could not be finished.",
};

/** "2 of 3": the versions of a message, one before and one after. */
function switcher(message, noun, show) {
  const { siblings, message_id: id } = message;
  if (siblings.length < 2) return null;
  const at = siblings.indexOf(id);
  const step = (by, label, picture) =>
    button(label, { icon: picture, only: true, small: true, bare: true, disabled: !siblings[at + by] }, () => show(siblings[at + by]));
  const said = el("span", { class: "figures" }, `${at + 1} of ${siblings.length}`);
  return el("span", { class: "switcher", role: "group", "aria-label": `Versions of the ${noun}` }, step(-1, `Previous ${noun}`, "back"), said, step(1, `Next ${noun}`, "forth"));
}

/** A question. `chat` has `edit(message, text)` and `show(messageId)`. */
export class Question {
  constructor(chat, message) {
    this.chat = chat;
    this.message = message;
    this.element = el("article", { class: "message question", "aria-label": "Question" });
    this.draw();
  }

  /** Its place in the chat is known now. */
  named(message) {
    this.message = message;
    this.draw();
  }

  draw() {
    const { message_id: id, text } = this.message;
    const actions = id
      ? [
          switcher(this.message, "question", (one) => this.chat.show(one)),
          button("Edit the question", { icon: "pencil", only: true, small: true, bare: true }, () => this.edit()),
          button("Copy the question", { icon: "copy", only: true, small: true, bare: true }, () => copy(text)),
        ]
      : [];
    this.element.replaceChildren(el("div", { class: "bubble", dir: "auto" }, text), el("div", { class: "message-actions" }, ...actions));
  }

  edit() {
    const input = el("textarea", { class: "input", dir: "auto", maxlength: 4000, rows: 2, "aria-label": "Edit the question" });
    input.value = this.message.text;
    const leave = () => {
      this.draw();
      this.element.querySelector("button[title^=Edit]")?.focus();
    };
    const send = async () => {
      const text = input.value.trim();
      if (text && text !== this.message.text) await this.chat.edit(this.message, text);
      else leave();
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.stopPropagation();
        event.preventDefault();
        leave();
      } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send().catch(report);
      }
    });
    const actions = el("div", { class: "row end" }, button("Cancel", { small: true }, leave), button("Ask", { small: true, primary: true }, send));
    this.element.replaceChildren(el("div", { class: "editing" }, input, actions));
    input.focus();
    input.setSelectionRange(input.value.length, input.value.length);
  }
}

/** An answer. `chat` has `id`, `open(cited)`, `regenerate(message)`, `show(messageId)` and `again()`. */
export class Answer {
  message = { message_id: null, siblings: [], state: "writing", rating: null, comment: null };
  cited = new Map(); // by number: {n, document_id, document, page, start, end, quote, score?}
  text = "";
  claims = [];
  scheduled = false;

  constructor(chat) {
    this.chat = chat;
    this.status = el("p", { class: "answer-status", role: "status" });
    this.sources = el("ol", { class: "sources", "aria-label": "Sources", hidden: true });
    this.words = el("div", { class: "answer-text", "aria-live": "polite", "aria-busy": "true" });
    this.notes = el("div", { class: "notes" });
    this.actions = el("div", { class: "message-actions" });
    this.element = el("article", { class: "message answer", "aria-label": "Answer" }, this.sources, this.status, this.words, this.notes, this.actions);
    this.live = new LiveText(this.words, (n) => this.chip(n));
    this.say("Searching your documents …");
  }

  /** One that has ended, as the API has it. */
  static of(chat, message) {
    const answer = new Answer(chat);
    answer.known(message);
    return answer;
  }

  known(message) {
    this.message = message;
    this.text = message.text;
    this.claims = message.claims;
    for (const one of message.citations) this.cited.set(one.n, { ...this.cited.get(one.n), ...one });
    this.ended();
  }

  say(text) {
    this.status.textContent = text;
    this.status.hidden = !text;
  }

  lost(now) {
    this.element.classList.toggle("lost", now);
    if (now) this.say("The connection was lost. Reconnecting …");
    else this.say(this.text ? "" : "Writing the answer …");
  }

  take(event) {
    if (event.type === "started") this.message.message_id = event.message_id;
    else if (event.type === "sources") this.evidence(event.sources);
    else if (event.type === "citation") this.check(event);
    else if (event.type === "token") this.write(event.text);
  }

  evidence(sources) {
    for (const { n, document_id, document, score, quote } of sources) {
      this.cited.set(n, { n, document_id, document, score, page: quote.page, start: quote.start, end: quote.end, quote: quote.text });
    }
    this.say("Writing the answer …");
    this.drawSources();
  }

  check({ start, end, verdict, scores, citations }) {
    this.claims.push({ start, end, verdict, disputed: scores.disputed });
    for (const { n, quote } of citations) {
      const one = this.cited.get(n);
      if (!one || one.checked) continue; // the first sentence that cites it says which words bear on it
      Object.assign(one, { checked: true, page: quote.page, start: quote.start, end: quote.end, quote: quote.text });
    }
    this.schedule();
  }

  write(text) {
    this.text += text;
    this.say("");
    this.schedule();
  }

  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    setTimeout(() => {
      this.scheduled = false;
      if (this.message.state === "writing") this.draw();
    }, 16);
  }

  draw(options) {
    this.chat.keepAtEnd(() => this.live.show(this.text, this.claims, options));
  }

  chip(n) {
    const one = this.cited.get(n);
    if (!one) return null;
    const title = one.document ? `${one.document}, page ${one.page}` : "The document was deleted.";
    const open = (event) => this.chat.open(one, event.currentTarget);
    return el("button", { type: "button", class: "cite", title, "aria-label": `Source ${n}: ${title}`, onclick: open }, String(n));
  }

  drawSources(used = null) {
    const shown = [...this.cited.values()];
    this.sources.hidden = !shown.length;
    this.sources.replaceChildren(...shown.map((one) => this.source(one, used && !used.has(one.n))));
  }

  source(one, unused) {
    const name = el("bdi", { class: "one-line" }, one.document || "Deleted document");
    const score = one.score !== undefined && one.score !== null && el("span", { class: "score figures", title: "How near it is to the question" }, percent(one.score));
    const head = el("span", { class: "source-head" }, el("span", { class: "source-number" }, one.n), name, el("span", { class: "quiet" }, `p. ${one.page}`), score);
    const quote = el("span", { class: "source-quote", dir: "auto" }, one.quote ?? "Its words went with it.");
    const open = (event) => this.chat.open(one, event.currentTarget);
    return el("li", {}, el("button", { type: "button", class: unused ? "source unused" : "source", onclick: open }, head, quote));
  }

  /** It has come to its end; `message` says how. */
  ended() {
    const { state, message_id: id } = this.message;
    this.element.classList.toggle("refused", state === "refused");
    this.draw({ whole: true });
    this.words.removeAttribute("aria-busy");
    this.say(ENDINGS[state] ?? "");
    const again = () => (id ? this.chat.regenerate(this.message) : this.chat.again());
    if (ENDINGS[state]) this.status.append(" ", button("Try again", { icon: "again", small: true }, again));
    this.drawSources(state === "done" ? new Set(this.message.citations?.map(({ n }) => n)) : null);
    if (state === "refused") this.sources.hidden = true;
    this.drawNotes();
    this.drawActions();
    if (id && this.disputing().some((n) => !this.cited.has(n))) this.chat.whenSeen(this.element, () => this.learn().then(() => this.drawNotes(), () => {}));
    if (id && this.text) this.chat.whenSeen(this.element, () => this.render().catch(() => {})); // its words are there already, as plain text
  }

  /** The same words as Markdown, which the server has made safe. */
  async render() {
    const response = await fetch(`/chats/${this.chat.id}/messages/${this.message.message_id}/html`);
    if (!response.ok) return;
    const html = await response.text();
    this.chat.keepAtEnd(() => {
      fill(this.words, html);
      for (const place of this.words.querySelectorAll("span.cite")) {
        const chip = this.chip(Number(place.dataset.n));
        if (chip) place.replaceWith(chip);
        else place.remove();
      }
      for (const link of this.words.querySelectorAll("a")) link.target = "_blank";
      for (const block of this.words.querySelectorAll("p, li, blockquote, td, th, h3, h4, h5, h6")) block.dir = "auto";
      for (const table of this.words.querySelectorAll("table")) {
        const wrap = el("div", { class: "table-wrap", tabindex: 0 });
        table.replaceWith(wrap);
        wrap.append(table);
      }
      explain(this.words);
      this.words.classList.add("rendered");
    });
  }

  /** Numbers of the sources that say a sentence with another figure. */
  disputing() {
    return [...new Set(this.claims.map(({ disputed }) => disputed).filter(Boolean))];
  }

  drawNotes() {
    const { nearest = [], state } = this.message;
    const doubts = ["unsupported", "partly"].map((verdict) => this.claims.filter((claim) => claim.verdict === verdict).length);
    const notes = [];
    if (doubts[0]) notes.push(el("p", { class: "note warn" }, icon("warn"), el("span", {}, el("span", { class: "unsupported" }, "Underlined with a wave"), `: ${count(doubts[0], "sentence")} that your documents do not support.`)));
    if (doubts[1]) notes.push(el("p", { class: "note" }, icon("quote"), el("span", {}, el("span", { class: "partly" }, "Dotted"), `: ${count(doubts[1], "sentence")} supported in part.`)));
    const others = this.disputing();
    if (others.length) notes.push(el("p", { class: "note warn" }, icon("warn"), el("span", {}, "Your documents disagree: another passage says the same with another figure.", others.map((n) => this.chip(n)))));
    if (state === "refused") {
      const link = (one) => el("a", { class: "chip", href: `/documents/${one.document_id}` }, el("bdi", { class: "one-line" }, one.document), el("span", { class: "quiet figures" }, percent(one.score)));
      const near = nearest.length ? el("p", { class: "row" }, "Nearest to it:", nearest.map(link)) : null;
      notes.push(el("div", { class: "note" }, icon("search"), el("div", { class: "stack tight" }, el("p", {}, "Try other words, or add a document that covers it."), near)));
    }
    this.notes.replaceChildren(...notes);
  }

  drawActions() {
    const { message_id: id, rating, model, state } = this.message;
    if (!id) return this.actions.replaceChildren();
    const thumb = (way, label, picture) =>
      button(label, { icon: picture, only: true, small: true, bare: true, "aria-pressed": String(rating === way) }, () => this.rate(way));
    const only = { only: true, small: true, bare: true };
    return this.actions.replaceChildren(
      ...[
        switcher(this.message, "answer", (one) => this.chat.show(one)),
        button("Copy the answer", { icon: "copy", ...only }, () => copy(this.text)),
        button("Answer again", { icon: "again", ...only }, () => this.chat.regenerate(this.message)),
        thumb("up", "Good answer", "up"),
        thumb("down", "Poor answer", "poor"),
        state !== "refused" && this.cited.size && button("All sources", { icon: "list", small: true, bare: true }, () => this.allSources()),
        model && el("span", { class: "quiet small model" }, model),
      ].filter(Boolean),
    );
  }

  async rate(way) {
    const rating = this.message.rating === way ? null : way;
    let comment = null;
    if (rating === "down") {
      comment = await askComment();
      if (comment === undefined) return;
    }
    await call(`/chats/${this.chat.id}/messages/${this.message.message_id}/feedback`, { method: "PUT", json: { rating, comment: comment || null } });
    Object.assign(this.message, { rating, comment });
    this.drawActions();
    if (rating) notify("Thank you. It is kept with the answer.");
  }

  /** Every passage that the model was given, with its score. */
  async allSources() {
    await this.learn();
    this.drawSources(new Set(this.message.citations?.map(({ n }) => n)));
    this.sources.scrollIntoView({ block: "nearest" });
  }

  async learn() {
    const { passages } = await read(`/chats/${this.chat.id}/messages/${this.message.message_id}/trace`);
    for (const { n, document_id, document, similarity, quote, places } of passages) {
      const old = this.cited.get(n);
      const [place] = places;
      if (old) old.score = similarity;
      else this.cited.set(n, { n, document_id, document, score: similarity, quote, ...place });
    }
    this.cited = new Map([...this.cited].sort(([a], [b]) => a - b));
  }

  /** It could not be had. */
  fail(error) {
    this.say("");
    this.words.removeAttribute("aria-busy");
    this.notes.replaceChildren(trouble(error, () => this.chat.again()));
  }
}

function askComment() {
  return dialog("What is wrong with it?", (close) => {
    const input = el("textarea", { class: "input", rows: 3, maxlength: 2000, dir: "auto", "aria-label": "Comment", placeholder: "Optional" });
    return [input, el("div", { class: "actions" }, button("Cancel", {}, () => close()), button("Send", { primary: true }, () => close(input.value.trim())))];
  });
}
