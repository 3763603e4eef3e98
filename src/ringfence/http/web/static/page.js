// The page: sign up, sign in, documents, questions. Whatever comes from outside is inserted as text, never as markup.

const POLL_MS = 1000;
const LISTED = 100;
const TOKEN_KEY = "ringfence.token";
const NOTICE_KEY = "ringfence.notice";
const MARKER = /\[(\d{1,3}(?:\s*[,;]\s*\d{1,3})*)\]/; // [2] or [1, 3], as the server counts citations
const MARKER_BEGUN = /\[[\d\s,;]{0,30}$/;

const $ = (id) => document.getElementById(id);

// The access token is kept here and for this tab alone. Scripts can read it; a session in an HttpOnly cookie will
// replace it.
let token = sessionStorage.getItem(TOKEN_KEY);

// Talking with the API

class Problem extends Error {
  constructor(status, body) {
    super(body?.detail ?? body?.error_description ?? `The engine answered with status ${status}.`);
    this.status = status;
  }
}

const unreachable = () => new Problem(0, { detail: "The engine can't be reached. Is it running?" });

async function api(path, { method = "GET", json, form, signal } = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (json) headers["Content-Type"] = "application/json";
  const body = json ? JSON.stringify(json) : form && new URLSearchParams(form);
  let response;
  try {
    response = await fetch(`/api/v1${path}`, { method, headers, body, signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => null));
  return response;
}

const read = async (path, options) => (await api(path, options)).json();

function notify(text, kind = "bad") {
  $("notice").className = kind;
  if ($("notice").textContent !== text) $("notice").textContent = text; // the same again is not read aloud again
}

/** Show what went wrong; a session that has ended begins anew. */
function report(error) {
  if (error.status === 401 && token) signOut("Your session has ended. Please sign in again.");
  else notify(error.message);
  if (!(error instanceof Problem)) console.error(error);
}

// Views and accounts

function show(view) {
  for (const section of document.querySelectorAll("[id^=view-]")) section.hidden = section.id !== `view-${view}`;
  $("account").hidden = view !== "home";
  notify("");
  const shown = $(`view-${view}`);
  (shown.querySelector("input:not([type=file]), textarea") ?? shown.querySelector("h1")).focus();
}

/** Let a form act; it can't be sent twice at once. */
function onSubmit(id, act) {
  const form = $(id);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    if (button.disabled) return;
    button.disabled = true;
    notify("");
    try {
      await act(Object.fromEntries(new FormData(form)), form);
    } catch (error) {
      report(error);
    } finally {
      button.disabled = false;
    }
  });
}

async function signIn(email, password) {
  const form = { grant_type: "password", username: email, password };
  const issued = await read("/auth/token", { method: "POST", form });
  token = issued.access_token;
  sessionStorage.setItem(TOKEN_KEY, token);
  for (const form of document.forms) form.reset(); // no password stays in the page
  await enter();
}

/** Forget everything: the page starts afresh, so nothing of one account is left for the next. */
function signOut(notice = "") {
  sessionStorage.removeItem(TOKEN_KEY);
  sessionStorage.setItem(NOTICE_KEY, notice);
  location.replace("/");
}

async function enter() {
  $("account-email").textContent = (await read("/me")).email;
  show("home");
  const { documents } = await read(`/documents?limit=${LISTED}`);
  for (const view of documents.reverse()) new Entry(view.name).update(view);
  poll();
}

let registration = null;

onSubmit("register-form", async ({ email, password }) => {
  const { registration_id } = await read("/auth/register", { method: "POST", json: { email, password } });
  registration = { registration_id, email, password };
  $("code-email").textContent = email;
  $("code").value = "";
  show("code");
});

onSubmit("code-form", async ({ code }) => {
  const { registration_id, email, password } = registration;
  await api("/auth/verify", { method: "POST", json: { registration_id, code: code.replace(/\D/g, "") } });
  registration = null;
  show("sign-in"); // there to return to, should the next step fail
  $("sign-in-email").value = email;
  await signIn(email, password);
});

onSubmit("sign-in-form", ({ email, password }) => signIn(email, password));
$("sign-out").addEventListener("click", () => signOut());
for (const button of document.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => show(button.dataset.view));
}

// Documents

const entries = new Map(); // by document id

const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

function statusOf({ state, pages, pages_done, chunks, reason }) {
  if (state === "queued") return "Waiting to be read";
  if (state === "failed") return `Failed: ${reason ?? "no reason was given"}`;
  if (state === "ready") return `Ready · ${count(pages ?? pages_done, "page")}, ${count(chunks, "passage")}`;
  return pages ? `Reading · page ${pages_done} of ${pages}, ${count(chunks, "passage")}` : "Reading";
}

/** A line of the list: first an upload, then a document. */
class Entry {
  constructor(name) {
    this.item = $("document-template").content.firstElementChild.cloneNode(true);
    this.part("name").textContent = name;
    this.part("delete").addEventListener("click", () => this.remove().catch(report));
    this.part("download").addEventListener("click", () => this.download().catch(report));
    $("document-list").prepend(this.item);
    $("no-documents").hidden = true;
  }

