//! CSV (RFC 4180): a header row names the columns, each further row is a record.
//!
//! Cells are written with quotes only where they need them, rows with the line ending of the header
//! row. Every row has as many cells as the header; every field of the job is one of its columns.

use memchr::{memchr, memchr3};
use zeroize::Zeroizing;

use adyton_shared::job::Segment;
use adyton_shared::limits::MAX_CSV_COLUMNS;

use super::after::After;
use super::carry::Carry;
use super::cells::Cells;
use super::chain::{DIGEST_TEXT_BYTES, Kind};
use super::error::Flaw;
use super::mask::{mask, stars};
use super::plan::{Action, Name, Plan, Scalar};
use super::reads::{Capture, Escapes, Shape};
use super::record::room;
use super::scan::after;

/// Treats a CSV text.
pub(super) struct Csv {
    plan: Plan,
    cells: Cells,
    carry: Carry,
    limit: usize,
    table: Option<Table>,
    /// Where the values are that filters and an aggregate read.
    found: Vec<Option<Capture>>,
    after: Option<After>,
    /// Rows finished so far, the header row not counted.
    pub(super) records: u64,
    /// Rows that have left.
    pub(super) left: u64,
}

/// What the header row says.
struct Table {
    columns: Vec<Column>,
    /// Columns that filters and an aggregate read, and where each value is noted.
    reads: Vec<(usize, usize)>,
    ending: &'static [u8],
    /// A row of one empty cell needs quotes: an empty line is something else to many readers.
    single: bool,
    scratch: Zeroizing<Vec<u8>>,
    treated: Zeroizing<Vec<u8>>,
}

/// What happens to the cells of a column.
#[derive(Clone, Copy)]
enum Column {
    Keep,
    Drop,
    Mask(usize),
    /// Treatments, by their number in the plan.
    Chain(usize),
}

impl Csv {
    pub(super) fn new(plan: Plan, after: Option<After>, limit: usize) -> Self {
        let found = vec![None; plan.slots];
        Self {
            plan,
            cells: Cells::new(),
            carry: Carry::new(limit),
            limit,
            table: None,
            found,
            after,
            records: 0,
            left: 0,
        }
    }

    pub(super) const fn after(&mut self) -> Option<&mut After> {
        self.after.as_mut()
    }

    /// Whether what comes next is the header row.
    pub(super) const fn in_header(&self) -> bool {
        self.table.is_none()
    }

    pub(super) fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
        while let Some(end) = self.cells.row(chunk, self.columns(), self.limit)? {
            let (row, rest) = chunk.split_at_checked(end).unwrap_or((chunk, &[]));
            let row = row.strip_suffix(b"\n").unwrap_or(row);
            if self.carry.is_empty() {
                self.row(row, true, out)?;
            } else {
                self.carry.add(row)?;
                self.carried(true, out)?;
            }
            self.cells.clear();
            chunk = rest;
        }
        self.carry.add(chunk)
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Flaw> {
        if !self.cells.at_start() {
            self.cells.end(self.columns())?;
            self.carried(false, out)?;
        }
        if self.table.is_some() { Ok(()) } else { Err(Flaw::Malformed) }
    }

    fn columns(&self) -> usize {
        self.table.as_ref().map_or(MAX_CSV_COLUMNS, |table| table.columns.len())
    }

    fn carried(&mut self, ended: bool, out: &mut Vec<u8>) -> Result<(), Flaw> {
        let carry = std::mem::replace(&mut self.carry, Carry::new(self.limit));
        self.row(carry.bytes(), ended, out)?;
        self.carry = carry;
        self.carry.clear();
        Ok(())
    }

