// A document, page by page.

import { read } from "./api.js";
import { $, report } from "./ui.js";

const { document: id } = $("document").dataset;
read(`/documents/${id}`).then(({ name }) => ($("name").textContent = name), report);
