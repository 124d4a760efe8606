use proptest::prelude::*;

use super::*;

struct NoBridges;

impl Bridges for NoBridges {
    fn between(&self, from: &str, to: &str) -> Vec<&'static str> {
        if (from, to) == ("updates", "blocks") { vec!["gap_detector"] } else { Vec::new() }
    }
}

fn node(section: Section, name: &str, inputs: &[&str]) -> GraphNode {
    let read = |(index, from): (usize, &&str)| Read { from: (*from).to_owned(), span: index..index + 1 };
    GraphNode {
        section,
        name: name.to_owned(),
        span: 0..1,
        kind: "kind".to_owned(),
        takes: if section == Section::Sources { Takes::Nothing } else { Takes::Any },
        gives: match section {
            Section::Sources => Gives::Only("updates"),
            Section::Stages => Gives::Same,
            Section::Sinks => Gives::Nothing,
        },
        inputs_span: (section != Section::Sources).then_some(0..1),
        inputs: inputs.iter().enumerate().map(read).collect(),
        is_whole: true,
    }
}

fn source(name: &str) -> GraphNode {
    node(Section::Sources, name, &[])
}

fn stage(name: &str, inputs: &[&str]) -> GraphNode {
    node(Section::Stages, name, inputs)
}

fn sink(name: &str, inputs: &[&str]) -> GraphNode {
    node(Section::Sinks, name, inputs)
}

fn check(nodes: &[GraphNode]) -> (Vec<usize>, Vec<(Code, String)>) {
    let mut found = Vec::new();
    let order = Graph::connect(nodes, &NoBridges, &mut found).order;
    (order, found.into_iter().map(|one| (one.code, one.message)).collect())
}

fn codes(nodes: &[GraphNode]) -> Vec<Code> {
    check(nodes).1.into_iter().map(|(code, _)| code).collect()
}

#[test]
fn nodes_are_ordered_after_what_they_read_whatever_the_order_of_the_text() {
    let nodes = [sink("out", &["b"]), stage("b", &["a", "in"]), stage("a", &["in"]), source("in")];
    assert_eq!(check(&nodes), (vec![3, 2, 1, 0], Vec::new()));
}

#[test]
fn a_cycle_is_named_as_a_whole_and_what_depends_on_it_is_not_ordered() {
    let nodes = [
        source("in"),
        stage("a", &["in", "c"]),
        stage("b", &["a"]),
        stage("c", &["b"]),
        stage("d", &["c"]),
        sink("out", &["d"]),
    ];
    let (order, found) = check(&nodes);
    assert_eq!(order, [0]);
    let message = "these nodes read each other in a cycle: a → b → c → a".to_owned();
    assert_eq!(found, [(Code::Cycle, message)]);
}

#[test]
fn cycles_that_share_no_node_are_all_reported() {
    let nodes = [
        source("in"),
        stage("a", &["b", "in"]),
        stage("b", &["a"]),
        stage("c", &["d", "a"]),
        stage("d", &["c"]),
        sink("out", &["d"]),
    ];
    assert_eq!(codes(&nodes), [Code::Cycle, Code::Cycle]);
}

#[test]
fn a_node_that_reads_itself_is_told_so_once() {
    let nodes = [source("in"), stage("a", &["a", "in"]), sink("out", &["a"])];
    assert_eq!(codes(&nodes), [Code::SelfLoop]);
}

#[test]
fn a_misspelled_input_does_not_also_report_the_node_that_was_meant() {
    let nodes = [source("ams"), source("us"), sink("out", &["amz", "us"])];
    let (_, found) = check(&nodes);
    assert_eq!(found, [(Code::UnknownInput, "sink `out` reads `amz`, which does not exist".to_owned())]);
}

#[test]
fn a_flow_passes_through_stages_that_give_what_they_take() {
    let blocks = GraphNode { takes: Takes::Only("blocks"), ..sink("out", &["b"]) };
    let nodes = [source("in"), stage("b", &["in"]), blocks];
    let mut found = Vec::new();
    Graph::connect(&nodes, &NoBridges, &mut found);
    assert_eq!(found[0].message, "sink `out` takes blocks, but stage `b` gives updates");
    assert_eq!(found[0].help, ["put a stage between that turns updates into blocks: type `gap_detector`"]);
}

#[test]
fn a_cycle_does_not_hide_a_wrong_flow_behind_it() {
    let blocks = GraphNode { takes: Takes::Only("blocks"), ..sink("out", &["a"]) };
    let a = GraphNode { gives: Gives::Only("updates"), ..stage("a", &["in", "b"]) };
    assert_eq!(codes(&[source("in"), a, stage("b", &["a"]), blocks]), [Code::Cycle, Code::WrongFlow]);
}

#[test]
fn two_flows_do_not_mix_in_a_stage_that_passes_them_on() {
    let detector = GraphNode { gives: Gives::Only("blocks"), ..stage("d", &["in"]) };
    let nodes = [source("in"), detector, stage("b", &["in", "d"]), sink("out", &["b"])];
    assert_eq!(codes(&nodes), [Code::WrongFlow]);
}

#[test]
fn a_node_of_unknown_kind_causes_no_flow_errors_downstream() {
    let unknown = GraphNode { gives: Gives::Unknown, ..stage("u", &["in"]) };
    let blocks = GraphNode { takes: Takes::Only("blocks"), ..sink("out", &["u"]) };
    assert_eq!(codes(&[source("in"), unknown, blocks]), []);
}

#[test]
fn each_way_to_be_disconnected_is_reported() {
    let with_inputs = GraphNode { inputs_span: Some(0..1), ..source("in") };
    let nodes =
        [with_inputs, stage("none", &[]), stage("twice", &["in", "in"]), sink("out", &["twice", "other"])];
    let expected =
        [Code::SourceWithInputs, Code::MissingInputs, Code::DuplicateInput, Code::UnknownInput, Code::Unread];
    assert_eq!(codes(&nodes), expected);
    assert_eq!(codes(&[source("in"), sink("a", &["in"]), sink("b", &["a"])]), [Code::SinkAsInput]);
    assert_eq!(codes(&[]), [Code::Incomplete, Code::Incomplete]);
}

#[test]
fn a_path_that_avoids_a_node_is_found_if_there_is_one() {
    let nodes = [
        source("x"),
        source("y"),
        stage("gate", &["x"]),
        stage("join", &["gate", "y"]),
        sink("out", &["join"]),
    ];
    let mut found = Vec::new();
    let graph = Graph::connect(&nodes, &NoBridges, &mut found);
    let is_gate = |node: usize| nodes[node].name == "gate";
    assert_eq!(graph.path_without(4, &is_gate), Some(vec![1, 3, 4]));
    assert_eq!(graph.path_without(4, &|node| is_gate(node) || nodes[node].name == "y"), None);
    assert_eq!(graph.find_upstream(4, &is_gate), Some(2));
    assert_eq!(graph.find_upstream(2, &is_gate), None);
}

proptest! {
    #[test]
    fn any_graph_is_ordered_or_has_an_error(edges in prop::collection::vec((0..8usize, 0..8usize), 0..24)) {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let inputs = |node: usize| -> Vec<&str> {
            edges.iter().filter(|(_, to)| *to == node).map(|(from, _)| names[*from]).collect()
        };
        let nodes: Vec<_> = (0..8).map(|index| stage(names[index], &inputs(index))).collect();
        let (order, found) = check(&nodes);
        let has_cycle = found.iter().any(|(code, _)| *code == Code::Cycle);
        prop_assert_eq!(order.len() < nodes.len(), has_cycle);
    }
}
