//! Jobs: input format, steps and destination, as the requester writes them.
//!
//! A job file is TOML, YAML or JSON; the request carries it in CBOR. Only the
//! enclave's admission decides whether a job may run under the policy; this
//! module decides what can be said at all, and what it comes down to.

mod aggregate;
mod condition;
mod error;
mod fields;
mod outcome;
mod path;
mod step;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use aggregate::{Aggregate, NotAQuantile, Quantile, Quantiles};
pub use condition::{Calculation, Comparison, Condition, ConditionError, Expression, Search};
pub use error::JobError;
pub use fields::{Change, Fields, Node, Treatment};
pub use outcome::{Field, Figure, Filter, Groups, Leaving, Outcome, Place, Read};
pub use path::{FieldPath, Segment};
pub use step::{DigestAlgorithm, Function, Keyed, Mask, Rename, Step};

pub use crate::destination::{Destination, DestinationError};
use crate::id::KeyName;

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

impl Job {
    /// The named keys that its steps need.
    pub fn keys(&self) -> BTreeSet<&KeyName> {
        self.steps.iter().filter_map(Step::key).collect()
    }

    /// Checks that the steps make sense together, and says what they come down to.
    ///
    /// # Errors
    /// [`JobError`] naming the step, counted from 1.
    pub fn outcome(&self) -> Result<Outcome, JobError> {
        Outcome::of(self)
    }
}