  part(name) {
    return this.item.querySelector(`.${name}`);
  }

  status(text, done = null, total = null) {
    this.part("status").textContent = text;
    const bar = this.item.querySelector("progress");
    bar.hidden = done === null;
    bar.setAttribute("aria-label", text);
    if (total) [bar.max, bar.value] = [total, done];
    else bar.removeAttribute("value");
  }

  get pending() {
    return this.view.state === "queued" || this.view.state === "processing";
  }

  update(view) {
    const before = this.view;
    this.view = view;
    entries.set(view.document_id, this);
    const reading = this.pending ? view.pages_done : null;
    this.status(statusOf(view), reading, view.pages);
    this.part("name").textContent = view.name;
    this.item.classList.toggle("failed", view.state === "failed");
    this.offer("Delete", view.name);
    this.part("download").hidden = false;
    this.part("download").setAttribute("aria-label", `Download ${view.name}`);
    if (before && !this.pending) $("announcement").textContent = `${view.name}: ${statusOf(view)}`;
  }

  offer(verb, name) {
    const button = this.part("delete");
    button.hidden = false;
    button.textContent = verb;
    button.setAttribute("aria-label", `${verb} ${name}`);
  }

  fail(reason) {
    this.status(`Not uploaded: ${reason}`);
    this.item.classList.add("failed");
    this.offer("Dismiss", this.part("name").textContent);
  }

  vanish() {
    entries.delete(this.view?.document_id);
    this.item.remove();
    $("no-documents").hidden = $("document-list").childElementCount > 0;
  }

  async remove() {
    notify("");
    if (this.view) {
      if (!confirm(`Delete “${this.view.name}” and all that was read from it?`)) return;
      await api(`/documents/${this.view.document_id}`, { method: "DELETE" }).catch(unlessGone);
      offerUndo(this.view);
    }
    this.vanish();
    $("files").focus();
  }

  async download() {
    notify("");
    const response = await api(`/documents/${this.view.document_id}/content`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = this.view.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
}

/** For as long as the notice is there, a document that was deleted can be had back. */
function offerUndo({ document_id, name }) {
  notify(`“${name}” was deleted. `, "good");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain";
  button.textContent = "Undo";
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const view = await read(`/documents/${document_id}/restore`, { method: "POST" });
      new Entry(view.name).update(view);
      notify("");
    } catch (error) {
      report(error);
    }
  });
  $("notice").append(button);
}

function unlessGone(error) {
  if (error.status !== 404) throw error;
}

/** Send one file. XMLHttpRequest, since fetch tells no progress of what it sends. */
function send(file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file);
    request.open("POST", "/api/v1/documents");
    request.setRequestHeader("Authorization", `Bearer ${token}`);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => onProgress(loaded, total);
    request.onerror = () => reject(new Problem(0, { detail: "the connection broke, or the file can't be read." }));
    request.onload = () => {
      if (request.status < 300) resolve(request.response);
      else reject(new Problem(request.status, request.response));
    };
    request.send(form);
  });
}

async function upload(files) {
  notify("");
  const waiting = [...files].map((file) => ({ file, entry: new Entry(file.name) }));
  for (const { entry } of waiting) entry.status("Waiting to be sent", 0);
  for (const { file, entry } of waiting) {
    try {
      const view = await send(file, (loaded, total) => {
        entry.status(loaded < total ? `Sending · ${Math.floor((100 * loaded) / total)}%` : "Sent", loaded, total);
      });
      const known = entries.get(view.document_id);
      if (known) {
        entry.vanish();
        notify(`You have this file already: ${view.name}`, "good");
      }
      (known ?? entry).update(view);
    } catch (error) {
      if (error.status === 401) report(error);
      entry.fail(error.message);
    }
  }
}

/** Follow the documents that are not done yet. */
async function poll() {
  for (const [id, entry] of [...entries]) {
    if (!entry.pending) continue;
    try {
      const view = await read(`/documents/${id}`);
      if (entries.has(id)) entry.update(view); // it may have been deleted meanwhile
    } catch (error) {
      if (error.status === 404) entry.vanish();
      else report(error);
    }
  }
  setTimeout(poll, POLL_MS);
}

$("files").addEventListener("change", ({ target }) => {
  upload(target.files);
  target.value = "";
});

// A file may be dropped anywhere; beside the page's own handling, the browser would leave the page for the file.
const dragging = (event, inside) => {
  event.preventDefault();
  $("documents").classList.toggle("dragging", inside && event.dataTransfer.types.includes("Files"));
};
addEventListener("dragover", (event) => dragging(event, true));
addEventListener("dragleave", (event) => dragging(event, event.relatedTarget !== null));
addEventListener("drop", (event) => {
  dragging(event, false);
  if (!$("view-home").hidden) upload(event.dataTransfer.files);
});

