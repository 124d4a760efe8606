//! Matchers: which alerts or series somebody means, as Prometheus and Alertmanager write it.
//!
//! `name="value"`, `name!="value"`, `name=~"expression"` and `name!~"expression"`. A label that is missing counts as an
//! empty one; an expression has to match the whole value, and its classes (`\d`, `\s`, `\w`) are those of ASCII. Quotes may be left out around a value without quotes of its own.

use std::fmt;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Most bytes that a compiled expression may take: what alternatives of some hundred words need, and no more, since
/// expressions come in over the API.
const EXPRESSION_BYTES: usize = 256 << 10;

/// What is compared, and how.
#[derive(Debug, Clone)]
enum Condition {
    Equal(String),
    NotEqual(String),
    Matches(Expression),
    MatchesNot(Expression),
}

/// A regular expression as it was written, and ready to be used.
#[derive(Debug, Clone)]
struct Expression {
    text: String,
    regex: Regex,
}

/// One condition on one label.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Matcher {
    name: String,
    condition: Condition,
}

/// Why a text is not a matcher.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MatcherError {
    /// No operator, or no name before it.
    #[error(
        "`{0}` is not a matcher, write it like `severity=\"critical\"`, `rule!=\"lag\"` or `endpoint=~\"ams|us\"`"
    )]
    Syntax(String),
    /// Not a regular expression, or too large a one.
    #[error("`{expression}` can't be used as a regular expression: {reason}")]
    Expression {
        /// The expression.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Matcher {
    /// The matcher `name="value"`.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), condition: Condition::Equal(value.into()) }
    }

    /// The label that it looks at.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value or expression that it compares with.
    pub fn value(&self) -> &str {
        match &self.condition {
            Condition::Equal(value) | Condition::NotEqual(value) => value,
            Condition::Matches(expression) | Condition::MatchesNot(expression) => &expression.text,
        }
    }

    /// `=`, `!=`, `=~` or `!~`.
    pub fn operator(&self) -> &'static str {
        match self.condition {
            Condition::Equal(_) => "=",
            Condition::NotEqual(_) => "!=",
            Condition::Matches(_) => "=~",
            Condition::MatchesNot(_) => "!~",
        }
    }

    /// Whether the label's value fits; a missing label's is empty.
    pub fn fits(&self, value: &str) -> bool {
        match &self.condition {
            Condition::Equal(wanted) => value == wanted,
            Condition::NotEqual(unwanted) => value != unwanted,
            Condition::Matches(expression) => expression.regex.is_match(value),
            Condition::MatchesNot(expression) => !expression.regex.is_match(value),
        }
    }

    /// Whether it fits no label at all: a set of only such matchers would mean everything.
    pub fn fits_empty(&self) -> bool {
        self.fits("")
    }
}

/// The expression with the classes that Prometheus means by these letters: Unicode's are hundreds of times as large.
fn with_ascii_classes(text: &str) -> String {
    let (mut result, mut letters) = (String::with_capacity(text.len()), text.chars());
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            result.push(letter);
            continue;
        }
        match letters.next() {
            Some('d') => result.push_str("[0-9]"),
            Some('D') => result.push_str("[^0-9]"),
            Some('s') => result.push_str(r"[\t\n\f\r ]"),
            Some('S') => result.push_str(r"[^\t\n\f\r ]"),
            Some('w') => result.push_str("[0-9A-Za-z_]"),
            Some('W') => result.push_str("[^0-9A-Za-z_]"),
            escaped => result.extend(['\\'].into_iter().chain(escaped)),
        }
    }
    result
}

fn expression(text: &str) -> Result<Expression, MatcherError> {
    let built = with_ascii_classes(text);
    // Checked alone first: `a)|(b` would be an expression only because of the parentheses around it.
    let alone = RegexBuilder::new(&built).size_limit(EXPRESSION_BYTES).build();
    let anchored = format!("^(?:{built})$");
    let anchored = alone.and_then(|_| RegexBuilder::new(&anchored).size_limit(EXPRESSION_BYTES).build());
    anchored.map(|regex| Expression { text: text.to_owned(), regex }).map_err(|error| {
        let shown = error.to_string();
        let reason = shown.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        MatcherError::Expression { expression: text.to_owned(), reason }
    })
}

impl FromStr for Matcher {
    type Err = MatcherError;

