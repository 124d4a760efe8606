//! `sluice graph`: draws a pipeline.

mod drawing;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use sluice_config::units::format_bytes;
use sluice_stages::component::Role;
use sluice_stages::edge::{EdgeConfig, WhenFull};

use crate::overrides::Overrides;
use crate::plan::Plan;
use crate::report::{self, EXIT_CONFIG};
use drawing::{DrawnEdge, DrawnNode, drawn};

/// Arguments of `sluice graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// The pipeline's file; `-` is standard input.
    #[arg(value_name = "PIPELINE.toml")]
    pub pipeline: PathBuf,
    /// What to draw it for.
    #[arg(long, value_enum, default_value_t)]
    pub format: GraphFormat,
    /// Values over those of the file.
    #[command(flatten)]
    pub overrides: Overrides,
}

/// What `sluice graph` draws for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum GraphFormat {
    /// The terminal.
    #[default]
    Text,
    /// Graphviz.
    Dot,
    /// Mermaid, as Markdown renders it.
    Mermaid,
}

/// Draws the pipeline. The exit code is 78 if it has errors.
pub fn run(args: &GraphArgs) -> ExitCode {
    match args.overrides.load(&args.pipeline) {
        Ok(plan) => {
            report::show(&plan.warnings);
            report::print(&draw(&plan, args.format));
            ExitCode::SUCCESS
        }
        Err(diagnostics) => {
            report::show(&diagnostics);
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn draw(plan: &Plan, format: GraphFormat) -> String {
    let nodes = drawn(plan);
    match format {
        GraphFormat::Text => text(&nodes),
        GraphFormat::Dot => dot(&plan.settings.name, &nodes),
        GraphFormat::Mermaid => mermaid(&nodes),
    }
}

/// Every edge with the node that it leads to.
fn edges(nodes: &[DrawnNode]) -> impl Iterator<Item = (usize, &DrawnEdge)> {
    nodes.iter().enumerate().flat_map(|(to, node)| node.inputs.iter().map(move |edge| (to, edge)))
}

fn bounds(config: EdgeConfig) -> String {
    let bytes = format_bytes(u64::try_from(config.capacity_bytes).unwrap_or(u64::MAX));
    format!("{} items, {bytes}, {}", config.capacity_items, policy(config.when_full))
}

fn policy(when_full: WhenFull) -> &'static str {
    match when_full {
        WhenFull::Block => "block",
        WhenFull::DropNewest => "drop_newest",
    }
}

fn dot(name: &str, nodes: &[DrawnNode]) -> String {
    let name = name.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = format!("digraph \"{name}\" {{\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n");
    for node in nodes {
        let shape = match node.role {
            Role::Source => "cds",
            Role::Stage => "box",
            Role::Sink => "cylinder",
        };
        text.push_str(&format!("  \"{0}\" [shape={shape}, label=\"{0}\\n{1}\"];\n", node.name, node.kind));
    }
    for (to, edge) in edges(nodes) {
        let style = if edge.lossless { "solid" } else { "dashed" };
        text.push_str(&format!(
            "  \"{}\" -> \"{}\" [style={style}, label=\"{}\"];\n",
            nodes[edge.from].name,
            nodes[to].name,
            edge.label.replace(", ", "\\n")
        ));
    }
    text.push_str("}\n");
    text
}

fn mermaid(nodes: &[DrawnNode]) -> String {
    let mut text = "flowchart LR\n".to_owned();
    for (position, node) in nodes.iter().enumerate() {
        let (open, close) = match node.role {
            Role::Source => ("([", "])"),
            Role::Stage => ("[", "]"),
            Role::Sink => ("[(", ")]"),
        };
        // Positions as ids: a node may be called `end`, which means something to Mermaid.
        text.push_str(&format!("  n{position}{open}\"{}<br/>{}\"{close}\n", node.name, node.kind));
    }
    for (to, edge) in edges(nodes) {
        let arrow = if edge.lossless { "-->" } else { "-.->" };
        text.push_str(&format!("  n{} {arrow}|\"{}\"| n{to}\n", edge.from, edge.label));
    }
    text
}

/// One line for each node in the order of the flow; at the left, the edges run down in lanes.
fn text(nodes: &[DrawnNode]) -> String {
    let rows = lanes(nodes);
    let lanes_chars = rows.iter().map(|row| row.lanes.chars().count()).max().unwrap_or(0);
    let name_chars = nodes.iter().map(|node| node.name.len()).max().unwrap_or(0);
    let kind_chars = nodes.iter().map(|node| node.kind.len()).max().unwrap_or(0);
    let line = |row: &Row| {
        let label = row.node.map_or_else(String::new, |position| {
            let node = &nodes[position];
            let reads = reads(nodes, node);
            format!("  {:<name_chars$}  {:<kind_chars$}  {reads}", node.name, node.kind)
        });
        format!("{:<lanes_chars$}{label}", row.lanes).trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// "← ams, us (65536 items, 16MiB, block)"; inputs with the same bounds share them.
fn reads(nodes: &[DrawnNode], node: &DrawnNode) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for edge in &node.inputs {
        let name = nodes[edge.from].name.as_str();
        match groups.iter_mut().find(|(label, _)| *label == edge.label) {
            Some((_, names)) => names.push(name),
            None => groups.push((&edge.label, vec![name])),
        }
    }
    let shown: Vec<_> =
        groups.iter().map(|(label, names)| format!("{} ({label})", names.join(", "))).collect();
    if shown.is_empty() { String::new() } else { format!("← {}", shown.join("; ")) }
}

/// A line of the picture.
struct Row {
    lanes: String,
    node: Option<usize>,
}

/// The lanes of a picture: which node's output runs down in each.
struct Lanes<'p> {
    nodes: &'p [DrawnNode],
    /// The last node that reads each node.
    last_reader: Vec<Option<usize>>,
    owners: Vec<Option<usize>>,
    rows: Vec<Row>,
}

fn lanes(nodes: &[DrawnNode]) -> Vec<Row> {
    let mut last_reader = vec![None; nodes.len()];
    for (to, edge) in edges(nodes) {
        last_reader[edge.from] = last_reader[edge.from].max(Some(to));
    }
    let mut lanes = Lanes { nodes, last_reader, owners: Vec::new(), rows: Vec::new() };
    (0..nodes.len()).for_each(|node| lanes.place(node));
    lanes.rows
}

impl Lanes<'_> {
    fn place(&mut self, node: usize) {
        let inputs: Vec<usize> = self.nodes[node].inputs.iter().map(|edge| edge.from).collect();
        let is_input = |owner: &Option<usize>| owner.is_some_and(|owner| inputs.contains(&owner));
        let joined: Vec<usize> =
            (0..self.owners.len()).filter(|lane| is_input(&self.owners[*lane])).collect();
        let before = self.owners.clone();
        for lane in &joined {
            let ends = self.owners[*lane].is_some_and(|owner| self.last_reader[owner] == Some(node));
            if ends {
                self.owners[*lane] = None;
            }
        }
        let lane = self.free_lane(&joined);
        self.owners[lane] = Some(node);
        if !joined.is_empty() {
            self.rows.push(Row { lanes: self.connector(&before, &joined, lane), node: None });
        }
        self.rows.push(Row { lanes: self.nodes_row(lane, node), node: Some(node) });
        if self.last_reader[node].is_none() {
            self.owners[lane] = None;
        }
    }

    /// The leftmost lane that one of the inputs leaves; otherwise the leftmost that is free.
    fn free_lane(&mut self, joined: &[usize]) -> usize {
        let left = joined.iter().copied().find(|lane| self.owners[*lane].is_none());
        let lane = left.or_else(|| self.owners.iter().position(Option::is_none)).unwrap_or(self.owners.len());
        if lane == self.owners.len() {
            self.owners.push(None);
        }
        lane
    }

    fn nodes_row(&self, lane: usize, node: usize) -> String {
        let mark = match self.nodes[node].role {
            Role::Source => '○',
            Role::Stage => '●',
            Role::Sink => '■',
        };
        let symbol = |(position, owner): (usize, &Option<usize>)| match owner {
            _ if position == lane => mark,
            Some(_) => '│',
            None => ' ',
        };
        let symbols: Vec<_> = self.owners.iter().enumerate().map(symbol).collect();
        symbols.iter().map(|symbol| format!("{symbol} ")).collect::<String>().trim_end().to_owned()
    }

    /// The line above a node that leads its inputs' lanes to its own.
    fn connector(&self, before: &[Option<usize>], joined: &[usize], lane: usize) -> String {
        let first = joined.iter().copied().min().unwrap_or(lane).min(lane);
        let last = joined.iter().copied().max().unwrap_or(lane).max(lane);
        let mut text = String::new();
        for position in 0..self.owners.len() {
            let up = before.get(position).is_some_and(Option::is_some);
            let down = self.owners[position].is_some();
            let takes_part = joined.contains(&position) || position == lane;
            let between = first < last && (first..=last).contains(&position);
            let (left, right) = (between && position > first, between && position < last);
            text.push(match (takes_part, up, down) {
                (true, ..) => corner(up, down, left, right),
                (false, true, true) => '│',
                (false, ..) if left && right => '─',
                (false, ..) => ' ',
            });
            text.push(if right { '─' } else { ' ' });
        }
        text.trim_end().to_owned()
    }
}

fn corner(up: bool, down: bool, left: bool, right: bool) -> char {
    match (up, down, left, right) {
        (true, true, true, true) => '┼',
        (true, true, true, false) => '┤',
        (true, true, false, true) => '├',
        (true, true, false, false) => '│',
        (true, false, true, true) => '┴',
        (true, false, true, false) => '┘',
        (true, false, false, true) => '└',
        (true, false, false, false) => '╵',
        (false, true, true, true) => '┬',
        (false, true, true, false) => '┐',
        (false, true, false, true) => '┌',
        (false, true, false, false) => '╷',
        (false, false, ..) => '─',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::WHOLE;

    fn drawn(format: GraphFormat) -> String {
        draw(&Plan::parse("p.toml", WHOLE, &|_: &str| None).expect("it is whole"), format)
    }

    #[test]
    fn the_picture_shows_nodes_in_the_order_of_the_flow_with_their_edges() {
        let expected = "\
○    ams   yellowstone
│ ○  us    yellowstone
├─┤
● │  all   merge        ← ams, us (65536 items, 16MiB, block)
│ │
● │  once  dedupe       ← all (10 items, 16MiB, block)
│ │
│ ●  slow  batcher      ← us (65536 items, 16MiB, block)
├─┘
■    none  discard      ← once (65536 items, 16MiB, block); slow (65536 items, 16MiB, drop_newest)
";
        let shown = drawn(GraphFormat::Text);
        assert_eq!(shown, expected, "\n{shown}");
    }

    #[test]
    fn a_list_of_endpoints_is_drawn_as_its_endpoints_and_their_merge() {
        let text = r#"
[sources.main]
type = "yellowstone"
mode = "failover"
endpoints = [
  { url = "http://a", region = "eu", token = "hunter2" },
  { url = "http://b", region = "us", priority = 2 },
  { url = "http://c", name = "spare", role = "standby" },
]
[sinks.none]
type = "discard"
inputs = ["main"]
"#;
        let plan = Plan::parse("p.toml", text, &|_: &str| None).expect("it is whole");
        let expected = "\
○      main/eu     endpoint
│ ○    main/us     endpoint
│ │ ○  main/spare  endpoint
├─┴─┘
●      main        yellowstone, failover  ← main/eu (active, priority 1); main/us (active, priority 2); main/spare (standby, priority 1)
│
■      none        discard                ← main (65536 items, 16MiB, block)
";
        let shown = draw(&plan, GraphFormat::Text);
        assert_eq!(shown, expected, "\n{shown}");
        let dot = draw(&plan, GraphFormat::Dot);
        assert!(
            dot.contains("  \"main/us\" -> \"main\" [style=solid, label=\"active\\npriority 2\"];\n"),
            "{dot}"
        );
    }

    #[test]
    fn dot_names_nodes_and_bounds() {
        let shown = drawn(GraphFormat::Dot);
        assert!(shown.starts_with("digraph \"two \\\"ways\\\"\" {\n"), "{shown}");
        assert!(shown.contains("  \"ams\" [shape=cds, label=\"ams\\nyellowstone\"];\n"), "{shown}");
        let lossy = "  \"slow\" -> \"none\" [style=dashed, label=\"65536 items\\n16MiB\\ndrop_newest\"];\n";
        assert!(shown.contains(lossy), "{shown}");
        assert!(shown.ends_with("}\n"));
    }

    #[test]
    fn mermaid_calls_nodes_by_position() {
        let shown = drawn(GraphFormat::Mermaid);
        assert!(shown.contains("  n0([\"ams<br/>yellowstone\"])\n"), "{shown}");
        assert!(shown.contains("  n4 -.->|\"65536 items, 16MiB, drop_newest\"| n5\n"), "{shown}");
    }
}
