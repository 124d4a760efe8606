//! `console`: writes notices of alerts and records to standard output or standard error.
//!
//! Notices are a line for each alert, as people read them, or the JSON of the webhook's default body; records of blocks and
//! samples are JSON lines. Nobody has to read: when the reader has gone the sink goes on without it and counts
//! (`delivery_abandoned_total`). A reader that is slow slows this sink's edge, and with `when_full = "block"` what is in
//! front of it; with `when_full = "drop_newest"` it drops instead.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_stages::batch::Batch;
use sluice_stages::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use sluice_stages::edge::Inbox;
use sluice_stages::node::{NodeContext, NodeError, Sink};
use sluice_stages::stage::Flow;

use crate::delivery::alert_record::Teller;
use crate::delivery::alert_text::text_of;
use crate::delivery::counters::{Counters, add};
use crate::delivery::line_maker::LineMaker;
use crate::delivery::{FilterOptions, RecordKind};

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

/// What notices look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ConsoleFormat {
    /// A line for each alert, for people.
    #[default]
    Text,
    /// A JSON line for each notice.
    Json,
}

/// Options of `console`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleOptions {
    /// `stdout` (default) or `stderr`.
    pub stream: Stream,
    /// What notices look like: `text` (default) or `json`. Records are JSON lines in both.
    pub format: ConsoleFormat,
    /// What is written: any of `transactions`, `blocks`, `skipped_slots`, `alerts`, `samples`. Default all that comes.
    pub records: Vec<RecordKind>,
    /// Which transactions and notices are written. Default all.
    pub filters: FilterOptions,
}

impl Default for ConsoleOptions {
    fn default() -> Self {
        Self {
            stream: Stream::default(),
            format: ConsoleFormat::default(),
            records: RecordKind::ALL.to_vec(),
            filters: FilterOptions::default(),
        }
    }
}

impl Component for ConsoleOptions {
    const KIND: &'static str = "console";
    const ROLE: Role = Role::Sink;
    const ACCEPTS: Accepts = Accepts::AnyOf(&[Flow::Blocks, Flow::Alerts, Flow::Samples]);
    const EMITS: Emits = Emits::Nothing;
    const SUMMARY: &'static str = "writes alerts and records to the terminal";

    fn problems(&self) -> Vec<Problem> {
        self.filters.problems()
    }

    fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
        let (writer, terminal): (Box<dyn Write + Send>, bool) = match self.stream {
            Stream::Stdout => (Box::new(io::stdout()), io::stdout().is_terminal()),
            Stream::Stderr => (Box::new(io::stderr()), io::stderr().is_terminal()),
        };
        // https://no-color.org
        let colors = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Node::Sink(Box::new(ConsoleSink { options: self, writer, colors })))
    }
}

/// The sink, ready to run.
struct ConsoleSink {
    options: ConsoleOptions,
    writer: Box<dyn Write + Send>,
    colors: bool,
}

impl Sink for ConsoleSink {
    fn run(self: Box<Self>, inbox: Inbox, context: NodeContext) -> BoxFuture<'static, Result<(), NodeError>> {
        let Self { options, writer, colors } = *self;
        let teller = Teller { pipeline: context.watch.pipeline().to_owned(), channel: context.name.clone() };
        let maker = LineMaker::new(&options.records, &options.filters, teller);
        let text = options.format == ConsoleFormat::Text;
        let shell = Shell { text, colors, context, maker, writer: Some(writer), counters: Arc::default() };
        Box::pin(shell.run(inbox))
    }
}

struct Shell {
    text: bool,
    colors: bool,
    context: NodeContext,
    maker: LineMaker,
    /// Away while a blocking thread has it, and for good when the reader has gone.
    writer: Option<Box<dyn Write + Send>>,
    counters: Arc<Counters>,
}

impl Shell {
    async fn run(mut self, mut inbox: Inbox) -> Result<(), NodeError> {
        while let Some((_, batch)) = inbox.recv().await {
            self.accept(batch).await?;
            self.context.metrics.show(|show| self.counters.metrics(show));
        }
        Ok(())
    }

    async fn accept(&mut self, batch: Batch) -> Result<(), NodeError> {
        for item in &batch {
            let notice = self.maker.notice(item);
            let is_notice = notice.is_some();
            let (bytes, count) = match notice {
                Some(notice) if self.text => (text_of(&notice, self.colors).into_bytes(), 1),
                _ => {
                    let lines = self.maker.lines(item).await?;
                    (lines.bytes, lines.ends.len())
                }
            };
            if count > 0 {
                self.write(bytes, count as u64, is_notice).await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, bytes: Vec<u8>, count: u64, is_notice: bool) -> Result<(), NodeError> {
        let Some(mut writer) = self.writer.take() else {
            add(&self.counters.abandoned, count);
            return Ok(());
        };
        let length = bytes.len() as u64;
        let written = tokio::task::spawn_blocking(move || {
            let result = writer.write_all(&bytes).and_then(|()| writer.flush());
            (writer, result)
        });
        let (writer, result) =
            written.await.map_err(|_| NodeError::Fatal("the writer panicked".to_owned()))?;
        if let Err(error) = result {
            add(&self.counters.abandoned, count);
            tracing::warn!(node = %self.context.name, %error, "nobody reads the console any more");
            return Ok(());
        }
        self.writer = Some(writer);
        add(if is_notice { &self.counters.notices } else { &self.counters.records }, count);
        add(&self.counters.bytes, length);
        Ok(())
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
