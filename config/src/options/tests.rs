use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
struct Options {
    /// Every one.
    hosts: Vec<Host>,
    /// Named.
    #[serde(default)]
    named: BTreeMap<String, Host>,
    /// A number, or a word.
    #[serde(default)]
    start: Option<Start>,
    #[serde(default)]
    ratio: f64,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
struct Host {
    /// Its url.
    url: String,
    /// Its weight.
    #[serde(default)]
    weight: u8,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Start {
    At(u64),
    Word(String),
}

fn table(text: &str) -> OptionTable<'_> {
    OptionTable { span: 0..0, table: DeTable::parse(text).expect("it is TOML").into_inner() }
}

fn read_all(text: &str) -> Result<Options, Vec<(usize, Code, String)>> {
    let outcome = read("node", &table(text), &[]);
    let place = |one: Diagnostic| {
        let primary = one.primary.expect("it has a place");
        (primary.span.start, one.code, primary.text)
    };
    match outcome.options {
        Some(options) if outcome.found.is_empty() => Ok(options),
        _ => Err(outcome.found.into_iter().map(place).collect()),
    }
}

#[test]
fn options_are_read_as_serde_reads_them() {
    let read =
        read_all("hosts = [{ url = 'a' }]\nstart = 5\n[named.x]\nurl = 'b'\nweight = 2").expect("valid");
    let host = |url: &str, weight| Host { url: url.to_owned(), weight };
    let expected = Options {
        hosts: vec![host("a", 0)],
        named: BTreeMap::from([("x".to_owned(), host("b", 2))]),
        start: Some(Start::At(5)),
        ratio: 0.0,
    };
    assert_eq!(read, expected);
}

#[test]
fn every_element_of_a_list_is_checked() {
    let found = read_all("hosts = [{ url = 1 }, { url = 'a', wait = 1 }, { weight = 300, url = 'b' }, 5]");
    let found = found.expect_err("one mistake each");
    let expected = [
        (35, Code::UnknownOption, "unknown option"),
        (17, Code::WrongType, "expected a string, found an integer"),
        (58, Code::InvalidValue, "expected a whole number (u8)"),
        (76, Code::WrongType, "expected a table, found an integer"),
    ];
    let mut found: Vec<_> = found.iter().map(|(at, code, text)| (*at, *code, text.as_str())).collect();
    found.sort_by_key(|one| expected.iter().position(|other| other == one));
    assert_eq!(found, expected);
}

#[test]
fn missing_options_are_all_named_at_any_depth() {
    let found = read_all("[named.x]\nweight = 1\n[named.y]").expect_err("three are missing");
    let labels: Vec<_> = found.iter().map(|(_, _, text)| text.as_str()).collect();
    assert_eq!(labels, ["`hosts` is missing", "`url` is missing", "`url` is missing"]);
}

#[test]
fn what_can_be_read_is_there_beside_the_errors() {
    let outcome: Outcome<Options> =
        read("node", &table("hosts = []\nratio = 'x'\nother = 1\nstart = 3"), &[]);
    assert_eq!(outcome.found.len(), 2);
    let options = outcome.options.expect("only options with a default are wrong");
    assert_eq!((options.start, options.ratio), (Some(Start::At(3)), 0.0));
}

#[test]
fn there_is_an_end_to_the_errors_of_one_table() {
    let text = format!("hosts = [{}]", "1, ".repeat(500));
    let found = read_all(&text).expect_err("none of them is a table");
    assert_eq!(found.len(), MOST_ERRORS);
}

#[test]
fn an_option_is_located_as_deep_as_its_path_goes() {
    let text = "hosts = [{ url = 'a' }]\n[named.x]\nurl = 'b'";
    let table = table(text);
    for (path, expected) in [
        ("hosts.0.url", "'a'"),
        ("hosts[0].url", "'a'"),
        ("hosts[7]", "[{ url = 'a' }]"),
        ("named.x.url", "'b'"),
        ("named.x.nothing", "[named.x]"),
        ("nothing", ""),
    ] {
        assert_eq!(&text[locate(&table, path)], expected, "{path}");
    }
}

#[test]
fn what_the_environment_gave_becomes_the_type_that_is_wanted() {
    let text = "hosts = [{ url = '5', weight = '7' }]\nratio = '2.5'\nstart = '9'";
    let table = table(text);
    let at = |value: &str| {
        let start = text.find(value).expect("it is there");
        Replaced { span: start..start + value.len(), values: Vec::new() }
    };
    let replaced = ["'5'", "'7'", "'2.5'", "'9'"].map(at);
    let read: Options = read("node", &table, &replaced).options.expect("all fit");
    assert_eq!(read.hosts, [Host { url: "5".to_owned(), weight: 7 }]);
    assert!((read.ratio - 2.5).abs() < f64::EPSILON);
}

#[test]
fn a_message_that_shows_a_value_or_a_part_of_it_is_replaced() {
    let replaced = [Replaced { span: 5..10, values: vec!["ftp://hunter2".to_owned()] }];
    let hidden = "the environment gives a value that is not possible here";
    for (message, span, expected) in [
        ("has the scheme `ftp`", 5..10, hidden),
        ("ftp://hunter2 is not a url", 0..20, hidden),
        ("has no host", 5..10, "has no host"),
        ("has the scheme `ftp`", 10..12, "has the scheme `ftp`"),
    ] {
        assert_eq!(without_values(message, &span, &replaced), expected);
    }
}

proptest! {
    #[test]
    fn any_table_is_read_or_refused(
        text in prop::collection::vec(("hosts|named|start|ratio|x", "1|'a'|\\[\\]|\\[1, 'b'\\]|\\{ url = 1 \\}|\\{\\}|2\\.5|true"), 0..6)
    ) {
        let lines: BTreeMap<_, _> = text.into_iter().collect();
        let text: String = lines.iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
        if let Err(found) = read_all(&text) {
            prop_assert!(!found.is_empty());
        }
    }
}
