//! Promises about attestation documents: what is accepted, and each way of being refused.
//!
//! V-1 to V-4, V-6, V-11, V-12 and T-2 are in the files below; V-13 is a test in the documentation of
//! `Verified`, the two ways of checking PCRs (V-2) are compared beside the code. V-10 is about image
//! files, which this module never reads: PCRs come from the caller.

mod arbitrary;
mod chain;
mod common;
mod expectations;
mod fields;
mod form;
mod memory;
mod real;
