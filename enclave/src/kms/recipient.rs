//! RSA keys that KMS seals its answers to: made ahead of need, used a bounded number of times.
//!
//! RSA comes from aws-lc-rs, whose private operations are blinded and constant-time and which
//! wipes a key's memory when the key is dropped (T-1, X-1).

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use tokio::sync::{Mutex, mpsc};
use zeroize::Zeroizing;

use super::error::KeyError;
use crate::cms::{CmsError, EnvelopedData};
use adyton_shared::id::Sha256Digest;

/// How many answers one key opens, so that a key that leaked would open no more.
const MAX_UNWRAPS: u32 = 64;
/// Keys waiting to be used, besides the current one. Each took about 50 ms to make.
const READY: usize = 2;

/// One key pair.
pub(super) struct RecipientKey {
    private: OaepPrivateDecryptingKey,
    spki: Vec<u8>,
    id: [u8; 32],
}

impl RecipientKey {
    /// Takes some tens of milliseconds of computing.
    fn generate() -> Result<Self, KeyError> {
        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).map_err(|_| KeyError::Internal)?;
        let spki: PublicKeyX509Der<'_> = private.public_key().as_der().map_err(|_| KeyError::Internal)?;
        let spki = spki.as_ref().to_vec();
        let id = *Sha256Digest::of(&spki).as_bytes();
        let private = OaepPrivateDecryptingKey::new(private).map_err(|_| KeyError::Internal)?;
        Ok(Self { private, spki, id })
    }

    /// DER `SubjectPublicKeyInfo`, for the attestation document.
    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// Opens what KMS sealed to this key.
    pub(super) fn open(&self, ciphertext_for_recipient: &[u8]) -> Result<Zeroizing<Vec<u8>>, CmsError> {
        EnvelopedData::parse(ciphertext_for_recipient)?.open(&self.id, |encrypted| self.unwrap(encrypted))
    }

    fn unwrap(&self, encrypted: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut buffer = Zeroizing::new(vec![0; self.private.min_output_size()]);
        let plain = self.private.decrypt(&OAEP_SHA256_MGF1SHA256, encrypted, &mut buffer, None).ok()?;
        Some(Zeroizing::new(plain.to_vec()))
    }
}

/// Hands out the current key.
pub(super) struct RecipientKeys {
    current: Mutex<Current>,
}

struct Current {
    key: Option<Arc<RecipientKey>>,
    left: u32,
    ready: mpsc::Receiver<RecipientKey>,
}

impl RecipientKeys {
    /// Starts to make keys on a blocking thread; stops when this value is dropped. Must be called
    /// inside a tokio runtime.
    pub(super) fn start() -> Self {
        let (sender, ready) = mpsc::channel(READY);
        tokio::task::spawn_blocking(move || {
            while let Ok(key) = RecipientKey::generate() {
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
        });
        Self { current: Mutex::new(Current { key: None, left: 0, ready }) }
    }

    /// A key for one more unwrap.
    pub(super) async fn take(&self) -> Result<Arc<RecipientKey>, KeyError> {
        let mut current = self.current.lock().await;
        if current.left == 0 {
            current.key = Some(Arc::new(current.ready.recv().await.ok_or(KeyError::Internal)?));
            current.left = MAX_UNWRAPS;
        }
        current.left = current.left.saturating_sub(1);
        current.key.clone().ok_or(KeyError::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // T-1
    #[tokio::test]
    async fn a_key_is_replaced_after_a_bounded_number_of_unwraps() {
        let keys = RecipientKeys::start();
        let first = keys.take().await.unwrap();
        for _ in 1..MAX_UNWRAPS {
            assert_eq!(keys.take().await.unwrap().spki(), first.spki());
        }
        assert_ne!(keys.take().await.unwrap().spki(), first.spki());
    }
}
