//! The parent's side: the way out to KMS, credentials for the enclave, and the job command line.
//!
//! Everything here runs on the parent instance, which the design trusts for availability only: it
//! carries ciphertext, sealed results and TLS records, and what it shows to people it has verified by
//! signatures that only the enclave can make.

pub mod address;
mod answer;
pub mod cli;
pub mod client;
pub mod counters;
pub mod credentials;
pub mod daemon;
pub mod dial;
pub mod exit;
pub mod kms;
pub mod listen;
pub mod named_keys;
pub mod printable;
pub mod proxy;
mod socket_file;
pub mod stream;

pub use address::EnclaveAddress;
pub use exit::{Exit, Failure};
pub use socket_file::SocketFileError;
pub use stream::Stream;
