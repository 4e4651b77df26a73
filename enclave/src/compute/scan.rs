//! Reads the smallest parts of JSON (RFC 8259): strings, numbers, literals, white space.
//!
//! Each function takes the whole record and a position and gives the position behind what it read,
//! or refuses. Nothing is decoded here except on request; nothing is lenient.

use zeroize::Zeroizing;

use super::block::{WIDTH, marks};
use super::error::Flaw;

/// What a string turned out to be.
#[derive(Clone, Copy)]
pub(super) struct Text {
    /// The position behind the closing quote.
    pub(super) end: usize,
    /// Whether it has escapes.
    pub(super) escaped: bool,
}

/// The next position. A position never passes a slice's length by more than one, so it cannot wrap.
#[inline]
pub(super) const fn after(at: usize) -> usize {
    at.wrapping_add(1)
}

#[inline]
pub(super) fn byte(bytes: &[u8], at: usize) -> Result<u8, Flaw> {
    bytes.get(at).copied().ok_or(Flaw::Malformed)
}

/// Skips white space.
#[inline]
pub(super) fn space(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at) {
        Some(..=b' ') => some_space(bytes, at),
        _ => at,
    }
}

fn some_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at = after(at);
    }
    at
}

/// Reads the rest of a string of which the opening quote is before `start`.
#[expect(
    clippy::inline_always,
    reason = "a call costs as much as reading a short name; most strings are short"
)]
#[inline(always)]
pub(super) fn string(bytes: &[u8], start: usize) -> Result<Text, Flaw> {
    let mut at = start;
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk::<WIDTH>) {
        let found = marks(*block);
        if found.high_before_stop() != 0 {
            break;
        }
        if found.stop == 0 {
            at = at.wrapping_add(WIDTH);
        } else if found.is_quote() {
            return Ok(Text { end: after(at.wrapping_add(found.plain())), escaped: false });
        } else {
            break;
        }
    }
    any_string(bytes, start)
}

/// Reads any string: with escapes, beyond ASCII, at the end of the record, or wrong.
#[inline(never)]
fn any_string(bytes: &[u8], start: usize) -> Result<Text, Flaw> {
    let (mut at, mut escaped, mut high) = (start, false, 0);
    loop {
        let stop = plain_run(bytes, at, &mut high)?;
        match byte(bytes, stop)? {
            b'"' => {
                if high != 0 {
                    let text = bytes.get(start..stop).ok_or(Flaw::Malformed)?;
                    std::str::from_utf8(text).map_err(|_| Flaw::Malformed)?;
                }
                return Ok(Text { end: after(stop), escaped });
            }
            b'\\' => {
                escaped = true;
                at = escape(bytes, after(stop))?.1;
            }
            _ => return Err(Flaw::Malformed),
        }
    }
}

/// Skips text up to a quote, backslash or control character; `high` becomes non-zero at any byte that is not ASCII.
#[inline]
fn plain_run(bytes: &[u8], mut at: usize, high: &mut u64) -> Result<usize, Flaw> {
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk::<WIDTH>) {
        let found = marks(*block);
        *high |= found.high_before_stop();
        if found.stop != 0 {
            return Ok(at.wrapping_add(found.plain()));
        }
        at = at.wrapping_add(WIDTH);
    }
    loop {
        let next = byte(bytes, at)?;
        if next < 0x20 || next == b'"' || next == b'\\' {
            return Ok(at);
        }
        *high |= u64::from(next & 0x80);
        at = after(at);
    }
}

