// A new password, by a code from the mail.

import { call } from "./api.js";
import { codeField, digits, resending, signIn, step } from "./doors.js";
import { $, onSubmit } from "./ui.js";

let email = "";
const ask = () => call("/auth/forgot", { method: "POST", json: { email } });
const wait = resending(ask);

onSubmit(
  $("forgot"),
  async (values) => {
    email = values.email;
    await ask();
    $("code-email").textContent = email;
    $("reset").reset();
    wait();
    step("code");
  },
  { invalid_email: "email" },
);

onSubmit(
  $("reset"),
  async ({ code, password }) => {
    await call("/auth/reset", { method: "POST", json: { email, code: digits(code), password } });
    await signIn(email, password, "/");
  },
  { wrong_code: "code", weak_password: "password" },
);
codeField($("reset"), () => $("reset").elements.password.value !== "");
$("code").addEventListener("input", ({ target }) => digits(target.value).length === 8 && $("password").focus());

$("restart").addEventListener("click", () => step("forgot"));
