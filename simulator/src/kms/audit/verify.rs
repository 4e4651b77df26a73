//! Says in words whether an audit log is whole, and where it is not.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::chain::{Hash, Line, Link};
use super::head::{self, Sealed};
use crate::kms::master::RootKey;

/// Breaks that are told one by one.
const MAX_FINDINGS: usize = 50;

/// What an audit log's chain shows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditVerdict {
    /// Lines in the file.
    pub lines: u64,
    /// Where the chain breaks; empty if it is whole.
    pub breaks: Vec<String>,
    /// What the check could not tell.
    pub notes: Vec<String>,
}

impl AuditVerdict {
    /// Whether nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.breaks.is_empty()
    }
}

/// Checks the chain of an audit log, and its end against the sealed head if the log lies in a state
/// folder. Works beside a running service.
///
/// # Errors
/// [`io::Error`] if a file cannot be read.
pub fn verify_audit(log: &Path) -> io::Result<AuditVerdict> {
    let folder = log.parent().unwrap_or(Path::new("."));
    // Before the log: a service that runs writes more lines meanwhile, not fewer.
    let key = folder.join("root.key");
    let sealed = if key.try_exists()? {
        head::read(&head::path_of(log), &RootKey::open(&key, false)?)?
    } else {
        Sealed::Absent
    };
    let mut walk = Walk::default();
    let mut reader = BufReader::new(File::open(log)?);
    let mut line = Vec::new();
    while {
        line.clear();
        reader.read_until(b'\n', &mut line)?
    } > 0
    {
        walk.line(&line);
    }
    walk.end(sealed);
    Ok(walk.verdict)
}

struct Walk {
    verdict: AuditVerdict,
    last: Link,
    /// By hash, the lines so far.
    seen: HashMap<Hash, u64>,
    /// The hash of the line with the head's number is looked up here.
    numbers: HashMap<u64, Hash>,
    suppressed: u64,
}

impl Default for Walk {
    fn default() -> Self {
        let verdict = AuditVerdict { lines: 0, breaks: Vec::new(), notes: Vec::new() };
        Self { verdict, last: Link::START, seen: HashMap::new(), numbers: HashMap::new(), suppressed: 0 }
    }
}

impl Walk {
    fn line(&mut self, bytes: &[u8]) {
        self.verdict.lines += 1;
        let place = self.verdict.lines;
        let (text, complete) = match bytes.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (bytes, false),
        };
        let Some(line) = Line::read(text).filter(|_| complete) else {
            if complete {
                self.broken(format!("line {place} is not a line of this log: it was inserted or damaged"));
            } else {
                self.broken(format!("line {place}, the last, is torn"));
            }
            return;
        };
        if !line.fits {
            self.broken(format!("line {place} was changed: its hash is not that of its content"));
        }
        if line.previous != self.last.hash {
            self.broken(self.gap(place, &line));
        } else if line.link.sequence != self.last.sequence.saturating_add(1) {
            self.broken(format!(
                "line {place} has the number {} after {}: it was changed",
                line.link.sequence, self.last.sequence
            ));
        }
        self.seen.entry(line.link.hash).or_insert(place);
        self.numbers.insert(line.link.sequence, line.link.hash);
        self.last = line.link;
    }

    /// Why a line does not follow the one before it.
    fn gap(&self, place: u64, line: &Line) -> String {
        let (number, last) = (line.link.sequence, self.last.sequence);
        if let Some(earlier) = self.seen.get(&line.previous) {
            return format!(
                "line {place} follows line {earlier}, not the line before it: lines were inserted, repeated or put in \
                 another order"
            );
        }
        match number.checked_sub(last.saturating_add(1)) {
            Some(missing @ 1..) => format!(
                "before line {place} {} missing: the numbers go from {last} to {number}",
                if missing == 1 { "one line is".to_owned() } else { format!("{missing} lines are") }
            ),
            Some(0) => {
                format!("line {place} does not follow the line before it: one of the two was replaced")
            }
            None => format!(
                "line {place} has the number {number} after {last}: lines were put in another order, or repeated"
            ),
        }
    }

    fn end(&mut self, sealed: Sealed) {
        if self.suppressed > 0 {
            self.verdict.breaks.push(format!("and {} more", self.suppressed));
        }
        let last = self.last.sequence;
        match sealed {
            Sealed::Absent => {
                let note = "there is no sealed head beside the file: lines cut off at its end, and a chain made anew, \
                            would not be noticed";
                self.verdict.notes.push(note.into());
            }
            Sealed::Unreadable => self.verdict.breaks.push(
                "the sealed head does not open under the root key: it was damaged or is of another state folder"
                    .into(),
            ),
            Sealed::At(head) if head.sequence > last => self.verdict.breaks.push(format!(
                "the end was cut off: the sealed head is at number {}, the file ends at {last}",
                head.sequence
            )),
            Sealed::At(head) => self.covered(head),
        }
        if self.is_sealed(sealed) {
            let note = "not told by this check: a log and a head that were put back together to an earlier state, and \
                        what somebody with the root key wrote";
            self.verdict.notes.push(note.into());
        }
    }

    fn is_sealed(&self, sealed: Sealed) -> bool {
        matches!(sealed, Sealed::At(_)) && self.verdict.breaks.is_empty()
    }

    /// The head is not further than the file.
    fn covered(&mut self, head: Link) {
        let last = self.last.sequence;
        let at_head =
            if head == Link::START { Some(head.hash) } else { self.numbers.get(&head.sequence).copied() };
        if at_head != Some(head.hash) {
            self.verdict.breaks.push(format!(
                "the line with number {} is not the one that the sealed head knows: the chain was made anew",
                head.sequence
            ));
        } else if head.sequence.saturating_add(1) == last {
            let note = format!(
                "the last line, number {last}, is not sealed yet: the service writes at this moment, was killed at that \
                 moment, or somebody added the line"
            );
            self.verdict.notes.push(note);
        } else if head.sequence < last {
            self.verdict
                .breaks
                .push(format!("lines were added after number {}, where the sealed head is", head.sequence));
        }
    }

    fn broken(&mut self, text: String) {
        if self.verdict.breaks.len() < MAX_FINDINGS {
            self.verdict.breaks.push(text);
        } else {
            self.suppressed += 1;
        }
    }
}
