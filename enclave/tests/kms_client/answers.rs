//! Answers that are wrong in one way each.

use adyton_enclave::kms::{AnswerFault, KeyError};
use adyton_shared::ErrorCode;
use serde_json::json;

use crate::support::{ARN, Act, World, ask, response};

async fn refused(act: Act) -> KeyError {
    let world = World::new([act]);
    let service = world.service();
    let error = ask(&service, b"wrapped").await.unwrap_err();
    assert_eq!(world.calls(), 1, "asked once");
    ask(&service, b"wrapped").await.expect("a retry succeeds once the cause is gone");
    error
}

// K-1
#[tokio::test]
async fn a_plaintext_is_refused_with_and_without_an_envelope() {
    let plaintext = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let both = Act::edited(move |fields| drop(fields.insert("Plaintext".into(), json!(plaintext))));
    let alone = Act::edited(move |fields| {
        fields.insert("Plaintext".into(), json!(plaintext));
        fields.remove("CiphertextForRecipient");
    });
    let empty = Act::edited(|fields| drop(fields.insert("Plaintext".into(), json!(""))));
    let odd = Act::edited(|fields| drop(fields.insert("Plaintext".into(), json!({"a": 1}))));
    for act in [both, alone, empty, odd] {
        let error = refused(act).await;
        assert_eq!(error, KeyError::PlaintextRefused);
        assert_eq!(error.code(), ErrorCode::KmsPlaintextRefused);
    }
}

// K-9
#[tokio::test]
async fn an_answer_for_another_key_is_refused() {
    for other in [
        "arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000002",
        "arn:aws:kms:eu-west-2:111122223333:key/8a51b3c0-0000-4000-8000-000000000001",
        "arn:aws:kms:eu-west-1:111122223334:key/8a51b3c0-0000-4000-8000-000000000001",
        "arn:aws-cn:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001",
        "arn:aws:kms:eu-west-1:111122223333:kеy/8a51b3c0-0000-4000-8000-000000000001",
        "arn:aws:kms:eu-west-1:111122223333:alias/payments",
        "8a51b3c0-0000-4000-8000-000000000001",
        "",
    ] {
        let error =
            refused(Act::edited(move |fields| drop(fields.insert("KeyId".into(), json!(other))))).await;
        assert_eq!(error, KeyError::AnswerRejected(AnswerFault::KeyId), "{other}");
        assert_eq!(error.code(), ErrorCode::KmsAnswerRejected);
    }
    let longer = format!("{ARN} ");
    let error = refused(Act::edited(move |fields| drop(fields.insert("KeyId".into(), json!(longer))))).await;
    assert_eq!(error, KeyError::AnswerRejected(AnswerFault::KeyId));
}

// K-11
#[tokio::test]
async fn other_algorithms_are_refused() {
    for (field, value) in [
        ("EncryptionAlgorithm", "RSAES_OAEP_SHA_256"),
        ("EncryptionAlgorithm", "symmetric_default"),
        ("KeyEncryptionAlgorithm", "RSAES_OAEP_SHA_1"),
        ("KeySpec", "RSA_2048"),
    ] {
        let error = refused(Act::edited(move |fields| drop(fields.insert(field.into(), json!(value))))).await;
        assert_eq!(error, KeyError::AnswerRejected(AnswerFault::Algorithm), "{field}");
        assert_eq!(error.code(), ErrorCode::KmsAnswerRejected);
    }
}

// K-11
#[tokio::test]
async fn a_field_that_is_missing_or_of_another_type_is_refused() {
    for field in ["KeyId", "EncryptionAlgorithm", "CiphertextForRecipient"] {
        for act in [
            Act::edited(move |fields| drop(fields.remove(field))),
            Act::edited(move |fields| drop(fields.insert(field.into(), json!(null)))),
            Act::edited(move |fields| drop(fields.insert(field.into(), json!(7)))),
        ] {
            assert_eq!(refused(act).await, KeyError::AnswerRejected(AnswerFault::Malformed), "{field}");
        }
    }
}

#[tokio::test]
async fn a_field_given_twice_is_refused() {
    for field in ["KeyId", "EncryptionAlgorithm", "CiphertextForRecipient", "Plaintext", "KeyI\\u0064"] {
        let body = format!(
            r#"{{"KeyId":"{ARN}","EncryptionAlgorithm":"SYMMETRIC_DEFAULT","CiphertextForRecipient":"","Plaintext":null,"{field}":null}}"#
        );
        assert_eq!(
            refused(Act::Status(200, body)).await,
            KeyError::AnswerRejected(AnswerFault::Malformed),
            "{field}"
        );
    }
}

