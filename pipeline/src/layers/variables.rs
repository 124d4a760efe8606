//! The variables of the environment that change a pipeline without being named in it.
//!
//! Each is a row of [`VARIABLES`]: its name, what it may be, and where its value goes, over whatever the file says. An
//! empty variable is one that is not set.

use sluice_config::diagnostic::{Code, Diagnostic, Layer, Sources, Span, quote};
use sluice_config::document::Document;
use sluice_config::layers::{Assignment, LayerText, Place, Precedence, value_at};
use sluice_config::substitute::{NotUnicode, Variables};

use super::forms::{BOOLEAN, Form};
use super::{endpoints, needs, webhook};

/// A variable.
struct Variable {
    name: &'static str,
    form: Form,
    target: Target,
}

/// Where the value of a variable goes.
#[derive(Clone, Copy)]
enum Target {
    /// An option of `[pipeline]`.
    Setting(&'static str),
    /// An option of every node of a kind.
    Option { kind: &'static str, option: &'static str },
    /// The endpoints of the sources.
    Endpoints,
    /// The receiver of alerts.
    Webhook,
}

/// A day: the longest latency or interval that makes sense.
const DAY_MILLIS: u64 = 86_400_000;

/// What is wrong with a value that is no text, whatever the variable may be.
const NOT_TEXT: &str = "this is not UTF-8 text";

const VARIABLES: &[Variable] = &[
    Variable {
        name: "PERFORMANCE_MODE",
        form: Form::Words(&[
            ("aggressive", "\"aggressive\""),
            ("balanced", "\"balanced\""),
            ("conservative", "\"conservative\""),
        ]),
        target: Target::Setting("profile"),
    },
    Variable {
        name: "COMMITMENT_STRATEGY",
        form: Form::Words(&[("fixed", "\"fixed\""), ("adaptive", "\"adaptive\"")]),
        target: Target::Option { kind: "commitment", option: "strategy" },
    },
    Variable {
        name: "MAX_THROUGHPUT",
        form: Form::Whole { least: 1, most: 10_000_000, unit: "transactions a second", suffix: "" },
        target: Target::Option { kind: "commitment", option: "thresholds.max_throughput" },
    },
    Variable {
        name: "MAX_LATENCY",
        form: Form::Whole { least: 1, most: DAY_MILLIS, unit: "milliseconds", suffix: "ms" },
        target: Target::Option { kind: "commitment", option: "thresholds.max_latency" },
    },
    Variable { name: "ALERT_WEBHOOK_URL", form: Form::SecretUrl, target: Target::Webhook },
    Variable { name: "GRPC_ENDPOINTS", form: Form::Endpoints, target: Target::Endpoints },
    Variable {
        name: "GRPC_FAILOVER_ENABLED",
        form: Form::Words(&[
            ("true", "\"failover\""),
            ("false", "\"race\""),
            ("1", "\"failover\""),
            ("0", "\"race\""),
        ]),
        target: Target::Option { kind: endpoints::KIND, option: "mode" },
    },
    Variable {
        name: "GRPC_HEALTH_CHECK_INTERVAL",
        form: Form::Whole { least: 100, most: DAY_MILLIS, unit: "milliseconds", suffix: "ms" },
        target: Target::Option { kind: endpoints::KIND, option: "health_check_interval" },
    },
    Variable {
        name: "SLOT_RECOVERY_ENABLED",
        form: BOOLEAN,
        target: Target::Option { kind: "recovery", option: "enabled" },
    },
    Variable {
        name: "SLOT_RECOVERY_BATCH_SIZE",
        form: Form::Whole { least: 1, most: 10_000, unit: "slots", suffix: "" },
        target: Target::Option { kind: "recovery", option: "batch_size" },
    },
    Variable {
        name: "SLOT_RECOVERY_MAX_RETRIES",
        form: Form::Whole { least: 0, most: 1_000, unit: "tries", suffix: "" },
        target: Target::Option { kind: "recovery", option: "max_retries" },
    },
    Variable {
        name: "MAX_MEMORY_MB",
        form: Form::Whole { least: 16, most: 16 << 20, unit: "megabytes", suffix: "MiB" },
        target: Target::Setting("memory_limit"),
    },
    Variable {
        name: "MAX_CPU_PERCENT",
        form: Form::Whole { least: 1, most: 100, unit: "percent", suffix: "" },
        target: Target::Setting("max_cpu_percent"),
    },
];

/// A variable that is set to something that it may be.
struct Setting {
    variable: &'static Variable,
    /// The value as it was written.
    written: String,
    /// The value as TOML.
    toml: String,
    name_span: Span,
    span: Span,
}

/// The variables that are set.
pub(crate) struct Settled(Vec<Setting>);

impl Settled {
    /// Reads all variables; wrong ones go to `found`.
    pub(crate) fn read(
        variables: &dyn Variables,
        sources: &mut Sources,
        found: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut text = LayerText::after(sources);
        let mut settled = Vec::new();
        for variable in VARIABLES {
            let (written, is_text) = match variables.get(variable.name) {
                Ok(Some(written)) if !written.is_empty() => (written, true),
                Ok(_) => continue,
                Err(NotUnicode { lossy }) => (lossy.expose().to_owned(), false),
            };
            let shown = variable.form.shown(&written);
            let (name_span, span) = text.line(variable.name, &shown);
            let read = if is_text { variable.form.read(written.trim()) } else { Err(NOT_TEXT.to_owned()) };
            match read {
                Ok(toml) => settled.push(Setting { variable, written, toml, name_span, span }),
                Err(wrong) => found.push(
                    Diagnostic::error(
                        Code::InvalidValue,
                        format!("{} can't be {}", variable.name, quote(&shown)),
                    )
                    .at(span, wrong)
                    .help(format!("set it to {}, or unset it", variable.form)),
                ),
            }
        }
        text.finish(Layer::Environment, "environment", sources);
        Self(settled)
    }