    /// Treats a row without its line feed.
    fn row(&mut self, row: &[u8], ended: bool, out: &mut Vec<u8>) -> Result<(), Flaw> {
        std::str::from_utf8(row).map_err(|_| Flaw::Malformed)?;
        let cells = || self.cells.found.iter().map(|(start, end)| row.get(*start..*end).unwrap_or_default());
        if let Some(table) = &mut self.table {
            if self.cells.found.len() != table.columns.len() {
                return Err(Flaw::Malformed);
            }
            self.records = self.records.saturating_add(1);
            if let Some(after) = &mut self.after {
                for (column, slot) in &table.reads {
                    let cell =
                        self.cells.found.get(*column).map(|(start, end)| Capture::of_cell(row, *start, *end));
                    if let Some(found) = self.found.get_mut(*slot) {
                        *found = cell;
                    }
                }
                // The record is finished as far as its number is concerned, unless this refuses it.
                let leaves = after.record(row, &self.found, None);
                if !leaves.inspect_err(|_| self.records = self.records.saturating_sub(1))? {
                    return Ok(());
                }
            }
            // A cell may get quotes or become a token or a hash; a character of it may be doubled.
            let treated = table.columns.len().saturating_mul(DIGEST_TEXT_BYTES.saturating_add(3));
            room(out, row.len().saturating_mul(2).saturating_add(treated).saturating_add(16));
            table.write(&self.plan, cells(), out);
            self.left = self.left.saturating_add(1);
        } else {
            let ending = if ended && row.ends_with(b"\r") { b"\r\n".as_slice() } else { b"\n" };
            self.table = Some(Table::new(&self.plan, cells(), ending, out)?);
        }
        Ok(())
    }
}

impl Table {
    /// Reads the header row, and writes it as it leaves.
    fn new<'a>(
        plan: &Plan,
        header: impl Iterator<Item = &'a [u8]>,
        ending: &'static [u8],
        out: &mut Vec<u8>,
    ) -> Result<Self, Flaw> {
        let root = plan.node(plan.root()).ok_or(Flaw::Malformed)?;
        let mut met = vec![false; plan.names()];
        let mut there = vec![false; plan.names()];
        let (mut columns, mut reads) = (Vec::new(), Vec::new());
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut scratch = Zeroizing::default();
        for (nth, cell) in header.enumerate() {
            // A byte order mark would be read as a part of the first name by some, and not by others.
            if nth == 0 && cell.starts_with("\u{feff}".as_bytes()) {
                return Err(Flaw::Malformed);
            }
            let text = content(cell, &mut scratch);
            let found = root.find(text, 0, text.len());
            if let Some(Name { own, number, .. }) = found {
                // Two columns of one name: a reader may take either.
                if met.get_mut(*number).is_some_and(|met| std::mem::replace(met, true)) {
                    return Err(Flaw::Malformed);
                }
                if let Some(there) = there.get_mut(*own) {
                    *there = true;
                }
            }
            let action = found.map_or(root.rest, |name| name.action);
            let column = Column::new(plan, action);
            if let Action::Node(number) = action
                && let Some(slot) = plan.node(number).and_then(|node| node.slot)
            {
                reads.push((nth, slot));
            }
            columns.push(column);
            if !matches!(column, Column::Drop) {
                let new = found.and_then(|name| name.new.as_ref());
                names.push(new.map_or(text, |new| &new.text).to_vec());
            }
        }
        for (path, place) in &plan.fields {
            let exists = match path.as_slice() {
                [Segment::Key(name)] => root
                    .find(name.as_bytes(), 0, name.len())
                    .and_then(|name| there.get(name.own))
                    .is_some_and(|there| *there),
                _ => false,
            };
            if !exists {
                return Err(Flaw::Missing(*place));
            }
        }
        let single = names.len() == 1;
        for (nth, name) in names.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            cell(name, single, out);
        }
        if !plan.silent {
            out.extend_from_slice(ending);
        }
        Ok(Self { columns, reads, ending, single, scratch, treated: Zeroizing::default() })
    }

    fn write<'a>(&mut self, plan: &Plan, cells: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
        let before = out.len();
        let mut first = true;
        for (cell, column) in cells.zip(&self.columns) {
            if matches!(column, Column::Drop) {
                continue;
            }
            if !std::mem::replace(&mut first, false) {
                out.push(b',');
            }
            match column {
                Column::Mask(keep_last) => {
                    let (count, tail) = mask(content(cell, &mut self.scratch), *keep_last);
                    if needs_quotes(tail) {
                        out.push(b'"');
                        stars(count, out);
                        quoted(tail, out);
                        out.push(b'"');
                    } else {
                        stars(count, out);
                        out.extend_from_slice(tail);
                    }
                }
                Column::Chain(chain) => {
                    if let Some(chain) = plan.chain(*chain) {
                        chain.apply(content(cell, &mut self.scratch), Kind::Text, &mut self.treated);
                        self::cell(&self.treated, false, out);
                    }
                }
                Column::Keep | Column::Drop => {
                    let bare = inside(cell).filter(|inside| !needs_quotes(inside));
                    out.extend_from_slice(bare.unwrap_or(cell));
                }
            }
        }
        if self.single && out.len() == before {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(self.ending);
    }
}

