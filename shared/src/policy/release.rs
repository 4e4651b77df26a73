//! Release rules: the only ways out.
//!
//! One rule must allow the whole result. Rules do not add up: what two of them allow apart, the
//! author may never have wanted together. A rule speaks of fields of the payload; what a job calls
//! them on the way out is of no interest here.

use crate::id::{KeyName, RequesterName};
use crate::job::{Destination, Field, FieldPath, Function, Groups, Leaving, Outcome, Treatment};

use super::Policy;

/// `[[release]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRule {
    /// Whose jobs.
    pub requester: RequesterName,
    /// Where to.
    pub to: Destination,
    /// What may leave.
    pub what: Allowance,
    /// Whether the result is padded to a size class before it is sealed.
    pub pad: bool,
}

/// What a rule lets out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowance {
    /// Records with these fields and no others.
    Fields(Vec<FieldRule>),
    /// The digest of a payload.
    Digest,
    /// Figures about groups of records.
    Aggregate(AggregateRule),
    /// Anything: whole records, the payload itself, digests.
    Everything,
}

/// Which figures, about groups of what size, how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateRule {
    /// The least number of records in a group, and of values behind a figure; 2 or more.
    pub minimum_group: u64,
    /// How many aggregates of one object one requester may ask for while the enclave runs.
    pub budget: u32,
    /// The fields that may form groups; any, if none is listed.
    pub by: Option<Vec<FieldPath>>,
    /// The fields that figures may be about; any, if none is listed.
    pub fields: Option<Vec<FieldPath>>,
    /// The figures that may be asked for; any, if none is listed.
    pub functions: Option<Vec<Function>>,
}

/// One field of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRule {
    /// The field; what lies inside of it is included.
    pub path: FieldPath,
    /// What must have been done to it.
    pub demand: Demand,
}

/// What must have been done to a field before it leaves.
///
/// One treatment that satisfies it is enough, whatever else was done: each later one is a function
/// of the value that it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing.
    Plain,
    /// A mask that leaves at most so many characters readable.
    Mask {
        /// How many.
        keep_last: u8,
    },
    /// A token.
    Token {
        /// Under this key; any, if none is named.
        key: Option<KeyName>,
    },
    /// A keyed hash.
    Hash {
        /// Under this key; any, if none is named.
        key: Option<KeyName>,
    },
}

/// Why a job's result may not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseRefusal {
    /// No rule speaks of this requester, destination and kind of result.
    #[error("no release rule allows this kind of result to this destination")]
    NoRule,
    /// Rules do, but none lists every field with the treatment that it got.
    #[error("a selected field is in no release rule, or not with this treatment")]
    Field,
    /// A filter reads a field that the rule does not list, or not with this treatment: whether a record
    /// passes would tell about it.
    #[error("the filter of step {step} reads a field that is in no release rule, or not with this treatment")]
    Filter {
        /// Position in the job, from 1.
        step: u16,
    },
    /// An aggregate of fields, by fields or of a kind that no rule lists.
    #[error("a field or function of the aggregate is in no release rule")]
    Aggregate,
    /// The job selects no fields, and no rule lets out whatever there is.
    #[error("the job never says which fields leave, and no release rule allows all of them; add a `select`")]
    Open,
}

impl Policy {
    /// The rule that lets this result out.
    ///
    /// # Errors
    /// [`ReleaseRefusal`].
    pub fn rule_for(
        &self,
        requester: &RequesterName,
        to: &Destination,
        outcome: &Outcome,
    ) -> Result<&ReleaseRule, ReleaseRefusal> {
        let mut refusal = ReleaseRefusal::NoRule;
        for rule in self.release.iter().filter(|rule| rule.requester == *requester && rule.to == *to) {
            match rule.what.judge(outcome) {
                Ok(()) => return Ok(rule),
                // What is wrong with the job under the rule that is about such jobs says more.
                Err(ReleaseRefusal::NoRule) => {}
                Err(other) => refusal = other,
            }
        }
        Err(refusal)
    }
}

impl ReleaseRefusal {
    /// The step concerned, from 1.
    pub const fn step(self) -> Option<u16> {
        match self {
            Self::Filter { step } => Some(step),
            Self::NoRule | Self::Field | Self::Aggregate | Self::Open => None,
        }
    }
}

impl Allowance {
    /// The least number of records behind anything that leaves in figures.
    pub const fn minimum_group(&self) -> u64 {
        match self {
            Self::Aggregate(rule) => rule.minimum_group,
            Self::Fields(_) | Self::Digest | Self::Everything => 1,
        }
    }

    fn judge(&self, outcome: &Outcome) -> Result<(), ReleaseRefusal> {
        match (self, &outcome.leaving) {
            (Self::Everything, _) | (Self::Digest, Leaving::Digest(_)) => Ok(()),
            (Self::Fields(allowed), Leaving::Records(fields)) => {
                let listed = |field: &Field| allowed.iter().any(|rule| rule.allows(field));
                if !fields.iter().all(listed) {
                    return Err(ReleaseRefusal::Field);
                }
                // Which records leave says something of what a filter reads: one bit a job, of any field.
                match outcome.reads.iter().find(|read| !listed(&read.field)) {
                    Some(read) => Err(ReleaseRefusal::Filter { step: read.place.step }),
                    None => Ok(()),
                }
            }
            (Self::Aggregate(rule), Leaving::Aggregate(groups)) => rule.judge(outcome, groups),
            (Self::Fields(_), Leaving::Open) => Err(ReleaseRefusal::Open),
            (Self::Fields(_) | Self::Digest | Self::Aggregate(_), _) => Err(ReleaseRefusal::NoRule),
        }
    }
}

impl AggregateRule {
    fn judge(&self, outcome: &Outcome, groups: &Groups) -> Result<(), ReleaseRefusal> {
        let covers = |paths: &Option<Vec<FieldPath>>, read: usize| match (paths, outcome.reads.get(read)) {
            (None, _) => true,
            (Some(paths), Some(read)) => paths.iter().any(|path| path.covers(&read.field.origin)),
            (Some(_), None) => false,
        };
        let offers = |function| self.functions.as_ref().is_none_or(|all| all.contains(&function));
        let grouped = groups.by.iter().all(|(_, read)| covers(&self.by, *read));
        let figures =
            groups.figures.iter().all(|figure| covers(&self.fields, figure.read) && offers(figure.function));
        if !grouped || !figures || (groups.count && !offers(Function::Count)) {
            return Err(ReleaseRefusal::Aggregate);
        }
        for filter in &outcome.filters {
            if !filter.reads.iter().all(|read| covers(&self.by, *read) || covers(&self.fields, *read)) {
                return Err(ReleaseRefusal::Filter { step: filter.step });
            }
        }
        Ok(())
    }
}

impl FieldRule {
    fn allows(&self, field: &Field) -> bool {
        self.path.covers(&field.origin)
            && (self.demand == Demand::Plain || field.treatments.iter().any(|t| self.demand.is_met_by(t)))
    }
}

impl Demand {
    fn is_met_by(&self, treatment: &Treatment) -> bool {
        let fits = |wanted: &Option<KeyName>, key| wanted.as_ref().is_none_or(|wanted| wanted == key);
        match (self, treatment) {
            (Self::Plain, _) => true,
            (Self::Mask { keep_last: most }, Treatment::Mask { keep_last }) => keep_last <= most,
            (Self::Token { key: wanted }, Treatment::Token { key })
            | (Self::Hash { key: wanted }, Treatment::Hash { key }) => fits(wanted, key),
            (Self::Mask { .. } | Self::Token { .. } | Self::Hash { .. }, _) => false,
        }
    }
}
