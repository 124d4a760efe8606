//! `${NAME}` in string values.
//!
//! Variables are put in after parsing, into values only, so that a value can't change the structure of the document and
//! an error keeps its line.
//!
//! | written | becomes |
//! | --- | --- |
//! | `${NAME}` | the variable; an error if it is not set |
//! | `${NAME:-text}` | the variable, or the text if it is not set or empty |
//! | `${NAME:?text}` | the variable; an error with this text if it is not set or empty |
//! | `$$` | `$` |
//! | any other `$` | itself |

use std::fmt;

use crate::secret::Secret;

/// Where variables come from. [`std::env::var`] outside of tests.
pub trait Variables {
    /// The variable's value, if it is set.
    ///
    /// # Errors
    /// If it is set to something that is not text.
    fn get(&self, name: &str) -> Result<Option<String>, NotUnicode>;
}

impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn get(&self, name: &str) -> Result<Option<String>, NotUnicode> {
        Ok(self(name))
    }
}

/// The value of a variable is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotUnicode {
    /// The value, with what can't be read replaced; it may be a token.
    pub lossy: Secret,
}

/// A text with its variables put in.
#[derive(Clone, PartialEq, Eq)]
pub struct Substituted {
    /// The text.
    pub text: String,
    /// The values that came from the environment; they must not be shown.
    pub values: Vec<String>,
}

impl fmt::Debug for Substituted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Substituted({} values)", self.values.len())
    }
}

/// A variable that could not be put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableError {
    /// The reference as far as it was written, e.g. `${NAME`.
    pub reference: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// Puts the variables into `text`; `None` if there is no `$` in it.
///
/// # Errors
/// Every reference that is written wrong or has no value.
pub fn substitute(text: &str, variables: &dyn Variables) -> Result<Option<Substituted>, Vec<VariableError>> {
    if !text.contains('$') {
        return Ok(None);
    }
    let mut result = Substituted { text: String::with_capacity(text.len()), values: Vec::new() };
    let mut errors = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        result.text.push_str(&rest[..dollar]);
        rest = after_dollar(&rest[dollar..], variables, &mut result, &mut errors);
    }
    result.text.push_str(rest);
    if errors.is_empty() { Ok(Some(result)) } else { Err(errors) }
}

/// Handles what begins with the `$` that `rest` begins with, and returns what follows.
fn after_dollar<'a>(
    rest: &'a str,
    variables: &dyn Variables,
    result: &mut Substituted,
    errors: &mut Vec<VariableError>,
) -> &'a str {
    if let Some(next) = rest.strip_prefix("$$") {
        result.text.push('$');
        return next;
    }
    let Some(body) = rest.strip_prefix("${") else {
        result.text.push('$');
        return &rest[1..];
    };
    let Some(close) = body.find('}') else {
        errors.push(VariableError {
            reference: rest.to_owned(),
            message: "a reference to a variable is not closed".to_owned(),
            help: "write `${NAME}`, or `$$` for a dollar sign".to_owned(),
        });
        return "";
    };
    match resolve(&body[..close], variables) {
        Ok(Resolved::Variable(value)) => {
            result.text.push_str(&value);
            result.values.push(value);
        }
        Ok(Resolved::Default(text)) => result.text.push_str(text),
        Err((message, help)) => {
            errors.push(VariableError { reference: rest[..close + 3].to_owned(), message, help });
        }
    }
    &body[close + 1..]
}

enum Resolved<'a> {
    Variable(String),
    Default(&'a str),
}

