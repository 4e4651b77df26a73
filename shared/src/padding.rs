//! Size classes for results whose length would tell something.
//!
//! Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with
//! PURBs", 2019, §4): a length is rounded up so that only as many of its leading bits remain as its
//! magnitude has. Of a length up to L, an observer learns O(log log L) bits. The paper's bound of 12 %
//! is for short lengths; from the smallest class here on, at most 6.25 % are added.

/// The smallest class, in bytes: short results are all alike.
pub const MIN_PADDED_BYTES: u64 = 4096;

/// The class of a length, in bytes; never less than the length.
pub fn padded_length(length: u64) -> u64 {
    let Some(exponent) = length.checked_ilog2().filter(|exponent| *exponent > 0) else {
        return MIN_PADDED_BYTES;
    };
    let kept = exponent.ilog2().saturating_add(1);
    let mask = 1_u64.checked_shl(exponent.saturating_sub(kept)).unwrap_or(0).saturating_sub(1);
    let rounded = length.checked_add(mask).map_or(u64::MAX, |sum| sum & !mask);
    rounded.max(MIN_PADDED_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_paper() {
        for (length, padded) in [
            (0, 4096),
            (1, 4096),
            (2, 4096),
            (4096, 4096),
            (4097, 4352),
            (4352, 4352),
            (4353, 4608),
            (1_000_000, 1_015_808),
            (u64::MAX, u64::MAX),
        ] {
            assert_eq!(padded_length(length), padded, "{length}");
        }
    }

    //
    #[test]
    fn a_class_is_never_too_short_and_costs_at_most_a_sixteenth() {
        let mut length = MIN_PADDED_BYTES;
        while length < 1 << 40 {
            for near in [length - 1, length, length + 1] {
                let padded = padded_length(near);
                assert!(padded >= near && padded_length(padded) == padded, "{near}");
                assert!(near < MIN_PADDED_BYTES || (padded - near) * 16 <= near, "{near}: {padded}");
            }
            length = length * 9 / 8 + 7;
        }
    }
}
