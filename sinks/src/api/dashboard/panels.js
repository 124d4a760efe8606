// The charts: which series each shows, and how they are kept up to date.

import { Chart, panel } from "./chart.js";
import { get } from "./connection.js";
import { h } from "./dom.js";

const LIVE_RANGE_S = 900;
/** However new the server is. */
const SHORTEST_RANGE_MS = 60_000;
const WINDOWS = ["10s", "1m", "5m", "1h"];
const QUANTILES = ["p50", "p90", "p99", "max"];

const without = (labels, ...names) => names.every((name) => !labels[name]);

/** `metrics` says which metrics a panel reads, `keep` which of their series, `name` how they are called. */
const PANELS = [
  {
    title: "Throughput", unit: "/s",
    metrics: /^(throughput_tx_per_second|updates_per_second)$/,
    keep: (_, labels) => without(labels, "kind", "endpoint"),
    name: (metric) => (metric.startsWith("throughput") ? "transactions" : "updates"),
  },
  {
    title: "Latency", unit: "ms", note: "the highest of each step", metrics: /^latency_ms$/, choose: ["path", "endpoint", "node"],
    keep: (_, labels) => QUANTILES.includes(labels.quantile), name: (_, labels) => labels.quantile,
  },
  {
    title: "Lag", unit: "slots", metrics: /^lag_slots$/,
    keep: (_, labels) => without(labels, "endpoint"), name: () => "behind the chain",
  },
  {
    title: "Error rate", unit: "ratio", metrics: /^error_rate$/,
    keep: (_, labels) => without(labels, "endpoint"), name: (_, labels) => labels.cause ?? "all causes",
  },
  {
    title: "Memory", unit: "bytes", metrics: /^memory_(resident|budget)_bytes$/,
    keep: () => true, name: (metric) => (metric === "memory_budget_bytes" ? "frames in flight" : "resident"),
  },
  {
    title: "CPU", unit: "cores", metrics: /^cpu_cores$/, keep: () => true, name: () => "this process",
  },
  {
    title: "Network and disk", unit: "bytes/s", metrics: /^(network_received_|network_sent_|disk_written_)?bytes_per_second$/,
    keep: (_, labels) => without(labels, "endpoint", "kind"),
    name: (metric) => metric.replace(/_?bytes_per_second$/, "").replaceAll("_", " ") || "updates",
  },
  {
    title: "Slot coverage", unit: "ratio", metrics: /^slot_coverage$/,
    keep: (_, labels) => without(labels, "endpoint"), name: () => "whole slots",
  },
  {
    title: "Forks, skips, duplicates", unit: "ratio", metrics: /^(fork|skip|duplicate)_rate$/,
    keep: (_, labels) => without(labels, "endpoint"), name: (metric) => `${metric.replace("_rate", "")}s`,
  },
];

/** Of series with windows, those of one: the shortest that there is. */
function oneWindow(list) {
  const windows = new Set(list.map(({ labels }) => labels.window).filter(Boolean));
  const wanted = WINDOWS.find((window) => windows.has(window)) ?? [...windows][0];
  return list.filter(({ labels }) => !labels.window || labels.window === wanted);
}

function rank({ name }) {
  const at = QUANTILES.indexOf(name);
  return at < 0 ? name : String(at);
}

/** One chart with its data. */
class Panel {
  constructor(definition) {
    this.definition = definition;
    this.chart = new Chart(definition.title, definition.unit);
    this.series = new Map();
    this.choice = null;
    this.select = definition.choose && h("select", { "aria-label": `${definition.title}: of which way`, onchange: () => this.choose() });
    this.element = panel(this.chart, this.select ? [this.select] : []);
    const words = definition.note ?? (["slots", "cores"].includes(definition.unit) ? definition.unit : "");
    this.unit = h("span", { class: "unit" }, words && ` ${words}`);
    this.element.querySelector("h2").append(this.unit);
  }

  choose() {
    this.choice = this.select.value;
    this.draw();
  }

  /** A place for a series, if this panel shows it. */
  place(metric, labels) {
    const { metrics, keep, choose, name } = this.definition;
    if (!metrics.test(metric) || !keep(metric, labels)) return null;
    const key = `${metric} ${JSON.stringify(labels)}`;
    let known = this.series.get(key);
    if (!known) {
      known = { labels, name: name(metric, labels), choice: choose ? choose.map((label) => labels[label]).filter(Boolean).join(" · ") : null, points: [] };
      this.series.set(key, known);
    }
    return known;
  }

