// Recovery, commitment, and what happened.

import { byId, h, pairs, table } from "./dom.js";
import { clock, count, slot, whole } from "./format.js";

const MOST_EVENTS = 200;
const QUIET = new Set(["committed", "discarded"]);

function slots(title, list, className) {
  if (list.length === 0) return null;
  const numbers = list.slice(0, 12).map(({ slot: number, reason }) => (reason ? `${number} (${reason})` : String(number)));
  const rest = list.length > 12 ? ` and ${list.length - 12} more` : "";
  return h("p", { class: className }, `${title}: ${numbers.join(", ")}${rest}`);
}

/** Shows how recovery does. */
export function showRecovery(recovery) {
  const ways = recovery.recovered_total;
  const total = Object.values(ways).reduce((all, one) => all + one, 0);
  byId("recovery").replaceChildren(
    pairs("numbers", [
      ["Settled", count(total)], ["By replay", count(ways.replay ?? 0)], ["By RPC", count(ways.rpc ?? 0)],
      ["Came late", count(ways.live ?? 0)], ["Proven skips", count(ways.skip_proven ?? 0)],
      ["Looked for", count(recovery.searching)], ["Fetches", count(recovery.in_flight)],
      ["Failed fetches", count(recovery.failures_total)], ["Holes", count(recovery.holes)],
    ]),
    ...[slots("Holes", recovery.hole_slots, "bad"), slots("Looked for", recovery.missing_slots, "muted")].filter(Boolean),
    ...(recovery.searching + recovery.holes + recovery.missing_slots.length === 0 ? [h("p", { class: "muted" }, "Nothing is missing.")] : []),
  );
}

/** Shows at which level slots are let out. */
export function showCommitment({ stages, switches }) {
  const stage = (one) => [
    pairs("numbers", [
      ["Level", one.level], ...(one.configured === one.level ? [] : [["Strategy", one.configured]]), ["Watermark", slot(one.watermark_slot)], ["Waiting", whole(one.held_blocks)],
      ["Let out", count(one.emitted_total)], ["Dead", whole(one.dead_total)], ["Orphaned", whole(one.orphaned_total)],
    ]),
  ];
  const columns = [{ title: "When", nowrap: true }, { title: "Stage" }, { title: "To level" }];
  const rows = switches.slice(0, 10).map((one) => [clock(one.at_ms), one.node, one.message]);
  byId("commitment").replaceChildren(
    ...(stages.length ? stages.flatMap(stage) : [h("p", { class: "empty" }, "This pipeline has no commitment stage.")]),
    rows.length ? table(columns, rows) : h("p", { class: "muted" }, "The level has not been switched."),
  );
}

/** The latest events. */
export class Events {
  constructor() {
    this.events = [];
  }

  clear() {
    this.events = [];
  }

  add(list) {
    const newest = this.events[0]?.id ?? 0;
    const fresh = list.filter(({ id, kind }) => id > newest && !QUIET.has(kind));
    if (fresh.length === 0 && this.events.length > 0) return;
    this.events = [...fresh.sort((a, b) => b.id - a.id), ...this.events].slice(0, MOST_EVENTS);
    this.show();
  }

  show() {
    const about = ({ slot: first, last_slot: last, endpoint }) =>
      [endpoint, first === null ? null : last && last !== first ? `${first} – ${last}` : first].filter((part) => part !== null).join(" ");
    const columns = [{ title: "When", nowrap: true }, { title: "What", nowrap: true }, { title: "About", nowrap: true }, { title: "" }];
    columns[3].title = "Details";
    const rows = this.events.map((one) => [clock(one.at_ms), one.kind.replaceAll("_", " "), about(one), one.message]);
    byId("events").replaceChildren(rows.length ? table(columns, rows) : h("p", { class: "empty" }, "Nothing has happened yet."));
  }
}
