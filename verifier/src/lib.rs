//! Verifies Nitro attestation documents, and evaluates KMS key policies.
//!
//! Time, trust anchors and expectations are arguments; the crate has no clock,
//! no network and no state. A verdict is a type that only a successful check
//! makes, see [`attestation::Verified`].
#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects
)]

pub mod attestation;
pub mod key_policy;
