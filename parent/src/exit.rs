//! Exit statuses, and errors as people and scripts see them.

use std::fmt;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::printable;

/// What the process ends with. The numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or accepted.
    Ok = 0,
    /// Refused: by the enclave's policy, by KMS, or because something does not verify.
    Refused = 1,
    /// The command line or a configuration file makes no sense.
    Usage = 2,
    /// No enclave answers.
    NoEnclave = 3,
    /// The connection broke, or the other side was too slow.
    Transport = 4,
    /// A local file could not be read or written.
    File = 5,
    /// AWS could not be reached, or there are no credentials.
    Aws = 6,
    /// Stopped by a signal.
    Interrupted = 130,
}

/// As shown by `--help`.
pub(crate) const EXIT_CODES: &str = "\
EXIT STATUS:
  0  done, or accepted
  1  refused, by the enclave, by KMS or because something does not verify
  2  the command line or a configuration file makes no sense
  3  no enclave answers
  4  the connection broke, or the other side was too slow
  5  a local file could not be read or written
  6  AWS could not be reached, or there are no credentials
  130  stopped by a signal";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not succeed, with what to do about it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The exit status.
    pub exit: Exit,
    /// A stable name of the refusal, for scripts.
    pub code: Option<String>,
    /// One sentence.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// More for scripts.
    pub details: Map<String, Value>,
}

impl Failure {
    /// A failure without code and hint.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, code: None, message: message.to_string(), hint: None, details: Map::new() }
    }

    /// A failure that says an error and its causes.
    pub fn of(exit: Exit, error: &dyn std::error::Error) -> Self {
        Self::new(exit, chain(error))
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// The same with a code.
    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    /// The same with a detail.
    #[must_use]
    pub fn detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// As a JSON object.
    pub fn to_json(&self) -> Value {
        let mut object = self.details.clone();
        object.insert("status".into(), if self.exit == Exit::Refused { "refused" } else { "error" }.into());
        object.insert("exit".into(), (self.exit as u8).into());
        object.insert("code".into(), json!(self.code));
        object.insert("message".into(), self.message.clone().into());
        object.insert("hint".into(), json!(self.hint));
        object.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Messages quote files and answers of others.
        write!(f, "error: {}", printable::lines(&self.message))?;
        match &self.hint {
            Some(hint) => write!(f, "\n hint: {}", printable::lines(hint)),
            None => Ok(()),
        }
    }
}

/// An error and its causes in one line; what a cause only repeats is left out.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
