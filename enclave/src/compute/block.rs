//! Looks at eight bytes of a JSON string at once, by arithmetic on one 64-bit word.
//!
//! Vector instructions would look at more, but cannot be reached without `unsafe`.

/// How many bytes are looked at together.
pub(super) const WIDTH: usize = 8;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// A word with the top bit set in the byte of each answer, the first byte lowest.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    /// The byte ends a run of plain text: a quote, a backslash or a control character.
    ///
    /// Only the lowest mark is exact: borrows may set those above it for nothing.
    pub(super) stop: u64,
    /// The byte is not ASCII.
    pub(super) high: u64,
    quote: u64,
}

#[inline]
pub(super) fn marks(block: [u8; WIDTH]) -> Marks {
    let word = u64::from_le_bytes(block);
    let quote = (word ^ ONES.wrapping_mul(0x22)).wrapping_sub(ONES);
    let backslash = (word ^ ONES.wrapping_mul(0x5c)).wrapping_sub(ONES);
    let control = word.wrapping_sub(ONES.wrapping_mul(0x20));
    // A byte above 0x7f is none of the three: what it is combined with may not mark it.
    Marks {
        stop: (quote | backslash | control) & !word & HIGH,
        high: word & HIGH,
        quote: quote & !word & HIGH,
    }
}

impl Marks {
    /// How many bytes are before the first stop; [`WIDTH`] if there is none.
    #[inline]
    pub(super) const fn plain(self) -> usize {
        (self.stop.trailing_zeros() >> 3) as usize
    }

    /// Whether the first stop is a quote.
    #[inline]
    pub(super) const fn is_quote(self) -> bool {
        self.quote & self.stop & self.stop.wrapping_neg() != 0
    }

    /// Whether one of the bytes before the first stop is not ASCII.
    #[inline]
    pub(super) const fn high_before_stop(self) -> u64 {
        // All bits below the lowest set bit; all bits if there is none.
        self.high & self.stop.wrapping_sub(1) & !self.stop
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_the_first_byte_that_ends_plain_text(mut block: [u8; WIDTH], plain in 0..=WIDTH) {
            for byte in block.iter_mut().take(plain) {
                *byte = 0x30 | (*byte & 0x8f);
            }
            let stops = |b: &u8| *b < 0x20 || *b == b'"' || *b == b'\\';
            let expected = block.iter().position(stops).unwrap_or(WIDTH);
            let found = marks(block);
            prop_assert_eq!(found.plain(), expected);
            prop_assert_eq!(found.is_quote(), block.get(expected) == Some(&b'"'));
            let (before, _) = block.split_at(expected);
            prop_assert_eq!(found.high_before_stop() != 0, !before.is_ascii());
        }
    }
}
