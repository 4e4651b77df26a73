//! The seven requests of the simulated NSM: registers, locks, limits, error codes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use adyton_simulator::nsm::{Faults, NsmConfig, NsmError, Pcr, SimulatedNsm, measure, parent_pcr};
use aws_lc_rs::digest::{SHA384, digest};
use aws_nitro_enclaves_nsm_api::api::{AttestationDoc, Digest, ErrorCode, Request, Response};
use coset::{CborSerializable, CoseSign1};
use serde_bytes::ByteBuf;
use tempfile::TempDir;

const MEASURED: Pcr = [0x5a; 48];

fn device() -> (TempDir, SimulatedNsm) {
    let folder = tempfile::tempdir().unwrap();
    let config = NsmConfig::new(folder.path(), BTreeMap::from([(0, MEASURED)]));
    let nsm = SimulatedNsm::open(config).unwrap();
    (folder, nsm)
}

fn error(response: &Response) -> &ErrorCode {
    match response {
        Response::Error(code) => code,
        other => panic!("expected an error, got {other:?}"),
    }
}

fn describe(nsm: &SimulatedNsm, index: u16) -> (bool, Vec<u8>) {
    match nsm.process(Request::DescribePCR { index }) {
        Response::DescribePCR { lock, data } => (lock, data),
        other => panic!("{other:?}"),
    }
}

fn extend(nsm: &SimulatedNsm, index: u16, data: &[u8]) -> Response {
    nsm.process(Request::ExtendPCR { index, data: data.to_vec() })
}

fn attest(
    nsm: &SimulatedNsm,
    user_data: Option<usize>,
    nonce: Option<usize>,
    public_key: Option<usize>,
) -> Response {
    let bytes = |length: Option<usize>| length.map(|length| ByteBuf::from(vec![7; length]));
    nsm.process(Request::Attestation {
        user_data: bytes(user_data),
        nonce: bytes(nonce),
        public_key: bytes(public_key),
    })
}

fn content(response: &Response) -> AttestationDoc {
    let Response::Attestation { document } = response else {
        panic!("expected a document, got {response:?}");
    };
    let payload = CoseSign1::from_slice(document).unwrap().payload.unwrap();
    AttestationDoc::from_binary(&payload).unwrap()
}

#[test]
fn describes_itself_as_a_device_does() {
    let (_folder, nsm) = device();
    let Response::DescribeNSM {
        version_major,
        version_minor,
        version_patch,
        module_id,
        max_pcrs,
        locked_pcrs,
        digest,
    } = nsm.process(Request::DescribeNSM)
    else {
        panic!("no description");
    };
    assert_eq!((version_major, version_minor, version_patch), (1, 0, 0));
    assert_eq!(max_pcrs, 32);
    assert_eq!(digest, Digest::SHA384);
    assert_eq!(locked_pcrs, (0..16).collect::<BTreeSet<_>>());
    assert_eq!(module_id, nsm.module_id());
    let (instance, enclave) = module_id.strip_prefix("i-").and_then(|rest| rest.split_once("-enc")).unwrap();
    assert_eq!((instance.len(), enclave.len()), (17, 16));
    assert!(instance.chars().chain(enclave.chars()).all(|c| c.is_ascii_hexdigit()));
}

#[test]
fn starts_with_the_lower_half_locked_and_the_upper_half_zero_and_open() {
    let (_folder, nsm) = device();
    assert_eq!(describe(&nsm, 0), (true, MEASURED.to_vec()));
    for index in 0..16 {
        assert!(describe(&nsm, index).0, "PCR{index}");
    }
    for index in 16..32 {
        assert_eq!(describe(&nsm, index), (false, vec![0; 48]), "PCR{index}");
    }
}

#[test]
fn names_the_parent_instance_in_pcr_4() {
    let (_folder, nsm) = device();
    let (instance, _) = nsm.module_id().split_once("-enc").unwrap();
    assert_eq!(describe(&nsm, 4).1, parent_pcr(instance));
}

