// The endpoints: whether they are there, how far, how fast, how often they win.

import { byId, h, table } from "./dom.js";
import { bytes, count, millis, percent, slot, whole } from "./format.js";

const COLUMNS = [
  { title: "Endpoint", nowrap: true }, { title: "State", nowrap: true }, { title: "Tip", number: true },
  { title: "Behind", number: true }, { title: "Wins", nowrap: true }, { title: "Latency p50", number: true },
  { title: "Latency p99", number: true }, { title: "Updates", number: true }, { title: "Received", number: true },
  { title: "Sessions", number: true }, { title: "Disconnects", number: true },
];

function share(value) {
  const bar = h("i");
  bar.style.width = `${Math.round(value * 100)}%`;
  return h("span", {}, h("span", { class: "share", "aria-hidden": "true" }, bar), percent(value));
}

function sum(counts) {
  return Object.values(counts).reduce((total, one) => total + one, 0);
}

function state({ connected, state: word }) {
  return h("span", { class: connected ? "good" : "bad" }, word ?? (connected ? "connected" : "not connected"));
}

function reasons(counts) {
  const text = Object.entries(counts).map(([reason, number]) => `${reason}: ${number}`).join(", ");
  return h("span", { title: text || null }, whole(sum(counts)));
}

/** Shows the endpoints; `readings` are the latest sample's. */
export function showEndpoints({ endpoints }, readings) {
  const latency = (name, quantile) => readings.find(({ metric, labels }) => metric === "latency_ms" && labels.endpoint === name
    && labels.quantile === quantile && labels.path === "server_to_arrival" && labels.window === "1m")?.value;
  const rows = endpoints.map((one) => [
    h("span", {}, one.name, one.region && one.region !== one.name ? h("span", { class: "muted" }, ` ${one.region}`) : null),
    state(one), slot(one.tip_slot), whole(one.behind_slots), share(one.win_share),
    millis(latency(one.name, "p50")), millis(latency(one.name, "p99")),
    count(sum(one.updates_total)), bytes(one.bytes_total), whole(one.sessions_total), reasons(one.disconnects_total),
  ]);
  byId("endpoints").replaceChildren(endpoints.length ? table(COLUMNS, rows)
    : h("p", { class: "empty" }, "This pipeline reads from no endpoint."));
}
