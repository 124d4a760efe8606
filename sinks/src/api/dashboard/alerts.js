// Alerts and silences.

import { get, send } from "./connection.js";
import { byId, h, say, table } from "./dom.js";
import { count, duration, percent, when } from "./format.js";

const COLUMNS = [
  { title: "Severity", nowrap: true }, { title: "State", nowrap: true }, { title: "Rule", nowrap: true }, { title: "What" },
  { title: "Since", nowrap: true }, { title: "Lasts", nowrap: true }, { title: "Silence" },
];
function severity({ severity: word, state }) {
  return h("span", { class: `severity ${word}${state === "resolved" ? " over" : ""}` }, word);
}

function lasted({ fired_ms: fired, active_ms: active, resolved_ms: resolved }, now) {
  return duration((resolved ?? now) - (fired ?? active));
}

/** The list of alerts, and the dialog that silences one. */
export class Alerts {
  constructor() {
    this.view = { alerts: [], firing: {}, total: 0 };
    this.now = 0;
    this.shown = "";
    this.times = [];
    byId("alert-state").addEventListener("change", () => this.show(true));
    byId("silence-cancel").addEventListener("click", () => byId("silence-dialog").close());
    byId("silence-form").addEventListener("submit", (event) => this.submit(event));
  }

  /** What is known of alerts at a time of the server. */
  update(view, now) {
    [this.view, this.now] = [view, now];
    this.show(false);
  }

  show(anew) {
    const state = byId("alert-state").value;
    const alerts = this.view.alerts.filter((alert) => !state || alert.state === state);
    // Buttons keep their focus for as long as nothing but the time changes.
    const key = JSON.stringify(alerts.map((alert) => [alert.fingerprint, alert.state, alert.suppressed_by, alert.message, alert.active_ms]));
    if (!anew && key === this.shown) {
      alerts.forEach((alert, at) => say(this.times[at], lasted(alert, this.now)));
      return;
    }
    this.shown = key;
    this.times = alerts.map((alert) => h("span", {}, lasted(alert, this.now)));
    const rows = alerts.map((alert, at) => this.row(alert, this.times[at]));
    const none = state ? `No alert is ${state}.` : "No rule has anything to say.";
    byId("alerts").replaceChildren(rows.length ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of alerts" }, table(COLUMNS, rows))
      : h("p", { class: "empty" }, none));
  }

  row(alert, time) {
    const suppressed = alert.suppressed_by ? h("span", { class: "muted" }, " (not told)") : null;
    const button = alert.state === "resolved" ? "" : h("button", { type: "button", onclick: () => this.open(alert), "aria-label": `Silence ${alert.rule}` }, "Silence");
    return [severity(alert), h("span", {}, alert.state, suppressed), alert.rule, alert.message, when(alert.active_ms), time, button];
  }

  open(alert) {
    this.alert = alert;
    const own = Object.entries(alert.labels).map(([name, value]) => `${name} ${value}`);
    byId("silence-what").textContent = [`rule ${alert.rule}`, ...own].join(", ");
    byId("silence-problem").textContent = "";
    byId("silence-dialog").showModal();
  }

  async submit(event) {
    event.preventDefault();
    const form = new FormData(event.target);
    const own = Object.entries(this.alert.labels).map(([name, value]) => ({ name, value }));
    const body = {
      matchers: [{ name: "rule", value: this.alert.rule }, ...own],
      duration_seconds: Number(form.get("duration")), created_by: form.get("created_by"), comment: form.get("comment"),
    };
    try {
      await send("POST", "/api/v1/silences", body);
      byId("silence-dialog").close();
      await this.silences();
    } catch (error) {
      byId("silence-problem").textContent = error.message;
    }
  }

  /** Reads the silences anew. */
  async silences() {
    const { silences } = await get("/api/v1/silences");
    const open = silences.filter(({ state }) => state !== "expired");
    const end = async (id) => {
      // If the server is away, the list is read anew once it is back.
      await send("DELETE", `/api/v1/silences/${id}`).then(() => this.silences()).catch(() => {});
    };
    const columns = [{ title: "What" }, { title: "Until", nowrap: true }, { title: "By" }, { title: "Why" }, { title: "End" }];
    const rows = open.map((one) => [one.matchers.join(", "), when(one.ends_ms), one.created_by, one.comment,
      h("button", { type: "button", onclick: () => end(one.id), "aria-label": `End the silence of ${one.matchers.join(", ")}` }, "End")]);
    byId("silences").replaceChildren(rows.length ? table(columns, rows) : h("p", { class: "muted" }, "Nothing is silenced."));
  }
}

/** What the monitor says of trends: `trend_degradation`, a confidence from 0 to 1 for each thing it watches. */
export function showTrends(readings) {
  const trends = readings.filter(({ metric }) => metric === "trend_degradation");
  const other = (name, labels) => readings.find((one) => one.metric === name && one.labels.of === labels.of)?.value;
  const rows = trends.sort((a, b) => b.value - a.value).slice(0, 12).map(({ labels, value }) => {
    const words = value > 0.95 ? ["getting worse", "bad"] : value > 0.8 ? ["may be getting worse", "warned"] : ["steady", "muted"];
    const [effect, slope] = [other("trend_effect_ratio", labels), other("trend_slope_per_minute", labels)];
    return [(labels.of ?? "").replaceAll("_", " "), h("span", { class: words[1] }, words[0]), `${Math.round(value * 100)} %`, percent(effect), count(slope)];
  });
  const columns = [{ title: "Of" }, { title: "Trend", nowrap: true }, { title: "Confidence", number: true }, { title: "Change", number: true }, { title: "Slope a minute", number: true }];
  byId("trends").replaceChildren(rows.length ? table(columns, rows)
    : h("p", { class: "empty" }, readings.length ? "There is no trend yet: the monitor needs a baseline first." : "No monitor feeds this API."));
}
