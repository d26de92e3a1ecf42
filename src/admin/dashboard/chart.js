// A line chart of the last hour, with a crosshair for the pointer and for the arrow keys.

import { clock, element, setText, svg } from "./text.js";

const HEIGHT = 168;
const MARGIN = { top: 10, right: 6, bottom: 22 };
const DIGIT_WIDTH = 6.4; // of a label, about
const HOUR_S = 3600;
const SHORTEST_S = 600; // a server that has just started fills some of the width
const GAP = 3; // intervals without a sample, after which a line is broken

// A round number that is not below.
function roundUp(number) {
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 4, 5, 10].map((step) => step * power).find((step) => step >= number);
}

export class Chart {
  // `series`: name in the statistics, label and class of each line. `format`: a number as text.
  constructor(figure, { title, note = "", series, format, smallest }) {
    Object.assign(this, { series, format, smallest, figure, title, note, at: null, data: null });
    this.values = series.map(() => element("b"));
    this.time = element("span", { className: "muted time" });
    const legend = series.map(({ label, kind }, index) =>
      element("span", { className: `key ${kind}` }, element("i"), label, " ", this.values[index]));
    const caption = element("figcaption", {}, element("h2", {}, title), this.time, element("div", { className: "legend" }, ...legend));
    this.drawing = svg("svg", { class: "chart", height: HEIGHT, tabindex: 0, role: "img" });
    this.empty = element("p", { className: "empty" }, "The first point comes after some seconds.");
    figure.replaceChildren(caption, this.drawing, this.empty);

    this.drawing.addEventListener("pointermove", (event) => this.point(event.offsetX));
    for (const over of ["pointerleave", "blur"]) this.drawing.addEventListener(over, () => this.select(null));
    this.drawing.addEventListener("keydown", (event) => this.step(event));
    new ResizeObserver(() => this.draw()).observe(figure);
  }

  update(data, intervalS) {
    this.data = data;
    this.intervalS = intervalS;
    this.draw();
  }

  get last() {
    return (this.data?.unix_s.length ?? 0) - 1;
  }

  x(unixS) {
    const share = (unixS - this.from) / (this.to - this.from);
    return this.left + share * (this.width - this.left - MARGIN.right);
  }

  y(number) {
    return HEIGHT - MARGIN.bottom - (number / this.top) * (HEIGHT - MARGIN.top - MARGIN.bottom);
  }

  draw() {
    const isEmpty = this.last < 0;
    this.empty.hidden = !isEmpty;
    this.drawing.toggleAttribute("hidden", isEmpty);
    if (isEmpty) return;
    const times = this.data.unix_s;
    this.width = Math.max(this.drawing.clientWidth || this.figure.clientWidth, 200);
    this.to = times[this.last];
    this.from = Math.max(this.to - HOUR_S, Math.min(times[0], this.to - SHORTEST_S));
    const highest = Math.max(this.smallest, ...this.series.flatMap(({ name }) => this.data[name]));
    this.top = roundUp(highest);
    this.left = 10 + DIGIT_WIDTH * Math.max(...[0, 0.5, 1].map((share) => this.format(this.top * share).length));
    this.cross = svg("g", { class: "cross" });
    this.drawing.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.drawing.replaceChildren(...this.grid(), ...this.series.flatMap((line) => this.line(line)), this.cross);
    const told = this.series.map(({ name, label }) =>
      `${label}: now ${this.format(this.data[name][this.last])}, highest ${this.format(Math.max(...this.data[name]))}`);
    this.drawing.setAttribute("aria-label", `${this.title}, last hour. ${told.join(". ")}. Arrow keys move through time.`);
    this.read();
  }

  grid() {
    const drawn = [];
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(this.y(this.top * share)) + 0.5;
      drawn.push(svg("line", { class: "grid", x1: this.left, x2: this.width - MARGIN.right, y1: y, y2: y }));
      drawn.push(svg("text", { class: "label", x: this.left - 8, y: y + 4, "text-anchor": "end" }, this.format(this.top * share)));
    }
    const minutes = (this.to - this.from) / 60;
    const step = [2, 5, 10, 15, 20].find((step) => (minutes / step) * 62 <= this.width - this.left) ?? 30;
    const first = Math.ceil(this.from / (step * 60)) * step * 60;
    for (let time = first; time <= this.to; time += step * 60) {
      const x = this.x(time);
      if (x < this.left + 16 || x > this.width - 22) continue;
      drawn.push(svg("text", { class: "label", x, y: HEIGHT - 5, "text-anchor": "middle" }, clock(time)));
    }
    return drawn;
  }

  line({ name, kind }) {
    const times = this.data.unix_s;
    const parts = [];
    times.forEach((time, index) => {
      const isNew = index === 0 || time - times[index - 1] > GAP * this.intervalS;
      if (isNew) parts.push([]);
      parts.at(-1).push([this.x(time), this.y(this.data[name][index])]);
    });
    const text = (points) => points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
    const bottom = this.y(0);
    const area = parts.map((points) => `M${points[0][0]} ${bottom}L${text(points)}L${points.at(-1)[0]} ${bottom}Z`).join("");
    // A part of one point is a dot: its ends are round.
    const line = parts.map((points) => `M${text(points)}${points.length === 1 ? "h0" : ""}`).join("");
    return [svg("path", { class: `area ${kind}`, d: area }), svg("path", { class: `line ${kind}`, d: line })];
  }

  point(x) {
    if (this.last < 0) return;
    const distances = this.data.unix_s.map((time) => Math.abs(this.x(time) - x));
    this.select(this.data.unix_s[distances.indexOf(Math.min(...distances))]);
  }

  step(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30, Home: -Infinity, End: Infinity };
    const by = steps[event.key];
    if (by === undefined || this.last < 0) return;
    event.preventDefault();
    const from = this.at === null ? this.last : this.data.unix_s.indexOf(this.at);
    this.select(this.data.unix_s[Math.min(Math.max(from + by, 0), this.last)]);
  }

  select(unixS) {
    this.at = unixS;
    this.read();
  }

  // The numbers at the crosshair, or the last ones.
  read() {
    if (this.last < 0) return;
    const found = this.at === null ? -1 : this.data.unix_s.indexOf(this.at);
    const index = found < 0 ? this.last : found;
    this.series.forEach(({ name }, line) => setText(this.values[line], this.format(this.data[name][index])));
    setText(this.time, found < 0 ? this.note : clock(this.data.unix_s[index], true));
    this.cross.replaceChildren();
    if (found < 0) return;
    const x = this.x(this.data.unix_s[index]);
    const dots = this.series.map(({ name, kind }) => svg("circle", { class: kind, cx: x, cy: this.y(this.data[name][index]), r: 3.5 }));
    this.cross.append(svg("line", { x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }), ...dots);
  }
}
