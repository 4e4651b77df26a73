//! JSON: one object, or one array of objects that is treated element by element.
//!
//! A finder of ends follows brackets and quotes just far enough to know where an element ends; the
//! element is then read strictly. What the finder believes is never trusted: an element must be one
//! valid object to its last byte.

use super::after::After;
use super::carry::Carry;
use super::error::Flaw;
use super::plan::Plan;
use super::record::Treatment;
use super::scan::{after, space};

/// Treats a JSON text.
pub(super) struct Json {
    pub(super) treatment: Treatment,
    carry: Carry,
    limit: usize,
    state: State,
    array: bool,
    element: Element,
    /// Records finished so far.
    pub(super) records: u64,
}

/// What may come next, white space aside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The object or the array.
    Start,
    /// The first element, or the end of the array.
    First,
    /// An element.
    Next,
    /// The rest of an element.
    Inside,
    /// A comma, or the end of the array.
    Between,
    /// Nothing.
    End,
}

/// How far into an element the finder is.
#[derive(Clone, Copy, Default)]
struct Element {
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl Json {
    pub(super) fn new(plan: Plan, after: Option<After>, limit: usize) -> Self {
        Self {
            treatment: Treatment::new(plan, after, limit),
            carry: Carry::new(limit),
            limit,
            state: State::Start,
            array: false,
            element: Element::default(),
            records: 0,
        }
    }

    pub(super) fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) -> Result<(), Flaw> {
        loop {
            if self.state != State::Inside {
                chunk = chunk.get(space(chunk, 0)..).unwrap_or_default();
            }
            let Some(first) = chunk.first() else { return Ok(()) };
            let taken = match (self.state, first) {
                (State::Start | State::First | State::Next, b'{') => self.element(chunk, out)?,
                (State::Inside, _) => self.inside(chunk, out)?,
                (State::Start, b'[') => {
                    self.array = true;
                    self.mark(b'[', State::First, out)
                }
                (State::Between, b',') => {
                    // It is written before the next element that leaves.
                    self.state = State::Next;
                    1
                }
                (State::First | State::Between, b']') => self.mark(b']', State::End, out),
                _ => return Err(Flaw::Malformed),
            };
            chunk = chunk.get(taken..).unwrap_or_default();
        }
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Flaw> {
        if self.state != State::End {
            return Err(Flaw::Malformed);
        }
        // A single object that does not leave is no result at all.
        if !self.treatment.is_silent() && (self.array || self.treatment.left > 0) {
            out.push(b'\n');
        }
        Ok(())
    }

    fn mark(&mut self, mark: u8, state: State, out: &mut Vec<u8>) -> usize {
        if !self.treatment.is_silent() {
            out.push(mark);
        }
        self.state = state;
        1
    }

    /// Treats an element that lies in the chunk whole; any other goes the long way, which alone decides about refusals.
    fn element(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<usize, Flaw> {
        let before = self.separate(out);
        match self.treatment.object(chunk, out) {
            Ok(end) if end <= self.limit => {
                if !self.treatment.leaves(chunk, out)? {
                    out.truncate(before);
                }
                self.done();
                Ok(end)
            }
            _ => {
                out.truncate(before);
                self.element = Element::default();
                self.state = State::Inside;
                Ok(0)
            }
        }
    }

    /// Writes the comma before an element that may leave; gives where to cut if it does not.
    fn separate(&self, out: &mut Vec<u8>) -> usize {
        let before = out.len();
        if self.treatment.left > 0 {
            out.push(b',');
        }
        before
    }

    fn inside(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<usize, Flaw> {
        let Some(end) = self.element.end(chunk) else {
            self.carry.add(chunk)?;
            return Ok(chunk.len());
        };
        self.carry.add(chunk.get(..end).unwrap_or_default())?;
        let before = self.separate(out);
        let read = self.treatment.object(self.carry.bytes(), out)?;
        if read != self.carry.bytes().len() {
            return Err(Flaw::Malformed);
        }
        if !self.treatment.leaves(self.carry.bytes(), out)? {
            out.truncate(before);
        }
        self.carry.clear();
        self.done();
        Ok(end)
    }

    fn done(&mut self) {
        self.records = self.records.saturating_add(1);
        self.state = if self.array { State::Between } else { State::End };
    }
}

impl Element {
    /// Where the element ends in this chunk.
    fn end(&mut self, chunk: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(byte) = chunk.get(at) {
            at = after(at);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.quoted => self.escaped = true,
                b'"' => self.quoted = !self.quoted,
                _ if self.quoted => {}
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}
