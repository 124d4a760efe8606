//! Texts from outside, on their way into TOML.

/// `text` as a TOML string.
pub(super) fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
