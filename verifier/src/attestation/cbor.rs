//! A strict reader of the CBOR (RFC 8949) that attestation documents use.
//!
//! Every value has one accepted encoding: shortest-form integers and lengths,
//! definite lengths, no floats, no simple value but null. The one exception is
//! [`Reader::map`], which also takes the indefinite map that newer devices put
//! around their payload. Nothing is allocated by an announced length, and
//! nothing recurses: the caller asks for each value by its type.

use std::fmt;

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const NULL: u8 = 0xf6;
const BREAK: u8 = 0xff;
const OPEN_MAP: u8 = 0xbf;

/// What is wrong with a piece of CBOR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborProblem {
    /// The bytes end inside a value.
    #[error("the bytes end inside a value")]
    Truncated,
    /// Bytes follow the last value.
    #[error("bytes follow the last value")]
    Trailing,
    /// A value of another type stands here.
    #[error("{0} was expected")]
    WrongType(&'static str),
    /// An integer or length is written in more bytes than it needs, or a length is not given in front.
    #[error("the value is not in its shortest form of definite length")]
    NotCanonical,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// A key occurs twice in a map.
    #[error("a key occurs twice")]
    DuplicateKey,
    /// A key that a document does not have.
    #[error("a document has no such key")]
    UnknownKey,
    /// A number outside its range.
    #[error("a number is out of range")]
    OutOfRange,
}

/// Where and why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CborError {
    /// What is wrong.
    pub problem: CborProblem,
    /// Offset of the value in the part that was read, in bytes.
    pub offset: usize,
}

impl fmt::Display for CborError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.problem, self.offset)
    }
}

impl std::error::Error for CborError {}

/// Reads one value after another.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    total: usize,
}

/// How many entries of a map are still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entries {
    /// So many, as announced.
    Left(u64),
    /// Up to the break.
    Open,
}

impl<'a> Reader<'a> {
    pub(super) fn new(input: &'a [u8]) -> Self {
        Self { rest: input, total: input.len() }
    }

    /// Offset of the next value.
    pub(super) fn offset(&self) -> usize {
        self.total.saturating_sub(self.rest.len())
    }

    /// The next byte, left in place.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// An error at the next value.
    pub(super) fn problem(&self, problem: CborProblem) -> CborError {
        CborError { problem, offset: self.offset() }
    }

