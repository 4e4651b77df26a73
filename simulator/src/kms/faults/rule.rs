//! One scheduled fault: what goes wrong, when, for which calls and how often.
//!
//! Written `KIND[=VALUE][,CONDITION=VALUE…]`, on the command line and in the JSON of the endpoint.
//! Which calls are hit follows from the rule and the order of the calls alone: chance comes from
//! the rule's seed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::kms::error::ApiError;
use crate::kms::operations::Operation;

/// What a rule does to the calls that it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kms) enum Trouble {
    Throttle,
    /// Holds the answer back for so many milliseconds.
    Latency(u64),
    Error(Failure),
    /// Closes the connection; nothing is done.
    Drop,
    /// Does what was asked, and closes the connection instead of answering.
    DropAfter,
    /// Answers 200 with something that is not JSON.
    Garbage,
    /// A change of policy or grants is not seen for so many milliseconds.
    Stale(u64),
}

/// The errors of AWS KMS with an HTTP status of 500.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kms) enum Failure {
    Internal,
    DependencyTimeout,
    KeyUnavailable,
}

const FAILURES: [(&str, Failure); 3] = [
    ("KMSInternalException", Failure::Internal),
    ("DependencyTimeoutException", Failure::DependencyTimeout),
    ("KeyUnavailableException", Failure::KeyUnavailable),
];

/// A fault on a schedule. Parsed from text; see [`Rule::HELP`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    pub(super) trouble: Trouble,
    /// Milliseconds after the rule was set.
    from: u64,
    until: Option<u64>,
    every: u64,
    /// In millionths.
    probability: u64,
    seed: u64,
    times: Option<u64>,
    operations: Vec<String>,
}

/// Why a text is not a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// The part before the first comma.
    #[error(
        "{0:?} is no fault; faults are throttle, latency=TIME, error=NAME, drop, drop-after, garbage, stale=TIME"
    )]
    Kind(String),
    /// The name after `error=`.
    #[error(
        "{0:?} is no error of the service itself; those are KMSInternalException, DependencyTimeoutException, KeyUnavailableException"
    )]
    Failure(String),
    /// A later part.
    #[error(
        "{0:?} is no condition; conditions are from=TIME, until=TIME, every=N, probability=P, seed=N, times=N, operations=NAME+NAME"
    )]
    Condition(String),
    /// A condition that is there twice.
    #[error("{0} is there twice")]
    Twice(String),
    /// A time without its unit, or not a number.
    #[error("{0:?} is no time; write 250ms, 10s or 2m")]
    Time(String),
    /// A number that is none, or is not in its range.
    #[error("{name} must be {wanted}, not {value:?}")]
    Number {
        /// The condition.
        name: &'static str,
        /// What it may be.
        wanted: &'static str,
        /// What it is.
        value: String,
    },
    /// An operation that does not exist.
    #[error("{0:?} is no operation of KMS or STS")]
    Operation(String),
    /// A window that is never open.
    #[error("until must be later than from")]
    Window,
}

impl Rule {
    /// How a rule is written, for the help of programs.
    pub const HELP: &str = "\
FAULTS  KIND[=VALUE][,CONDITION=VALUE...]
  throttle               ThrottlingException, HTTP 400
  latency=TIME           the answer is held back (250ms, 10s, 2m)
  error=NAME             KMSInternalException, DependencyTimeoutException or KeyUnavailableException, HTTP 500
  drop                   the connection is closed and nothing is done
  drop-after             the call is carried out and the connection closed instead of answered
  garbage                HTTP 200 with a body that is not JSON
  stale=TIME             after PutKeyPolicy, CreateGrant, RetireGrant and RevokeGrant with a KeyId the old
                         policy and grants are seen for so long (eventual consistency); a grant token helps
 conditions
  from=TIME, until=TIME  only between these times after the start (by POST: after the request)
  every=N                only every Nth call that the rule is about
  probability=P          only with this probability (0 to 1), the same calls for the same seed
  seed=N                 for probability; 0 if not given
  times=N                so often at most
  operations=A+B         only calls of these operations
 examples
  throttle,from=2s,until=10s,operations=Decrypt+GenerateDataKey
  error=KeyUnavailableException,every=5
  latency=300ms,probability=0.1,seed=7
  drop-after,operations=CreateKey,times=1
  stale=5s,operations=PutKeyPolicy";

    /// Whether the rule is about a call of this operation at this time after it was set.
    fn concerns(&self, operation: &str, elapsed: u64) -> bool {
        let open = elapsed >= self.from && self.until.is_none_or(|until| elapsed < until);
        let named = self.operations.is_empty() || self.operations.iter().any(|name| name == operation);
        let possible = !matches!(self.trouble, Trouble::Stale(_)) || is_change_of_access(operation);
        open && named && possible
    }
}

