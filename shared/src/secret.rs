//! Key material. Nothing here can be printed, cloned or serialised.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The plaintext data encryption key (DEK) of one message: 16, 24 or 32 bytes.
///
/// No `Clone`, no `Serialize`, no `Display`; wiped when dropped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct DataKey {
    bytes: [u8; Self::MAX_BYTES],
    length: usize,
}

impl DataKey {
    /// Length of the longest data key, AES-256.
    pub const MAX_BYTES: usize = 32;

    /// Takes over key bytes; the caller's buffer is wiped with its `Zeroizing`.
    ///
    /// Returns `None` unless the length is that of an AES key (16, 24 or 32).
    pub fn from_bytes(bytes: &Zeroizing<Vec<u8>>) -> Option<Self> {
        Self::copy_from(bytes)
    }

    /// Copies key bytes out of a slice that the caller wipes.
    pub fn copy_from(bytes: &[u8]) -> Option<Self> {
        if !matches!(bytes.len(), 16 | 24 | 32) {
            return None;
        }
        let mut key = Self { bytes: [0; Self::MAX_BYTES], length: bytes.len() };
        key.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(key)
    }

    /// The key bytes, for the one derivation or cipher that needs them.
    pub fn expose(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_key_is_unprintable() {
        let key = DataKey::copy_from(&[0xA5; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "DataKey(..)");
    }

    #[test]
    fn refuses_lengths_that_are_not_aes_keys() {
        for length in [0, 1, 15, 17, 31, 33, 64] {
            assert!(DataKey::copy_from(&vec![1; length]).is_none(), "{length}");
        }
    }
}
