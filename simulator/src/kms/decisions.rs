//! What was decided about each call, and why: the file that `adyton-sim kms explain` reads.
//!
//! One line of JSON a call, written before the call is answered, in a file that is put aside when it
//! is full; the one before it is kept. It holds what condition keys compare (encryption contexts,
//! measurements, addresses), never plaintext, ciphertext, documents or credentials.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use adyton_verifier::key_policy::{Effect, Mismatch, StatementId, StatementTrace, Verdict};
use serde::{Deserialize, Serialize};

/// One file; with the one before it, this much twice.
const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;
const NAME: &str = "decisions.ndjson";
const OLDER: &str = "decisions.1.ndjson";

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallRecord {
    /// As in the answer's `x-amzn-RequestId`.
    pub request_id: String,
    /// The operation, `Decrypt`.
    pub operation: String,
    /// Milliseconds since 1970.
    pub time_unix_ms: u64,
    /// The caller's ARN; none if the signature was not right.
    pub caller: Option<String>,
    /// The region that the call was signed for.
    pub region: Option<String>,
    /// The error that it ended in.
    pub error_code: Option<String>,
    /// The error's text.
    pub error_message: Option<String>,
    /// What was asked of policies and grants, in order.
    pub judgements: Vec<Judgement>,
}

/// One question to policies and grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The action, `kms:Decrypt`.
    pub action: String,
    /// The key's or alias's ARN.
    pub resource: Option<String>,
    /// The answer.
    pub allowed: bool,
    /// What allowed it.
    pub by: Option<By>,
    /// The refusal in AWS's words.
    pub refusal: Option<String>,
    /// What each statement and grant had to say; only of refusals.
    pub traces: Vec<Traced>,
}

/// What allowed a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// `key policy`, `identity policy NAME` or `grant ID`.
    pub source: String,
    /// The statement's place, from 0.
    pub statement: Option<usize>,
    /// Its `Sid`.
    pub sid: Option<String>,
    /// The statement of the key policy that left it to identity policies.
    pub through: Option<String>,
}

/// What one statement, or one grant, had to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// `key policy`, `identity policy NAME` or `grant ID`.
    pub source: String,
    /// The statement's place, from 0.
    pub statement: Option<usize>,
    /// Its `Sid`.
    pub sid: Option<String>,
    /// `Allow` or `Deny`.
    pub effect: String,
    /// Whether it applied.
    pub applies: bool,
    /// In words.
    pub text: String,
    /// The first condition that did not hold.
    pub condition: Option<Unmet>,
}

/// A condition that did not hold, with both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmet {
    /// As written.
    pub operator: String,
    /// As written.
    pub key: String,
    /// The policy's values.
    pub wanted: Vec<String>,
    /// The request's values; none if it did not have the key.
    pub actual: Vec<String>,
}

impl By {
    pub(super) fn key_policy(statement: &StatementId) -> Self {
        Self::statement("key policy".to_owned(), statement)
    }

    pub(super) fn identity_policy(name: &str, statement: &StatementId) -> Self {
        Self::statement(format!("identity policy {name}"), statement)
    }

    pub(super) fn grant(id: &str) -> Self {
        Self { source: format!("grant {id}"), statement: None, sid: None, through: None }
    }

    /// Allowed by an identity policy because this statement of the key policy leaves it to them.
    pub(super) fn through(self, statement: &StatementId) -> Self {
        Self { through: Some(statement.to_string()), ..self }
    }

    fn statement(source: String, statement: &StatementId) -> Self {
        let StatementId { index, sid } = statement;
        Self { source, statement: Some(*index), sid: sid.clone(), through: None }
    }
}

impl Traced {
    pub(super) fn statement(source: &str, trace: &StatementTrace) -> Self {
        let StatementTrace { statement, effect, verdict } = trace;
        let condition = match verdict {
            Verdict::Skipped(Mismatch::Condition { operator, key, wanted, actual }) => Some(Unmet {
                operator: operator.clone(),
                key: key.clone(),
                wanted: wanted.clone(),
                actual: actual.clone(),
            }),
            _ => None,
        };
        Self {
            source: source.to_owned(),
            statement: Some(statement.index),
            sid: statement.sid.clone(),
            effect: if *effect == Effect::Deny { "Deny" } else { "Allow" }.to_owned(),
            applies: matches!(verdict, Verdict::Applies { .. }),
            text: trace.to_string(),
            condition,
        }
    }