#[test]
fn extends_by_hashing_old_value_and_data() {
    let (_folder, nsm) = device();
    let first = digest(&SHA384, &[&[0; 48][..], b"one"].concat());
    let second = digest(&SHA384, &[first.as_ref(), b"two"].concat());
    assert!(matches!(extend(&nsm, 16, b"one"), Response::ExtendPCR { data } if data == first.as_ref()));
    assert!(matches!(extend(&nsm, 16, b"two"), Response::ExtendPCR { data } if data == second.as_ref()));
    assert_eq!(describe(&nsm, 16), (false, second.as_ref().to_vec()));
}

// T-5
#[test]
fn refuses_to_extend_a_locked_register() {
    let (_folder, nsm) = device();
    assert!(matches!(extend(&nsm, 16, b"policy"), Response::ExtendPCR { .. }));
    let locked = describe(&nsm, 16).1;
    assert!(matches!(nsm.process(Request::LockPCR { index: 16 }), Response::LockPCR));
    let refused = extend(&nsm, 16, b"another policy");
    assert!(matches!(error(&refused), ErrorCode::ReadOnlyIndex));
    assert_eq!(describe(&nsm, 16), (true, locked));
}

// T-5
#[test]
fn refuses_to_extend_what_the_hypervisor_measured() {
    let (_folder, nsm) = device();
    for index in 0..16 {
        assert!(matches!(error(&extend(&nsm, index, b"x")), ErrorCode::ReadOnlyIndex));
    }
    assert_eq!(describe(&nsm, 0).1, MEASURED);
}

#[test]
fn refuses_to_lock_a_register_twice() {
    let (_folder, nsm) = device();
    let again = nsm.process(Request::LockPCR { index: 3 });
    assert!(matches!(error(&again), ErrorCode::ReadOnlyIndex));
    assert!(matches!(nsm.process(Request::LockPCR { index: 31 }), Response::LockPCR));
    let again = nsm.process(Request::LockPCR { index: 31 });
    assert!(matches!(error(&again), ErrorCode::ReadOnlyIndex));
}

#[test]
fn locks_a_range_from_zero_whether_locked_before_or_not() {
    let (_folder, nsm) = device();
    for range in [0, 18, 18] {
        assert!(matches!(nsm.process(Request::LockPCRs { range }), Response::LockPCRs));
    }
    assert!(describe(&nsm, 17).0);
    assert!(!describe(&nsm, 18).0);
    assert!(matches!(nsm.process(Request::LockPCRs { range: 32 }), Response::LockPCRs));
    assert!(describe(&nsm, 31).0);
}

#[test]
fn refuses_registers_that_do_not_exist() {
    let (_folder, nsm) = device();
    for index in [32, 256, u16::MAX] {
        for response in [
            nsm.process(Request::DescribePCR { index }),
            extend(&nsm, index, b"x"),
            nsm.process(Request::LockPCR { index }),
        ] {
            assert!(matches!(error(&response), ErrorCode::InvalidIndex), "{index}");
        }
    }
    let range = nsm.process(Request::LockPCRs { range: 33 });
    assert!(matches!(error(&range), ErrorCode::InvalidIndex));
    assert!(!describe(&nsm, 31).0, "a refused range locks nothing");
}

#[test]
fn lists_custom_registers_in_documents_once_they_are_locked() {
    let (_folder, nsm) = device();
    extend(&nsm, 16, b"policy");
    let before = content(&attest(&nsm, None, None, None));
    assert_eq!(before.pcrs.keys().copied().collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());

    nsm.process(Request::LockPCR { index: 16 });
    let after = content(&attest(&nsm, None, None, None));
    assert_eq!(after.pcrs.keys().copied().collect::<Vec<_>>(), (0..=16).collect::<Vec<_>>());
    assert_eq!(after.pcrs[&16].as_slice(), describe(&nsm, 16).1);
}

// T-2
#[test]
fn takes_nonces_up_to_512_bytes_and_no_larger() {
    let (_folder, nsm) = device();
    for length in [0, 15, 16, 512] {
        let document = content(&attest(&nsm, None, Some(length), None));
        assert_eq!(document.nonce.unwrap().len(), length);
    }
    let refused = attest(&nsm, None, Some(513), None);
    assert!(matches!(error(&refused), ErrorCode::InputTooLarge));
}

