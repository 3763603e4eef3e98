// Small helpers of all pages. What comes from outside gets into the page as text, never as markup (but see markup.js).

import { Problem } from "./api.js";

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `el("a", { class: "chip", href, onclick: act, dataset: { n: 1 }, hidden: false }, "text", node, [more])`
 *
 * Properties: functions are listeners (`onclick`); true is an attribute without a value; false, null and undefined are none.
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An SVG element, for plots. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** An icon of `templates/icons.svg`; it says nothing to who can't see it. */
export const icon = (name) => svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));

/** A button: `button("Delete", { icon: "trash", danger: true, small: true, bare: true, only: true }, act)`; `only`: the icon alone is seen. */
export function button(label, { icon: picture, only, primary, danger, small, bare, ...properties } = {}, act = null) {
  const kinds = Object.entries({ primary, danger, small, bare, square: only }).filter(([, on]) => on);
  const classes = ["button", ...kinds.map(([name]) => name)].join(" ");
  const named = only ? { "aria-label": label, title: label } : {};
  const made = el("button", { type: "button", class: classes, ...named, ...properties }, picture && icon(picture), !only && label);
  if (act) made.addEventListener("click", () => busy(made, act).catch(report));
  return made;
}

// Words

export const count = (number, noun, plural = `${noun}s`) => `${number.toLocaleString()} ${number === 1 ? noun : plural}`;

export function bytes(number) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(number, 1)) / 3), units.length - 1);
  const value = number / 1000 ** power;
  return `${value.toLocaleString(undefined, { maximumFractionDigits: value < 10 && power ? 1 : 0 })} ${units[power]}`;
}

const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const MOMENT = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const RELATIVE = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const UNITS = [["day", 86_400], ["hour", 3600], ["minute", 60]];

export const day = (iso) => DAY.format(new Date(iso));
export const moment = (iso) => MOMENT.format(new Date(iso));

/** "3 hours ago"; from a week on, the date. */
export function ago(iso) {
  const seconds = (new Date(iso) - Date.now()) / 1000;
  if (Math.abs(seconds) > 7 * 86_400) return day(iso);
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? [null, 1];
  return unit ? RELATIVE.format(Math.round(seconds / length), unit) : "just now";
}

/** A point in time, as an element: how long ago, and on hovering when. */
export const time = (iso, words = ago) => el("time", { datetime: iso, title: moment(iso) }, words(iso));

/** A text's nodes, with parts of it marked; offsets count characters as the API does, and not UTF-16's halves of them. */
export function marked(text, ranges) {
  const characters = Array.from(text);
  const nodes = [];
  let done = 0;
  for (const { start, end } of [...ranges].sort((one, other) => one.start - other.start)) {
    if (start < done) continue;
    nodes.push(characters.slice(done, start).join(""), el("mark", {}, characters.slice(start, end).join("")));
    done = end;
  }
  return [...nodes, characters.slice(done).join("")];
}

// Notices

const GOOD_MS = 8000;

/**
 * Tell something at the edge of the page, without moving anything. `bad` stays until it is closed, the rest for eight seconds.
 *
 * @param {string} text
 * @param {{kind?: "good" | "bad", action?: {label: string, act: () => unknown}, lasts?: number}} options
 * @returns {() => void} closes it
 */
export function notify(text, { kind = "good", action = null, lasts = kind === "bad" ? 0 : GOOD_MS } = {}) {
  const place = $(kind === "bad" ? "notices-alert" : "notices-status");
  for (const old of place.children) if (old.dataset.text === text) old.remove();
  let timer = 0;
  const close = () => notice.remove();
  const wait = () => (timer = lasts && setTimeout(close, lasts));
  const act = async () => {
    await action.act();
    close();
  };
  const notice = el(
    "div",
    { class: `notice ${kind}`, dataset: { text }, onpointerenter: () => clearTimeout(timer), onpointerleave: wait, onfocusin: () => clearTimeout(timer) },
    el("span", { dir: "auto" }, text),
    action && button(action.label, { small: true }, act),
    button("Close", { icon: "close", only: true, small: true, bare: true }, close),
  );
  place.append(notice);
  wait();
  return close;
}

/** Show what went wrong. A session's end is not told: the page is on its way to the door. */
export function report(error) {
  if (error.name === "AbortError" || error.status === 401) return;
  if (!(error instanceof Problem)) console.error(error);
  notify(error instanceof Problem ? error.message : "Something went wrong on this page. Please reload it.", { kind: "bad" });
}

/** What stands where a part of a page could not be had: why, and another try. */
export function trouble(error, again) {
  return el("div", { class: "trouble", role: "alert" }, el("p", {}, error.message), button("Try again", { icon: "again", small: true }, again));
}

/** What stands where there is nothing yet. */
export function empty(picture, title, text, ...actions) {
  return el("div", { class: "empty" }, icon(picture), el("h2", {}, title), el("p", {}, text), ...actions);
}

/** Grey bars where text will be. */
export const skeleton = (lines = 3) =>
  el("div", { class: "stack", "aria-hidden": "true" }, Array.from({ length: lines }, () => el("div", { class: "skeleton" })));

// Forms and buttons

/** Let a button act: it can't be pressed again meanwhile. */
export async function busy(pressed, act) {
  if (pressed.getAttribute("aria-busy") === "true") return;
  pressed.setAttribute("aria-busy", "true");
  try {
    await act();
  } finally {
    pressed.removeAttribute("aria-busy");
  }
}

/** Say below a field what is wrong with it; "" for nothing. */
export function markField(input, text) {
  const place = $(`${input.id}-wrong`);
  if (text) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
  if (place) place.textContent = text;
}

