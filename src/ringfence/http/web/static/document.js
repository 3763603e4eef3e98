// A document on a page of its own.

import { DocumentView } from "./document-view.js";
import { $, report } from "./ui.js";

const asked = new URLSearchParams(location.search);
const number = (name) => (/^\d{1,9}$/.test(asked.get(name) ?? "") ? Number(asked.get(name)) : null);

const viewer = new DocumentView($("viewer"), { turned: (_, address) => history.replaceState(null, "", address) });
const [start, end] = [number("start"), number("end")];
viewer
  .open({ document_id: $("document").dataset.document, page: number("page") ?? 1, start: end === null ? null : start, end })
  .then(() => (document.title = `${viewer.document?.name ?? "Document"} · Ringfence`))
  .catch(report);
