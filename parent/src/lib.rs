//! The parent's side of Adyton: what carries everything and can read nothing.
//!
//! The daemon forwards bytes to KMS and hands credentials to the enclave; the client signs,
//! encrypts and sends on behalf of people who may sit anywhere. What comes back from an enclave is
//! verified before it is believed.

pub mod address;
pub mod cli;
pub mod client;
pub mod credentials;
pub mod dial;
pub mod kms;
pub mod listen;
pub mod proxy;
pub mod serve;
