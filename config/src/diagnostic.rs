//! What is wrong with a pipeline, where, and what to do about it.
//!
//! Checks collect [`Diagnostic`]s, which know byte ranges only; [`Diagnostics`] joins them with the texts that they are
//! about ([`Sources`]) and renders them like rustc's: title, file, line, caret, label, help. A diagnostic never holds a
//! value that was put in by `${…}`, nor a secret.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

pub use crate::source::{Layer, Position, Source, Sources};

/// A range of bytes of the text.
pub type Span = Range<usize>;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The pipeline can't be run.
    Error,
    /// It can be run, and may not do what is wanted.
    Warning,
}

/// The part of the check in which something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The file is read, is TOML, and every variable has a value.
    Syntax,
    /// Sections, names, kinds and options are what they may be.
    Options,
    /// Nodes fit together.
    Graph,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal in $phase:ident,)*) => {
        /// The kind of a diagnostic, for tests and for tools that read the JSON.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// The word that is shown in brackets.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The part of the check that it belongs to.
            pub fn phase(self) -> Phase {
                match self { $(Self::$name => Phase::$phase,)* }
            }
        }
    };
}

codes! {
    /// The file can't be read.
    Unreadable = "unreadable" in Syntax,
    /// Not TOML.
    Syntax = "syntax" in Syntax,
    /// `${…}` that has no value or is written wrong.
    Variable = "variable" in Syntax,
    /// A table or key at the top that means nothing.
    UnknownSection = "unknown-section" in Options,
    /// A `type` that no kind has.
    UnknownKind = "unknown-kind" in Options,
    /// A node without `type`.
    MissingKind = "missing-kind" in Options,
    /// A kind that stands in the section of another role.
    MisplacedKind = "misplaced-kind" in Options,
    /// An option that the kind does not have.
    UnknownOption = "unknown-option" in Options,
    /// An option that the kind can't do without.
    MissingOption = "missing-option" in Options,
    /// An option whose value is of the wrong type.
    WrongType = "wrong-type" in Options,
    /// An option whose value has the right type and is still not possible.
    InvalidValue = "invalid-value" in Options,
    /// A name that is not `[a-z][a-z0-9_]*`.
    InvalidName = "invalid-name" in Options,
    /// Two nodes of one name.
    DuplicateName = "duplicate-name" in Options,
    /// A source with `inputs`.
    SourceWithInputs = "source-with-inputs" in Graph,
    /// A stage or sink without.
    MissingInputs = "missing-inputs" in Graph,
    /// An input that no node has the name of.
    UnknownInput = "unknown-input" in Graph,
    /// An input that stands twice.
    DuplicateInput = "duplicate-input" in Graph,
    /// A sink used as an input.
    SinkAsInput = "sink-as-input" in Graph,
    /// A node that reads itself.
    SelfLoop = "self-loop" in Graph,
    /// Nodes that read each other in a circle.
    Cycle = "cycle" in Graph,
    /// A source or stage that nobody reads.
    Unread = "unread" in Graph,
    /// An edge whose ends don't fit.
    WrongFlow = "wrong-flow" in Graph,
    /// A pipeline without a source or without a sink.
    Incomplete = "incomplete" in Graph,
    /// Two nodes that claim one file or folder.
    SharedClaim = "shared-claim" in Graph,
    /// A node that works only with another one upstream.
    MissingUpstream = "missing-upstream" in Graph,
    /// A `--set` that names nothing.
    InvalidFlag = "invalid-flag" in Options,
    /// A variable of the environment that this pipeline has no use for.
    UnusedVariable = "unused-variable" in Options,
    /// A node that does not work with another one upstream.
    MisplacedStage = "misplaced-stage" in Graph,
}

/// A place with a word about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What about it; may be empty.
    pub text: String,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// Its kind.
    pub code: Code,
    /// What is wrong, in one line.
    pub message: String,
    /// Where; nowhere if the file could not be read.
    pub primary: Option<Label>,
    /// Other places that have to do with it.
    pub context: Vec<Label>,
    /// What to do.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error without a place yet.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            primary: None,
            context: Vec::new(),
            help: Vec::new(),
        }
    }

    /// A warning without a place yet.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Says where it is.
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.primary = Some(Label { span, text: text.into() });
        self
    }

    /// Adds another place that has to do with it.
    pub fn context(mut self, span: Span, text: impl Into<String>) -> Self {
        self.context.push(Label { span, text: text.into() });
        self
    }

    /// Adds what to do about it.
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds a help line if there is one.
    pub fn maybe_help(self, text: Option<String>) -> Self {
        match text {
            Some(text) => self.help(text),
            None => self,
        }
    }

    fn start(&self) -> usize {
        self.primary.as_ref().map_or(0, |label| label.span.start)
    }
}

/// What was found in a pipeline's texts, in their order, errors and warnings together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    sources: Sources,
    found: Vec<Diagnostic>,
}

impl Diagnostics {
    /// Joins what was found with the text that it is about.
    pub fn new(source: Source, found: Vec<Diagnostic>) -> Self {
        Self::of(Sources::new(source), found)
    }

    /// Joins what was found with the texts that it is about.
    pub fn of(sources: Sources, mut found: Vec<Diagnostic>) -> Self {
        found.sort_by_key(Diagnostic::start);
        Self { sources, found }
    }

    /// What was found.
    pub fn found(&self) -> &[Diagnostic] {
        &self.found
    }

    /// The pipeline's file.
    pub fn source(&self) -> &Source {
        self.sources.file()
    }

