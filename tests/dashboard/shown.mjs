// What the page shows, and what the API's answers say that it has to show.

import * as format from "../../sinks/src/api/dashboard/format.js";

/** Runs in the page: every number on it, at one moment. */
export function read() {
  const text = (element) => element?.textContent.trim() ?? null;
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const pairs = (root) => Object.fromEntries(all("dt", root).map((dt) => [text(dt), text(dt.nextElementSibling)]));
  const rows = (root) => all("tbody tr", root).map((row) => all("td", row).map(text));
  const byId = (id) => document.getElementById(id);
  return {
    frame: Number(document.body.dataset.frame),
    tiles: Object.fromEntries(all(".tile").map((tile) => [text(tile.querySelector("dt")), text(tile.querySelector(".value"))])),
    firingNote: text(all(".tile").at(-1)?.querySelector(".note")),
    health: byId("health").className.replace("status", "").trim(),
    pipeline: text(byId("pipeline")),
    legend: Object.fromEntries(all("#slot-legend li").map((item) => [item.querySelector("b").id.replace("count-", ""), text(item.querySelector("b"))])),
    cells: all("#slot-map .cell").map((cell) => cell.getAttribute("aria-label")),
    endpoints: rows(byId("endpoints")),
    recovery: pairs(byId("recovery")),
    commitment: pairs(byId("commitment")),
    graphNote: text(byId("graph-note")),
    nodes: Object.fromEntries(all("#graph .node").map((node) => [text(node.querySelector(".name")), text(node.querySelector(".kind"))])),
    alerts: rows(byId("alerts")).map((row) => row.slice(0, 6)),
    charts: Object.fromEntries(all("#charts .panel").map((panel) => [panel.querySelector("canvas").getAttribute("aria-label").split(" now:")[0],
      Object.fromEntries(all(".keys li", panel).filter((key) => key.querySelector("b")).map((key) => [key.childNodes[1].textContent, text(key.querySelector("b"))]))])),
  };
}

const sum = (counts) => Object.values(counts).reduce((all, one) => all + one, 0);
const perSecond = (value) => (value === undefined ? "–" : `${format.count(Math.round(value))}/s`);

function finder(readings) {
  const fits = (labels, wanted) => Object.entries(wanted).every(([name, value]) => (value === null ? !(name in labels) : labels[name] === value));
  const find = (metric, wanted = {}) => readings.find((one) => one.metric === metric && fits(one.labels, wanted))?.value;
  const shortest = (metric, wanted = {}) => ["10s", "1m", "5m"].map((window) => find(metric, { ...wanted, window })).find((value) => value !== undefined);
  return { find, shortest };
}

function tiles({ metrics, recovery, alerts, endpoints }) {
  const { find, shortest } = finder(metrics.readings);
  const p99 = metrics.readings.filter(({ metric, labels: { path, quantile, window } }) => metric === "latency_ms"
    && path === "server_to_arrival" && quantile === "p99" && window === "1m").map(({ value }) => value);
  const list = endpoints.endpoints;
  return {
    Transactions: perSecond(shortest("throughput_tx_per_second")),
    Tip: format.slot(find("tip_slot")),
    Lag: list.length === 0 || list.some(({ connected }) => connected) ? format.count(find("lag_slots")) : "–",
    "Latency p99": format.millis(p99.length ? Math.min(...p99) : undefined),
    Coverage: format.percent(shortest("slot_coverage")),
    Missing: format.whole(recovery.recovery.searching),
    Holes: format.whole(recovery.recovery.holes),
    Endpoints: `${list.filter(({ connected }) => connected).length} of ${list.length}`,
    Alerts: format.whole(sum(alerts.firing)),
  };
}

function endpointRows({ endpoints, metrics }) {
  const { find } = finder(metrics.readings);
  const latency = (endpoint, quantile) => format.millis(find("latency_ms", { endpoint, quantile, path: "server_to_arrival", window: "1m" }));
  return endpoints.endpoints.map((one) => [
    one.region && one.region !== one.name ? `${one.name} ${one.region}` : one.name, one.state, format.slot(one.tip_slot),
    format.whole(one.behind_slots), format.percent(one.win_share), latency(one.name, "p50"), latency(one.name, "p99"),
    format.count(sum(one.updates_total)), format.bytes(one.bytes_total), format.whole(one.sessions_total), format.whole(sum(one.disconnects_total)),
  ]);
}

function recoveryPairs({ recovery: { recovery } }) {
  const ways = recovery.recovered_total;
  return {
    Settled: format.count(sum(ways)), "By replay": format.count(ways.replay ?? 0), "By RPC": format.count(ways.rpc ?? 0),
    "Came late": format.count(ways.live ?? 0), "Proven skips": format.count(ways.skip_proven ?? 0), "Looked for": format.count(recovery.searching),
    Fetches: format.count(recovery.in_flight), "Failed fetches": format.count(recovery.failures_total), Holes: format.count(recovery.holes),
  };
}

