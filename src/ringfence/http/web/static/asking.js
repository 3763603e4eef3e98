// Dialogs that ask for something: a form, whose errors stand at its fields.

import { dialog, el, button, onSubmit } from "./ui.js";

/** A field of `ask`: its name, label, the input's attributes, and a hint. */
export function field(name, label, attributes = {}, hint = "") {
  const id = `asked-${name}`;
  return el(
    "div",
    { class: "field" },
    el("label", { for: id }, label),
    el("input", { class: "input", id, name, required: true, autocomplete: "off", "aria-describedby": `${id}-hint ${id}-wrong`, ...attributes }),
    el("p", { class: "hint", id: `${id}-hint` }, hint),
    el("p", { class: "wrong", id: `${id}-wrong` }),
  );
}

/**
 * Ask for something and act on it; the dialog stays open until that has succeeded.
 *
 * @param {string} title
 * @param {string} label of the button
 * @param {{fields: Node[], act: (values: Record<string, string>, form: HTMLFormElement) => Promise<unknown>, text?: string, danger?: boolean, about?: Record<string, string>}} options
 *   `about`: by an error's code, the field that it is about
 * @returns {Promise<Record<string, string> | undefined>} what was entered; undefined if nothing came of it
 */
export function ask(title, label, { fields, act, text = "", danger = false, about = {} }) {
  return dialog(title, (close) => {
    const submit = el("button", { class: `button primary${danger ? " danger" : ""}` }, label);
    const form = el(
      "form",
      { class: "stack tight", novalidate: true },
      text && el("p", { dir: "auto" }, text),
      fields,
      el("p", { class: "form-wrong", role: "alert" }),
      el("div", { class: "actions" }, button("Cancel", {}, () => close()), submit),
    );
    onSubmit(
      form,
      async (values) => {
        await act(values, form);
        close(values);
      },
      about,
    );
    return [form];
  });
}