const MISSING = { email: "This has to be an e-mail address, like ada@example.com." };

function missing(input) {
  if (input.validity.valid) return "";
  if (input.validity.valueMissing) return "This is needed.";
  return MISSING[input.type] ?? input.validationMessage;
}

/**
 * Let a form act. What is wrong is said where it belongs: below a field, or above the button (`.form-wrong`).
 *
 * @param {HTMLFormElement} form
 * @param {(values: Record<string, string>, form: HTMLFormElement) => Promise<void>} act
 * @param {Record<string, string>} fields by an error's code, the name of the field that it is about
 */
export function onSubmit(form, act, fields = {}) {
  const submit = form.querySelector("button:not([type=button])");
  const above = form.querySelector(".form-wrong");
  form.addEventListener("input", ({ target }) => markField(target, ""));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    above.textContent = "";
    const wrong = [...form.elements].filter((input) => input.willValidate && missing(input));
    for (const input of wrong) markField(input, missing(input));
    if (wrong.length) return wrong[0].focus();
    return busy(submit, () => act(Object.fromEntries(new FormData(form)), form)).catch((error) => show(error));
  });

  function show(error) {
    const input = form.elements[fields[error.code]];
    if (!(error instanceof Problem)) return report(error);
    if (!input) return (above.textContent = error.message);
    markField(input, error.message);
    return input.focus();
  }
}

// Dialogs

/**
 * A dialog that holds what it is given and is gone once it is closed. Esc closes it, and the focus returns to where it was.
 *
 * @param {string} title
 * @param {(close: (value?: unknown) => void) => (Node | string)[]} content
 * @returns {Promise<unknown>} what `close` was given; undefined by Esc
 */
export function dialog(title, content) {
  return new Promise((resolve) => {
    let result;
    const close = (value) => {
      result = value;
      box.close();
    };
    const box = el("dialog", { class: "dialog", "aria-labelledby": "dialog-title" });
    box.append(el("div", { class: "stack" }, el("h2", { id: "dialog-title", dir: "auto" }, title), ...content(close)));
    box.addEventListener("close", () => {
      box.remove();
      resolve(result);
    });
    box.addEventListener("click", (event) => event.target === box && close());
    document.body.append(box);
    box.showModal();
  });
}

/** Whether somebody who is asked says yes. */
export async function confirmed(title, text, label, { danger = true } = {}) {
  const answer = await dialog(title, (close) => [
    el("p", { dir: "auto" }, text),
    el("div", { class: "actions" }, button("Cancel", {}, () => close(false)), button(label, { primary: true, danger }, () => close(true))),
  ]);
  return answer === true;
}

/** A button that opens a menu: `menu("More", [["Rename", "pencil", act], ["Delete", "trash", act, { danger: true }]])`. */
export function menu(label, items) {
  const list = el(
    "div",
    { class: "menu-items" },
    items.map(([name, picture, act, { danger } = {}]) =>
      el("button", { type: "button", class: danger ? "danger" : null, onclick: () => ((box.open = false), act()) }, icon(picture), name),
    ),
  );
  const opener = el("summary", { class: "button bare square small", "aria-label": label, title: label }, icon("more"));
  const box = el("details", { class: "menu" }, opener, list);
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !box.open) return;
    event.stopPropagation();
    box.open = false;
    opener.focus();
  });
  box.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget && !box.contains(relatedTarget)) box.open = false;
  });
  return box;
}

addEventListener("click", ({ target }) => {
  for (const open of document.querySelectorAll(".menu[open]")) if (!open.contains(target)) open.open = false;
});

// Keyboard

const shortcuts = new Map();

/**
 * Let a key act: `shortcut("mod+k", "Search", act)`; `mod` is ⌘ or Ctrl. Without `mod`, not while somebody types; Escape always.
 * "?" shows all of them.
 */
export function shortcut(keys, label, act) {
  shortcuts.set(keys, { label, act });
}

const typing = (target) => target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);

addEventListener("keydown", (event) => {
  if (event.isComposing || event.altKey || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  const mod = event.metaKey || event.ctrlKey;
  const found = shortcuts.get((mod ? "mod+" : "") + event.key.toLowerCase());
  if (!found || (!mod && event.key !== "Escape" && typing(event.target))) return;
  event.preventDefault();
  found.act(event);
});

const shown = (keys) => keys.replace("mod", navigator.platform.startsWith("Mac") ? "⌘" : "Ctrl").split("+").map((key) => el("kbd", {}, key));

shortcut("?", "These keys", () =>
  dialog("Keyboard", (close) => [
    el("table", { class: "table" }, el("tbody", {}, [...shortcuts].map(([keys, { label }]) => el("tr", {}, el("td", {}, shown(keys)), el("td", {}, label))))),
    el("div", { class: "actions" }, button("Close", {}, () => close())),
  ]),
);

// Waiting

/** `act` once nothing has called it for a while. */
export function later(act, milliseconds = 250) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => act(...values), milliseconds);
  };
}

/** Copy text; say so. */
export async function copy(text, said = "Copied.") {
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else if (!copiedByHand(text)) return notify("This browser copies only over HTTPS. Select the text and copy it.", { kind: "bad" });
  return notify(said);
}

/** Over plain HTTP browsers have no clipboard, but the old command. */
function copiedByHand(text) {
  const place = el("textarea", { class: "unseen", "aria-hidden": "true" });
  place.value = text;
  (document.querySelector("dialog[open]") ?? document.body).append(place);
  place.select();
  const done = document.execCommand("copy");
  place.remove();
  return done;
}
