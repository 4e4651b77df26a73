//! Documents: a good one, every part of which can be exchanged before it is signed.

use aws_lc_rs::rand::SystemRandom;

use super::NOW;
use super::cbor::{array, bytes, map, null, open_map, text, unsigned};
use super::chain::Chain;

/// `{1: -35}`.
pub(crate) const ES384: &[u8] = &[0xa1, 0x01, 0x38, 0x22];

/// The value of PCR `index` in a good document.
pub(crate) fn pcr(index: u8) -> [u8; 48] {
    [index + 1; 48]
}

/// Encoded PCR entries.
pub(crate) fn pcrs(indices: impl IntoIterator<Item = u8>) -> Vec<(Vec<u8>, Vec<u8>)> {
    indices.into_iter().map(|index| (unsigned(u64::from(index)), bytes(&pcr(index)))).collect()
}

/// A document to be. Each part is encoded CBOR.
#[derive(Clone)]
pub(crate) struct Draft {
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) open: bool,
    pub(crate) protected: Vec<u8>,
    pub(crate) unprotected: Vec<u8>,
    pub(crate) prefix: Vec<u8>,
    pub(crate) suffix: Vec<u8>,
    /// What the signature is over, where it is not over `protected`.
    pub(crate) signed_protected: Option<Vec<u8>>,
}

impl Draft {
    /// A good document under `chain`, in AWS's order of fields.
    pub(crate) fn good(chain: &Chain) -> Self {
        let fields = [
            ("module_id", text("i-0123456789abcdef0-enc0123456789abcdef")),
            ("digest", text("SHA384")),
            ("timestamp", unsigned(NOW.0)),
            ("pcrs", map(&pcrs(0..16))),
            ("certificate", bytes(chain.leaf())),
            ("cabundle", array(&chain.bundle().iter().map(|der| bytes(der)).collect::<Vec<_>>())),
            ("public_key", bytes(b"key")),
            ("user_data", null()),
            ("nonce", bytes(&[7; 32])),
        ];
        Self {
            fields: fields.into_iter().map(|(name, value)| (text(name), value)).collect(),
            open: false,
            protected: bytes(ES384),
            unprotected: map(&[]),
            prefix: Vec::new(),
            suffix: Vec::new(),
            signed_protected: None,
        }
    }

    /// Exchanges a field's value.
    #[must_use]
    pub(crate) fn set(mut self, field: &str, value: Vec<u8>) -> Self {
        self.entry(field).1 = value;
        self
    }

    /// Leaves a field out.
    #[must_use]
    pub(crate) fn without(mut self, field: &str) -> Self {
        self.fields.retain(|(key, _)| *key != text(field));
        self
    }

    /// Adds an entry at the end.
    #[must_use]
    pub(crate) fn and(mut self, key: Vec<u8>, value: Vec<u8>) -> Self {
        self.fields.push((key, value));
        self
    }

    /// Exchanges the PCRs.
    #[must_use]
    pub(crate) fn with_pcrs(self, entries: &[(Vec<u8>, Vec<u8>)]) -> Self {
        self.set("pcrs", map(entries))
    }

    /// Exchanges the bundle.
    #[must_use]
    pub(crate) fn with_bundle(self, bundle: &[Vec<u8>]) -> Self {
        self.set("cabundle", array(&bundle.iter().map(|der| bytes(der)).collect::<Vec<_>>()))
    }

    fn entry(&mut self, field: &str) -> &mut (Vec<u8>, Vec<u8>) {
        self.fields.iter_mut().find(|(key, _)| *key == text(field)).unwrap()
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        if self.open { open_map(&self.fields) } else { map(&self.fields) }
    }

    /// Signs and encodes.
    pub(crate) fn sign(&self, chain: &Chain) -> Vec<u8> {
        self.sign_payload(chain, &self.payload())
    }

    /// The same around any payload.
    pub(crate) fn sign_payload(&self, chain: &Chain, payload: &[u8]) -> Vec<u8> {
        let protected = self.signed_protected.as_ref().unwrap_or(&self.protected);
        let signed = array(&[text("Signature1"), protected.clone(), bytes(b""), bytes(payload)]);
        let signature = chain.key.sign(&SystemRandom::new(), &signed).unwrap();
        let parts =
            [self.protected.clone(), self.unprotected.clone(), bytes(payload), bytes(signature.as_ref())];
        [self.prefix.clone(), array(&parts), self.suffix.clone()].concat()
    }
}
