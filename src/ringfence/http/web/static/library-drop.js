// Files that are dropped or chosen, folders with all that is in them.

import { $ } from "./ui.js";

const LEFT_OUT = /^(\..*|Thumbs\.db|desktop\.ini|~\$.*)$/i; // of a folder: systems' and editors' own files

/** Call back with files that were dropped anywhere on the page, or chosen by its two fields. */
export function onFiles(act) {
  for (const name of ["files", "folder"]) {
    const field = $(name);
    const take = () => {
      const files = [...field.files];
      act(name === "folder" ? files.filter(wanted) : files);
      field.value = "";
    };
    field.addEventListener("change", take);
    take(); // what was chosen before this module was there
  }
  let depth = 0;
  const show = (event, by) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault(); // else the browser would leave the page for the file
    depth = Math.max(0, depth + by);
    $("drop-over").hidden = !depth;
  };
  addEventListener("dragenter", (event) => show(event, 1));
  addEventListener("dragleave", (event) => show(event, -1));
  addEventListener("dragover", (event) => show(event, 0));
  addEventListener("drop", async (event) => {
    show(event, -depth);
    act(await filesOf(event.dataTransfer));
  });
}

const wanted = ({ name }) => !LEFT_OUT.test(name);

async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()); // they are gone after the event
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.filter(Boolean).map(inside))).flat();
}

async function inside(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.filter(wanted).map(inside))).flat();
}
