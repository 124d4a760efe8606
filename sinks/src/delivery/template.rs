//! Bodies of one's own: a [minijinja](https://docs.rs/minijinja) template over the fields of a notice's record.
//!
//! `{{ message | tojson }}` writes a value as JSON, quotes included. Everything else is as Jinja has it. An undefined name
//! is an error, so that a typo is not an empty alert.

use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use serde::Serialize;

use super::alert_record::FIELDS;

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
    /// The line that is not a template, and why; or what it asks for that no notice has.
    pub(crate) fn try_new(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| describe(&error))?;
        let template = environment.get_template(NAME).map_err(|error| describe(&error))?;
        let is_known = |name: &String| {
            FIELDS.contains(&name.as_str()) || environment.globals().any(|(known, _)| known == name)
        };
        let mut unknown: Vec<_> =
            template.undeclared_variables(false).into_iter().filter(|name| !is_known(name)).collect();
        unknown.sort_unstable();
        if let Some(name) = unknown.first() {
            return Err(format!("there is no `{name}`; there are {}", FIELDS.join(", ")));
        }
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
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
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
        let error =
            render("{% for one in alerts %}{{ one.massage }}{% endfor %}").expect_err("no such field");
        assert!(error.starts_with("line 1: "), "{error}");
        let error = render("{{ labels.none | tojson }}").expect_err("no such label");
        assert!(error.starts_with("line 1: "), "{error}");
    }

    #[test]
    fn a_field_that_there_is_not_is_told_before_anything_is_sent() {
        for source in
            [r#"{"text": {{ massage | tojson }}}"#, "{% if massage %}x{% endif %}", "{{ massage.text }}"]
        {
            let error = Template::try_new(source).expect_err("a typo");
            assert!(error.starts_with("there is no `massage`; there are type, severity, "), "{error}");
        }
        let own = "{% set text = message %}{% for one in alerts %}{{ text }}{{ one.rule }}{{ loop.index }}{% endfor %}";
        assert_eq!(render(own).expect("rendered").matches("latency").count(), 2);
        assert_eq!(render("{{ range(2) | length }}{{ severity }}").expect("rendered"), "2error");
    }

    #[test]
    fn the_fields_are_those_of_a_record() {
        let teller = Teller { pipeline: "demo".to_owned(), channel: "ops".to_owned() };
        let notice = notice("latency", Severity::Error);
        let record =
            serde_json::to_value(NoticeRecord::new(&notice, &teller).expect("an alert")).expect("JSON");
        let mut names: Vec<_> = record.as_object().expect("an object").keys().cloned().collect();
        let mut fields = FIELDS.to_vec();
        names.sort_unstable();
        fields.sort_unstable();
        assert_eq!(names, fields);
    }
}
