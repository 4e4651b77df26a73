//! The age format (C2SP, `age.md`, version 1), as far as sealing to one X25519 recipient needs it.
//!
//! Only recipients and the writer are here: the enclave seals results and opens none. What it
//! writes opens with any age tool.

mod recipient;
mod seal;

pub use recipient::{AgeRecipient, RecipientError};
pub use seal::{AgeError, AgeSealer};