    /// Ends the reading.
    pub(super) fn end(self) -> Result<(), CborError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.problem(CborProblem::Trailing)) }
    }

    pub(super) fn unsigned(&mut self) -> Result<u64, CborError> {
        self.head(UNSIGNED, "an unsigned integer")
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        self.string(BYTES, "a byte string")
    }

    pub(super) fn text(&mut self) -> Result<&'a str, CborError> {
        let at = self.problem(CborProblem::NotUtf8);
        std::str::from_utf8(self.string(TEXT, "a text")?).map_err(|_| at)
    }

    /// Length of an array whose values follow.
    pub(super) fn array(&mut self) -> Result<u64, CborError> {
        self.head(ARRAY, "an array")
    }

    /// Takes the tag `number` if it stands here.
    pub(super) fn optional_tag(&mut self, number: u64) -> Result<(), CborError> {
        if self.peek().is_none_or(|byte| byte >> 5 != TAG) {
            return Ok(());
        }
        let at = self.problem(CborProblem::WrongType("the tag of COSE_Sign1, or none"));
        if self.head(TAG, "a tag")? == number { Ok(()) } else { Err(at) }
    }

    /// A map of definite length.
    pub(super) fn definite_map(&mut self) -> Result<Entries, CborError> {
        self.head(MAP, "a map").map(Entries::Left)
    }

    /// A map of either form.
    pub(super) fn map(&mut self) -> Result<Entries, CborError> {
        if self.peek() == Some(OPEN_MAP) {
            self.take(1)?;
            return Ok(Entries::Open);
        }
        self.definite_map()
    }

    /// Whether one more entry follows; takes the break at the end of an open map.
    pub(super) fn next_entry(&mut self, entries: &mut Entries) -> Result<bool, CborError> {
        match entries {
            Entries::Left(left) => match left.checked_sub(1) {
                Some(fewer) => {
                    *left = fewer;
                    Ok(true)
                }
                None => Ok(false),
            },
            Entries::Open if self.peek() == Some(BREAK) => self.take(1).map(|_| false),
            Entries::Open => Ok(true),
        }
    }

    /// Takes a null if it stands here.
    pub(super) fn optional_null(&mut self) -> Result<bool, CborError> {
        if self.peek() == Some(NULL) { self.take(1).map(|_| true) } else { Ok(false) }
    }

    fn string(&mut self, major: u8, expected: &'static str) -> Result<&'a [u8], CborError> {
        let at = self.problem(CborProblem::Truncated);
        let length = self.head(major, expected)?;
        self.take(usize::try_from(length).map_err(|_| at)?)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CborError> {
        let at = self.problem(CborProblem::Truncated);
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(at)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads the head of a value: its type, and the number in its shortest form.
    fn head(&mut self, major: u8, expected: &'static str) -> Result<u64, CborError> {
        let first = self.peek().ok_or_else(|| self.problem(CborProblem::Truncated))?;
        if first >> 5 != major {
            return Err(self.problem(CborProblem::WrongType(expected)));
        }
        let not_canonical = self.problem(CborProblem::NotCanonical);
        let (width, smallest) = match first & 0x1f {
            number @ 0..24 => {
                self.take(1)?;
                return Ok(u64::from(number));
            }
            0x18 => (1, 24),
            0x19 => (2, 1 << 8),
            0x1a => (4, 1 << 16),
            0x1b => (8, 1 << 32),
            _ => return Err(not_canonical),
        };
        self.take(1)?;
        let number = self.take(width)?.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
        if number < smallest { Err(not_canonical) } else { Ok(number) }
    }
}

/// Writes the same subset, each value in its one accepted encoding.
#[derive(Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn unsigned(&mut self, number: u64) {
        self.head(UNSIGNED, number);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.head(BYTES, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.head(TEXT, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(super) fn array(&mut self, length: u64) {
        self.head(ARRAY, length);
    }

    pub(super) fn map(&mut self, length: u64) {
        self.head(MAP, length);
    }

    pub(super) fn open_map(&mut self) {
        self.0.push(OPEN_MAP);
    }

    pub(super) fn end_open_map(&mut self) {
        self.0.push(BREAK);
    }

    pub(super) fn null(&mut self) {
        self.0.push(NULL);
    }

    fn head(&mut self, major: u8, number: u64) {
        let major = major << 5;
        match (u8::try_from(number), u16::try_from(number), u32::try_from(number)) {
            (Ok(small @ 0..24), ..) => self.0.push(major | small),
            (Ok(byte), ..) => self.0.extend_from_slice(&[major | 0x18, byte]),
            (_, Ok(short), _) => self.wide(major | 0x19, &short.to_be_bytes()),
            (.., Ok(word)) => self.wide(major | 0x1a, &word.to_be_bytes()),
            _ => self.wide(major | 0x1b, &number.to_be_bytes()),
        }
    }

    fn wide(&mut self, first: u8, number: &[u8]) {
        self.0.push(first);
        self.0.extend_from_slice(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [u64; 12] =
        [0, 1, 23, 24, 255, 256, 65_535, 65_536, 0xffff_ffff, 0x1_0000_0000, u64::MAX - 1, u64::MAX];

    #[test]
    fn a_number_reads_back_what_was_written() {
        for number in EDGES {
            let mut writer = Writer::default();
            writer.unsigned(number);
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.unsigned(), Ok(number));
            assert_eq!(reader.end(), Ok(()));
        }
    }

    // V-2
    #[test]
    fn refuses_every_longer_form_of_a_number() {
        for number in EDGES {
            let mut writer = Writer::default();
            writer.unsigned(number);
            let shortest = writer.into_bytes().len();
            for (first, length) in [(0x18, 1usize), (0x19, 2), (0x1a, 4), (0x1b, 8)] {
                if length < shortest {
                    continue;
                }
                let mut longer = vec![first];
                longer.extend_from_slice(&number.to_be_bytes()[8 - length..]);
                let expected = Err(CborError { problem: CborProblem::NotCanonical, offset: 0 });
                assert_eq!(Reader::new(&longer).unsigned(), expected, "{number} in {length} bytes");
            }
        }
    }

    // V-2
    #[test]
    fn refuses_indefinite_strings_arrays_and_inner_maps() {
        let refused = |result: Result<(), CborError>| {
            assert_eq!(result.unwrap_err().problem, CborProblem::NotCanonical);
        };
        refused(Reader::new(&[0x5f, 0x41, 0, 0xff]).bytes().map(drop));
        refused(Reader::new(&[0x7f, 0x61, b'a', 0xff]).text().map(drop));
        refused(Reader::new(&[0x9f, 0xff]).array().map(drop));
        refused(Reader::new(&[0xbf, 0xff]).definite_map().map(drop));
    }

    #[test]
    fn refuses_reserved_heads() {
        for low in 28..31u8 {
            assert_eq!(Reader::new(&[low]).unsigned().unwrap_err().problem, CborProblem::NotCanonical);
        }
    }

    #[test]
    fn refuses_a_length_beyond_the_end_without_allocating() {
        let bytes = [0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Reader::new(&bytes).bytes().unwrap_err().problem, CborProblem::Truncated);
    }

    #[test]
    fn an_error_names_the_offset_of_its_value() {
        let mut reader = Reader::new(&[0x01, 0x02, 0x61, 0xff]);
        assert_eq!((reader.unsigned(), reader.unsigned()), (Ok(1), Ok(2)));
        assert_eq!(reader.text(), Err(CborError { problem: CborProblem::NotUtf8, offset: 2 }));
    }
}
