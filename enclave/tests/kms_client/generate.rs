//! Data keys for what leaves: `GenerateDataKey`, attested, and answers that are wrong in one way each.

use adyton_enclave::kms::{AnswerFault, FreshKey, KeyError};
use adyton_shared::limits::MAX_WRAPPED_KEY_BYTES;
use adyton_shared::statement::{Purpose, Statement, release_digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::{Act, POLICY, WRAPPED, World, context, document, header, key, unwrapped};

async fn fresh(world: &std::sync::Arc<World>) -> Result<FreshKey, KeyError> {
    world.service().fresh_key(&key(), &context()).await
}

async fn refused(act: Act) -> KeyError {
    let world = World::new([act]);
    let error = fresh(&world).await.unwrap_err();
    assert_eq!(world.calls(), 1, "asked once");
    error
}

// K-13, K-15
#[tokio::test]
async fn a_fresh_key_is_asked_for_with_a_document_for_this_one_question() {
    let world = World::new([]);
    let fresh = fresh(&world).await.unwrap();
    let seen = world.seen.lock().unwrap()[0].clone();
    assert_eq!(header(&seen.head, "x-amz-target"), Some("TrentService.GenerateDataKey"));
    let names: Vec<_> = seen.body.as_object().unwrap().keys().cloned().collect();
    assert_eq!(names, ["EncryptionContext", "KeyId", "KeySpec", "Recipient"]);
    assert_eq!((&seen.body["KeyId"], &seen.body["KeySpec"]), (&json!(key().as_str()), &json!("AES_256")));
    let (user_data, _) = document(&seen.body);
    let subject = *release_digest("GenerateDataKey", &key(), &[], &context()).as_bytes();
    let statement = Statement { purpose: Purpose::Release, subject, policy: POLICY };
    assert_eq!(Statement::parse(&user_data), Ok(statement));
    assert_eq!(fresh.wrapped, WRAPPED);
    assert_eq!(fresh.key.expose(), unwrapped(WRAPPED, &seen.body["EncryptionContext"]));
}

#[tokio::test]
async fn no_fresh_key_is_used_twice() {
    let world = World::new([]);
    let service = world.service();
    for calls in 1..=2 {
        service.fresh_key(&key(), &context()).await.unwrap();
        assert_eq!(world.calls(), calls, "none comes from the cache");
    }
}

// K-1, K-9, K-11
#[tokio::test]
async fn answers_that_do_not_fit_are_refused() {
    let set = |field: &'static str, value: serde_json::Value| {
        Act::edited(move |fields| drop(fields.insert(field.into(), value.clone())))
    };
    let removed = |field: &'static str| Act::edited(move |fields| drop(fields.remove(field)));
    let long = STANDARD.encode(vec![7; MAX_WRAPPED_KEY_BYTES + 1]);
    for (what, act, error) in [
        ("a plaintext", set("Plaintext", json!("AAAA")), KeyError::PlaintextRefused),
        ("another key", set("KeyId", json!("arn:aws:kms:x:1:key/1")), AnswerFault::KeyId.into()),
        ("no key id", removed("KeyId"), AnswerFault::Malformed.into()),
        ("no wrapped key", removed("CiphertextBlob"), AnswerFault::Malformed.into()),
        ("an empty wrapped key", set("CiphertextBlob", json!("")), AnswerFault::Malformed.into()),
        ("a wrapped key in no base64", set("CiphertextBlob", json!("%")), AnswerFault::Malformed.into()),
        ("a wrapped key that is too long", set("CiphertextBlob", json!(long)), AnswerFault::Malformed.into()),
        ("no envelope", removed("CiphertextForRecipient"), AnswerFault::Malformed.into()),
        ("another wrapping", set("KeyEncryptionAlgorithm", json!("RSA")), AnswerFault::Algorithm.into()),
        ("a key of 16 bytes", Act::Seals(vec![7; 16]), AnswerFault::Envelope.into()),
        ("a key of 31 bytes", Act::Seals(vec![7; 31]), AnswerFault::Envelope.into()),
        ("access denied", Act::error(400, "AccessDeniedException"), KeyError::AccessDenied),
    ] {
        assert_eq!(refused(act).await, error, "{what}");
    }
}

#[test]
fn a_fresh_key_is_unprintable() {
    let key = adyton_shared::DataKey::copy_from(&[0xA5; 32]).unwrap();
    assert_eq!(format!("{:?}", FreshKey { key, wrapped: vec![1] }), "FreshKey(..)");
}
