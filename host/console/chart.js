// Lines over time, in SVG. Each chart says in words what it shows, for those who do not see it.

import { h, put, svg } from "./dom.js";

const WIDTH = 600;
const HEIGHT = 150;
const EDGE = { left: 46, right: 8, top: 8, bottom: 18 };

/** A chart that can be drawn anew. `lines` names its series: `{ name, kind }`, where `kind` is a class of the style. */
export function chart({ title, unit, lines, stacked = false }) {
  const figure = h("figure", { class: "chart" });
  const values = lines.map(() => h("span", { class: "now" }));
  const legend = h("ul", { class: "legend" }, lines.map(({ name, kind }, index) => h("li", { class: kind }, name, " ", values[index])));
  const area = h("div", { class: "area" });
  figure.append(h("figcaption", {}, title), area, legend);
  return {
    element: figure,
    /** `at`: seconds since 1970; `series`: a list of values a line, with `null` where there is none. */
    draw(at, series) {
      series.forEach((all, index) => put(values[index], all.at(-1) === null || all.length === 0 ? "–" : unit(all.at(-1))));
      put(area, at.length < 2 ? h("p", { class: "empty" }, "The first points come within half a minute.") : picture(at, series));
    },
  };

  function picture(at, series) {
    const shown = stacked ? stack(series) : series;
    const highest = nice(Math.max(...shown.flat().filter((it) => it !== null), 0));
    const across = (time) => EDGE.left + ((time - at[0]) / (at.at(-1) - at[0] || 1)) * (WIDTH - EDGE.left - EDGE.right);
    const up = (it) => HEIGHT - EDGE.bottom - (it / highest) * (HEIGHT - EDGE.top - EDGE.bottom);
    const said = lines.map(({ name }, index) => `${name}: ${summary(series[index])}`).join("; ");
    const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}, ${span(at)}. ${said}` });
    for (const share of [0, 0.5, 1]) {
      const y = up(highest * share);
      drawing.append(svg("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y, y2: y }));
      drawing.append(svg("text", { class: "tick", x: EDGE.left - 6, y: y + 4, "text-anchor": "end" }, unit(highest * share)));
    }
    drawing.append(
      svg("text", { class: "tick", x: EDGE.left, y: HEIGHT - 4 }, clock(at[0])),
      svg("text", { class: "tick", x: WIDTH - EDGE.right, y: HEIGHT - 4, "text-anchor": "end" }, clock(at.at(-1))),
    );
    // From the last to the first: of stacked areas the lower one covers the upper.
    for (let index = shown.length - 1; index >= 0; index -= 1) {
      for (const piece of pieces(at, shown[index])) {
        const points = piece.map(([time, it]) => `${across(time).toFixed(1)},${up(it).toFixed(1)}`);
        if (stacked) {
          const from = across(piece[0][0]).toFixed(1), to = across(piece.at(-1)[0]).toFixed(1), floor = up(0).toFixed(1);
          drawing.append(svg("polygon", { class: `fill ${lines[index].kind}`, points: `${from},${floor} ${points.join(" ")} ${to},${floor}` }));
        }
        // A value between two gaps is no line: it is a dot that can be seen.
        const [x, y] = points[0].split(",");
        drawing.append(points.length === 1 ? svg("circle", { class: `dot ${lines[index].kind}`, cx: x, cy: y, r: 3.5 })
          : svg("polyline", { class: `line ${lines[index].kind}`, points: points.join(" ") }));
      }
    }
    return drawing;
  }

  function summary(values) {
    const known = values.filter((it) => it !== null);
    if (known.length === 0) return "nothing";
    return `now ${values.at(-1) === null ? "nothing" : unit(values.at(-1))}, at most ${unit(Math.max(...known))}`;
  }
}

function stack(series) {
  const sums = series[0].map(() => 0);
  return series.map((values) => values.map((it, index) => (sums[index] += it ?? 0)));
}

/** The parts of a line between its gaps. */
function pieces(at, values) {
  const all = [];
  let piece = [];
  values.forEach((it, index) => {
    if (it !== null) piece.push([at[index], it]);
    else if (piece.length > 0) { all.push(piece); piece = []; }
  });
  if (piece.length > 0) all.push(piece);
  return all;
}

/** The next round number above: 1, 2 or 5 times a power of ten. */
function nice(highest) {
  if (!(highest > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(highest));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= highest * 0.9999);
}

function clock(time) {
  return new Date(time * 1000).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit" });
}

function span(at) {
  return `the last ${Math.max(1, Math.round((at.at(-1) - at[0]) / 60))} minutes`;
}
