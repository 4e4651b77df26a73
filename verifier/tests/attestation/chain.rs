//! The chain from the pinned root to the leaf (V-3).

use adyton_verifier::attestation::{
    AttestationError, CertificatePlace, Expectations, TrustAnchor, UnixMillis, verify,
};
use rcgen::{
    BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
};
use time::Duration;

use crate::common::NOW;
use crate::common::chain::{Chain, INSTANCE, LEAF, Link, Plan, REGIONAL, ROOT, ZONAL, now};
use crate::common::document::Draft;

/// The refusal of a document under this chain, trusted as far as its own root goes.
fn judge(chain: &Chain) -> Result<(), AttestationError> {
    judge_bundle(chain, chain.bundle())
}

/// The same, with another bundle in the document.
fn judge_bundle(chain: &Chain, bundle: &[Vec<u8>]) -> Result<(), AttestationError> {
    let document = Draft::good(chain).with_bundle(bundle).sign(chain);
    verify(&document, &chain.anchor(), NOW, &Expectations::any_image()).map(drop)
}

fn place(index: usize) -> CertificatePlace {
    match index {
        ROOT => CertificatePlace::Root,
        LEAF => CertificatePlace::Leaf,
        other => CertificatePlace::Bundle(other),
    }
}

fn order(chain: &Chain, indices: &[usize]) -> Vec<Vec<u8>> {
    indices.iter().map(|index| chain.certificates[*index].clone()).collect()
}

#[test]
fn accepts_a_chain_in_the_shape_of_aws() {
    assert_eq!(judge(&Chain::nitro()), Ok(()));
}

#[test]
fn accepts_a_leaf_issued_by_the_root_itself() {
    let mut plan = Plan::nitro();
    plan.0.drain(REGIONAL..LEAF);
    assert_eq!(judge(&plan.issue()), Ok(()));
}

// V-3
#[test]
fn refuses_a_self_made_chain() {
    let chain = Chain::nitro();
    let document = Draft::good(&chain).sign(&chain);
    let at_aws = verify(&document, &TrustAnchor::aws().unwrap(), NOW, &Expectations::any_image());
    assert_eq!(at_aws, Err(AttestationError::WrongRoot { found: chain.anchor().sha256() }));
}

// V-3: the same name, other key: a name is no identity.
#[test]
fn refuses_a_root_of_the_same_name() {
    let (chain, twin) = (Chain::nitro(), Chain::nitro());
    let document = Draft::good(&twin).sign(&twin);
    let refused = verify(&document, &chain.anchor(), NOW, &Expectations::any_image());
    assert_eq!(refused, Err(AttestationError::WrongRoot { found: twin.anchor().sha256() }));
    // And with the pinned root in front of certificates that it did not issue.
    let mut bundle = twin.bundle().to_vec();
    bundle[ROOT] = chain.bundle()[ROOT].clone();
    let document = Draft::good(&twin).with_bundle(&bundle).sign(&twin);
    let refused = verify(&document, &chain.anchor(), NOW, &Expectations::any_image());
    assert_eq!(refused, Err(AttestationError::ChainSignature));
}

// V-3
#[test]
fn refuses_a_reversed_or_shuffled_bundle() {
    let chain = Chain::nitro();
    let instance = order(&chain, &[INSTANCE, ZONAL, REGIONAL, ROOT]);
    assert_eq!(judge_bundle(&chain, &instance).unwrap_err().code(), "wrong_root");
    for shuffled in [[0, 3, 2, 1], [0, 1, 3, 2], [0, 2, 1, 3], [0, 2, 3, 1], [0, 3, 1, 2]] {
        let refused = judge_bundle(&chain, &order(&chain, &shuffled));
        assert_eq!(refused, Err(AttestationError::BrokenChain), "{shuffled:?}");
    }
}

// V-3
#[test]
fn refuses_a_bundle_with_a_certificate_missing() {
    let chain = Chain::nitro();
    for missing in [[0, 2, 3], [0, 1, 3], [0, 1, 2]] {
        let refused = judge_bundle(&chain, &order(&chain, &missing));
        assert_eq!(refused, Err(AttestationError::BrokenChain), "{missing:?}");
    }
    assert_eq!(judge_bundle(&chain, &order(&chain, &[0])), Err(AttestationError::BrokenChain));
    assert_eq!(judge_bundle(&chain, &order(&chain, &[1, 2, 3])).unwrap_err().code(), "wrong_root");
}

