//! Why records could not be treated: numbers only, never a byte of the data.

use adyton_shared::error_code::ErrorCode;
use adyton_shared::job::Place;
use adyton_shared::limits::MAX_RECORD_DEPTH;

/// Why the compute stage refused its input.
///
/// Records count from 1; 0 is the header row of CSV. Steps and fields count from 1 in the job's own
/// order, so that the requester finds the place without the message holding a name or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ComputeError {
    /// A record is not of the declared format, or names a treated field twice.
    #[error("record {record} is not of the declared input format")]
    Malformed {
        /// Which record.
        record: u64,
    },
    /// A record is over the policy's limit.
    #[error("record {record} is over the limit of {limit} bytes")]
    TooLarge {
        /// Which record.
        record: u64,
        /// The limit, in bytes.
        limit: usize,
    },
    /// A record is nested too deeply.
    #[error("record {record} is nested deeper than {MAX_RECORD_DEPTH} levels")]
    TooDeep {
        /// Which record.
        record: u64,
    },
    /// A step met a value of a type that it cannot treat.
    #[error("record {record} has a value that step {} cannot treat as its field {}", place.step, place.field)]
    FieldType {
        /// Which record.
        record: u64,
        /// The step and field that met it.
        place: Place,
    },
    /// A filter's condition is neither true nor false for a record.
    #[error("the filter of step {step} cannot decide about record {record}")]
    Undecided {
        /// Which record.
        record: u64,
        /// The filter's step.
        step: u16,
    },
    /// A number has no exact form, or a calculation leaves the range of exact numbers.
    #[error("record {record} has a number that step {step} cannot calculate with exactly")]
    Inexact {
        /// Which record.
        record: u64,
        /// The step.
        step: u16,
    },
    /// An aggregate has more groups, or more values to hold, than the policy allows.
    #[error("at record {record} the aggregate of step {step} holds more than the policy allows")]
    TooManyGroups {
        /// Which record.
        record: u64,
        /// The step.
        step: u16,
    },
    /// A record, or as many as a group must have, could not be used: which is not said, see `docs/policy.md`.
    #[error("step {step}: {code}")]
    Untold {
        /// Why; of several reasons the one of most records.
        code: ErrorCode,
        /// The step.
        step: u16,
    },
    /// A field named by a step is not a column of the header row.
    #[error("the header row has no column for field {} of step {}", place.field, place.step)]
    FieldMissing {
        /// The step and field that name it.
        place: Place,
    },
}

impl ComputeError {
    /// The same without the record, if a value of it or how many there were before it decided about the error.
    pub(super) const fn untold(self) -> Self {
        match (self, self.step()) {
            (Self::FieldMissing { .. }, _) | (_, None) => self,
            (_, Some(step)) => Self::Untold { code: self.code(), step },
        }
    }

    /// The record concerned, from 1; 0 is the header row of CSV.
    pub const fn record(self) -> Option<u64> {
        match self {
            Self::Malformed { record }
            | Self::TooLarge { record, .. }
            | Self::TooDeep { record }
            | Self::FieldType { record, .. }
            | Self::Undecided { record, .. }
            | Self::Inexact { record, .. }
            | Self::TooManyGroups { record, .. } => Some(record),
            Self::FieldMissing { .. } | Self::Untold { .. } => None,
        }
    }

    /// The step concerned, from 1.
    pub const fn step(self) -> Option<u16> {
        match self {
            Self::FieldType { place, .. } | Self::FieldMissing { place } => Some(place.step),
            Self::Undecided { step, .. }
            | Self::Inexact { step, .. }
            | Self::TooManyGroups { step, .. }
            | Self::Untold { step, .. } => Some(step),
            Self::Malformed { .. } | Self::TooLarge { .. } | Self::TooDeep { .. } => None,
        }
    }

    /// The code that may leave the enclave.
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Malformed { .. } => ErrorCode::RecordMalformed,
            Self::TooLarge { .. } => ErrorCode::RecordTooLarge,
            Self::TooDeep { .. } => ErrorCode::RecordTooDeep,
            Self::FieldType { .. } => ErrorCode::FieldType,
            Self::FieldMissing { .. } => ErrorCode::FieldMissing,
            Self::Undecided { .. } => ErrorCode::FilterUndecided,
            Self::Inexact { .. } => ErrorCode::NumberInexact,
            Self::TooManyGroups { .. } => ErrorCode::TooManyGroups,
            Self::Untold { code, .. } => code,
        }
    }
}

/// What is wrong with one record, before anybody knows its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    Malformed,
    TooLarge,
    TooDeep,
    Type(Place),
    Missing(Place),
    /// The filter of this step.
    Filter(u16),
    /// A calculation of this step.
    Inexact(u16),
    /// The aggregate of this step.
    Groups(u16),
}

impl Flaw {
    pub(super) fn in_record(self, record: u64, limit: usize) -> ComputeError {
        match self {
            Self::Malformed => ComputeError::Malformed { record },
            Self::TooLarge => ComputeError::TooLarge { record, limit },
            Self::TooDeep => ComputeError::TooDeep { record },
            Self::Type(place) => ComputeError::FieldType { record, place },
            Self::Missing(place) => ComputeError::FieldMissing { place },
            Self::Filter(step) => ComputeError::Undecided { record, step },
            Self::Inexact(step) => ComputeError::Inexact { record, step },
            Self::Groups(step) => ComputeError::TooManyGroups { record, step },
        }
    }
}
