//! The variables of the environment that change a pipeline without being named in it.
//!
//! Each is a row of [`VARIABLES`]: its name, what it may be, and the options that it sets, over whatever the file says.
//! An empty variable is one that is not set.

use std::fmt;

use sluice_config::diagnostic::{Code, Diagnostic, Layer, Sources, Span, quote};
use sluice_config::document::Document;
use sluice_config::layers::{Assignment, LayerText, Place, Precedence, value_at};
use sluice_config::substitute::Variables;

/// A variable.
struct Variable {
    name: &'static str,
    form: Form,
    /// The options that it sets.
    targets: &'static [Target],
}

/// An option that a variable sets; without a kind, one of `[pipeline]`.
struct Target {
    kind: Option<&'static str>,
    option: &'static str,
}

/// What a variable may be.
enum Form {
    /// One of several words, each with the TOML value that it stands for.
    Words(&'static [(&'static str, &'static str)]),
    /// A whole number of something.
    Whole {
        least: u64,
        most: u64,
        /// What it counts, e.g. "milliseconds".
        unit: &'static str,
        /// What stands behind the number in the TOML value; nothing if it is a plain number there.
        suffix: &'static str,
    },
}

const BOOLEAN: Form = Form::Words(&[("true", "true"), ("false", "false"), ("1", "true"), ("0", "false")]);

const VARIABLES: &[Variable] = &[
    Variable {
        name: "PERFORMANCE_MODE",
        form: Form::Words(&[
            ("aggressive", "\"aggressive\""),
            ("balanced", "\"balanced\""),
            ("conservative", "\"conservative\""),
        ]),
        targets: &[Target { kind: None, option: "profile" }],
    },
    Variable {
        name: "COMMITMENT_STRATEGY",
        form: Form::Words(&[("fixed", "\"fixed\""), ("adaptive", "\"adaptive\"")]),
        targets: &[Target { kind: Some("commitment"), option: "strategy" }],
    },
    Variable {
        name: "MAX_THROUGHPUT",
        form: Form::Whole { least: 1, most: 10_000_000, unit: "transactions a second", suffix: "" },
        targets: &[Target { kind: Some("commitment"), option: "thresholds.max_throughput" }],
    },
    Variable {
        name: "MAX_LATENCY",
        form: Form::Whole { least: 1, most: 86_400_000, unit: "milliseconds", suffix: "ms" },
        targets: &[Target { kind: Some("commitment"), option: "thresholds.max_latency" }],
    },
    Variable {
        name: "SLOT_RECOVERY_ENABLED",
        form: BOOLEAN,
        targets: &[Target { kind: Some("recovery"), option: "enabled" }],
    },
    Variable {
        name: "SLOT_RECOVERY_BATCH_SIZE",
        form: Form::Whole { least: 1, most: 10_000, unit: "slots", suffix: "" },
        targets: &[Target { kind: Some("recovery"), option: "batch_size" }],
    },
    Variable {
        name: "SLOT_RECOVERY_MAX_RETRIES",
        form: Form::Whole { least: 0, most: 1_000, unit: "tries", suffix: "" },
        targets: &[Target { kind: Some("recovery"), option: "max_retries" }],
    },
    Variable {
        name: "MAX_MEMORY_MB",
        form: Form::Whole { least: 16, most: 16 << 20, unit: "megabytes", suffix: "MiB" },
        targets: &[Target { kind: None, option: "memory_limit" }],
    },
    Variable {
        name: "MAX_CPU_PERCENT",
        form: Form::Whole { least: 1, most: 100, unit: "percent", suffix: "" },
        targets: &[Target { kind: None, option: "max_cpu_percent" }],
    },
];

impl Form {
    /// The TOML value that `text` stands for, if it stands for one.
    fn read(&self, text: &str) -> Option<String> {
        match self {
            Self::Words(words) => {
                let word = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text))?;
                Some(word.1.to_owned())
            }
            Self::Whole { least, most, suffix, .. } => {
                let number = text.parse::<u64>().ok().filter(|number| (least..=most).contains(&number))?;
                Some(if suffix.is_empty() { number.to_string() } else { format!("\"{number}{suffix}\"") })
            }
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(words) => {
                let words: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
                write!(f, "one of {}", words.join(", "))
            }
            Self::Whole { least, most, unit, .. } => {
                write!(f, "a whole number of {unit} from {least} to {most}")
            }
        }
    }
}

/// A variable that is set to something that it may be.
struct Setting {
    variable: &'static Variable,
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
            let Some(value) = variables.get(variable.name).filter(|value| !value.is_empty()) else {
                continue;
            };
            let (name_span, span) = text.line(variable.name, &value);
            match variable.form.read(value.trim()) {
                Some(toml) => settled.push(Setting { variable, toml, name_span, span }),
                None => found.push(
                    Diagnostic::error(
                        Code::InvalidValue,
                        format!("{} can't be {}", variable.name, quote(&value)),
                    )
                    .at(span, format!("expected {}", variable.form))
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
            let count: usize =
                setting.variable.targets.iter().map(|target| setting.assign(target, document)).sum();
            if count == 0 {
                found.push(setting.unused());
            }
        }
    }
}

impl Setting {
    fn assign<'a>(&'a self, target: &Target, document: &mut Document<'a>) -> usize {
        let assignment = Assignment {
            place: target.kind.map_or(Place::Settings, Place::Kind),
            path: target.option.to_owned(),
            value: value_at(&self.toml, &self.span),
        };
        document.assign(&assignment, Precedence::Over, &|_| true)
    }

    fn unused(&self) -> Diagnostic {
        let kinds: Vec<_> = self
            .variable
            .targets
            .iter()
            .filter_map(|target| target.kind)
            .map(|kind| format!("`{kind}`"))
            .collect();
        let title = format!("{} changes nothing in this pipeline", self.variable.name);
        Diagnostic::warning(Code::UnusedVariable, title)
            .at(self.name_span.clone(), "")
            .help(format!("it is for nodes of type {}, and there are none", kinds.join(" or ")))
    }
}
