// What is said of a document: its kind, how far it has come, and what to do where it went wrong.

import { count } from "./ui.js";

const KINDS = [
  [/pdf$/, "PDF", "file"],
  [/wordprocessingml|opendocument\.text|rtf$/, "Text document", "text"],
  [/spreadsheet|excel|csv$/, "Spreadsheet", "sheet"],
  [/presentation|powerpoint/, "Presentation", "slides"],
  [/^image\//, "Picture", "picture"],
  [/rfc822|outlook/, "Mail", "mail"],
  [/html|xml$/, "Web page", "web"],
  [/epub|xps/, "Book", "library"],
  [/markdown/, "Markdown", "text"],
  [/json$/, "JSON", "web"],
];

/** A document's kind, as `[words, icon]`. */
export function kindOf({ media_type }) {
  const [, words, picture] = KINDS.find(([pattern]) => pattern.test(media_type)) ?? [null, "Text", "text"];
  return [words, picture];
}

const SAVE_ANEW = "Open it in the program that made it, save it anew, and put that in its place.";
const SPLIT = "Split it into parts and add those.";
const ADVICE = {
  document_encrypted: ["", ["password"]],
  wrong_password: ["", ["password"]],
  document_damaged: [SAVE_ANEW, ["retry", "replace"]],
  document_empty: ["Put a file with text in its place.", ["replace"]],
  no_text: ["Put a file with text in its place.", ["replace"]],
  needs_ocr: ["Its pages are pictures, and no text recognition is installed here. Put a version with text in its place.", ["retry", "replace"]],
  too_many_pages: [SPLIT, []],
  too_much_text: [SPLIT, []],
  unpacked_too_large: [SPLIT, []],
};

/** What to do about a document that failed: `{advice, offers}`, of `retry`, `password`, `replace`. */
export function remedyOf({ reason_code }) {
  const [advice, offers] = ADVICE[reason_code] ?? ["", ["retry"]];
  return { advice, offers };
}

const REFUSED = {
  unsupported_type: "",
  empty_file: "",
  file_too_large: SPLIT,
  body_too_large: SPLIT,
  document_encrypted: "",
};

/** What to do about a file that was not taken. */
export const adviceOf = ({ code }) => REFUSED[code] ?? "";

/** Whether it makes sense to send a file again that was not taken. */
export const mayTryAgain = ({ code }) => !(code in REFUSED);

const part = (done, total, noun) => (total ? `${done.toLocaleString()} of ${count(total, noun)}` : "");
const joined = (...words) => words.filter(Boolean).join(" · ");

/** How far a document in work has come: `{words, done, total}`. */
export function stepOf({ stage, pages, pages_done, chunks, chunks_done, eta_seconds }) {
  const left = eta_seconds > 20 ? `about ${duration(eta_seconds)} left` : "";
  if (stage === "queued") return { words: "Waiting to be read" };
  if (stage === "parsing") return { words: joined("Reading", part(pages_done, pages, "page"), left), done: pages_done, total: pages };
  const words = stage === "embedding" ? "Embedding" : "Storing";
  return { words: joined(words, part(chunks_done, chunks, "passage"), left), done: chunks_done, total: chunks };
}

function duration(seconds) {
  const minutes = Math.round(seconds / 60);
  if (minutes < 1) return `${Math.ceil(seconds / 10) * 10} seconds`;
  return minutes < 90 ? count(minutes, "minute") : count(Math.round(minutes / 60), "hour");
}

/** Whether something is being done to a document, or to what is to take its content's place. */
export const inWork = ({ state, replacement, deleted_at }) => !deleted_at && [state, replacement?.state].some((one) => one === "queued" || one === "processing");

/** A name as it is shown before the engine has seen it: without signs that turn the direction, which hide what kind a file is. */
export const plain = (name) => name.replace(/[\u202a-\u202e\u2066-\u2069]/g, "");
