//! Jobs: input format, steps and destination, as the requester writes them.
//!
//! A job file is TOML, YAML or JSON; the request carries it in CBOR. Only the
//! enclave's admission decides whether a job makes sense under the policy; this
//! module decides what can be said at all.

use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::destination::{Destination, DestinationError};
use crate::limits::{MAX_FIELD_PATH_BYTES, MAX_FIELDS, MAX_JOB_STEPS};

/// What to do with one payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Version of the job language; 1.
    pub version: u8,
    /// What the plaintext is.
    pub input: Input,
    /// Steps, in order.
    #[serde(default, rename = "step", skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Where the result goes.
    pub to: Destination,
}

/// The format of the plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Input {
    /// Bytes without structure.
    Raw,
    /// One JSON object, or one array of objects.
    Json,
    /// One JSON object a line.
    Ndjson,
    /// RFC 4180 with a header row.
    Csv,
}

/// One step. In a file: `mask = { fields = ["card.pan"], keep_last = 4 }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Keeps the named fields and drops all others.
    Select(Vec<FieldPath>),
    /// Drops the named fields.
    Drop(Vec<FieldPath>),
    /// Replaces characters of the named fields by asterisks.
    Mask(Mask),
    /// Replaces the whole payload by its digest.
    Digest(DigestAlgorithm),
}

/// How a field is masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// Which fields.
    pub fields: Vec<FieldPath>,
    /// How many characters at the end stay readable; a value shorter than twice as long is masked whole.
    #[serde(default)]
    pub keep_last: u8,
}

/// The digest of a payload's plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DigestAlgorithm {
    /// FIPS 180-4.
    #[serde(rename = "sha-256")]
    Sha256,
}

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

/// Why a job or a path cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// A path that does not follow the grammar.
    #[error("'{path}' is not a field path at byte {at}; write card.pan, items[].price or \"a.b\".c")]
    Path {
        /// The path as written; it is the requester's own text.
        path: String,
        /// Where reading stopped.
        at: usize,
    },
    /// A path over the limit.
    #[error("a field path is over {MAX_FIELD_PATH_BYTES} bytes")]
    PathTooLong,
    /// A version of the language that is not known here.
    #[error("job version {0} is not supported; this release knows 1")]
    Version(u8),
    /// More steps than allowed.
    #[error("{0} steps are over the limit of {MAX_JOB_STEPS}")]
    TooManySteps(usize),
    /// A step that names no field, or too many.
    #[error("step {step} names {count} fields; 1 to {MAX_FIELDS} are allowed")]
    FieldCount {
        /// Position in the job, from 1.
        step: usize,
        /// Number of fields named.
        count: usize,
    },
    /// A step names a field twice, or a field and a part of it.
    #[error("step {step} names '{path}' twice, or together with a part of it")]
    Overlap {
        /// Position in the job, from 1.
        step: usize,
        /// The path.
        path: FieldPath,
    },
    /// A step treats a field that an earlier step has removed.
    #[error("step {step} names '{path}', which an earlier step has removed")]
    Gone {
        /// Position in the job, from 1.
        step: usize,
        /// The path.
        path: FieldPath,
    },
    /// A step that treats records stands in a job on bytes, or the reverse.
    #[error("step {step} works on {needs}, but the input at this point is {has}")]
    Misplaced {
        /// Position in the job, from 1.
        step: usize,
        /// What the step works on.
        needs: &'static str,
        /// What is there.
        has: &'static str,
    },
    /// A job on records whose result could hold any field.
    #[error("the job never says which fields leave; add a `select` step")]
    Open,
    /// A job without a step.
    #[error("the job has no steps")]
    Empty,
}

impl JobError {
    /// The step concerned, counted from 1.
    pub fn step(&self) -> Option<usize> {
        match self {
            Self::FieldCount { step, .. }
            | Self::Overlap { step, .. }
            | Self::Gone { step, .. }
            | Self::Misplaced { step, .. } => Some(*step),
            Self::Path { .. }
            | Self::PathTooLong
            | Self::Version(_)
            | Self::TooManySteps(_)
            | Self::Open
            | Self::Empty => None,
        }
    }
}

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

impl Job {
    /// Checks that the steps make sense together, and says what kind of result they make.
    ///
    /// # Errors
    /// [`JobError`] naming the step, counted from 1.
    pub fn outcome(&self) -> Result<Outcome<'_>, JobError> {
        if self.version != 1 {
            return Err(JobError::Version(self.version));
        }
        if self.steps.len() > MAX_JOB_STEPS {
            return Err(JobError::TooManySteps(self.steps.len()));
        }
        let mut state = State { selected: None, dropped: Vec::new(), masked: Vec::new(), digest: None };
        for (index, step) in self.steps.iter().enumerate() {
            state.apply(index.saturating_add(1), step, self.input)?;
        }
        if let Some(algorithm) = state.digest {
            return Ok(Outcome::Digest(algorithm));
        }
        if self.steps.is_empty() {
            return Err(JobError::Empty);
        }
        let selected = state.selected.ok_or(JobError::Open)?;
        let fields = selected.into_iter().map(|path| {
            let keep_last = state.masked.iter().filter(|(m, _)| *m == path).map(|(_, keep)| *keep).min();
            Field { path, mask_keep_last: keep_last }
        });
        Ok(Outcome::Records(fields.collect()))
    }
}

