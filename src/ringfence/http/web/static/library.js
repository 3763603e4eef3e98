// The library: what one has, and what is being added. Whatever comes from outside is inserted as text.

import { call, read, upload } from "./api.js";
import { $, button, confirmed, count, el, later, notify, report, shortcut } from "./ui.js";
import { addressOf, change, current, matches, onChange } from "./library-filters.js";
import { asked, details, forEach, labelSeveral, learnTags, patch } from "./library-labels.js";
import { onFiles } from "./library-drop.js";
import { List } from "./library-list.js";
import { follow } from "./library-live.js";
import { Shelves } from "./library-side.js";
import { Uploads } from "./library-upload.js";

const UNDO_MS = 20_000;
const STALE_MS = 5000; // a document in work of which no event came for so long is asked about
const ASKED_AT_ONCE = 10;
const SIZES = { created: "desc", size: "desc", name: "asc" };

const shelves = new Shelves();
const heard = new Map(); // by document id, when something was last heard of it
const uploads = new Uploads({ taken, collection: () => current().collection });
const acts = { retry, password, replace, rename, remove, restore, purge, details: showDetails };
const list = new List(acts, { nameOf: (id) => shelves.nameOf(id), onSelect: showSelection, onLoad: learnTags });

// What happens to documents

function changed(document) {
  if (list.filters && !matches(document, list.filters)) list.remove(document.document_id);
  else list.upsert(document);
  learnTags([document]);
  shelves.soon();
}

function taken(document) {
  heard.set(document.document_id, Date.now());
  changed(document);
}

const path = ({ document_id }, rest = "") => `/documents/${document_id}${rest}`;

async function retry(document) {
  taken(await read(path(document, "/retry"), { method: "POST" }));
}

/** The engine keeps no password, and has the file already: it is sent back with the password. */
function password(document) {
  const said = { label: "Password", action: "Try it", type: "password", hint: "It is forgotten once the document is read." };
  return asked(`Open “${document.name}”`, said, async (text) => {
    const content = await (await call(path(document, "/content"))).blob();
    const { body } = await upload("/documents", new File([content], document.name), { fields: { password: text } });
    taken(body);
  });
}

let replaced = null;

function replace(document) {
  replaced = document;
  $("replacement").click();
}

$("replacement").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  const row = list.rows.get(replaced.document_id);
  const onProgress = (done, total) => row?.progress({ words: "Uploading", done, total });
  try {
    const { status, body } = await upload(path(replaced, "/content"), file, { method: "PUT", onProgress });
    if (status === 200) notify("That is what is in it already.");
    taken(body);
  } catch (error) {
    row?.update(row.document);
    report(error);
  }
  target.value = "";
});

async function rename(document, name) {
  list.upsert({ ...document, name });
  try {
    changed(await patch(document, { name }));
  } catch (error) {
    list.upsert(document);
    report(error);
  }
}

function showDetails(document) {
  return details(document, { shelves, changed });
}

async function remove(documents, purge = false) {
  const ids = documents.map(({ document_id }) => document_id);
  const focused = list.body.contains(document.activeElement);
  await read("/documents/delete", { method: "POST", json: { document_ids: ids, purge } });
  for (const id of ids) list.remove(id);
  if (focused) list.body.querySelector('tr[tabindex="0"]')?.focus();
  shelves.soon();
  if (!purge) notify(`${named(documents)} deleted.`, { action: { label: "Undo", act: () => restore(documents) }, lasts: UNDO_MS });
}

const named = (documents) => (documents.length === 1 ? `“${documents[0].name}” was` : `${count(documents.length, "document")} were`);

async function restore(documents) {
  await forEach(documents, async (document) => {
    const restored = await read(path(document, "/restore"), { method: "POST" });
    if (current().bin) list.remove(document.document_id);
    taken(restored);
  });
}

async function purge(documents) {
  const what = documents.length === 1 ? `“${documents[0].name}”` : count(documents.length, "document");
  if (await confirmed(`Delete ${what} for good?`, "This can’t be undone.", "Delete for good")) await remove(documents, true);
}

// What is selected

function showSelection() {
  const { picked } = list;
  const all = $("select-all");
  all.checked = picked.length > 0 && picked.length === list.rows.size;
  all.indeterminate = picked.length > 0 && !all.checked;
  $("selection").hidden = !picked.length;
  $("filters").inert = picked.length > 0;
  if (!picked.length) return;
  const failed = picked.filter(({ state }) => state === "failed");
  const act = (label, icon, work, more = {}) => button(label, { icon, small: true, ...more }, async () => work(list.picked));
  const label = (kind) => (documents) => labelSeveral(documents, kind, { shelves, changed });
  const binned = [act("Restore", "undo", restore), act("Delete for good", "trash", purge, { danger: true })];
  const kept = [
    act("Add to collection", "folder", label("collection")),
    act("Tag", "tag", label("tag")),
    failed.length > 0 && act("Try again", "again", () => forEach(failed, retry)),
    act("Delete", "trash", (documents) => remove(documents), { danger: true }),
  ];
  const clear = button("Select none", { icon: "close", only: true, small: true, bare: true }, async () => list.clear());
  $("selection").replaceChildren(clear, el("span", { class: "figures" }, `${picked.length.toLocaleString()} selected`), ...(current().bin ? binned : kept).filter(Boolean));
}

