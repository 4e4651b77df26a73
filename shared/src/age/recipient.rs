//! X25519 recipients: a public key in Bech32 (BIP 173) with the prefix `age`.
//!
//! ```text
//! age1 | 52 characters of 5 bits: 32 bytes, 4 zero bits | 6 characters of checksum
//! ```
//!
//! Strict, because a policy names its recipients for good: one text for one key, and no key whose
//! shared secret anybody could guess. Source: C2SP `age.md`, "X25519 recipient stanza".

use std::fmt;

use serde::{Deserialize, Serialize};

const PREFIX: &str = "age1";
const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const KEY_CHARACTERS: usize = 52;
const CHECKSUM_CHARACTERS: usize = 6;
/// The generator of the checksum, BIP 173.
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];

/// Points of low order (RFC 7748 §6.1): with each of them every shared secret is zero.
const LOW_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    *b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    *b"\xe0\xeb\x7a\x7c\x3b\x41\xb8\xae\x16\x56\xe3\xfa\xf1\x9f\xc4\x6a\xda\x09\x8d\xeb\x9c\x32\xb1\xfd\x86\x62\x05\x16\x5f\x49\xb8\x00",
    *b"\x5f\x9c\x95\xbc\xa3\x50\x8c\x24\xb1\xd0\xb1\x55\x9c\x83\xef\x5b\x04\x44\x5c\xc4\x58\x1c\x8e\x86\xd8\x22\x4e\xdd\xd0\x9f\x11\x57",
    *b"\xec\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
];

/// Who can open a sealed result: the public half of an age identity.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgeRecipient {
    text: String,
    key: [u8; 32],
}

/// Why a text is not a recipient. None of them quotes the text: it might be an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipientError {
    /// The secret half.
    #[error("this is an age identity, which is secret: write its recipient (age1…), and make a new identity")]
    Identity,
    /// Another kind of recipient: a plugin's, a hybrid one.
    #[error("not an X25519 age recipient: write age1 and 58 characters, as `age-keygen` prints it")]
    Kind,
    /// Upper or mixed case.
    #[error("an age recipient is written in lower case")]
    Case,
    /// A character outside of the alphabet, or bits left over.
    #[error("an age recipient with a character that cannot be in it")]
    Character,
    /// The checksum does not fit: mistyped.
    #[error("the checksum of the age recipient does not fit; was it mistyped or cut off?")]
    Checksum,
    /// A public key that nobody can hold a secret for.
    #[error("the age recipient's key is not the public half of any identity")]
    Key,
}

impl AgeRecipient {
    /// Parses a recipient.
    ///
    /// # Errors
    /// [`RecipientError`].
    pub fn parse(text: &str) -> Result<Self, RecipientError> {
        if text.get(..15).is_some_and(|start| start.eq_ignore_ascii_case("AGE-SECRET-KEY-")) {
            return Err(RecipientError::Identity);
        }
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(RecipientError::Case);
        }
        let data = text.strip_prefix(PREFIX).ok_or(RecipientError::Kind)?;
        if data.len() != KEY_CHARACTERS.saturating_add(CHECKSUM_CHARACTERS) {
            return Err(RecipientError::Kind);
        }
        let values: Option<Vec<u8>> = data.bytes().map(value).collect();
        let values = values.ok_or(RecipientError::Character)?;
        if checksum(&values) != 1 {
            return Err(RecipientError::Checksum);
        }
        let (key, _) = values.split_at_checked(KEY_CHARACTERS).ok_or(RecipientError::Kind)?;
        let key = bytes(key).ok_or(RecipientError::Character)?;
        if !is_canonical(&key) || LOW_ORDER.contains(&key) {
            return Err(RecipientError::Key);
        }
        Ok(Self { text: text.to_owned(), key })
    }

    /// The recipient as text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The X25519 public key.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }
}

/// The 5 bits that a character stands for.
fn value(character: u8) -> Option<u8> {
    ALPHABET.iter().position(|c| *c == character).and_then(|at| u8::try_from(at).ok())
}

/// The checksum over prefix and data, 1 if it is right.
fn checksum(values: &[u8]) -> u32 {
    // "age" expanded: the high bits of each character, a zero, the low bits.
    let prefix = [3, 3, 3, 0, 1, 7, 5];
    prefix.iter().chain(values).fold(1, |check: u32, value| {
        let top = check >> 25;
        let next = ((check & 0x01ff_ffff) << 5) ^ u32::from(*value);
        GENERATOR.iter().enumerate().fold(
            next,
            |next, (bit, term)| {
                if (top >> bit) & 1 == 1 { next ^ term } else { next }
            },
        )
    })
}

/// Groups of 5 bits as bytes; the 4 bits left over must be zero.
fn bytes(groups: &[u8]) -> Option<[u8; 32]> {
    let mut out = Vec::with_capacity(32);
    let (mut held, mut bits): (u16, u32) = (0, 0);
    for group in groups {
        held = (held << 5) | u16::from(*group);
        bits = bits.saturating_add(5);
        if let Some(rest) = bits.checked_sub(8) {
            out.push(u8::try_from(held >> rest).ok()?);
            held &= 0xff >> 8_u32.saturating_sub(rest);
            bits = rest;
        }
    }
    if held == 0 { out.try_into().ok() } else { None }
}

