//! The texts that a pipeline is made of, in one space of offsets.
//!
//! A span is a range of bytes of that space, so a value that came from the environment is told from one of the file by
//! its span alone: it is shown at its own place, and where each value came from is known without further notes.
//!
//! ```text
//! 0 ───────── file ─────────┼── environment ──┼── command line ──┼── profile ──
//! ```

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// A text and the name that it is shown under.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// The path as the user gave it, or `<stdin>`.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// Without the text: secrets may be written in it.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A position as editors count: both from 1, the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Source {
    /// Where byte `offset` is.
    pub fn position(&self, offset: usize) -> Position {
        let before = &self.text[..self.floor(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Position { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }

    /// `span`, moved inward to where characters begin, so that rendering can't fail.
    pub(crate) fn clamp(&self, span: &Range<usize>) -> Range<usize> {
        let start = self.floor(span.start);
        start..self.floor(span.end).max(start)
    }

    fn floor(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset.min(self.text.len()))
    }
}

/// Where a text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// The pipeline's file.
    File,
    /// A variable of the environment.
    Environment,
    /// A flag of the command line.
    Flag,
    /// The profile.
    Profile,
}

/// All texts, each with the offset that it begins at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    file: Source,
    others: Vec<(usize, Layer, Source)>,
}

impl Sources {
    /// Nothing but the pipeline's file.
    pub fn new(file: Source) -> Self {
        Self { file, others: Vec::new() }
    }

    /// The pipeline's file.
    pub fn file(&self) -> &Source {
        &self.file
    }

    /// The offset at which the next text will begin.
    pub fn next_base(&self) -> usize {
        let (base, last) = self.others.last().map_or((0, &self.file), |(base, _, last)| (*base, last));
        // One apart, so that the end of one is not the begin of the next.
        base + last.text.len() + 1
    }

    /// Adds a text; it begins at [`Self::next_base`].
    pub fn add(&mut self, layer: Layer, source: Source) {
        self.others.push((self.next_base(), layer, source));
    }

    /// The text that `offset` is in, and where it begins.
    pub fn at(&self, offset: usize) -> (usize, &Source) {
        let (base, _, source) = self.find(offset);
        (base, source)
    }

    /// Where `offset` is, counted in the text that `span` begins in.
    pub fn position(&self, span: &Range<usize>, offset: usize) -> Position {
        let (base, source) = self.at(span.start);
        source.position(offset.saturating_sub(base))
    }

    /// Where a value with this span came from.
    pub fn origin(&self, span: &Range<usize>) -> Origin {
        let (base, layer, source) = self.find(span.start);
        let position = source.position(span.start - base);
        let line = source.text.lines().nth(position.line - 1).unwrap_or_default();
        let place = match layer {
            Layer::File => format!("{}:{}", source.name, position.line),
            Layer::Profile => source.name.clone(),
            Layer::Environment => format!("environment {}", before_equals(line)),
            Layer::Flag => before_equals(line).to_owned(),
        };
        Origin { layer, place }
    }

    fn find(&self, offset: usize) -> (usize, Layer, &Source) {
        let found = self.others.iter().rfind(|(base, ..)| *base <= offset);
        found.map_or((0, Layer::File, &self.file), |(base, layer, source)| (*base, *layer, source))
    }
}

fn before_equals(line: &str) -> &str {
    line.split_once('=').map_or(line, |(name, _)| name)
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// The kind of place.
    pub layer: Layer,
    /// The place in words: `p.toml:12`, `environment MAX_LATENCY`, `--set stages.final.level`, `profile balanced`.
    pub place: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Sources {
        let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
        let mut sources = Sources::new(source("p.toml", "a = 1\nb = 2\n"));
        sources.add(Layer::Environment, source("environment", "A=x\nB=y"));
        sources.add(Layer::Profile, source("profile balanced", "k.o = 1"));
        sources
    }

    #[test]
    fn an_offset_belongs_to_the_text_that_it_lies_in() {
        let sources = sources();
        let origins = [6..7, 15..16, 19..20, 25..26].map(|span: Range<usize>| sources.origin(&span).place);
        assert_eq!(origins, ["p.toml:2", "environment A", "environment B", "profile balanced"]);
        assert_eq!(sources.position(&(19..20), 20).column, 4);
    }

    #[test]
    fn the_end_of_a_text_is_not_the_begin_of_the_next() {
        let sources = sources();
        assert_eq!(sources.at(12).0, 0);
        assert_eq!(sources.at(13).0, 13);
    }
}
