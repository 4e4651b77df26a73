//! An auditor: somebody with an age identity, to whom results can be sealed.
//!
//! The identity is a file as `age-keygen` writes it, so `age -d -i` opens the results.

use std::path::Path;

use adyton_shared::age::AgeRecipient;
use anyhow::{Context as _, Result};
use aws_lc_rs::agreement::{PrivateKey, X25519};
use aws_lc_rs::rand;
use bech32::{Bech32, Hrp};

use crate::state::write_whole;

const COMMENT: &str = "# public key: ";

/// The recipient of the identity in this file; made if there is none.
///
/// # Errors
/// If the file cannot be written or is not an identity file.
pub fn auditor(path: &Path) -> Result<AgeRecipient> {
    if !path.try_exists()? {
        let mut secret = [0; 32];
        rand::fill(&mut secret)?;
        let public = PrivateKey::from_private_key(&X25519, &secret)?.compute_public_key()?;
        let recipient = bech32::encode::<Bech32>(Hrp::parse("age")?, public.as_ref())?;
        let identity = bech32::encode_upper::<Bech32>(Hrp::parse("age-secret-key-")?, &secret)?;
        write_whole(path, format!("{COMMENT}{recipient}\n{identity}\n").as_bytes())?;
    }
    let file = fs_err::read_to_string(path)?;
    let recipient = file.lines().find_map(|line| line.strip_prefix(COMMENT));
    let recipient = recipient.with_context(|| format!("{} names no public key", path.display()))?;
    Ok(AgeRecipient::parse(recipient.trim())?)
}