/// Below 2²⁵⁵ − 19: what X25519 makes always is, and each key has one such form.
fn is_canonical(key: &[u8; 32]) -> bool {
    let [first, middle @ .., last] = key;
    let top = *last == 0x7f && middle.iter().all(|byte| *byte == 0xff);
    *last <= 0x7f && !(top && *first >= 0xed)
}

impl fmt::Display for AgeRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for AgeRecipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgeRecipient({})", self.text)
    }
}

impl TryFrom<String> for AgeRecipient {
    type Error = RecipientError;
    fn try_from(text: String) -> Result<Self, RecipientError> {
        Self::parse(&text)
    }
}

impl From<AgeRecipient> for String {
    fn from(recipient: AgeRecipient) -> Self {
        recipient.text
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// From the age test vectors (C2SP CCTV): its key is the hexadecimal below.
    const GOOD: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

    /// Writes a recipient for any key, as a person could.
    #[expect(clippy::arithmetic_side_effects, reason = "small numbers, in a test")]
    pub(in crate::age) fn encode(key: &[u8; 32], tail: u8) -> String {
        let (mut values, mut held, mut bits) = (Vec::new(), 0_u16, 0);
        for byte in key {
            held = (held << 8) | u16::from(*byte);
            bits += 8;
            while bits >= 5 {
                bits -= 5;
                values.push(u8::try_from((held >> bits) & 31).unwrap());
            }
            held &= (1 << bits) - 1;
        }
        values.push(u8::try_from((held << (5 - bits)) & 31).unwrap() | tail);
        let mut with_checksum = values.clone();
        with_checksum.extend([0; CHECKSUM_CHARACTERS]);
        let check = checksum(&with_checksum) ^ 1;
        values.extend((0..6).map(|n| u8::try_from((check >> (5 * (5 - n))) & 31).unwrap()));
        let data: String = values.iter().map(|v| char::from(ALPHABET[usize::from(*v)])).collect();
        format!("{PREFIX}{data}")
    }

    #[test]
    fn reads_what_age_keygen_writes() {
        let recipient = AgeRecipient::parse(GOOD).unwrap();
        assert_eq!(recipient.to_string(), GOOD);
        assert_eq!(encode(recipient.key(), 0), GOOD);
    }

    #[test]
    fn refuses_malformed_recipients() {
        let identity = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
        let (cut, long) = (GOOD.strip_suffix('a').unwrap(), format!("{GOOD}q"));
        let mistyped = GOOD.replacen("t7", "7t", 1);
        for (text, error) in [
            (identity, RecipientError::Identity),
            (&identity.to_lowercase(), RecipientError::Identity),
            (&GOOD.to_uppercase(), RecipientError::Case),
            (&GOOD.replacen('t', "T", 1), RecipientError::Case),
            (cut, RecipientError::Kind),
            (&long, RecipientError::Kind),
            ("age1pq1qqqq", RecipientError::Kind),
            (
                "age1yubikey1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq",
                RecipientError::Kind,
            ),
            (&mistyped, RecipientError::Checksum),
            (&GOOD.replacen('t', "b", 1), RecipientError::Character),
            (&GOOD.replacen("t7", "é", 1), RecipientError::Character),
            (&encode(&[9; 32], 1), RecipientError::Character),
        ] {
            assert_eq!(AgeRecipient::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_mistyped_or_moved_character_is_always_noticed() {
        for (at, _) in GOOD.char_indices().skip(PREFIX.len()) {
            for character in ALPHABET.iter().map(|c| char::from(*c)) {
                let mut text: Vec<char> = GOOD.chars().collect();
                let before = std::mem::replace(&mut text[at], character);
                let text: String = text.into_iter().collect();
                let fits = before == character;
                assert_eq!(AgeRecipient::parse(&text).is_ok(), fits, "{text}");
            }
        }
        let mut moved: Vec<char> = GOOD.chars().collect();
        moved.swap(10, 40);
        assert_eq!(
            AgeRecipient::parse(&moved.into_iter().collect::<String>()),
            Err(RecipientError::Checksum)
        );
    }

    // A result sealed to such a key could be opened by anybody.
    #[test]
    fn refuses_points_of_low_order_and_second_forms_of_a_key() {
        let mut points = LOW_ORDER.to_vec();
        for low in [0xed, 0xee, 0xff] {
            points.push([&[low][..], &[0xff; 30], &[0x7f]].concat().try_into().unwrap());
        }
        let mut high_bit = [9; 32];
        high_bit[31] = 0x89;
        points.push(high_bit);
        for point in points {
            assert_eq!(AgeRecipient::parse(&encode(&point, 0)), Err(RecipientError::Key), "{point:?}");
        }
        assert!(AgeRecipient::parse(&encode(&[9; 32], 0)).is_ok());
    }

    #[test]
    fn no_error_quotes_the_text() {
        let error = AgeRecipient::parse("AGE-SECRET-KEY-1QQQQ").unwrap_err();
        assert!(!error.to_string().contains("QQQQ"));
    }
}
