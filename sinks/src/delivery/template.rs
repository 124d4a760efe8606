//! Bodies of one's own: a [minijinja](https://docs.rs/minijinja) template over the fields of a notice's record.
//!
//! `{{ message | tojson }}` writes a value as JSON, quotes included. Everything else is as Jinja has it. An undefined name
//! is an error, so that a typo is not an empty alert.

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde::Serialize;

const NAME: &str = "template";

/// A template that was parsed.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    environment: Environment<'static>,
}

impl Template {
    /// Parses `source`.
    ///
    /// # Errors
    /// The line that is not a template, and why.
    pub(crate) fn try_new(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| describe(&error))?;
        Ok(Self { environment })
    }

    /// The text for `fields`.
    ///
    /// # Errors
    /// What the template asks for that is not there, and where.
    pub(crate) fn render(&self, fields: &impl Serialize) -> Result<String, String> {
        let template = self.environment.get_template(NAME).map_err(|error| describe(&error))?;
        template.render(fields).map_err(|error| describe(&error))
    }
}

fn to_json(value: &Value) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

fn describe(error: &Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("line {line}: {detail}"),
        None => detail,
    }
}

#[cfg(test)]
mod tests {
    use sluice_stages::alert::Severity;

    use super::*;
    use crate::delivery::alert_record::{NoticeRecord, Teller};
    use crate::delivery::testing::notice;

    fn render(source: &str) -> Result<String, String> {
        let teller = Teller { pipeline: "demo".to_owned(), channel: "ops".to_owned() };
        let notice = notice("latency", Severity::Error);
        Template::try_new(source)?.render(&NoticeRecord::new(&notice, &teller).expect("an alert"))
    }

    #[test]
    fn values_can_be_quoted_for_json() {
        let text = render(
            r#"{"text": {{ (severity | upper ~ " " ~ message) | tojson }}, "n": {{ alerts | length }}}"#,
        );
        let body: serde_json::Value = serde_json::from_str(&text.expect("rendered")).expect("JSON");
        assert_eq!(body["text"], "ERROR latency: \"1250.5\" is > 1000 <for long>");
        assert_eq!(body["n"], 1);
    }

    #[test]
    fn a_template_that_is_none_names_its_line() {
        let error = render("ok\n{{ message ").expect_err("not closed");
        assert!(error.starts_with("line 2: "), "{error}");
        let error = render("{{ massage }}").expect_err("no such field");
        assert!(error.starts_with("line 1: "), "{error}");
    }
}
