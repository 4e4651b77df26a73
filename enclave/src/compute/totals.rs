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
use super::record::room;
use super::table::{Cell, Form};

/// Digits behind the point that a mean has, unless its values have more.
const MEAN_PLACES: u8 = 6;
/// What a group costs besides its key and its tallies, in bytes.
const GROUP_BYTES: usize = 128;
/// What a tally costs without its values, in bytes.
const TALLY_BYTES: usize = 96;
/// What a value of a quantile, or the room for one, costs in bytes.
const VALUE_BYTES: usize = 32;
/// What a figure takes in the result besides its name, in bytes.
const FIGURE_BYTES: usize = 64;
/// Room for so many values of a quantile is made at first.
const FIRST_VALUES: usize = 16;
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
    /// What the record at hand adds to each tally.
    parts: Zeroizing<Vec<Part>>,
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

/// What a record adds to one tally.
#[derive(Clone, Copy, Default)]
enum Part {
    #[default]
    None,
    /// Its value; for a sum the sum with it.
    Number(Decimal),
    /// The fingerprint of its value.
    Print(u128),
}

impl zeroize::DefaultIsZeroes for Part {}

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
        let tallies = kept.len();
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
            parts: Zeroizing::new(Vec::with_capacity(tallies)),
            fingerprint: [RandomState::new(), RandomState::new()],
        }
    }

    /// Adds a record: all of it, or nothing if there is an error.
    pub(super) fn add(
        &mut self,
        reads: &Reads,
        record: &[u8],
        found: &[Option<Capture>],
    ) -> Result<(), Flaw> {
        let (mut key, mut parts) = (std::mem::take(&mut self.key), std::mem::take(&mut self.parts));
        let value = |read| reads.value(read, record, found);
        let done = self.read(value, &mut key, &mut parts).and_then(|known| {
            if !known {
                self.open(&key)?;
            }
            self.count(&key, &parts)
        });
        (self.key, self.parts) = (key, parts);
        done
    }

    /// Reads what a record adds to which group, and whether that group is known.
    fn read<'a>(
        &self,
        value: impl Fn(usize) -> Value<'a>,
        key: &mut Zeroizing<Vec<u8>>,
        parts: &mut Zeroizing<Vec<Part>>,
    ) -> Result<bool, Flaw> {
        key.clear();
        for (_, read) in &self.plan.by {
            self.extend_key(key, *read, value(*read))?;
        }
        let group = self.groups.get(key.as_slice());
        parts.clear();
        for (nth, (read, kept)) in self.kept.iter().enumerate() {
            let place = self.place(*read);
            let value = match value(*read) {
                Value::Missing | Value::Null => None,
                Value::Text([]) if self.csv => None,
                value => Some(value),
            };
            parts.push(match (value, kept) {
                (None, _) => Part::None,
                (Some(value), Kept::Sum) => {
                    let value = number(value, self.csv, place)?;
                    let before =
                        group.and_then(|group| group.tallies.get(nth)).map_or(Decimal::ZERO, Tally::sum);
                    Part::Number(before.checked_add(value).ok_or(Flaw::Inexact(self.plan.step))?)
                }
                (Some(value), Kept::Different) => {
                    let mut text = Zeroizing::default();
                    write_value(&mut text, value, place)?;
                    let [first, second] = &self.fingerprint;
                    let (high, low) = (first.hash_one(&*text), second.hash_one(&*text));
                    Part::Print((u128::from(high) << 64) | u128::from(low))
                }
                (Some(value), Kept::Least | Kept::Greatest | Kept::All) => {
                    Part::Number(number(value, self.csv, place)?)
                }
            });
        }
        Ok(group.is_some())
    }

    /// Adds what [`Self::read`] has read to its group, which is there.
    fn count(&mut self, key: &[u8], parts: &[Part]) -> Result<(), Flaw> {
        let Some(group) = self.groups.get_mut(key) else { return Ok(()) };
        group.records = group.records.saturating_add(1);
        for ((part, (_, kept)), tally) in parts.iter().zip(&self.kept).zip(&mut group.tallies) {
            self.held = self.held.saturating_add(tally.count(*part, *kept));
        }
        if self.held > self.grouping.bytes { Err(Flaw::Groups(self.plan.step)) } else { Ok(()) }
    }

    fn place(&self, read: usize) -> Place {
        self.places.get(read).copied().unwrap_or(Place { step: self.plan.step, field: 0 })
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
        let place = self.place(read);
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
    ///
    /// Few values can become many figures with long names: the result has the same bound as the groups.
    pub(super) fn finish(&self, form: Form, out: &mut Vec<u8>) -> Result<u64, Flaw> {
        let before = out.len();
        let minimum = self.grouping.minimum;
        let mut rows: Vec<_> = self.groups.iter().filter(|(_, group)| group.records >= minimum).collect();
        rows.sort_by(|(a, _), (b, _)| order(&a.0, &b.0));
        let by = self.plan.by.iter().map(|(name, _)| name.as_str());
        let count = self.plan.count.then_some("count");
        let figures = self.plan.figures.iter().map(|figure| figure.name.as_str());
        let names: Vec<_> = by.chain(count).chain(figures).collect();
        // Names and texts are spelt six times as long at most; a number has 41 characters.
        let spelled = |text: usize| text.saturating_mul(6).saturating_add(FIGURE_BYTES);
        let bare = names.iter().fold(0, |sum: usize, name| sum.saturating_add(spelled(name.len())));
        room(out, bare);
        form.begin(&names, out);
        for (nth, (key, group)) in rows.iter().enumerate() {
            room(out, bare.saturating_add(spelled(key.0.len())));
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
            if out.len().saturating_sub(before) > self.grouping.bytes {
                return Err(Flaw::Groups(self.plan.step));
            }
        }
        form.end(out);
        Ok(rows.len() as u64)
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
    /// The sum so far.
    const fn sum(&self) -> Decimal {
        match &self.state {
            State::Sum(sum) => *sum,
            State::Extreme(_) | State::Different(_) | State::All(_) => Decimal::ZERO,
        }
    }

    /// Takes a record's part in; gives how many bytes more are held for it.
    fn count(&mut self, part: Part, kept: Kept) -> usize {
        if !matches!(part, Part::None) {
            self.values = self.values.saturating_add(1);
        }
        match (&mut self.state, part) {
            (State::Sum(sum), Part::Number(with)) => *sum = with,
            (State::Extreme(extreme), Part::Number(value)) => {
                let better = if kept == Kept::Least { Ordering::Less } else { Ordering::Greater };
                if extreme.is_none_or(|old| value.compare(old) == better) {
                    *extreme = Some(value);
                }
            }
            (State::Different(seen), Part::Print(print)) => {
                return if seen.insert(print) { DISTINCT_BYTES } else { 0 };
            }
            (State::All(values), Part::Number(value)) => {
                let mut more = 0;
                if values.len() == values.capacity() {
                    // A vector that grows by itself leaves its old memory unwiped.
                    let room = values.len().saturating_mul(2).max(FIRST_VALUES);
                    let mut larger = Zeroizing::new(Vec::with_capacity(room));
                    larger.extend_from_slice(values);
                    more = room.saturating_sub(values.len()).saturating_mul(VALUE_BYTES);
                    *values = larger;
                }
                values.push(value);
                return more;
            }
            _ => {}
        }
        0
    }

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
