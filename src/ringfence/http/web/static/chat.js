// A chat: what was said in it, and asking more.

import { call, read } from "./api.js";
import { drawList, openList } from "./chat-list.js";
import { Answer, Question } from "./chat-message.js";
import { Scope } from "./chat-scope.js";
import { follow } from "./chat-stream.js";
import { DocumentView } from "./document-view.js";
import { $, button, confirmed, dialog, el, empty, notify, report, shortcut, skeleton, trouble } from "./ui.js";

const DRAFT = "ringfence-question"; // what was asked and is not kept by the engine yet
const NEAR_END = 120; // pixels: whoever is so near the end reads along
const root = $("chat");
const scroller = $("messages");
const viewer = new DocumentView($("viewer"), { closed: () => root.classList.remove("split") });
const scope = new Scope($("scope"));
const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    target.whenSeen();
  }
}, { rootMargin: "600px" });

class Chat {
  id = root.dataset.chat || null;
  title = null;
  shown = []; // Questions and Answers, in order
  stopper = null; // of the answer that is being written
  answer = null;

  // What messages need

  open(cited, opener) {
    root.classList.add("split");
    viewer.open(cited, opener).catch(report);
  }

  whenSeen(element, act) {
    element.whenSeen = act;
    seen.observe(element);
  }

  keepAtEnd(act) {
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END;
    act();
    if (atEnd) scroller.scrollTop = scroller.scrollHeight;
  }

  // What there is

  async load() {
    if (!this.id) return this.draw([]);
    try {
      const { chat, messages } = await read(`/chats/${this.id}`);
      this.titled(chat.title);
      this.draw(messages);
    } catch (error) {
      scroller.replaceChildren(error.status === 404 ? empty("chat", "There is no such chat", "It may have been deleted.", el("a", { class: "button", href: "/" }, "New chat")) : trouble(error, () => this.load()));
      return;
    }
    scroller.scrollTop = scroller.scrollHeight;
    const last = this.shown.at(-1);
    if (last instanceof Answer && last.message.state === "writing") this.follow(last, { message: last.message.message_id }).catch(report);
  }

  draw(messages) {
    this.shown = messages.map((message) => {
      if (message.role === "user") return new Question(this, message);
      if (message.state !== "writing") return Answer.of(this, message);
      const answer = new Answer(this);
      answer.message = message;
      return answer;
    });
    scroller.replaceChildren(...(messages.length ? this.shown.map(({ element }) => element) : [welcome()]));
    root.classList.toggle("new", !messages.length);
  }

  titled(title) {
    this.title = title;
    $("title").textContent = title ?? "New chat";
    document.title = `${title ?? "Chat"} · Ringfence`;
    $("chat-actions").hidden = !this.id;
    if (this.id) $("export").href = `/api/v1/chats/${this.id}/export`;
  }

  async show(messageId) {
    await call(`/chats/${this.id}`, { method: "PATCH", json: { through: messageId } });
    await this.load();
  }

  // Asking

  get busy() {
    return this.stopper !== null;
  }

  async ask(text) {
    await this.put(text, { question: text });
  }

  async edit(message, text) {
    if (this.busy) return;
    this.cut(this.shown.findIndex((one) => one.message.message_id === message.message_id));
    await this.put(text, { question: text, edits: message.message_id });
  }

  async regenerate({ message_id: id }) {
    await this.anew(this.shown.findIndex((one) => one.message.message_id === id), id);
  }

  /** Another answer in the place of one, and of what failed there meanwhile. */
  async anew(at, id) {
    if (this.busy) return;
    this.cut(at);
    this.again = () => this.anew(at, id);
    await this.follow(this.append(new Answer(this)), { path: `/chats/${this.id}/messages/${id}/regenerate`, json: scope.chosen() });
  }

  async put(text, json) {
    if (this.busy) return;
    if (!this.shown.length) scroller.replaceChildren();
    root.classList.remove("new");
    this.append(new Question(this, { message_id: null, text, siblings: [] }));
    const answer = this.append(new Answer(this));
    this.again = () => {
      this.cut(this.shown.length - 2);
      return this.put(text, json);
    };
    await this.follow(answer, async () => {
      await this.begin();
      return { path: `/chats/${this.id}/messages`, json: { ...json, ...scope.chosen() } };
    });
  }

  async begin() {
    if (this.id) return;
    this.id = (await read("/chats", { method: "POST", json: {} })).chat_id;
    history.replaceState(null, "", `/chats/${this.id}`);
  }

  append(one) {
    this.shown.push(one);
    scroller.append(one.element);
    scroller.scrollTop = scroller.scrollHeight;
    return one;
  }

  cut(at) {
    for (const { element } of this.shown.splice(at)) element.remove();
  }

