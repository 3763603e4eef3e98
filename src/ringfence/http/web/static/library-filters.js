// Which documents are shown. The page's address says it, so that a reload, a bookmark and the way back keep it.

import { query } from "./api.js";

const NAMES = ["name", "state", "collection", "tag", "sort", "order", "bin"];
const STATES = { work: ["queued", "processing"] };

/** What the address says. */
export function current() {
  const said = new URLSearchParams(location.search);
  return Object.fromEntries(NAMES.map((name) => [name, said.get(name) ?? ""]));
}

/** The address of a list that differs in this from another one. */
export const addressOf = (change, from = current()) => `/library${query({ ...from, ...change })}`;

/** Show another list: a step of the browser's history, unless it only `refines` the present one (a search that is typed). */
export function change(values, { refines = false } = {}) {
  const address = addressOf(values);
  if (address === location.pathname + location.search) return;
  history[refines ? "replaceState" : "pushState"](null, "", address);
  dispatchEvent(new Event("filters"));
}

/** Call back with what is to be shown, whenever that changes. */
export function onChange(act) {
  for (const event of ["filters", "popstate"]) addEventListener(event, () => act(current()));
}

/** The query of the API's list. */
export function queryOf({ name, state, collection, tag, sort, order, bin }, limit, cursor) {
  return query({ name, state: STATES[state] ?? state, collection, tag, sort, order, deleted: bin && "true", limit, cursor });
}

/** Whether a document belongs into a list. */
export function matches(document, { name, state, collection, tag, bin }) {
  const states = STATES[state] ?? [state];
  return (
    Boolean(document.deleted_at) === Boolean(bin) &&
    (!state || states.includes(document.state)) &&
    (!name || document.name.toLowerCase().includes(name.toLowerCase())) &&
    (!collection || document.collections.includes(collection)) &&
    (!tag || document.tags.includes(tag.toLowerCase()))
  );
}

/** Whether a list leaves anything out, beside what is in the bin. */
export const narrows = ({ name, state, collection, tag }) => Boolean(name || state || collection || tag);
