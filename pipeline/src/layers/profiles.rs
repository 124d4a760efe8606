//! Profiles: values that suit each other, for what nobody sets.

use sluice_config::diagnostic::{Layer, Sources};
use sluice_config::document::Document;
use sluice_config::layers::{Assignment, LayerText, Place, Precedence, value_at};
use sluice_config::settings::Profile;

use crate::rules;

/// An option, and its value as TOML in each profile.
struct Row {
    kind: &'static str,
    option: &'static str,
    values: fn(Profile) -> &'static str,
}

const ROWS: [Row; 4] = [
    Row {
        kind: "commitment",
        option: "level",
        values: |profile| match profile {
            Profile::Aggressive => "\"processed\"",
            Profile::Balanced => "\"confirmed\"",
            Profile::Conservative => "\"finalized\"",
        },
    },
    Row {
        kind: "batcher",
        option: "batch_size",
        values: |profile| match profile {
            Profile::Aggressive => "200",
            Profile::Balanced => "100",
            Profile::Conservative => "50",
        },
    },
    Row { kind: "recovery", option: "rpc.requests_per_second", values: requests_per_second },
    Row { kind: "yellowstone", option: "max_requests_per_second", values: requests_per_second },
];

/// The same for RPC nodes and for endpoints: each has its own limit.
fn requests_per_second(profile: Profile) -> &'static str {
    match profile {
        Profile::Aggressive => "100",
        Profile::Balanced => "50",
        Profile::Conservative => "20",
    }
}

/// Puts the profile that the document names under what it says. An option whose value a sink insists on is left at its
/// default, which is what the sink needs.
pub(crate) fn apply(document: &mut Document<'_>, sources: &mut Sources) {
    let named = document.settings.table.get("profile").and_then(|value| value.get_ref().as_str());
    let profile = match named {
        None => Profile::default(),
        Some(name) => match Profile::ALL.into_iter().find(|profile| profile.name() == name) {
            Some(profile) => profile,
            // Reported when `[pipeline]` is read.
            None => return,
        },
    };
    let mut text = LayerText::after(sources);
    for row in &ROWS {
        let value = (row.values)(profile);
        let (_, span) = text.line(&format!("{}.{}", row.kind, row.option), value);
        let bound = rules::bound(document, row.kind, row.option);
        let assignment = Assignment {
            place: Place::Kind(row.kind),
            path: row.option.to_owned(),
            value: value_at(value, &span),
        };
        document.assign(&assignment, Precedence::Under, &|name| !bound.contains(name));
    }
    text.finish(Layer::Profile, &format!("profile {}", profile.name()), sources);
}

#[cfg(test)]
mod tests {
    use sluice_config::schema::Node;

    use super::*;
    use crate::kinds::KINDS;

    #[test]
    fn every_row_names_an_option_that_there_is() {
        for row in &ROWS {
            let kind = KINDS.iter().find(|kind| kind.name == row.kind).expect("a kind");
            let schema = kind.schema();
            let option =
                row.option.split('.').try_fold(Node::root(&schema), |node, step| node.property(step));
            assert!(option.is_some(), "{}.{}", row.kind, row.option);
        }
    }
}
