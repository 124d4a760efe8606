//! The options of `car`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_config::secret::Secret;

use super::feed::Feed;
use super::root::CarRoot;
use super::source::Car;
use crate::backfill::{BlockMaker, SlotRange, range_problems};
use crate::component::{Accepts, BuildContext, BuildError, Component, Emits, Node, Problem, Role};
use crate::http_url;
use crate::recovery::pool::RpcList;
use crate::stage::Flow;
use crate::yellowstone::filters::{Selection, TransactionFilterOptions};
use crate::yellowstone::options::union;

/// An Old Faithful archive of an epoch, from a file or over HTTP; the source ends with it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CarOptions {
    /// The file. Either this or `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Where the file is served, in ranges. Either this or `path`. It is never shown, since it may hold a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Secret>,
    /// The root that was published for the epoch, `"bafyrei…"`: an archive with another one is refused. Default: the one
    /// that the file names itself, so that damage is told, but not a forgery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<CarRoot>,
    /// The RPC node, or nodes, asked for the first block of the archive, whose parent's blockhash is not in it, and for the
    /// one behind its last. Default: none; then the first and the last file stay holes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpc: Option<RpcList>,
    /// The slots that are wanted, as in `rpc_blocks`. Default: all that are in the archive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<SlotRange>,
    /// The transactions that sinks get: all, or those that match filters, as in `yellowstone`. Default all.
    #[serde(default = "everything")]
    pub transactions: Selection<TransactionFilterOptions>,
}

fn everything() -> Selection<TransactionFilterOptions> {
    Selection::Everything
}

impl CarOptions {
    /// The defaults, for the archive at `place`: a url if it looks like one, else a file.
    pub fn new(place: &str) -> Self {
        let is_url = place.starts_with("http://") || place.starts_with("https://");
        Self {
            path: (!is_url).then(|| PathBuf::from(place)),
            url: is_url.then(|| Secret::new(place)),
            root: None,
            rpc: None,
            ranges: Vec::new(),
            transactions: everything(),
        }
    }
}

impl Component for CarOptions {
    const KIND: &'static str = "car";
    const ROLE: Role = Role::Source;
    const ACCEPTS: Accepts = Accepts::Nothing;
    const EMITS: Emits = Emits::Only(Flow::Blocks);
    const SUMMARY: &'static str =
        "reads an epoch from an Old Faithful CAR archive, local or over HTTP, and ends";

    fn problems(&self) -> Vec<Problem> {
        let problem = |option: &str, message: &str, help: &str| Problem {
            option: option.to_owned(),
            message: message.to_owned(),
            help: help.to_owned(),
        };
        let mut problems = Vec::new();
        match (&self.path, &self.url) {
            (None, None) => problems.push(problem("path", "there is no archive", "give a path or a url")),
            (Some(_), Some(_)) => {
                problems.push(problem("url", "there is a path, too", "give only one of them"))
            }
            (None, Some(url)) => {
                if let Err(error) = http_url::parse(url.expose()) {
                    problems.push(problem("url", &error.to_string(), "write it like https://host/epoch.car"));
                }
            }
            (Some(_), None) => {}
        }
        if !self.ranges.is_empty() {
            problems.extend(range_problems(&self.ranges));
        }
        problems.extend(self.rpc.iter().flat_map(RpcList::problems));
        problems
    }

    fn build(self, context: &mut BuildContext) -> Result<Node, BuildError> {
        let maker = BlockMaker::try_new(&self.transactions)?;
        context.scope = union(context.scope, maker.scope());
        let feed = match (self.path, self.url) {
            (Some(path), _) => Feed::file(path),
            (None, Some(url)) => Feed::http(url),
            (None, None) => return Err(BuildError::Other("there is no archive".to_owned())),
        };
        let feed = feed.map_err(|error| BuildError::Other(error.to_string()))?;
        Ok(Node::Source(Box::new(Car::new(feed, self.root, self.rpc, self.ranges, maker))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_a_file_or_a_url() {
        assert_eq!(CarOptions::new("epoch-1.car").problems(), []);
        assert_eq!(CarOptions::new("https://host/1.car").problems(), []);
        let both = CarOptions { path: Some(PathBuf::from("x")), ..CarOptions::new("https://host/1.car") };
        let neither = CarOptions { path: None, ..CarOptions::new("x") };
        let wrong = CarOptions { path: None, url: Some(Secret::new("ftp://host")), ..CarOptions::new("x") };
        for (options, option) in [(both, "url"), (neither, "path"), (wrong, "url")] {
            let problems = options.problems();
            assert_eq!(problems.iter().map(|problem| problem.option.as_str()).collect::<Vec<_>>(), [option]);
        }
    }

    #[test]
    fn a_url_is_never_shown() {
        let options = CarOptions::new("https://host/1.car?key=hunter2");
        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