#[test]
fn limits_user_data_and_public_key() {
    let (_folder, nsm) = device();
    let full = content(&attest(&nsm, Some(512), Some(512), Some(1024)));
    assert_eq!(full.user_data.unwrap().len(), 512);
    assert_eq!(full.public_key.unwrap().len(), 1024);
    for refused in [attest(&nsm, Some(513), None, None), attest(&nsm, None, None, Some(1025))] {
        assert!(matches!(error(&refused), ErrorCode::InputTooLarge));
    }
    let empty_key = attest(&nsm, None, None, Some(0));
    assert!(matches!(error(&empty_key), ErrorCode::InvalidArgument));
}

#[test]
fn refuses_requests_over_the_drivers_size() {
    let (_folder, nsm) = device();
    assert!(matches!(extend(&nsm, 20, &[1; 4000]), Response::ExtendPCR { .. }));
    let before = describe(&nsm, 20);
    let refused = extend(&nsm, 20, &[1; 4096]);
    assert!(matches!(error(&refused), ErrorCode::InputTooLarge));
    assert_eq!(describe(&nsm, 20), before);
}

#[test]
fn yields_256_fresh_random_bytes() {
    let (_folder, nsm) = device();
    let draw = || match nsm.process(Request::GetRandom) {
        Response::GetRandom { random } => random,
        other => panic!("{other:?}"),
    };
    let (first, second) = (draw(), draw());
    assert_eq!((first.len(), second.len()), (256, 256));
    assert_ne!(first, second);
}

#[test]
fn fails_on_demand_and_recovers() {
    let (_folder, nsm) = device();
    nsm.set_faults(Faults { attestation_fails: true, random_fails: true, ..Faults::default() });
    assert!(matches!(error(&attest(&nsm, None, None, None)), ErrorCode::InternalError));
    assert!(matches!(error(&nsm.process(Request::GetRandom)), ErrorCode::InternalError));
    nsm.set_faults(Faults::default());
    assert_eq!(content(&attest(&nsm, None, None, None)).module_id, nsm.module_id());
}

#[test]
fn keeps_every_extension_when_threads_extend_at_once() {
    let (_folder, nsm) = device();
    let nsm = Arc::new(nsm);
    let values: Vec<Vec<u8>> = (0..8)
        .map(|_| {
            let nsm = Arc::clone(&nsm);
            std::thread::spawn(move || {
                (0..50)
                    .map(|_| match extend(&nsm, 17, b"x") {
                        Response::ExtendPCR { data } => data,
                        other => panic!("{other:?}"),
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect::<Vec<_>>()
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    let mut expected = vec![0; 48];
    let mut chain = BTreeSet::new();
    for _ in 0..400 {
        expected = digest(&SHA384, &[&expected[..], b"x"].concat()).as_ref().to_vec();
        chain.insert(expected.clone());
    }
    assert_eq!(values.into_iter().collect::<BTreeSet<_>>(), chain);
    assert_eq!(describe(&nsm, 17).1, expected);
}

#[test]
fn refuses_to_start_with_a_custom_register_set() {
    let folder = tempfile::tempdir().unwrap();
    let config = NsmConfig::new(folder.path(), BTreeMap::from([(16, MEASURED)]));
    let error = SimulatedNsm::open(config).unwrap_err();
    assert!(matches!(error, NsmError::NotMeasuredAtBoot { index: 16 }));
}

// T-4
#[test]
fn measures_every_byte_of_executable_and_policy() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let program = file("program", b"code");
    let policy = file("policy", b"version = 1");
    let base = measure(&program, &policy).unwrap();
    assert_eq!(base.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(base[&2], digest(&SHA384, b"version = 1").as_ref());

    let policy_changed = measure(&program, &file("policy2", b"version = 2")).unwrap();
    assert_ne!(policy_changed[&0], base[&0]);
    assert_eq!(policy_changed[&1], base[&1]);
    assert_ne!(policy_changed[&2], base[&2]);

    let program_changed = measure(&file("program2", b"codf"), &policy).unwrap();
    assert_ne!(program_changed[&0], base[&0]);
    assert_eq!(program_changed[&2], base[&2]);

    // The same bytes, divided elsewhere.
    let moved = measure(&file("program3", b"codeversion"), &file("policy3", b" = 1")).unwrap();
    assert_ne!(moved[&0], base[&0]);
}
