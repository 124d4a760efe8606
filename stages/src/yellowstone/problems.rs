//! What can be wrong with a source's options beyond their types. Pure: no name is resolved, no file is opened.

use std::collections::BTreeSet;

use sluice_config::secret::Secret;

use super::endpoints::{EndpointRole, names};
use super::filters::{
    AccountFilterOptions, LamportsOptions, MemcmpOptions, Selection, TransactionFilterOptions,
};
use super::options::YellowstoneOptions;
use crate::component::Problem;
use crate::filter::TransactionFilter;
use crate::frame::LEDGER_FILTER_PREFIX;
use crate::http_url;

/// HTTP/2's own bounds of a flow-control window.
const WINDOW_BYTES: std::ops::RangeInclusive<u32> = 65_535..=i32::MAX as u32;

/// Most `memcmp` filters in one account filter that servers take.
const MAX_MEMCMP_FILTERS: usize = 4;

/// Longest filter name that servers take by default.
const MAX_NAME_BYTES: usize = 32;

const KEY_HELP: &str = "keys are 32 bytes in base58, signatures 64";

/// All problems, in the order of the options.
pub(super) fn of(options: &YellowstoneOptions) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(endpoint_problems(options));
    problems.extend(options.headers.iter().filter_map(|(name, value)| header_problem(name, value)));
    problems.extend(options.x_token.iter().filter_map(token_problem));
    problems.extend(number_problems(options));
    problems.extend(filter_names(options).filter_map(|(kind, name)| name_problem(kind, name)));
    problems.extend(transaction_problems("transactions", &options.transactions));
    problems.extend(transaction_problems("transactions_status", &options.transactions_status));
    problems.extend(options.accounts.named().flat_map(|(name, filter)| account_problems(name, filter)));
    problems.extend(options.blocks.named().flat_map(|(name, filter)| {
        key_problems(&format!("blocks.{name}.account_include"), &filter.account_include)
    }));
    problems
}

fn endpoint_problems(options: &YellowstoneOptions) -> Vec<Problem> {
    let endpoints = &options.endpoints;
    match (options.url.is_empty(), endpoints.is_empty()) {
        (true, true) => {
            let help = "give `url = \"https://host:443\"`, or a list `endpoints = [{ url = … }, …]`";
            return vec![problem("url", "is missing", help)];
        }
        (false, true) => return url_problem(&options.url).into_iter().collect(),
        (false, false) => {
            return vec![problem(
                "url",
                "stands beside `endpoints`",
                "put it into the list, or leave the list out",
            )];
        }
        (true, false) => {}
    }
    let mut problems = Vec::new();
    let mut seen = BTreeSet::new();
    for (place, (endpoint, name)) in endpoints.iter().zip(names(endpoints)).enumerate() {
        let at = |found: Problem| Problem { option: format!("endpoints[{place}].{}", found.option), ..found };
        problems.extend(url_problem(&endpoint.url).map(at));
        let token = endpoint.token.as_ref().and_then(token_problem);
        problems.extend(token.map(|found| Problem { option: format!("endpoints[{place}].token"), ..found }));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            let which = if endpoint.name.is_some() { "name" } else { "region" };
            let message = format!("`{}` is not usable as a name", name.escape_debug());
            problems.push(at(problem(which, &message, "letters, digits, dashes, dots and underscores")));
        } else if !seen.insert(name.clone()) {
            let message = format!("there are two endpoints called `{name}`");
            problems.push(at(problem("name", &message, "give each its own name")));
        }
    }
    if let Some((again, first)) = http_url::repeated(endpoints.iter().map(|endpoint| endpoint.url.as_str())) {
        let message = format!("is that of endpoints[{first}], too");
        problems.push(problem(&format!("endpoints[{again}].url"), &message, "give each server once"));
    }
    if endpoints.iter().all(|endpoint| endpoint.role == EndpointRole::Standby) {
        let help = "let at least one be `active`";
        problems.push(problem("endpoints", "are all standby", help));
    }
    problems
}

