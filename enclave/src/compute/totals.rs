//! Figures about groups of records.
//!
//! Numbers are exact decimals from the record to the result. What is held grows with the number of
//! groups, and for `distinct` and quantiles with the number of values; both are bounded. Missing and
//! null values are no values. Nothing about a group below the minimum is shown, and no figure that
//! stands for fewer values.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

use adyton_shared::decimal::Decimal;
use adyton_shared::job::{Figure, Function, Groups, Outcome, Place};
use zeroize::{Zeroize as _, Zeroizing};

use super::error::Flaw;
use super::reads::{Capture, Reads, Value};
use super::table::{Cell, Form};

/// Digits behind the point that a mean has, unless its values have more.
const MEAN_PLACES: u8 = 6;
/// What a group costs besides its key and its tallies, in bytes.
const GROUP_BYTES: usize = 128;
/// What a tally costs without its values, in bytes.
const TALLY_BYTES: usize = 96;
/// What a value of a quantile costs, in bytes.
const VALUE_BYTES: usize = 32;
/// What a different value costs, in bytes: its fingerprint, in a table that is half full at worst.
const DISTINCT_BYTES: usize = 48;

/// Bounds on an aggregate, and the least group that may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// The least number of records in a group, and of values behind a figure; 1 shows all.
    pub minimum: u64,
    /// Most groups.
    pub groups: usize,
    /// Most memory for groups and their values, in bytes.
    pub bytes: usize,
}

/// An aggregate at work.
pub(super) struct Totals {
    plan: Groups,
    places: Vec<Place>,
    /// What is kept of which read; figures share what they can.
    kept: Vec<(usize, Kept)>,
    /// For each figure, its tally.
    tally_of: Vec<usize>,
    groups: HashMap<Key, Group>,
    grouping: Grouping,
    held: usize,
    /// An empty cell is no value, and numbers are spelt as text.
    csv: bool,
    key: Zeroizing<Vec<u8>>,
    /// Fingerprints under two keys that live as long as this job.
    fingerprint: [RandomState; 2],
}

/// What has to be kept of a field's values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Sum,
    Least,
    Greatest,
    Different,
    All,
}

/// The values that make a group, in one text. Wiped when dropped.
#[derive(PartialEq, Eq, Hash)]
struct Key(Box<[u8]>);

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

struct Group {
    records: u64,
    tallies: Vec<Tally>,
}

struct Tally {
    /// How many values there were.
    values: u64,
    state: State,
}

enum State {
    Sum(Decimal),
    Extreme(Option<Decimal>),
    Different(HashSet<u128>),
    All(Zeroizing<Vec<Decimal>>),
}

impl Totals {
    pub(super) fn new(plan: &Groups, outcome: &Outcome, csv: bool, grouping: Grouping) -> Self {
        let mut kept: Vec<(usize, Kept)> = Vec::new();
        let mut tally_of = Vec::new();
        let node = |read: usize| outcome.reads.get(read).map(|read| read.node);
        for figure in &plan.figures {
            let what = Kept::for_function(figure.function);
            let same = |(read, kept): &(usize, Kept)| *kept == what && node(*read) == node(figure.read);
            let number = kept.iter().position(same).unwrap_or(kept.len());
            if number == kept.len() {
                kept.push((figure.read, what));
            }
            tally_of.push(number);
        }
        Self {
            plan: plan.clone(),
            places: outcome.reads.iter().map(|read| read.place).collect(),
            kept,
            tally_of,
            groups: HashMap::new(),
            grouping,
            held: 0,
            csv,
            key: Zeroizing::default(),
            fingerprint: [RandomState::new(), RandomState::new()],
        }
    }

