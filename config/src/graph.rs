//! The graph of a pipeline: who reads whom, in which order, and whether what flows along each edge fits.
//!
//! Needs names and flows only, so it knows nothing of what the nodes do. A node is called by its position in the list.

use std::collections::HashMap;

use crate::diagnostic::{Code, Diagnostic, Span, quote};
use crate::document::{NodeTable, Section};
use crate::spelling::suggest;

/// What a node takes in. A flow is called by its word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Takes {
    /// It is a source.
    Nothing,
    /// One flow.
    Only(&'static str),
    /// Any of several.
    AnyOf(Vec<&'static str>),
    /// Whatever comes.
    Any,
}

/// What a node gives out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gives {
    /// It is a sink.
    Nothing,
    /// One flow.
    Only(&'static str),
    /// What comes in.
    Same,
    /// Nobody knows, because its kind is not known.
    Unknown,
}

/// An input of a node: the name, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The name of the node that is read.
    pub from: String,
    /// Where that is said.
    pub span: Span,
}

/// A node, as far as the graph is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphNode {
    /// Its section.
    pub section: Section,
    /// Its name.
    pub name: String,
    /// Where the name is.
    pub span: Span,
    /// The word for its kind; empty if it has none.
    pub kind: String,
    /// What it takes in.
    pub takes: Takes,
    /// What it gives out.
    pub gives: Gives,
    /// Where the key `inputs` is, if there is one.
    pub inputs_span: Option<Span>,
    /// What it reads.
    pub inputs: Vec<Read>,
    /// Whether these are all of its inputs; not, if some could not be understood.
    pub is_whole: bool,
}

impl GraphNode {
    /// The node that `table` is, if its kind takes and gives this.
    pub fn new(table: &NodeTable<'_>, takes: Takes, gives: Gives) -> Self {
        let inputs = table.inputs.as_ref();
        let read = |input: &crate::document::Input<'_>| Read {
            from: input.from.get_ref().clone(),
            span: input.from.span(),
        };
        Self {
            section: table.section,
            name: table.name.get_ref().clone(),
            span: table.name.span(),
            kind: table.kind.as_ref().map(|kind| kind.get_ref().clone()).unwrap_or_default(),
            takes,
            gives,
            inputs_span: inputs.map(|inputs| inputs.span.clone()),
            inputs: inputs.into_iter().flat_map(|inputs| inputs.list.iter().map(read)).collect(),
            is_whole: inputs.is_none_or(|inputs| inputs.is_whole),
        }
    }

    fn title(&self) -> String {
        format!("{} {}", self.section.noun(), quote(&self.name))
    }
}

/// Which kinds turn one flow into another.
pub trait Bridges {
    /// The kinds that take `from` and give `to`.
    fn between(&self, from: &str, to: &str) -> Vec<&'static str>;
}

/// A graph whose edges are known.
#[derive(Debug)]
pub struct Graph<'g> {
    nodes: &'g [GraphNode],
    /// For each node, the nodes that it reads and can read.
    upstream: Vec<Vec<usize>>,
    order: Vec<usize>,
}

impl<'g> Graph<'g> {
    /// Connects `nodes`. Everything that does not fit goes to `found`, and no edge that does not exist to the graph.
    pub fn connect(nodes: &'g [GraphNode], bridges: &dyn Bridges, found: &mut Vec<Diagnostic>) -> Self {
        let mut connector = Connector { nodes, meant: Vec::new(), found };
        let upstream = connector.edges();
        connector.unread(&upstream);
        connector.incomplete();
        let order = sort(&upstream);
        if order.len() < nodes.len() {
            connector.cycles(&upstream, &order);
        }
        let graph = Self { nodes, upstream, order };
        graph.check_flows(bridges, found);
        graph
    }

    /// Nodes in an order in which each stands after all that it reads, otherwise in the order of the text. Nodes of a
    /// cycle, and what depends on them, are not there.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The nodes that `node` reads.
    pub fn upstream(&self, node: usize) -> &[usize] {
        &self.upstream[node]
    }

    /// A way from a source to `node` (both included) on which no node passes `test`, if there is one. `node` itself is
    /// not tested.
    pub fn path_without(&self, node: usize, test: &dyn Fn(usize) -> bool) -> Option<Vec<usize>> {
        let mut seen = vec![false; self.nodes.len()];
        let mut path = Vec::new();
        self.search(node, test, &mut seen, &mut path).then(|| path.into_iter().rev().collect())
    }

