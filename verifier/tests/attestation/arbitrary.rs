//! Bytes of any kind: a refusal or, for unchanged documents, the same verdict; never a panic.

use std::sync::LazyLock;

use adyton_verifier::attestation::{Expectations, TrustAnchor, parse_unverified, verify, verify_archived};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::chain::Chain;
use crate::common::document::Draft;
use crate::common::{GENUINE, NOW, vector};

static CHAIN: LazyLock<Chain> = LazyLock::new(Chain::nitro);

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    // V-2
    #[test]
    fn any_bytes_are_refused(bytes in vec(any::<u8>(), 0..600)) {
        let judged = verify(&bytes, &CHAIN.anchor(), NOW, &Expectations::any_image());
        prop_assert!(judged.is_err());
        prop_assert!(parse_unverified(&bytes).is_err());
    }

    // V-2: a signed payload of any bytes, so that nothing but the parser stands in the way.
    #[test]
    fn any_signed_payload_is_refused(payload in vec(any::<u8>(), 0..600)) {
        let document = Draft::good(&CHAIN).sign_payload(&CHAIN, &payload);
        let judged = verify(&document, &CHAIN.anchor(), NOW, &Expectations::any_image());
        prop_assert!(judged.is_err());
    }

    // V-2: changes of a genuine document, several bytes at once.
    #[test]
    fn a_changed_genuine_document_is_refused(
        which in 0..GENUINE.len(),
        changes in vec((any::<prop::sample::Index>(), 1..=255u8), 1..6),
    ) {
        let good = vector(GENUINE[which]);
        let mut bytes = good.clone();
        for (position, change) in changes {
            let position = position.index(bytes.len());
            bytes[position] ^= change;
        }
        prop_assume!(bytes != good);
        let anchor = TrustAnchor::aws().unwrap();
        prop_assert!(verify_archived(&bytes, &anchor, &Expectations::any_image()).is_err());
    }

    // V-2: a changed payload that a trusted leaf signs anyway. Whatever is accepted is in its one encoding,
    // and says what a second reading of it says.
    #[test]
    fn a_changed_payload_is_refused_or_read_the_same_way_twice(
        position in any::<prop::sample::Index>(),
        change in 1..=255u8,
        open in any::<bool>(),
    ) {
        let draft = Draft { open, ..Draft::good(&CHAIN) };
        let mut payload = draft.payload();
        let position = position.index(payload.len());
        payload[position] ^= change;
        let document = draft.sign_payload(&CHAIN, &payload);
        if let Ok(accepted) = verify(&document, &CHAIN.anchor(), NOW, &Expectations::any_image()) {
            prop_assert_eq!(&*accepted, &parse_unverified(&document).unwrap());
            let good = parse_unverified(&draft.sign(&CHAIN)).unwrap();
            prop_assert_ne!(&*accepted, &good, "another encoding of the same document");
        }
    }
}
