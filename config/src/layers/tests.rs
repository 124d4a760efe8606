use super::*;
use crate::document;

const TEXT: &str = "\
[pipeline]
name = 'p'
[stages.a]
type = 'recovery'
inputs = []
rpc = { url = 'http://x', burst = 1 }
[stages.b]
type = 'recovery'
inputs = []
";

fn with<'a>(text: &'a str, change: impl FnOnce(&mut Document<'a>)) -> Document<'a> {
    let mut found = Vec::new();
    let mut document = document::parse(text, &|_: &str| None, &mut found).expect("valid TOML");
    assert!(found.is_empty());
    change(&mut document);
    document
}

fn option(document: &Document<'_>, node: usize, path: &[&str]) -> Option<(String, Span)> {
    let mut table = &document.nodes[node].options.table;
    for step in &path[..path.len() - 1] {
        match table.get(*step).map(Spanned::get_ref) {
            Some(DeValue::Table(inner)) => table = inner,
            _ => return None,
        }
    }
    let value = table.get(path[path.len() - 1])?;
    Some((format!("{:?}", value.get_ref().as_str()), value.span()))
}

fn assignment(path: &str) -> Assignment<'static> {
    Assignment {
        place: Place::Kind("recovery"),
        path: path.to_owned(),
        value: value_at("'new'", &(900..903)),
    }
}

#[test]
fn a_value_under_the_document_fills_what_it_leaves_open_and_makes_no_table() {
    let document = with(TEXT, |document| {
        for path in ["rpc.burst", "rpc.rate", "size"] {
            assert_eq!(document.assign(&assignment(path), Precedence::Under, &|_| true), 2);
        }
    });
    let new = Some(("Some(\"new\")".to_owned(), 900..903));
    assert_eq!(option(&document, 0, &["rpc", "burst"]).map(|(text, _)| text), Some("None".to_owned()));
    assert_eq!(option(&document, 0, &["rpc", "rate"]), new);
    assert_eq!(option(&document, 1, &["rpc", "rate"]), None, "it has no `rpc`");
    assert_eq!(option(&document, 1, &["size"]), new);
}

#[test]
fn a_value_over_the_document_replaces_value_and_place_and_makes_tables() {
    let document = with(TEXT, |document| {
        document.assign(&assignment("rpc.burst"), Precedence::Over, &|_| true);
    });
    let new = Some(("Some(\"new\")".to_owned(), 900..903));
    assert_eq!([0, 1].map(|node| option(&document, node, &["rpc", "burst"])), [new.clone(), new]);
    let keys = places(&document.nodes[0].options);
    assert!(keys.contains(&("rpc.burst".to_owned(), 900..903)));
}

#[test]
fn a_value_goes_to_every_table_of_a_list_that_leaves_it_open() {
    let text = TEXT.replace(
        "{ url = 'http://x', burst = 1 }",
        "[{ url = 'http://x', burst = 1 }, { url = 'http://y' }]",
    );
    let document = with(&text, |document| {
        document.assign(&assignment("rpc.burst"), Precedence::Under, &|_| true);
    });
    let places = places(&document.nodes[0].options);
    let of = |path: &str| places.iter().find(|(known, _)| known == path).map(|(_, span)| span.clone());
    assert!(of("rpc.0.burst").is_some_and(|span| span != (900..903)), "what is set stays");
    assert_eq!(of("rpc.1.burst"), Some(900..903));
    assert!(of("rpc").is_some());
}

#[test]
fn nodes_that_fail_the_test_are_left_alone() {
    let document = with(TEXT, |document| {
        assert_eq!(document.assign(&assignment("size"), Precedence::Over, &|name| name != "a"), 1);
    });
    assert_eq!(option(&document, 0, &["size"]), None);
}

fn flagged(flags: &[&str]) -> (String, Vec<String>) {
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let mut found = Vec::new();
    let mut sources = Sources::new(Source { name: "p.toml".to_owned(), text: TEXT.to_owned() });
    let document = with(TEXT, |document| apply_flags(document, &flags, &mut sources, &mut found));
    let shown = format!("{:?} {:?}", document.settings.table, document.nodes[0].options.table);
    let messages = found.iter().map(|one| format!("{} | {}", one.message, one.help.join("; "))).collect();
    (shown, messages)
}

#[test]
fn a_flag_that_names_nothing_says_what_there_is() {
    let (_, messages) =
        flagged(&["x", "stages.c.size=1", "stages.a.type=x", "stages.a.size", "sinks.a.b=1", "pipeline.=1"]);
    let expected = [
        "`x` is not the place of an option | write `--set stages.NAME.OPTION=VALUE` or `--set pipeline.OPTION=VALUE`",
        "there is no stage `c` | did you mean `a`?",
        "`type` can't be set by a flag | a flag changes options only; edit the file to change the graph",
        "`stages.a.size` has no value | write `--set stages.a.size=VALUE`",
    ];
    assert_eq!(messages[..4], expected);
    assert_eq!(messages.len(), 6);
}

#[test]
fn a_flag_is_text_unless_it_is_structured() {
    let (shown, messages) = flagged(&["pipeline.name=5", "stages.a.list=[1, 2]"]);
    assert!(messages.is_empty());
    assert!(shown.contains("String(\"5\")") && shown.contains("Array("), "{shown}");
}

#[test]
fn secret_looking_flags_are_not_shown() {
    let flags = ["stages.a.x_token=hunter2".to_owned()];
    let mut sources = Sources::new(Source { name: "p.toml".to_owned(), text: TEXT.to_owned() });
    with(TEXT, |document| apply_flags(document, &flags, &mut sources, &mut Vec::new()));
    let (_, text) = sources.at(sources.next_base() - 2);
    assert_eq!(text.text, "--set stages.a.x_token=[redacted]\n");
}
