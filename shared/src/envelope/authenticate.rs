//! Proves that a header was sealed with the data key: commitment first, then tag.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use aws_lc_rs::error::Unspecified;

use super::derive::{COMMITMENT_BYTES, Derivation};
use super::error::OpenError;
use super::header::{IV_BYTES, TAG_BYTES, UnverifiedHeader};
use super::suite::Version;
use crate::{DataKey, EncryptionContext};

/// The IV of a version 2 header's tag; frames count from one.
pub(super) const HEADER_IV: [u8; IV_BYTES] = [0; IV_BYTES];

/// The message's cipher, if the header was sealed with this key and these pairs.
pub(super) fn authenticate(
    header: &UnverifiedHeader,
    key: &DataKey,
    extra_context: &EncryptionContext,
) -> Result<LessSafeKey, OpenError> {
    // Which check failed stays in here.
    cipher(header, key, extra_context).map_err(|_| OpenError::Tampered)
}

fn cipher(
    header: &UnverifiedHeader,
    key: &DataKey,
    extra_context: &EncryptionContext,
) -> Result<LessSafeKey, Unspecified> {
    let derivation = Derivation::new(header.suite, header.message_id(), key)?;
    let (sealed, tag) = split_end::<TAG_BYTES>(&header.bytes)?;
    let (body, iv) = match header.suite.version() {
        Version::One => split_end::<IV_BYTES>(sealed)?,
        Version::Two => {
            // K-8: a key that the header does not commit to is used for nothing.
            derivation.commits_to(&split_end::<COMMITMENT_BYTES>(sealed)?.1)?;
            (sealed, HEADER_IV)
        }
    };
    let cipher = derivation.cipher()?;
    let nonce = Nonce::assume_unique_for_key(iv);
    let unstored = unstored(header.context(), extra_context)?;
    if unstored.is_empty() {
        cipher.open_in_place_separate_tag(nonce, Aad::from(body), &tag, &mut [])?;
    } else {
        let bound = [body, &unstored].concat();
        cipher.open_in_place_separate_tag(nonce, Aad::from(bound), &tag, &mut [])?;
    }
    Ok(cipher)
}

/// The pairs that the tag binds beside the header; a stored pair must not be contradicted.
fn unstored(stored: &EncryptionContext, extra: &EncryptionContext) -> Result<Vec<u8>, Unspecified> {
    let differs = |(key, value): (&str, &str)| stored.value(key).is_some_and(|own| own != value);
    if extra.pairs().any(differs) {
        return Err(Unspecified);
    }
    let pairs = extra.pairs().filter(|(key, _)| stored.value(key).is_none());
    EncryptionContext::from_pairs(pairs).map(|only| only.serialize_canonical()).map_err(|_| Unspecified)
}

fn split_end<const N: usize>(bytes: &[u8]) -> Result<(&[u8], [u8; N]), Unspecified> {
    bytes.split_last_chunk::<N>().map(|(start, end)| (start, *end)).ok_or(Unspecified)
}
