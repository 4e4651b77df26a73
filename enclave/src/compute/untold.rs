//! Records that could not be used, counted by reason, where single ones are not to be told.

use super::error::Flaw;

/// How many records could not be used, and why.
pub(super) struct Untold {
    minimum: u64,
    total: u64,
    /// There are no more reasons than places in the job.
    reasons: Vec<(Flaw, u64)>,
}

impl Untold {
    /// None if every single record may be told.
    pub(super) fn below(minimum: u64) -> Option<Self> {
        (minimum > 1).then(|| Self { minimum, total: 0, reasons: Vec::new() })
    }

    /// Counts a record whose values made an error. What its form or the sheer number of groups made stays an error.
    pub(super) fn note(&mut self, flaw: Flaw) -> Result<(), Flaw> {
        match flaw {
            Flaw::Type(_) | Flaw::Filter(_) | Flaw::Inexact(_) => {}
            Flaw::Malformed | Flaw::TooLarge | Flaw::TooDeep | Flaw::Missing(_) | Flaw::Groups(_) => {
                return Err(flaw);
            }
        }
        self.total = self.total.saturating_add(1);
        match self.reasons.iter_mut().find(|(known, _)| *known == flaw) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => self.reasons.push((flaw, 1)),
        }
        Ok(())
    }

    /// At the end, so that not even the time tells where they were: the reason of most of them, if they were many enough.
    pub(super) fn end(&self) -> Result<(), Flaw> {
        if self.total < self.minimum {
            return Ok(());
        }
        let most = self.reasons.iter().max_by_key(|(_, count)| *count);
        most.map_or(Ok(()), |(flaw, _)| Err(*flaw))
    }
}
