//! What is not AWS: health, metrics, reset, and a state as a file.

use crate::harness::{Kms, REGION, config};
use crate::protocol::{Answer, connect, exchange, signed, start, start_with};
use adyton_simulator::kms::{
    FixtureError, FixtureKey, KmsServer, Role, Transport, User, export_state, import_state,
};
use serde_json::{Value, json};

async fn ask(kms: &Kms, method: &str, path: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n");
    exchange(&mut connect(kms).await, request.as_bytes()).await
}

async fn call(kms: &Kms, user: &User, operation: &str, body: &Value) -> Answer {
    let request = signed(user, REGION, operation, body.to_string().as_bytes());
    exchange(&mut connect(kms).await, &request).await
}

#[tokio::test]
async fn health_is_always_there_and_the_rest_only_where_it_was_asked_for() {
    let kms = start().await;
    let health = ask(&kms, "GET", "/_adyton/health").await;
    assert_eq!(
        (health.status, health.json()),
        (200, json!({"status": "ok", "account": "111122223333", "region": REGION}))
    );
    for (method, path) in [
        ("POST", "/_adyton/reset"),
        ("POST", "/_adyton/faults"),
        ("GET", "/_adyton/faults"),
        ("GET", "/_adyton/reset"),
        ("GET", "/_adyton/"),
    ] {
        assert_eq!(ask(&kms, method, path).await.status, 404, "{method} {path}");
    }
}

#[tokio::test]
async fn metrics_count_calls_by_result_and_name_nobody() {
    let kms = start().await;
    let user = kms.server.first_administrator().unwrap();
    let made = call(&kms, &user, "CreateKey", &json!({})).await.json();
    let key = made["KeyMetadata"]["KeyId"].as_str().unwrap();
    for id in [key, "absent", "absent"] {
        call(&kms, &user, "DescribeKey", &json!({"KeyId": id})).await;
    }
    let answer = ask(&kms, "GET", "/_adyton/metrics").await;
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    let text = String::from_utf8(answer.body).unwrap();
    for line in [
        "adyton_kms_calls_total{operation=\"CreateKey\",result=\"ok\"} 1",
        "adyton_kms_calls_total{operation=\"DescribeKey\",result=\"ok\"} 1",
        "adyton_kms_calls_total{operation=\"DescribeKey\",result=\"NotFoundException\"} 2",
        "adyton_kms_throttled_total 0",
        "adyton_kms_call_seconds_bucket{le=\"+Inf\"} 4",
        "adyton_kms_call_seconds_count 4",
        "adyton_kms_keys 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    for secret in [key, &user.access_key_id, "111122223333"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_reset_removes_keys_and_leaves_users() {
    let kms = start_with(|config| config.admin_endpoint = true).await;
    let user = kms.server.first_administrator().unwrap();
    let made = call(&kms, &user, "CreateKey", &json!({})).await.json();
    let key = &made["KeyMetadata"]["KeyId"];
    call(&kms, &user, "CreateAlias", &json!({"AliasName": "alias/a", "TargetKeyId": key})).await;
    assert_eq!(ask(&kms, "POST", "/_adyton/reset").await.status, 200);
    assert_eq!(call(&kms, &user, "ListKeys", &json!({})).await.json()["Keys"], json!([]));
    let absent = call(&kms, &user, "DescribeKey", &json!({"KeyId": key})).await;
    assert_eq!(absent.json()["__type"], "NotFoundException");
    call(&kms, &user, "CreateKey", &json!({})).await;
    assert_eq!(call(&kms, &user, "ListKeys", &json!({})).await.json()["Keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_state_goes_through_a_file_and_opens_only_with_its_key() {
    let kms = start().await;
    let user = kms.server.first_administrator().unwrap();
    let trust = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}}"#;
    kms.server.add_role(&Role::new("arn:aws:iam::111122223333:role/r", trust).unwrap()).unwrap();
    let made = call(&kms, &user, "CreateKey", &json!({"Description": "shared"})).await.json();
    let key = made["KeyMetadata"]["KeyId"].clone();
    call(&kms, &user, "CreateAlias", &json!({"AliasName": "alias/a", "TargetKeyId": key})).await;
    let sealed = call(&kms, &user, "Encrypt", &json!({"KeyId": key, "Plaintext": "eA=="})).await.json();
    let folder = kms.stop().await;
    let at = |name: &str| folder.path().join(name);

    let secret = FixtureKey::make(&at("key")).unwrap();
    export_state(&at("kms"), &at("state.json"), &secret).unwrap();
    let text = std::fs::read_to_string(at("state.json")).unwrap();
    assert!(!text.contains(user.secret_access_key.as_str()));
    assert!(text.contains("shared"));
    // Nothing is overwritten.
    assert!(matches!(FixtureKey::make(&at("key")).unwrap_err(), FixtureError::Io(_)));
    assert!(matches!(export_state(&at("kms"), &at("state.json"), &secret).unwrap_err(), FixtureError::Io(_)));
    assert!(matches!(export_state(&at("none"), &at("s"), &secret).unwrap_err(), FixtureError::NoState));
    assert!(matches!(
        import_state(&at("kms"), &at("state.json"), &secret).unwrap_err(),
        FixtureError::NotEmpty("kms.redb")
    ));

    let other = FixtureKey::make(&at("other")).unwrap();
    assert!(matches!(import_state(&at("new"), &at("state.json"), &other).unwrap_err(), FixtureError::Sealed));
    std::fs::write(at("edited.json"), text.replace("shared", "Shared")).unwrap();
    assert!(matches!(
        import_state(&at("new"), &at("edited.json"), &secret).unwrap_err(),
        FixtureError::Sealed
    ));
    std::fs::write(at("other.json"), "{}").unwrap();
    assert!(matches!(import_state(&at("new"), &at("other.json"), &secret).unwrap_err(), FixtureError::Shape));
    assert!(!at("new").join("kms.redb").exists() && !at("new").join("root.key").exists());

    import_state(&at("new"), &at("state.json"), &FixtureKey::read(&at("key")).unwrap()).unwrap();
    let mut config = config(folder.path());
    config.state_dir = at("new");
    assert_eq!(KmsServer::open(config.clone()).unwrap().roles().unwrap().len(), 1);
    let kms = Kms::serve(folder, config, Transport::Plain).await;
    let opened = call(&kms, &user, "Decrypt", &json!({"CiphertextBlob": sealed["CiphertextBlob"]})).await;
    assert_eq!(opened.json()["Plaintext"], "eA==");
    let described = call(&kms, &user, "DescribeKey", &json!({"KeyId": "alias/a"})).await.json();
    assert_eq!(described["KeyMetadata"]["KeyId"], key);
}
