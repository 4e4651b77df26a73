//! Misbehaviour that a test or a rehearsal switches on and off while the KMS runs.

mod rule;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cms::{CmsForm, KeyEncryption};
use super::error::ApiError;
use super::key::Millis;
pub(super) use rule::is_change_of_access;
use rule::{Progress, Trouble};
pub use rule::{Rule, RuleError};

/// What goes wrong from now on. The default is a KMS that behaves.
///
/// As JSON it is the body of `POST /_adyton/faults`; fields left out are at their default, so
/// `{}` ends all misbehaviour.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Operations that are affected, by name; all of them if empty.
    pub operations: Vec<String>,
    /// Answers Plaintext although the request had a Recipient, like other emulators (K-1).
    pub plaintext_despite_recipient: bool,
    /// The `KeyId` that successful answers name instead of the true one (K-9).
    pub key_id: Option<String>,
    /// The `EncryptionAlgorithm` that Decrypt and Encrypt name instead of the true one (K-11).
    pub encryption_algorithm: Option<String>,
    /// How the content key in `CiphertextForRecipient` is encrypted (K-11).
    pub key_encryption: KeyEncryption,
    /// The encoding of `CiphertextForRecipient`; [`KmsConfig`](super::KmsConfig)'s if not given.
    pub cms_form: Option<CmsForm>,
    /// So many calls are throttled.
    pub throttle_next: u32,
    /// All calls before this time are throttled, in milliseconds since 1970.
    pub throttle_until_unix_ms: u64,
    /// So many calls end in `KMSInternalException`, HTTP 500.
    pub fail_next: u32,
    /// So many calls end in the connection being closed without an answer.
    pub drop_next: u32,
    /// So many calls get an answer that is not JSON, with HTTP 200.
    pub garbage_next: u32,
    /// How long each answer is held back, in milliseconds.
    pub latency_ms: u64,
    /// Grants younger than this, in milliseconds, are seen only by calls that send their token.
    pub stale_ms: u64,
    /// Faults on a schedule; [`Rule::HELP`] says how they are written. They have their own conditions,
    /// `operations` is not for them.
    pub schedule: Vec<Rule>,
}

/// What happens to one call instead of, or before, its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mishap {
    Refuse(ApiError),
    Drop,
    DropAfter,
    Garbage,
}

/// All that faults do to one call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) delay: Duration,
    pub(super) mishap: Option<Mishap>,
    /// For how long, in milliseconds, what the call changes is not seen.
    pub(super) stale: Option<Millis>,
}

impl Faults {
    pub(super) fn concerns(&self, operation: &str) -> bool {
        self.operations.is_empty() || self.operations.iter().any(|name| name == operation)
    }

    /// Takes what is due for one call by the counters, which run down.
    fn strike(&mut self, operation: &str, now: Millis) -> Option<Mishap> {
        if !self.concerns(operation) {
            return None;
        }
        for (counter, mishap) in [
            (&mut self.drop_next, Mishap::Drop),
            (&mut self.fail_next, Mishap::Refuse(ApiError::internal())),
            (&mut self.garbage_next, Mishap::Garbage),
            (&mut self.throttle_next, Mishap::Refuse(ApiError::throttled())),
        ] {
            if *counter > 0 {
                *counter -= 1;
                return Some(mishap);
            }
        }
        (now < self.throttle_until_unix_ms).then(|| Mishap::Refuse(ApiError::throttled()))
    }
}

/// The faults that are set, and how far they have come.
#[derive(Debug, Default)]
pub(super) struct Running {
    faults: Faults,
    since: Millis,
    progress: Vec<Progress>,
}

impl Running {
    pub(super) fn start(faults: Faults, now: Millis) -> Self {
        let progress = faults.schedule.iter().map(Progress::of).collect();
        Self { faults, since: now, progress }
    }

    /// What is set; counters have run down.
    pub(super) fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Takes what is due for one call.
    pub(super) fn fate(&mut self, operation: &str, now: Millis) -> Fate {
        let mut fate = Fate { mishap: self.faults.strike(operation, now), ..Fate::default() };
        let mut delay = if self.faults.concerns(operation) { self.faults.latency_ms } else { 0 };
        let elapsed = now.saturating_sub(self.since);
        for (rule, progress) in self.faults.schedule.iter().zip(&mut self.progress) {
            if !progress.strike(rule, operation, elapsed) {
                continue;
            }
            let mishap = match rule.trouble {
                Trouble::Latency(time) => {
                    delay = delay.saturating_add(time);
                    continue;
                }
                Trouble::Stale(time) => {
                    fate.stale = fate.stale.max(Some(time));
                    continue;
                }
                Trouble::Throttle => Mishap::Refuse(ApiError::throttled()),
                Trouble::Error(failure) => Mishap::Refuse(failure.error()),
                Trouble::Drop => Mishap::Drop,
                Trouble::DropAfter => Mishap::DropAfter,
                Trouble::Garbage => Mishap::Garbage,
            };
            fate.mishap.get_or_insert(mishap);
        }
        fate.delay = Duration::from_millis(delay);
        fate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(faults: Faults) -> Running {
        Running::start(faults, 0)
    }

    #[test]
    fn counters_run_down_and_other_operations_are_spared() {
        let mut running = running(Faults {
            operations: vec!["Decrypt".into()],
            throttle_next: 1,
            fail_next: 1,
            ..Faults::default()
        });
        assert_eq!(running.fate("Encrypt", 0), Fate::default());
        assert_eq!(running.fate("Decrypt", 0).mishap, Some(Mishap::Refuse(ApiError::internal())));
        assert_eq!(running.fate("Decrypt", 0).mishap, Some(Mishap::Refuse(ApiError::throttled())));
        assert_eq!(running.fate("Decrypt", 0), Fate::default());
    }

    #[test]
    fn latencies_add_up_and_the_first_mishap_counts() {
        let schedule = ["latency=100ms", "drop", "throttle", "latency=1s,every=2", "stale=5s"];
        let mut running = running(Faults {
            latency_ms: 10,
            schedule: schedule.iter().map(|text| text.parse().unwrap()).collect(),
            ..Faults::default()
        });
        let first = running.fate("Decrypt", 0);
        assert_eq!((first.delay, first.mishap), (Duration::from_millis(110), Some(Mishap::Drop)));
        let second = running.fate("PutKeyPolicy", 0);
        assert_eq!((second.delay, second.stale), (Duration::from_millis(1110), Some(5000)));
        assert_eq!(first.stale, None);
    }

    #[test]
    fn empty_json_is_a_well_behaved_service_and_unknown_fields_are_refused() {
        assert_eq!(serde_json::from_str::<Faults>("{}").unwrap(), Faults::default());
        assert!(serde_json::from_str::<Faults>(r#"{"throtle_next":1}"#).is_err());
        let error = serde_json::from_str::<Faults>(r#"{"schedule":["drop,every=0"]}"#).unwrap_err();
        assert_eq!(error.to_string(), "every must be a whole number from 1, not \"0\" at line 1 column 28");
    }
}
