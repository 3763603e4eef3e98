// Go anywhere by its name: chats, documents, pages.

import { query, read } from "./api.js";
import { el, icon, later } from "./ui.js";

const PAGES = [
  ["plus", "New chat", "/"],
  ["library", "Library", "/library"],
  ["search", "Search", "/search"],
  ["account", "Account", "/account"],
].map(([picture, name, href]) => ({ picture, name, href }));
const SHOWN = 7;

const pagesOf = (text) => PAGES.filter(({ name }) => name.toLowerCase().includes(text.toLowerCase()));

async function found(text) {
  const [{ chats }, { documents }] = await Promise.all([
    read(`/chats${query({ q: text, limit: SHOWN })}`),
    read(`/documents${query({ name: text, limit: SHOWN })}`),
  ]);
  return [
    ...pagesOf(text),
    ...chats.map((one) => ({ picture: "chat", name: one.title ?? "New chat", href: `/chats/${one.chat_id}` })),
    ...documents.map((one) => ({ picture: "file", name: one.name, href: `/documents/${one.document_id}` })),
  ];
}

/** Open it. Arrows choose, Enter goes, Esc closes. */
export function openPalette() {
  const list = el("ul", { class: "palette-list", id: "palette-list", role: "listbox", "aria-label": "Places" });
  const input = el("input", {
    class: "input", role: "combobox", "aria-label": "Go to", "aria-controls": "palette-list", "aria-expanded": "true",
    "aria-autocomplete": "list", placeholder: "A chat, a document, a page …", maxlength: 255, dir: "auto", autocomplete: "off",
  });
  const box = el("dialog", { class: "dialog palette", "aria-label": "Go to" }, input, list);
  let items = [];
  let at = 0;

  function choose(next) {
    at = Math.max(0, Math.min(items.length - 1, next));
    [...list.children].forEach((item, index) => item.setAttribute("aria-selected", String(index === at)));
    list.children[at]?.scrollIntoView({ block: "nearest" });
    if (items.length) input.setAttribute("aria-activedescendant", `place-${at}`);
    else input.removeAttribute("aria-activedescendant");
  }
  const go = (place) => place && location.assign(place.href);

  function draw(places) {
    items = places;
    const item = (place, index) =>
      el("li", { role: "option", id: `place-${index}`, onclick: () => go(place), onpointermove: () => choose(index) }, icon(place.picture), el("bdi", { class: "one-line" }, place.name));
    list.replaceChildren(...items.map(item));
    choose(0);
  }
  let turn = 0;
  const look = async () => {
    const mine = ++turn;
    const places = await found(input.value.trim());
    if (mine === turn) draw(places);
  };
  const lookSoon = later(() => look().catch(() => {}), 150);
  input.addEventListener("input", () => {
    turn += 1;
    draw(pagesOf(input.value.trim())); // at once, for who types and presses Enter; the rest is asked for
    lookSoon();
  });
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step && event.key !== "Enter") return;
    event.preventDefault();
    if (step) choose(at + step);
    else go(items[at]);
  });
  box.addEventListener("click", (event) => event.target === box && box.close());
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  draw(PAGES);
  box.showModal();
  input.focus();
  look().catch(() => {});
}
