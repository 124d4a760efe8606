//! Whether what alert rules read is measured by the monitor that feeds them.

use sluice_config::diagnostic::Diagnostic;
use sluice_config::document::Document;
use sluice_config::graph::Graph;
use sluice_stages::alert_evaluator::AlertEvaluatorOptions;
use sluice_stages::component::{Component as _, Role};
use sluice_stages::monitor::MonitorOptions;

use crate::draft::{Draft, invalid_value};

/// Checks the rules of every alert evaluator that monitors alone feed: series of another origin may have any name.
pub(crate) fn check(
    drafts: &[Draft],
    document: &Document<'_>,
    graph: &Graph<'_>,
    found: &mut Vec<Diagnostic>,
) {
    let is_monitor = |node: usize| drafts[node].kind_name() == MonitorOptions::KIND;
    let is_other =
        |node: usize| !is_monitor(node) && drafts[node].kind.is_none_or(|kind| kind.role == Role::Source);
    for (node, (draft, table)) in drafts.iter().zip(&document.nodes).enumerate() {
        let options = draft.options.as_ref().and_then(|options| options.as_any().downcast_ref());
        let Some(options): Option<&AlertEvaluatorOptions> = options else { continue };
        let is_fed = graph.find_upstream(node, &is_monitor).is_some();
        if is_fed && graph.find_upstream(node, &is_other).is_none() {
            let problems = options.unmeasured();
            found.extend(
                problems
                    .iter()
                    .map(|problem| invalid_value(&draft.title, table, problem, &document.replaced)),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::Plan;

    fn refused(rule: &str) -> Option<String> {
        let text = format!(
            "[sources.meter]\ntype = \"monitor\"\n\
             [stages.alerts]\ntype = \"alert_evaluator\"\ninputs = [\"meter\"]\n\
             [stages.alerts.rules.own]\nthreshold = 1\n{rule}\n\
             [sinks.out]\ntype = \"discard\"\ninputs = [\"alerts\"]\n"
        );
        Plan::parse("test.toml", &text, &|_: &str| None).err().map(|found| found.to_string())
    }

    #[test]
    fn a_rule_that_no_monitor_can_feed_is_refused_where_it_stands() {
        let error = refused("metric = \"latencyms\"").expect("refused");
        assert!(error.contains("no monitor measures `latencyms`"), "{error}");
        assert!(error.contains("did you mean `latency_ms`?") && error.contains("test.toml:8:"), "{error}");
        let error = refused("metric = \"latency_ms\"\nmatchers = [\"quantil=p99\"]").expect("refused");
        assert!(error.contains("did you mean `quantile`?"), "{error}");
        assert_eq!(refused("metric = \"latency_ms\"\nmatchers = [\"quantile=p99\"]"), None);
    }
}