fn number_problems(options: &YellowstoneOptions) -> Vec<Problem> {
    let mut problems = Vec::new();
    let positive = [
        ("connect_timeout", options.connect_timeout),
        ("keepalive_interval", options.keepalive_interval),
        ("keepalive_timeout", options.keepalive_timeout),
        ("ping_interval", options.ping_interval),
        ("idle_timeout", options.idle_timeout),
        ("progress_timeout", options.progress_timeout),
        ("reconnect_min", options.reconnect_min),
        ("health_check_interval", options.health_check_interval),
        ("reset_timeout", options.reset_timeout),
        ("max_lag", options.max_lag),
    ];
    for (option, _) in positive.iter().filter(|(_, duration)| duration.is_zero()) {
        problems.push(problem(option, "must be longer than zero", "leave it out for the default"));
    }
    let counts = [
        ("error_threshold", options.error_threshold),
        ("max_requests_per_second", options.max_requests_per_second),
        ("burst", options.burst),
    ];
    for (option, _) in counts.iter().filter(|(_, count)| *count == 0) {
        problems.push(problem(option, "must be 1 or more", "leave it out for the default"));
    }
    if options.reconnect_max < options.reconnect_min {
        problems.push(problem("reconnect_max", "is shorter than reconnect_min", "make it longer"));
    }
    if options.window_bytes.is_some_and(|bytes| !WINDOW_BYTES.contains(&bytes)) {
        problems.push(problem("window_bytes", "is outside of HTTP/2's bounds", "64 KiB to 2 GiB - 1"));
    }
    if options.max_message_bytes < 1 << 20 {
        let help = "a single account can be 10 MiB; leave it out for 256 MiB";
        problems.push(problem("max_message_bytes", "is less than 1 MiB", help));
    }
    problems
}

fn filter_names(options: &YellowstoneOptions) -> impl Iterator<Item = (&'static str, &String)> {
    fn names<'a, F>(
        kind: &'static str,
        selection: &'a Selection<F>,
    ) -> impl Iterator<Item = (&'static str, &'a String)> {
        selection.named().map(move |(name, _)| (kind, name))
    }
    names("transactions", &options.transactions)
        .chain(names("transactions_status", &options.transactions_status))
        .chain(names("accounts", &options.accounts))
        .chain(names("entries", &options.entries))
        .chain(names("blocks", &options.blocks))
        .chain(names("blocks_meta", &options.blocks_meta))
        .chain(names("slots", &options.slots))
        .chain(names("block_footer", &options.block_footer))
}

fn problem(option: &str, message: &str, help: &str) -> Problem {
    Problem { option: option.to_owned(), message: message.to_owned(), help: help.to_owned() }
}

fn url_problem(url: &str) -> Option<Problem> {
    let help = "write it like https://host:443";
    http_url::parse_verbatim(url).err().map(|error| problem("url", &error.to_string(), help))
}

fn header_problem(name: &str, value: &Secret) -> Option<Problem> {
    let option = format!("headers.{name}");
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() || name.ends_with("-bin") {
        return Some(problem(&option, "is not the name of a text header", "letters, digits and dashes"));
    }
    http::HeaderValue::from_str(value.expose())
        .is_err()
        .then(|| problem(&option, "holds a character that a header can't", "visible ASCII only"))
}

fn token_problem(token: &Secret) -> Option<Problem> {
    http::HeaderValue::from_str(token.expose())
        .is_err()
        .then(|| problem("x_token", "holds a character that a header can't", "visible ASCII only"))
}

fn name_problem(kind: &str, name: &str) -> Option<Problem> {
    let help = "choose another name";
    let option = format!("{kind}.{name}");
    if name.starts_with(LEDGER_FILTER_PREFIX) {
        return Some(problem(&option, "uses a name that is kept for the pipeline's own filters", help));
    }
    (name.len() > MAX_NAME_BYTES).then(|| problem(&option, "has a name of more than 32 bytes", help))
}

fn transaction_problems(kind: &str, selection: &Selection<TransactionFilterOptions>) -> Vec<Problem> {
    let named = selection.named();
    named
        .filter_map(|(name, filter)| {
            let error = TransactionFilter::try_new(filter).err()?;
            let option = format!("{kind}.{name}.{}", error.option);
            Some(problem(&option, &format!("`{}` is not base58 of the right length", error.text), KEY_HELP))
        })
        .collect()
}

