// What the doors share: signing in, the code from the mail, and asking for another one.

import { call } from "./api.js";
import { $, busy, notify, report } from "./ui.js";

const RESEND_S = 60; // before that, none is sent
const DIGITS = 8;

/** Sign in and go on. */
export async function signIn(email, password, next) {
  await call("/auth/cookie", { method: "POST", json: { email, password } });
  location.replace(next);
}

export const digits = (text) => text.normalize("NFKC").replace(/\D/g, "");

/** Let the code's field take whatever is pasted, and send itself once it is whole and `ready`. */
export function codeField(form, ready = () => true) {
  const input = form.elements.code;
  input.addEventListener("paste", (event) => {
    const pasted = digits(event.clipboardData.getData("text"));
    if (pasted.length !== DIGITS) return;
    event.preventDefault();
    input.value = pasted;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });
  input.addEventListener("input", () => {
    if (digits(input.value).length === DIGITS && ready()) form.requestSubmit();
  });
}

/** Let a button ask for another code, a minute after the last one. */
export function resending(act) {
  const button = $("resend");
  const label = button.textContent;
  let left = 0;
  const tick = () => {
    left = Math.max(left - 1, 0);
    button.disabled = left > 0;
    button.textContent = left ? `${label} in ${left} s` : label;
  };
  setInterval(tick, 1000);
  const wait = () => {
    left = RESEND_S + 1;
    tick();
  };
  button.addEventListener("click", () =>
    busy(button, async () => {
      await act();
      wait();
      notify("Another code is on its way. The one before no longer works.");
      $("code").focus();
    }).catch(report),
  );
  return wait;
}

/** Show one step of a door, and put the cursor where it goes on. */
export function step(name) {
  for (const section of document.querySelectorAll("[id^=step-]")) section.hidden = section.id !== `step-${name}`;
  const shown = $(`step-${name}`);
  [...shown.querySelectorAll("input")].find((input) => !input.value)?.focus();
}