  add(at, metric, labels, value) {
    const points = this.place(metric, labels)?.points;
    if (!points || (points.length > 0 && points.at(-1)[0] >= at)) return;
    points.push([at, value]);
  }

  /** Keeps what came live at this time or later. */
  forget(before) {
    for (const series of this.series.values()) series.points = series.points.filter(([at]) => at >= before);
  }

  /** Takes the history in, in front of what came live, and of no later than what is shown: its points stand for many samples, and the last one is to be seen. */
  fill(series, shown) {
    const known = this.place(series.metric, series.labels);
    if (!known) return;
    const live = known.points[0]?.[0] ?? shown + 1;
    // A mean of percentiles says nothing: of those, the highest in each step is shown.
    const value = series.labels.quantile ? "max" : "mean";
    known.points = [...series.points.map((point) => [point.at_ms, point[value]]).filter(([at]) => at < live), ...known.points];
  }

  options() {
    const choices = [...new Set([...this.series.values()].map(({ choice }) => choice))].sort();
    const shown = [...this.select.options].map(({ value }) => value);
    if (choices.join() === shown.join()) return;
    this.select.replaceChildren(...choices.map((choice) => h("option", { value: choice }, choice.replaceAll("_", " ") || "all")));
    const preferred = choices.find((choice) => choice.startsWith("server_to_arrival")) ?? choices[0];
    this.choice = choices.includes(this.choice) ? this.choice : preferred;
    this.select.value = this.choice;
  }

  draw() {
    if (this.select) {
      this.options();
      this.select.hidden = this.select.options.length < 2;
    }
    const { from, to, step } = this.range;
    const chosen = [...this.series.values()].filter(({ choice }) => choice === null || choice === this.choice);
    for (const series of chosen) series.points = series.points.filter(([at]) => at >= from - step);
    const shown = oneWindow(chosen).filter(({ points }) => points.length > 0);
    shown.sort((a, b) => (rank(a) < rank(b) ? -1 : 1));
    this.chart.show(shown.slice(0, 6), from, to, Math.max(step * 2.5, 3_500));
  }
}

/** All charts. */
export class Panels {
  constructor(root) {
    this.panels = PANELS.map((definition) => new Panel(definition));
    root.replaceChildren(...this.panels.map(({ element }) => element));
    this.seconds = LIVE_RANGE_S;
    this.loading = 0;
    this.last = Date.now();
  }

  /** Shows the last `seconds`. */
  async load(seconds) {
    this.seconds = seconds;
    const turn = (this.loading += 1);
    const { metrics } = await get("/api/v1/history");
    const wanted = metrics.filter((metric) => this.panels.some(({ definition }) => definition.metrics.test(metric)));
    const now = this.last;
    const ask = (metric) => get(`/api/v1/history?metric=${encodeURIComponent(metric)}&from=${now - seconds * 1000}`);
    const answers = await Promise.all(wanted.map(ask));
    if (turn !== this.loading) return;
    for (const one of this.panels) one.forget(now);
    for (const answer of answers) {
      for (const series of answer.series) for (const one of this.panels) one.fill(series, this.last);
    }
    this.draw();
  }

  /** Takes the latest sample in. */
  sample({ at_ms: at, readings }) {
    if (at === null) return;
    this.last = at;
    for (const { metric, labels, value } of readings) {
      for (const one of this.panels) one.add(at, metric, labels, value);
    }
    this.draw();
  }

  /** The axes begin where the range does, or where there is something to show. */
  begin() {
    const firsts = this.panels.flatMap(({ series }) => [...series.values()].map(({ points }) => points[0]?.[0] ?? this.last));
    const first = Math.min(this.last - SHORTEST_RANGE_MS, ...firsts);
    return Math.max(this.last - this.seconds * 1000, first);
  }

  draw() {
    const step = Math.max(1, Math.floor(this.seconds / 300)) * 1000;
    const from = this.begin();
    for (const one of this.panels) {
      one.range = { from, to: this.last, step };
      one.draw();
    }
  }
}
