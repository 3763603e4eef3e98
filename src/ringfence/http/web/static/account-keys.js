// API keys: made, shown once, revoked.

import { Problem, call, read } from "./api.js";
import { ask, field } from "./asking.js";
import { $, ago, button, confirmed, copy, day, dialog, el, notify, report, time } from "./ui.js";

const SCOPES = [
  ["read", "Read: documents, answers, search"],
  ["write", "Write: upload and delete"],
  ["ask", "Ask questions"],
];
const LIVES = [[30, "30 days"], [90, "90 days"], [365, "a year"], [0, "until it is revoked"]];

/** Fill the list of keys. */
export async function keys(place) {
  const { api_keys: found } = await read("/api-keys");
  place.replaceChildren(...(found.length ? found.map(line) : [el("li", { class: "quiet" }, "There are none.")]));
}

function line({ key_id, name, prefix, scopes, expires_at, used_at, created_at }) {
  const revoke = async () => {
    if (!(await confirmed(`Revoke “${name}”?`, "Programs that use it are refused from now on.", "Revoke"))) return;
    await call(`/api-keys/${key_id}`, { method: "DELETE" });
    await keys($("keys"));
    notify("The key is revoked.");
  };
  return el(
    "li",
    { class: "line" },
    el(
      "div",
      {},
      el("strong", { dir: "auto" }, el("bdi", {}, name)),
      " ",
      el("code", { class: "quiet" }, `${prefix}…`),
      el(
        "p",
        { class: "quiet small" },
        scopes.join(", "),
        " · made ",
        time(created_at, day),
        ...(used_at ? [" · used ", time(used_at, ago)] : [" · never used"]),
        ...(expires_at ? [" · ends ", time(expires_at, day)] : []),
      ),
    ),
    button("Revoke", { small: true, danger: true, "aria-label": `Revoke ${name}` }, revoke),
  );
}

async function make() {
  let made = null;
  const scopes = el(
    "fieldset",
    { class: "field plain" },
    el("legend", { class: "label" }, "What it may do"),
    SCOPES.map(([value, label], index) => el("label", { class: "check" }, el("input", { type: "checkbox", name: "scope", value, checked: index === 0 }), label)),
  );
  const life = el(
    "div",
    { class: "field" },
    el("label", { for: "asked-life" }, "For how long"),
    el("select", { class: "input", id: "asked-life", name: "life" }, LIVES.map(([value, label]) => el("option", { value, selected: value === 90 }, label))),
  );
  await ask("A new API key", "Make it", {
    fields: [
      field("name", "Name", { maxlength: 100, placeholder: "nightly upload" }),
      scopes,
      life,
      field("password", "Your password", { type: "password", autocomplete: "current-password" }, "A key outlives this session."),
    ],
    about: { password_not_confirmed: "password" },
    act: async ({ name, password, life: days }, form) => {
      const chosen = [...form.querySelectorAll("[name=scope]:checked")].map(({ value }) => value);
      if (!chosen.length) throw new Problem(422, { detail: "Choose at least one thing that it may do." });
      const json = { name, password, scopes: chosen, expires_in_days: Number(days) || null };
      made = await read("/api-keys", { method: "POST", json });
    },
  });
  if (!made) return;
  await keys($("keys"));
  await dialog("Your new key", (close) => [
    el("p", {}, "Keep it like a password: it is shown this once."),
    el("p", { class: "secret" }, el("code", { id: "new-key" }, made.key), button("Copy", { icon: "copy", only: true }, () => copy(made.key, "The key is copied."))),
    el("div", { class: "actions" }, button("Done", { primary: true }, () => close())),
  ]);
}

$("add-key").addEventListener("click", () => make().catch(report));
