import { signIn } from "./doors.js";
import { $, onSubmit } from "./ui.js";

const form = $("sign-in");
const email = sessionStorage.getItem("ringfence.email"); // of a registration that was confirmed just now
if (email) {
  form.elements.email.value = email;
  form.elements.password.focus();
  sessionStorage.removeItem("ringfence.email");
}

onSubmit(form, ({ email, password }) => signIn(email, password, form.dataset.next));