#[tokio::test]
async fn garbage_is_refused() {
    for body in ["", "null", "[]", "\"text\"", "{\"KeyId\":", "<html>", "{}x", "\u{0}"] {
        let error = refused(Act::Status(200, body.into())).await;
        assert_eq!(error, KeyError::AnswerRejected(AnswerFault::Malformed), "{body}");
    }
    let nested = "[".repeat(30_000);
    assert_eq!(refused(Act::Status(200, nested)).await, KeyError::AnswerRejected(AnswerFault::Malformed));
}

// X-1
#[tokio::test]
async fn whatever_is_wrong_inside_the_envelope_is_one_error() {
    let short = Act::Seals(vec![7; 31]);
    let empty = Act::Seals(Vec::new());
    let long = Act::Seals(vec![7; 64]);
    let other_key = Act::edited(|fields| {
        let envelope = include_bytes!("../vectors/cms/kms-32-bytes.ber");
        fields.insert("CiphertextForRecipient".into(), json!(base64_of(envelope)));
    });
    let damaged = Act::edited(|fields| {
        let mut envelope = base64_to(fields["CiphertextForRecipient"].as_str().unwrap());
        envelope[200] ^= 1;
        fields.insert("CiphertextForRecipient".into(), json!(base64_of(&envelope)));
    });
    let cut = Act::edited(|fields| {
        let envelope = base64_to(fields["CiphertextForRecipient"].as_str().unwrap());
        fields.insert("CiphertextForRecipient".into(), json!(base64_of(&envelope[..400])));
    });
    for act in [short, empty, long, other_key, damaged, cut] {
        let error = refused(act).await;
        assert_eq!(error, KeyError::AnswerRejected(AnswerFault::Envelope));
        assert_eq!(error.code(), ErrorCode::KmsAnswerRejected);
    }
    let not_base64 =
        Act::edited(|fields| drop(fields.insert("CiphertextForRecipient".into(), json!("****"))));
    assert_eq!(refused(not_base64).await, KeyError::AnswerRejected(AnswerFault::Malformed));
}

#[tokio::test]
async fn oversized_answers_are_refused_whatever_their_framing() {
    let large = "a".repeat(33 * 1024);
    assert_eq!(
        refused(Act::Status(200, large.clone())).await,
        KeyError::AnswerRejected(AnswerFault::TooLarge)
    );
    let until_close = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{large}").into_bytes();
    assert_eq!(refused(Act::Bytes(until_close)).await, KeyError::AnswerRejected(AnswerFault::TooLarge));
    let announced = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{".to_vec();
    assert_eq!(refused(Act::Bytes(announced)).await, KeyError::AnswerRejected(AnswerFault::TooLarge));
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    assert_eq!(
        refused(Act::Bytes(chunked.into_bytes())).await,
        KeyError::AnswerRejected(AnswerFault::TooLarge)
    );
    let head = format!("HTTP/1.1 200 OK\r\nx: {large}\r\n\r\n").into_bytes();
    assert_eq!(refused(Act::Bytes(head)).await.code(), ErrorCode::KmsAnswerRejected);
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.6\r\n\r\n"[..],
        b"HTTP/1.1 xyz\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ] {
        let error = refused(Act::Bytes(bytes.to_vec())).await;
        assert_eq!(error, KeyError::AnswerRejected(AnswerFault::Malformed));
    }
}

#[tokio::test]
async fn too_short_a_content_length_spoils_the_answer_and_the_connection() {
    let mut answer = String::from_utf8(response(200, &"{}".repeat(20))).unwrap();
    answer = answer.replace("Content-Length: 40", "Content-Length: 7");
    let error = refused(Act::Bytes(answer.into_bytes())).await;
    assert_eq!(error, KeyError::AnswerRejected(AnswerFault::Malformed));
}

#[tokio::test]
async fn redirects_and_unknown_errors_are_not_followed() {
    let redirect =
        b"HTTP/1.1 307 Elsewhere\r\nLocation: https://example.com/\r\nContent-Length: 0\r\n\r\n".to_vec();
    for act in
        [Act::Bytes(redirect), Act::error(400, "SomethingNewException"), Act::Status(404, String::new())]
    {
        assert_eq!(refused(act).await, KeyError::AnswerRejected(AnswerFault::Status));
    }
    for name in ["ValidationException", "SerializationException"] {
        let error = refused(Act::error(400, name)).await;
        assert_eq!(error, KeyError::AnswerRejected(AnswerFault::RequestInvalid));
    }
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn base64_to(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
