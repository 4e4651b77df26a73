//! How the errors of this program end a command: exit status, sentence, next step.

use std::io;

use adyton_shared::cose::CoseError;
use adyton_shared::receipt::ReceiptError;

use crate::address::EnclaveAddress;
use crate::client::ClientError;
use crate::dial::DialError;
use crate::exit::{Exit, Failure};

/// A failure with its next step.
pub(super) fn failed_with(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Failure {
    Failure::new(exit, message.into()).hint(hint.into())
}

/// The command line makes no sense.
pub(super) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Failure {
    failed_with(Exit::Usage, message, hint)
}

/// A file is missing, in the way, or unusable.
pub(super) fn bad_file(error: &io::Error, what: &str) -> Failure {
    let hint = match error.kind() {
        io::ErrorKind::NotFound => "check the path",
        io::ErrorKind::PermissionDenied => "check who may read and write it",
        io::ErrorKind::StorageFull => "make room on the disk and run the command again",
        io::ErrorKind::IsADirectory => "name a file in the folder",
        io::ErrorKind::AlreadyExists => "it appeared meanwhile; --force overwrites it",
        _ => "nothing was changed; mend the cause and run the command again",
    };
    failed_with(Exit::File, format!("{what}: {error}"), hint)
}

/// No enclave at this address.
pub(super) fn no_enclave(address: &EnclaveAddress, error: &DialError) -> Failure {
    let hint = match error {
        DialError::Nobody(_) => {
            "is it running? `nitro-cli describe-enclaves` or `adyton-sim status` shows where"
        }
        _ => "is it still starting, or overloaded? try again",
    };
    failed_with(Exit::NoEnclave, format!("no enclave answers at {address}: {error}"), hint)
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::Refused(_)
            | ClientError::Attestation(_)
            | ClientError::NotAnIdentity
            | ClientError::OtherEnclave
            | ClientError::Receipt(_)
            | ClientError::ReceiptMismatch(_)
            | ClientError::ResultTampered => Exit::Refused,
            ClientError::Input(_) | ClientError::Spool(_) => Exit::File,
            _ => Exit::Transport,
        };
        let failure = Self::of(exit, &error).hint(error.hint());
        match &error {
            ClientError::Refused(refusal) => {
                let failure = failure.code(refusal.code.name()).detail("number", refusal.code.number());
                let failure = match refusal.record {
                    Some(record) => failure.detail("record", record),
                    None => failure,
                };
                match refusal.retry_after_ms {
                    Some(millis) => failure.detail("retry_after_ms", millis),
                    None => failure,
                }
            }
            ClientError::Attestation(refused) => failure.code(refused.code()),
            ClientError::NotAnIdentity => failure.code("not_an_identity"),
            ClientError::OtherEnclave => failure.code("other_enclave"),
            ClientError::Receipt(ReceiptError::Cose(CoseError::Signature)) => {
                failure.code("receipt_signature")
            }
            ClientError::Receipt(_) => failure.code("receipt_malformed"),
            ClientError::ReceiptMismatch(what) => failure.code("receipt_mismatch").detail("what", *what),
            ClientError::ResultTampered => failure.code("result_tampered"),
            _ => failure,
        }
    }
}