// What is shown

function show(filters) {
  const { name, state, tag, sort = "created", order } = filters;
  for (const [id, value] of [["find-name", name], ["find-state", state], ["find-tag", tag]]) if (document.activeElement !== $(id)) $(id).value = value;
  const by = sort || "created";
  const way = order || SIZES[by];
  $("find-sort").value = `${by}:${way}`;
  for (const head of document.querySelectorAll("th[data-sort]")) {
    if (head.dataset.sort === by) head.setAttribute("aria-sort", way === "asc" ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  }
  shelves.show();
  return list.show(filters);
}

function sortBy(sort, order = SIZES[sort]) {
  const usual = sort === "created" && order === "desc";
  change({ sort: usual ? "" : sort, order: usual || order === SIZES[sort] ? "" : order });
}

const find = later((values) => change(values, { refines: true }), 250);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("find-name").addEventListener("input", ({ target }) => find({ name: target.value.trim() }));
$("find-tag").addEventListener("input", ({ target }) => find({ tag: target.value.trim() }));
$("find-state").addEventListener("change", ({ target }) => change({ state: target.value }));
$("find-sort").addEventListener("change", ({ target }) => sortBy(...target.value.split(":")));
for (const head of document.querySelectorAll("th[data-sort]")) {
  head.firstElementChild.addEventListener("click", () => {
    const turned = { ascending: "desc", descending: "asc" }[head.getAttribute("aria-sort")];
    sortBy(head.dataset.sort, turned);
  });
}

// Links within the library change the list, not the page: uploads go on.
addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href]");
  if (!link || link.origin !== location.origin || link.pathname !== "/library" || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  history.pushState(null, "", link.href);
  dispatchEvent(new Event("filters"));
});
onChange((filters) => show(filters));

for (const name of ["files", "folder"]) $(`add-${name}`).addEventListener("click", () => $(name).click());
onFiles((files) => uploads.add(files));
shortcut("/", "Search by name", () => $("find-name").focus());
shortcut("u", "Add files", () => $("files").click());
shortcut("mod+a", "Select all that are shown", ({ target }) => (target.matches("input, textarea") ? target.select() : list.pickAll(true)));
shortcut("escape", "Select none", () => list.clear());

// What comes further

async function reread(id) {
  heard.set(id, Date.now());
  try {
    changed(await read(`/documents/${id}`));
  } catch (error) {
    if (error.status !== 404) throw error;
    list.remove(id);
  }
}

function progress(step) {
  const { document_id: id, stage, name } = step;
  heard.set(id, Date.now());
  const row = list.rows.get(id);
  if (stage !== "ready" && stage !== "failed") return row && !row.document.deleted_at && row.progress(step);
  $("announcement").textContent = `${name}: ${stage === "ready" ? "ready" : "failed"}`;
  return reread(id).catch(report);
}

function showCounts({ queued, working }) {
  const words = [working && `${working.toLocaleString()} being read`, queued && `${queued.toLocaleString()} waiting`].filter(Boolean);
  $("in-work").hidden = !words.length;
  $("in-work").replaceChildren(words.join(", "), " · ", el("a", { href: addressOf({ state: "work" }) }, "Show"));
}

const missed = () => forEach(list.pending, ({ document_id }) => reread(document_id)).catch(report);

/** A document that was done before the stream looked is in no event. */
setInterval(() => {
  if (document.hidden) return;
  const stale = list.pending.filter(({ document_id: id }) => Date.now() - (heard.get(id) ?? 0) > STALE_MS);
  forEach(stale.slice(0, ASKED_AT_ONCE), ({ document_id }) => reread(document_id)).catch(() => {});
}, STALE_MS);

let connection = null;
const lost = (yes) => {
  if (!yes) connection?.();
  connection = yes ? (connection ?? notify("The connection is lost. What you see may be old; it goes on by itself.", { kind: "bad" })) : null;
};

follow({ progress, counts: showCounts, again: missed, lost, gone: (id) => current().bin || list.remove(id) });
show(current()).catch(report);
shelves
  .refresh()
  .then(() => [...list.rows.values()].forEach((row) => row.update(row.document))) // now their collections have names
  .catch(report);
