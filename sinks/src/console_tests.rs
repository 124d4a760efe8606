use std::sync::{Mutex, PoisonError};

use sluice_stages::alert::Severity;
use sluice_stages::batch::Item;

use super::*;
use crate::delivery::harness::{RunningSink, until};
use crate::delivery::testing::{notice, resolved};
use crate::parquet::testing::Chain;

/// What would be on the terminal.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()).expect("UTF-8")
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A pipe whose reader has gone.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start(options: ConsoleOptions, writer: impl Write + Send + 'static) -> RunningSink {
    RunningSink::start_sink(Box::new(ConsoleSink { options, writer: Box::new(writer), colors: false }))
}

#[tokio::test]
async fn a_notice_is_a_line_for_each_alert() {
    let screen = Screen::default();
    let sink = start(ConsoleOptions::default(), screen.clone());
    let mut both = notice("latency", Severity::Critical);
    both.alerts.push(resolved("holes", Severity::Info));
    sink.tell(both).await;
    sink.end().await.expect("ended well");
    let expected = "2026-01-31T12:00:00.000000Z CRITICAL firing latency: latency: \"1250.5\" is > 1000 <for long> \
                    [latency_ms 1250.5, threshold 1000] {endpoint=\"ams\"}\n\
                    2026-01-31T12:00:00.000000Z INFO     resolved holes: holes: \"1250.5\" is > 1000 <for long> \
                    [latency_ms 1250.5, threshold 1000] {endpoint=\"ams\"}\n";
    assert_eq!(screen.text(), expected);
}

#[tokio::test]
async fn json_and_records_are_lines() {
    let screen = Screen::default();
    let options = ConsoleOptions { format: ConsoleFormat::Json, ..ConsoleOptions::default() };
    let sink = start(options, screen.clone());
    sink.send(Chain::generate(1, 3, 2).blocks().into_iter().map(Item::Block).collect()).await;
    sink.tell(notice("latency", Severity::Error)).await;
    sink.end().await.expect("ended well");
    let text = screen.text();
    let types: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["type"].to_string())
        .collect();
    assert_eq!(
        (types.len(), types[0].as_str(), types[types.len() - 1].as_str()),
        (10, "\"block\"", "\"alert\"")
    );
}

#[tokio::test]
async fn a_reader_that_has_gone_stops_nobody() {
    let sink = start(ConsoleOptions::default(), Gone);
    for _ in 0..3 {
        sink.tell(notice("latency", Severity::Error)).await;
    }
    until("counted", || sink.metric("delivery_abandoned_total") == Some(3.0)).await;
    sink.end().await.expect("ended well");
}
