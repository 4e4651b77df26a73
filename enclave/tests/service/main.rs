//! The whole enclave in one process, against ports that do what a test tells them to.
//!
//! Time is tokio's, mostly paused, so that deadlines of minutes are exact and take no time.

mod admission;
mod boot;
mod conversation;
mod corruption;
mod deadlines;
mod identity;
mod world;

#[expect(dead_code, reason = "of the scripted KMS only the certificates and the envelopes are used here")]
#[path = "../kms_client/support.rs"]
mod scripted_kms;
