// HTML from the server, into the page: the one place where that happens, under the one Trusted Types policy there is.
// The server has sanitised it; this refuses whatever its sanitiser would never have let through.

const ELEMENTS = new Set(
  "A B BLOCKQUOTE BR CODE DD DEL DIV DL DT EM H1 H2 H3 H4 H5 H6 HR I LI MARK OL P PRE S SPAN STRONG SUB SUP TABLE TBODY TD TH THEAD TR UL".split(" "),
);
const ATTRIBUTES = new Set(["href", "title", "class", "dir", "lang", "start", "align", "colspan", "rowspan", "rel"]);
const DATA = /^data-[a-z-]+$/;
const LINK = /^(https?:|mailto:|\/(?![/\\])|#)/i;

const identity = { createHTML: (html) => html };
const policy = globalThis.trustedTypes?.createPolicy("ringfence", identity) ?? identity;

/** Replace what is in an element by HTML that the server made; throws a TypeError for what it can't have made. */
export function fill(element, html) {
  const template = document.createElement("template"); // inert: nothing in it loads or runs
  template.innerHTML = policy.createHTML(html);
  for (const node of template.content.querySelectorAll("*")) check(node);
  element.replaceChildren(template.content);
}

function check(node) {
  if (!ELEMENTS.has(node.tagName)) throw new TypeError(`No <${node.localName}> comes from the server.`);
  for (const { name, value } of node.attributes) {
    if (!ATTRIBUTES.has(name) && !DATA.test(name)) throw new TypeError(`No attribute ${name} comes from the server.`);
    if (name === "href" && !LINK.test(value)) throw new TypeError("No such link comes from the server.");
  }
}
