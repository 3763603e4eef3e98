// A new account: address and password, then the code from the mail. A reload in between loses but the password.

import { call, read } from "./api.js";
import { codeField, digits, resending, signIn, step } from "./doors.js";
import { $, onSubmit } from "./ui.js";

const KEPT = "ringfence.registration";
const { next } = $("register").dataset;
let pending = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
let password = null;

const wait = resending(() => call("/auth/resend", { method: "POST", json: { registration_id: pending.registration_id } }));

function askForCode() {
  $("code-email").textContent = pending.email;
  step("code");
}

onSubmit(
  $("register"),
  async (values) => {
    const { registration_id } = await read("/auth/register", { method: "POST", json: values });
    password = values.password;
    pending = { registration_id, email: values.email };
    sessionStorage.setItem(KEPT, JSON.stringify(pending));
    $("confirm").reset();
    wait();
    askForCode();
  },
  { invalid_email: "email", weak_password: "password" },
);

onSubmit(
  $("confirm"),
  async ({ code }) => {
    await call("/auth/verify", { method: "POST", json: { registration_id: pending.registration_id, code: digits(code) } });
    sessionStorage.removeItem(KEPT);
    if (password !== null) return signIn(pending.email, password, next);
    sessionStorage.setItem("ringfence.email", pending.email);
    return location.replace(`/sign-in?next=${encodeURIComponent(next)}`);
  },
  { wrong_code: "code" },
);
codeField($("confirm"));

$("restart").addEventListener("click", () => {
  sessionStorage.removeItem(KEPT);
  step("register");
  $("email").focus();
});

if (pending) askForCode();