    fn search(
        &self,
        node: usize,
        test: &dyn Fn(usize) -> bool,
        seen: &mut [bool],
        path: &mut Vec<usize>,
    ) -> bool {
        if std::mem::replace(&mut seen[node], true) {
            return false;
        }
        path.push(node);
        if self.nodes[node].section == Section::Sources {
            return true;
        }
        let open = |next: &&usize| !test(**next);
        let found = self.upstream[node].iter().filter(open).any(|next| self.search(*next, test, seen, path));
        if !found {
            path.pop();
        }
        found
    }

    /// A node somewhere upstream of `node` that passes `test`.
    pub fn find_upstream(&self, node: usize, test: &dyn Fn(usize) -> bool) -> Option<usize> {
        let mut seen = vec![false; self.nodes.len()];
        let mut open = self.upstream[node].clone();
        while let Some(next) = open.pop() {
            if std::mem::replace(&mut seen[next], true) {
                continue;
            }
            if test(next) {
                return Some(next);
            }
            open.extend(&self.upstream[next]);
        }
        None
    }

    fn check_flows(&self, bridges: &dyn Bridges, found: &mut Vec<Diagnostic>) {
        let given = |node: &GraphNode| match node.gives {
            Gives::Only(flow) => Some(flow),
            _ => None,
        };
        let mut flows: Vec<_> = self.nodes.iter().map(given).collect();
        let unordered = (0..self.nodes.len()).filter(|node| !self.order.contains(node));
        for position in self.order.iter().copied().chain(unordered) {
            let node = &self.nodes[position];
            let mut incoming: Option<(&'static str, &Read)> = None;
            for read in &node.inputs {
                let from = self.upstream[position].iter().find(|from| self.nodes[**from].name == read.from);
                let Some((from, flow)) = from.and_then(|from| Some((*from, flows[*from]?))) else { continue };
                match (&node.takes, incoming) {
                    (Takes::Only(wanted), _) if *wanted != flow => {
                        found.push(self.wrong_flow(node, read, from, flow, &[wanted], bridges));
                    }
                    (Takes::AnyOf(wanted), _) if !wanted.contains(&flow) => {
                        found.push(self.wrong_flow(node, read, from, flow, wanted, bridges));
                    }
                    (Takes::Any, Some((first, at))) if node.gives == Gives::Same && first != flow => {
                        found.push(mixed(node, read, flow, at, first));
                    }
                    _ => incoming = incoming.or(Some((flow, read))),
                }
            }
            if node.gives == Gives::Same {
                flows[position] = incoming.map(|(flow, _)| flow);
            }
        }
    }

    fn wrong_flow(
        &self,
        node: &GraphNode,
        read: &Read,
        from: usize,
        flow: &str,
        wanted: &[&str],
        bridges: &dyn Bridges,
    ) -> Diagnostic {
        let from = &self.nodes[from];
        let bridges = wanted.iter().flat_map(|wanted| bridges.between(flow, wanted));
        let kinds: Vec<_> = bridges.map(|kind| format!("`{kind}`")).collect();
        let wanted = wanted.join(" or ");
        let title = format!("{} takes {wanted}, but {} gives {flow}", node.title(), from.title());
        let help = if kinds.is_empty() {
            format!("read a node that gives {wanted}; no kind of stage turns {flow} into {wanted}")
        } else {
            format!("put a stage between that turns {flow} into {wanted}: type {}", kinds.join(" or "))
        };
        Diagnostic::error(Code::WrongFlow, title)
            .at(read.span.clone(), format!("gives {flow}, not {wanted}"))
            .context(from.span.clone(), kind_label(from))
            .help(help)
    }
}

fn kind_label(node: &GraphNode) -> String {
    if node.kind.is_empty() { String::new() } else { format!("is of type {}", quote(&node.kind)) }
}

fn mixed(node: &GraphNode, read: &Read, flow: &str, first: &Read, first_flow: &str) -> Diagnostic {
    Diagnostic::error(Code::WrongFlow, format!("{} reads two kinds of items at once", node.title()))
        .at(read.span.clone(), format!("gives {flow}"))
        .context(first.span.clone(), format!("gives {first_flow}"))
        .help("give each its own stage, or bring both to the same kind of items first")
}

/// Finds the edges, and what is wrong with them.
struct Connector<'g, 'f> {
    nodes: &'g [GraphNode],
    /// Names that misspelled inputs probably meant: that nobody reads them is no news.
    meant: Vec<&'g str>,
    found: &'f mut Vec<Diagnostic>,
}

impl<'g> Connector<'g, '_> {
    fn edges(&mut self) -> Vec<Vec<usize>> {
        let nodes = self.nodes;
        let mut positions = HashMap::new();
        for (position, node) in nodes.iter().enumerate() {
            positions.entry(node.name.as_str()).or_insert(position);
        }
        let inputs = nodes.iter().enumerate().map(|(position, node)| self.node(position, node, &positions));
        inputs.collect()
    }

