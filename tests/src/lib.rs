//! What end-to-end tests share: a world of separate processes, messages, and a hostile parent.
//!
//! Nothing here is used outside of tests, so it panics where a test should fail.

#![allow(clippy::missing_panics_doc, reason = "a failed expectation is a failed test")]

pub mod client;
pub mod hostile;
pub mod measure;
pub mod message;
pub mod process;
pub mod world;