// V-3
#[test]
fn refuses_certificates_that_are_not_of_the_path() {
    let (chain, other) = (Chain::nitro(), Chain::nitro());
    let with = |extra: &[u8], at: usize| {
        let mut bundle = chain.bundle().to_vec();
        bundle.insert(at, extra.to_vec());
        judge_bundle(&chain, &bundle)
    };
    for at in 1..=LEAF {
        assert_eq!(
            with(&chain.certificates[ZONAL], at),
            Err(AttestationError::BrokenChain),
            "a copy at {at}"
        );
        assert_eq!(
            with(&chain.certificates[ROOT], at),
            Err(AttestationError::BrokenChain),
            "the root at {at}"
        );
        let stranger = with(&other.certificates[REGIONAL], at);
        assert_eq!(stranger, Err(AttestationError::BrokenChain), "a stranger at {at}");
    }
    let leaf = with(&chain.certificates[LEAF], LEAF);
    assert_eq!(leaf, Err(AttestationError::NotACa { place: CertificatePlace::Bundle(4) }));
}

// V-3
#[test]
fn refuses_a_ca_as_leaf() {
    for constraints in [BasicConstraints::Unconstrained, BasicConstraints::Constrained(0)] {
        let usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
        let plan = Plan::nitro().with(LEAF, |params| {
            params.is_ca = IsCa::Ca(constraints);
            params.key_usages = usages;
        });
        assert_eq!(judge(&plan.issue()), Err(AttestationError::CaLeaf));
    }
}

// V-3: any certificate's own key can sign; the instance's must not sign documents.
#[test]
fn refuses_a_document_signed_by_an_intermediate() {
    let mut plan = Plan::nitro();
    plan.0.pop();
    assert_eq!(judge(&plan.issue()), Err(AttestationError::CaLeaf));
}

// V-3
#[test]
fn refuses_an_issuer_that_is_no_ca() {
    for index in [REGIONAL, ZONAL, INSTANCE] {
        for is_ca in [IsCa::ExplicitNoCa, IsCa::NoCa] {
            let plan = Plan::nitro().with(index, |params| params.is_ca = is_ca);
            assert_eq!(judge(&plan.issue()), Err(AttestationError::NotACa { place: place(index) }));
        }
    }
}

// V-3
#[test]
fn refuses_a_path_that_is_longer_than_its_certificates_allow() {
    let long = |at: usize| {
        let mut plan = Plan::nitro();
        plan.0.insert(at, Link::authority("one more", BasicConstraints::Unconstrained));
        judge(&plan.issue())
    };
    for at in [ZONAL, INSTANCE, LEAF] {
        assert_eq!(long(at), Err(AttestationError::PathTooLong), "one more at {at}");
    }
    // Above the first constrained certificate it is allowed.
    assert_eq!(long(REGIONAL), Ok(()));
}

// V-3: without any constraint the number of certificates ends the path.
#[test]
fn refuses_more_certificates_than_a_path_has() {
    let of = |intermediates: usize| {
        let mut plan = Plan(vec![Link::authority("root", BasicConstraints::Unconstrained)]);
        plan.0
            .extend((0..intermediates).map(|index| {
                Link::authority(&format!("authority {index}"), BasicConstraints::Unconstrained)
            }));
        plan.0.push(Link::leaf("leaf"));
        judge(&plan.issue())
    };
    assert_eq!(of(6), Ok(()));
    assert_eq!(of(7), Err(AttestationError::PathTooLong));
    assert_eq!(of(12), Err(AttestationError::PathTooLong));
}

// V-3
#[test]
fn refuses_an_expired_or_future_certificate_anywhere() {
    for index in [ROOT, REGIONAL, ZONAL, INSTANCE, LEAF] {
        let expired = Plan::nitro().with(index, |params| params.not_after = now() - Duration::seconds(1));
        let not_after = UnixMillis(NOW.0 / 1000 * 1000 - 1000);
        let refused = AttestationError::Expired { place: place(index), not_after, at: NOW };
        assert_eq!(judge(&expired.issue()), Err(refused));

        let future = Plan::nitro().with(index, |params| params.not_before = now() + Duration::seconds(1));
        let not_before = UnixMillis(NOW.0 / 1000 * 1000 + 1000);
        let refused = AttestationError::NotYetValid { place: place(index), not_before, at: NOW };
        assert_eq!(judge(&future.issue()), Err(refused));

        let edges = Plan::nitro().with(index, |params| {
            params.not_before = now();
            params.not_after = now();
        });
        assert_eq!(judge(&edges.issue()), Ok(()));
    }
}

// V-3
#[test]
fn refuses_key_usages_that_do_not_fit() {
    for index in [REGIONAL, ZONAL, INSTANCE] {
        for usages in [vec![], vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign]] {
            let plan = Plan::nitro().with(index, |params| params.key_usages = usages);
            let refused = AttestationError::KeyUsage { place: place(index), needed: "keyCertSign" };
            assert_eq!(judge(&plan.issue()), Err(refused));
        }
    }
    for usages in [vec![], vec![KeyUsagePurpose::KeyCertSign], vec![KeyUsagePurpose::ContentCommitment]] {
        let plan = Plan::nitro().with(LEAF, |params| params.key_usages = usages);
        let refused = AttestationError::KeyUsage { place: place(LEAF), needed: "digitalSignature" };
        assert_eq!(judge(&plan.issue()), Err(refused));
    }
}

