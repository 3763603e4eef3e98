// How a question is to be answered: from which collections and documents, whether strictly, and by which model.

import { call, query, read } from "./api.js";
import { button, count, dialog, el, icon, later, report, skeleton, trouble } from "./ui.js";

const LISTED = 50;

/** What a question is about; it holds for those that follow on this page. */
export class Scope {
  collections = new Map(); // id → name
  documents = new Map();
  strict = false;

  constructor(element) {
    this.where = el("button", { type: "button", class: "chip", onclick: () => this.choose() });
    this.how = el("button", { type: "button", class: "chip", "aria-pressed": "false", title: "Hold each sentence back until it is checked" }, icon("check"), "Strict");
    this.how.addEventListener("click", () => {
      this.strict = !this.strict;
      this.how.setAttribute("aria-pressed", String(this.strict));
    });
    this.who = el("button", { type: "button", class: "chip", hidden: true, onclick: () => this.chooseModel().catch(report) });
    element.replaceChildren(this.where, this.how, this.who);
    this.draw();
    this.models().catch(report);
  }

  /** Who answers is asked only where there is a choice. */
  async models() {
    const { models, chosen } = await read("/models");
    const name = chosen ?? models[0]?.name;
    this.who.hidden = models.length < 2;
    this.who.replaceChildren(icon("spark"), el("bdi", { class: "one-line" }, name ?? ""));
    this.who.setAttribute("aria-label", `Answers by: ${name}`);
    return { models, name };
  }

  /** The choice is kept with the account, for all questions from now on. */
  async chooseModel() {
    const { models, name } = await this.models();
    let wanted = name;
    await dialog("Who answers", (close) => {
      const choices = models.map((model) => {
        const { price, answering } = model;
        const about = [price && `${price.prompt} / ${price.completion} ${price.currency} a million tokens`, !answering && "out of order just now"];
        const box = el("input", { type: "radio", name: "model", checked: model.name === name, onchange: () => (wanted = model.name) });
        return el("label", { class: "check" }, box, el("bdi", {}, model.name), el("span", { class: "quiet" }, about.filter(Boolean).join(" · ")));
      });
      return [el("div", { class: "choices", role: "radiogroup", "aria-label": "Language model" }, ...choices), el("div", { class: "actions" }, button("Done", { primary: true }, () => close()))];
    });
    if (wanted !== name) await call("/me/model", { method: "PUT", json: { model: wanted } });
    await this.models();
  }

  draw() {
    const names = [...this.collections.values(), ...this.documents.values()];
    const text = names.length === 0 ? "All documents" : names.length === 1 ? names[0] : count(names.length, "choice");
    this.where.replaceChildren(icon("library"), el("bdi", { class: "one-line" }, text));
    this.where.setAttribute("aria-label", `Answer from: ${text}`);
    this.where.classList.toggle("on", names.length > 0);
  }

  /** The fields of a request. */
  chosen() {
    const filter = {
      ...(this.collections.size ? { collections: [...this.collections.keys()] } : {}),
      ...(this.documents.size ? { documents: [...this.documents.keys()] } : {}),
    };
    return { ...(this.strict ? { strict: true } : {}), ...(Object.keys(filter).length ? { filter } : {}) };
  }

  async choose() {
    await dialog("Answer from", (close) => {
      const list = el("div", { class: "choices" }, skeleton(4));
      const input = el("input", { class: "input", type: "search", placeholder: "Find a document", "aria-label": "Find a document", maxlength: 255, dir: "auto" });
      const fillList = () => this.list(list, input.value.trim()).catch((error) => list.replaceChildren(trouble(error, fillList)));
      input.addEventListener("input", later(fillList));
      fillList();
      const all = () => {
        this.collections.clear();
        this.documents.clear();
        close();
      };
      return [input, list, el("div", { class: "actions" }, button("All documents", {}, all), button("Done", { primary: true }, () => close()))];
    });
    this.draw();
  }

  async list(place, name) {
    const [{ collections }, { documents }] = await Promise.all([
      read("/collections"),
      read(`/documents${query({ name, state: "ready", sort: "name", limit: LISTED })}`),
    ]);
    const wanted = collections.filter((one) => one.name.toLowerCase().includes(name.toLowerCase()));
    const groups = [
      ["Collections", wanted.map((one) => this.choice(this.collections, one.collection_id, one.name, "folder"))],
      ["Documents", documents.map((one) => this.choice(this.documents, one.document_id, one.name, "file"))],
    ].filter(([, items]) => items.length);
    const none = el("p", { class: "quiet" }, "There are none.");
    place.replaceChildren(...(groups.length ? groups.map(([title, items]) => el("fieldset", {}, el("legend", {}, title), ...items)) : [none]));
  }

  choice(chosen, id, name, picture) {
    const box = el("input", { type: "checkbox", checked: chosen.has(id) });
    box.addEventListener("change", () => (box.checked ? chosen.set(id, name) : chosen.delete(id)));
    return el("label", { class: "check" }, box, icon(picture), el("bdi", { class: "one-line" }, name));
  }
}
