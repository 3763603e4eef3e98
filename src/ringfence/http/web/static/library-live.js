// How documents come further, by one stream for all of them, for as long as somebody looks.

import { events } from "./api.js";

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15_000;

/**
 * Follow the account's documents. A connection that is lost is taken up again.
 *
 * @param {{progress: Function, gone: Function, counts: Function, again: Function, lost: Function}} on
 *   by event; `again`: something may have been missed; `lost`: there is no connection (true), or there is one again (false)
 */
export async function follow(on) {
  let pause = FIRST_PAUSE_MS;
  for (let first = true; ; first = false) {
    await visible();
    try {
      await listen(on, first, () => (pause = FIRST_PAUSE_MS));
    } catch (error) {
      if (error.status === 401) return;
      if (error.name !== "AbortError") on.lost(true);
    }
    await new Promise((resolve) => setTimeout(resolve, pause * (0.75 + Math.random() / 2)));
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
}

async function listen(on, first, heard) {
  const hidden = new AbortController();
  const hide = () => document.hidden && hidden.abort(); // a browser has six connections to a host, for all tabs
  document.addEventListener("visibilitychange", hide);
  try {
    let begun = false;
    for await (const { data } of events("/documents/progress/stream", { signal: hidden.signal })) {
      heard();
      if (!begun) on.lost(false);
      if (!begun && !first) on.again();
      begun = true;
      if (data.type === "progress") on.progress(data.document);
      if (data.type === "gone") on.gone(data.document_id);
      if (data.type === "counts") on.counts(data);
    }
  } finally {
    document.removeEventListener("visibilitychange", hide);
  }
}

const visible = () =>
  new Promise((resolve) => {
    if (!document.hidden) return resolve();
    return document.addEventListener("visibilitychange", resolve, { once: true });
  });
