//! What a payload's encryption context must say, by policy and by the signed request.
//!
//! A wrapped key and its context can be swapped together by the parent; they are caught because
//! at least one pair must equal what the requester signed (K-5), and old versions fall below the
//! floor (K-14).

use std::collections::BTreeMap;

use crate::EncryptionContext;

/// What every payload must be bound to (K-6).
pub(super) const REQUIRED_PAIRS: [&str; 4] = ["tenant", "object", "purpose", "version"];

/// What one pair of the context must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextRule {
    /// What the request claims for it; without a claim the request is refused.
    Signed,
    /// This text.
    Equals(String),
    /// A decimal number at least this large, and at least as large as the request's claim, if any.
    Minimum(u64),
}

/// `[context]`: the rules by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextRules(pub(super) BTreeMap<String, ContextRule>);

/// Why a payload is not one that the policy or the request speaks of. Holds no values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextRefusal {
    /// A pair is absent or is not what the policy says.
    #[error("the encryption context is not what the policy demands")]
    Policy,
    /// A pair is not what the request claims, or the request claims nothing where it must.
    #[error("the encryption context is not what the request claims")]
    Claim,
    /// The version is below the policy's floor or the request's.
    #[error("the payload's version is below the floor")]
    Version,
}

impl ContextRules {
    /// The rules by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ContextRule)> {
        self.0.iter().map(|(key, rule)| (key.as_str(), rule))
    }

    /// Whether a request claims everything that the policy wants signed.
    ///
    /// # Errors
    /// [`ContextRefusal::Claim`].
    pub fn check_claims(&self, claims: &BTreeMap<String, String>) -> Result<(), ContextRefusal> {
        let missing =
            self.0.iter().any(|(key, rule)| *rule == ContextRule::Signed && !claims.contains_key(key));
        if missing { Err(ContextRefusal::Claim) } else { Ok(()) }
    }

    /// Checks a payload's context.
    ///
    /// # Errors
    /// [`ContextRefusal`].
    pub fn check(
        &self,
        context: &EncryptionContext,
        claims: &BTreeMap<String, String>,
    ) -> Result<(), ContextRefusal> {
        self.check_claims(claims)?;
        for (key, rule) in &self.0 {
            let value = context.value(key).ok_or(ContextRefusal::Policy)?;
            match rule {
                ContextRule::Signed => {}
                ContextRule::Equals(wanted) if value == wanted => {}
                ContextRule::Equals(_) => return Err(ContextRefusal::Policy),
                ContextRule::Minimum(floor) => {
                    let version = number(value).ok_or(ContextRefusal::Policy)?;
                    let claimed = match claims.get(key) {
                        Some(claim) => number(claim).ok_or(ContextRefusal::Claim)?,
                        None => 0,
                    };
                    if version < (*floor).max(claimed) {
                        return Err(ContextRefusal::Version);
                    }
                }
            }
        }
        let equal = |(key, claim): (&String, &String)| {
            matches!(self.0.get(key), Some(ContextRule::Minimum(_))) || context.value(key) == Some(claim)
        };
        if claims.iter().all(equal) { Ok(()) } else { Err(ContextRefusal::Claim) }
    }
}

/// A decimal number in its only form: no sign, no leading zero.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> ContextRules {
        ContextRules(BTreeMap::from([
            ("tenant".to_owned(), ContextRule::Signed),
            ("purpose".to_owned(), ContextRule::Equals("payments".to_owned())),
            ("version".to_owned(), ContextRule::Minimum(7)),
        ]))
    }

    fn check(context: &[(&str, &str)], claims: &[(&str, &str)]) -> Result<(), ContextRefusal> {
        let context = EncryptionContext::from_pairs(context.iter().copied()).unwrap();
        let claims = claims.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        rules().check(&context, &claims)
    }

    // K-5, K-14
    #[test]
    fn a_context_must_fit_the_policy_and_the_claims() {
        let good = [("tenant", "acme"), ("purpose", "payments"), ("version", "8")];
        assert_eq!(check(&good, &[("tenant", "acme")]), Ok(()));
        assert_eq!(check(&good, &[("tenant", "acme"), ("version", "8")]), Ok(()));
        assert_eq!(check(&good, &[]), Err(ContextRefusal::Claim));
        assert_eq!(check(&good, &[("tenant", "other")]), Err(ContextRefusal::Claim));
        assert_eq!(check(&good, &[("tenant", "acme"), ("object", "x")]), Err(ContextRefusal::Claim));
        assert_eq!(check(&good, &[("tenant", "acme"), ("version", "9")]), Err(ContextRefusal::Version));
        let claims = [("tenant", "acme")];
        let old = [("tenant", "acme"), ("purpose", "payments"), ("version", "6")];
        assert_eq!(check(&old, &claims), Err(ContextRefusal::Version));
        for version in ["+8", "08", "8 ", "", "18446744073709551616"] {
            let odd = [("tenant", "acme"), ("purpose", "payments"), ("version", version)];
            assert_eq!(check(&odd, &claims), Err(ContextRefusal::Policy), "{version}");
        }
        let foreign = [("tenant", "acme"), ("purpose", "Payments"), ("version", "8")];
        assert_eq!(check(&foreign, &claims), Err(ContextRefusal::Policy));
        assert_eq!(check(&good[..2], &claims), Err(ContextRefusal::Policy));
    }
}
