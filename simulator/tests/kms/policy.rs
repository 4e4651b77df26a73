//! Who may do what: key policies, what stands in for IAM, other accounts.

use crate::harness::{ACCOUNT, Kms, attested_policy, refusal};
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use serde_json::{Value, json};

const ALICE: &str = "arn:aws:iam::111122223333:user/alice";
const OTHER: &str = "arn:aws:iam::444455556666:user/other";

struct Scene {
    kms: Kms,
    administrator: Client,
    key: String,
}

impl Scene {
    /// A key with these statements beside the one that lets the administrator manage it.
    async fn new(statements: Value) -> Self {
        let kms = Kms::start().await;
        let administrator = kms.administrator();
        let policy = policy(statements);
        let made = administrator.create_key().policy(policy).send().await.unwrap();
        let key = made.key_metadata.unwrap().arn.unwrap();
        Self { kms, administrator, key }
    }

    async fn encrypt(
        &self,
        client: &Client,
        context: &[(&str, &str)],
    ) -> Result<(), (String, Option<String>)> {
        let mut call = client.encrypt().key_id(&self.key).plaintext(Blob::new("x"));
        for (key, value) in context {
            call = call.encryption_context(*key, *value);
        }
        let answer = call.send().await;
        if answer.is_ok() { Ok(()) } else { Err(refusal(answer)) }
    }

    fn denied(&self, who: &str, action: &str, why: &str) -> (String, Option<String>) {
        let key = &self.key;
        let text = format!("User: {who} is not authorized to perform: {action} on resource: {key} {why}");
        ("AccessDeniedException".into(), Some(text))
    }
}

fn policy(mut statements: Value) -> String {
    statements.as_array_mut().unwrap().push(json!({
        "Effect": "Allow",
        "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:user/administrator")},
        "Action": "kms:*",
        "Resource": "*",
    }));
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

fn allow(who: &str, action: &str) -> Value {
    json!({"Effect": "Allow", "Principal": {"AWS": who}, "Action": action, "Resource": "*"})
}

#[tokio::test]
async fn delegation_to_the_account_helps_only_whom_iam_allows() {
    let kms = Kms::start().await;
    let administrator = kms.administrator();
    let made = administrator.create_key().send().await.unwrap().key_metadata.unwrap();
    let scene = Scene { key: made.arn.unwrap(), administrator, kms };
    assert_eq!(scene.encrypt(&scene.administrator, &[]).await, Ok(()));
    let alice = scene.kms.stranger(ALICE);
    assert_eq!(
        scene.encrypt(&alice, &[]).await,
        Err(scene.denied(
            ALICE,
            "kms:Encrypt",
            "because no identity-based policy allows the kms:Encrypt action"
        ))
    );
}

#[tokio::test]
async fn a_principal_named_in_the_key_policy_needs_nothing_else() {
    let scene = Scene::new(json!([allow(ALICE, "kms:Encrypt")])).await;
    let alice = scene.kms.stranger(ALICE);
    assert_eq!(scene.encrypt(&alice, &[]).await, Ok(()));
    let data_key = alice.generate_data_key().key_id(&scene.key).number_of_bytes(8).send().await;
    let why = "because no resource-based policy allows the kms:GenerateDataKey action";
    assert_eq!(refusal(data_key), scene.denied(ALICE, "kms:GenerateDataKey", why));
}

#[tokio::test]
async fn a_deny_wins_even_over_an_administrator() {
    let deny = json!({
        "Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*",
        "Condition": {"Null": {"kms:RecipientAttestation:ImageSha384": "true"}},
    });
    let scene = Scene::new(json!([deny])).await;
    let sealed =
        scene.administrator.encrypt().key_id(&scene.key).plaintext(Blob::new("x")).send().await.unwrap();
    let answer = scene.administrator.decrypt().set_ciphertext_blob(sealed.ciphertext_blob).send().await;
    let who = format!("arn:aws:iam::{ACCOUNT}:user/administrator");
    assert_eq!(
        refusal(answer),
        scene.denied(&who, "kms:Decrypt", "with an explicit deny in a resource-based policy")
    );
}

#[tokio::test]
async fn conditions_see_the_encryption_context_the_alias_and_the_source() {
    let conditioned = |condition: Value| {
        let mut statement = allow(ALICE, "kms:Encrypt");
        statement["Condition"] = condition;
        json!([statement])
    };
    let scene = Scene::new(conditioned(json!({
        "StringEquals": {"kms:EncryptionContext:tenant": "a"},
        "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["tenant", "object"]},
        "Bool": {"aws:SecureTransport": "true"},
        "IpAddress": {"aws:SourceIp": "127.0.0.0/8"},
    })))
    .await;
    let alice = scene.kms.stranger(ALICE);
    assert_eq!(scene.encrypt(&alice, &[("tenant", "a"), ("object", "1")]).await, Ok(()));
    let why = "because no resource-based policy allows the kms:Encrypt action";
    let denied = Err(scene.denied(ALICE, "kms:Encrypt", why));
    assert_eq!(scene.encrypt(&alice, &[("tenant", "b")]).await, denied);
    assert_eq!(scene.encrypt(&alice, &[("tenant", "a"), ("more", "1")]).await, denied);
    assert_eq!(scene.encrypt(&alice, &[]).await, denied);

    let by_alias = policy(conditioned(json!({"StringEquals": {"kms:RequestAlias": "alias/cards"}})));
    scene.administrator.put_key_policy().key_id(&scene.key).policy(by_alias).send().await.unwrap();
    scene
        .administrator
        .create_alias()
        .alias_name("alias/cards")
        .target_key_id(&scene.key)
        .send()
        .await
        .unwrap();
    assert_eq!(scene.encrypt(&alice, &[]).await, denied);
    alice.encrypt().key_id("alias/cards").plaintext(Blob::new("x")).send().await.unwrap();

    // No AWS service calls on anybody's behalf here.
    let by_service = policy(conditioned(json!({"StringLike": {"kms:ViaService": "*"}})));
    scene.administrator.put_key_policy().key_id(&scene.key).policy(by_service).send().await.unwrap();
    assert_eq!(scene.encrypt(&alice, &[("kms:ViaService", "s3.eu-west-1.amazonaws.com")]).await, denied);
}