  /** Let an answer be written to its end. */
  async follow(answer, wanted) {
    this.answer = answer;
    this.stopper = new AbortController();
    composing();
    let last = null;
    const take = (event) => {
      if (event.type === "started") this.started(answer, event);
      if (event.type === "done" || event.type === "error") last = event;
      answer.take(event);
    };
    try {
      const how = typeof wanted === "function" ? await wanted() : wanted;
      await follow({ chat: this.id, ...how, signal: this.stopper.signal, take, lost: (now) => answer.lost(now) });
    } catch (error) {
      if (error.name === "AbortError") last = { type: "error" };
      else return this.failed(answer, error);
    } finally {
      this.stopper = null;
      composing();
    }
    return this.settle(answer, last).catch((error) => answer.fail(error));
  }

  started(answer, { message_id: id, title }) {
    sessionStorage.removeItem(DRAFT);
    answer.message.message_id = id;
    if (title !== this.title) this.titled(title);
    drawList(this).catch(report);
  }

  /** What became of it, as it is kept. */
  async settle(answer, last) {
    const id = answer.message.message_id;
    if (!id) return answer.known({ ...answer.message, state: "stopped", text: answer.text, claims: [], citations: [] });
    const { messages } = await read(`/chats/${this.id}?limit=2&through=${id}`);
    const message = messages.find((one) => one.message_id === id);
    if (!message || message.state === "writing") return this.load();
    answer.known({ ...message, nearest: last.nearest });
    const question = this.shown[this.shown.indexOf(answer) - 1];
    const asked = messages.find((one) => one.message_id === message.parent_id);
    if (question && asked) question.named(asked);
    return undefined;
  }

  failed(answer, error) {
    if (error.status === 401) return;
    const { message_id: id } = answer.message;
    if (id) this.again = () => this.load();
    answer.fail(error);
  }

  again = () => this.load();

  stop() {
    const id = this.answer?.message.message_id;
    if (!id) return this.stopper?.abort();
    return call(`/chats/${this.id}/messages/${id}/stop`, { method: "POST" });
  }
}

const chat = new Chat();

function welcome() {
  const ways = ["What is this document about?", "Summarise the main points.", "Which deadlines are named?"];
  const offer = (text) => el("button", { type: "button", class: "chip", onclick: () => write(text) }, text);
  return el("div", { class: "welcome" }, el("h1", {}, "Ask your documents"), el("p", { class: "quiet" }, "Every answer is taken from your library alone, and each claim is cited to its page."), el("p", { class: "row" }, ...ways.map(offer)));
}

// The composer

const form = $("ask-form");
const question = $("question");

function write(text) {
  question.value = text;
  question.focus();
}

function composing() {
  $("ask").hidden = chat.busy;
  $("stop").hidden = !chat.busy;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = question.value.trim();
  if (!text || chat.busy) return;
  form.reset();
  sessionStorage.setItem(DRAFT, text); // should this page have to be left for the door
  chat.ask(text).catch(report);
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});
$("stop").addEventListener("click", () => {
  Promise.resolve(chat.stop()).catch(report);
  question.focus();
});

// What one does with a chat

async function rename() {
  const title = await dialog("Rename the chat", (close) => {
    const input = el("input", { class: "input", "aria-label": "Title", maxlength: 200, dir: "auto", required: true });
    input.value = chat.title ?? "";
    const made = el("form", { class: "stack", method: "dialog" }, input, el("div", { class: "actions" }, button("Cancel", {}, () => close()), el("button", { class: "button primary" }, "Rename")));
    made.addEventListener("submit", (event) => {
      event.preventDefault();
      close(input.value.trim());
    });
    return [made];
  });
  if (!title) return;
  chat.titled((await read(`/chats/${chat.id}`, { method: "PATCH", json: { title } })).title);
  await drawList(chat);
}

async function remove() {
  const sure = await confirmed("Delete this chat?", "All that was said in it is forgotten. This can’t be undone.", "Delete");
  if (!sure) return;
  await call(`/chats/${chat.id}`, { method: "DELETE" });
  location.assign("/");
}

$("rename").addEventListener("click", () => rename().catch(report));
$("delete").addEventListener("click", () => remove().catch(report));
$("all-chats").addEventListener("click", () => openList(chat).catch(report));

shortcut("/", "Write a question", () => question.focus());
shortcut("n", "New chat", () => location.assign("/"));
shortcut("escape", "Stop the answer, or close the document", () => {
  if (viewer.isOpen) viewer.close();
  else if (chat.busy) $("stop").click();
  else document.activeElement?.blur();
});
addEventListener("offline", () => chat.busy && notify("You are offline. The answer goes on once you are back."));

if (chat.id) scroller.replaceChildren(skeleton(4));
else if (!matchMedia("(pointer: coarse)").matches) question.focus();
question.value ||= sessionStorage.getItem(DRAFT) ?? "";
chat.titled(null);
chat.load().catch(report);
drawList(chat).catch(report);
