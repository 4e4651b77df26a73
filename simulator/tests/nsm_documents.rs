//! Documents of the simulated NSM against real ones and against a verifier written elsewhere.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adyton_simulator::nsm::{
    MapForm, NsmConfig, NsmError, SIMULATOR_MARK, SimulatedNsm, SimulatedRoot, encode_payload,
};
use aws_nitro_enclaves_nsm_api::api::{AttestationDoc, Request, Response};
use coset::{CborSerializable, CoseSign1};
use nsm_nitro_enclave_utils::api::nsm::AttestationDoc as IndependentDoc;
use nsm_nitro_enclave_utils::time::Time;
use nsm_nitro_enclave_utils::verify::{AttestationDocVerifierExt, ErrorKind};
use serde_bytes::ByteBuf;
use x509_cert::Certificate;
use x509_cert::der::{Decode, DecodePem, Encode};

const DEFINITE: &[u8] = include_bytes!("vectors/attestation/2022-11-09-eu-west-1-veracruz.cbor");
const INDEFINITE: &[u8] = include_bytes!("vectors/attestation/2026-01-03-us-east-1-base.cbor");
const HOUR: Duration = Duration::from_hours(1);
/// 2026-03-01T12:00:00Z.
const NOON: Duration = Duration::from_hours(492_324);

/// A clock that moves only when told.
#[derive(Clone)]
struct FakeClock(Arc<Mutex<SystemTime>>);

impl FakeClock {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(UNIX_EPOCH + NOON)))
    }

    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }

    fn advance(&self, span: Duration) {
        *self.0.lock().unwrap() += span;
    }

    fn go_back(&self, span: Duration) {
        *self.0.lock().unwrap() -= span;
    }
}

fn config(folder: &Path, clock: &FakeClock) -> NsmConfig {
    let measured = BTreeMap::from([(0, [1; 48]), (1, [2; 48]), (2, [3; 48]), (3, [4; 48])]);
    let clock = clock.clone();
    NsmConfig { clock: Arc::new(move || clock.now()), ..NsmConfig::new(folder, measured) }
}

fn attest(nsm: &SimulatedNsm) -> Vec<u8> {
    match nsm.process(Request::Attestation {
        user_data: None,
        nonce: Some(ByteBuf::from(b"sixteen bytes 16".to_vec())),
        public_key: None,
    }) {
        Response::Attestation { document } => document,
        other => panic!("{other:?}"),
    }
}

fn payload(document: &[u8]) -> Vec<u8> {
    CoseSign1::from_slice(document).unwrap().payload.unwrap()
}

fn content(document: &[u8]) -> AttestationDoc {
    AttestationDoc::from_binary(&payload(document)).unwrap()
}

fn certificate(der: &[u8]) -> Certificate {
    Certificate::from_der(der).unwrap()
}

fn not_after(der: &[u8]) -> SystemTime {
    let validity = *certificate(der).tbs_certificate().validity();
    UNIX_EPOCH + validity.not_after.to_unix_duration()
}

fn verify(document: &[u8], root_pem: &str, at: SystemTime) -> Result<IndependentDoc, ErrorKind> {
    let root = Certificate::from_pem(root_pem).unwrap().to_der().unwrap();
    let millis = u64::try_from(at.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    IndependentDoc::from_cose(document, &root, Time::new(Box::new(move || millis)))
        .map_err(|error| *error.kind())
}

#[test]
fn encodes_the_content_of_real_documents_to_their_very_bytes() {
    for (real, form) in [(DEFINITE, MapForm::Definite), (INDEFINITE, MapForm::Indefinite)] {
        let original = payload(real);
        let document = AttestationDoc::from_binary(&original).unwrap();
        assert_eq!(encode_payload(&document, form).unwrap(), original);
    }
}

#[test]
fn wraps_the_payload_as_real_documents_do() {
    let folder = tempfile::tempdir().unwrap();
    let nsm = SimulatedNsm::open(config(folder.path(), &FakeClock::new())).unwrap();
    let document = attest(&nsm);
    // Array of four, protected header, unprotected header, long byte string.
    assert_eq!(document[..8], INDEFINITE[..8]);
    let length = usize::from(u16::from_be_bytes([document[8], document[9]]));
    assert_eq!(document[10], 0xbf);
    assert_eq!(document[10 + length - 1], 0xff);
    // The signature: 96 bytes, then the end.
    assert_eq!(document[10 + length..][..2], [0x58, 0x60]);
    assert_eq!(document.len(), 10 + length + 2 + 96);

    let definite = SimulatedNsm::open(NsmConfig {
        map_form: MapForm::Definite,
        ..config(folder.path(), &FakeClock::new())
    })
    .unwrap();
    assert_eq!(payload(&attest(&definite))[0], 0xa9);
}

#[test]
fn states_its_time_in_milliseconds_and_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    clock.advance(Duration::from_millis(123));
    let nsm = SimulatedNsm::open(config(folder.path(), &clock)).unwrap();
    let document = content(&attest(&nsm));
    assert_eq!(document.timestamp, 1_772_366_400_123);
    assert_eq!(document.module_id, nsm.module_id());
    assert_eq!(document.pcrs.len(), 16);
    assert_eq!(document.nonce.unwrap().as_slice(), b"sixteen bytes 16");
    assert!(document.user_data.is_none() && document.public_key.is_none());
}

