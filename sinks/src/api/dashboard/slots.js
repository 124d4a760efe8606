// The slot map: a cell a slot; its details on click or with the arrow keys.

import { byId, h, pairs, say } from "./dom.js";
import { bytes, clock, millis, slot as slotText, whole } from "./format.js";

const MOST_CELLS = 512;
const STATES = {
  complete: "complete", recovered: "recovered", skipped: "skipped", dead: "dead", orphaned: "orphaned",
  missing: "missing", hole: "hole", open: "coming in",
};

/** The map. */
export class SlotMap {
  constructor() {
    this.slots = new Map();
    this.cells = new Map();
    this.chosen = null;
    this.root = byId("slot-map");
    this.root.addEventListener("keydown", (event) => this.key(event));
    byId("slot-legend").replaceChildren(...Object.entries(STATES).map(([state, word]) =>
      h("li", {}, h("span", { class: `cell ${state}`, "aria-hidden": "true" }), word, h("b", { id: `count-${state}` }))));
    this.detail();
  }

  /** How many slots are in each state. */
  counts(counts) {
    for (const state of Object.keys(STATES)) say(byId(`count-${state}`), whole(counts[state] ?? 0));
  }

  /** Forgets everything: the server is another one. */
  clear() {
    this.slots.clear();
    this.cells.clear();
    this.root.replaceChildren();
  }

  /** Slots that changed. */
  update(changed) {
    for (const view of changed) {
      this.slots.set(view.slot, view);
      this.cell(view);
    }
    const surplus = [...this.slots.keys()].sort((a, b) => a - b).slice(0, Math.max(0, this.slots.size - MOST_CELLS));
    for (const slot of surplus) {
      this.slots.delete(slot);
      this.cells.get(slot)?.parentElement.remove();
      this.cells.delete(slot);
    }
    if (changed.some(({ slot }) => slot === this.chosen)) this.detail();
    this.focusable();
  }

  cell(view) {
    let cell = this.cells.get(view.slot);
    if (!cell) {
      cell = h("button", { type: "button", tabindex: "-1", "aria-pressed": "false", onclick: () => this.choose(view.slot) });
      this.cells.set(view.slot, cell);
      this.insert(view.slot, h("li", {}, cell));
    }
    const settled = view.commitment === "finalized" || !["complete", "recovered"].includes(view.state);
    const className = `cell ${view.state}${settled ? "" : " unsettled"}`;
    if (cell.className !== className) cell.className = className;
    const label = `Slot ${view.slot}, ${STATES[view.state]}`;
    if (cell.title !== label) {
      cell.title = label;
      cell.setAttribute("aria-label", label);
    }
  }

  /** Cells stand in the order of their slots; nearly all new ones are the last. */
  insert(slot, item) {
    let before = null;
    for (let last = this.root.lastElementChild; last && last.slot_ > slot; last = last.previousElementSibling) before = last;
    item.slot_ = slot;
    this.root.insertBefore(item, before);
  }

  /** One cell can be reached with the tab key, all others with the arrows. */
  focusable() {
    const current = this.cells.get(this.chosen) ?? this.root.lastElementChild?.firstElementChild;
    if (current === this.reachable) return;
    this.reachable?.setAttribute("tabindex", "-1");
    current?.setAttribute("tabindex", "0");
    this.reachable = current;
  }

  choose(slot) {
    this.cells.get(this.chosen)?.setAttribute("aria-pressed", "false");
    this.chosen = slot;
    this.cells.get(slot)?.setAttribute("aria-pressed", "true");
    this.focusable();
    this.detail();
  }

  key(event) {
    const item = event.target.closest("li");
    const rest = { ArrowLeft: item?.previousElementSibling, ArrowRight: item?.nextElementSibling,
      Home: this.root.firstElementChild, End: this.root.lastElementChild };
    if (!(event.key in rest)) return;
    event.preventDefault();
    const next = rest[event.key];
    if (!next) return;
    this.choose(next.slot_);
    next.firstElementChild.focus();
  }

  detail() {
    const view = this.slots.get(this.chosen);
    const root = byId("slot-detail");
    if (!view) {
      root.replaceChildren(h("p", { class: "muted" }, "Choose a slot to see what became of it. Faded cells are not final yet."));
      return;
    }
    const took = view.first_seen_ms && view.completed_ms ? millis(view.completed_ms - view.first_seen_ms) : null;
    const counted = view.transactions === null ? null
      : `${whole(view.transactions)} of ${whole(view.executed_transactions)}`;
    root.replaceChildren(pairs("pairs", [
      ["Slot", slotText(view.slot)],
      ["State", STATES[view.state]],
      ["Commitment", view.commitment],
      ["Came by", view.way],
      ["Parent", slotText(view.parent_slot)],
      ["Transactions", counted],
      ["Size", view.size_bytes ? bytes(view.size_bytes) : null],
      ["First seen", clock(view.first_seen_ms)],
      ["Block meta", clock(view.completed_ms)],
      ["Took", took],
      ["Whole versions", whole(view.versions)],
      ["Blockhash", view.blockhash],
      ...(view.reason ? [["Why", view.reason]] : []),
    ]));
  }
}