    /// Puts them over what the document says; those that it has no use for go to `found` as warnings.
    pub(crate) fn apply<'a>(&'a self, document: &mut Document<'a>, found: &mut Vec<Diagnostic>) {
        for setting in &self.0 {
            if setting.variable.form.is_secret() {
                document.note(setting.span.clone(), &setting.written, true);
            }
            if let Err(kind) = setting.apply(document) {
                found.push(setting.unused(format!("it is for nodes of type `{kind}`, and there are none")));
            }
        }
    }

    /// Variables whose nodes are there, but none that makes anything of the value: warnings go to `found`. The document
    /// holds all other layers by now.
    pub(crate) fn check_use(&self, document: &Document<'_>, found: &mut Vec<Diagnostic>) {
        for setting in &self.0 {
            if let Target::Option { kind, option } = setting.variable.target {
                found.extend(needs::lacking(kind, option, document).map(|lacking| setting.unused(lacking)));
            }
        }
    }
}

impl Setting {
    /// Puts the value where it belongs; if there is no node of the kind that it is for, the kind.
    fn apply<'a>(&'a self, document: &mut Document<'a>) -> Result<(), &'static str> {
        match self.variable.target {
            Target::Setting(option) => self.assign(document, Place::Settings, option, "pipeline"),
            Target::Option { kind, option } => self.assign(document, Place::Kind(kind), option, kind),
            Target::Endpoints => {
                endpoints::apply(&self.toml, &self.span, document).then_some(()).ok_or(endpoints::KIND)
            }
            Target::Webhook => {
                webhook::apply(&self.toml, &self.span, document);
                Ok(())
            }
        }
    }

    fn assign<'a>(
        &'a self,
        document: &mut Document<'a>,
        place: Place,
        option: &str,
        kind: &'static str,
    ) -> Result<(), &'static str> {
        let value = value_at(&self.toml, &self.span);
        let assignment = Assignment { place, path: option.to_owned(), value };
        let count = document.assign(&assignment, Precedence::Over, &|_| true);
        if count == 0 { Err(kind) } else { Ok(()) }
    }

    fn unused(&self, why: String) -> Diagnostic {
        let title = format!("{} changes nothing in this pipeline", self.variable.name);
        Diagnostic::warning(Code::UnusedVariable, title).at(self.name_span.clone(), "").help(why)
    }
}

#[cfg(test)]
mod tests {
    use sluice_config::diagnostic::{Diagnostics, Source};
    use sluice_config::schema::Node;
    use sluice_config::secret::Secret;

    use super::*;
    use crate::kinds::KINDS;

    /// All variables are set to this, which is not text.
    struct Binary(&'static str);

    impl Variables for Binary {
        fn get(&self, _: &str) -> Result<Option<String>, NotUnicode> {
            Err(NotUnicode { lossy: Secret::new(self.0) })
        }
    }

    #[test]
    fn a_value_that_is_no_text_is_told_with_name_value_and_what_is_allowed_and_without_secrets() {
        let read = |value: &'static str| {
            let mut sources = Sources::new(Source { name: "p.toml".to_owned(), text: String::new() });
            let mut found = Vec::new();
            assert!(Settled::read(&Binary(value), &mut sources, &mut found).0.is_empty());
            assert_eq!(found.len(), VARIABLES.len());
            Diagnostics::of(sources, found).render(false)
        };
        let text = read("50\u{fffd}");
        for expected in
            ["MAX_CPU_PERCENT can't be `50\u{fffd}`", NOT_TEXT, "a whole number of percent from 1 to 100"]
        {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        let text = read("https://host/hunter2\u{fffd}");
        for secret in ["GRPC_ENDPOINTS", "ALERT_WEBHOOK_URL"] {
            assert!(text.contains(&format!("{secret} can't be `https://host/[redacted]`")), "{text}");
        }
    }

    #[test]
    fn every_variable_names_an_option_that_there_is() {
        for variable in VARIABLES {
            let (kind, path) = match variable.target {
                Target::Option { kind, option } => (kind, option),
                Target::Endpoints => (endpoints::KIND, "endpoints"),
                Target::Webhook => ("webhook", "url"),
                Target::Setting(_) => continue,
            };
            let kind = KINDS.iter().find(|known| known.name == kind).expect("a kind");
            let schema = kind.schema();
            let option = path.split('.').try_fold(Node::root(&schema), |node, step| node.property(step));
            assert!(option.is_some(), "{}: {}.{path}", variable.name, kind.name);
        }
    }
}
