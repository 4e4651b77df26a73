//! Release rules: the only ways out.
//!
//! One rule must allow the whole result. Rules do not add up: what two of them allow apart, the
//! author may never have wanted together.

use crate::id::RequesterName;
use crate::job::{Destination, Field, FieldPath, Outcome};

use super::Policy;

/// `[[release]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRule {
    /// Whose jobs.
    pub requester: RequesterName,
    /// Where to.
    pub to: Destination,
    /// What may leave.
    pub what: Treatment,
    /// Whether the result is padded to a size class before it is sealed.
    pub pad: bool,
}

/// What a rule lets out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Records with these fields and no others.
    Fields(Vec<FieldRule>),
    /// The digest of a payload.
    Digest,
}

/// One field of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRule {
    /// The field; what lies inside of it is included.
    pub path: FieldPath,
    /// How many characters at the end a mask may leave readable; `None` needs no mask.
    pub mask_keep_last: Option<u8>,
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
        outcome: &Outcome<'_>,
    ) -> Result<&ReleaseRule, ReleaseRefusal> {
        let mut refusal = ReleaseRefusal::NoRule;
        for rule in self.release.iter().filter(|rule| rule.requester == *requester && rule.to == *to) {
            match (&rule.what, outcome) {
                (Treatment::Digest, Outcome::Digest(_)) => return Ok(rule),
                (Treatment::Fields(allowed), Outcome::Records(fields)) => {
                    if fields.iter().all(|field| allows(allowed, field)) {
                        return Ok(rule);
                    }
                    refusal = ReleaseRefusal::Field;
                }
                _ => {}
            }
        }
        Err(refusal)
    }
}

fn allows(allowed: &[FieldRule], field: &Field<'_>) -> bool {
    allowed.iter().any(|rule| {
        rule.path.covers(field.path)
            && match (rule.mask_keep_last, field.mask_keep_last) {
                (None, _) => true,
                (Some(most), Some(kept)) => kept <= most,
                (Some(_), None) => false,
            }
    })
}
