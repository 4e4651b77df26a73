//! Values of one record that filters and aggregates read, as they are at the step that reads them.
//!
//! The walk over a record notes where each of them is; nothing is copied unless a step before has
//! treated it or it is spelt with escapes.

use adyton_shared::job::{Outcome, Read};
use zeroize::Zeroizing;

use super::chain::{Chain, Kind};
use super::csv::undouble;
use super::error::Flaw;
use super::keys::{NoKey, StepKeys};
use super::scan::unescape;

/// Where a value is in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capture {
    pub(super) shape: Shape,
    /// Text: its inside. All else: its spelling.
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) escapes: Escapes,
}

/// How the text differs from its spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escapes {
    None,
    Json,
    /// Doubled quotes.
    Csv,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Null,
    Scalar(Kind),
    Container,
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Missing,
    Null,
    Boolean(bool),
    Text(&'a [u8]),
    /// As it is spelt.
    Number(&'a [u8]),
    Container,
    /// A treatment before the step cannot take it.
    Untreatable,
}

/// All values that a job's steps read.
pub(super) struct Reads {
    reads: Vec<One>,
    scratch: Zeroizing<Vec<u8>>,
}

struct One {
    slot: usize,
    chain: Option<Chain>,
    /// The value, where it is not what the record spells.
    copy: Zeroizing<Vec<u8>>,
    copied: bool,
    untreatable: bool,
}

/// The number of different fields that are read, and which of them each node is.
pub(super) fn slots(outcome: &Outcome) -> Vec<usize> {
    let mut nodes: Vec<_> = outcome.reads.iter().map(|read| read.node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

impl Reads {
    pub(super) fn new(outcome: &Outcome, keys: &StepKeys) -> Result<Self, NoKey> {
        let slots = slots(outcome);
        let one = |read: &Read| {
            let treatments = &read.field.treatments;
            let chain = if treatments.is_empty() {
                None
            } else {
                Some(Chain::new(&read.field.origin, treatments.iter(), keys)?)
            };
            let slot = slots.binary_search(&read.node).unwrap_or(usize::MAX);
            Ok(One { slot, chain, copy: Zeroizing::default(), copied: false, untreatable: false })
        };
        let reads = outcome.reads.iter().map(one).collect::<Result<_, _>>()?;
        Ok(Self { reads, scratch: Zeroizing::default() })
    }

    /// Makes copies where they are needed.
    #[inline]
    pub(super) fn prepare(&mut self, record: &[u8], found: &[Option<Capture>]) -> Result<(), Flaw> {
        for read in &mut self.reads {
            (read.copied, read.untreatable) = (false, false);
            let Some(capture) = found.get(read.slot).copied().flatten() else { continue };
            if read.chain.is_some() || capture.escapes != Escapes::None {
                read.copy_from(record, capture, &mut self.scratch)?;
            }
        }
        Ok(())
    }

    /// The value of this number, once [`Self::prepare`] has seen the record.
    #[inline]
    pub(super) fn value<'a>(
        &'a self,
        number: usize,
        record: &'a [u8],
        found: &[Option<Capture>],
    ) -> Value<'a> {
        let Some(read) = self.reads.get(number) else { return Value::Missing };
        let Some(capture) = found.get(read.slot).copied().flatten() else { return Value::Missing };
        if read.untreatable {
            return Value::Untreatable;
        }
        if read.copied {
            return Value::Text(&read.copy);
        }
        let spelling = record.get(capture.start..capture.end).unwrap_or_default();
        match capture.shape {
            Shape::Null => Value::Null,
            Shape::Container => Value::Container,
            Shape::Scalar(Kind::Text) => Value::Text(spelling),
            Shape::Scalar(Kind::Number) => Value::Number(spelling),
            Shape::Scalar(Kind::Boolean) => Value::Boolean(spelling.first() == Some(&b't')),
        }
    }
}

impl Escapes {
    fn decode(self, spelling: &[u8], into: &mut Zeroizing<Vec<u8>>) -> Result<(), Flaw> {
        match self {
            Self::None | Self::Json => unescape(spelling, into)?,
            Self::Csv => undouble(spelling, into),
        }
        Ok(())
    }
}

impl One {
    fn copy_from(
        &mut self,
        record: &[u8],
        capture: Capture,
        scratch: &mut Zeroizing<Vec<u8>>,
    ) -> Result<(), Flaw> {
        let Shape::Scalar(kind) = capture.shape else {
            // Null stays null whatever is done to it; a container cannot be treated.
            self.untreatable = self.chain.is_some() && capture.shape == Shape::Container;
            return Ok(());
        };
        let spelling = record.get(capture.start..capture.end).unwrap_or_default();
        self.copied = true;
        match &self.chain {
            None => capture.escapes.decode(spelling, &mut self.copy)?,
            Some(chain) if !chain.takes(kind) => self.untreatable = true,
            Some(chain) if capture.escapes == Escapes::None => chain.apply(spelling, kind, &mut self.copy),
            Some(chain) => {
                capture.escapes.decode(spelling, scratch)?;
                chain.apply(scratch, kind, &mut self.copy);
            }
        }
        Ok(())
    }
}
