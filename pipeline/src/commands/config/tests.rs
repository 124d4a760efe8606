use super::*;

const TEXT: &str = r#"[pipeline]
name = "mainnet"
[sources.ams]
type = "yellowstone"
url = "https://u:p@host/0123456789abcdef0123456789abcdef/x?api-key=k"
x_token = "${TOKEN}"
[stages.slots]
type = "gap_detector"
inputs = ["ams"]
capacity_items = 10
[stages.whole]
type = "recovery"
inputs = ["slots"]
rpc = { url = "http://rpc/?key=hunter2" }
[stages.live]
type = "commitment"
inputs = ["whole"]
[stages.some]
type = "batcher"
inputs = ["live"]
batch_size = 7
[sinks.none]
type = "discard"
inputs = ["some"]
"#;

fn plan(variables: &[(&str, &str)], flags: &[&str]) -> Plan {
    plan_of(TEXT, variables, flags)
}

fn plan_of(text: &str, variables: &[(&str, &str)], flags: &[&str]) -> Plan {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let get = |name: &str| {
        let pair = variables.iter().chain(&[("TOKEN", "hunter2")]).find(|(known, _)| *known == name);
        pair.map(|(_, value)| (*value).to_owned())
    };
    Plan::load_with(file.path(), &get, &flags).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// The value and the origin of an option as they are printed.
fn line(text: &str, table: &str, key: &str) -> (String, String) {
    let table =
        text.split(&format!("[{table}]\n")).nth(1).expect("the table").split("\n[").next().expect("lines");
    let line = table.lines().find(|line| line.starts_with(&format!("{key} = "))).expect("the key");
    let (value, origin) = line.split_once("  # ").expect("an origin");
    let origin = origin.rsplit('/').next().unwrap_or(origin);
    let origin = origin.split_once(':').map_or(origin.to_owned(), |(_, line)| format!("line {line}"));
    (value.trim_end().trim_start_matches(&format!("{key} = ")).to_owned(), origin)
}

#[test]
fn every_value_is_printed_with_the_layer_that_it_came_from() {
    let text = toml_text(&plan(
        &[("PERFORMANCE_MODE", "aggressive"), ("MAX_MEMORY_MB", "512")],
        &["stages.slots.capacity_items=11"],
    ));
    for (table, key, value, origin) in [
        ("pipeline", "name", "\"mainnet\"", "line 2"),
        ("pipeline", "profile", "\"aggressive\"", "environment PERFORMANCE_MODE"),
        ("pipeline", "memory_limit", "\"512MiB\"", "environment MAX_MEMORY_MB"),
        ("pipeline", "max_cpu_percent", "80", "default"),
        ("stages.some", "batch_size", "7", "line 21"),
        ("stages.live", "level", "\"processed\"", "profile aggressive"),
        ("stages.whole.rpc", "requests_per_second", "100", "profile aggressive"),
        ("stages.whole", "max_retries", "3", "default"),
        ("sources.ams", "max_requests_per_second", "100", "profile aggressive"),
    ] {
        assert_eq!(line(&text, table, key), (value.to_owned(), origin.to_owned()), "{table} {key}\n{text}");
    }
    assert!(text.contains("capacity_items = 11"), "{text}");
}

#[test]
fn flags_go_over_the_environment_which_goes_over_the_file() {
    let batch = |variables: &[(&str, &str)], flags: &[&str]| {
        let text = toml_text(&plan(variables, flags));
        [line(&text, "stages.whole", "batch_size").0, line(&text, "stages.live", "level").0]
    };
    assert_eq!(batch(&[], &[]), ["100", "\"confirmed\""]);
    assert_eq!(batch(&[("SLOT_RECOVERY_BATCH_SIZE", "5")], &[]), ["5", "\"confirmed\""]);
    let flags = ["stages.whole.batch_size=6", "pipeline.profile=conservative"];
    let variables = [("SLOT_RECOVERY_BATCH_SIZE", "5"), ("PERFORMANCE_MODE", "aggressive")];
    assert_eq!(batch(&variables, &flags), ["6", "\"finalized\""]);
}

#[test]
fn secrets_are_left_out_of_all_that_shows_options_and_the_api_shows_the_same() {
    let plan = plan(&[], &[]);
    for node in plan.resolved()["nodes"].as_array().expect("nodes") {
        let own = plan.nodes.iter().find(|own| own.name == node["name"]).expect("it is there");
        assert_eq!(node["options"], own.options.resolved());
    }
    let of_the_api = plan.resolved().to_string();
    for text in [toml_text(&plan), record(&plan).to_string(), of_the_api, format!("{plan:?}")] {
        assert!(
            !text.contains("hunter2") && !text.contains("0123456789abcdef") && !text.contains("u:p"),
            "{text}"
        );
        assert!(text.contains("https://[redacted]@host/[redacted]"), "{text}");
    }
}

#[test]
fn what_is_printed_reads_back_to_the_same_pipeline() {
    let plan = plan(&[("PERFORMANCE_MODE", "conservative")], &["stages.some.batch_size=9"]);
    let text = toml_text(&plan)
        .replace("https://[redacted]@host/[redacted]", "http://h/")
        .replace("url = \"[redacted]\"", "url = \"http://rpc/\"");
    let again =
        Plan::parse("again", &text, &|_: &str| None).unwrap_or_else(|wrong| panic!("{wrong}\n{text}"));
    let mut before = plan.resolved();
    before["nodes"][0]["options"]["url"] = json!("http://h/");
    assert_eq!(again.resolved(), before);
}

#[test]
fn tools_get_value_and_origin() {
    let record = record(&plan(&[], &["pipeline.name=x"]));
    assert_eq!(record["pipeline"]["name"], json!({ "value": "x", "origin": "--set pipeline.name" }));
    assert_eq!(record["nodes"][4]["options"]["batch_interval"]["origin"], "default");
}

#[test]
fn each_table_of_a_list_is_printed_with_the_origins_of_its_values() {
    let rpc = "rpc = [{ url = \"http://a\", requests_per_second = 7 }, { url = \"http://b\" }]";
    let text = TEXT.replace("rpc = { url = \"http://rpc/?key=hunter2\" }", rpc);
    let variables = [("PERFORMANCE_MODE", "aggressive"), ("GRPC_ENDPOINTS", "http://x,http://y")];
    let plan = plan_of(&text, &variables, &[]);
    let printed = toml_text(&plan);
    let (first, second) = printed
        .split_once("[[stages.whole.rpc]]")
        .expect("the first node")
        .1
        .split_once("[[stages.whole.rpc]]")
        .expect("the second");
    let rate =
        |part: &str| part.lines().find(|line| line.starts_with("requests_per_second")).map(str::to_owned);
    assert!(rate(first).is_some_and(|line| line.contains("= 7 ") && line.ends_with(":14")), "{printed}");
    let filled = rate(second);
    assert!(
        filled.is_some_and(|line| line.contains("= 100") && line.ends_with("# profile aggressive")),
        "{printed}"
    );
    let endpoint = ["http://x", "environment GRPC_ENDPOINTS"].map(str::to_owned);
    let (value, origin) = line(&printed, "[sources.ams.endpoints]", "url");
    assert_eq!([value.trim_matches('"').to_owned(), origin], endpoint, "{printed}");
    let record = record(&plan);
    let rpc = &record["nodes"][2]["options"]["rpc"];
    assert_eq!(rpc[1]["requests_per_second"], json!({ "value": 100, "origin": "profile aggressive" }));
    let again = printed.replacen("url = \"[redacted]\"", "url = \"http://a\"", 1).replacen(
        "url = \"[redacted]\"",
        "url = \"http://b\"",
        1,
    );
    let again =
        Plan::parse("again", &again, &|_: &str| None).unwrap_or_else(|wrong| panic!("{wrong}\n{printed}"));
    assert_eq!(again.resolved(), plan.resolved());
}