function commitmentPairs({ recovery: { commitment } }) {
  const [stage] = commitment.stages;
  return {
    Level: stage.level, ...(stage.configured === stage.level ? {} : { Strategy: stage.configured }), Watermark: format.slot(stage.watermark_slot),
    Waiting: format.whole(stage.held_blocks), "Let out": format.count(stage.emitted_total), Dead: format.whole(stage.dead_total), Orphaned: format.whole(stage.orphaned_total),
  };
}

function graphNote({ graph }) {
  const memory = `${format.bytes(graph.memory_used_bytes)} of ${format.bytes(graph.memory_limit_bytes)} in flight`;
  const held = graph.bottleneck === null ? null : graph.edges[graph.bottleneck];
  return held ? `${held.to} holds the pipeline up: ${held.from} waits ${format.percent(held.blocked)} of the time. ${memory}` : `Nothing blocks. ${memory}`;
}

function nodes({ graph }) {
  const rate = ({ role, in_per_second: incoming, out_per_second: outgoing }) => `${format.count(Math.round(role === "source" ? outgoing : incoming))}/s`;
  return Object.fromEntries(graph.nodes.map((node) => [node.name, `${node.kind} · ${rate(node)}`]));
}

function alertRows({ alerts, frame }) {
  const lasted = (one) => format.duration((one.resolved_ms ?? frame.now_ms) - (one.fired_ms ?? one.active_ms));
  return alerts.alerts.map((one) => [one.severity, `${one.state}${one.suppressed_by ? " (not told)" : ""}`, one.rule, one.message, format.when(one.active_ms), lasted(one)]);
}

/** The charts' last values: of what has windows, the shortest's. */
function charts({ metrics }) {
  const { find, shortest } = finder(metrics.readings);
  const shown = (unit, values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined).map(([name, value]) => [name, format.inUnit(unit, value)]));
  return {
    Throughput: shown("/s", { transactions: shortest("throughput_tx_per_second"), updates: shortest("updates_per_second", { kind: null, endpoint: null }) }),
    Lag: shown("slots", { "behind the chain": find("lag_slots", { endpoint: null }) }),
    "Error rate": shown("ratio", { "all causes": shortest("error_rate", { cause: null }) }),
    Memory: shown("bytes", { "frames in flight": find("memory_budget_bytes"), resident: find("memory_resident_bytes") }),
    CPU: shown("cores", { "this process": find("cpu_cores") }),
    "Slot coverage": shown("ratio", { "whole slots": shortest("slot_coverage") }),
    "Forks, skips, duplicates": shown("ratio", { forks: shortest("fork_rate"), skips: shortest("skip_rate"), duplicates: shortest("duplicate_rate") }),
  };
}

const EXPECTED = {
  tiles, endpoints: endpointRows, recovery: recoveryPairs, commitment: commitmentPairs, graphNote, nodes, alerts: alertRows, charts,
  health: ({ recovery }) => recovery.health.status,
  pipeline: ({ graph }) => graph.pipeline,
  legend: ({ recovery }) => Object.fromEntries(["complete", "recovered", "skipped", "dead", "orphaned", "missing", "hole", "open"].map((state) => [state, format.whole(recovery.slots[state] ?? 0)])),
};

/** The part of `shown` that `expected` speaks of. */
function sameKeys(shown, expected) {
  if (expected === null || typeof expected !== "object" || Array.isArray(expected)) return shown;
  return Object.fromEntries(Object.keys(expected).map((key) => [key, sameKeys(shown?.[key], expected[key])]));
}

/** What differs between what is shown and what the frame says. */
export function differences(shown, frame) {
  const found = [];
  for (const [part, expected] of Object.entries(EXPECTED)) {
    const wanted = expected(frame);
    const is = sameKeys(shown[part], wanted);
    if (JSON.stringify(is) !== JSON.stringify(wanted)) found.push(`${part}: shown ${JSON.stringify(is)}, the API said ${JSON.stringify(wanted)}`);
  }
  return found;
}

/** The page's word for a slot's state. */
export const word = ({ state }) => (state === "open" ? "coming in" : state);

/** Cells of the slot map whose state is not what the frame says. */
export function wrongCells(cells, { slots }) {
  const known = cells.map((label) => [label, slots.get(Number(label.split(" ")[1].replace(",", "")))]);
  return known.filter(([label, slot]) => slot && label !== `Slot ${slot.slot}, ${word(slot)}`).map(([label, slot]) => `${label}, the API said ${word(slot)}`);
}
