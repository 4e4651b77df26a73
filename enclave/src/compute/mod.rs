//! Stage 4 of a job: the steps on records, streaming.
//!
//! Plaintext goes in as it is opened, in any chunks; what the job lets through comes out. Memory is
//! bounded by the longest record that the policy allows. All steps are applied in one pass.
//!
//! **JSON** (`json`, `ndjson`). Each record must be one valid object (RFC 8259) to its last byte,
//! whatever is selected of it. What leaves keeps its order, its spelling of numbers, strings and
//! names, and its place: the objects and arrays around a selected field stay, with nothing else in
//! them, even if they become empty. White space between tokens does not leave: nobody selected it.
//! - A selected field that a record does not have is absent from the result. So is one whose path
//!   goes through a value of another shape: `items[].price` finds nothing in `{"items": "none"}`, and
//!   an element of `items` that is no object is left out.
//! - A `mask` or `drop` whose path goes through a value of another shape that would leave whole is
//!   refused, because what it should hide may be in there. Null hides nothing and stays.
//! - What does not leave is not treated: a `mask` of a field that is not selected demands nothing.
//! - `mask` makes text and numbers to text, leaves null, and refuses all else.
//! - An object that has a treated or selected name twice is refused; names are compared unescaped.
//! - The result has the form of the input: lines, one object, or one array, without spaces, ended by
//!   a line feed.
//!
//! **CSV** (RFC 4180): read strictly. All values are text; every field must be a column.
//!
//! **Digest**: SHA-256 of the plaintext as it is, whatever it is; lower-case hexadecimal, line feed.
//!
//! Trusts the job, which admission has checked, and nothing about the data. An error holds numbers
//! only, and after one the pipeline never gives anything out again.

mod after;
mod block;
mod carry;
mod cells;
mod chain;
mod csv;
mod decide;
mod error;
mod json;
mod keys;
mod lines;
mod mac;
mod mask;
mod plan;
mod reads;
mod record;
mod scan;
mod table;
mod totals;
mod untold;
mod whole;

use std::fmt;

use adyton_shared::job::{Input, Job, JobError, Leaving, Outcome};
use aws_lc_rs::digest::{Context, SHA256};

pub use adyton_shared::job::Place;
use after::After;
use csv::Csv;
pub use error::ComputeError;
use error::Flaw;
use json::Json;
pub use keys::{NoKey, StepKeys};
use lines::Lines;
use plan::Plan;
pub use totals::Grouping;

/// The policy's limits for this stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest record, in bytes, without its line ending.
    pub record_bytes: usize,
}

/// How many records went through. A digest is made of bytes and counts none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records read.
    pub records_in: u64,
    /// Records written.
    pub records_out: u64,
}

/// A job's steps, at work.
pub struct Pipeline {
    machine: Machine,
    limits: Limits,
    refused: Option<ComputeError>,
}

enum Machine {
    /// The payload leaves as it is.
    Bytes,
    Digest(Context),
    Lines(Lines),
    Json(Json),
    Csv(Csv),
}

impl Pipeline {
    /// Makes ready a job whose steps need no keys.
    ///
    /// # Errors
    /// [`JobError`] if [`Job::outcome`] refuses the job, or a step needs a key.
    pub fn new(job: &Job, limits: Limits) -> Result<Self, JobError> {
        let outcome = job.outcome()?;
        let all = Grouping { minimum: 1, groups: 100_000, bytes: 64 << 20 };
        Self::of(&outcome, &StepKeys::default(), limits, all).map_err(|NoKey(name)| JobError::NoKey(name))
    }