/// Operations whose effect AWS says may take a while to be seen everywhere.
pub(in crate::kms) fn is_change_of_access(operation: &str) -> bool {
    matches!(operation, "PutKeyPolicy" | "CreateGrant" | "RetireGrant" | "RevokeGrant")
}

/// How far a rule has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    calls: u64,
    hits: u64,
    chance: u64,
}

impl Progress {
    pub(super) fn of(rule: &Rule) -> Self {
        Self { calls: 0, hits: 0, chance: rule.seed }
    }

    /// Counts one call; whether it is hit.
    pub(super) fn strike(&mut self, rule: &Rule, operation: &str, elapsed: u64) -> bool {
        if !rule.concerns(operation, elapsed) || rule.times.is_some_and(|times| self.hits >= times) {
            return false;
        }
        self.calls += 1;
        let hit = self.calls.is_multiple_of(rule.every) && self.draw() % 1_000_000 < rule.probability;
        self.hits += u64::from(hit);
        hit
    }

    /// `SplitMix64`: the same numbers for the same seed.
    fn draw(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Failure {
    pub(in crate::kms) fn error(self) -> ApiError {
        match self {
            Self::Internal => ApiError::internal(),
            Self::DependencyTimeout => ApiError {
                status: 500,
                ..ApiError::new(
                    "DependencyTimeoutException",
                    "The system timed out while trying to fulfill the request. You can retry the request.",
                )
            },
            Self::KeyUnavailable => ApiError {
                status: 500,
                ..ApiError::new(
                    "KeyUnavailableException",
                    "The request was rejected because the specified KMS key was not available. You can retry the request.",
                )
            },
        }
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let mut parts = text.split(',').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let mut rule = Self {
            trouble: trouble(kind)?,
            from: 0,
            until: None,
            every: 1,
            probability: 1_000_000,
            seed: 0,
            times: None,
            operations: Vec::new(),
        };
        let mut seen = Vec::new();
        for part in parts {
            let (name, value) = part.split_once('=').ok_or_else(|| RuleError::Condition(part.to_owned()))?;
            if seen.contains(&name) {
                return Err(RuleError::Twice(name.to_owned()));
            }
            seen.push(name);
            rule.set(name, value)?;
        }
        if rule.until.is_some_and(|until| until <= rule.from) {
            return Err(RuleError::Window);
        }
        Ok(rule)
    }
}

impl Rule {
    fn set(&mut self, name: &str, value: &str) -> Result<(), RuleError> {
        match name {
            "from" => self.from = milliseconds(value)?,
            "until" => self.until = Some(milliseconds(value)?),
            "every" => self.every = positive("every", value)?,
            "times" => self.times = Some(positive("times", value)?),
            "seed" => {
                let wanted = "a whole number";
                self.seed = value.parse().map_err(|_| number("seed", wanted, value))?;
            }
            "probability" => self.probability = millionths(value)?,
            "operations" => {
                self.operations = value.split('+').map(str::to_owned).collect();
                if let Some(unknown) = self.operations.iter().find(|name| !Operation::exists(name)) {
                    return Err(RuleError::Operation(unknown.clone()));
                }
            }
            other => return Err(RuleError::Condition(other.to_owned())),
        }
        Ok(())
    }
}

fn trouble(kind: &str) -> Result<Trouble, RuleError> {
    Ok(match kind.split_once('=') {
        None => match kind {
            "throttle" => Trouble::Throttle,
            "drop" => Trouble::Drop,
            "drop-after" => Trouble::DropAfter,
            "garbage" => Trouble::Garbage,
            _ => return Err(RuleError::Kind(kind.to_owned())),
        },
        Some(("latency", time)) => Trouble::Latency(milliseconds(time)?),
        Some(("stale", time)) => Trouble::Stale(milliseconds(time)?),
        Some(("error", name)) => {
            let failure = FAILURES.iter().find(|(known, _)| *known == name);
            Trouble::Error(failure.ok_or_else(|| RuleError::Failure(name.to_owned()))?.1)
        }
        Some(_) => return Err(RuleError::Kind(kind.to_owned())),
    })
}

fn milliseconds(text: &str) -> Result<u64, RuleError> {
    let error = || RuleError::Time(text.to_owned());
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err(error()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(error)
}

fn positive(name: &'static str, value: &str) -> Result<u64, RuleError> {
    let parsed = value.parse().ok().filter(|number| *number > 0);
    parsed.ok_or_else(|| number(name, "a whole number from 1", value))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
fn millionths(value: &str) -> Result<u64, RuleError> {
    let parsed = value.parse::<f64>().ok().filter(|number| (0.0..=1.0).contains(number));
    let parsed = parsed.ok_or_else(|| number("probability", "a number from 0 to 1", value))?;
    Ok((parsed * 1_000_000.0).round() as u64)
}

fn number(name: &'static str, wanted: &'static str, value: &str) -> RuleError {
    RuleError::Number { name, wanted, value: value.to_owned() }
}

impl fmt::Display for Rule {
    /// As it is parsed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.trouble {
            Trouble::Throttle => f.write_str("throttle")?,
            Trouble::Latency(time) => write!(f, "latency={time}ms")?,
            Trouble::Error(failure) => {
                let name = FAILURES.iter().find(|(_, known)| *known == failure).map_or("", |(name, _)| name);
                write!(f, "error={name}")?;
            }
            Trouble::Drop => f.write_str("drop")?,
            Trouble::DropAfter => f.write_str("drop-after")?,
            Trouble::Garbage => f.write_str("garbage")?,
            Trouble::Stale(time) => write!(f, "stale={time}ms")?,
        }
        if self.from > 0 {
            write!(f, ",from={}ms", self.from)?;
        }
        if let Some(until) = self.until {
            write!(f, ",until={until}ms")?;
        }
        if self.every > 1 {
            write!(f, ",every={}", self.every)?;
        }
        if self.probability < 1_000_000 {
            write!(f, ",probability=0.{:06}", self.probability)?;
        }
        if self.seed > 0 {
            write!(f, ",seed={}", self.seed)?;
        }
        if let Some(times) = self.times {
            write!(f, ",times={times}")?;
        }
        if !self.operations.is_empty() {
            write!(f, ",operations={}", self.operations.join("+"))?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Rule {
    type Error = RuleError;

    fn try_from(text: String) -> Result<Self, RuleError> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(text: &str, calls: u64) -> Vec<u64> {
        let rule: Rule = text.parse().unwrap();
        let mut progress = Progress::of(&rule);
        (0..calls).filter(|call| progress.strike(&rule, "Decrypt", call * 1000)).collect()
    }

    #[test]
    fn a_rule_hits_in_its_window_every_nth_call_and_so_often() {
        assert_eq!(hits("throttle,from=2s,until=5s", 10), [2, 3, 4]);
        assert_eq!(hits("drop,every=3", 10), [2, 5, 8]);
        assert_eq!(hits("drop,every=3,times=2", 10), [2, 5]);
        assert_eq!(hits("garbage,operations=Encrypt", 10), [0; 0]);
        assert_eq!(hits("garbage,operations=Encrypt+Decrypt", 2), [0, 1]);
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed() {
        let one = hits("throttle,probability=0.25,seed=1", 1000);
        assert_eq!(one, hits("throttle,probability=0.25,seed=1", 1000));
        assert_ne!(one, hits("throttle,probability=0.25,seed=2", 1000));
        assert!((200..300).contains(&one.len()), "{}", one.len());
        assert!(hits("throttle,probability=0", 1000).is_empty());
        assert_eq!(hits("throttle,probability=1", 1000).len(), 1000);
    }

    #[test]
    fn a_rule_is_written_as_it_is_read() {
        for text in [
            "throttle",
            "latency=250ms,from=1000ms,until=2000ms,every=2,probability=0.250000,seed=9,times=3,operations=Decrypt+Sign",
            "error=DependencyTimeoutException",
            "drop-after",
            "stale=5000ms",
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn says_what_is_wrong_with_a_text() {
        let refusal = |text: &str| text.parse::<Rule>().unwrap_err().to_string();
        assert_eq!(
            refusal("thorttle"),
            "\"thorttle\" is no fault; faults are throttle, latency=TIME, error=NAME, drop, drop-after, garbage, stale=TIME"
        );
        assert!(refusal("").starts_with("\"\" is no fault"));
        assert!(
            refusal("error=AccessDenied").starts_with("\"AccessDenied\" is no error of the service itself")
        );
        assert_eq!(refusal("latency=5"), "\"5\" is no time; write 250ms, 10s or 2m");
        assert_eq!(
            refusal("latency=99999999999999999999s"),
            "\"99999999999999999999s\" is no time; write 250ms, 10s or 2m"
        );
        assert_eq!(refusal("drop,every=0"), "every must be a whole number from 1, not \"0\"");
        assert_eq!(refusal("drop,probability=2"), "probability must be a number from 0 to 1, not \"2\"");
        assert_eq!(refusal("drop,operations=Decript"), "\"Decript\" is no operation of KMS or STS");
        assert_eq!(refusal("drop,from=2s,until=2s"), "until must be later than from");
        assert_eq!(refusal("drop,seed=1,seed=2"), "seed is there twice");
        assert!(
            refusal("drop,sometimes").starts_with("\"sometimes\" is no condition; conditions are from=TIME")
        );
    }
}
