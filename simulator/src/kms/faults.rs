//! Misbehaviour that a test switches on and off while the KMS runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::cms::{CmsForm, KeyEncryption};

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
}

/// What happens to one call instead of, or before, its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mishap {
    Throttle,
    Fail,
    Drop,
    Garbage,
}

impl Faults {
    pub(super) fn concerns(&self, operation: &str) -> bool {
        self.operations.is_empty() || self.operations.iter().any(|name| name == operation)
    }

    /// Takes what is due for one call; counters run down.
    pub(super) fn strike(&mut self, operation: &str, now: SystemTime) -> Option<Mishap> {
        if !self.concerns(operation) {
            return None;
        }
        for (counter, mishap) in [
            (&mut self.drop_next, Mishap::Drop),
            (&mut self.fail_next, Mishap::Fail),
            (&mut self.garbage_next, Mishap::Garbage),
            (&mut self.throttle_next, Mishap::Throttle),
        ] {
            if *counter > 0 {
                *counter -= 1;
                return Some(mishap);
            }
        }
        let until = UNIX_EPOCH + Duration::from_millis(self.throttle_until_unix_ms);
        (now < until).then_some(Mishap::Throttle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_run_down_and_other_operations_are_spared() {
        let mut faults = Faults {
            operations: vec!["Decrypt".into()],
            throttle_next: 1,
            fail_next: 1,
            ..Faults::default()
        };
        assert_eq!(faults.strike("Encrypt", UNIX_EPOCH), None);
        assert_eq!(faults.strike("Decrypt", UNIX_EPOCH), Some(Mishap::Fail));
        assert_eq!(faults.strike("Decrypt", UNIX_EPOCH), Some(Mishap::Throttle));
        assert_eq!(faults.strike("Decrypt", UNIX_EPOCH), None);
    }

    #[test]
    fn empty_json_is_a_well_behaved_service_and_unknown_fields_are_refused() {
        assert_eq!(serde_json::from_str::<Faults>("{}").unwrap(), Faults::default());
        assert!(serde_json::from_str::<Faults>(r#"{"throtle_next":1}"#).is_err());
    }
}