/// What leaves if the job succeeds.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Records with exactly these fields.
    Records(Vec<Field<'a>>),
    /// One digest of the plaintext.
    Digest(DigestAlgorithm),
}

/// A field of the result and what was done to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its path.
    pub path: &'a FieldPath,
    /// The strictest `mask` that it went through: how many characters stay readable.
    pub mask_keep_last: Option<u8>,
}

struct State<'a> {
    selected: Option<Vec<&'a FieldPath>>,
    dropped: Vec<&'a FieldPath>,
    masked: Vec<(&'a FieldPath, u8)>,
    digest: Option<DigestAlgorithm>,
}

impl<'a> State<'a> {
    fn apply(&mut self, number: usize, step: &'a Step, input: Input) -> Result<(), JobError> {
        let misplaced = |needs, has| Err(JobError::Misplaced { step: number, needs, has });
        if self.digest.is_some() {
            return misplaced("records or bytes", "a digest");
        }
        let fields = match step {
            Step::Digest(algorithm) if number == 1 => {
                self.digest = Some(*algorithm);
                return Ok(());
            }
            // A digest of treated records would be a digest of something that nobody can name.
            Step::Digest(_) => return misplaced("the whole payload", "treated records"),
            Step::Select(fields) | Step::Drop(fields) | Step::Mask(Mask { fields, .. }) => fields,
        };
        if input == Input::Raw {
            return misplaced("records", "bytes");
        }
        self.check_fields(number, fields)?;
        match step {
            Step::Select(_) => self.selected = Some(fields.iter().collect()),
            Step::Drop(_) => {
                self.dropped.extend(fields);
                if let Some(selected) = &mut self.selected {
                    selected.retain(|s| !fields.iter().any(|f| f.covers(s)));
                }
            }
            Step::Mask(mask) => self.masked.extend(fields.iter().map(|f| (f, mask.keep_last))),
            Step::Digest(_) => {}
        }
        Ok(())
    }

    fn check_fields(&self, number: usize, fields: &'a [FieldPath]) -> Result<(), JobError> {
        if fields.is_empty() || fields.len() > MAX_FIELDS {
            return Err(JobError::FieldCount { step: number, count: fields.len() });
        }
        for (index, path) in fields.iter().enumerate() {
            if fields.iter().take(index).any(|other| other.covers(path) || path.covers(other)) {
                return Err(JobError::Overlap { step: number, path: path.clone() });
            }
            let gone = self.dropped.iter().any(|d| d.covers(path))
                || self.selected.as_ref().is_some_and(|s| !s.iter().any(|s| s.covers(path)));
            if gone {
                return Err(JobError::Gone { step: number, path: path.clone() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FieldPath {
        FieldPath::parse(text).unwrap()
    }

    fn job(input: Input, steps: Vec<Step>) -> Job {
        Job { version: 1, input, steps, to: Destination::Parent }
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

    #[test]
    fn a_mask_before_or_after_the_selection_counts() {
        let mask = Step::Mask(Mask { fields: vec![path("card.pan")], keep_last: 4 });
        let select = Step::Select(vec![path("id"), path("card.pan")]);
        for steps in [vec![mask.clone(), select.clone()], vec![select, mask]] {
            let job = job(Input::Ndjson, steps);
            let Outcome::Records(fields) = job.outcome().unwrap() else { panic!("records") };
            assert_eq!(fields[0].mask_keep_last, None);
            assert_eq!(fields[1].mask_keep_last, Some(4));
        }
    }

    #[test]
    fn refuses_steps_that_contradict_each_other() {
        let select = |p: &str| Step::Select(vec![path(p)]);
        let drop = |p: &str| Step::Drop(vec![path(p)]);
        let digest = Step::Digest(DigestAlgorithm::Sha256);
        let cases = [
            (vec![], JobError::Empty),
            (vec![drop("a")], JobError::Open),
            (vec![drop("a"), select("a.b")], JobError::Gone { step: 2, path: path("a.b") }),
            (vec![select("a"), select("b")], JobError::Gone { step: 2, path: path("b") }),
            (
                vec![Step::Select(vec![path("a"), path("a.b")])],
                JobError::Overlap { step: 1, path: path("a.b") },
            ),
            (vec![Step::Select(vec![])], JobError::FieldCount { step: 1, count: 0 }),
            (
                vec![select("a"), digest.clone()],
                JobError::Misplaced { step: 2, needs: "the whole payload", has: "treated records" },
            ),
            (
                vec![digest, select("a")],
                JobError::Misplaced { step: 2, needs: "records or bytes", has: "a digest" },
            ),
        ];
        for (steps, error) in cases {
            assert_eq!(job(Input::Ndjson, steps).outcome(), Err(error));
        }
        let raw = job(Input::Raw, vec![select("a")]);
        assert!(matches!(raw.outcome(), Err(JobError::Misplaced { step: 1, .. })));
    }
}