#[test]
fn has_a_chain_of_the_real_shape() {
    let folder = tempfile::tempdir().unwrap();
    let nsm = SimulatedNsm::open(config(folder.path(), &FakeClock::new())).unwrap();
    let document = content(&attest(&nsm));
    let real = content(INDEFINITE);

    // Root first; each certificate names the one before it as its issuer.
    assert_eq!(document.cabundle.len(), real.cabundle.len());
    let root = Certificate::from_pem(nsm.root_pem()).unwrap();
    assert_eq!(document.cabundle[0].as_slice(), root.to_der().unwrap());
    let chain = |document: &AttestationDoc| -> Vec<Certificate> {
        let ders = document.cabundle.iter().chain([&document.certificate]);
        ders.map(|der| certificate(der)).collect()
    };
    let (simulated, real) = (chain(&document), chain(&real));
    for pair in simulated.windows(2) {
        assert_eq!(pair[1].tbs_certificate().issuer(), pair[0].tbs_certificate().subject());
    }

    for (ours, theirs) in simulated.iter().zip(&real) {
        let (ours, theirs) = (ours.tbs_certificate(), theirs.tbs_certificate());
        let attributes = |certificate: &x509_cert::TbsCertificate| -> Vec<_> {
            let name = certificate.subject().clone();
            name.iter().map(|attribute| attribute.oid).collect()
        };
        assert_eq!(attributes(ours), attributes(theirs));
        assert!(ours.subject().to_string().contains(SIMULATOR_MARK));
        // basicConstraints and keyUsage: same value, same criticality.
        for oid in ["2.5.29.19", "2.5.29.15"] {
            let extension = |certificate: &x509_cert::TbsCertificate| {
                let all = certificate.extensions().unwrap().iter();
                all.filter(|extension| extension.extn_id.to_string() == oid)
                    .map(|extension| (extension.critical, extension.extn_value.clone()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(extension(ours), extension(theirs), "{oid}");
        }
    }
    let leaf = |chain: &[Certificate]| {
        let leaf = chain.last().unwrap().tbs_certificate().clone();
        leaf.extensions().cloned()
    };
    assert_eq!(leaf(&simulated), leaf(&real), "no further extension in the leaf");
}

#[test]
fn makes_certificates_that_fit_into_a_document() {
    let folder = tempfile::tempdir().unwrap();
    let nsm = SimulatedNsm::open(config(folder.path(), &FakeClock::new())).unwrap();
    let document = content(&attest(&nsm));
    for der in document.cabundle.iter().chain([&document.certificate]) {
        assert!((1..=1024).contains(&der.len()));
    }
}

#[test]
fn satisfies_an_independent_verifier_in_both_map_forms() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    for map_form in [MapForm::Definite, MapForm::Indefinite] {
        let nsm = SimulatedNsm::open(NsmConfig { map_form, ..config(folder.path(), &clock) }).unwrap();
        let verified = verify(&attest(&nsm), nsm.root_pem(), clock.now()).unwrap();
        assert_eq!(verified.module_id, nsm.module_id());
        assert_eq!(verified.pcrs[&0].as_slice(), [1; 48]);
    }
}

#[test]
fn is_refused_by_an_independent_verifier_when_altered_or_under_another_root() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let nsm = SimulatedNsm::open(config(folder.path(), &clock)).unwrap();
    let document = attest(&nsm);

    let mut altered = document.clone();
    // The first byte of PCR0's value.
    let position = altered.windows(48).position(|bytes| bytes == [1; 48]).unwrap();
    altered[position] ^= 1;
    let refused = verify(&altered, nsm.root_pem(), clock.now());
    assert_eq!(refused.unwrap_err(), ErrorKind::Verification);

    let stranger = tempfile::tempdir().unwrap();
    let other = SimulatedRoot::open(stranger.path(), clock.now()).unwrap();
    let refused = verify(&document, other.pem(), clock.now());
    assert_eq!(refused.unwrap_err(), ErrorKind::Verification);
}

// T-7
#[test]
fn signs_with_a_new_leaf_once_the_old_one_nears_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let nsm = SimulatedNsm::open(config(folder.path(), &clock)).unwrap();
    let first = attest(&nsm);
    let first_leaf = content(&first).certificate;
    assert_eq!(not_after(&first_leaf), clock.now() + 3 * HOUR);

    clock.advance(2 * HOUR);
    assert_eq!(content(&attest(&nsm)).certificate, first_leaf, "kept while it lasts");

    // Fifteen minutes before its end at the latest it is replaced.
    clock.advance(Duration::from_secs(45 * 60 + 1));
    let renewed = attest(&nsm);
    let renewed_leaf = content(&renewed).certificate;
    assert_ne!(renewed_leaf, first_leaf);
    assert_eq!(not_after(&renewed_leaf), clock.now() + 3 * HOUR);

    // Past the first leaf's end only the new document holds.
    clock.advance(HOUR);
    assert!(clock.now() > not_after(&first_leaf));
    let refused = verify(&first, nsm.root_pem(), clock.now());
    assert_eq!(refused.unwrap_err(), ErrorKind::Verification);
    assert!(verify(&renewed, nsm.root_pem(), clock.now()).is_ok());
}

