//! Where variables come from: the process, and a file of `NAME=value` lines on request.

use std::collections::BTreeMap;
use std::env::VarError;
use std::path::{Path, PathBuf};

use sluice_config::diagnostic::{Code, Diagnostic, Diagnostics, Source, quote};
use sluice_config::secret::Secret;
use sluice_config::substitute::{NotUnicode, Variables};
use thiserror::Error;

/// Variables of the process, and below them those of a file.
#[derive(Default)]
pub struct Environment {
    file: BTreeMap<String, String>,
}

/// A file of variables can't be used. Its lines are not shown, since they may hold secrets.
#[derive(Debug, Error)]
pub enum EnvFileError {
    /// It can't be read.
    #[error("can't read {}: {source}", quote(&path.display().to_string()))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of it is not `NAME=value`.
    #[error("line {line} of {} is not `NAME=value`", quote(&path.display().to_string()))]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl EnvFileError {
    /// As it is shown beside what is wrong with a pipeline.
    pub fn diagnostics(&self) -> Diagnostics {
        let (path, help) = match self {
            Self::Unreadable { path, .. } => (path, "give the path of a file of `NAME=value` lines"),
            Self::Line { path, .. } => (path, "put values with spaces or `#` into quotes"),
        };
        let source = Source { name: path.display().to_string(), text: String::new() };
        Diagnostics::new(source, vec![Diagnostic::error(Code::Unreadable, self.to_string()).help(help)])
    }
}

impl Environment {
    /// The variables of the process.
    pub fn process() -> Self {
        Self::default()
    }

    /// The variables of the process, and those of the file at `path` that the process does not have.
    ///
    /// # Errors
    /// If the file can't be read, or a line of it is not `NAME=value`.
    pub fn with_file(path: &Path) -> Result<Self, EnvFileError> {
        let unreadable = |source| EnvFileError::Unreadable { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Ok(Self { file: parse(&text).map_err(|line| EnvFileError::Line { path: path.to_owned(), line })? })
    }
}

/// The variables of a text, or the number of the first line that holds none.
fn parse(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut variables = BTreeMap::new();
    for (index, entry) in dotenvy::from_read_iter(text.as_bytes()).enumerate() {
        match entry {
            Ok((name, value)) => variables.insert(name, value),
            Err(dotenvy::Error::LineParse(line, _)) => return Err(line_of(text, &line)),
            Err(_) => return Err(index + 1),
        };
    }
    Ok(variables)
}

fn line_of(text: &str, wrong: &str) -> usize {
    let first = wrong.lines().next().unwrap_or_default();
    text.lines().position(|line| line.trim() == first.trim()).map_or(1, |index| index + 1)
}

impl Variables for Environment {
    fn get(&self, name: &str) -> Result<Option<String>, NotUnicode> {
        Ok(read(std::env::var(name))?.or_else(|| self.file.get(name).cloned()))
    }
}

/// A variable that is set to what is not text is not one that is not set.
fn read(value: Result<String, VarError>) -> Result<Option<String>, NotUnicode> {
    match value {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(value)) => Err(NotUnicode { lossy: Secret::new(value.to_string_lossy()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_read_with_comments_quotes_and_exports() {
        let text = "# tokens\nA=1\nexport B='two words'\n\nC=\"x#y\" # why\n";
        let read = parse(text).expect("valid");
        assert_eq!(read.get("A").map(String::as_str), Some("1"));
        assert_eq!(read.get("B").map(String::as_str), Some("two words"));
        assert_eq!(read.get("C").map(String::as_str), Some("x#y"));
    }

    #[test]
    fn a_wrong_line_is_named_and_not_shown() {
        assert_eq!(parse("A=1\n\nhunter2 is it\n"), Err(3));
        let error = EnvFileError::Line { path: PathBuf::from(".env"), line: 3 };
        assert!(error.diagnostics().render(false).contains("line 3 of `.env` is not `NAME=value`"));
    }

    #[test]
    #[cfg(unix)]
    fn a_value_that_is_not_text_is_told_from_none() {
        use std::ffi::OsString;
        use std::os::unix::ffi::OsStringExt as _;

        let value = OsString::from_vec(b"5\xff0".to_vec());
        let error = read(Err(VarError::NotUnicode(value))).expect_err("not text");
        assert_eq!(error.lossy.expose(), "5\u{fffd}0");
        assert_eq!(read(Err(VarError::NotPresent)), Ok(None));
    }

    #[test]
    fn the_process_goes_before_the_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "PATH=nowhere\nSLUICE_TEST_ONLY_HERE=yes\n").expect("written");
        let environment = Environment::with_file(file.path()).expect("valid");
        assert_ne!(environment.get("PATH"), Ok(Some("nowhere".to_owned())));
        assert_eq!(environment.get("SLUICE_TEST_ONLY_HERE"), Ok(Some("yes".to_owned())));
    }
}
