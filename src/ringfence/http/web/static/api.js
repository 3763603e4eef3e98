// Talking with the engine's API, as the account that the browser's cookie names. No script ever sees that cookie.

const ROOT = "/api/v1";

/** Without the names that fields have in a request: who fills a form knows them by others. */
const plain = (detail) => detail?.replace(/(^|; )(?:body|path|query)(?:\.[\w.]+)?: (?:Value error, )?/g, "$1");

/** An error that the engine answered with (RFC 9457), or that it could not be reached (status 0). */
export class Problem extends Error {
  constructor(status, body, headers = new Headers()) {
    super(plain(body?.detail) ?? `The engine answered with status ${status}.`);
    this.status = status;
    this.code = body?.code ?? (status ? "unknown" : "unreachable");
    this.body = body ?? {};
    this.requestId = headers.get("x-request-id");
    this.retryAfter = Number(headers.get("retry-after")) || null; // seconds
  }
}

const unreachable = () => new Problem(0, { detail: "The engine can’t be reached. Is it running?" });

/** The address of a page's way back, after signing in. */
export const signInUrl = () => `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`;

/** One's session has ended: sign in, then come back. */
function leave() {
  if (!location.pathname.startsWith("/sign-in")) location.assign(signInUrl());
}

async function problemOf(response) {
  const problem = new Problem(response.status, await response.json().catch(() => null), response.headers);
  if (problem.status === 401) leave();
  return problem;
}

/**
 * A request below /api/v1; its response, if that is no error.
 *
 * @param {string} path below /api/v1, with its query
 * @param {{method?: string, json?: unknown, body?: BodyInit, headers?: Record<string, string>, signal?: AbortSignal}} options
 * @throws {Problem} and, where `signal` ended it, a DOMException named AbortError
 */
export async function call(path, { method = "GET", json, body, headers = {}, signal } = {}) {
  const told = json === undefined ? headers : { "Content-Type": "application/json", ...headers };
  let response;
  try {
    response = await fetch(ROOT + path, { method, headers: told, body: json === undefined ? body : JSON.stringify(json), signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** The same, and its answer's JSON; null where the answer is empty. */
export async function read(path, options) {
  const text = await (await call(path, options)).text();
  return text ? JSON.parse(text) : null;
}

/** Where a file can be had from: for `href` and `src`. */
export const url = (path) => ROOT + path;

/** A query string of what is set: null, undefined and "" are left out, a list's items come one by one. */
export function query(values) {
  const items = Object.entries(values).flatMap(([name, value]) => [value].flat().map((item) => [name, item]));
  const set = items.filter(([, item]) => item !== null && item !== undefined && item !== "");
  return set.length ? `?${new URLSearchParams(set)}` : "";
}

/**
 * The events of a stream, as they come (WHATWG HTML, server-sent events): `{id, event, data}`, where `data` is parsed JSON.
 *
 * @param {string} path below /api/v1
 * @param {{method?: string, json?: unknown, signal?: AbortSignal, lastEventId?: string}} options
 * @throws {Problem} as `call`; status 0 where the connection broke in mid-stream
 */
export async function* events(path, { lastEventId, ...options } = {}) {
  const headers = { Accept: "text/event-stream", ...(lastEventId ? { "Last-Event-ID": lastEventId } : {}) };
  const response = await call(path, { ...options, headers });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const event = parsed(block);
        if (event) yield event;
      }
    }
  } catch (error) {
    throw error.name === "AbortError" || error instanceof Problem ? error : new Problem(0, { detail: "The connection was lost." });
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** One event; null for what holds no data, such as a comment. */
function parsed(block) {
  const found = { id: null, event: "message", data: [] };
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "data") found.data.push(value);
    else if (name in found) found[name] = value;
  }
  return found.data.length ? { ...found, data: JSON.parse(found.data.join("\n")) } : null;
}

/**
 * Send a file. By XMLHttpRequest, since fetch tells no progress of what it sends.
 *
 * @param {string} path below /api/v1
 * @param {File} file
 * @param {{method?: string, fields?: Record<string, string>, onProgress?: (sent: number, total: number) => void, signal?: AbortSignal}} options
 * @returns {Promise<{status: number, body: any}>}
 */
export function upload(path, file, { method = "POST", fields = {}, onProgress = () => {}, signal } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    form.append("file", file);
    request.open(method, ROOT + path);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => onProgress(loaded, total);
    request.onerror = () => reject(new Problem(0, { detail: "The connection broke, or the file can’t be read." }));
    request.onabort = () => reject(new DOMException("The upload was stopped.", "AbortError"));
    request.onload = () => {
      const { status, response } = request;
      if (status < 300) return resolve({ status, body: response });
      const headers = new Headers();
      for (const name of ["x-request-id", "retry-after"]) {
        if (request.getResponseHeader(name)) headers.set(name, request.getResponseHeader(name));
      }
      if (status === 401) leave();
      return reject(new Problem(status, response, headers));
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}
