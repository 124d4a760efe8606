//! `sluice top`: a running pipeline in the terminal: nodes, rates, queues, waits, lag and endpoints.
//!
//! Keys: `s` sorts by the next column, `r` the other way round, `q` ends.

mod view;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Terminal};
use tokio::sync::mpsc;

use super::api_client::{Api, ApiArgs};
use super::run::EXIT_FAILED;
use view::{Pipeline, Screen};

/// How often the API is asked; its rates are of the last seconds.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often the thread that reads keys looks whether it is still wanted.
const KEY_POLL: Duration = Duration::from_millis(100);
/// Keys that wait to be looked at.
const KEYS_CAPACITY: usize = 16;
/// The size of what `--once` prints.
const ONCE_SIZE: (u16, u16) = (110, 40);

/// Arguments of `sluice top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Prints one screen and ends; needs no terminal.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Shows the pipeline until `q` or a signal.
pub async fn run(args: TopArgs) -> ExitCode {
    match show(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

async fn show(args: TopArgs) -> anyhow::Result<()> {
    let api = Api::new(args.api)?;
    let mut screen = Screen::default();
    screen.show(Pipeline::read(&api).await?);
    if args.once {
        return print(&screen);
    }
    ensure!(
        std::io::stdout().is_terminal(),
        "standard output is no terminal; use --once to print one screen"
    );
    let mut terminal = ratatui::init();
    let ended = watch(&api, &mut screen, &mut terminal).await;
    ratatui::restore();
    ended
}

fn print(screen: &Screen) -> anyhow::Result<()> {
    let (width, height) = ONCE_SIZE;
    let mut terminal = Terminal::new(TestBackend::new(width, height))?;
    terminal.draw(|frame| screen.draw(frame))?;
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let rows: Vec<String> = (0..height).map(|y| row(y).trim_end().to_owned()).collect();
    crate::report::print(&format!("{}\n", rows.join("\n").trim_end()));
    Ok(())
}

async fn watch(api: &Api, screen: &mut Screen, terminal: &mut DefaultTerminal) -> anyhow::Result<()> {
    let mut keys = Keys::listen();
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        tokio::select! {
            key = keys.next() => match key {
                Some(key) if is_end(&key) => return Ok(()),
                Some(key) => screen.press(key.code),
                None => return Ok(()),
            },
            _ = ticks.tick() => match Pipeline::read(api).await {
                Ok(pipeline) => screen.show(pipeline),
                Err(error) => screen.fail(format!("{error:#}")),
            },
        }
    }
}

fn is_end(key: &KeyEvent) -> bool {
    let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
    interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
}

/// Reads keys on a thread of their own, since crossterm waits for them; the thread ends when nobody listens.
struct Keys {
    keys: mpsc::Receiver<KeyEvent>,
    _reader: tokio::task::JoinHandle<()>,
}

impl Keys {
    fn listen() -> Self {
        let (sender, keys) = mpsc::channel(KEYS_CAPACITY);
        let reader = tokio::task::spawn_blocking(move || {
            while !sender.is_closed() {
                let Ok(waits) = event::poll(KEY_POLL) else { return };
                if !waits {
                    continue;
                }
                match event::read() {
                    Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                        if sender.blocking_send(key).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        });
        Self { keys, _reader: reader }
    }

    async fn next(&mut self) -> Option<KeyEvent> {
        self.keys.recv().await
    }
}
