//! What every cryptographic operation asks of its key, in the order in which AWS answers: the state,
//! the usage, the algorithm; and where a dry run ends.

use crate::kms::error::{Answer, ApiError};
use crate::kms::key::KeyRecord;
use crate::kms::spec::KeyUsage;

/// State and usage of a key that the caller may use.
pub(super) fn ready(key: &KeyRecord, operation: &str, usage: KeyUsage) -> Answer<()> {
    key.usable()?;
    if key.usage == usage {
        return Ok(());
    }
    let (arn, usage) = (&key.arn, key.usage.name());
    Err(ApiError::key_usage(format!("{arn} key usage is {usage} which is not valid for {operation}.")))
}

/// Refuses algorithms that keys of this kind do not have.
pub(super) fn compatible(key: &KeyRecord, algorithm: &str) -> Answer<()> {
    if key.algorithms().contains(&algorithm) {
        return Ok(());
    }
    let spec = key.spec.name();
    Err(ApiError::key_usage(format!("Algorithm {algorithm} is incompatible with key spec {spec}.")))
}

/// A dry run ends here.
pub(super) fn unless_dry(dry_run: bool) -> Answer<()> {
    if dry_run { Err(ApiError::dry_run()) } else { Ok(()) }
}
