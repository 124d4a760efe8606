// The pipeline as a graph: nodes in columns by what they read, edges with their rates, the one that blocks in red.

import { byId, s, say } from "./dom.js";
import { bytes, count, percent } from "./format.js";

const NODE = { width: 136, height: 42, gapX: 40, gapY: 18 };
const BLOCKS = 0.05;

/** The column of each node: one behind the furthest that it reads. */
function columns({ nodes, edges }) {
  const column = new Map();
  for (const { name } of nodes) {
    const above = edges.filter(({ to }) => to === name).map(({ from }) => column.get(from) ?? 0);
    column.set(name, above.length ? Math.max(...above) + 1 : 0);
  }
  // A source stands right before what reads it.
  for (const { name, role } of nodes) {
    const below = edges.filter(({ from }) => from === name).map(({ to }) => column.get(to));
    if (role === "source" && below.length) column.set(name, Math.min(...below) - 1);
  }
  return column;
}

function layout(graph) {
  const column = columns(graph);
  const rows = new Map();
  const places = new Map();
  for (const { name } of graph.nodes) {
    const x = column.get(name);
    const y = rows.get(x) ?? 0;
    rows.set(x, y + 1);
    places.set(name, { x, y });
  }
  const most = Math.max(...rows.values(), 1);
  for (const place of places.values()) place.y += (most - rows.get(place.x)) / 2;
  return { places, columns: Math.max(...rows.keys(), 0) + 1, rows: most };
}

function path(from, to) {
  const x1 = from.x * (NODE.width + NODE.gapX) + NODE.width;
  const y1 = from.y * (NODE.height + NODE.gapY) + NODE.height / 2;
  const x2 = to.x * (NODE.width + NODE.gapX);
  const y2 = to.y * (NODE.height + NODE.gapY) + NODE.height / 2;
  const bend = Math.max((x2 - x1) / 2, 24);
  return { d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, x: x2 - NODE.gapX / 2, y: (y2 * 3 + y1) / 4 };
}

/** The graph; drawn anew only if its nodes change. */
export class Graph {
  constructor() {
    this.drawn = "";
    this.edges = [];
  }

  update(graph) {
    const key = JSON.stringify([graph.nodes.map(({ name }) => name), graph.edges.map(({ from, to }) => [from, to])]);
    if (key !== this.drawn) {
      this.drawn = key;
      this.draw(graph);
    }
    graph.edges.forEach((edge, at) => this.edge(edge, this.edges[at], graph.bottleneck === at));
    graph.nodes.forEach((node, at) => say(this.nodes[at], `${node.kind} · ${this.rate(node)}`));
    this.note(graph);
  }

  rate({ role, in_per_second: incoming, out_per_second: outgoing }) {
    return `${count(Math.round(role === "source" ? outgoing : incoming))}/s`;
  }

  draw(graph) {
    const { places, columns: across, rows } = layout(graph);
    const [width, height] = [across * (NODE.width + NODE.gapX) - NODE.gapX + 4, rows * (NODE.height + NODE.gapY) - NODE.gapY + 4];
    this.edges = graph.edges.map(({ from, to }) => this.newEdge(path(places.get(from), places.get(to))));
    this.nodes = [];
    const nodes = graph.nodes.map((node) => this.newNode(node, places.get(node.name)));
    const root = s("svg", { class: "graph", width, height, viewBox: `-2 -2 ${width} ${height}`, role: "group" },
      s("title", {}, "Nodes and edges of the pipeline"), this.edges.map(({ group }) => group), nodes);
    byId("graph").replaceChildren(root);
  }

  newEdge({ d, x, y }) {
    const line = s("path", { d });
    const label = s("text", { x, y: y - 5, "text-anchor": "middle" });
    const title = s("title");
    return { group: s("g", { class: "edge" }, title, line, label), line, label, title };
  }

  newNode({ name, kind }, { x, y }) {
    const [left, top] = [x * (NODE.width + NODE.gapX), y * (NODE.height + NODE.gapY)];
    const rate = s("text", { class: "kind", x: left + 10, y: top + 32 }, kind);
    this.nodes.push(rate);
    return s("g", { class: "node" }, s("rect", { x: left, y: top, width: NODE.width, height: NODE.height, rx: 7 }),
      s("text", { class: "name", x: left + 10, y: top + 17 }, name), rate);
  }

  edge(edge, { group, line, label, title }, holds) {
    const blocked = edge.blocked > BLOCKS;
    group.setAttribute("class", blocked ? "edge held" : "edge");
    line.setAttribute("stroke-width", String(1 + Math.min(4, Math.log10(1 + edge.items_per_second))));
    say(label, blocked ? percent(Math.round(edge.blocked * 100) / 100) : "");
    const dropped = edge.dropped_total ? `, ${count(edge.dropped_total)} dropped` : "";
    say(title, `${edge.from} to ${edge.to}: ${count(edge.items_per_second)} items/s, ${bytes(edge.bytes_per_second)}/s, `
      + `${percent(edge.fill)} full, sender blocked ${percent(edge.blocked)}, receiver starved ${percent(edge.starved)}${dropped}`
      + `${holds ? "; it holds the pipeline up" : ""}`);
  }

  note(graph) {
    const held = graph.bottleneck === null ? null : graph.edges[graph.bottleneck];
    const memory = `${bytes(graph.memory_used_bytes)} of ${bytes(graph.memory_limit_bytes)} in flight`;
    say(byId("graph-note"), held ? `${held.to} holds the pipeline up: ${held.from} waits ${percent(held.blocked)} of the time. ${memory}`
      : `Nothing blocks. ${memory}`);
  }
}
