// The list of chats: beside the chat on a wide screen, in a dialog on a small one.

import { query, read } from "./api.js";
import { $, button, dialog, el, later, time, trouble } from "./ui.js";

const PAGE = 40;

/** Arrow keys go from link to link. */
function byArrows(list) {
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const links = [...list.querySelectorAll("a")];
    links[links.indexOf(document.activeElement) + step]?.focus();
    event.preventDefault();
  });
}

class List {
  cursor = null;
  turn = 0; // which list was asked for last: what comes late is dropped

  constructor() {
    this.found = el("ul", { class: "chats" });
    this.more = button("More", { small: true, bare: true, hidden: true }, () => this.add());
    this.input = el("input", { class: "input", type: "search", placeholder: "Search chats", "aria-label": "Search chats", maxlength: 500, dir: "auto" });
    this.input.addEventListener("input", later(() => this.draw().catch(() => {})));
    this.element = el("div", { class: "chat-list" }, el("a", { class: "button wide", href: "/" }, "New chat"), this.input, this.found, this.more);
    byArrows(this.element);
  }

  async draw(current = this.current) {
    this.current = current;
    this.cursor = null;
    const mine = ++this.turn;
    try {
      const items = await this.page();
      if (mine !== this.turn) return;
      const none = el("li", { class: "quiet small" }, this.input.value ? "Nothing was said of that." : "Your chats will be here.");
      this.found.replaceChildren(...(items.length ? items : [none]));
    } catch (error) {
      if (mine === this.turn) this.found.replaceChildren(el("li", {}, trouble(error, () => this.draw())));
    }
  }

  async add() {
    this.found.append(...(await this.page()));
  }

  async page() {
    const mine = this.turn;
    const { chats, next_cursor: next } = await read(`/chats${query({ limit: PAGE, q: this.input.value.trim(), cursor: this.cursor })}`);
    if (mine === this.turn) {
      this.cursor = next;
      this.more.hidden = !next;
    }
    return chats.map((one) => this.item(one));
  }

  item({ chat_id: id, title, excerpt, updated_at: used }) {
    const said = excerpt ? el("span", { class: "quiet small one-line", dir: "auto" }, excerpt) : null;
    const here = this.current?.id === id;
    const link = el("a", { href: `/chats/${id}`, "aria-current": here ? "page" : null }, el("span", { class: "one-line", dir: "auto" }, title ?? "New chat"), said);
    if (used) link.title = `${title ?? "New chat"} · ${time(used).textContent}`;
    return el("li", {}, link);
  }
}

let beside = null;

/** Draw the list beside the chat. */
export async function drawList(chat) {
  if (!beside) {
    beside = new List();
    $("chats").replaceChildren(beside.element);
  }
  await beside.draw(chat);
}

/** The same in a dialog. */
export async function openList(chat) {
  const list = new List();
  const shown = dialog("Chats", (close) => [list.element, el("div", { class: "actions" }, button("Close", {}, () => close()))]);
  await list.draw(chat);
  await shown;
}
