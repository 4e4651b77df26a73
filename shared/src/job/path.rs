//! Field paths: how jobs and policies name a part of a record.
//!
//! A path has one canonical spelling; two paths name the same field exactly if they are equal.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::JobError;
use crate::limits::MAX_FIELD_PATH_BYTES;

/// One part of a [`FieldPath`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// The member of an object with this name.
    Key(String),
    /// Every element of an array, written `[]`.
    Each,
}

/// Names a field of a record: `card.pan`, `items[].price`, `"a.b".c`.
///
/// A name with a dot, bracket, quote or backslash stands in double quotes, in which `\"` and `\\` are
/// the only escapes. Two paths are equal exactly if they name the same field.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FieldPath(Vec<Segment>);

impl FieldPath {
    /// Parses a path.
    ///
    /// # Errors
    /// [`JobError::Path`] with the place, [`JobError::PathTooLong`].
    pub fn parse(text: &str) -> Result<Self, JobError> {
        if text.len() > MAX_FIELD_PATH_BYTES {
            return Err(JobError::PathTooLong);
        }
        let wrong = |at| JobError::Path { path: text.to_owned(), at };
        let mut segments = Vec::new();
        let mut chars = text.char_indices().peekable();
        loop {
            let mut name = String::new();
            let start = chars.peek().map_or(text.len(), |(at, _)| *at);
            if chars.next_if(|(_, c)| *c == '"').is_some() {
                loop {
                    match chars.next().ok_or_else(|| wrong(text.len()))? {
                        (_, '"') => break,
                        (at, '\\') => {
                            let (_, c) =
                                chars.next_if(|(_, c)| matches!(c, '"' | '\\')).ok_or_else(|| wrong(at))?;
                            name.push(c);
                        }
                        (_, c) => name.push(c),
                    }
                }
            } else {
                while let Some((_, c)) = chars.next_if(|(_, c)| !is_special(*c)) {
                    name.push(c);
                }
                if name.is_empty() {
                    return Err(wrong(start));
                }
            }
            segments.push(Segment::Key(name));
            while chars.next_if(|(_, c)| *c == '[').is_some() {
                let at = chars.peek().map_or(text.len(), |(at, _)| *at);
                chars.next_if(|(_, c)| *c == ']').ok_or_else(|| wrong(at))?;
                segments.push(Segment::Each);
            }
            match chars.next() {
                None => return Ok(Self(segments)),
                Some((_, '.')) => {}
                Some((at, _)) => return Err(wrong(at)),
            }
        }
    }

    /// The parts, outermost first; never empty, and the first is a [`Segment::Key`].
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// A path of these parts, of which the first is a [`Segment::Key`].
    pub(super) const fn from_segments(segments: Vec<Segment>) -> Self {
        Self(segments)
    }

    /// What the field is in, and its own name; none if it is an element of an array.
    pub fn split_last(&self) -> Option<(&[Segment], &str)> {
        match self.0.split_last()? {
            (Segment::Key(name), inside) => Some((inside, name)),
            (Segment::Each, _) => None,
        }
    }

    /// Whether `other` is this path or lies inside of it.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

fn is_special(c: char) -> bool {
    matches!(c, '.' | '[' | ']' | '"' | '\\')
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Each => f.write_str("[]")?,
                Segment::Key(name) => {
                    if index > 0 {
                        f.write_str(".")?;
                    }
                    if name.is_empty() || name.contains(is_special) {
                        write!(f, "\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))?;
                    } else {
                        f.write_str(name)?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for FieldPath {
    type Error = JobError;
    fn try_from(text: String) -> Result<Self, JobError> {
        Self::parse(&text)
    }
}

impl From<FieldPath> for String {
    fn from(path: FieldPath) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FieldPath {
        FieldPath::parse(text).unwrap()
    }

    #[test]
    fn paths_round_trip() {
        for text in ["id", "card.pan", "items[].price", "a[][].b", r#""a.b".c"#, r#""a\"\\".x"#, r#""""#, "ä"]
        {
            assert_eq!(path(text).to_string(), text);
        }
        assert_eq!(path(r#""id""#), path("id"));
    }

    #[test]
    fn refuses_malformed_paths_and_says_where() {
        for (text, at) in
            [("", 0), ("a..b", 2), ("a.", 2), ("[]", 0), ("a[", 2), ("a[0]", 2), ("\"a", 2), ("a]", 1)]
        {
            assert_eq!(FieldPath::parse(text), Err(JobError::Path { path: text.to_owned(), at }), "{text}");
        }
    }
}
