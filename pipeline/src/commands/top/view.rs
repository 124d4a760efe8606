//! What `sluice top` shows, and how: no I/O but the questions to the API.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};
use serde::Deserialize;

use super::super::api_client::Api;

/// A sender that waits for more than this share of the time is held up.
const BLOCKED_SHARE: f64 = 0.05;

/// `GET /api/v1/graph`, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
struct Graph {
    pipeline: String,
    started_ms: u64,
    now_ms: u64,
    memory_used_bytes: u64,
    memory_limit_bytes: u64,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

#[derive(Debug, Default, Deserialize)]
struct Node {
    name: String,
    kind: String,
    in_per_second: f64,
    out_per_second: f64,
    #[serde(default)]
    metrics: Vec<Metric>,
}

#[derive(Debug, Deserialize)]
struct Metric {
    name: String,
    value: f64,
}

#[derive(Debug, Default, Deserialize)]
struct Edge {
    from: String,
    to: String,
    bytes_per_second: f64,
    fill: f64,
    blocked: f64,
    starved: f64,
    dropped_per_second: f64,
}

/// `GET /api/v1/endpoints`.
#[derive(Debug, Default, Deserialize)]
struct Endpoints {
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Default, Deserialize)]
struct Endpoint {
    name: String,
    connected: bool,
    tip_slot: Option<u64>,
    behind_slots: Option<u64>,
    win_share: f64,
    bytes_total: u64,
    sessions_total: u64,
    disconnects_total: BTreeMap<String, u64>,
}

/// `GET /api/v1/health`.
#[derive(Debug, Default, Deserialize)]
struct Health {
    status: String,
    components: Vec<Component>,
}

#[derive(Debug, Default, Deserialize)]
struct Component {
    name: String,
    status: String,
    detail: String,
}

/// A pipeline at one moment.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    graph: Graph,
    endpoints: Endpoints,
    health: Health,
}

impl Pipeline {
    /// Asks for all of it.
    pub(super) async fn read(api: &Api) -> anyhow::Result<Self> {
        let (graph, endpoints, health) = tokio::try_join!(
            api.get(&["api", "v1", "graph"]),
            api.get(&["api", "v1", "endpoints"]),
            api.get(&["api", "v1", "health"]),
        )?;
        Ok(Self { graph, endpoints, health })
    }

    fn metric(&self, name: &str) -> Option<u64> {
        let all = self.graph.nodes.iter().flat_map(|node| &node.metrics);
        all.filter(|metric| metric.name == name).map(|metric| metric.value as u64).max()
    }

    fn rows(&self) -> Vec<NodeRow> {
        self.graph.nodes.iter().map(|node| self.row(node)).collect()
    }

    fn row(&self, node: &Node) -> NodeRow {
        let inputs = || self.graph.edges.iter().filter(|edge| edge.to == node.name);
        let outputs = self.graph.edges.iter().filter(|edge| edge.from == node.name);
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        // The sum of no numbers would be -0.
        let total = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, |sum, value| sum + value);
        NodeRow {
            name: node.name.clone(),
            kind: node.kind.clone(),
            values: [
                node.in_per_second,
                node.out_per_second,
                total(&mut inputs().map(|edge| edge.bytes_per_second)),
                most(&mut inputs().map(|edge| edge.fill)),
                most(&mut outputs.map(|edge| edge.blocked)),
                inputs().map(|edge| edge.starved).reduce(f64::min).unwrap_or(0.0),
                total(&mut inputs().map(|edge| edge.dropped_per_second)),
            ],
        }
    }
}

/// Titles of the columns behind name and kind.
const COLUMNS: [&str; 7] = ["in/s", "out/s", "bytes in/s", "queue", "blocked", "starved", "dropped/s"];
/// The column of what a node waits for room.
const BLOCKED: usize = 4;

#[derive(Debug, Clone, PartialEq)]
struct NodeRow {
    name: String,
    kind: String,
    values: [f64; COLUMNS.len()],
}