// V-3: AWS has no extended key usage, and another maker's does not say anything about documents.
#[test]
fn extended_key_usages_do_not_matter() {
    let plan = Plan::nitro().with(LEAF, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert_eq!(judge(&plan.issue()), Ok(()));
}

// V-3
#[test]
fn refuses_keys_and_signatures_that_are_not_p384() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P521_SHA512, &PKCS_ED25519] {
        for index in [REGIONAL, ZONAL, INSTANCE, LEAF] {
            let refused = judge(&Plan::nitro().with_key(index, algorithm).issue()).unwrap_err();
            // The leaf is looked at first; a key of another kind also signs the certificate below it.
            let AttestationError::Algorithm { place: found } = refused else { panic!("{refused:?}") };
            assert!(found == place(index) || found == place(index + 1), "{found:?} for {index}");
        }
    }
}

// V-3
#[test]
fn refuses_an_unknown_critical_extension_anywhere() {
    for index in [REGIONAL, ZONAL, INSTANCE, LEAF] {
        let plan = |critical: bool| {
            let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
            extension.set_criticality(critical);
            Plan::nitro().with(index, |params| params.custom_extensions = vec![extension])
        };
        assert_eq!(judge(&plan(true).issue()).unwrap_err().code(), "path");
        assert_eq!(judge(&plan(false).issue()), Ok(()));
    }
}

// V-3
#[test]
fn refuses_a_certificate_whose_signature_does_not_verify() {
    for index in [REGIONAL, ZONAL, INSTANCE, LEAF] {
        let mut chain = Chain::nitro();
        // The same names with other keys below, so that only the signature of `index` is wrong.
        let forged = Plan::nitro().issue();
        let mut certificates = forged.certificates;
        certificates[..index].clone_from_slice(&chain.certificates[..index]);
        chain = Chain { certificates, key: forged.key };
        assert_eq!(judge(&chain), Err(AttestationError::ChainSignature), "{index}");
    }
}

// V-3: every byte of every certificate is covered, by a signature above it or by the pin.
#[test]
fn refuses_certificates_with_one_byte_changed() {
    let chain = Chain::nitro();
    for index in [ROOT, REGIONAL, INSTANCE, LEAF] {
        for position in (0..chain.certificates[index].len()).step_by(7) {
            let mut certificates = chain.certificates.clone();
            certificates[index][position] ^= 0x20;
            let leaf = certificates.pop().unwrap();
            let document = Draft::good(&chain).with_bundle(&certificates);
            let document = document.set("certificate", crate::common::cbor::bytes(&leaf)).sign(&chain);
            let refused = verify(&document, &chain.anchor(), NOW, &Expectations::any_image());
            assert!(refused.is_err(), "certificate {index}, byte {position}");
        }
    }
}

// V-3
#[test]
fn refuses_bytes_after_a_certificate() {
    let chain = Chain::nitro();
    for index in [REGIONAL, LEAF] {
        let mut certificates = chain.certificates.clone();
        certificates[index].push(0);
        let leaf = certificates.pop().unwrap();
        let document = Draft::good(&chain).with_bundle(&certificates);
        let document = document.set("certificate", crate::common::cbor::bytes(&leaf)).sign(&chain);
        let refused = verify(&document, &chain.anchor(), NOW, &Expectations::any_image()).unwrap_err();
        let AttestationError::Certificate { place: found, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(found, place(index));
    }
}

// V-3: the pin is that of the certificate, not of the zip file it is published in.
#[test]
fn the_root_of_aws_is_the_pinned_one() {
    let pin = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b";
    assert_eq!(TrustAnchor::aws().unwrap().sha256(), pin);
    let pem = include_str!("../../../tests/vectors/attestation/root.pem");
    assert_eq!(TrustAnchor::from_pem(pem).unwrap().sha256(), pin);
}

// V-3
#[test]
fn refuses_anchors_that_cannot_be_one() {
    let pem = include_str!("../../../tests/vectors/attestation/root.pem");
    let leaf_der = Chain::nitro().certificates.pop().unwrap();
    let p256 = Plan::nitro().with_key(ROOT, &PKCS_ECDSA_P256_SHA256).issue();
    let anchors = [
        TrustAnchor::from_pem(""),
        TrustAnchor::from_pem("hello"),
        TrustAnchor::from_pem(&pem[..400]),
        TrustAnchor::from_pem(&format!("{pem}\n{pem}")),
        TrustAnchor::from_pem(&pem.replace("CERTIFICATE", "PUBLIC KEY")),
        TrustAnchor::from_pem(&pem.replacen("MII", "AII", 1)),
        TrustAnchor::from_der(&[]),
        TrustAnchor::from_der(&leaf_der),
        TrustAnchor::from_der(&p256.certificates[ROOT]),
    ];
    for (case, anchor) in anchors.into_iter().enumerate() {
        assert_eq!(anchor.unwrap_err().code(), "anchor", "case {case}");
    }
}