// T-7
#[test]
fn stays_verifiable_for_weeks_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let nsm = SimulatedNsm::open(config(folder.path(), &clock)).unwrap();
    let first = content(&attest(&nsm));
    for _ in 0..(30 * 24 / 7) {
        clock.advance(7 * HOUR);
        let document = attest(&nsm);
        assert!(verify(&document, nsm.root_pem(), clock.now()).is_ok());
        let authorities = content(&document).cabundle;
        assert_eq!(authorities[0], first.cabundle[0]);
        // No authority ends before the leaf below it.
        let leaf_end = not_after(&content(&document).certificate);
        assert!(authorities.iter().all(|der| not_after(der) >= leaf_end));
    }
}

// C-3
#[test]
fn makes_a_valid_document_after_the_clock_went_back() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let nsm = SimulatedNsm::open(config(folder.path(), &clock)).unwrap();
    attest(&nsm);
    clock.go_back(12 * HOUR);
    assert!(verify(&attest(&nsm), nsm.root_pem(), clock.now()).is_ok());
}

// V-6
#[test]
fn zeroes_the_image_measurements_in_debug_mode() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let mut config = config(folder.path(), &clock);
    config.debug = true;
    config.pcrs.insert(8, [9; 48]);
    let nsm = SimulatedNsm::open(config).unwrap();
    let document = attest(&nsm);
    let pcrs = content(&document).pcrs;
    for index in [0, 1, 2, 8] {
        assert_eq!(pcrs[&index].as_slice(), [0; 48], "PCR{index}");
    }
    // As in real debug documents, what describes the parent stays.
    assert_eq!(pcrs[&3].as_slice(), [4; 48]);
    assert_ne!(pcrs[&4].as_slice(), [0; 48]);
    // The signature is genuine all the same: only an explicit check can refuse it.
    assert!(verify(&document, nsm.root_pem(), clock.now()).is_ok());
}

#[test]
fn keeps_root_and_instance_over_restarts_and_names_each_enclave_anew() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let first = SimulatedNsm::open(config(folder.path(), &clock)).unwrap();
    let second = SimulatedNsm::open(config(folder.path(), &clock)).unwrap();
    assert_eq!(first.root_pem(), second.root_pem());
    assert_ne!(first.module_id(), second.module_id());
    let instance = |nsm: &SimulatedNsm| nsm.module_id().split_once("-enc").unwrap().0.to_owned();
    assert_eq!(instance(&first), instance(&second));

    let stored = std::fs::read_to_string(folder.path().join("nsm/root.pem")).unwrap();
    assert_eq!(stored, first.root_pem());
    let key = std::fs::metadata(folder.path().join("nsm/root.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[test]
fn makes_one_root_when_many_start_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let path = folder.path().to_owned();
            std::thread::spawn(move || {
                let root = SimulatedRoot::open(&path, SystemTime::now()).unwrap();
                root.pem().to_owned()
            })
        })
        .collect();
    let mut roots: Vec<String> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    roots.dedup();
    assert_eq!(roots.len(), 1);
}

#[test]
fn refuses_a_root_without_its_key_rather_than_making_another() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    let before = SimulatedRoot::open(folder.path(), clock.now()).unwrap();
    let key = folder.path().join("nsm/root.key");
    let kept = std::fs::read(&key).unwrap();

    std::fs::remove_file(&key).unwrap();
    let refused = SimulatedRoot::open(folder.path(), clock.now()).unwrap_err();
    assert!(matches!(refused, NsmError::RootKeyMissing { path } if path == key));

    let stranger = tempfile::tempdir().unwrap();
    SimulatedRoot::open(stranger.path(), clock.now()).unwrap();
    std::fs::copy(stranger.path().join("nsm/root.key"), &key).unwrap();
    let refused = SimulatedRoot::open(folder.path(), clock.now()).unwrap_err();
    assert!(matches!(refused, NsmError::RootDamaged { path } if path == key));

    std::fs::write(&key, kept).unwrap();
    let again = SimulatedRoot::open(folder.path(), clock.now()).unwrap();
    assert_eq!(again.pem(), before.pem());
}

#[test]
fn finishes_a_first_start_that_was_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let clock = FakeClock::new();
    SimulatedRoot::open(folder.path(), clock.now()).unwrap();
    // Key written, certificate not yet.
    std::fs::remove_file(folder.path().join("nsm/root.pem")).unwrap();
    let nsm = SimulatedNsm::open(config(folder.path(), &clock)).unwrap();
    assert!(verify(&attest(&nsm), nsm.root_pem(), clock.now()).is_ok());
}