/// Reads an escape behind its backslash: the character, and the position behind it.
fn escape(bytes: &[u8], at: usize) -> Result<(char, usize), Flaw> {
    let simple = |c| Ok((c, after(at)));
    match byte(bytes, at)? {
        b'"' => simple('"'),
        b'\\' => simple('\\'),
        b'/' => simple('/'),
        b'b' => simple('\u{8}'),
        b'f' => simple('\u{c}'),
        b'n' => simple('\n'),
        b'r' => simple('\r'),
        b't' => simple('\t'),
        b'u' => {
            let (unit, at) = hex4(bytes, after(at))?;
            if !(0xd800..0xe000).contains(&unit) {
                return Ok((char::from_u32(unit).ok_or(Flaw::Malformed)?, at));
            }
            // A high surrogate needs its low one; `decode_utf16` refuses all other pairs.
            let rest = bytes.get(at..).and_then(|rest| rest.strip_prefix(b"\\u")).ok_or(Flaw::Malformed)?;
            let (low, _) = hex4(rest, 0)?;
            let units = [unit, low].map(|unit| u16::try_from(unit).unwrap_or_default());
            let first = char::decode_utf16(units).next().and_then(Result::ok).ok_or(Flaw::Malformed)?;
            Ok((first, at.wrapping_add(6)))
        }
        _ => Err(Flaw::Malformed),
    }
}

fn hex4(bytes: &[u8], at: usize) -> Result<(u32, usize), Flaw> {
    let digits = bytes.get(at..).and_then(<[u8]>::first_chunk::<4>).ok_or(Flaw::Malformed)?;
    let unit = digits.iter().try_fold(0, |unit, digit| {
        char::from(*digit).to_digit(16).map(|digit| (unit << 4) | digit).ok_or(Flaw::Malformed)
    })?;
    Ok((unit, at.wrapping_add(4)))
}

/// Decodes the text of a string that [`string`] has accepted, without its quotes.
pub(super) fn unescape(mut text: &[u8], into: &mut Zeroizing<Vec<u8>>) -> Result<(), Flaw> {
    into.clear();
    if text.len() > into.capacity() {
        // A vector that grows by itself leaves its old memory unwiped. No text is longer than its spelling.
        *into = Zeroizing::new(Vec::with_capacity(text.len()));
    }
    while let Some(backslash) = memchr::memchr(b'\\', text) {
        let (plain, rest) = text.split_at_checked(backslash).ok_or(Flaw::Malformed)?;
        into.extend_from_slice(plain);
        let (character, end) = escape(rest, 1)?;
        into.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        text = rest.get(end..).ok_or(Flaw::Malformed)?;
    }
    into.extend_from_slice(text);
    Ok(())
}

/// Reads a number from its first byte: `-? (0 | [1-9][0-9]*) (\.[0-9]+)? ([eE][+-]?[0-9]+)?`.
#[inline]
pub(super) fn number(bytes: &[u8], at: usize) -> Result<usize, Flaw> {
    let first = if bytes.get(at) == Some(&b'-') { after(at) } else { at };
    let mut at = match byte(bytes, first)? {
        b'0' => after(first),
        _ => digits(bytes, first)?,
    };
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, after(at))?;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at = after(at);
        if let Some(b'+' | b'-') = bytes.get(at) {
            at = after(at);
        }
        at = digits(bytes, at)?;
    }
    Ok(at)
}

#[inline]
fn digits(bytes: &[u8], start: usize) -> Result<usize, Flaw> {
    let mut at = start;
    while let Some(b'0'..=b'9') = bytes.get(at) {
        at = after(at);
    }
    if at == start { Err(Flaw::Malformed) } else { Ok(at) }
}

/// Reads anything but an object, array or string from its first byte.
#[inline]
pub(super) fn word(bytes: &[u8], at: usize, first: u8) -> Result<usize, Flaw> {
    let literal: &[u8] = match first {
        b'0'..=b'9' | b'-' => return number(bytes, at),
        b't' => b"true",
        b'f' => b"false",
        b'n' => b"null",
        _ => return Err(Flaw::Malformed),
    };
    let end = at.wrapping_add(literal.len());
    if bytes.get(at..end) == Some(literal) { Ok(end) } else { Err(Flaw::Malformed) }
}
