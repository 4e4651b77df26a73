//! Request quotas: one token bucket for each account, region and group of calls.
//!
//! The groups are AWS's, and each is independent of the others. Whoever calls is charged, also for
//! calls that fail, for dry runs and for keys of other accounts.
//!
//! AWS's figures for managing keys are small: five keys a second. A test suite gets there by
//! accident and waits for nothing, so unless they are asked for (`base = "aws"`) only the figures
//! that a local test does not reach by accident hold: those of 500 and more a second.

mod figures;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use super::key::Millis;
pub(super) use figures::{Counts, Group, SYMMETRIC, counts, group_of};

/// From this many calls a second on, in thousandths, AWS's figure holds without being asked for.
const RELAXED_FROM: u64 = 500_000;
/// Buckets that are kept before the full ones are dropped: a full one is as good as none.
const MAX_BUCKETS: usize = 4096;

/// How many symmetric cryptographic operations an account may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Calls per second in the long run. Zero refuses everything once the burst is used up.
    pub per_second: u32,
    /// Calls at once after a pause.
    pub burst: u32,
}

impl Default for Quota {
    /// What AWS grants in most regions; a local test does not get there by accident.
    fn default() -> Self {
        Self { per_second: 20_000, burst: 20_000 }
    }
}

/// The figures of all groups; those that are absent have no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas(BTreeMap<&'static str, Rate>);

/// Tokens are counted in millionths, so that a millisecond's share of a slow rate is a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    per_ms: u64,
    full: u64,
}

/// Why a `quota.toml` is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// Not TOML, or another shape than a quota file has.
    #[error("it is not a quota file: {0}")]
    Shape(#[from] toml::de::Error),
    /// A group that does not exist.
    #[error(
        "{0:?} is no group; groups are \"symmetric\", \"rsa\", \"ecc\", \"data-key-pair-RSA_2048\" and its like, and the names of all other operations"
    )]
    Group(String),
    /// A figure that is not a rate.
    #[error(
        "the figure of {0} must be \"unlimited\", or a number from 0 to 1000000, or {{ per_second = …, burst = … }}"
    )]
    Figure(String),
    /// Another base than there is.
    #[error("base must be \"aws\" or \"relaxed\"")]
    Base,
}

impl Default for Quotas {
    fn default() -> Self {
        Self::relaxed()
    }
}

impl Quotas {
    /// AWS's figures for every group.
    pub fn aws() -> Self {
        Self(figures::AWS.iter().map(|(group, rate)| (*group, Rate::of_thousandths(*rate))).collect())
    }

    /// AWS's figures of 500 a second and more; no limit for the other groups.
    pub fn relaxed() -> Self {
        let mut quotas = Self::aws();
        let wide =
            |group: &str| figures::AWS.iter().any(|(name, rate)| *name == group && *rate >= RELAXED_FROM);
        quotas.0.retain(|group, _| wide(group));
        quotas
    }

    /// Reads a `quota.toml`: `base = "aws"` or `"relaxed"`, and a figure for each group that differs.
    ///
    /// ```toml
    /// base = "aws"
    /// CreateKey = 2
    /// rsa = { per_second = 100, burst = 300 }
    /// ListKeys = "unlimited"
    /// ```
    ///
    /// # Errors
    /// [`QuotaError`] that names what is wrong.
    pub fn parse(text: &str) -> Result<Self, QuotaError> {
        let mut table: BTreeMap<String, Figure> = toml::from_str(text)?;
        let mut quotas = match table.remove("base") {
            None => Self::relaxed(),
            Some(Figure::Word(word)) if word == "relaxed" => Self::relaxed(),
            Some(Figure::Word(word)) if word == "aws" => Self::aws(),
            Some(_) => return Err(QuotaError::Base),
        };
        for (name, figure) in table {
            let Some((group, _)) = figures::AWS.iter().find(|(group, _)| *group == name) else {
                return Err(QuotaError::Group(name));
            };
            match figure.rate().ok_or(QuotaError::Figure(name))?.0 {
                Some(rate) => drop(quotas.0.insert(group, rate)),
                None => drop(quotas.0.remove(group)),
            }
        }
        Ok(quotas)
    }

    /// These, with another figure for the symmetric cryptographic operations.
    #[must_use]
    pub fn with_symmetric(mut self, quota: Quota) -> Self {
        let rate =
            Rate { per_ms: u64::from(quota.per_second) * 1000, full: u64::from(quota.burst) * 1_000_000 };
        self.0.insert(figures::SYMMETRIC.0, rate);
        self
    }
}

/// A value in `quota.toml`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Figure {
    Word(String),
    Number(f64),
    Rate { per_second: f64, burst: Option<f64> },
}

/// A rate, or none where everything is let through.
struct Limit(Option<Rate>);