impl Column {
    fn new(plan: &Plan, action: Action) -> Self {
        match action {
            Action::Keep => Self::Keep,
            Action::Drop => Self::Drop,
            Action::Node(number) => match plan.node(number).map(|node| node.scalar) {
                Some(Scalar::Mask { keep_last, .. }) => Self::Mask(keep_last),
                Some(Scalar::Chain { chain, .. }) => Self::Chain(chain),
                Some(Scalar::Keep) => Self::Keep,
                _ => Self::Drop,
            },
        }
    }
}

/// What is between the quotes of a quoted cell.
fn inside(cell: &[u8]) -> Option<&[u8]> {
    cell.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// The text of a cell.
fn content<'a>(cell: &'a [u8], scratch: &'a mut Zeroizing<Vec<u8>>) -> &'a [u8] {
    let Some(text) = inside(cell) else { return cell };
    if memchr(b'"', text).is_none() {
        return text;
    }
    undouble(text, scratch);
    scratch
}

/// The text of what is between the quotes of a cell.
pub(super) fn undouble(mut text: &[u8], into: &mut Zeroizing<Vec<u8>>) {
    into.clear();
    if text.len() > into.capacity() {
        // A vector that grows by itself leaves its old memory unwiped.
        *into = Zeroizing::new(Vec::with_capacity(text.len()));
    }
    while let Some((plain, rest)) = memchr(b'"', text).and_then(|at| text.split_at_checked(after(at))) {
        into.extend_from_slice(plain);
        text = rest.strip_prefix(b"\"").unwrap_or(rest);
    }
    into.extend_from_slice(text);
}

impl Capture {
    /// A cell of a row, with or without its quotes.
    fn of_cell(row: &[u8], start: usize, end: usize) -> Self {
        let shape = Shape::Scalar(Kind::Text);
        match inside(row.get(start..end).unwrap_or_default()) {
            None => Self { shape, start, end, escapes: Escapes::None },
            Some(text) => {
                let escapes = if memchr(b'"', text).is_some() { Escapes::Csv } else { Escapes::None };
                Self { shape, start: after(start), end: end.wrapping_sub(1), escapes }
            }
        }
    }
}

fn needs_quotes(text: &[u8]) -> bool {
    memchr3(b'"', b',', b'\n', text).is_some() || memchr(b'\r', text).is_some()
}

/// Appends text as a cell. One that is alone in its row and empty gets quotes.
pub(super) fn cell(text: &[u8], alone: bool, out: &mut Vec<u8>) {
    if needs_quotes(text) || (alone && text.is_empty()) {
        out.push(b'"');
        quoted(text, out);
        out.push(b'"');
    } else {
        out.extend_from_slice(text);
    }
}

/// Appends text as the inside of a quoted cell.
fn quoted(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
}
