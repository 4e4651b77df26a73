//! Values that are kept or dropped whole: read to their last byte, copied in spans without their white space.
//!
//! Nothing recurses on the machine's stack: each open object or array is one bit.

use adyton_shared::limits::MAX_RECORD_DEPTH;

use super::error::Flaw;
use super::record::room;
use super::scan::{after, byte, space, string, word};

/// What stands behind a record, in bytes.
const SLACK: usize = 16;

/// Copies parts of one record; parts that touch are copied as one.
pub(super) struct Copier<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) out: &'a mut Vec<u8>,
    start: usize,
    end: usize,
    /// Where the result may end at last.
    most: usize,
}

impl<'a> Copier<'a> {
    /// `most` is the longest result, in bytes.
    pub(super) fn new(bytes: &'a [u8], out: &'a mut Vec<u8>, most: usize) -> Self {
        room(out, bytes.len().saturating_add(SLACK));
        let most = out.len().saturating_add(most);
        Self { bytes, out, start: 0, end: 0, most }
    }

    /// Makes room for so many bytes that are not copied from the record. Every byte is copied once at most, so there is
    /// always room for all of them.
    #[inline]
    pub(super) fn grow(&mut self, more: usize) -> Result<(), Flaw> {
        if self.out.len().saturating_add(more) > self.most {
            return Err(Flaw::TooLarge);
        }
        room(self.out, more.saturating_add(self.bytes.len()).saturating_add(SLACK));
        Ok(())
    }

    /// Copies a part.
    #[inline]
    pub(super) fn copy(&mut self, start: usize, end: usize) {
        if self.end != start {
            self.flush();
            self.start = start;
        }
        self.end = end;
    }

    /// Whether a part from here on touches the last.
    #[inline]
    pub(super) const fn touches(&self, start: usize) -> bool {
        self.end == start
    }

    /// What has been copied and not written.
    #[inline]
    pub(super) const fn pending(&self) -> (usize, usize) {
        (self.start, self.end)
    }

    /// Writes what has been copied so far.
    #[inline]
    pub(super) fn flush(&mut self) {
        // Both ends are positions that were read, so there is always something to get.
        self.out.extend_from_slice(self.bytes.get(self.start..self.end).unwrap_or_default());
        self.start = self.end;
    }

    /// Reads a value inside of `depth` open containers, and copies it if it is kept.
    #[inline]
    pub(super) fn whole<const KEPT: bool>(&mut self, at: usize, depth: usize) -> Result<usize, Flaw> {
        let end = match byte(self.bytes, at)? {
            b'"' => string(self.bytes, after(at))?.end,
            b'{' | b'[' => return self.nested::<KEPT>(at, depth),
            first => word(self.bytes, at, first)?,
        };
        if KEPT {
            self.copy(at, end);
        }
        Ok(end)
    }

    fn nested<const KEPT: bool>(&mut self, mut at: usize, outside: usize) -> Result<usize, Flaw> {
        // One bit for each open container, the innermost lowest: 1 is an object.
        const { assert!(MAX_RECORD_DEPTH <= 128, "the levels are bits of an u128") };
        let (mut objects, mut depth) = (0_u128, outside);
        // What is kept and not yet copied starts here.
        let mut from = at;
        loop {
            // A value starts here.
            let end = match byte(self.bytes, at)? {
                b'"' => string(self.bytes, after(at))?.end,
                open @ (b'{' | b'[') => {
                    if depth >= MAX_RECORD_DEPTH {
                        return Err(Flaw::TooDeep);
                    }
                    depth = after(depth);
                    objects = (objects << 1) | u128::from(open == b'{');
                    at = self.gap::<KEPT>(after(at), &mut from);
                    match (byte(self.bytes, at)?, open) {
                        (b'}', b'{') | (b']', b'[') => at,
                        (_, b'{') => {
                            at = self.key::<KEPT>(at, &mut from)?;
                            continue;
                        }
                        _ => continue,
                    }
                }
                first => word(self.bytes, at, first)?,
            };
            // A value has ended; so may have what it is in.
            at = self.gap::<KEPT>(end, &mut from);
            loop {
                let object = objects & 1 == 1;
                match (byte(self.bytes, at)?, object) {
                    (b',', false) => {
                        at = self.gap::<KEPT>(after(at), &mut from);
                        break;
                    }
                    (b',', true) => {
                        at = self.gap::<KEPT>(after(at), &mut from);
                        at = self.key::<KEPT>(at, &mut from)?;
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        objects >>= 1;
                        depth = depth.wrapping_sub(1);
                        if depth == outside {
                            if KEPT {
                                self.copy(from, after(at));
                            }
                            return Ok(after(at));
                        }
                        at = self.gap::<KEPT>(after(at), &mut from);
                    }
                    _ => return Err(Flaw::Malformed),
                }
            }
        }
    }

    /// Reads a member's name and colon.
    #[inline]
    fn key<const KEPT: bool>(&mut self, at: usize, from: &mut usize) -> Result<usize, Flaw> {
        if byte(self.bytes, at)? != b'"' {
            return Err(Flaw::Malformed);
        }
        let colon = self.gap::<KEPT>(string(self.bytes, after(at))?.end, from);
        if byte(self.bytes, colon)? != b':' {
            return Err(Flaw::Malformed);
        }
        Ok(self.gap::<KEPT>(after(colon), from))
    }

    /// Leaves out the white space that starts here.
    #[inline]
    fn gap<const KEPT: bool>(&mut self, end: usize, from: &mut usize) -> usize {
        let next = space(self.bytes, end);
        if KEPT && next != end {
            self.copy(*from, end);
            *from = next;
        }
        next
    }
}
