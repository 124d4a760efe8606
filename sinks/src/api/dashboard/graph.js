// The pipeline as a graph: nodes in columns by what they read, edges with their rates, the one that blocks in red.

import { byId, s, say } from "./dom.js";
import { bytes, count, percent } from "./format.js";

const NODE = { width: 136, height: 42, gapX: 40, gapY: 18 };
/** The height of an edge that passes a column, in nodes. */
const PASS = 0.4;
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

/** A place for each node, and for each edge those by which it passes the columns between its ends: never behind a node. */
function layout(graph) {
  const column = columns(graph);
  const rows = new Map();
  const taken = [];
  const take = (x, height) => {
    const place = { x, y: rows.get(x) ?? 0 };
    rows.set(x, place.y + height);
    taken.push(place);
    return place;
  };
  const places = new Map(graph.nodes.map(({ name }) => [name, take(column.get(name), 1)]));
  const passes = graph.edges.map(({ from, to }) => {
    const [first, last] = [column.get(from) + 1, column.get(to)];
    return Array.from({ length: Math.max(0, last - first) }, (_, at) => take(first + at, PASS));
  });
  const most = Math.max(...rows.values(), 1);
  for (const place of taken) place.y += (most - rows.get(place.x)) / 2;
  return { places, passes, columns: Math.max(...rows.keys(), 0) + 1, rows: most };
}

const left = ({ x }) => x * (NODE.width + NODE.gapX);
const middle = ({ y }, height) => y * (NODE.height + NODE.gapY) + (NODE.height * height) / 2;

function path(from, passes, to) {
  const stops = [...passes.map((pass) => [left(pass), middle(pass, PASS), NODE.width]), [left(to), middle(to, 1), 0]];
  let [x, y] = [left(from) + NODE.width, middle(from, 1)];
  let d = `M${x} ${y}`;
  for (const [nextX, nextY, width] of stops) {
    const bend = Math.max((nextX - x) / 2, 24);
    d += `C${x + bend} ${y} ${nextX - bend} ${nextY} ${nextX} ${nextY}h${width}`;
    [x, y] = [nextX + width, nextY];
  }
  const [before] = passes.slice(-1);
  const y1 = before ? middle(before, PASS) : middle(from, 1);
  return { d, x: x - NODE.gapX / 2, y: (y * 3 + y1) / 4 };
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
    const { places, passes, columns: across, rows } = layout(graph);
    const [width, height] = [across * (NODE.width + NODE.gapX) - NODE.gapX + 4, rows * (NODE.height + NODE.gapY) - NODE.gapY + 4];
    this.edges = graph.edges.map(({ from, to }, at) => this.newEdge(path(places.get(from), passes[at], places.get(to))));
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
    const [edge, top] = [x * (NODE.width + NODE.gapX), y * (NODE.height + NODE.gapY)];
    const rate = s("text", { class: "kind", x: edge + 10, y: top + 32 }, kind);
    this.nodes.push(rate);
    return s("g", { class: "node" }, s("rect", { x: edge, y: top, width: NODE.width, height: NODE.height, rx: 7 }),
      s("text", { class: "name", x: edge + 10, y: top + 17 }, name), rate);
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
