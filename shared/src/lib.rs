//! What both sides of the enclave wall must agree on.
//!
//! The wire, its limits, the domain types, the policy, the envelope and the
//! receipts have one definition, here. The crate opens no file and no socket;
//! it reads and writes streams that the caller opened. Everything that it
//! decodes is taken to come from a hostile sender.
#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects
)]

pub mod age;
pub mod arn;
pub mod capped;
pub mod cbor;
pub mod chunks;
pub mod context;
pub mod cose;
pub mod decimal;
pub mod destination;
pub mod envelope;
pub mod error_code;
pub mod frame;
pub mod id;
pub mod job;
pub mod limits;
pub mod message;
pub mod padding;
pub mod policy;
pub mod receipt;
pub mod request;
pub mod result;
pub mod sealed_request;
pub mod secret;
pub mod statement;

pub use arn::KeyArn;
pub use context::EncryptionContext;
pub use error_code::ErrorCode;
pub use secret::DataKey;
