//! What happens to a record once it has been read: filters decide about it, an aggregate counts it.
//!
//! All steps are applied in one walk over a record, before its filters are known to let it pass. A
//! value that a step could not treat is therefore only noted, and counts if the record comes as far
//! as that step.
//!
//! Where figures have a least number of records behind them, an error that the values of one record
//! decide about would be an answer about that record: a filter can be made to fail on whichever it
//! likes. Such records are left out; only as many as a group must have end the job, unnamed.

use adyton_shared::job::{Filter, Input, Leaving, Outcome, Place};

use super::decide::Scope;
use super::error::Flaw;
use super::keys::{NoKey, StepKeys};
use super::reads::{Capture, Reads};
use super::table::Form;
use super::totals::{Grouping, Totals};
use super::untold::Untold;

/// The filters and the aggregate of a job.
pub(super) struct After {
    reads: Reads,
    filters: Vec<Filter>,
    totals: Option<Totals>,
    /// The records that could not be used, where they are not to be told.
    untold: Option<Untold>,
    form: Form,
}

impl After {
    /// None if the job has neither.
    pub(super) fn new(outcome: &Outcome, keys: &StepKeys, grouping: Grouping) -> Result<Option<Self>, NoKey> {
        let totals = match &outcome.leaving {
            Leaving::Aggregate(groups) => {
                Some(Totals::new(groups, outcome, outcome.input == Input::Csv, grouping))
            }
            _ if outcome.filters.is_empty() => return Ok(None),
            _ => None,
        };
        let reads = Reads::new(outcome, keys)?;
        let untold = totals.as_ref().and_then(|_| Untold::below(grouping.minimum));
        let form = Form::of(outcome.input);
        Ok(Some(Self { reads, filters: outcome.filters.clone(), totals, untold, form }))
    }

    /// Whether this record leaves. `untreated` is the first step that could not treat a value.
    pub(super) fn record(
        &mut self,
        record: &[u8],
        found: &[Option<Capture>],
        untreated: Option<Place>,
    ) -> Result<bool, Flaw> {
        match (self.judge(record, found, untreated), &mut self.untold) {
            (Err(flaw), Some(untold)) => untold.note(flaw).map(|()| false),
            (judged, _) => judged,
        }
    }

    /// Whether an error may name the record that it is about.
    pub(super) const fn names_records(&self) -> bool {
        self.untold.is_none()
    }

    fn judge(
        &mut self,
        record: &[u8],
        found: &[Option<Capture>],
        untreated: Option<Place>,
    ) -> Result<bool, Flaw> {
        let Self { reads, filters, totals, .. } = self;
        reads.prepare(record, found)?;
        for filter in filters.iter() {
            if let Some(place) = untreated.filter(|place| place.step < filter.step) {
                return Err(Flaw::Type(place));
            }
            let scope = Scope { reads, numbers: &filter.reads, record, found };
            if !scope.holds(&filter.condition, filter.step)? {
                return Ok(false);
            }
        }
        if let Some(place) = untreated {
            return Err(Flaw::Type(place));
        }
        match totals {
            Some(totals) => totals.add(reads, record, found).map(|()| false),
            None => Ok(true),
        }
    }

    /// Writes the result of an aggregate; gives the number of its records, if there is one.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<Option<u64>, Flaw> {
        let Some(totals) = &mut self.totals else { return Ok(None) };
        self.untold.as_ref().map_or(Ok(()), Untold::end)?;
        totals.sort();
        totals.finish(self.form, out).map(Some)
    }
}
