// When dead letters died: a bar for each step of time.

import { h, svg } from "./dom.js";
import { count, many, moment, seconds } from "./format.js";

const WIDTH = 640;
const HEIGHT = 56;
const GAP = 1;
/** The least that is seen of a step in which any died: one among thousands is no blank. */
const LEAST = 2;

/** `{ from, step_seconds, letters }`, as the host counts them. */
export function deaths({ from, step_seconds: step, letters }) {
  const start = Date.parse(from);
  const at = (index) => moment(new Date(start + index * step * 1000).toISOString());
  const most = Math.max(...letters);
  const fullest = letters.indexOf(most);
  const width = WIDTH / letters.length;
  const said = `${many(letters.reduce((total, it) => total + it, 0), "dead letter")} from ${at(0)} to ${at(letters.length)}, most of them, ${count(most)}, in the ${seconds(step)} from ${at(fullest)} on`;
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": said, preserveAspectRatio: "none" });
  letters.forEach((it, index) => {
    if (it === 0) return;
    const height = Math.max(LEAST, (it / most) * HEIGHT);
    const bar = svg("rect", { class: "fill s3", x: index * width, y: HEIGHT - height, width: Math.max(1, width - GAP), height });
    const title = svg("title", {});
    title.textContent = `${count(it)} from ${at(index)} on`;
    bar.append(title);
    drawing.append(bar);
  });
  return h("figure", { class: "deaths" }, h("figcaption", { class: "muted" }, `When they died; a bar is ${seconds(step)}, the highest ${count(most)}`), drawing,
    h("div", { class: "ends muted", "aria-hidden": "true" }, h("span", {}, at(0)), h("span", {}, at(letters.length))));
}