    fn node(&mut self, position: usize, node: &'g GraphNode, positions: &HashMap<&str, usize>) -> Vec<usize> {
        let mut upstream = Vec::new();
        match (&node.inputs_span, node.section) {
            (Some(span), Section::Sources) => {
                let title = format!("{} can't have `inputs`", node.title());
                let wrong = Diagnostic::error(Code::SourceWithInputs, title).at(span.clone(), "");
                self.found.push(wrong.help("a source brings updates in by itself; remove `inputs`"));
                return upstream;
            }
            (None, Section::Stages | Section::Sinks) => self.missing_inputs(node, &node.span),
            (Some(span), _) if node.inputs.is_empty() && node.is_whole => self.missing_inputs(node, span),
            _ => {}
        }
        for (index, read) in node.inputs.iter().enumerate() {
            if let Some(first) = node.inputs[..index].iter().find(|first| first.from == read.from) {
                self.duplicate(node, read, first);
            } else if let Some(from) = positions.get(read.from.as_str()) {
                if self.readable(node, read, *from == position, *from) {
                    upstream.push(*from);
                }
            } else {
                self.unknown(node, read);
            }
        }
        upstream
    }

    fn missing_inputs(&mut self, node: &GraphNode, span: &Span) {
        let title = format!("{} has no inputs", node.title());
        let help = "say what it reads: `inputs = [\"name\"]`, with the name of a source or stage";
        self.found.push(Diagnostic::error(Code::MissingInputs, title).at(span.clone(), "").help(help));
    }

    fn duplicate(&mut self, node: &GraphNode, read: &Read, first: &Read) {
        let title = format!("{} reads {} twice", node.title(), quote(&read.from));
        let duplicate = Diagnostic::error(Code::DuplicateInput, title)
            .at(read.span.clone(), "again here")
            .context(first.span.clone(), "first here");
        self.found.push(duplicate.help("remove one of them; every item would come twice"));
    }

    fn readable(&mut self, node: &GraphNode, read: &Read, is_itself: bool, from: usize) -> bool {
        let from = &self.nodes[from];
        if is_itself {
            let title = format!("{} reads itself", node.title());
            let wrong = Diagnostic::error(Code::SelfLoop, title).at(read.span.clone(), "");
            self.found.push(wrong.help("items flow one way; name the node that it should read"));
            return false;
        }
        if from.section == Section::Sinks {
            let title = format!("{} reads {}, which gives nothing", node.title(), from.title());
            let wrong = Diagnostic::error(Code::SinkAsInput, title)
                .at(read.span.clone(), "this is a sink")
                .context(from.span.clone(), "");
            self.found.push(wrong.help("read what the sink reads"));
            return false;
        }
        true
    }

