//! The comparison's processes: one that leads, one that serves, and a client for each lap.
//!
//! All are the same binary. The leader starts the others with a subcommand and reads one line of JSON from each.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::contender::{Contender, Job, Outcome, Served};
use crate::feed::Feed;
use crate::report::{Lap, Report};
use crate::server::Server;
use crate::{bare, pipeline, read_back, readers, usage};

/// Most endpoints that a contender has.
const ENDPOINTS: usize = 3;
/// The node that a tap is on while a contender is monitored: all updates pass it.
const TAPPED: &str = "once";
/// Samples a second of a profile: a few thousand of a client that runs for a second or two.
const PERF_HERTZ: &str = "2999";

/// Sluice beside a bare client, interleaved.
#[derive(Debug, Parser)]
#[command(name = "comparison")]
struct Cli {
    /// Rounds; in each, every contender runs once.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Slots that are served: a multiple of 54, and one more.
    #[arg(long, default_value_t = 217)]
    slots: u64,
    /// Who takes part: bare, ingest-1, ingest-3, parquet, monitored, watched. Default: the first four.
    #[arg(long, value_delimiter = ',', default_values_t = Contender::COST)]
    only: Vec<Contender>,
    /// Runs each client under `perf record` with this file as its output.
    #[arg(long)]
    perf: Option<PathBuf>,
    /// What `cargo bench` says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serves a feed until its input ends.
    #[command(hide = true)]
    Serve {
        /// Slots of the feed.
        slots: u64,
    },
    /// Runs one contender.
    #[command(hide = true)]
    Client {
        /// The job, as JSON.
        job: String,
    },
    /// Reads an API's stream with many clients until it ends.
    #[command(hide = true)]
    Read {
        /// Where it listens.
        api: SocketAddr,
        /// How many.
        clients: usize,
        /// The node that a tap is on.
        node: String,
    },
}

/// Runs whatever role the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.role {
        Some(Role::Serve { slots }) => serve(*slots).map(|()| true),
        Some(Role::Client { job }) => client(job).map(|()| true),
        Some(Role::Read { api, clients, node }) => read(*api, *clients, node).map(|()| true),
        // `cargo test --all-targets` runs benchmarks, too, and only wants to know that they start.
        None if !cli.bench => return ExitCode::SUCCESS,
        None => lead(&cli),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the table; false if a row was lost or doubled.
fn lead(cli: &Cli) -> Result<bool> {
    println!("encoding {} slots of real transactions …", cli.slots);
    let server = ServerProcess::start(cli.slots)?;
    let served = &server.served;
    println!(
        "{} updates ({:.0} MB) an endpoint; {} rounds; load average {}",
        served.updates,
        served.bytes as f64 / 1e6,
        cli.rounds,
        usage::load_average()
    );
    let mut report = Report::default();
    for _ in 0..cli.rounds {
        let laps = cli.only.iter().map(|&contender| lap(contender, served, cli.perf.as_deref()));
        report.add(laps.collect::<Result<_>>()?);
    }
    println!("\n{}load average {}", report.show(served), usage::load_average());
    Ok(report.is_whole())
}

fn lap(contender: Contender, served: &Served, perf: Option<&Path>) -> Result<Lap> {
    let temporary = tempfile::tempdir().context("no temporary folder")?;
    let folder = temporary.path().join("out");
    let job = Job { contender, served: served.clone(), folder, api: free_address()? };
    let readers = contender.readers().map(|clients| start_readers(job.api, clients)).transpose()?;
    let mut command = match perf {
        Some(output) => {
            let mut command = Command::new("perf");
            command.args(["record", "-F", PERF_HERTZ, "-o"]).arg(output).arg("--").arg(me()?);
            command
        }
        None => Command::new(me()?),
    };
    command.args(["client", &serde_json::to_string(&job)?]);
    let output = command.stderr(Stdio::inherit()).output().context("can't start a client")?;
    if !output.status.success() {
        bail!("{contender} failed: {}", output.status);
    }
    let outcome: Outcome = read_line(output.stdout.as_slice())?;
    if let Some(readers) = readers {
        let read = readers.wait_with_output().context("the readers were lost")?;
        let least: u64 = read_line(read.stdout.as_slice()).context("the readers said nothing")?;
        // One for each whole second, but for the first and the last.
        let expected = (outcome.wall_seconds as u64).saturating_sub(2).max(1);
        ensure!(least >= expected, "a reader of {contender} got {least} frames, not {expected} or more");
    }
    let whole = match contender {
        Contender::Bare => true,
        Contender::Ingest1 | Contender::Ingest3 => outcome.tally == Some(served.whole),
        Contender::Parquet | Contender::Monitored | Contender::Watched => {
            read_back::tally(&job.folder)? == served.in_files
        }
    };
    Ok(Lap { contender, outcome, whole })
}

/// The server, ended when this is dropped.
struct ServerProcess {
    process: Child,
    served: Served,
}

impl ServerProcess {
    fn start(slots: u64) -> Result<Self> {
        let mut command = Command::new(me()?);
        command.args(["serve", &slots.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("can't start the server")?;
        let output = process.stdout.take().context("the server has no output")?;
        let served = read_line(BufReader::new(output)).context("the server said nothing");
        // Its input ends with us, and with that the server, should the kill below not come.
        match served {
            Ok(served) => Ok(Self { process, served }),
            Err(error) => {
                process.kill()?;
                Err(error)
            }
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("the server could not be ended: {error}");
        }
    }
}

fn serve(slots: u64) -> Result<()> {
    let feed = Feed::generate(slots)?;
    Runtime::new()?.block_on(async {
        let server = Server::start(&feed.frames, ENDPOINTS).await?;
        say(&Served {
            urls: server.urls.clone(),
            updates: feed.updates(),
            bytes: feed.bytes(),
            whole: feed.whole(),
            in_files: feed.in_files(),
        })?;
        tokio::select! {
            ended = server.join() => ended,
            ended = tokio::task::spawn_blocking(until_input_ends) => ended?,
        }
    })
}

fn until_input_ends() -> Result<()> {
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink())?;
    Ok(())
}

fn client(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job).context("not a job")?;
    let runtime = Runtime::new()?;
    let began = Instant::now();
    let tally = runtime.block_on(async {
        match job.contender {
            Contender::Bare => {
                let url = job.served.urls.first().context("no endpoint")?;
                bare::run(url, job.served.updates).await.map(|()| None)
            }
            _ => pipeline::run(&job).await,
        }
    })?;
    let wall_seconds = began.elapsed().as_secs_f64();
    drop(runtime);
    let cpu_seconds = usage::cpu_time().as_secs_f64();
    say(&Outcome { cpu_seconds, wall_seconds, peak_bytes: usage::peak_bytes()?, tally })
}

fn start_readers(api: SocketAddr, clients: usize) -> Result<Child> {
    let mut command = Command::new(me()?);
    command.args(["read", &api.to_string(), &clients.to_string(), TAPPED]).stdout(Stdio::piped());
    command.spawn().context("can't start the readers")
}

/// Says how many frames the client that got the fewest got.
fn read(api: SocketAddr, clients: usize, node: &str) -> Result<()> {
    say(&Runtime::new()?.block_on(readers::read(api, clients, node))?)
}

/// An address that nobody listens on.
///
/// # Errors
/// If there is no free port.
pub fn free_address() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).context("no free port")
}

fn me() -> Result<PathBuf> {
    std::env::current_exe().context("this program does not know where it is")
}

fn say(word: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, word)?;
    Ok(out.write_all(b"\n")?)
}

fn read_line<T: DeserializeOwned>(mut from: impl BufRead) -> Result<T> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
