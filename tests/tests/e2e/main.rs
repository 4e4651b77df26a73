//! End to end: enclave, KMS and parent as processes of their own, an honest requester, and a parent
//! that is not.
//!
//! One binary, so that it links once. Each test has a world of its own, in a folder of its own.

mod attestation;
mod bad_input;
mod boot;
mod canary;
mod command;
mod key_changes;
mod keys;
mod kms_surface;
mod named_keys;
mod padding;
mod policy_check;
mod receipts;
mod sealed_destinations;
mod sealed_requests;
mod steps;
mod transport;
