// The dashboard: reads the stream, and hands each topic to what shows it.

import { Alerts, showTrends } from "./alerts.js";
import { follow, onUnauthorized } from "./connection.js";
import { byId, h, say } from "./dom.js";
import { showEndpoints } from "./endpoints.js";
import { clock, count, duration, millis, percent, slot, whole } from "./format.js";
import { Graph } from "./graph.js";
import { Panels } from "./panels.js";
import { Events, showCommitment, showRecovery } from "./recovery.js";
import { SlotMap } from "./slots.js";

const THEMES = ["system", "light", "dark"];
const RELOAD_MS = 60_000;

const panels = new Panels(byId("charts"));
const [slots, graph, alerts, events] = [new SlotMap(), new Graph(), new Alerts(), new Events()];
const now = { readings: [], recovery: null, alerts: null, endpoints: null };
let started = null;

function reading(name, wanted = {}) {
  const fits = ({ metric, labels }) => metric === name
    && Object.entries(wanted).every(([label, value]) => (value === "" ? !labels[label] : labels[label] === value));
  return now.readings.find(fits)?.value;
}

/** A value of the shortest window that has one. */
function windowed(name, wanted = {}) {
  return ["10s", "1m", "5m"].map((window) => reading(name, { ...wanted, window })).find((value) => value !== undefined) ?? reading(name, wanted);
}

function tiles() {
  const { recovery, alerts: list, endpoints } = now;
  const holes = recovery?.recovery.holes;
  const missing = recovery?.recovery.searching;
  const firing = list ? Object.values(list.firing).reduce((all, one) => all + one, 0) : undefined;
  const worst = ["critical", "error", "warning", "info"].find((word) => list?.firing[word]);
  const up = endpoints?.endpoints.filter(({ connected }) => connected).length;
  const all = endpoints?.endpoints.length;
  const latencies = now.readings.filter(({ metric, labels }) => metric === "latency_ms"
    && labels.path === "server_to_arrival" && labels.quantile === "p99" && labels.window === "1m").map(({ value }) => value);
  const latency = latencies.length ? Math.min(...latencies) : undefined;
  const seconds = reading("lag_seconds");
  return [
    ["Transactions", rate(windowed("throughput_tx_per_second")), `${rate(windowed("updates_per_second", { kind: "", endpoint: "" }))} updates`],
    ["Tip", slot(reading("tip_slot")), "highest slot heard of"],
    all > 0 && up === 0 ? ["Lag", "–", "nobody tells of the chain's tip", "bad"]
      : ["Lag", count(reading("lag_slots")), seconds === undefined ? "slots behind the chain" : `slots, ${count(seconds)} s behind`],
    ["Latency p99", millis(latency), "to here, fastest endpoint"],
    ["Coverage", percent(windowed("slot_coverage")), "slots that are whole"],
    ["Missing", whole(missing), "slots looked for", missing ? "warn" : ""],
    ["Holes", whole(holes), "slots that can't be had", holes ? "bad" : ""],
    ["Endpoints", all === undefined ? "–" : `${up} of ${all}`, "connected", up === all ? "" : up ? "warn" : "bad"],
    ["Alerts", whole(firing), firing ? `the worst is ${worst}` : "none fires", firing ? (worst === "warning" || worst === "info" ? "warn" : "bad") : ""],
  ];
}

function rate(value) {
  return value === undefined ? "–" : `${count(Math.round(value))}/s`;
}

const tileElements = [];

function showTiles() {
  tiles().forEach(([title, value, note, className = ""], at) => {
    if (!tileElements[at]) {
      const [valueElement, noteElement] = [h("dd", { class: "value" }), h("dd", { class: "note" })];
      tileElements[at] = { tile: h("div", { class: "tile" }, h("dt", {}, title), valueElement, noteElement), valueElement, noteElement };
      byId("tiles").append(tileElements[at].tile);
    }
    const { tile, valueElement, noteElement } = tileElements[at];
    tile.className = `tile ${className}`;
    say(valueElement, value);
    say(noteElement, note);
  });
}

function showHealth({ status, components }) {
  const element = byId("health");
  const words = { pass: "Healthy", warn: "Degraded", fail: "Failing" };
  const worst = components.filter((one) => one.status !== "pass");
  element.className = `status ${status}`;
  element.title = components.map((one) => `${one.name}: ${one.detail}`).join("\n");
  const note = worst[0] ? `: ${worst[0].name} ${worst[0].detail}` : "";
  say(element, `${words[status]}${note}${worst.length > 1 ? ` and ${worst.length - 1} more` : ""}`);
}

/** Shows a frame: everything on the page is of one moment. */
function show(frame) {
  now.readings = frame.metrics.readings;
  Object.assign(now, { recovery: frame.recovery, alerts: frame.alerts, endpoints: frame.endpoints });
  panels.sample(frame.metrics);
  if (started !== frame.graph.started_ms) restart(frame.graph);
  graph.update(frame.graph);
  say(byId("uptime"), frame.graph.draining ? "draining" : `up ${duration(frame.graph.now_ms - frame.graph.started_ms)}`);
  showTrends(now.readings);
  showEndpoints(frame.endpoints, now.readings);
  alerts.update(frame.alerts, frame.frame.now_ms);
  showRecovery(frame.recovery.recovery);
  showCommitment(frame.recovery.commitment);
  showHealth(frame.recovery.health);
  slots.counts(frame.recovery.slots);
  slots.update(frame.slots ?? []);
  events.add(frame.events ?? []);
  showTiles();
  document.body.dataset.frame = frame.frame.number;
}

/** Another server, or this one anew: what was shown is of the past. */
function restart({ started_ms: at, pipeline }) {
  started = at;
  slots.clear();
  events.clear();
  events.show();
  say(byId("pipeline"), pipeline);
  document.title = `Sluice ${pipeline}`;
  reload();
}

function reload() {
  panels.load(Number(byId("range").value)).catch(() => {});
  alerts.silences().catch(() => {});
}

function onState(state) {
  const lost = state === "lost";
  if (document.body.classList.contains("stale") === lost) return;
  document.body.classList.toggle("stale", lost);
  byId("banner").hidden = !lost;
  byId("banner").textContent = lost ? `The connection is lost. What is shown is of ${clock(Date.now())}; it goes on by itself when the server is back.` : "";
  if (lost) {
    byId("health").className = "status";
    say(byId("health"), "No connection");
  }
}

function showTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `Theme: ${theme}`;
  panels.draw();
}

function nextTheme() {
  const theme = THEMES[(THEMES.indexOf(localStorage.getItem("sluice-theme") ?? "system") + 1) % THEMES.length];
  localStorage.setItem("sluice-theme", theme);
  showTheme(theme);
}

onUnauthorized(() => new Promise((resolve) => {
  const dialog = byId("token-dialog");
  if (!dialog.open) dialog.showModal();
  byId("token-form").addEventListener("submit", (event) => {
    sessionStorage.setItem("sluice-token", new FormData(event.target).get("token"));
    resolve();
  }, { once: true });
}));

byId("range").addEventListener("change", reload);
byId("theme").addEventListener("click", nextTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => panels.draw());
setInterval(reload, RELOAD_MS);
showTheme(localStorage.getItem("sluice-theme") ?? "system");
showTiles();
events.show();
follow(show, onState);
