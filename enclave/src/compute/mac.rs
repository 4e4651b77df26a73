//! HMAC-SHA-256 (RFC 2104) of many short values that begin alike.
//!
//! The states behind the key's two blocks and behind what all values begin with are computed once; each
//! value takes a copy of two. A context of the library's own HMAC holds six, each with room for that of
//! the largest hash, and copying them costs more than hashing. The library keeps the state of a digest on
//! the heap and wipes it when it is freed.

use aws_lc_rs::digest::{self, Context, Digest, SHA256};
use zeroize::Zeroizing;

/// Length of a block of SHA-256, in bytes.
const BLOCK_BYTES: usize = 64;
const INNER: u8 = 0x36;
const OUTER: u8 = 0x5c;

/// A key, and what has been authenticated so far.
#[derive(Clone)]
pub(super) struct Mac {
    inner: Context,
    outer: Context,
}

impl Mac {
    /// Begins under a key. The caller wipes `secret`.
    pub(super) fn new(secret: &[u8]) -> Self {
        let mut block = Zeroizing::new([0; BLOCK_BYTES]);
        if secret.len() <= BLOCK_BYTES {
            block.iter_mut().zip(secret).for_each(|(to, from)| *to = *from);
        } else {
            let short = digest::digest(&SHA256, secret);
            block.iter_mut().zip(short.as_ref()).for_each(|(to, from)| *to = *from);
        }
        let start = |pad: u8| {
            let padded = Zeroizing::new(block.map(|byte| byte ^ pad));
            let mut context = Context::new(&SHA256);
            context.update(padded.as_slice());
            context
        };
        Self { inner: start(INNER), outer: start(OUTER) }
    }

    /// Adds what all values begin with.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
    }

    /// The code of what was added and these parts.
    pub(super) fn of(&self, parts: &[&[u8]]) -> Digest {
        let (mut inner, mut outer) = (self.inner.clone(), self.outer.clone());
        for part in parts {
            inner.update(part);
        }
        outer.update(inner.finish().as_ref());
        outer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::hmac;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn says_what_the_library_says(
            key in vec(any::<u8>(), 0..200),
            begin in vec(any::<u8>(), 0..200),
            parts in vec(vec(any::<u8>(), 0..100), 0..4),
        ) {
            let mut mac = Mac::new(&key);
            mac.update(&begin);
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let whole = [&begin[..], &parts.concat()].concat();
            let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &whole);
            // Twice: a value leaves no trace in what the next one begins with.
            for _ in 0..2 {
                let code = mac.of(&parts);
                prop_assert_eq!(code.as_ref(), expected.as_ref());
            }
        }
    }
}
