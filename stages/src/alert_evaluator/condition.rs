//! Conditions on a value: `> 0.05`, `<= 10`, `== 0`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    AtLeast,
    AtMost,
    Equal,
    NotEqual,
    Above,
    Below,
}

/// The operators as they are written; longer ones first, since they begin as shorter ones do.
const OPERATORS: [(&str, Operator); 6] = [
    (">=", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    (">", Operator::Above),
    ("<", Operator::Below),
];

/// A comparison with a number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Written", into = "String")]
#[schemars(with = "Written")]
pub struct Condition {
    operator: Operator,
    number: f64,
}

/// A text is not a condition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not a condition, write it like \"> 0.05\", \"<= 10\" or \"== 0\"")]
pub struct ConditionError(String);

/// As it stands in TOML: a text, or a number that the value has to exceed.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Written {
    Text(String),
    Number(f64),
}

impl Condition {
    /// The condition `> number`.
    pub const fn above(number: f64) -> Self {
        Self { operator: Operator::Above, number }
    }

    /// The condition `< number`.
    pub const fn below(number: f64) -> Self {
        Self { operator: Operator::Below, number }
    }

    /// Whether it holds. Of what is not a number nothing but `!=` does.
    pub fn holds(&self, value: f64) -> bool {
        match self.operator {
            Operator::AtLeast => value >= self.number,
            Operator::AtMost => value <= self.number,
            Operator::Equal => value == self.number,
            Operator::NotEqual => value != self.number,
            Operator::Above => value > self.number,
            Operator::Below => value < self.number,
        }
    }

    /// What the value is compared with.
    pub fn number(&self) -> f64 {
        self.number
    }
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let error = || ConditionError(text.to_owned());
        let trimmed = text.trim();
        let parse = |(word, operator): (&str, Operator)| Some((operator, trimmed.strip_prefix(word)?));
        let (operator, number) = OPERATORS.into_iter().find_map(parse).ok_or_else(error)?;
        let number: f64 = number.trim().parse().map_err(|_| error())?;
        if number.is_finite() { Ok(Self { operator, number }) } else { Err(error()) }
    }
}

impl TryFrom<Written> for Condition {
    type Error = ConditionError;

    fn try_from(written: Written) -> Result<Self, ConditionError> {
        match written {
            Written::Text(text) => text.parse(),
            Written::Number(number) if number.is_finite() => Ok(Self::above(number)),
            Written::Number(number) => Err(ConditionError(number.to_string())),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word =
            OPERATORS.iter().find(|(_, operator)| *operator == self.operator).map_or("", |(word, _)| word);
        write!(f, "{word} {}", self.number)
    }
}

impl From<Condition> for String {
    fn from(condition: Condition) -> Self {
        condition.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operator_compares_as_it_says() {
        for (text, holding, failing) in [
            ("> 5", 5.1, 5.0),
            (">=5", 5.0, 4.9),
            (" < 5 ", 4.9, 5.0),
            ("<= 5", 5.0, 5.1),
            ("== -1e3", -1000.0, 5.0),
            ("!= 5", 4.0, 5.0),
        ] {
            let condition: Condition = text.parse().expect("a condition");
            assert!(condition.holds(holding) && !condition.holds(failing), "{text}");
            assert_eq!(condition.to_string().parse(), Ok(condition));
        }
        assert!(!Condition::above(0.0).holds(f64::NAN));
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in ["", "5", ">", "> x", "> inf", "=> 5"] {
            assert_eq!(text.parse::<Condition>(), Err(ConditionError(text.to_owned())));
        }
    }

    #[test]
    fn a_number_alone_is_to_be_exceeded() {
        let read: Condition = serde_json::from_str("0.05").expect("a condition");
        assert_eq!(read, Condition::above(0.05));
    }
}
