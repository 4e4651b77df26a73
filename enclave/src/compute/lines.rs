//! NDJSON: one JSON object a line; lines of white space are skipped.

use memchr::memchr;

use super::after::After;
use super::carry::Carry;
use super::error::Flaw;
use super::plan::Plan;
use super::record::Treatment;
use super::scan::space;

/// Cuts a stream at its line feeds. A JSON string cannot hold a raw line feed, so a line is a record.
pub(super) struct Lines {
    pub(super) treatment: Treatment,
    carry: Carry,
    limit: usize,
    /// Records finished so far.
    pub(super) records: u64,
}

impl Lines {
    pub(super) fn new(plan: Plan, after: Option<After>, limit: usize) -> Self {
        Self { treatment: Treatment::new(plan, after, limit), carry: Carry::new(limit), limit, records: 0 }
    }

    pub(super) fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
        while let Some((line, rest)) = memchr(b'\n', chunk).and_then(|end| chunk.split_at_checked(end)) {
            if self.carry.is_empty() {
                self.line(line, out)?;
            } else {
                self.carry.add(line)?;
                self.carried(out)?;
            }
            chunk = rest.get(1..).unwrap_or_default();
        }
        self.carry.add(chunk)
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Flaw> {
        self.carried(out)
    }

    fn carried(&mut self, out: &mut Vec<u8>) -> Result<(), Flaw> {
        let carry = std::mem::replace(&mut self.carry, Carry::new(self.limit));
        self.line(carry.bytes(), out)?;
        self.carry = carry;
        self.carry.clear();
        Ok(())
    }

    #[inline]
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
        if line.len() > self.limit {
            return Err(Flaw::TooLarge);
        }
        let record = line.get(space(line, 0)..).unwrap_or_default();
        if record.is_empty() {
            return Ok(());
        }
        let before = out.len();
        let end = self.treatment.object(record, out)?;
        if space(record, end) != record.len() {
            return Err(Flaw::Malformed);
        }
        if self.treatment.leaves(record, out)? {
            out.push(b'\n');
        } else {
            out.truncate(before);
        }
        self.records = self.records.saturating_add(1);
        Ok(())
    }
}