    fn from_str(text: &str) -> Result<Self, MatcherError> {
        let syntax = || MatcherError::Syntax(text.to_owned());
        let at = text.find(['=', '!']).ok_or_else(syntax)?;
        let (name, rest) = text.split_at(at);
        let operators = ["=~", "!~", "!=", "="];
        let operator =
            operators.into_iter().find(|operator| rest.starts_with(operator)).ok_or_else(syntax)?;
        let value = unquote(rest[operator.len()..].trim()).ok_or_else(syntax)?;
        let name = name.trim();
        if name.is_empty() || name.contains(|letter: char| letter.is_whitespace() || letter == '"') {
            return Err(syntax());
        }
        let condition = match operator {
            "=" => Condition::Equal(value),
            "!=" => Condition::NotEqual(value),
            "=~" => Condition::Matches(expression(&value)?),
            _ => Condition::MatchesNot(expression(&value)?),
        };
        Ok(Self { name: name.to_owned(), condition })
    }
}

/// The value inside its quotes, or as it is if it has none; `None` if its quotes don't pair.
fn unquote(text: &str) -> Option<String> {
    if !text.contains('"') {
        return Some(text.to_owned());
    }
    let quoted = text.strip_prefix('"')?.strip_suffix('"')?;
    let (mut value, mut letters) = (String::new(), quoted.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next()? {
                'n' => value.push('\n'),
                escaped @ ('\\' | '"') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            '"' => return None,
            letter => value.push(letter),
        }
    }
    Some(value)
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write!(f, "{}{}\"{value}\"", self.name, self.operator())
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (self.name(), self.operator(), self.value()) == (other.name(), other.operator(), other.value())
    }
}

impl Eq for Matcher {}

impl TryFrom<String> for Matcher {
    type Error = MatcherError;

    fn try_from(text: String) -> Result<Self, MatcherError> {
        text.parse()
    }
}

impl From<Matcher> for String {
    fn from(matcher: Matcher) -> Self {
        matcher.to_string()
    }
}

/// Whether every matcher fits; `label` gives the value of a label.
pub fn all_fit<'l>(matchers: &[Matcher], label: impl Fn(&str) -> Option<&'l str>) -> bool {
    matchers.iter().all(|matcher| matcher.fits(label(matcher.name()).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matcher(text: &str) -> Matcher {
        text.parse().expect("a matcher")
    }

    #[test]
    fn each_operator_means_what_prometheus_means_by_it() {
        for (text, fitting, other) in [
            ("a=\"x\"", "x", "xy"),
            ("a!=x", "xy", "x"),
            ("a=~\"x|y\"", "y", "xy"),
            ("a!~x.*", "y", "xy"),
            ("a=~\".*\"", "", "\n"),
            ("a=", "", "x"),
        ] {
            assert!(matcher(text).fits(fitting), "{text} {fitting}");
            assert!(!matcher(text).fits(other), "{text} {other}");
        }
    }

    #[test]
    fn what_is_no_matcher_says_why() {
        for text in ["", "a", "=x", "a b=x", "a=\"x", "a=\"x\"y", "a!x", "a=\"x\\\""] {
            assert_eq!(text.parse::<Matcher>(), Err(MatcherError::Syntax(text.to_owned())), "{text}");
        }
        for text in ["a=~(", "a=~a)|(b", "a=~(x{1000}){1000}"] {
            let error = text.parse::<Matcher>().expect_err("no expression");
            assert!(matches!(error, MatcherError::Expression { .. }), "{text}: {error}");
        }
    }

    #[test]
    fn classes_are_those_of_ascii_and_cost_no_more() {
        for (text, fitting, other) in [
            (r"a=~\w{2,4}-\d+", "ab-1", "äb-1"),
            (r"a=~[\w.]+\s[^\d]", "x.y z", "x.y 1"),
            (r"a=~\\w", r"\w", "x"),
            (r"a=~\W\D\S", "-äx", "x1x"),
        ] {
            assert!(matcher(text).fits(fitting), "{text} {fitting}");
            assert!(!matcher(text).fits(other), "{text} {other}");
            assert_eq!(matcher(text).to_string().parse::<Matcher>(), Ok(matcher(text)));
        }
        assert_eq!(matcher(r"a=~\w+").value(), r"\w+", "shown as it was written");
        matcher(r"a=~\w{2,4}\W{2,4}\w{2,4}\W{2,4}\S{2,4}\D{2,4}");
    }

    #[test]
    fn a_missing_label_is_an_empty_one() {
        assert!(all_fit(&[matcher("a!=x")], |_| None));
        assert!(!all_fit(&[matcher("a=x")], |_| None));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(name in "[a-z_]{1,8}", value in "\\PC{0,12}|[\\\\\"\n]{0,6}") {
            let matcher = Matcher::equal(name, value);
            prop_assert_eq!(matcher.to_string().parse::<Matcher>(), Ok(matcher));
        }
    }
}
