//! Replaces characters by asterisks.
//!
//! A character is a Unicode scalar value; separators are characters like any other. The last
//! `keep_last` stay if the text is at least twice as long, so that a short value is never half shown.
//! The length of a value stays visible; that is what `mask` promises, no more.

/// How `text` is masked: the number of asterisks and what stays readable behind them.
///
/// `text` is valid UTF-8; were it not, counting would still never show more than the last `keep_last` characters.
#[inline]
pub(super) fn mask(text: &[u8], keep_last: usize) -> (usize, &[u8]) {
    let count =
        if text.is_ascii() { text.len() } else { text.iter().filter(|b| starts_character(**b)).count() };
    if keep_last == 0 || count < keep_last.saturating_mul(2) {
        return (count, &[]);
    }
    let mut readable = 0_usize;
    let start = text.iter().rposition(|byte| {
        readable = readable.saturating_add(usize::from(starts_character(*byte)));
        readable == keep_last
    });
    let tail = start.and_then(|start| text.get(start..)).unwrap_or_default();
    (count.saturating_sub(readable), tail)
}

/// Appends `count` asterisks.
#[inline]
pub(super) fn stars(count: usize, out: &mut Vec<u8>) {
    out.resize(out.len().saturating_add(count), b'*');
}

/// Appends text as the inside of a JSON string.
pub(super) fn escape_json(text: &[u8], out: &mut Vec<u8>) {
    // Counted, not searched for: many bytes are looked at at a time.
    if text.iter().filter(|byte| **byte < 0x20 || **byte == b'"' || **byte == b'\\').count() == 0 {
        out.extend_from_slice(text);
        return;
    }
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x20.. => out.push(*byte),
            _ => {
                let digits =
                    [byte >> 4, byte & 0xf].map(|nibble| char::from_digit(nibble.into(), 16).unwrap_or('0'));
                out.extend_from_slice(b"\\u00");
                out.extend(digits.map(|digit| digit as u8));
            }
        }
    }
}

/// Whether a byte of UTF-8 is not a continuation.
const fn starts_character(byte: u8) -> bool {
    byte & 0xc0 != 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str, keep_last: usize) -> String {
        let (count, tail) = mask(text.as_bytes(), keep_last);
        "*".repeat(count) + std::str::from_utf8(tail).unwrap()
    }

    #[test]
    fn keeps_the_last_characters_of_a_long_enough_text() {
        assert_eq!(masked("4111 1111 1111 1234", 4), "***************1234");
        assert_eq!(masked("12345678", 4), "****5678");
        assert_eq!(masked("äöüßñçé€", 4), "****ñçé€");
        assert_eq!(masked("a🙂b🙂", 2), "**b🙂");
    }

    #[test]
    fn masks_a_short_text_whole() {
        assert_eq!(masked("1234567", 4), "*******");
        assert_eq!(masked("ä€🙂", 2), "***");
        assert_eq!(masked("", 4), "");
        assert_eq!(masked("abc", 0), "***");
        assert_eq!(masked("abc", 255), "***");
    }
}