    pub(super) fn grant(id: &str, unmet: GrantMismatch) -> Self {
        let text = match &unmet {
            GrantMismatch::Operation => "it is for other operations".to_owned(),
            GrantMismatch::Constraint(Unmet { operator, key, wanted, actual }) if actual.is_empty() => {
                format!("{operator} wants {} in {key}, the request does not have it", wanted.join(", "))
            }
            GrantMismatch::Constraint(Unmet { operator, key, wanted, actual }) => {
                format!(
                    "{operator} wants {} in {key}, the request has {}",
                    wanted.join(", "),
                    actual.join(", ")
                )
            }
        };
        let condition = match unmet {
            GrantMismatch::Operation => None,
            GrantMismatch::Constraint(unmet) => Some(unmet),
        };
        Self { condition, ..Self::grant_text(id, &text) }
    }

    pub(super) fn grant_text(id: &str, text: &str) -> Self {
        Self {
            source: format!("grant {id}"),
            statement: None,
            sid: None,
            effect: "Allow".to_owned(),
            applies: false,
            text: format!("does not apply: {text}"),
            condition: None,
        }
    }
}

/// Why a grant does not help its grantee.
pub(super) enum GrantMismatch {
    Operation,
    Constraint(Unmet),
}

impl Judgement {
    pub(super) fn allowed(action: &str, resource: Option<String>, by: By) -> Self {
        let action = action.to_owned();
        Self { action, resource, allowed: true, by: Some(by), refusal: None, traces: Vec::new() }
    }

    pub(super) fn refused(action: &str, resource: Option<String>, why: String, traces: Vec<Traced>) -> Self {
        let action = action.to_owned();
        Self { action, resource, allowed: false, by: None, refusal: Some(why), traces }
    }
}

/// The file that is written.
pub(super) struct Decisions {
    folder: PathBuf,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    length: u64,
}

impl Decisions {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let mut open = Open::at(&folder.join(NAME))?;
        // After a crash in the middle of a line the next one starts on its own.
        if open.length > 0 {
            open.file.write_all(b"\n")?;
            open.length += 1;
        }
        Ok(Self { folder: folder.to_owned(), open: Mutex::new(open) })
    }

    /// Writes one call down. A full disk must not stop the service: the loss is logged.
    pub(super) fn write(&self, record: &CallRecord) {
        if let Err(error) = self.append(record) {
            tracing::error!(%error, "a decision is not written down");
        }
    }

    fn append(&self, record: &CallRecord) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let added = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.length.saturating_add(added) > MAX_FILE_BYTES && open.length > 0 {
            std::fs::rename(self.folder.join(NAME), self.folder.join(OLDER))?;
            *open = Open::at(&self.folder.join(NAME))?;
        }
        open.file.write_all(&line)?;
        open.length = open.length.saturating_add(added);
        Ok(())
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(named)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }
}

/// Which call is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The last one.
    Last,
    /// The last one that ended in an error.
    LastRefused,
    /// The one with this request id.
    Request(String),
}

/// Finds a call in the state folder of a local KMS, which may be running.
///
/// # Errors
/// If a file that is there cannot be read.
pub fn find_call(folder: &Path, which: &Which) -> io::Result<Option<CallRecord>> {
    for name in [NAME, OLDER] {
        let text = match std::fs::read_to_string(folder.join(name)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        // Torn lines are none.
        let found = text.lines().rev().filter_map(|line| serde_json::from_str(line).ok()).find(
            |record: &CallRecord| match which {
                Which::Last => true,
                Which::LastRefused => record.error_code.is_some(),
                Which::Request(id) => record.request_id == *id,
            },
        );
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: usize) -> CallRecord {
        CallRecord {
            request_id: number.to_string(),
            operation: "Decrypt".into(),
            time_unix_ms: 1,
            caller: None,
            region: None,
            error_code: number.is_multiple_of(2).then(|| "AccessDeniedException".into()),
            error_message: Some("x".repeat(100_000)),
            judgements: Vec::new(),
        }
    }

    #[test]
    fn old_calls_are_forgotten_and_young_ones_found() {
        let folder = tempfile::tempdir().unwrap();
        let decisions = Decisions::open(folder.path()).unwrap();
        for number in 1..=301 {
            decisions.write(&record(number));
        }
        let find = |which: Which| find_call(folder.path(), &which).unwrap().map(|found| found.request_id);
        assert_eq!(find(Which::Last).as_deref(), Some("301"));
        assert_eq!(find(Which::LastRefused).as_deref(), Some("300"));
        assert_eq!(find(Which::Request("200".into())).as_deref(), Some("200"));
        assert_eq!(find(Which::Request("1".into())), None);
        let size = |name| std::fs::metadata(folder.path().join(name)).unwrap().len();
        assert!(size(NAME) <= MAX_FILE_BYTES && size(OLDER) <= MAX_FILE_BYTES);
    }

    #[test]
    fn half_a_line_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(NAME), "{\"request_id\":\"tor").unwrap();
        Decisions::open(folder.path()).unwrap().write(&record(1));
        assert_eq!(find_call(folder.path(), &Which::Last).unwrap(), Some(record(1)));
    }
}
