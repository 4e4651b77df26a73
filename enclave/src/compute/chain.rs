//! What is done to one value, treatment by treatment.

use adyton_shared::job::{FieldPath, Treatment};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize as _, Zeroizing};

use super::keys::{NoKey, StepKeys};
use super::mac::Mac;
use super::mask::{mask, stars};

/// Longest text of a token or hash, in bytes.
pub(super) const DIGEST_TEXT_BYTES: usize = 64;

/// Treatments of one field, in order; at least one.
pub(super) struct Chain(Vec<Link>);

enum Link {
    Mask(usize),
    Token(Mac),
    Hash(Mac),
}

/// What a scalar is. Treated values are text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Boolean,
}

impl Chain {
    pub(super) fn new<'a>(
        origin: &FieldPath,
        treatments: impl Iterator<Item = &'a Treatment>,
        keys: &StepKeys,
    ) -> Result<Self, NoKey> {
        let link = |treatment: &Treatment| match treatment {
            Treatment::Mask { keep_last } => Ok(Link::Mask((*keep_last).into())),
            Treatment::Token { key } => keys.token(key, origin).map(Link::Token),
            Treatment::Hash { key } => keys.hash(key).map(Link::Hash),
        };
        treatments.map(link).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a value of this kind can be treated: a mask of `true` would say `****`.
    #[inline]
    pub(super) fn takes(&self, kind: Kind) -> bool {
        !(kind == Kind::Boolean && matches!(self.0.first(), Some(Link::Mask(_))))
    }

    /// Appends the only token or hash that is made of a value, which needs no escapes in JSON; `false` if there
    /// is more to do.
    #[inline]
    pub(super) fn append(&self, text: &[u8], kind: Kind, out: &mut Vec<u8>) -> bool {
        let [link @ (Link::Token(_) | Link::Hash(_))] = self.0.as_slice() else { return false };
        link.apply(text, kind, out);
        true
    }

    /// Treats the text of a value; the result replaces what is in `into`.
    pub(super) fn apply(&self, text: &[u8], kind: Kind, into: &mut Zeroizing<Vec<u8>>) {
        let mut kind = kind;
        let mut source = Zeroizing::default();
        for (nth, link) in self.0.iter().enumerate() {
            if nth > 0 {
                std::mem::swap(&mut source, into);
            }
            let value: &[u8] = if nth == 0 { text } else { &source };
            into.as_mut_slice().zeroize();
            into.clear();
            let room = value.len().max(DIGEST_TEXT_BYTES);
            if room > into.capacity() {
                // A vector that grows by itself leaves its old memory unwiped.
                *into = Zeroizing::new(Vec::with_capacity(room));
            }
            link.apply(value, kind, into);
            kind = Kind::Text;
        }
    }
}

impl Link {
    fn apply(&self, value: &[u8], kind: Kind, into: &mut Vec<u8>) {
        match self {
            Self::Mask(keep_last) => {
                let (count, tail) = mask(value, *keep_last);
                stars(count, into);
                into.extend_from_slice(tail);
            }
            Self::Token(mac) => {
                let code = mac.of(&[kind.tag(), value]);
                let mut text = [0; DIGEST_TEXT_BYTES];
                let length = URL_SAFE_NO_PAD.encode_slice(code, &mut text).unwrap_or(0);
                into.extend_from_slice(text.get(..length).unwrap_or_default());
            }
            Self::Hash(mac) => {
                let mut text = [0; DIGEST_TEXT_BYTES];
                // 32 bytes are 64 digits, always.
                if hex::encode_to_slice(mac.of(&[value]), &mut text).is_ok() {
                    into.extend_from_slice(&text);
                }
            }
        }
    }
}

impl Kind {
    /// What a JSON value is by its first byte, if it is neither null nor a container.
    #[inline]
    pub(super) const fn of(first: u8) -> Self {
        match first {
            b'"' => Self::Text,
            b't' | b'f' => Self::Boolean,
            _ => Self::Number,
        }
    }

    const fn tag(self) -> &'static [u8] {
        match self {
            Self::Text => b"s",
            Self::Number => b"n",
            Self::Boolean => b"b",
        }
    }
}
