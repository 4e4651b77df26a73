//! A message before its data key exists: suite, context, message id, signing key.
//!
//! The verification key of a signed message is a pair of its encryption context,
//! and the data key is wrapped under the whole context: so the signing key comes
//! first, then the key provider is asked with [`Draft::context`], then
//! [`Draft::seal_with`] writes the header. The signing key never leaves and signs
//! one message.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use aws_lc_rs::encoding::{AsBigEndian, EcPublicKeyCompressedBin};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::authenticate::HEADER_IV;
use super::derive::Derivation;
use super::error::SealError;
use super::header::{EncryptedDataKey, FRAMED, TAG_BYTES, VERSION_2};
use super::seal::Sealer;
use super::suite::Suite;
use crate::context::PUBLIC_KEY_PAIR;
use crate::limits::{MAX_ENCRYPTED_DATA_KEYS, MAX_HEADER_BYTES, MAX_MESSAGE_FRAME_BYTES};
use crate::{DataKey, EncryptionContext};

/// Names that only the format itself may use in an encryption context.
const RESERVED_PREFIX: &str = "aws-crypto-";

/// Length of a version 2 message id, in bytes.
const MESSAGE_ID_BYTES: usize = 32;

/// A version 2 message that waits for its data key.
#[derive(Debug)]
pub struct Draft {
    suite: Suite,
    context: EncryptionContext,
    message_id: [u8; MESSAGE_ID_BYTES],
    signing_key: Option<EcdsaKeyPair>,
}

impl Draft {
    /// Starts a message: draws its id and, for a signed suite, its signing key.
    ///
    /// # Errors
    /// [`SealError::Suite`] for a suite without key commitment, [`SealError::ReservedPair`] and
    /// [`SealError::Context`] for pairs that cannot be stored.
    pub fn new(suite: Suite, context: EncryptionContext) -> Result<Self, SealError> {
        if !suite.is_committing() {
            return Err(SealError::Suite(suite));
        }
        if context.pairs().any(|(key, _)| key.starts_with(RESERVED_PREFIX)) {
            return Err(SealError::ReservedPair);
        }
        let mut message_id = [0; MESSAGE_ID_BYTES];
        rand::fill(&mut message_id)?;
        let mut draft = Self { suite, context, message_id, signing_key: None };
        if suite.is_signed() {
            let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING)?;
            let point: EcPublicKeyCompressedBin<'_> = key.public_key().as_be_bytes()?;
            draft.context = draft.context.with(PUBLIC_KEY_PAIR, &STANDARD.encode(point.as_ref()))?;
            draft.signing_key = Some(key);
        }
        Ok(draft)
    }

    /// The suite.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The whole context: what the data key must be wrapped under.
    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }

    /// Writes the header and becomes the sealer of the body.
    ///
    /// `keys` are wrappings of `data_key`; a reader needs one of them.
    ///
    /// # Errors
    /// [`SealError`] for what no reader with this project's limits would read.
    pub fn seal_with(
        self,
        data_key: &DataKey,
        keys: &[EncryptedDataKey<'_>],
        frame_length: u32,
    ) -> Result<(Sealer, Vec<u8>), SealError> {
        if frame_length == 0 || u64::from(frame_length) > MAX_MESSAGE_FRAME_BYTES as u64 {
            return Err(SealError::FrameLength { bytes: frame_length });
        }
        let derivation = Derivation::new(self.suite, &self.message_id, data_key)?;
        let mut header = self.unsealed(keys, frame_length)?;
        header.extend(derivation.commitment()?);
        let cipher = derivation.cipher()?;
        let tag = seal_header(&cipher, &header)?;
        header.extend(tag);
        if header.len() > MAX_HEADER_BYTES {
            return Err(SealError::HeaderTooLarge { bytes: header.len() });
        }
        let sealer = Sealer::new(cipher, &self.message_id, &header, frame_length, self.signing_key);
        Ok((sealer, header))
    }

    /// The header up to its commitment.
    fn unsealed(&self, keys: &[EncryptedDataKey<'_>], frame_length: u32) -> Result<Vec<u8>, SealError> {
        if !(1..=MAX_ENCRYPTED_DATA_KEYS).contains(&keys.len()) {
            return Err(SealError::KeyCount { count: keys.len() });
        }
        let mut header = vec![VERSION_2];
        header.extend(self.suite.id().to_be_bytes());
        header.extend(self.message_id);
        counted(&mut header, &self.context.serialize_canonical())?;
        header.extend(length(keys.len())?);
        for EncryptedDataKey { provider, information, ciphertext } in keys {
            counted(&mut header, provider.as_bytes())?;
            counted(&mut header, information)?;
            counted(&mut header, ciphertext)?;
        }
        header.push(FRAMED);
        header.extend(frame_length.to_be_bytes());
        Ok(header)
    }
}

fn seal_header(cipher: &LessSafeKey, header: &[u8]) -> Result<[u8; TAG_BYTES], Unspecified> {
    let nonce = Nonce::assume_unique_for_key(HEADER_IV);
    let tag = cipher.seal_in_place_separate_tag(nonce, Aad::from(header), &mut [])?;
    tag.as_ref().try_into().map_err(|_| Unspecified)
}

fn counted(header: &mut Vec<u8>, bytes: &[u8]) -> Result<(), SealError> {
    header.extend(length(bytes.len())?);
    header.extend(bytes);
    Ok(())
}

fn length(bytes: usize) -> Result<[u8; 2], SealError> {
    u16::try_from(bytes).map(u16::to_be_bytes).map_err(|_| SealError::HeaderTooLarge { bytes })
}