    /// Makes ready what a job comes down to.
    ///
    /// # Errors
    /// [`NoKey`] if a step needs a key that is not in `keys`.
    pub fn of(outcome: &Outcome, keys: &StepKeys, limits: Limits, grouping: Grouping) -> Result<Self, NoKey> {
        let limit = limits.record_bytes;
        let machine = match (&outcome.leaving, outcome.input) {
            (Leaving::Digest(_), _) => Machine::Digest(Context::new(&SHA256)),
            (Leaving::Bytes, _) | (_, Input::Raw) => Machine::Bytes,
            (_, input) => {
                let (plan, after) = (Plan::new(outcome, keys)?, After::new(outcome, keys, grouping)?);
                match input {
                    Input::Json => Machine::Json(Json::new(plan, after, limit)),
                    Input::Csv => Machine::Csv(Csv::new(plan, after, limit)),
                    Input::Ndjson | Input::Raw => Machine::Lines(Lines::new(plan, after, limit)),
                }
            }
        };
        Ok(Self { machine, limits, refused: None })
    }

    /// Takes the next part of the plaintext and appends what leaves to `out`.
    ///
    /// # Errors
    /// [`ComputeError`]; nothing of this part is in `out` then, and each further call gives the same error.
    pub fn push(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), ComputeError> {
        self.guarded(out, |machine, out| match machine {
            Machine::Bytes => {
                out.extend_from_slice(plaintext);
                Ok(())
            }
            Machine::Digest(context) => {
                context.update(plaintext);
                Ok(())
            }
            Machine::Lines(lines) => lines.push(plaintext, out),
            Machine::Json(json) => json.push(plaintext, out),
            Machine::Csv(csv) => csv.push(plaintext, out),
        })
    }

    /// Ends the plaintext and appends the rest of what leaves to `out`.
    ///
    /// # Errors
    /// [`ComputeError`], also if an earlier call had one.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<Counts, ComputeError> {
        self.guarded(out, |machine, out| match machine {
            Machine::Bytes => Ok(()),
            Machine::Digest(context) => {
                out.extend_from_slice(hex::encode(context.clone().finish()).as_bytes());
                out.push(b'\n');
                Ok(())
            }
            Machine::Lines(lines) => lines.finish(out),
            Machine::Json(json) => json.finish(out),
            Machine::Csv(csv) => csv.finish(out),
        })?;
        let mut groups = None;
        self.guarded(out, |machine, out| {
            groups = machine.after().map_or(Ok(None), |after| after.finish(out))?;
            Ok(())
        })?;
        let (records_in, left) = (self.machine.records(), self.machine.left());
        Ok(Counts { records_in, records_out: groups.unwrap_or(left) })
    }

    fn guarded(
        &mut self,
        out: &mut Vec<u8>,
        work: impl FnOnce(&mut Machine, &mut Vec<u8>) -> Result<(), Flaw>,
    ) -> Result<(), ComputeError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let before = out.len();
        work(&mut self.machine, out).map_err(|flaw| {
            out.truncate(before);
            let error = flaw.in_record(self.machine.current(), self.limits.record_bytes);
            let named = self.machine.after().is_none_or(|after| after.names_records());
            let error = if named { error } else { error.untold() };
            self.refused = Some(error);
            error
        })
    }
}

impl Machine {
    const fn records(&self) -> u64 {
        match self {
            Self::Bytes | Self::Digest(_) => 0,
            Self::Lines(lines) => lines.records,
            Self::Json(json) => json.records,
            Self::Csv(csv) => csv.records,
        }
    }

    const fn left(&self) -> u64 {
        match self {
            Self::Bytes | Self::Digest(_) => 0,
            Self::Lines(lines) => lines.treatment.left,
            Self::Json(json) => json.treatment.left,
            Self::Csv(csv) => csv.left,
        }
    }

    const fn after(&mut self) -> Option<&mut After> {
        match self {
            Self::Bytes | Self::Digest(_) => None,
            Self::Lines(lines) => lines.treatment.after(),
            Self::Json(json) => json.treatment.after(),
            Self::Csv(csv) => csv.after(),
        }
    }

    /// The number of the record that is being read; 0 is a header row.
    const fn current(&self) -> u64 {
        match self {
            Self::Csv(csv) if csv.in_header() => 0,
            _ => self.records().saturating_add(1),
        }
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pipeline(..)")
    }
}