#[tokio::test]
async fn another_account_needs_both_sides() {
    let scene = Scene::new(json!([allow("arn:aws:iam::444455556666:root", "kms:Encrypt")])).await;
    let plain = scene.kms.stranger(OTHER);
    let why = "because no identity-based policy allows the kms:Encrypt action";
    assert_eq!(scene.encrypt(&plain, &[]).await, Err(scene.denied(OTHER, "kms:Encrypt", why)));
    let user = adyton_simulator::kms::User::generate(OTHER, true).unwrap();
    scene.kms.server.add_user(&user).unwrap();
    let allowed = scene.kms.client(&user);
    assert_eq!(scene.encrypt(&allowed, &[]).await, Ok(()));

    // A bare id is looked for in the caller's own account, and management stays at home.
    let id = scene.key.rsplit('/').next().unwrap();
    assert_eq!(refusal(allowed.describe_key().key_id(id).send().await).0, "NotFoundException");
    assert_eq!(refusal(allowed.get_key_policy().key_id(&scene.key).send().await).0, "NotFoundException");
    assert!(allowed.list_keys().send().await.unwrap().keys().is_empty());
}

#[tokio::test]
async fn operations_on_no_key_are_for_administrators() {
    let scene = Scene::new(json!([])).await;
    let alice = scene.kms.stranger(ALICE);
    let text = |action: &str| {
        Some(format!(
            "User: {ALICE} is not authorized to perform: {action} because no identity-based policy allows the {action} \
             action"
        ))
    };
    assert_eq!(refusal(alice.create_key().send().await).1, text("kms:CreateKey"));
    assert_eq!(refusal(alice.list_keys().send().await).1, text("kms:ListKeys"));
    assert_eq!(refusal(alice.list_aliases().send().await).1, text("kms:ListAliases"));
    assert_eq!(
        refusal(alice.generate_random().number_of_bytes(8).send().await).1,
        text("kms:GenerateRandom")
    );
    let alias = alice.create_alias().alias_name("alias/a").target_key_id(&scene.key).send().await;
    assert_eq!(refusal(alias).0, "AccessDeniedException");
}

// K-20
#[tokio::test]
async fn a_changed_policy_counts_from_the_next_call() {
    let scene = Scene::new(json!([allow(ALICE, "kms:Encrypt")])).await;
    let alice = scene.kms.stranger(ALICE);
    assert_eq!(scene.encrypt(&alice, &[]).await, Ok(()));
    scene.administrator.put_key_policy().key_id(&scene.key).policy(policy(json!([]))).send().await.unwrap();
    assert_eq!(scene.encrypt(&alice, &[]).await.unwrap_err().0, "AccessDeniedException");
    let stored = scene.administrator.get_key_policy().key_id(&scene.key).send().await.unwrap();
    assert_eq!(stored.policy(), Some(policy(json!([])).as_str()));
}

#[tokio::test]
async fn a_policy_that_locks_its_author_out_needs_an_explicit_word() {
    let scene = Scene::new(json!([])).await;
    let lockout = json!({"Version": "2012-10-17", "Statement": [allow(ALICE, "kms:*")]}).to_string();
    let put = scene.administrator.put_key_policy().key_id(&scene.key).policy(&lockout);
    let refused = refusal(put.clone().send().await);
    assert_eq!(refused.0, "MalformedPolicyDocumentException");
    assert_eq!(
        refused.1.unwrap(),
        "The new key policy will not allow you to update the key policy in the future."
    );
    let created = scene.administrator.create_key().policy(&lockout).send().await;
    assert_eq!(refusal(created).0, "MalformedPolicyDocumentException");
    put.bypass_policy_lockout_safety_check(true).send().await.unwrap();
    assert_eq!(
        refusal(scene.administrator.get_key_policy().key_id(&scene.key).send().await).0,
        "AccessDeniedException"
    );
}

#[tokio::test]
async fn what_is_not_a_policy_is_refused() {
    let scene = Scene::new(json!([])).await;
    let put = |policy: &str| scene.administrator.put_key_policy().key_id(&scene.key).policy(policy).send();
    for malformed in ["{}", "not json", "[]", r#"{"Version":"2012-10-17","Statement":[{"Effect":"Maybe"}]}"#]
    {
        assert_eq!(refusal(put(malformed).await).0, "MalformedPolicyDocumentException", "{malformed}");
    }
    let (code, text) = refusal(put("{\u{1}}").await);
    assert_eq!(code, "ValidationException");
    assert!(text.unwrap().contains("Member must satisfy regular expression pattern: [\\u0009\\u000A\\u000D"));
    assert_eq!(refusal(put("").await).0, "ValidationException");
    let long = policy(json!([allow(ALICE, &"x".repeat(40_000))]));
    assert_eq!(refusal(put(&long).await).0, "LimitExceededException");
    assert_eq!(refusal(put(&"x".repeat(131_073)).await).0, "ValidationException");
}

#[tokio::test]
async fn the_policy_that_this_projects_examples_use_is_accepted() {
    let kms = Kms::start().await;
    let policy = attested_policy("arn:aws:iam::111122223333:role/enclave", 1);
    kms.administrator().create_key().policy(policy).send().await.unwrap();
}
