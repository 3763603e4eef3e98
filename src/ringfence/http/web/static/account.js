// One's account: what is known of it, and what one may change. Each part fills itself.

import { call, read } from "./api.js";
import { ask, field } from "./asking.js";
import { keys } from "./account-keys.js";
import { usage } from "./account-usage.js";
import { $, ago, busy, button, bytes, confirmed, day, el, moment, notify, report, skeleton, time, trouble } from "./ui.js";

const PAGE = 20;

const SAID = {
  registered: "Account asked for",
  verified: "Address proved",
  signed_in: "Signed in",
  sign_in_failed: "A sign-in failed",
  confirmation_failed: "A wrong password was entered",
  code_failed: "A wrong code was entered",
  throttled: "Tries were refused",
  session_ended: "Signed out",
  sessions_ended: "Signed out elsewhere",
  refresh_token_reused: "A used token came back",
  reset_requested: "New password asked for",
  reset_failed: "A reset failed",
  password_changed: "Password changed",
  password_reset: "Password reset",
  email_change_requested: "New address asked for",
  email_changed: "Address changed",
  api_key_created: "API key made",
  api_key_revoked: "API key revoked",
  exported: "Data exported",
  disabled: "Account closed by the operator",
  enabled: "Account opened by the operator",
  quota_changed: "Quota changed by the operator",
};

/** A program's name for itself, as people know it. */
export function deviceOf(agent) {
  const browser = /(Edg|OPR|Firefox|Chrome|Safari)\//.exec(agent)?.[1];
  const system = /(Android|iPhone|iPad|Windows|Mac OS X|Linux)/.exec(agent)?.[1];
  const name = { Edg: "Edge", OPR: "Opera" }[browser] ?? browser;
  return name ? [name, system && `on ${system.replace("Mac OS X", "macOS")}`].filter(Boolean).join(" ") : agent || "An unknown program";
}

/** Let a part of the page be grey until it is there, and say what went wrong with it. */
async function filled(place, fill) {
  place.replaceChildren(skeleton(2));
  try {
    await fill(place);
  } catch (error) {
    if (error.status !== 401) place.replaceChildren(trouble(error, () => filled(place, fill)));
  }
}

const press = (id, act) => $(id).addEventListener("click", () => act().catch(report));

// Profile

press("change-email", async () => {
  const asked = await ask("Another address", "Send a code", {
    fields: [
      field("email", "New e-mail", { type: "email", autocomplete: "email", maxlength: 254 }),
      field("password", "Your password", { type: "password", autocomplete: "current-password" }),
    ],
    about: { invalid_email: "email", password_not_confirmed: "password" },
    act: (json) => call("/me/email", { method: "POST", json }),
  });
  if (!asked) return;
  const proved = await ask("Enter your code", "Confirm", {
    text: `A mail to ${asked.email} holds a code of eight digits, if it can be sent there.`,
    fields: [field("code", "Code", { class: "input code", inputmode: "numeric", autocomplete: "one-time-code", maxlength: 32 })],
    about: { wrong_code: "code" },
    act: ({ code }) => call("/me/email/confirm", { method: "POST", json: { code: code.normalize("NFKC").replace(/\D/g, "") } }),
  });
  if (!proved) return;
  $("email").textContent = (await read("/me")).email;
  notify("This is your address now. Your other sessions have ended.");
  await filled($("sessions"), sessions);
});

press("change-password", async () => {
  const changed = await ask("Another password", "Change it", {
    fields: [
      field("password", "Present password", { type: "password", autocomplete: "current-password" }),
      field("new_password", "New password", { type: "password", autocomplete: "new-password", maxlength: 256 }, "12 characters or more."),
    ],
    about: { password_not_confirmed: "password", weak_password: "new_password" },
    act: (json) => call("/me/password", { method: "POST", json }),
  });
  if (!changed) return;
  notify("Your password is changed. Your other sessions have ended.");
  await filled($("sessions"), sessions);
});

// Sessions

async function sessions(place) {
  const { sessions: found } = await read("/sessions");
  place.replaceChildren(...found.map(session));
}

function session({ session_id, current, address, agent, used_at, created_at }) {
  const end = async () => {
    await call(`/sessions/${session_id}`, { method: "DELETE" });
    item.remove();
    notify("That session has ended.");
  };
  const item = el(
    "li",
    { class: "line" },
    el(
      "div",
      {},
      el("strong", { title: agent }, deviceOf(agent)),
      el("p", { class: "quiet small" }, address, " · used ", time(used_at, ago), " · since ", time(created_at, day)),
    ),
    current ? el("span", { class: "chip good" }, "This one") : button("Sign out", { small: true }, end),
  );
  return item;
}

press("end-sessions", async () => {
  if (!(await confirmed("Sign out everywhere?", "Every session ends at once, this one too. API keys go on.", "Sign out everywhere"))) return;
  await call("/sessions", { method: "DELETE" });
  location.assign("/sign-in");
});

// What happened

async function audit(place, before = null) {
  const { events } = await read(`/audit?limit=${PAGE}${before ? `&before=${before}` : ""}`);
  if (!before) place.replaceChildren();
  place.append(
    ...events.map(({ kind, created_at, address, agent }) =>
      el("tr", {}, el("td", {}, time(created_at, moment)), el("td", {}, SAID[kind] ?? kind), el("td", { title: agent }, address ? `${address}, ${deviceOf(agent)}` : "the operator")),
    ),
  );
  const more = button("Older", { small: true }, () => audit(place, events.at(-1).event_id));
  $("audit-more").replaceChildren(...(events.length === PAGE ? [more] : []));
}

// One's data

async function download() {
  const response = await call("/me/export");
  const name = /filename="?([^";]+)/.exec(response.headers.get("content-disposition"))?.[1] ?? "ringfence.zip";
  const parts = [];
  let size = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { value, done } = await reader.read();
    if (done) break;
    parts.push(value);
    size += value.length;
    $("export-status").textContent = `${bytes(size)} so far …`;
  }
  const link = el("a", { href: URL.createObjectURL(new Blob(parts, { type: "application/zip" })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  $("export-status").textContent = `${name}, ${bytes(size)}, is in your downloads.`;
}

press("export", () => busy($("export"), download));

press("leave", async () => {
  const left = await ask("Delete the account?", "Delete everything", {
    danger: true,
    text: "Documents, chats, keys: all of it goes, and nobody can bring it back. Export it first, if you want to keep it.",
    fields: [field("password", "Your password", { type: "password", autocomplete: "current-password" })],
    about: { password_not_confirmed: "password" },
    act: (json) => call("/me", { method: "DELETE", json }),
  });
  if (left) location.replace("/");
});

read("/me").then(({ created_at }) => $("since").replaceChildren(time(created_at, day)), report);
filled($("usage"), usage);
filled($("sessions"), sessions);
filled($("keys"), keys);
$("audit").replaceChildren(el("tr", {}, el("td", { colspan: 3 }, skeleton(4))));
const happened = () => audit($("audit")).catch((error) => $("audit").replaceChildren(el("tr", {}, el("td", { colspan: 3 }, trouble(error, happened)))));
happened();