impl NodeRow {
    fn cells(&self) -> impl Iterator<Item = String> + '_ {
        let show = |(column, value): (usize, &f64)| match column {
            2 => bytes(*value),
            3..=5 => format!("{:.0} %", value * 100.0),
            _ => format!("{value:.0}"),
        };
        self.values.iter().enumerate().map(show)
    }
}

/// A number, or a dash.
fn text(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// `12.3 MiB`.
fn bytes(value: f64) -> String {
    let mut value = value;
    let mut units = ["B", "KiB", "MiB", "GiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1_024.0
        && let Some(larger) = units.next()
    {
        (value, unit) = (value / 1_024.0, larger);
    }
    format!("{value:.1} {unit}")
}

/// The screen: what was read last, and in which order it is shown.
#[derive(Debug, Default)]
pub(super) struct Screen {
    pipeline: Pipeline,
    /// The column that nodes are sorted by; none for the order of the flow.
    sorted_by: Option<usize>,
    reversed: bool,
    failure: Option<String>,
}

impl Screen {
    /// Shows `pipeline` from now on.
    pub(super) fn show(&mut self, pipeline: Pipeline) {
        (self.pipeline, self.failure) = (pipeline, None);
    }

    /// The API did not answer.
    pub(super) fn fail(&mut self, reason: String) {
        self.failure = Some(reason);
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('s') => {
                let next = self.sorted_by.map_or(0, |column| column + 1);
                self.sorted_by = (next < COLUMNS.len()).then_some(next);
            }
            KeyCode::Char('r') => self.reversed = !self.reversed,
            _ => {}
        }
    }

    fn rows(&self) -> Vec<NodeRow> {
        let mut rows = self.pipeline.rows();
        if let Some(column) = self.sorted_by {
            rows.sort_by(|one, other| {
                other.values[column].partial_cmp(&one.values[column]).unwrap_or(Ordering::Equal)
            });
        }
        if self.reversed {
            rows.reverse();
        }
        rows
    }

    /// Draws everything.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let nodes = self.pipeline.graph.nodes.len() as u16 + 3;
        let areas = Layout::vertical([
            Constraint::Length(3),
            Constraint::Length(nodes),
            Constraint::Min(3),
            Constraint::Length(1),
        ]);
        let [head, middle, bottom, foot] = areas.areas(frame.area());
        frame.render_widget(Paragraph::new(self.head()), head);
        self.draw_nodes(frame, middle);
        self.draw_endpoints(frame, bottom);
        let hint = self.failure.clone().unwrap_or_else(|| "s sort  r reverse  q quit".to_owned());
        let style = if self.failure.is_some() {
            Style::new().fg(Color::Red)
        } else {
            Style::new().add_modifier(Modifier::DIM)
        };
        frame.render_widget(Paragraph::new(hint).style(style), foot);
    }

    fn head(&self) -> Vec<Line<'static>> {
        let Pipeline { graph, health, .. } = &self.pipeline;
        let colour = match health.status.as_str() {
            "pass" => Color::Green,
            "warn" => Color::Yellow,
            _ => Color::Red,
        };
        let up = graph.now_ms.saturating_sub(graph.started_ms) / 1_000;
        let wrong: Vec<String> = health
            .components
            .iter()
            .filter(|one| one.status != "pass")
            .map(|one| format!("{}: {}", one.name, one.detail))
            .collect();
        let value = |name| self.pipeline.metric(name).filter(|value| *value > 0);
        let (tip, watermark) = (value("tip_slot"), value("watermark_slot"));
        let lag = tip.zip(watermark).map(|(tip, watermark)| tip.saturating_sub(watermark));
        vec![
            Line::from(vec![
                Span::styled(graph.pipeline.clone(), Style::new().add_modifier(Modifier::BOLD)),
                Span::raw(format!("  up {up} s  ")),
                Span::styled(health.status.clone(), Style::new().fg(colour)),
                Span::raw(format!("  {}", wrong.join(", "))),
            ]),
            Line::raw(format!(
                "tip {}  watermark {}  lag {} slots  holes {}  memory {} of {}",
                text(tip),
                text(watermark),
                text(lag),
                self.pipeline.metric("holes").unwrap_or(0),
                bytes(graph.memory_used_bytes as f64),
                bytes(graph.memory_limit_bytes as f64),
            )),
        ]
    }

    fn draw_nodes(&self, frame: &mut Frame<'_>, area: Rect) {
        let title = |column: usize, title: &str| match self.sorted_by {
            Some(sorted) if sorted == column => format!("{title}*"),
            _ => title.to_owned(),
        };
        let titles = COLUMNS.iter().enumerate().map(|(column, name)| title(column, name));
        let head = ["node".to_owned(), "kind".to_owned()].into_iter().chain(titles);
        let rows = self.rows().into_iter().map(|row| {
            let held = row.values[BLOCKED] > BLOCKED_SHARE;
            let style = if held { Style::new().fg(Color::Red) } else { Style::new() };
            Row::new([row.name.clone(), row.kind.clone()].into_iter().chain(row.cells())).style(style)
        });
        let widths = [16, 14, 9, 9, 12, 7, 8, 8, 9].map(Constraint::Length);
        frame.render_widget(table(rows, widths, head, " Nodes "), area);
    }

    fn draw_endpoints(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.pipeline.endpoints.endpoints.iter().map(|one| {
            let state = if one.connected { "connected" } else { "not connected" };
            let style = if one.connected { Style::new() } else { Style::new().fg(Color::Red) };
            Row::new([
                one.name.clone(),
                state.to_owned(),
                text(one.tip_slot),
                text(one.behind_slots),
                format!("{:.1} %", one.win_share * 100.0),
                bytes(one.bytes_total as f64),
                one.sessions_total.to_string(),
                one.disconnects_total.values().sum::<u64>().to_string(),
            ])
            .style(style)
        });
        let head = ["endpoint", "state", "tip", "behind", "wins", "received", "sessions", "disconnects"];
        let widths = [16, 14, 12, 7, 8, 11, 9, 11].map(Constraint::Length);
        frame.render_widget(table(rows, widths, head.map(str::to_owned), " Endpoints "), area);
    }
}

