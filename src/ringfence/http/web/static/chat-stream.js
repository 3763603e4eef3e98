// The stream of an answer: asked for, and taken up again where its connection was lost.

import { Problem, events } from "./api.js";

const PAUSES = [300, 1000, 2000, 3000, 4000, 5000, 8000, 8000, 8000, 8000]; // milliseconds, between tries
const PASSING = new Set([0, 429, 502, 503, 504]);

/** Wait; less long if the browser finds its network again. */
function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(end, milliseconds);
    addEventListener("online", end);
    signal.addEventListener("abort", end);
    function end() {
      clearTimeout(timer);
      removeEventListener("online", end);
      if (signal.aborted) reject(new DOMException("Left.", "AbortError"));
      else resolve();
    }
  });
}

/**
 * Follow an answer to its end: each event is taken once, in order, however often the connection is lost.
 *
 * @param {{
 *   chat: string,
 *   message?: string, an answer that is being written; else `path` and `json` ask for one
 *   path?: string, json?: object,
 *   signal: AbortSignal,
 *   take: (event: object) => void,
 *   lost: (now: boolean) => void, whether the connection is lost at present
 * }} options
 * @throws {Problem} what could not be had
 */
export async function follow({ chat, message = null, path, json, signal, take, lost }) {
  let lastEventId = null;
  for (let tries = 0; ; tries += 1) {
    try {
      const source = message
        ? events(`/chats/${chat}/messages/${message}/stream`, { signal, lastEventId })
        : events(path, { method: "POST", json: { ...json, resumable: true }, signal });
      for await (const { id, data } of source) {
        if (tries) lost(false);
        tries = 0;
        lastEventId = id || lastEventId;
        message = data.message_id ?? message;
        take(data);
        if (data.type === "done" || data.type === "error") return;
      }
      throw new Problem(0, { detail: "The connection was lost." });
    } catch (error) {
      if (!(error instanceof Problem) || !PASSING.has(error.status) || !message || tries >= PAUSES.length) throw error;
      lost(true);
      await pause(PAUSES[tries], signal);
    }
  }
}
