//! Verifies Nitro attestation documents, and evaluates KMS key policies.

pub mod attestation;
pub mod key_policy;