fn key_problems(option: &str, keys: &[String]) -> Vec<Problem> {
    let wrong = keys.iter().filter(|key| five8::decode_32(key.as_str(), &mut [0; 32]).is_err());
    wrong
        .map(|key| problem(option, &format!("`{key}` is not base58 of the right length"), KEY_HELP))
        .collect()
}

fn account_problems(name: &str, filter: &AccountFilterOptions) -> Vec<Problem> {
    let option = |key: &str| format!("accounts.{name}.{key}");
    let mut problems = key_problems(&option("account"), &filter.account);
    problems.extend(key_problems(&option("owner"), &filter.owner));
    if filter.memcmp.len() > MAX_MEMCMP_FILTERS {
        problems.push(problem(&option("memcmp"), "holds more than four", "split the filter in two"));
    }
    if filter.memcmp.iter().any(|memcmp| !is_one_of(memcmp)) {
        problems.push(problem(&option("memcmp"), "needs its bytes once", "give either base58 or base64"));
    }
    if filter.lamports.as_ref().is_some_and(|lamports| !is_one_bound(lamports)) {
        problems.push(problem(&option("lamports"), "needs exactly one bound", "give one of eq, ne, lt, gt"));
    }
    problems
}

fn is_one_of(memcmp: &MemcmpOptions) -> bool {
    memcmp.base58.is_some() != memcmp.base64.is_some()
}

fn is_one_bound(lamports: &LamportsOptions) -> bool {
    [lamports.eq, lamports.ne, lamports.lt, lamports.gt].iter().flatten().count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::Component;

    fn options(text: &str) -> YellowstoneOptions {
        toml::from_str(&format!("url = 'https://host'\n{text}")).expect("valid options")
    }

    fn wrong_options(text: &str) -> Vec<String> {
        options(text).problems().into_iter().map(|problem| problem.option).collect()
    }

    #[test]
    fn every_problem_is_found_at_once_and_named() {
        let text = "
            idle_timeout = '0s'
            window_bytes = 10
            reconnect_max = '1ms'
            x_token = \"line\\nbreak\"
            [transactions.__sluice_x]
            account_include = ['nonsense']
            [accounts.a]
            lamports = { eq = 1, lt = 2 }
            memcmp = [{ offset = 0 }]
        ";
        let expected = [
            "x_token",
            "idle_timeout",
            "reconnect_max",
            "window_bytes",
            "transactions.__sluice_x",
            "transactions.__sluice_x.account_include",
            "accounts.a.memcmp",
            "accounts.a.lamports",
        ];
        assert_eq!(wrong_options(text), expected);
    }

    #[test]
    fn a_source_needs_a_url_or_a_list_and_not_both() {
        let wrong = |text: &str| {
            let options: YellowstoneOptions = toml::from_str(text).expect("valid options");
            options.problems().into_iter().map(|problem| problem.option).collect::<Vec<_>>()
        };
        assert_eq!(wrong(""), ["url"]);
        assert_eq!(wrong("url = 'https://a'\nendpoints = [{ url = 'https://b' }]"), ["url"]);
        assert_eq!(wrong("endpoints = [{ url = 'https://a' }, { url = 'b' }]"), ["endpoints[1].url"]);
        let twice = "endpoints = [{ url = 'https://a', name = 'x' }, { url = 'https://b', name = 'x' }]";
        assert_eq!(wrong(twice), ["endpoints[1].name"]);
        assert_eq!(wrong("endpoints = [{ url = 'https://a', name = 'x y' }]"), ["endpoints[0].name"]);
        assert_eq!(
            wrong("endpoints = [{ url = 'http://a' }, { url = 'http://A:80/' }]"),
            ["endpoints[1].url"]
        );
        assert_eq!(wrong("endpoints = [{ url = 'https://a', role = 'standby' }]"), ["endpoints"]);
    }

    #[test]
    fn urls_of_other_kinds_are_refused() {
        for url in ["host:443", "ftp://host", "", "https://", "https:/host", "https://host/a b"] {
            assert!(url_problem(url).is_some(), "{url}");
        }
        assert!(url_problem("http://127.0.0.1:10000").is_none());
    }
}
