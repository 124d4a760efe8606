use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_config::diagnostic::Severity;
use sluice_config::secret::Secret;
use sluice_stages::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem};
use sluice_stages::edge::WhenFull;
use sluice_stages::stage::Flow;

use super::*;
use crate::kinds::kind;

/// Declares a kind that can be checked but not built.
macro_rules! test_kind {
    ($options:ident, $word:literal, $role:ident, $accepts:expr, $emits:expr $(, $method:item)*) => {
        impl Component for $options {
            const KIND: &'static str = $word;
            const ROLE: Role = Role::$role;
            const ACCEPTS: Accepts = $accepts;
            const EMITS: Emits = $emits;
            const SUMMARY: &'static str = "For tests.";

            $($method)*

            fn build(self, _: &mut BuildContext) -> Result<Node, BuildError> {
                Err(BuildError::Other("only for checks".to_owned()))
            }
        }
    };
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
struct FeedOptions {
    /// Where to.
    url: String,
    /// A token.
    token: Option<Secret>,
    /// A port.
    #[serde(default)]
    port: u16,
    /// Filters.
    #[serde(default)]
    filters: std::collections::BTreeMap<String, FilterOptions>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
struct FilterOptions {
    /// Whether votes are wanted.
    vote: Option<bool>,
}

test_kind!(
    FeedOptions,
    "feed",
    Source,
    Accepts::Nothing,
    Emits::Only(Flow::Updates),
    fn problems(&self) -> Vec<Problem> {
        if self.url.starts_with("http") {
            return Vec::new();
        }
        vec![Problem {
            option: "url".to_owned(),
            message: format!("`{}` is not a url", self.url),
            help: "write it like http://host:port".to_owned(),
        }]
    }
);

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
struct JoinOptions {
    /// How long.
    #[serde(with = "sluice_config::units::duration")]
    #[schemars(with = "String")]
    wait: Duration,
    /// How many.
    count: u32,
}

test_kind!(JoinOptions, "join", Stage, Accepts::Only(Flow::Updates), Emits::Only(Flow::Updates));

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
struct LedgerOptions {}

test_kind!(LedgerOptions, "ledger", Stage, Accepts::Only(Flow::Updates), Emits::Only(Flow::Blocks));

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
struct RecoveryOptions {}

test_kind!(RecoveryOptions, "recovery", Stage, Accepts::Only(Flow::Blocks), Emits::Only(Flow::Blocks));

#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Level {
    Confirmed,
    Finalized,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
struct CommitmentOptions {
    /// How sure.
    level: Level,
}

test_kind!(CommitmentOptions, "commitment", Stage, Accepts::Only(Flow::Blocks), Emits::Only(Flow::Blocks));

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
struct FilesOptions {
    /// The folder.
    path: PathBuf,
}

test_kind!(
    FilesOptions,
    "parquet",
    Sink,
    Accepts::Only(Flow::Blocks),
    Emits::Nothing,
    fn claims(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }
);

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
struct NowhereOptions {}

test_kind!(NowhereOptions, "nowhere", Sink, Accepts::Any, Emits::Nothing);

static TEST_KINDS: &[Kind] = &[
    kind::<FeedOptions>(),
    kind::<JoinOptions>(),
    kind::<LedgerOptions>(),
    kind::<RecoveryOptions>(),
    kind::<CommitmentOptions>(),
    kind::<FilesOptions>(),
    kind::<NowhereOptions>(),
];

/// A pipeline without fault; tests change it.
const WHOLE: &str = r#"[pipeline]
name = "test"
[sources.ams]
type = "feed"
url = "http://a"
[sources.us]
type = "feed"
url = "http://b"
[stages.all]
type = "join"
inputs = ["ams", "us"]
wait = "1m30s"
[stages.slots]
type = "ledger"
inputs = ["all"]
[stages.whole]
type = "recovery"
inputs = ["slots"]
[stages.final]
type = "commitment"
inputs = ["whole"]
level = "finalized"
[sinks.files]
type = "parquet"
inputs = ["final"]
path = "out"
[sinks.none]
type = "nowhere"
inputs = [{ from = "final", when_full = "drop_newest", capacity_items = 7 }, "all"]
capacity_bytes = "1MiB"
"#;

fn variables(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some("hunter2".to_owned()),
        "PORT" => Some("8080".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Plan, Diagnostics> {
    Plan::parse_with(TEST_KINDS, "p.toml", text, &variables)
}

/// What is found when `old` is `new` in the whole pipeline: each with line, column, code and all help.
fn found(old: &str, new: &str) -> Vec<(usize, usize, Code, String)> {
    assert!(WHOLE.contains(old), "{old}");
    let diagnostics = match parse(&WHOLE.replacen(old, new, 1)) {
        Ok(plan) => plan.warnings,
        Err(diagnostics) => diagnostics,
    };
    let place = |one: &Diagnostic| {
        let start = one.primary.as_ref().map_or(0, |label| label.span.start);
        let position = diagnostics.source().position(start);
        (position.line, position.column, one.code, one.help.join("; "))
    };
    diagnostics.found().iter().map(place).collect()
}

fn only(old: &str, new: &str) -> (usize, usize, Code, String) {
    let found = found(old, new);
    assert_eq!(found.len(), 1, "{new}: {found:#?}");
    found.into_iter().next().expect("there is one")
}

#[test]
fn a_whole_pipeline_becomes_a_plan_in_the_order_of_the_flow() {
    let plan = parse(WHOLE).expect("it is whole");
    let names: Vec<_> = plan.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["ams", "us", "all", "slots", "whole", "final", "files", "none"]);
    assert_eq!(plan.settings.name, "test");
    let default = EdgeConfig::default();
    assert_eq!(
        plan.nodes[2].inputs,
        [PlanEdge { from: 0, config: default }, PlanEdge { from: 1, config: default }]
    );
    assert_eq!(plan.nodes[2].options.resolved(), serde_json::json!({ "wait": "1m30s", "count": 0 }));
    assert_eq!(plan.warnings.found(), []);
}

#[test]
fn an_input_s_own_edge_options_go_before_the_node_s() {
    let plan = parse(WHOLE).expect("it is whole");
    let own = EdgeConfig { capacity_items: 7, capacity_bytes: 1 << 20, when_full: WhenFull::DropNewest };
    let of_node = EdgeConfig { capacity_bytes: 1 << 20, ..EdgeConfig::default() };
    let expected = [PlanEdge { from: 5, config: own }, PlanEdge { from: 2, config: of_node }];
    assert_eq!(plan.nodes[7].inputs, expected);
}

#[test]
fn each_error_has_its_place_and_its_help() {
    let cases = [
        ("[sources.us]", "[sources.us", 6, 12, Code::Syntax, ""),
        ("[sources.us]", "[sources.ams]", 6, 10, Code::Syntax, "a table and a key can be given only once"),
        ("[pipeline]", "[pipelin]", 1, 2, Code::UnknownSection, "did you mean `pipeline`?"),
        ("[pipeline]", "[transforms]", 1, 2, Code::UnknownSection, "did you mean `stages`?"),
        ("[pipeline]", "[whatever]", 1, 2, Code::UnknownSection, "a pipeline has `pipeline`"),
        ("name = ", "nam = ", 2, 1, Code::UnknownOption, "did you mean `name`?"),
        ("name = \"test\"", "memory_limit = 0", 2, 16, Code::InvalidValue, "give more"),
        ("type = \"join\"", "type = \"jion\"", 10, 8, Code::UnknownKind, "did you mean `join`?"),
        ("type = \"join\"", "type = \"kafka\"", 10, 8, Code::UnknownKind, "kinds of stages are `join`"),
        ("type = \"join\"", "", 9, 9, Code::MissingKind, "add `type"),
        ("type = \"join\"", "type = 5", 10, 8, Code::WrongType, ""),
        ("wait = \"1m30s\"", "wiat = \"1s\"", 12, 1, Code::UnknownOption, "did you mean `wait`?"),
        ("wait = \"1m30s\"", "color = 1", 12, 1, Code::UnknownOption, "its options are `count`, `wait`"),
        ("wait = \"1m30s\"", "wait = 5", 12, 8, Code::WrongType, "`wait`: How long."),
        ("wait = \"1m30s\"", "wait = \"ten\"", 12, 8, Code::InvalidValue, "`wait`: How long."),
        ("wait = \"1m30s\"", "count = -1", 12, 9, Code::InvalidValue, "`count`: How many."),
        ("url = \"http://b\"", "", 6, 1, Code::MissingOption, "add `url = …` (string): Where to."),
        ("url = \"http://b\"", "url = \"ftp:b\"", 8, 7, Code::InvalidValue, "write it like http://host:port"),
        (
            "level = \"finalized\"",
            "level = \"finalised\"",
            22,
            9,
            Code::InvalidValue,
            "did you mean `finalized`?",
        ),
        ("level = \"finalized\"", "level = true", 22, 9, Code::InvalidValue, "`level`: How sure."),
        (
            "inputs = [\"ams\", \"us\"]",
            "inputs = \"ams\"",
            11,
            10,
            Code::WrongType,
            "write `inputs = [\"ams\"]`",
        ),
        ("inputs = [\"ams\", \"us\"]", "inputs = [\"ams\", 5]", 11, 18, Code::WrongType, ""),
        ("from = \"final\", ", "", 29, 11, Code::MissingOption, "write `{ from = \"name\" }`"),
        (
            "capacity_items = 7",
            "capacity_item = 7",
            29,
            56,
            Code::UnknownOption,
            "did you mean `capacity_items`?",
        ),
        ("capacity_items = 7", "capacity_items = 0", 29, 73, Code::InvalidValue, "give more"),
        ("\"drop_newest\"", "\"drop_oldest\"", 29, 41, Code::InvalidValue, "did you mean `drop_newest`?"),
        ("[\"final\"]", "[\"final\", \"finl\"]", 25, 20, Code::UnknownInput, "did you mean `final`?"),
        ("[\"final\"]", "[\"final\", \"none\"]", 25, 20, Code::SinkAsInput, "read what the sink reads"),
        ("[\"final\"]", "[\"final\", \"final\"]", 25, 20, Code::DuplicateInput, "remove one of them"),
        ("\"us\"]", "\"us\", \"all\"]", 11, 24, Code::SelfLoop, "items flow one way"),
        (
            "\"us\"]",
            "\"us\"]\nwhen_full = \"drop_newest\"",
            12,
            13,
            Code::InvalidValue,
            "use `when_full = \"block\"`",
        ),
        ("[\"ams\", \"us\"]", "[\"ams\"]", 6, 10, Code::Unread, "add `us` to the inputs"),
        ("[\"slots\"]", "[\"slots\", \"us\"]", 18, 20, Code::WrongFlow, "type `ledger`"),
        (
            "url = \"http://b\"",
            "url = \"http://b\"\ninputs = []",
            9,
            1,
            Code::SourceWithInputs,
            "remove `inputs`",
        ),
        (
            "type = \"ledger\"\ninputs = [\"all\"]",
            "type = \"ledger\"",
            13,
            9,
            Code::MissingInputs,
            "say what it reads",
        ),
        ("\"finalized\"", "\"confirmed\"", 23, 8, Code::MissingUpstream, "only final slots"),
        ("[sinks.files]", "[sinks.Files]", 23, 8, Code::InvalidName, "0-9 and _: `files`"),
    ];
    for (old, new, line, column, code, help) in cases {
        let (at_line, at_column, is, shown) = found(old, new).into_iter().next().expect("something is wrong");
        assert_eq!((at_line, at_column, is), (line, column, code), "{new}");
        assert!(shown.contains(help), "{new}: {shown}");
    }
}

#[test]
fn one_mistake_is_one_diagnostic() {
    for (old, new) in [
        ("type = \"join\"", "type = \"jion\""),
        ("type = \"join\"", ""),
        ("wait = \"1m30s\"", "wait = 5"),
        ("inputs = [\"ams\", \"us\"]", "inputs = \"ams\""),
        ("[\"final\"]", "[\"final\", \"finl\"]"),
        ("url = \"http://b\"", ""),
        ("url = \"http://b\"", "url = \"${UNSET}\""),
        ("level = \"finalized\"", "level = \"${UNSET}\""),
    ] {
        only(old, new);
    }
}

#[test]
fn all_errors_come_at_once_in_the_order_of_the_text() {
    let text = WHOLE
        .replacen("type = \"feed\"", "type = \"fed\"", 1)
        .replacen("wait = \"1m30s\"", "wait = 1\ncount = \"many\"\nother = 1", 1)
        .replacen("url = \"http://b\"", "url = \"b\"\nsecond = 1", 1)
        .replacen("level = \"finalized\"", "level = 3", 1)
        .replacen("path = \"out\"", "", 1);
    let diagnostics = parse(&text).expect_err("many mistakes");
    let codes: Vec<_> = diagnostics.found().iter().map(|one| one.code).collect();
    use Code::{InvalidValue, MissingOption, UnknownKind, UnknownOption, WrongType};
    let of_feed = [UnknownKind, InvalidValue, UnknownOption];
    let of_stages = [WrongType, WrongType, UnknownOption, InvalidValue];
    assert_eq!(codes, [&of_feed[..], &of_stages[..], &[MissingOption]].concat());
}

#[test]
fn a_cycle_is_shown_whole() {
    let text = WHOLE.replacen("[\"ams\", \"us\"]", "[\"ams\", \"us\", \"more\"]", 1)
        + "[stages.more]\ntype = \"join\"\ninputs = [\"all\"]\n";
    let diagnostics = parse(&text).expect_err("a cycle");
    assert_eq!(diagnostics.found()[0].message, "these nodes read each other in a cycle: all → more → all");
    let shown = diagnostics.render(false);
    assert!(shown.contains("`all` reads `more`") && shown.contains("`more` reads `all`"), "{shown}");
}

#[test]
fn names_are_shared_by_all_sections() {
    let (line, column, code, _) = found("[sinks.files]", "[sinks.final]").remove(0);
    assert_eq!((line, column, code), (23, 8, Code::DuplicateName));
}

#[test]
fn two_nodes_may_not_claim_one_folder_however_it_is_written() {
    for path in ["out", "./out/", "out/deeper", "x/../out", "."] {
        let more = format!(
            "[sinks.more]\ntype = \"parquet\"\ninputs = [\"final\"]\npath = \"{path}\"\n[sinks.none]"
        );
        let (line, column, code, _) = only("[sinks.none]", &more);
        assert_eq!((line, column, code), (30, 8, Code::SharedClaim), "{path}");
    }
    let more = "[sinks.more]\ntype = \"parquet\"\ninputs = [\"final\"]\npath = \"output\"\n[sinks.none]";
    assert_eq!(found("[sinks.none]", more), []);
}

#[test]
fn a_kind_in_the_wrong_section_says_where_it_belongs() {
    let found = found("[stages.all]", "[sinks.all]");
    assert!(
        found.contains(&(10, 8, Code::MisplacedKind, "call the table `[stages.all]`".to_owned())),
        "{found:#?}"
    );
}

#[test]
fn a_path_around_commitment_is_named() {
    let text = WHOLE.replacen("inputs = [\"final\"]", "inputs = [\"final\", \"whole\"]", 1);
    let diagnostics = parse(&text).expect_err("one path has no commitment");
    let primary = diagnostics.found()[0].primary.as_ref().expect("it has a place");
    assert_eq!(primary.text, "reached through ams → all → slots → whole → files");
}

#[test]
fn files_without_recovery_are_a_warning() {
    let plan = parse(
        &WHOLE.replacen("[stages.whole]\ntype = \"recovery\"\ninputs = [\"slots\"]\n", "", 1).replacen(
            "[\"whole\"]",
            "[\"slots\"]",
            1,
        ),
    )
    .expect("it can be run");
    assert_eq!((plan.warnings.errors(), plan.warnings.warnings()), (0, 1));
    assert_eq!(plan.warnings.found()[0].severity, Severity::Warning);
}

#[test]
fn each_place_that_makes_a_path_to_files_lossy_is_shown_once() {
    let own =
        "[{ from = \"ams\", when_full = \"drop_newest\" }, { from = \"us\", when_full = \"drop_newest\" }]";
    let places: Vec<_> =
        found("[\"ams\", \"us\"]", own).into_iter().map(|one| (one.0, one.1, one.2)).collect();
    assert_eq!(places, [(11, 39, Code::InvalidValue), (11, 83, Code::InvalidValue)]);
    only("wait = \"1m30s\"", "when_full = \"drop_newest\"");
}

#[test]
fn recovery_behind_commitment_is_refused() {
    let text = WHOLE
        .replacen("[\"whole\"]", "[\"slots\"]", 1)
        .replacen("inputs = [\"slots\"]", "inputs = [\"final\"]", 1)
        .replacen("inputs = [\"final\"]\npath", "inputs = [\"whole\"]\npath", 1);
    let diagnostics = parse(&text).expect_err("the wrong way round");
    let codes: Vec<_> = diagnostics.found().iter().map(|one| one.code).collect();
    assert_eq!(codes, [Code::MisplacedStage], "{diagnostics}");
}

#[test]
fn proof_behind_commitment_is_refused() {
    let text = r#"
[sources.ams]
type = "yellowstone"
url = "http://a"
transactions = true
entries = true
[stages.slots]
type = "gap_detector"
inputs = ["ams"]
[stages.final]
type = "commitment"
inputs = ["slots"]
[stages.proven]
type = "proof"
inputs = ["final"]
[sinks.none]
type = "discard"
inputs = ["proven"]
"#;
    let plan = Plan::parse_with(crate::kinds::KINDS, "p.toml", text, &variables);
    let diagnostics = plan.expect_err("the wrong way round");
    let codes: Vec<_> = diagnostics.found().iter().map(|one| one.code).collect();
    assert_eq!(codes, [Code::MisplacedStage], "{diagnostics}");
}

#[test]
fn variables_are_put_in_and_numbers_stay_numbers() {
    let text = WHOLE.replacen(
        "url = \"http://b\"",
        "url = \"${U:-http://d}\"\nport = \"${PORT}\"\ntoken = \"${TOKEN}\"",
        1,
    );
    let plan = parse(&text).expect("all are set");
    let expected = serde_json::json!({
        "url": "http://d", "port": 8080, "token": "[redacted]", "filters": {},
    });
    assert_eq!(plan.nodes[1].options.resolved(), expected);
}

#[test]
fn an_unset_variable_is_shown_at_its_reference() {
    let (line, column, code, help) = only("\"http://b\"", "\"http://${HOST}:1\"");
    assert_eq!((line, column, code), (8, 15, Code::Variable));
    assert_eq!(help, "set `HOST`, or give a default: `${HOST:-default}`");
}

#[test]
fn values_from_the_environment_are_never_shown() {
    for (old, new) in [
        ("url = \"http://b\"", "url = \"${TOKEN}\""),
        ("url = \"http://b\"", "url = \"x ${TOKEN} y\""),
        ("wait = \"1m30s\"", "wait = \"${TOKEN}\""),
        ("wait = \"1m30s\"", "count = \"${TOKEN}\""),
        ("level = \"finalized\"", "level = \"${TOKEN}\""),
    ] {
        let diagnostics = parse(&WHOLE.replacen(old, new, 1)).expect_err("the value is not possible");
        let shown =
            diagnostics.render(false) + &serde_json::to_string(&diagnostics.records()).expect("serializable");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn options_in_nested_tables_are_checked_too() {
    let filter = |line: &str| format!("url = \"http://b\"\n[sources.us.filters.mine]\n{line}");
    let (line, column, code, help) = only("url = \"http://b\"", &filter("votes = true"));
    assert_eq!((line, column, code, help.as_str()), (10, 1, Code::UnknownOption, "did you mean `vote`?"));
    let (line, column, code, _) = only("url = \"http://b\"", &filter("vote = \"yes\""));
    assert_eq!((line, column, code), (10, 8, Code::WrongType));
}

#[test]
fn a_file_that_can_t_be_read_is_a_diagnostic() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = Plan::load(&folder.path().join("none.toml")).expect_err("it is not there");
    assert_eq!(missing.found()[0].code, Code::Unreadable);
    let path = folder.path().join("bytes.toml");
    fs::write(&path, b"a = 1\nb = \"\xff\"\n").expect("the folder is writable");
    let diagnostics = Plan::load(&path).expect_err("not UTF-8");
    assert!(diagnostics.render(false).contains("bytes.toml:2:6"), "{diagnostics}");
}

/// Texts that are nearly pipelines: some lines of the whole one, in any order, some of them damaged.
fn damaged() -> impl Strategy<Value = String> {
    let line = prop::sample::select(WHOLE.lines().collect::<Vec<_>>());
    let damage = ("[a-z\"\\[\\]{}=,.$ é\n0-9]{0,3}", any::<prop::sample::Index>(), any::<bool>());
    prop::collection::vec((line, damage), 0..40).prop_map(|lines| {
        let broken = lines.into_iter().map(|(line, (extra, at, damage))| {
            let at = at.index(line.len() + 1);
            if damage { format!("{}{extra}{}", &line[..at], &line[at..]) } else { line.to_owned() }
        });
        broken.collect::<Vec<_>>().join("\n")
    })
}

fn is_plan_or_diagnostics(text: &str) -> Result<(), TestCaseError> {
    if let Err(diagnostics) = parse(text) {
        prop_assert!(diagnostics.errors() > 0);
        prop_assert!(!diagnostics.render(true).is_empty());
        prop_assert!(serde_json::to_string(&diagnostics.records()).is_ok());
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_a_plan_or_diagnostics(text: String) {
        is_plan_or_diagnostics(&text)?;
    }

    #[test]
    fn any_damaged_pipeline_is_a_plan_or_diagnostics(text in damaged()) {
        is_plan_or_diagnostics(&text)?;
    }

    #[test]
    fn a_pipeline_cut_off_anywhere_is_a_plan_or_diagnostics(end in 0..WHOLE.len(), insert in "\\PC{0,4}") {
        is_plan_or_diagnostics(&format!("{}{insert}", &WHOLE[..end]))?;
        is_plan_or_diagnostics(&format!("{}{insert}{}", &WHOLE[..end], &WHOLE[end..]))?;
    }
}

#[test]
fn what_any_node_writes_to_is_claimed() {
    let text = "[sources.meter]\ntype = \"monitor\"\n\
        [stages.alerts]\ntype = \"alert_evaluator\"\ninputs = [\"meter\"]\nstate_file = \"state/alerts.json\"\n\
        [sources.ams]\ntype = \"yellowstone\"\nurl = \"http://127.0.0.1:9\"\n\
        [stages.wal]\ntype = \"spool\"\ninputs = [\"ams\"]\npath = \"spool\"\n\
        [sinks.none]\ntype = \"discard\"\ninputs = [\"wal\"]\n\
        [sinks.hook]\ntype = \"webhook\"\ninputs = [\"alerts\"]\nurl = \"http://127.0.0.1:9\"\nstate_path = \"hook\"\n";
    let plan = Plan::parse("p.toml", text, &|_: &str| None).unwrap_or_else(|wrong| panic!("{wrong}"));
    let mut claims = plan.claims();
    claims.sort();
    assert_eq!(claims, ["hook", "spool", "state/alerts.json"].map(PathBuf::from));
}
