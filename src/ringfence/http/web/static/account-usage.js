// What one uses: quotas as bars, and the questions of the last thirty days as columns.

import { read } from "./api.js";
import { bytes, count, day, el, svg, time } from "./ui.js";

const HEIGHT = 100;
const STEP = 10;

/** Fill the section of usage. */
export async function usage(place) {
  const [used, { days }] = await Promise.all([read("/me/usage"), read("/me/usage/days")]);
  const number = (value) => value.toLocaleString();
  place.replaceChildren(
    quota("Documents", used.documents, number),
    quota("Storage", used.bytes, bytes),
    quota("Questions today", used.questions, number, el("span", {}, "anew ", time(used.questions.resets_at))),
    plot(days),
  );
}

function quota(name, { used, limit }, worded, more = null) {
  const id = `quota-${name.split(" ")[0].toLowerCase()}`;
  const words = limit === null ? worded(used) : `${worded(used)} of ${worded(limit)}`;
  const full = limit !== null && used >= limit ? " full" : "";
  return el(
    "div",
    { class: "stack tight" },
    el("p", { class: "row apart" }, el("strong", { id }, name), el("span", { class: "quiet small figures" }, words)),
    limit !== null && el("progress", { class: `bar${full}`, max: limit || 1, value: Math.min(used, limit), "aria-labelledby": id }),
    el("p", { class: "quiet small" }, more ?? (limit === null ? "no limit" : `${worded(Math.max(limit - used, 0))} left`)),
  );
}

function plot(days) {
  const most = Math.max(...days.map(({ questions }) => questions), 1);
  const total = days.reduce((sum, { questions }) => sum + questions, 0);
  const columns = days.map(({ day: date, questions }, index) => {
    const height = Math.max((questions / most) * HEIGHT, 2);
    const place = { x: index * STEP + 1, y: HEIGHT - height, width: STEP - 2, height, class: questions ? "column" : "none" };
    return svg("rect", place, svg("title", {}, `${day(date)}: ${count(questions, "question")}`));
  });
  const label = `${count(total, "question")} in the last ${days.length} days, ${most} on the busiest day`;
  const view = { class: "plot", viewBox: `0 0 ${days.length * STEP} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label };
  return el(
    "figure",
    { class: "plot-box stack tight" },
    el("figcaption", { class: "row apart" }, el("strong", {}, "Questions in 30 days"), el("span", { class: "quiet small figures" }, String(total))),
    svg("svg", view, ...columns),
    el("p", { class: "plot-foot quiet small" }, el("span", {}, day(days[0].day)), el("span", {}, "today")),
  );
}
