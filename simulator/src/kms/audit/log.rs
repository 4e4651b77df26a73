//! The file of the audit log, opened once.
//!
//! A line and then the head are handed to the system before the call is answered; nothing is
//! synchronised, so a crash of the machine may lose the last lines. The head shows that.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use super::chain::{Line, Link};
use super::head::{Head, Sealed, path_of};
use super::{Trail, time_text};
use crate::kms::error::ApiError;
use crate::kms::key::Millis;
use crate::kms::master::RootKey;

/// How much of the file is read at once in search of its last line.
const STEP_BYTES: u64 = 64 * 1024;

pub(in crate::kms) struct AuditLog {
    chain: Mutex<Chain>,
}

struct Chain {
    file: File,
    head: Head,
    last: Link,
}

impl AuditLog {
    /// Opens the log and goes on where its sealed head says that it ended.
    ///
    /// A head that the log does not fit is not healed: the gap stays in the chain for `verify`.
    pub(in crate::kms) fn open(path: &Path, root: RootKey, now: Millis) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(named)?;
        let torn = cut_torn_line(&mut file).map_err(named)?;
        let (head, sealed) = Head::open(&path_of(path), root).map_err(named)?;
        let written = last_line(&mut file).map_err(named)?.and_then(|line| Line::read(&line));
        let in_file = written.as_ref().map_or(Link::START, |line| line.link);
        let last = match sealed {
            Sealed::At(head) => {
                // Killed between the line and its head.
                let follows = written.as_ref().is_some_and(|line| {
                    line.fits && line.previous == head.hash && line.link.sequence == head.sequence + 1
                });
                if follows { in_file } else { head }
            }
            Sealed::Absent | Sealed::Unreadable => in_file,
        };
        if last != in_file {
            tracing::warn!(
                "the audit log does not end where it was left; `adyton-sim kms audit verify` says more"
            );
        }
        let mut chain = Chain { file, head, last };
        chain.head.write(last)?;
        if torn > 0 {
            chain.append(json!({
                "eventType": "AdytonAuditEvent",
                "eventName": "TornLineRemoved",
                "eventTime": time_text(now),
                "message": format!("the process was killed while it wrote a line; its {torn} bytes were removed"),
            }))?;
        }
        Ok(Self { chain: Mutex::new(chain) })
    }

    /// Writes one line. A full disk must not stop the service: the loss is logged.
    pub(in crate::kms) fn write(&self, trail: &Trail, operation: &str, error: Option<&ApiError>) {
        let record = trail.line(operation, error);
        let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = chain.append(record) {
            tracing::error!(%error, "a line of the audit log is lost");
        }
    }
}

impl Chain {
    fn append(&mut self, record: Value) -> io::Result<()> {
        let (mut line, next) = self.last.extend(record);
        line.push('\n');
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            // The next line must not continue half of this one.
            let _ = cut_torn_line(&mut self.file);
            return Err(error);
        }
        self.last = next;
        self.head.write(next)
    }
}

/// A process killed while it wrote leaves half a line. Its call was not answered. How many bytes it had.
fn cut_torn_line(file: &mut File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let end = after_last(file, length)?;
    if end < length {
        file.set_len(end)?;
    }
    Ok(length - end)
}

/// The last line, without its line end. The file ends with one.
fn last_line(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let Some(end) = file.metadata()?.len().checked_sub(1) else { return Ok(None) };
    let start = after_last(file, end)?;
    file.seek(SeekFrom::Start(start))?;
    let mut line = Vec::new();
    file.take(end - start).read_to_end(&mut line)?;
    Ok(Some(line))
}

/// The place after the last line end before `end`.
fn after_last(file: &mut File, mut end: u64) -> io::Result<u64> {
    let mut buffer = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(STEP_BYTES);
        file.seek(SeekFrom::Start(start))?;
        buffer.clear();
        Read::by_ref(file).take(end - start).read_to_end(&mut buffer)?;
        if let Some(place) = buffer.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + u64::try_from(place).unwrap_or_default() + 1);
        }
        end = start;
    }
    Ok(0)
}
