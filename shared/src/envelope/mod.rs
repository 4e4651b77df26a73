//! The AWS Encryption SDK message format, versions 1 and 2.
//!
//! Reading is three types, each made of the one before: [`UnverifiedHeader`] is
//! well-formed and within limits, [`Opener`] has verified commitment and header
//! tag with the data key, and gives verified plaintext frame by frame until
//! [`Step::End`]. Writing is version 2 only: a [`Draft`] becomes a [`Sealer`] once
//! its data key is wrapped. There is no I/O: bytes are pushed in and steps come out.
//! Key providers are not known here; a header only names what they wrapped.
//! Source: AWS Encryption SDK message format reference and algorithm suites reference.

mod authenticate;
mod body;
mod derive;
mod draft;
mod error;
mod footer;
mod header;
mod locate;
mod open;
mod seal;
mod suite;

pub use draft::Draft;
pub use error::{HeaderError, OpenError, SealError};
pub use header::{EncryptedDataKey, KMS_PROVIDER, Parsed, UnverifiedHeader};
pub use open::{Opener, Step};
pub use seal::Sealer;
pub use suite::Suite;
