// What every page has: the theme, signing out, and the keys that lead from page to page.

import { call } from "./api.js";
import { openPalette } from "./palette.js";
import { $, busy, report, shortcut } from "./ui.js";

const YEAR = 31_536_000;
const root = document.documentElement;

/** Light or dark, kept in a cookie, so that the server's next page comes in it. */
function toggleTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const next = (root.dataset.theme ?? dark) === "dark" ? "light" : "dark";
  root.dataset.theme = next;
  document.cookie = `ringfence-theme=${next}; path=/; max-age=${YEAR}; samesite=lax`;
}

for (const button of document.querySelectorAll("[data-theme-toggle]")) button.addEventListener("click", toggleTheme);

// By hand, since a browser may take its time to move the focus, and what has an address of its own would be drawn anew.
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault();
  $("main").focus();
});

const signOut = $("sign-out");
signOut?.addEventListener("click", () =>
  busy(signOut, async () => {
    await call("/auth/cookie", { method: "DELETE" });
    location.replace("/");
  }).catch(report),
);

// A form that leaves the page by itself is sent once.
for (const form of document.querySelectorAll("form[data-busy]")) {
  form.addEventListener("submit", (event) => {
    const pressed = form.querySelector("button");
    if (pressed.getAttribute("aria-busy") === "true") event.preventDefault();
    else pressed.setAttribute("aria-busy", "true");
  });
}

// A page that the browser kept may be of an account that was left since.
addEventListener("pageshow", (event) => event.persisted && location.reload());

if (signOut) {
  shortcut("mod+k", "Go to …", () => openPalette());
  shortcut("l", "Library", () => location.assign("/library"));
  shortcut("c", "Chat", () => location.assign("/"));
}