fn resolve<'a>(body: &'a str, variables: &dyn Variables) -> Result<Resolved<'a>, (String, String)> {
    let end = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(body.len());
    let (name, modifier) = body.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        let help = "write `${NAME}`, or `$$` for a dollar sign".to_owned();
        return Err(("a reference to a variable has no valid name".to_owned(), help));
    }
    let value = variables.get(name).map_err(|NotUnicode { .. }| {
        (format!("the value of variable `{name}` is not UTF-8 text"), format!("set `{name}` to text"))
    })?;
    let filled = value.clone().filter(|value| !value.is_empty());
    if let Some(default) = modifier.strip_prefix(":-") {
        return nested(default).map(|default| filled.map_or(Resolved::Default(default), Resolved::Variable));
    }
    if let Some(message) = modifier.strip_prefix(":?") {
        let unset = || (format!("variable `{name}` is not set"), format!("{message} (set `{name}`)"));
        return filled.map(Resolved::Variable).ok_or_else(unset);
    }
    if !modifier.is_empty() {
        let help = format!("write `${{{name}}}`, `${{{name}:-default}}` or `${{{name}:?message}}`");
        return Err((format!("variable `{name}` is followed by something unknown"), help));
    }
    let help = format!("set `{name}`, or give a default: `${{{name}:-default}}`");
    value.map(Resolved::Variable).ok_or_else(|| (format!("variable `{name}` is not set"), help))
}

/// A default may not hold another reference: the first `}` would end it in the wrong place.
fn nested(default: &str) -> Result<&str, (String, String)> {
    if default.contains("${") {
        let help = "set the outer variable, or write the default out".to_owned();
        return Err(("a default can't hold another variable".to_owned(), help));
    }
    Ok(default)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn variables(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("example.org".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn text(template: &str) -> Result<String, String> {
        match substitute(template, &variables) {
            Ok(result) => Ok(result.map_or_else(|| template.to_owned(), |result| result.text)),
            Err(errors) => Err(errors[0].message.clone()),
        }
    }

    #[test]
    fn references_become_what_the_table_says() {
        for (template, expected) in [
            ("plain", "plain"),
            ("http://${HOST}:1/", "http://example.org:1/"),
            ("${HOST:-x}", "example.org"),
            ("${UNSET:-a:-b?}", "a:-b?"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${HOST:?why}", "example.org"),
            ("$$5 $${HOST} 5$ $x", "$5 ${HOST} 5$ $x"),
        ] {
            assert_eq!(text(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn a_reference_without_value_says_which_variable() {
        for (template, expected) in [
            ("${UNSET}", "variable `UNSET` is not set"),
            ("${EMPTY:?needed}", "variable `EMPTY` is not set"),
            ("${HOST", "a reference to a variable is not closed"),
            ("${}", "a reference to a variable has no valid name"),
            ("${1A}", "a reference to a variable has no valid name"),
            ("${HOST-x}", "variable `HOST` is followed by something unknown"),
            ("${A:-${B}}", "a default can't hold another variable"),
        ] {
            assert_eq!(text(template), Err(expected.to_owned()), "{template}");
        }
    }

    #[test]
    fn a_value_that_is_no_text_is_not_taken_for_none() {
        struct Binary;
        impl Variables for Binary {
            fn get(&self, _: &str) -> Result<Option<String>, NotUnicode> {
                Err(NotUnicode { lossy: Secret::new("hunter2\u{fffd}") })
            }
        }
        for template in ["${A}", "${A:-default}", "${A:?message}"] {
            let errors = substitute(template, &Binary).expect_err("it can't be used");
            assert_eq!(errors[0].message, "the value of variable `A` is not UTF-8 text");
            assert!(!format!("{errors:?}").contains("hunter2"));
        }
    }

    #[test]
    fn every_error_of_a_text_is_reported() {
        let errors = substitute("${A} ${B:?no b}", &variables).expect_err("neither is set");
        assert_eq!(errors.len(), 2);
        assert_eq!((errors[1].reference.as_str(), errors[1].help.as_str()), ("${B:?no b}", "no b (set `B`)"));
    }

    #[test]
    fn values_are_kept_apart_and_out_of_debug_output() {
        let result = substitute("${HOST}/${UNSET:-d}", &variables).expect("valid").expect("has a dollar");
        assert_eq!(result.values, ["example.org"]);
        assert_eq!(format!("{result:?}"), "Substituted(1 values)");
    }

    proptest! {
        #[test]
        fn any_text_is_substituted_or_refused(template in "[a-zA-Z${}:?\\-é]{0,40}") {
            let _outcome = substitute(&template, &variables);
        }

        #[test]
        fn a_text_with_doubled_dollars_comes_out_as_it_was(plain: String) {
            prop_assert_eq!(text(&plain.replace('$', "$$")), Ok(plain));
        }
    }
}
