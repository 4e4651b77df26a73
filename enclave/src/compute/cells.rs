//! Finds the cells of CSV rows (RFC 4180 §2), in any chunking.
//!
//! A quote may only open and close a cell, inside of which it is doubled; a carriage return may only stand before a line
//! feed. Readers differ about everything else, so everything else is refused: what one reader takes
//! for a value, another would take for two rows.

use super::error::Flaw;
use super::scan::after;

/// Follows one row at a time.
pub(super) struct Cells {
    state: State,
    /// Bytes of the row so far.
    length: usize,
    start: usize,
    /// Start and end of each finished cell in its row, its quotes included.
    pub(super) found: Vec<(usize, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start of a cell.
    Start,
    Plain,
    Quoted,
    /// Behind a quote inside of a quoted cell: it was doubled, or the cell is over.
    Quote,
    /// Behind a carriage return that ends the row.
    Return,
}

impl Cells {
    pub(super) const fn new() -> Self {
        Self { state: State::Start, length: 0, start: 0, found: Vec::new() }
    }

    /// Whether nothing of a row has been seen.
    pub(super) const fn at_start(&self) -> bool {
        self.length == 0
    }

    /// Forgets a finished row.
    pub(super) fn clear(&mut self) {
        self.found.clear();
        (self.state, self.length, self.start) = (State::Start, 0, 0);
    }

    /// Reads on to the line feed that ends the row, and gives the position behind it in `chunk`.
    ///
    /// At most `columns` cells and `limit` bytes are accepted.
    pub(super) fn row(&mut self, chunk: &[u8], columns: usize, limit: usize) -> Result<Option<usize>, Flaw> {
        for (at, byte) in chunk.iter().enumerate() {
            let here = self.length.wrapping_add(at);
            let next = match (self.state, byte) {
                (State::Plain, b'"') => None,
                (State::Plain | State::Start | State::Quote, b',') => self.cell(here, columns),
                (State::Plain | State::Start | State::Quote, b'\n') => {
                    let ended = self.cell(here, columns).filter(|_| here <= limit);
                    self.length = here;
                    return ended.map(|_| Some(after(at))).ok_or_else(|| refusal(here, limit));
                }
                (State::Plain | State::Start | State::Quote, b'\r') => {
                    self.cell(here, columns).map(|_| State::Return)
                }
                (State::Start | State::Quote, b'"') => Some(State::Quoted),
                (State::Quoted, b'"') => Some(State::Quote),
                (State::Plain | State::Start, _) => Some(State::Plain),
                (State::Quoted, _) => Some(State::Quoted),
                (State::Return, b'\n') => {
                    self.length = here;
                    return if here <= limit { Ok(Some(after(at))) } else { Err(Flaw::TooLarge) };
                }
                (State::Quote | State::Return, _) => None,
            };
            self.state = next.ok_or_else(|| refusal(here, limit))?;
        }
        self.length = self.length.saturating_add(chunk.len());
        Ok(None)
    }

    /// Ends the last row, which has no line feed.
    pub(super) fn end(&mut self, columns: usize) -> Result<(), Flaw> {
        match self.state {
            State::Quoted | State::Return => Err(Flaw::Malformed),
            _ => self.cell(self.length, columns).map(|_| ()).ok_or(Flaw::Malformed),
        }
    }

    fn cell(&mut self, end: usize, columns: usize) -> Option<State> {
        if self.found.len() >= columns {
            return None;
        }
        self.found.push((self.start, end));
        self.start = after(end);
        Some(State::Start)
    }
}

/// A row over the limit is too large whatever else is wrong with it, so that the answer does not depend on the chunks.
const fn refusal(length: usize, limit: usize) -> Flaw {
    if length > limit { Flaw::TooLarge } else { Flaw::Malformed }
}