    /// All texts.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        self.found.iter().filter(|one| one.severity == severity).count()
    }

    /// All of it as text for people. Colours are for terminals.
    pub fn render(&self, colours: bool) -> String {
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
        let rendered: Vec<_> = self.found.iter().map(|one| renderer.render(&[self.group(one)])).collect();
        rendered.join("\n\n")
    }

    fn group<'a>(&'a self, one: &'a Diagnostic) -> Group<'a> {
        let level = match one.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(one.message.as_str()).id(one.code.as_str());
        let help = one.help.iter().map(|text| Level::HELP.message(text.as_str()));
        let Some(primary) = &one.primary else { return title.elements(help) };
        title.elements(self.snippets(primary, &one.context)).elements(help)
    }

    /// One snippet of each text that the labels are in, the primary one's first.
    fn snippets<'a>(
        &'a self,
        primary: &'a Label,
        context: &'a [Label],
    ) -> Vec<Snippet<'a, annotate_snippets::Annotation<'a>>> {
        let context = context.iter().map(|label| (AnnotationKind::Context, label));
        let labels: Vec<_> = std::iter::once((AnnotationKind::Primary, primary)).chain(context).collect();
        let base_of = |label: &Label| self.sources.at(label.span.start).0;
        let mut bases: Vec<usize> = Vec::new();
        for (_, label) in &labels {
            if !bases.contains(&base_of(label)) {
                bases.push(base_of(label));
            }
        }
        let snippet = |base: usize| {
            let (_, source) = self.sources.at(base);
            let here = labels.iter().filter(move |(_, label)| base_of(label) == base);
            Snippet::source(source.text.as_str()).path(source.name.as_str()).annotations(here.map(
                move |(kind, label)| {
                    let text = (!label.text.is_empty()).then_some(label.text.as_str());
                    kind.span(source.clamp(&local(&label.span, base))).label(text)
                },
            ))
        };
        bases.into_iter().map(snippet).collect()
    }

    /// All of it as values for tools.
    pub fn records(&self) -> Vec<Record<'_>> {
        self.found.iter().map(|one| self.record(one)).collect()
    }

    fn record<'a>(&'a self, one: &'a Diagnostic) -> Record<'a> {
        let primary = one.primary.as_ref();
        let (_, source) = self.sources.at(one.start());
        Record {
            severity: one.severity,
            code: one.code.as_str(),
            phase: one.code.phase(),
            message: &one.message,
            file: &source.name,
            start: primary.map(|label| self.sources.position(&label.span, label.span.start)),
            end: primary.map(|label| self.sources.position(&label.span, label.span.end)),
            label: primary.map(|label| label.text.as_str()),
            help: &one.help,
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// A diagnostic for tools.
#[derive(Debug, Clone, Serialize)]
pub struct Record<'a> {
    /// How much it matters.
    pub severity: Severity,
    /// Its kind.
    pub code: &'static str,
    /// The part of the check that found it.
    pub phase: Phase,
    /// What is wrong.
    pub message: &'a str,
    /// The file.
    pub file: &'a str,
    /// Where it begins.
    pub start: Option<Position>,
    /// Where it ends.
    pub end: Option<Position>,
    /// A word about that place.
    pub label: Option<&'a str>,
    /// What to do.
    pub help: &'a [String],
}

/// `span` as the text that begins at `base` counts.
fn local(span: &Span, base: usize) -> Span {
    span.start - base..span.end.max(span.start) - base
}

/// A word of the user's in a message: quoted, without control characters, and not longer than a line takes.
pub fn quote(word: &str) -> String {
    /// Longer names and values say nothing more.
    const MOST_CHARS: usize = 60;
    let shown: String = word.chars().take(MOST_CHARS).flat_map(char::escape_debug).collect();
    let dots = if word.chars().count() > MOST_CHARS { "…" } else { "" };
    format!("`{shown}{dots}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostics(found: Diagnostic) -> Diagnostics {
        Diagnostics::new(
            Source { name: "p.toml".to_owned(), text: "a = 1\nüb = 2\n".to_owned() },
            vec![found],
        )
    }

    #[test]
    fn a_diagnostic_shows_file_line_caret_label_and_help() {
        let found =
            Diagnostic::error(Code::UnknownOption, "no option `üb`").at(6..9, "here").help("leave it out");
        let expected = "\
error[unknown-option]: no option `üb`
 --> p.toml:2:1
  |
2 | üb = 2
  | ^^ here
  |
  = help: leave it out";
        assert_eq!(diagnostics(found).render(false), expected);
    }

    #[test]
    fn colours_are_shown_only_when_asked_for() {
        let shown = diagnostics(Diagnostic::warning(Code::Unread, "nobody reads").at(0..1, ""));
        assert!(shown.render(true).contains('\u{1b}'));
        assert!(!shown.render(false).contains('\u{1b}'));
    }

    #[test]
    fn a_span_within_a_character_or_past_the_end_is_moved_inward() {
        let shown = diagnostics(
            Diagnostic::error(Code::Syntax, "odd")
                .at(7..999, "")
                .context(Span { start: 500, end: 400 }, "end"),
        );
        assert!(shown.render(false).contains("p.toml:2:1"));
        let record = serde_json::to_value(shown.records()).expect("serializable");
        assert_eq!(record[0]["start"], serde_json::json!({ "line": 2, "column": 1 }));
    }

    #[test]
    fn quoted_words_are_short_and_printable() {
        assert_eq!(quote("a\u{1b}[31m\n"), "`a\\u{1b}[31m\\n`");
        assert_eq!(quote(&"x".repeat(100)).chars().count(), 63);
    }
}
