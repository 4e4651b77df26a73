//! Attestation documents: only what the NSM made verifies, and it repeats what it was read as.
#![no_main]

use adyton_verifier::attestation::{Expectations, TrustAnchor, parse_unverified, verify_archived};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let parsed = parse_unverified(data);
    let anchor = TrustAnchor::aws().unwrap();
    if let Ok(verified) = verify_archived(data, &anchor, &Expectations::any_image()) {
        assert_eq!(parsed.as_ref().ok(), Some(&*verified));
        assert_eq!(verified.debug_pcr(), None);
    }
});
