//! Writes an aggregate's result in the form of the input.

use adyton_shared::decimal::Decimal;
use adyton_shared::job::Input;

use super::csv::cell;
use super::mask::escape_json;

/// The form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Array,
    Csv,
}

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    Null,
    Boolean(bool),
    Number(Decimal),
    Text(&'a [u8]),
}

impl<'a> Cell<'a> {
    /// From a part of a group's key: a tag and a text.
    pub(super) fn of_key(part: &'a [u8]) -> Self {
        match part.split_first() {
            Some((1, _)) => Self::Boolean(false),
            Some((2, _)) => Self::Boolean(true),
            Some((3, spelling)) => Decimal::parse(spelling).map_or(Self::Null, Self::Number),
            Some((4, text)) => Self::Text(text),
            _ => Self::Null,
        }
    }
}

impl Form {
    /// The form that follows from the input's.
    pub(super) const fn of(input: Input) -> Self {
        match input {
            Input::Ndjson | Input::Raw => Self::Lines,
            Input::Json => Self::Array,
            Input::Csv => Self::Csv,
        }
    }

    pub(super) fn begin(self, names: &[&str], out: &mut Vec<u8>) {
        match self {
            Self::Lines => {}
            Self::Array => out.push(b'['),
            Self::Csv => {
                for (nth, name) in names.iter().enumerate() {
                    if nth > 0 {
                        out.push(b',');
                    }
                    cell(name.as_bytes(), names.len() == 1, out);
                }
                out.push(b'\n');
            }
        }
    }

    pub(super) fn row(self, nth: usize, names: &[&str], cells: &[Cell<'_>], out: &mut Vec<u8>) {
        if self == Self::Csv {
            for (nth, value) in cells.iter().enumerate() {
                if nth > 0 {
                    out.push(b',');
                }
                let alone = cells.len() == 1;
                match value {
                    Cell::Null => cell(b"", alone, out),
                    Cell::Boolean(value) => cell(if *value { b"true" } else { b"false" }, alone, out),
                    Cell::Number(number) => cell(number.to_string().as_bytes(), alone, out),
                    Cell::Text(text) => cell(text, alone, out),
                }
            }
            out.push(b'\n');
            return;
        }
        if nth > 0 && self == Self::Array {
            out.push(b',');
        }
        out.push(b'{');
        for (nth, (name, value)) in names.iter().zip(cells).enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            string(name.as_bytes(), out);
            out.push(b':');
            match value {
                Cell::Null => out.extend_from_slice(b"null"),
                Cell::Boolean(true) => out.extend_from_slice(b"true"),
                Cell::Boolean(false) => out.extend_from_slice(b"false"),
                Cell::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
                Cell::Text(text) => string(text, out),
            }
        }
        out.push(b'}');
        if self == Self::Lines {
            out.push(b'\n');
        }
    }

    pub(super) fn end(self, out: &mut Vec<u8>) {
        if self == Self::Array {
            out.extend_from_slice(b"]\n");
        }
    }
}

fn string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    escape_json(text, out);
    out.push(b'"');
}
