//! The measured program: attests, opens, computes, releases.
//!
//! The six stages of a job are the modules `admit`, `unlock`, `open`, `pass` (whose steps are in
//! `compute`), `release` and `reply`; `job` lists them in order. Everything that arrives is hostile.
#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects
)]

pub mod admit;
pub mod attest;
pub mod boot;
pub mod clock;
pub mod cms;
pub mod compute;
pub mod device;
pub mod event;
pub mod identity;
pub mod input_hash;
pub mod job;
pub mod kms;
pub mod named_keys;
pub mod open;
pub mod pass;
pub mod payload;
pub mod platform;
pub mod release;
pub mod replay;
pub mod reply;
pub mod service;
mod sink;
pub mod unlock;
