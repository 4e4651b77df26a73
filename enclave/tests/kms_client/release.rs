//! What is asked, and that the right key comes of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use adyton_enclave::kms::KeyError;
use adyton_enclave::platform::AttestError;
use adyton_shared::statement::{Purpose, Statement, release_digest};
use adyton_shared::{EncryptionContext, ErrorCode};
use aws_lc_rs::rsa::PublicEncryptingKey;
use serde_json::json;

use crate::support::{ARN, Act, HOST, POLICY, World, ask, context, document, expected, header, key, limits};

// K-1, K-9
#[tokio::test]
async fn asks_with_key_context_and_recipient_and_nothing_else() {
    let world = World::new([]);
    let lease = ask(&world.service(), b"wrapped").await.unwrap();
    assert_eq!(lease.key().expose(), expected(b"wrapped"));
    let seen = world.seen.lock().unwrap()[0].clone();
    let mut body = seen.body.clone();
    let recipient = body.as_object_mut().unwrap().remove("Recipient").unwrap();
    assert_eq!(
        body,
        json!({
            "KeyId": ARN,
            "CiphertextBlob": "d3JhcHBlZA==",
            "EncryptionContext": {"tenant": "t", "object": "o", "purpose": "p", "version": "1"},
            "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        })
    );
    assert_eq!(recipient.as_object().unwrap().len(), 2);
    assert_eq!(recipient["KeyEncryptionAlgorithm"], "RSAES_OAEP_SHA_256");
}

#[tokio::test]
async fn signs_for_the_configured_host_and_region_at_its_own_time() {
    let world = World::new([]);
    ask(&world.service(), b"wrapped").await.unwrap();
    let head = world.seen.lock().unwrap()[0].head.clone();
    assert!(head.starts_with("POST / HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), Some(HOST));
    assert_eq!(header(&head, "x-amz-target"), Some("TrentService.Decrypt"));
    assert_eq!(header(&head, "content-type"), Some("application/x-amz-json-1.1"));
    assert_eq!(header(&head, "x-amz-date"), Some("20260601T000000Z"));
    assert_eq!(header(&head, "x-amz-security-token"), Some("hidden-token"));
    let signature = header(&head, "authorization").unwrap();
    assert!(
        signature.starts_with(
            "AWS4-HMAC-SHA256 Credential=ASIADEFAULT/20260601/eu-west-1/kms/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, Signature="
        ),
        "{signature}"
    );
}

// K-13, T-3
#[tokio::test]
async fn the_document_names_its_purpose_the_request_and_the_policy() {
    let world = World::new([]);
    ask(&world.service(), b"wrapped").await.unwrap();
    let (user_data, public_key) = document(&world.seen.lock().unwrap()[0].body);
    let statement = Statement::parse(&user_data).unwrap();
    assert_eq!(statement.purpose, Purpose::Release);
    assert_eq!(statement.policy, POLICY);
    assert_eq!(&statement.subject, release_digest("Decrypt", &key(), b"wrapped", &context()).as_bytes());
    assert_eq!(PublicEncryptingKey::from_der(&public_key).unwrap().key_size_bits(), 2048);
    // rsaEncryption with NULL, as the NSM's users know it.
    let algorithm = hex::decode("30820122300d06092a864886f70d01010105000382010f00").unwrap();
    assert_eq!(public_key[..24], algorithm);
}

// T-1
#[tokio::test]
async fn two_boots_have_two_recipient_keys_and_one_boot_renews_its_own() {
    let world = World::new([]);
    let mut keys = Vec::new();
    for _ in 0..2 {
        let service = world.service();
        for blob in 0..65_u8 {
            ask(&service, &[blob]).await.unwrap();
        }
        let seen = std::mem::take(&mut *world.seen.lock().unwrap());
        let all: Vec<_> = seen.iter().map(|seen| document(&seen.body).1).collect();
        assert!(all[..64].iter().all(|key| *key == all[0]), "64 requests name one key");
        assert_ne!(all[64], all[0], "and the next another");
        keys.push(all[0].clone());
    }
    assert_ne!(keys[0], keys[1]);
}

// K-4
#[tokio::test]
async fn a_swapped_wrapped_key_is_refused_by_its_own_code() {
    for name in ["InvalidCiphertextException", "IncorrectKeyException"] {
        let world = World::new([Act::error(400, name)]);
        let error = ask(&world.service(), b"of another record").await.unwrap_err();
        assert_eq!(error, KeyError::WrappedKeyRejected);
        assert_eq!(error.code(), ErrorCode::WrappedKeyRejected);
        assert_eq!(world.calls(), 1);
    }
}

// K-4
#[tokio::test]
async fn another_context_or_blob_is_another_request() {
    let world = World::new([]);
    let service = world.service();
    let other = EncryptionContext::from_pairs([("tenant", "u")]).unwrap();
    let one = service.data_key(&key(), b"wrapped", &context()).await.unwrap();
    let two = service.data_key(&key(), b"wrapped", &other).await.unwrap();
    let three = service.data_key(&key(), b"wrapped", &EncryptionContext::default()).await.unwrap();
    assert!(one.key().expose() != two.key().expose() && two.key().expose() != three.key().expose());
    assert_eq!(world.calls(), 3);
}

#[tokio::test]
async fn access_denied_is_never_asked_again() {
    let world = World::new([Act::error(400, "AccessDeniedException")]);
    let error = ask(&world.service(), b"wrapped").await.unwrap_err();
    assert_eq!(error, KeyError::AccessDenied);
    assert_eq!(error.code(), ErrorCode::KmsAccessDenied);
    assert_eq!((world.calls(), error.retry_after_ms()), (1, None));
}

// K-20
#[tokio::test]
async fn a_key_that_cannot_be_used_is_named_so_and_works_again_once_it_can() {
    for name in
        ["DisabledException", "NotFoundException", "KMSInvalidStateException", "InvalidKeyUsageException"]
    {
        let world = World::new([Act::error(400, name)]);
        let service = world.service();
        let error = ask(&service, b"wrapped").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::KmsKeyUnusable, "{name}");
        ask(&service, b"wrapped").await.unwrap();
    }
}

#[tokio::test]
async fn without_a_document_nothing_is_asked() {
    for (error, code) in [
        (AttestError::Unavailable, ErrorCode::AttestationUnavailable),
        (AttestError::Limited, ErrorCode::AttestationLimited),
    ] {
        let world = World::new([]);
        *world.attest_error.lock().unwrap() = Some(error);
        assert_eq!(ask(&world.service(), b"wrapped").await.unwrap_err().code(), code);
        assert_eq!(world.connections(), 0);
    }
}

#[tokio::test]
async fn one_document_serves_all_attempts_of_a_call() {
    let world = World::new([Act::error(400, "ThrottlingException"), Act::error(500, "KMSInternalException")]);
    ask(&world.service(), b"wrapped").await.unwrap();
    assert_eq!((world.calls(), world.documents.load(Ordering::Relaxed)), (3, 1));
}

#[tokio::test]
async fn throttling_to_the_deadline_says_when_to_try_again() {
    let world = World::new((0..1000).map(|_| Act::error(400, "ThrottlingException")));
    let service = world.service_with(limits(), Duration::from_millis(400));
    let error = ask(&service, b"wrapped").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::KmsThrottled);
    assert!(error.retry_after_ms() >= Some(1000));
    world.script.lock().unwrap().clear();
    world.service().data_key(&key(), b"wrapped", &context()).await.unwrap();
}

#[tokio::test]
async fn failures_to_the_deadline_are_unavailability() {
    for act in
        [|| Act::error(500, "KMSInternalException"), || Act::Status(503, "<html>".into()), || Act::Close]
    {
        let world = World::new((0..1000).map(|_| act()));
        let service = world.service_with(limits(), Duration::from_millis(400));
        let error = ask(&service, b"wrapped").await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::KmsUnavailable);
        assert!(error.retry_after_ms().is_some());
    }
}

#[tokio::test]
async fn silence_ends_at_the_deadline() {
    let world = World::new([Act::Silent]);
    let service = world.service_with(limits(), Duration::from_millis(300));
    assert_eq!(ask(&service, b"wrapped").await.unwrap_err().code(), ErrorCode::KmsUnavailable);
}

#[tokio::test]
async fn nothing_secret_and_no_text_of_kms_is_printable() {
    let world = World::new([Act::error(400, "AccessDeniedException")]);
    let service = world.service();
    let error = ask(&service, b"wrapped").await.unwrap_err();
    let lease = ask(&service, b"wrapped").await.unwrap();
    let text = format!("{error} {error:?} {lease:?} {service:?}");
    for hidden in
        ["SECRET-TEXT", "hidden", &hex::encode(lease.key().expose()), &format!("{:?}", lease.key().expose())]
    {
        assert!(!text.contains(hidden), "{text}");
    }
}
