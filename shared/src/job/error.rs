//! Why a job makes no sense, with the place where it stops making sense.

use super::{ConditionError, FieldPath};
use crate::id::KeyName;
use crate::limits::{MAX_FIELD_PATH_BYTES, MAX_FIELDS, MAX_FIGURES, MAX_JOB_STEPS};

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
    #[error("step {step} names '{path}', which an earlier step has removed or renamed")]
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
    /// A step needs a key that is not there.
    #[error("a step needs the key '{0}', which is not there")]
    NoKey(KeyName),
    /// A rename that is none, or moves the field elsewhere.
    #[error("step {step} renames '{from}' to '{to}'; only the last name of a path may change")]
    Rename {
        /// Position in the job, from 1.
        step: usize,
        /// The field.
        from: FieldPath,
        /// What it should become.
        to: FieldPath,
    },
    /// A condition that cannot be read.
    #[error("the filter of step {step} cannot be used: {problem}")]
    Condition {
        /// Position in the job, from 1.
        step: usize,
        /// What is wrong with it.
        problem: ConditionError,
    },
    /// A filter or an aggregate of many values at once.
    #[error("step {step} needs one value a record, but '{path}' names every element of an array")]
    Several {
        /// Position in the job, from 1.
        step: usize,
        /// The path.
        path: FieldPath,
    },
    /// A part of what is a text by now.
    #[error("step {step} names '{path}', but an earlier step has made text of what it is in")]
    Inside {
        /// Position in the job, from 1.
        step: usize,
        /// The path.
        path: FieldPath,
    },
    /// An aggregate that says nothing, or too much.
    #[error("step {step} asks for {count} figures; 1 to {MAX_FIGURES} are allowed")]
    FigureCount {
        /// Position in the job, from 1.
        step: usize,
        /// The number of figures.
        count: usize,
    },
    /// Two parts of an aggregate's result have one name.
    #[error("step {step} makes two columns named '{name}'")]
    ColumnTwice {
        /// Position in the job, from 1.
        step: usize,
        /// The name.
        name: String,
    },
    /// A rename to the name of another field.
    #[error("step {step} renames a field to '{path}', which is there already")]
    Taken {
        /// Position in the job, from 1.
        step: usize,
        /// The name.
        path: FieldPath,
    },
}

impl JobError {
    /// The step concerned, counted from 1.
    pub fn step(&self) -> Option<usize> {
        match self {
            Self::FieldCount { step, .. }
            | Self::Overlap { step, .. }
            | Self::Gone { step, .. }
            | Self::Misplaced { step, .. }
            | Self::Rename { step, .. }
            | Self::Taken { step, .. }
            | Self::Condition { step, .. }
            | Self::Several { step, .. }
            | Self::Inside { step, .. }
            | Self::FigureCount { step, .. }
            | Self::ColumnTwice { step, .. } => Some(*step),
            Self::Path { .. }
            | Self::PathTooLong
            | Self::Version(_)
            | Self::TooManySteps(_)
            | Self::NoKey(_) => None,
        }
    }
}