impl Figure {
    fn rate(&self) -> Option<Limit> {
        let (per_second, burst) = match self {
            Self::Word(word) => return (word == "unlimited").then_some(Limit(None)),
            Self::Number(per_second) => (*per_second, None),
            Self::Rate { per_second, burst } => (*per_second, *burst),
        };
        let per_second = thousandths(per_second)?;
        let rate = Rate::of_thousandths(per_second);
        Some(Limit(Some(match burst {
            None => rate,
            Some(burst) => Rate { full: thousandths(burst)?.checked_mul(1000)?, ..rate },
        })))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
fn thousandths(number: f64) -> Option<u64> {
    (0.0..=1_000_000.0).contains(&number).then(|| (number * 1000.0).round() as u64)
}

impl Rate {
    /// A second's worth at once, and one call at least.
    fn of_thousandths(per_second: u64) -> Self {
        Self { per_ms: per_second, full: (per_second * 1000).max(1_000_000) }
    }
}

pub(super) struct Throttle {
    quotas: Quotas,
    buckets: Mutex<HashMap<Place, Bucket>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Place {
    account: String,
    region: String,
    group: Group,
}

struct Bucket {
    millionths: u64,
    filled: Millis,
}

impl Bucket {
    fn fill(&mut self, rate: Rate, now: Millis) {
        let earned = now.saturating_sub(self.filled).saturating_mul(rate.per_ms);
        self.millionths = self.millionths.saturating_add(earned).min(rate.full);
        // A clock that was put back earns nothing until it has caught up.
        self.filled = self.filled.max(now);
    }
}

impl Throttle {
    pub(super) fn new(quotas: Quotas) -> Self {
        Self { quotas, buckets: Mutex::default() }
    }

    /// Gives everybody the full burst again.
    pub(super) fn fill(&self) {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Takes one token of the group; `false` if the account has none left in this region.
    pub(super) fn admit(&self, account: &str, region: &str, group: Group, now: Millis) -> bool {
        let Some(rate) = self.quotas.0.get(group.0).copied() else { return true };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        // Callers choose the region that they sign for.
        if buckets.len() >= MAX_BUCKETS {
            buckets.retain(|place, bucket| {
                let rate = self.quotas.0.get(place.group.0).copied();
                rate.is_some_and(|rate| {
                    bucket.fill(rate, now);
                    bucket.millionths < rate.full
                })
            });
        }
        let place = Place { account: account.to_owned(), region: region.to_owned(), group };
        let bucket = buckets.entry(place).or_insert(Bucket { millionths: rate.full, filled: now });
        bucket.fill(rate, now);
        match bucket.millionths.checked_sub(1_000_000) {
            Some(rest) => {
                bucket.millionths = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::operations::Operation;
    use crate::kms::spec::KeySpec;

    fn throttle(text: &str) -> Throttle {
        Throttle::new(Quotas::parse(text).unwrap())
    }

    #[test]
    fn refuses_beyond_the_burst_and_recovers_with_time() {
        let throttle = throttle("symmetric = { per_second = 2, burst = 3 }");
        let admit = |account, now| throttle.admit(account, "eu-west-1", figures::SYMMETRIC, now);
        for _ in 0..3 {
            assert!(admit("a", 1000));
        }
        assert!(!admit("a", 1000));
        assert!(admit("b", 1000));
        assert!(!admit("a", 1499));
        assert!(admit("a", 1500));
        assert!(!admit("a", 900));
        assert!(!admit("a", 1999));
        assert!(admit("a", 2000));
    }

    #[test]
    fn a_rate_below_one_a_second_gives_a_call_now_and_then() {
        let throttle = throttle("GetParametersForImport = 0.25");
        let admit = |now| throttle.admit("a", "eu-west-1", Group("GetParametersForImport"), now);
        assert!(admit(0));
        assert!(!admit(3999));
        assert!(admit(4000));
    }

    #[test]
    fn every_operation_and_pair_has_a_figure() {
        let known = |group: Group| figures::AWS.iter().any(|(name, _)| *name == group.0);
        for operation in Operation::all() {
            if let Counts::Against(group) = counts(operation.name(), None) {
                assert!(known(group), "{group:?}");
            }
        }
        for spec in KeySpec::NAMES {
            if let Counts::Against(group) = counts("GenerateDataKeyPair", Some(spec)) {
                assert!(known(group), "{group:?}");
            }
            assert!(known(group_of(KeySpec::of(spec).unwrap())));
        }
    }

    #[test]
    fn a_wrong_file_is_refused_in_words() {
        let refusal = |text| Quotas::parse(text).unwrap_err().to_string();
        assert_eq!(refusal("base = 'moto'"), "base must be \"aws\" or \"relaxed\"");
        assert!(refusal("Decrypt = 1").starts_with("\"Decrypt\" is no group; groups are \"symmetric\""));
        assert!(refusal("CreateKey = -1").starts_with("the figure of CreateKey must be"));
        assert!(refusal("CreateKey = 'many'").starts_with("the figure of CreateKey must be"));
        assert!(refusal("CreateKey = [1]").starts_with("it is not a quota file"));
    }

    #[test]
    fn regions_chosen_by_callers_do_not_fill_the_memory() {
        let throttle = throttle("");
        for region in 0..3 * MAX_BUCKETS {
            // A bucket is full again after two thousandths of a second.
            let now = u64::try_from(region).unwrap();
            throttle.admit("a", &region.to_string(), figures::SYMMETRIC, now);
        }
        assert!(throttle.buckets.lock().unwrap().len() <= MAX_BUCKETS);
    }
}