    /// Adds a record.
    pub(super) fn add(
        &mut self,
        reads: &Reads,
        record: &[u8],
        found: &[Option<Capture>],
    ) -> Result<(), Flaw> {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        for (_, read) in &self.plan.by {
            self.extend_key(&mut key, *read, reads.value(*read, record, found))?;
        }
        if !self.groups.contains_key(key.as_slice()) {
            self.open(&key)?;
        }
        let mut held = self.held;
        // It is there: it was opened if it was not.
        if let Some(group) = self.groups.get_mut(key.as_slice()) {
            group.records = group.records.saturating_add(1);
            for ((read, kept), tally) in self.kept.iter().zip(&mut group.tallies) {
                let place =
                    self.places.get(*read).copied().unwrap_or(Place { step: self.plan.step, field: 0 });
                let value = match reads.value(*read, record, found) {
                    Value::Missing | Value::Null => continue,
                    Value::Text([]) if self.csv => continue,
                    value => value,
                };
                tally.values = tally.values.saturating_add(1);
                let inexact = Flaw::Inexact(self.plan.step);
                match &mut tally.state {
                    State::Sum(sum) => {
                        *sum = sum.checked_add(number(value, self.csv, place)?).ok_or(inexact)?;
                    }
                    State::Extreme(extreme) => {
                        let value = number(value, self.csv, place)?;
                        let better = match kept {
                            Kept::Least => Ordering::Less,
                            _ => Ordering::Greater,
                        };
                        if extreme.is_none_or(|old| value.compare(old) == better) {
                            *extreme = Some(value);
                        }
                    }
                    State::Different(seen) => {
                        let mut text = Zeroizing::default();
                        write_value(&mut text, value, place)?;
                        let [first, second] = &self.fingerprint;
                        let (high, low) = (first.hash_one(&*text), second.hash_one(&*text));
                        if seen.insert((u128::from(high) << 64) | u128::from(low)) {
                            held = held.saturating_add(DISTINCT_BYTES);
                        }
                    }
                    State::All(values) => {
                        let value = number(value, self.csv, place)?;
                        if values.len() == values.capacity() {
                            // A vector that grows by itself leaves its old memory unwiped.
                            let room = values.len().saturating_mul(2).max(16);
                            let mut larger = Zeroizing::new(Vec::with_capacity(room));
                            larger.extend_from_slice(values);
                            *values = larger;
                        }
                        values.push(value);
                        held = held.saturating_add(VALUE_BYTES);
                    }
                }
            }
        }
        self.key = key;
        self.held = held;
        if self.held > self.grouping.bytes { Err(Flaw::Groups(self.plan.step)) } else { Ok(()) }
    }

    fn open(&mut self, key: &[u8]) -> Result<(), Flaw> {
        let tallies = self.kept.len().saturating_mul(TALLY_BYTES);
        let cost = GROUP_BYTES.saturating_add(key.len()).saturating_add(tallies);
        self.held = self.held.saturating_add(cost);
        if self.groups.len() >= self.grouping.groups || self.held > self.grouping.bytes {
            return Err(Flaw::Groups(self.plan.step));
        }
        let tallies = self.kept.iter().map(|(_, kept)| Tally { values: 0, state: kept.start() }).collect();
        self.groups.insert(Key(key.into()), Group { records: 0, tallies });
        Ok(())
    }

    /// A part of a key: its length and [`write_value`].
    fn extend_key(&self, key: &mut Zeroizing<Vec<u8>>, read: usize, value: Value<'_>) -> Result<(), Flaw> {
        let place = self.places.get(read).copied().unwrap_or(Place { step: self.plan.step, field: 0 });
        let value = match value {
            Value::Missing => Value::Null,
            Value::Text([]) if self.csv => Value::Null,
            value => value,
        };
        let start = key.len();
        key.extend_from_slice(&[0; 4]);
        write_value(key, value, place)?;
        let length = key.len().saturating_sub(start).saturating_sub(4);
        let length = u32::try_from(length).map_err(|_| Flaw::TooLarge)?;
        if let Some(place) = key.get_mut(start..).and_then(|part| part.first_chunk_mut::<4>()) {
            *place = length.to_be_bytes();
        }
        Ok(())
    }

    /// Writes the groups that are large enough, in the order of what makes them; gives their number.
    pub(super) fn finish(&self, form: Form, out: &mut Vec<u8>) -> u64 {
        let minimum = self.grouping.minimum;
        let mut rows: Vec<_> = self.groups.iter().filter(|(_, group)| group.records >= minimum).collect();
        rows.sort_by(|(a, _), (b, _)| order(&a.0, &b.0));
        let by = self.plan.by.iter().map(|(name, _)| name.as_str());
        let count = self.plan.count.then_some("count");
        let figures = self.plan.figures.iter().map(|figure| figure.name.as_str());
        let names: Vec<_> = by.chain(count).chain(figures).collect();
        form.begin(&names, out);
        for (nth, (key, group)) in rows.iter().enumerate() {
            let mut cells: Vec<Cell<'_>> = parts(&key.0).map(Cell::of_key).collect();
            if self.plan.count {
                cells.push(Cell::Number(Decimal::whole(group.records.into())));
            }
            for (figure, tally) in self.plan.figures.iter().zip(&self.tally_of) {
                let tally = group.tallies.get(*tally);
                cells.push(
                    tally.and_then(|tally| tally.figure(figure, minimum)).map_or(Cell::Null, Cell::Number),
                );
            }
            form.row(nth, &names, &cells, out);
        }
        form.end(out);
        rows.len() as u64
    }

