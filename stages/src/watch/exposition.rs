//! The metrics of a pipeline as Prometheus text (exposition format 0.0.4).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Watch;
use super::help::help;
use crate::edge::EdgeSnapshot;
use crate::stage::Label;

/// What every family's name begins with.
const PREFIX: &str = "sluice_";

/// All samples of one family, each with its labels.
type Families = BTreeMap<String, Vec<(String, f64)>>;

impl Watch {
    /// What all nodes, edges and the memory budget show now. A family that ends in `_total` is a counter, every other
    /// one a gauge.
    pub fn exposition(&self) -> String {
        let mut families = Families::new();
        self.expose_nodes(&mut families);
        for endpoint in self.endpoints() {
            let region = endpoint.options.region.as_deref().unwrap_or_default();
            let pairs = [("endpoint", &*endpoint.name), ("region", region)];
            add(&mut families, "endpoint_info", labels(&pairs), 1.0);
        }
        for (from, to, snapshot) in self.edges() {
            expose_edge(&mut families, &labels(&[("from", from), ("to", to)]), &snapshot);
        }
        let budget = self.budget();
        let sizes = [
            ("memory_limit_bytes", budget.limit_bytes()),
            ("memory_used_bytes", budget.used_bytes()),
            ("memory_peak_bytes", budget.peak_bytes()),
        ];
        for (name, bytes) in sizes {
            add(&mut families, name, String::new(), bytes as f64);
        }
        render(&families)
    }

    fn expose_nodes(&self, families: &mut Families) {
        for (node, kind, metrics) in self.metrics() {
            for metric in metrics {
                let own = match metric.label {
                    Some((key, Label::Word(word))) => Some((key, word)),
                    Some((key, Label::Endpoint(endpoint))) => Some((key, self.endpoint(endpoint))),
                    None => None,
                };
                let mut pairs = vec![("node", node), ("kind_of_node", kind)];
                pairs.extend(own);
                add(families, metric.name, labels(&pairs), metric.value);
            }
        }
    }
}

fn expose_edge(families: &mut Families, labels: &str, edge: &EdgeSnapshot) {
    let samples = [
        ("edge_sent_items_total", edge.sent_items as f64),
        ("edge_sent_bytes_total", edge.sent_bytes as f64),
        ("edge_received_items_total", edge.received_items as f64),
        ("edge_received_bytes_total", edge.received_bytes as f64),
        ("edge_dropped_items_total", edge.dropped_items as f64),
        ("edge_blocked_seconds_total", edge.blocked.as_secs_f64()),
        ("edge_starved_seconds_total", edge.starved.as_secs_f64()),
        ("edge_high_water_bytes", edge.high_water_bytes as f64),
    ];
    for (name, value) in samples {
        add(families, name, labels.to_owned(), value);
    }
}

fn add(families: &mut Families, name: &str, labels: String, value: f64) {
    families.entry(format!("{PREFIX}{name}")).or_default().push((labels, value));
}

/// `{key="value",…}`, with what the format wants escaped.
fn labels(pairs: &[(&str, &str)]) -> String {
    let pair = |(key, value): &(&str, &str)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{key}=\"{value}\"")
    };
    format!("{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(","))
}

fn render(families: &Families) -> String {
    let mut text = String::new();
    for (name, samples) in families {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        let meaning = help(name.strip_prefix(PREFIX).unwrap_or(name));
        // Writing to a string can't fail.
        writeln!(text, "# HELP {name} {meaning}").ok();
        writeln!(text, "# TYPE {name} {kind}").ok();
        for (labels, value) in samples {
            writeln!(text, "{name}{labels} {value}").ok();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_typed_by_their_names_and_labels_are_escaped() {
        let mut families = Families::new();
        add(&mut families, "gaps_total", labels(&[("node", "a\"b\\c")]), 3.0);
        add(&mut families, "holes", String::new(), 0.0);
        let expected = "# HELP sluice_gaps_total Gaps, counted since the start.\n\
                        # TYPE sluice_gaps_total counter\nsluice_gaps_total{node=\"a\\\"b\\\\c\"} 3\n\
                        # HELP sluice_holes Slots that can't be had for now.\n\
                        # TYPE sluice_holes gauge\nsluice_holes 0\n";
        assert_eq!(render(&families), expected);
    }

    #[test]
    fn an_edge_shows_what_it_blocked() {
        let mut families = Families::new();
        let edge =
            EdgeSnapshot { blocked: std::time::Duration::from_millis(1_500), ..EdgeSnapshot::default() };
        expose_edge(&mut families, "{}", &edge);
        assert_eq!(families["sluice_edge_blocked_seconds_total"], [("{}".to_owned(), 1.5)]);
    }
}
