//! How commands end: exit codes, and errors with a next step.

use std::process::ExitCode;

use adyton_shared::ErrorCode;

use crate::client::ClientError;
use crate::dial::DialError;

/// The exit codes of all commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done or accepted.
    Done = 0,
    /// Refused, and the reason was said.
    Refused = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// No enclave answers.
    NobodyThere = 3,
    /// A file is in the way, missing or unusable.
    File = 4,
    /// Something else failed.
    Other = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
    code: Option<ErrorCode>,
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: Some(hint.into()), code: None }
    }

    pub(super) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message, hint)
    }

    pub(super) fn file(error: &std::io::Error, what: &str) -> Self {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "check who may read and write it",
            std::io::ErrorKind::StorageFull => "make room on the disk and run the command again",
            std::io::ErrorKind::IsADirectory => "name a file in the folder",
            _ => "nothing was changed; mend the cause and run the command again",
        };
        Self::new(Exit::File, format!("{what}: {error}"), hint)
    }

    pub(super) fn other(error: &anyhow::Error) -> Self {
        Self { exit: Exit::Other, message: format!("{error:#}"), hint: None, code: None }
    }

    /// Prints the failure to standard error.
    pub(super) fn report(self, json: bool) -> ExitCode {
        let Self { exit, message, hint, code } = self;
        if json {
            let code = code.map(|code| serde_json::json!({ "number": code.number(), "name": code.name() }));
            let text =
                serde_json::json!({ "error": message, "hint": hint, "code": code, "exit": exit as u8 });
            eprintln!("{text}");
        } else {
            eprintln!("error: {message}");
            if let Some(hint) = hint {
                eprintln!(" hint: {hint}");
            }
        }
        exit.into()
    }
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        let hint = match error {
            DialError::NobodyThere { .. } => {
                "is it running? `nitro-cli describe-enclaves` or `adyton-sim status` shows where"
            }
            DialError::Refused { .. } | DialError::Deadline { .. } => {
                "is it still starting, or overloaded? try again"
            }
        };
        Self::new(Exit::NobodyThere, error.to_string(), hint)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (exit, code) = match &error {
            ClientError::Refused(refusal) => (Exit::Refused, Some(refusal.code)),
            ClientError::Attestation(_)
            | ClientError::NotAnIdentity
            | ClientError::Receipt(_)
            | ClientError::ReceiptMismatch(_)
            | ClientError::ResultTampered => (Exit::Refused, None),
            ClientError::Input(_) | ClientError::Spool(_) => (Exit::File, None),
            _ => (Exit::Other, None),
        };
        let hint = error.hint().to_owned();
        Self { exit, message: format!("{:#}", anyhow::Error::from(error)), hint: Some(hint), code }
    }
}