    /// Puts the values of quantiles in order, once.
    pub(super) fn sort(&mut self) {
        for tally in self.groups.values_mut().flat_map(|group| &mut group.tallies) {
            if let State::All(values) = &mut tally.state {
                values.sort_unstable_by(|a, b| a.compare(*b).then(a.scale().cmp(&b.scale())));
            }
        }
    }
}

impl Kept {
    const fn for_function(function: Function) -> Self {
        match function {
            Function::Sum | Function::Mean | Function::Count => Self::Sum,
            Function::Min => Self::Least,
            Function::Max => Self::Greatest,
            Function::Distinct => Self::Different,
            Function::Quantiles => Self::All,
        }
    }

    fn start(self) -> State {
        match self {
            Self::Sum => State::Sum(Decimal::ZERO),
            Self::Least | Self::Greatest => State::Extreme(None),
            Self::Different => State::Different(HashSet::new()),
            Self::All => State::All(Zeroizing::default()),
        }
    }
}

impl Tally {
    fn figure(&self, figure: &Figure, minimum: u64) -> Option<Decimal> {
        if minimum > 1 && self.values < minimum {
            return None;
        }
        match (&self.state, figure.function) {
            (State::Different(seen), _) => Some(Decimal::whole(seen.len() as i128)),
            _ if self.values == 0 => None,
            (State::Sum(sum), Function::Mean) => sum.mean_of(self.values, MEAN_PLACES),
            (State::Sum(sum), _) => Some(*sum),
            (State::Extreme(extreme), _) => *extreme,
            (State::All(values), _) => {
                let rank = figure.at?.rank(self.values);
                values.get(usize::try_from(rank).ok()?).copied()
            }
        }
    }
}

/// The number that a value is. Text that spells one counts in CSV, where there is nothing else.
fn number(value: Value<'_>, csv: bool, place: Place) -> Result<Decimal, Flaw> {
    match value {
        Value::Number(spelling) => Decimal::parse(spelling).ok_or(Flaw::Inexact(place.step)),
        Value::Text(text) if csv => Decimal::parse(text).ok_or(Flaw::Type(place)),
        _ => Err(Flaw::Type(place)),
    }
}

/// A value such that equal values, and no others, are equal bytes: a tag, and a text.
fn write_value(into: &mut Zeroizing<Vec<u8>>, value: Value<'_>, place: Place) -> Result<(), Flaw> {
    let spelled;
    let (tag, text): (u8, &[u8]) = match value {
        Value::Missing | Value::Null => (0, &[]),
        Value::Boolean(false) => (1, &[]),
        Value::Boolean(true) => (2, &[]),
        Value::Number(spelling) => {
            let number = Decimal::parse(spelling).ok_or(Flaw::Inexact(place.step))?;
            spelled = number.normal().to_string();
            (3, spelled.as_bytes())
        }
        Value::Text(text) => (4, text),
        Value::Container | Value::Untreatable => return Err(Flaw::Type(place)),
    };
    let needed = into.len().saturating_add(text.len()).saturating_add(1);
    if needed > into.capacity() {
        // A vector that grows by itself leaves its old memory unwiped.
        let mut larger = Zeroizing::new(Vec::with_capacity(needed.saturating_mul(2)));
        larger.extend_from_slice(into);
        *into = larger;
    }
    into.push(tag);
    into.extend_from_slice(text);
    Ok(())
}

/// The parts of a key.
fn parts(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = key;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (part, next) = behind.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        rest = next;
        Some(part)
    })
}

/// Null, false, true, numbers, texts; numbers by value, texts by their characters.
fn order(a: &[u8], b: &[u8]) -> Ordering {
    let one = |a: &[u8], b: &[u8]| match (Cell::of_key(a), Cell::of_key(b)) {
        (Cell::Number(a), Cell::Number(b)) => a.compare(b),
        _ => a.cmp(b),
    };
    parts(a).zip(parts(b)).map(|(a, b)| one(a, b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}
