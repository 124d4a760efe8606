//! `sluice silence`: makes, lists and ends silences of a running pipeline, through its API.
//!
//! Matchers are written as for Alertmanager's `amtool`: `severity=warning`, `endpoint=~"ams|us"`, and a first word
//! without an operator is the rule's name. What is made or ended prints its id alone, so that
//! `sluice silence expire $(sluice silence list -q)` ends all.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sluice_config::units::{format_duration, parse_duration};
use sluice_stages::matcher::Matcher;

use super::api_client::{Api, ApiArgs};
use super::run::EXIT_FAILED;
use crate::report;

/// Where the API keeps them.
const PATH: [&str; 3] = ["api", "v1", "silences"];
/// The longest that the API takes.
const MAX_DURATION: Duration = Duration::from_secs(31_536_000);

/// Arguments of `sluice silence`.
#[derive(Debug, Args)]
pub struct SilenceArgs {
    #[command(subcommand)]
    command: SilenceCommand,
}

#[derive(Debug, Subcommand)]
enum SilenceCommand {
    /// Tell nobody of alerts that fit, for a while; prints the silence's id.
    Add(AddArgs),
    /// Show the silences that hold.
    List(ListArgs),
    /// End silences now; prints their ids.
    Expire(ExpireArgs),
}

/// Arguments of `sluice silence add`.
#[derive(Debug, Args)]
struct AddArgs {
    /// What an alert has to fit, all of it: `severity=warning`, `endpoint!=ams`, `rule=~"lag|latency"`, `path!~"/tmp.*"`.
    /// The first may be a rule's name alone.
    #[arg(required = true, value_name = "MATCHER")]
    matchers: Vec<String>,
    /// How long it holds, from now on.
    #[arg(long, short, value_name = "TIME", default_value = "1h", value_parser = duration)]
    duration: Duration,
    /// Why.
    #[arg(long, short, value_name = "TEXT")]
    comment: String,
    /// Who wants it.
    #[arg(long, short, value_name = "NAME", env = "USER")]
    author: String,
    #[command(flatten)]
    api: ApiArgs,
}

/// Arguments of `sluice silence list`.
#[derive(Debug, Args)]
struct ListArgs {
    /// Those that are over, too; they are kept for five days.
    #[arg(long)]
    all: bool,
    /// Their ids alone, one a line.
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Arguments of `sluice silence expire`.
#[derive(Debug, Args)]
struct ExpireArgs {
    /// The silences' ids.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    api: ApiArgs,
}

/// A silence as the API shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Silence {
    id: String,
    state: String,
    matchers: Vec<String>,
    starts_ms: u64,
    ends_ms: u64,
    created_by: String,
    comment: String,
}

#[derive(Debug, Deserialize)]
struct Silences {
    silences: Vec<Silence>,
}

/// Runs the command.
pub async fn run(args: SilenceArgs) -> ExitCode {
    let done = match args.command {
        SilenceCommand::Add(args) => add(args).await,
        SilenceCommand::List(args) => list(args).await,
        SilenceCommand::Expire(args) => expire(args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::print_error(&format!("{error:#}\n"));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

async fn add(args: AddArgs) -> anyhow::Result<()> {
    let matchers = matchers(&args.matchers)?;
    let body = json!({
        "matchers": matchers.iter().map(|matcher| json!({
            "name": matcher.name(), "operator": matcher.operator(), "value": matcher.value(),
        })).collect::<Vec<_>>(),
        "duration_seconds": args.duration.as_secs(),
        "created_by": args.author,
        "comment": args.comment,
    });
    let made: Silence = Api::new(args.api)?.post(&PATH, &body).await?;
    report::print(&format!("{}\n", made.id));
    Ok(())
}

async fn list(args: ListArgs) -> anyhow::Result<()> {
    let Silences { mut silences } = Api::new(args.api)?.get(&PATH).await?;
    silences.retain(|silence| args.all || silence.state != "expired");
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&silences)?)
    } else if args.quiet {
        silences.iter().map(|silence| format!("{}\n", silence.id)).collect()
    } else {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        table(&silences, u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    };
    report::print(&text);
    Ok(())
}

async fn expire(args: ExpireArgs) -> anyhow::Result<()> {
    let api = Api::new(args.api)?;
    for id in &args.ids {
        let [first, second, third] = PATH;
        let ended: Silence = api.delete(&[first, second, third, id]).await.with_context(|| id.clone())?;
        report::print(&format!("{}\n", ended.id));
    }
    Ok(())
}

/// The matchers that are meant; a first word alone is a rule's name.
fn matchers(words: &[String]) -> anyhow::Result<Vec<Matcher>> {
    let matcher = |(place, word): (usize, &String)| {
        let is_name = place == 0 && !word.contains(['=', '!']) && !word.trim().is_empty();
        if is_name { Ok(Matcher::equal("rule", word.trim())) } else { Ok(word.parse::<Matcher>()?) }
    };
    words.iter().enumerate().map(matcher).collect()
}

fn duration(text: &str) -> anyhow::Result<Duration> {
    let duration = parse_duration(text)?;
    ensure!(
        (Duration::from_secs(1)..=MAX_DURATION).contains(&duration),
        "a silence lasts from 1s to 365d; write it like 30m, 2h or 7d"
    );
    Ok(duration)
}

/// A line for each silence, under a head.
fn table(silences: &[Silence], now_ms: u64) -> String {
    let mut text =
        format!("{:<32}  {:<8}  {:<10}  {:<16}  WHAT AND WHY\n", "ID", "STATE", "ENDS IN", "AUTHOR");
    for silence in silences {
        let left = Duration::from_secs(silence.ends_ms.saturating_sub(now_ms) / 1_000);
        let left = if silence.state == "expired" { "-".to_owned() } else { format_duration(left) };
        let Silence { id, state, matchers, created_by, comment, .. } = silence;
        let (matchers, comment) = (printable(&matchers.join(" ")), printable(comment));
        let author = printable(created_by);
        writeln!(text, "{id:<32}  {state:<8}  {left:<10}  {author:<16}  {matchers}  # {comment}")
            .expect("a string takes everything");
    }
    text
}

/// Without what a terminal would obey: whoever may add a silence may write anything into it.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn matchers_are_written_as_for_amtool() {
        let matchers = matchers(&words(&["lag", "endpoint=~ams|us", "path!=\"/tmp\""])).expect("matchers");
        let shown: Vec<_> = matchers.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["rule=\"lag\"", "endpoint=~\"ams|us\"", "path!=\"/tmp\""]);
        for wrong in [&["severity=warning", "lag"][..], &["=lag"], &["rule=~("], &[""]] {
            assert!(super::matchers(&words(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_silence_lasts_from_a_second_to_a_year() {
        assert_eq!(duration("90m").expect("a time"), Duration::from_secs(5_400));
        for wrong in ["0s", "500ms", "366d", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_terminal_is_told_nothing_that_it_would_obey() {
        let silence = Silence {
            id: "1f".to_owned(),
            state: "active".to_owned(),
            matchers: words(&["rule=\"lag\""]),
            starts_ms: 0,
            ends_ms: 90_000,
            created_by: "ann".to_owned(),
            comment: "moved\x1b[2J\nagain".to_owned(),
        };
        let text = table(&[silence], 30_000);
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.contains("1m ") && text.contains("rule=\"lag\"  # moved\u{fffd}[2J\u{fffd}again"),
            "{text}"
        );
        assert!(!text.contains('\x1b'));
    }
}