fn table<'t>(
    rows: impl Iterator<Item = Row<'t>>,
    widths: impl IntoIterator<Item = Constraint>,
    head: impl IntoIterator<Item = String>,
    title: &'static str,
) -> Table<'t> {
    let head = Row::new(head.into_iter().map(Cell::from)).style(Style::new().add_modifier(Modifier::BOLD));
    Table::new(rows, widths).header(head).block(Block::bordered().title(title))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> Screen {
        let node = |name: &str| Node { name: name.to_owned(), ..Node::default() };
        let edge = |from: &str, to: &str, blocked: f64| Edge {
            from: from.to_owned(),
            to: to.to_owned(),
            blocked,
            ..Edge::default()
        };
        let graph = Graph {
            nodes: vec![node("a"), node("b"), node("c")],
            edges: vec![edge("a", "b", 0.1), edge("b", "c", 0.9)],
            ..Graph::default()
        };
        Screen { pipeline: Pipeline { graph, ..Pipeline::default() }, ..Screen::default() }
    }

    fn names(screen: &Screen) -> Vec<String> {
        screen.rows().into_iter().map(|row| row.name).collect()
    }

    #[test]
    fn nodes_are_in_the_order_of_the_flow_until_they_are_sorted() {
        let mut screen = screen();
        assert_eq!(names(&screen), ["a", "b", "c"]);
        (0..=BLOCKED).for_each(|_| screen.press(KeyCode::Char('s')));
        assert_eq!(names(&screen), ["b", "a", "c"], "by the share that they are blocked");
        screen.press(KeyCode::Char('r'));
        assert_eq!(names(&screen), ["c", "a", "b"]);
    }

    #[test]
    fn every_column_comes_round() {
        let mut screen = screen();
        (0..=COLUMNS.len()).for_each(|_| screen.press(KeyCode::Char('s')));
        assert_eq!(screen.sorted_by, None);
    }

    #[test]
    fn sizes_are_in_the_unit_that_fits() {
        assert_eq!(bytes(0.0), "0.0 B");
        assert_eq!(bytes(1_536.0), "1.5 KiB");
        assert_eq!(bytes(5e12), "4656.6 GiB");
    }
}
