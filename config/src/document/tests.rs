use super::*;

const TEXT: &str = r#"[sinks.out]
inputs = ["all", { from = "b", capacity_items = 5 }]
when_full = "block"
type = "files"
path = "${HOME_OF_FILES}/x"

[sources.b]
type = "feed"
"#;

fn taken_apart(text: &str) -> (Option<Document<'_>>, Vec<Diagnostic>) {
    let mut found = Vec::new();
    let variables = |name: &str| (name == "HOME_OF_FILES").then(|| "/data".to_owned());
    let document = parse(text, &variables, &mut found);
    (document, found)
}

fn keys(table: &OptionTable<'_>) -> Vec<String> {
    table.table.keys().map(|key| key.get_ref().to_string()).collect()
}

#[test]
fn nodes_come_in_the_order_of_the_text_with_their_keys_sorted_out() {
    let (document, found) = taken_apart(TEXT);
    let document = document.expect("it is TOML");
    assert_eq!(found, []);
    let names: Vec<_> = document.nodes.iter().map(NodeTable::title).collect();
    assert_eq!(names, ["sink `out`", "source `b`"]);
    let sink = &document.nodes[0];
    assert_eq!(
        (keys(&sink.options), keys(&sink.edge)),
        (vec!["path".to_owned()], vec!["when_full".to_owned()])
    );
    let inputs = sink.inputs.as_ref().expect("it has some");
    let from: Vec<_> = inputs.list.iter().map(|input| input.from.get_ref().as_str()).collect();
    assert_eq!(from, ["all", "b"]);
    assert_eq!(keys(&inputs.list[1].edge), ["capacity_items"]);
}

#[test]
fn values_with_variables_are_remembered_by_place() {
    let (document, _) = taken_apart(TEXT);
    let document = document.expect("it is TOML");
    let path = document.nodes[0].options.table.get("path").expect("it is there");
    assert_eq!(path.get_ref().as_str(), Some("/data/x"));
    assert_eq!(&TEXT[document.replaced[0].span.clone()], "\"${HOME_OF_FILES}/x\"");
}

#[test]
fn a_variable_without_value_is_found_even_where_escapes_hide_it() {
    let (_, found) = taken_apart("a = \"\\u0024{NONE} ${NONE}\"");
    let spans: Vec<_> = found.iter().filter_map(|one| Some(one.primary.as_ref()?.span.clone())).collect();
    assert_eq!(spans[..2], [18..25, 18..25]);
}

#[test]
fn a_broken_text_shows_its_first_errors_one_for_each_line() {
    let (document, found) = taken_apart("a = \nb = ]\nc = 'x\n");
    assert!(document.is_none());
    assert_eq!(found.len(), 3);
    let (_, many) = taken_apart(&"a = \n".repeat(100));
    assert_eq!(many.len(), MOST_SYNTAX_ERRORS);
}

#[test]
fn what_is_no_table_where_one_has_to_be_is_reported() {
    for text in ["pipeline = 1", "sources = []", "[stages]\nmerge = true"] {
        let (_, found) = taken_apart(text);
        assert_eq!(found[0].code, Code::WrongType, "{text}");
    }
}

#[test]
fn names_begin_with_a_letter() {
    for (name, proposed) in
        [("Files", ": `files`"), ("a-b", ": `a_b`"), ("1a", ""), ("\"ü\"", ""), ("_a", "")]
    {
        let text = format!("[sources.{name}]\ntype = 'x'");
        let (_, found) = taken_apart(&text);
        assert_eq!(found[0].code, Code::InvalidName, "{name}");
        assert!(found[0].help[0].ends_with(&format!("0-9 and _{proposed}")), "{:?}", found[0].help);
    }
}
