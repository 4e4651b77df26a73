//! Promises about attestation documents: what is accepted, and each way of being refused.

mod arbitrary;
mod chain;
mod common;
mod expectations;
mod fields;
mod form;
mod real;
