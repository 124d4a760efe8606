//! Where each value of a pipeline came from.

use std::collections::BTreeMap;

use sluice_config::diagnostic::Sources;
use sluice_config::document::Document;
use sluice_config::layers::places;
use sluice_config::source::Origin;

/// The key of `[pipeline]` among the names of nodes; no node can have it.
const SETTINGS: &str = "";

/// The origin of every value that is not a default, by node and option.
#[derive(Debug, Default)]
pub struct Origins(BTreeMap<String, BTreeMap<String, Origin>>);

impl Origins {
    /// Those of a document with all layers in it.
    pub(crate) fn of(document: &Document<'_>, sources: &Sources) -> Self {
        let origins = |options: Vec<_>| -> BTreeMap<String, Origin> {
            options.into_iter().map(|(path, span)| (path, sources.origin(&span))).collect()
        };
        let mut all = BTreeMap::new();
        all.insert(SETTINGS.to_owned(), origins(places(&document.settings)));
        for node in &document.nodes {
            let mut values = places(&node.options);
            values.extend(places(&node.edge));
            values.extend(node.kind.as_ref().map(|kind| ("type".to_owned(), kind.span())));
            values.extend(node.inputs.as_ref().map(|inputs| ("inputs".to_owned(), inputs.span.clone())));
            all.insert(node.name.get_ref().clone(), origins(values));
        }
        Self(all)
    }

    /// Where `path` of `[pipeline]` came from; `None` is a default.
    pub fn setting(&self, path: &str) -> Option<&Origin> {
        self.option(SETTINGS, path)
    }

    /// Where the option `path` of `node` came from, or the table or list that it is part of; `None` is a default.
    pub fn option(&self, node: &str, path: &str) -> Option<&Origin> {
        self.0.get(node)?.get(path)
    }
}
