// A line chart over time on a canvas: axes, gaps where nothing was measured, a crosshair for pointer and keyboard.

import { clock, inUnit, tick } from "./format.js";
import { h, say } from "./dom.js";

const LEFT = 56;
const BOTTOM = 20;
const TOP = 8;
const RIGHT = 8;
const COLOURS = 6;

/** Round steps for an axis from 0 to `highest`. */
export function steps(highest, wanted) {
  const rough = highest / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
  const values = [];
  for (let value = 0; value <= highest * 1.001; value += step) values.push(value);
  return values;
}

function bytesTop(highest) {
  return 2 ** Math.ceil(Math.log2(Math.max(highest, 1)));
}

/** A chart of series `{name, points: [[at_ms, value]]}`. */
export class Chart {
  constructor(title, unit) {
    this.title = title;
    this.unit = unit;
    this.series = [];
    this.domain = [0, 1];
    this.cursor = null;
    this.canvas = h("canvas", { role: "img", tabindex: "0" });
    this.keys = h("ul", { class: "keys" });
    this.canvas.addEventListener("pointermove", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", () => this.look(null));
    this.canvas.addEventListener("blur", () => this.look(null));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /** Shows `series` from `from` to `to`. */
  show(series, from, to, gap) {
    Object.assign(this, { series, domain: [from, to], gap });
    this.draw();
    this.describe();
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / (box.width - LEFT - RIGHT);
    this.look(share >= 0 && share <= 1 ? this.domain[0] + share * (this.domain[1] - this.domain[0]) : null);
  }

  key(event) {
    const [from, to] = this.domain;
    const step = (to - from) / 60;
    const at = this.cursor ?? to;
    const moves = { ArrowLeft: at - step, ArrowRight: at + step, Home: from, End: to, Escape: null };
    if (!(event.key in moves)) return;
    event.preventDefault();
    const wanted = moves[event.key];
    this.look(wanted === null ? null : Math.min(to, Math.max(from, wanted)));
  }

  look(at) {
    this.cursor = at;
    this.draw();
    this.describe();
  }

  /** The point of a series that is nearest to the cursor, or its last one if that is of now. */
  valueAt(points) {
    if (this.cursor === null) return this.domain[1] - points.at(-1)[0] <= this.gap ? points.at(-1) : undefined;
    const near = points.filter(([at]) => Math.abs(at - this.cursor) <= Math.max(this.gap, 1_000));
    return near.sort((a, b) => Math.abs(a[0] - this.cursor) - Math.abs(b[0] - this.cursor))[0];
  }

  describe() {
    const values = this.series.map(({ name, points }) => [name, this.valueAt(points)]);
    const items = values.map(([name, point], at) => {
      const swatch = h("span", { class: "swatch" });
      swatch.style.background = this.colour(at);
      return h("li", {}, swatch, name, h("b", {}, point ? inUnit(this.unit, point[1]) : "–"));
    });
    if (this.cursor !== null) items.push(h("li", {}, clock(this.cursor)));
    if (items.length === 0) items.push(h("li", {}, "Nothing was measured in this range"));
    this.keys.replaceChildren(...items);
    const text = values.map(([name, point]) => `${name} ${point ? inUnit(this.unit, point[1]) : "no value"}`);
    const when = this.cursor === null ? "now" : `at ${clock(this.cursor)}`;
    const label = `${this.title} ${when}: ${text.join(", ") || "nothing was measured"}`;
    if (this.canvas.getAttribute("aria-label") !== label) this.canvas.setAttribute("aria-label", label);
  }

  colour(at) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--s${(at % COLOURS) + 1}`).trim();
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (width === 0) return;
    if (this.canvas.width !== width * ratio || this.canvas.height !== height * ratio) {
      this.canvas.width = width * ratio;
      this.canvas.height = height * ratio;
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    const plot = { width: width - LEFT - RIGHT, height: height - TOP - BOTTOM };
    const top = this.top();
    this.axes(context, plot, top);
    const place = ([at, value]) => [
      LEFT + ((at - this.domain[0]) / (this.domain[1] - this.domain[0])) * plot.width,
      TOP + plot.height * (1 - Math.min(value, top) / top),
    ];
    this.series.forEach(({ points }, at) => this.line(context, points, place, this.colour(at)));
    if (this.cursor !== null) this.crosshair(context, plot, place);
  }

  top() {
    const values = this.series.flatMap(({ points }) => points.map(([, value]) => value));
    const highest = values.reduce((most, value) => Math.max(most, value), 0);
    if (highest <= 0) return 1;
    if (this.unit.startsWith("bytes")) return bytesTop(highest);
    const step = steps(highest, 3)[1];
    const top = Math.ceil(highest / step) * step;
    return this.unit === "ratio" && highest <= 1 ? Math.min(1, top) : top;
  }

  axes(context, plot, top) {
    const style = getComputedStyle(document.documentElement);
    context.strokeStyle = style.getPropertyValue("--grid");
    context.fillStyle = style.getPropertyValue("--muted");
    context.font = "11px system-ui, sans-serif";
    context.lineWidth = 1;
    context.textAlign = "right";
    context.textBaseline = "middle";
    const marks = this.unit.startsWith("bytes") ? [0, top / 2, top] : steps(top, 3);
    for (const value of marks) {
      const y = Math.round(TOP + plot.height * (1 - value / top)) + 0.5;
      context.beginPath();
      context.moveTo(LEFT, y);
      context.lineTo(LEFT + plot.width, y);
      context.stroke();
      context.fillText(inUnit(this.unit, value), LEFT - 8, y);
    }
    this.timeAxis(context, plot);
  }

  timeAxis(context, plot) {
    const [from, to] = this.domain;
    const marks = plot.width > 320 ? 4 : 2;
    context.textBaseline = "top";
    for (let mark = 0; mark <= marks; mark += 1) {
      const x = LEFT + (plot.width * mark) / marks;
      context.textAlign = mark === 0 ? "left" : mark === marks ? "right" : "center";
      context.fillText(tick(from + ((to - from) * mark) / marks, to - from), x, TOP + plot.height + 6);
    }
  }

  line(context, points, place, colour) {
    context.strokeStyle = colour;
    context.lineWidth = 1.5;
    context.lineJoin = "round";
    context.beginPath();
    let last = null;
    for (const point of points) {
      const [x, y] = place(point);
      if (x < LEFT - 2) continue;
      if (last === null || point[0] - last > this.gap) context.moveTo(x, y);
      else context.lineTo(x, y);
      last = point[0];
    }
    context.stroke();
  }

  crosshair(context, plot, place) {
    const style = getComputedStyle(document.documentElement);
    const [x] = place([this.cursor, 0]);
    context.strokeStyle = style.getPropertyValue("--muted");
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, TOP);
    context.lineTo(x, TOP + plot.height);
    context.stroke();
    this.series.forEach(({ points }, at) => {
      const point = this.valueAt(points);
      if (!point) return;
      context.fillStyle = this.colour(at);
      context.beginPath();
      context.arc(...place(point), 3, 0, 2 * Math.PI);
      context.fill();
    });
  }
}

/** A panel with a title, a chart and its keys. */
export function panel(chart, tools = []) {
  const title = h("h2", {}, chart.title);
  return h("div", { class: "panel" }, h("div", { class: "panel-head" }, title, tools), chart.canvas, chart.keys);
}

export { say };
