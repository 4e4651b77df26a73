//! Who answers a challenge.

use adyton_parent::client::{ClientError, Conversation, VerifiedEnclave, challenge};
use adyton_shared::ErrorCode;
use adyton_shared::frame::{FrameReader, FrameWriter, Kind};
use adyton_shared::message::{self, FromEnclave, Refusal, ToEnclave};
use adyton_shared::statement::{Purpose, Statement};
use adyton_verifier::attestation::{Expectations, TrustAnchor};
use serde_bytes::ByteBuf;
use tokio::io::duplex;

use crate::forge::{Forge, POLICY, Says, its_image};
use crate::jobs::DEADLINES;

/// Challenges something that answers a nonce with this message.
pub(crate) async fn ask(
    anchor: &TrustAnchor,
    expectations: &Expectations,
    answer: impl FnOnce(Vec<u8>) -> FromEnclave,
) -> Result<VerifiedEnclave, ClientError> {
    let (near, far) = duplex(64 * 1024);
    let (read, write) = tokio::io::split(far);
    let mut conversation = Conversation::new(near);
    let answering = async move {
        let mut question = Vec::new();
        FrameReader::new(read, DEADLINES).next(&mut question).await.unwrap();
        let ToEnclave::Attest { nonce } = message::decode(&question).unwrap() else { panic!("a challenge") };
        let answer = message::encode(&answer(nonce.as_bytes().to_vec())).unwrap();
        FrameWriter::new(write, DEADLINES).send(Kind::Control, &answer).await.unwrap();
    };
    tokio::join!(challenge(&mut conversation, anchor, expectations), answering).0
}

fn document(bytes: Vec<u8>) -> FromEnclave {
    FromEnclave::Document { document: ByteBuf::from(bytes) }
}

#[track_caller]
fn attestation_code(outcome: Result<VerifiedEnclave, ClientError>) -> &'static str {
    match outcome.unwrap_err() {
        ClientError::Attestation(error) => error.code(),
        error => panic!("{error:?}"),
    }
}

// S-12, V-11
#[tokio::test]
async fn an_enclave_that_answers_the_challenge_is_known_by_its_key_and_policy() {
    let forge = Forge::new();
    let enclave = forge.enclave();
    let asked = ask(&forge.anchor(), &its_image(), |nonce| document(enclave.document(Some(nonce)))).await;
    let verified = asked.unwrap();
    assert_eq!((verified.id, verified.policy), (enclave.id(), POLICY));
}

// S-12, T-2, V-11
#[tokio::test]
async fn an_old_answer_another_image_and_another_root_are_refused() {
    let (forge, other) = (Forge::new(), Forge::new());
    let enclave = forge.enclave();
    let anchor = forge.anchor();
    let old = enclave.document(Some(vec![9; 32]));
    assert_eq!(attestation_code(ask(&anchor, &its_image(), |_| document(old)).await), "nonce_mismatch");
    let none = enclave.document(None);
    assert_eq!(attestation_code(ask(&anchor, &its_image(), |_| document(none)).await), "nonce_absent");
    let changed = |nonce| document(forge.document(Says { pcr0: 8, ..enclave.identity(Some(nonce)) }));
    assert_eq!(attestation_code(ask(&anchor, &its_image(), changed).await), "pcr_mismatch");
    let debug = |nonce| document(forge.document(Says { pcr0: 0, ..enclave.identity(Some(nonce)) }));
    assert_eq!(attestation_code(ask(&anchor, &Expectations::any_image(), debug).await), "debug_mode");
    let stranger = |nonce| document(other.enclave().document(Some(nonce)));
    assert_eq!(attestation_code(ask(&anchor, &its_image(), stranger).await), "wrong_root");
}

// T-3
#[tokio::test]
async fn a_genuine_document_of_another_purpose_or_key_is_no_identity() {
    let forge = Forge::new();
    let enclave = forge.enclave();
    let id = *enclave.id().as_bytes();
    let release = Statement { purpose: Purpose::Release, subject: id, policy: POLICY };
    for statement in [release.to_bytes(), b"hello".to_vec(), Vec::new()] {
        let forged = |nonce| document(forge.document(Says { statement, ..enclave.identity(Some(nonce)) }));
        let asked = ask(&forge.anchor(), &its_image(), forged).await;
        assert!(matches!(asked, Err(ClientError::NotAnIdentity)), "{asked:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_passed_on() {
    let forge = Forge::new();
    let refusal = Refusal::from(ErrorCode::AttestationLimited);
    let asked = ask(&forge.anchor(), &its_image(), |_| FromEnclave::Refused(refusal)).await;
    assert!(matches!(asked, Err(ClientError::Refused(r)) if r == refusal), "{asked:?}");
}