// Questions and answers

/** The events of a stream (WHATWG HTML, server-sent events), of which each holds its type in its data. */
async function* eventsOf(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length) yield JSON.parse(data.map((line) => line.slice(5)).join("\n"));
    }
  }
}

/** The answer that is on the page. */
class Answer {
  sources = new Map(); // by number
  held = ""; // words that may yet become a marker
  ended = false;

  constructor(question) {
    $("answer").className = "";
    $("answer").hidden = false;
    $("asked").textContent = question;
    $("answer-text").replaceChildren();
    $("answer-text").setAttribute("aria-busy", "true"); // read aloud when it is whole
    $("sources").replaceChildren();
    $("evidence").hidden = true;
    this.status("Searching your documents …");
  }

  status(text) {
    $("answer-status").textContent = text;
  }

  take(event) {
    if (event.type === "sources") this.show(event.sources);
    else if (event.type === "token") this.write(event.text);
    else if (event.type === "done") this.done(event);
    else if (event.type === "error") this.end(`The answer broke off: ${event.message}`, "broken");
  }

  show(sources) {
    this.status("Writing the answer …");
    $("evidence").hidden = sources.length === 0;
    $("sources-title").textContent = "Meanwhile, what your documents say";
    for (const source of sources) {
      const item = $("source-template").content.firstElementChild.cloneNode(true);
      item.id = `source-${source.n}`;
      item.querySelector(".origin").textContent = `[${source.n}] ${source.document}, page ${source.quote.page}`;
      item.querySelector("blockquote").textContent = `“${source.quote.text}”`;
      $("sources").append(item);
      this.sources.set(source.n, { source, item });
    }
  }

  write(text) {
    $("sources-title").textContent = "Sources";
    this.held += text;
    for (let match; (match = MARKER.exec(this.held)); this.held = this.held.slice(match.index + match[0].length)) {
      const marker = match[1].split(/(\d+)/).map((part) => this.citation(Number(part)) ?? part);
      $("answer-text").append(this.held.slice(0, match.index), "[", ...marker, "]");
    }
    const begun = MARKER_BEGUN.exec(this.held)?.index ?? this.held.length;
    $("answer-text").append(this.held.slice(0, begun));
    this.held = this.held.slice(begun);
  }

  /** A link to a source; nothing for a number that names none. */
  citation(n) {
    const found = this.sources.get(n);
    if (!found) return null;
    found.item.classList.add("cited");
    const link = document.createElement("a");
    link.href = `#${found.item.id}`;
    link.textContent = n;
    link.title = `${found.source.document}, page ${found.source.quote.page}`;
    link.addEventListener("click", (event) => {
      event.preventDefault(); // no step in the history
      found.item.focus();
    });
    return link;
  }

  done({ refused, model, citations, nearest, unsupported }) {
    if (refused) {
      $("evidence").hidden = true;
      const names = nearest.map((one) => one.document).join(", ");
      this.end(`${names ? `Nearest to it: ${names}. ` : ""}Try other words, or add a document that covers it.`, "refused");
      $("answer-text").textContent = $("answer-text").textContent; // without links to what is not shown
    } else if (!model) this.end("Quoted from your documents; no model wrote this.");
    else {
      const doubts = unsupported.map((sentence) => ` Not supported by your documents: “${sentence}”`);
      this.end(`Written by ${model}.${citations.length ? "" : " It cites none of your documents."}${doubts.join("")}`);
    }
  }

  end(status, kind = "") {
    if (this.ended) return;
    this.ended = true;
    $("answer-text").append(this.held);
    $("answer-text").removeAttribute("aria-busy");
    $("answer").className = kind;
    this.status(status);
  }
}

let stopper = null;

onSubmit("ask-form", async ({ question }) => {
  stopper = new AbortController();
  const answer = new Answer(question);
  $("stop").hidden = false;
  try {
    const request = { method: "POST", json: { question }, signal: stopper.signal };
    const response = await api("/answers", request);
    for await (const event of eventsOf(response.body)) answer.take(event);
    answer.end("The answer broke off: the connection was lost.", "broken");
  } catch (error) {
    if (error.name === "AbortError") answer.end("Stopped.");
    else if (error instanceof Problem) answer.end(error.message, "broken");
    else answer.end("The answer broke off: the connection was lost.", "broken");
    if (error.status === 401) throw error;
  } finally {
    $("stop").hidden = true;
  }
});

$("stop").addEventListener("click", () => {
  stopper.abort();
  $("question").focus();
});
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask-form").requestSubmit();
});

// Begin

async function begin() {
  if (token) {
    try {
      return await enter();
    } catch (error) {
      show("sign-in");
      return report(error);
    }
  }
  show("sign-in");
  notify(sessionStorage.getItem(NOTICE_KEY) ?? "");
  sessionStorage.removeItem(NOTICE_KEY);
}

begin();