    fn unknown(&mut self, node: &GraphNode, read: &Read) {
        let nodes = self.nodes;
        let readable =
            nodes.iter().filter(|other| other.section != Section::Sinks && other.name != node.name);
        let names: Vec<_> = readable.map(|other| other.name.as_str()).collect();
        let title = format!("{} reads {}, which does not exist", node.title(), quote(&read.from));
        let meant = suggest(&read.from, names.iter().copied());
        self.meant.extend(meant);
        let help = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if names.is_empty() => "there is no source or stage yet".to_owned(),
            None => {
                let names = names.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
                format!("sources and stages are {names}")
            }
        };
        let unknown = Diagnostic::error(Code::UnknownInput, title);
        self.found.push(unknown.at(read.span.clone(), "no source or stage has this name").help(help));
    }

    fn unread(&mut self, upstream: &[Vec<usize>]) {
        if self.nodes.iter().any(|node| !node.is_whole) {
            return;
        }
        let mut is_read = vec![false; self.nodes.len()];
        upstream.iter().flatten().for_each(|from| is_read[*from] = true);
        for (node, is_read) in self.nodes.iter().zip(is_read) {
            if is_read || node.section == Section::Sinks || self.meant.contains(&node.name.as_str()) {
                continue;
            }
            let unread = Diagnostic::error(Code::Unread, format!("nobody reads {}", node.title()));
            let help = format!("add {} to the inputs of a stage or sink, or remove it", quote(&node.name));
            self.found.push(unread.at(node.span.clone(), "").help(help));
        }
    }

    fn incomplete(&mut self) {
        for section in [Section::Sources, Section::Sinks] {
            if !self.nodes.iter().any(|node| node.section == section) {
                let title = format!("the pipeline has no {}", section.noun());
                let help = format!(
                    "add a table `[{}.NAME]`; `sluice list` shows the kinds that there are",
                    section.key()
                );
                self.found.push(Diagnostic::error(Code::Incomplete, title).at(0..0, "").help(help));
            }
        }
    }

    /// Reports cycles that share no node, until there is none left.
    fn cycles(&mut self, upstream: &[Vec<usize>], order: &[usize]) {
        let mut left: Vec<bool> = vec![true; self.nodes.len()];
        order.iter().for_each(|node| left[*node] = false);
        while let Some(cycle) = one_cycle(upstream, &left) {
            self.cycle(&cycle);
            cycle.iter().for_each(|node| left[*node] = false);
        }
    }

    /// `cycle` lists nodes in the direction of flow; each reads the one before it, and the first the last.
    fn cycle(&mut self, cycle: &[usize]) {
        let names: Vec<_> =
            cycle.iter().chain(&cycle[..1]).map(|node| self.nodes[*node].name.as_str()).collect();
        let title = format!("these nodes read each other in a cycle: {}", names.join(" → "));
        let reads = cycle.iter().enumerate().filter_map(|(index, node)| {
            let before = cycle[(index + cycle.len() - 1) % cycle.len()];
            let wanted = &self.nodes[before].name;
            self.nodes[*node].inputs.iter().find(|read| read.from == *wanted).map(|read| (*node, read))
        });
        let mut diagnostic = Diagnostic::error(Code::Cycle, title);
        for (node, read) in reads {
            let label = format!("{} reads {}", quote(&self.nodes[node].name), quote(&read.from));
            diagnostic = match diagnostic.primary {
                None => diagnostic.at(read.span.clone(), label),
                Some(_) => diagnostic.context(read.span.clone(), label),
            };
        }
        self.found.push(diagnostic.help("items flow one way; remove one of these inputs"));
    }
}

/// Nodes after all that they read, as far as there is no cycle; of several that could be next, the first.
fn sort(upstream: &[Vec<usize>]) -> Vec<usize> {
    let mut order = Vec::with_capacity(upstream.len());
    let mut placed = vec![false; upstream.len()];
    let is_ready =
        |node: &usize, placed: &[bool]| !placed[*node] && upstream[*node].iter().all(|from| placed[*from]);
    while let Some(next) = (0..upstream.len()).find(|node| is_ready(node, &placed)) {
        placed[next] = true;
        order.push(next);
    }
    order
}

/// A cycle among the nodes that are left, beginning with its first node in the text.
fn one_cycle(upstream: &[Vec<usize>], left: &[bool]) -> Option<Vec<usize>> {
    let starts = (0..upstream.len()).filter(|node| left[*node]);
    starts.into_iter().find_map(|start| {
        let mut path = vec![start];
        loop {
            // Going upstream from a node that could not be placed meets a cycle or a node of one already reported.
            let last = *path.last()?;
            let next = *upstream[last].iter().find(|from| left[**from])?;
            if let Some(begin) = path.iter().position(|node| *node == next) {
                let mut cycle = path.split_off(begin);
                cycle.reverse();
                let first = cycle.iter().enumerate().min_by_key(|(_, node)| **node)?.0;
                cycle.rotate_left(first);
                return Some(cycle);
            }
            path.push(next);
        }
    })
}

#[cfg(test)]
mod tests;
