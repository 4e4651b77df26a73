//! Identity policies: what they add to key policies, what they take away, how they are set.

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use serde_json::{Value, json};

use crate::harness::{ACCOUNT, Kms, config, refusal, refused};
use adyton_simulator::kms::{IdentityPolicyRecord, KmsConfig, KmsError, Transport, User};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ALICE: &str = "arn:aws:iam::111122223333:user/alice";
const OTHER: &str = "arn:aws:iam::444455556666:user/other";

fn attach(kms: &Kms, principal: &str, name: &str, statements: &Value) -> Result<(), KmsError> {
    let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let policy = IdentityPolicyRecord { principal: principal.into(), name: name.into(), document };
    kms.server.put_identity_policy(&policy)
}

fn allow(action: &str, resource: &str) -> Value {
    json!({"Effect": "Allow", "Action": action, "Resource": resource})
}

async fn key_with(kms: &Kms, policy: Option<Value>) -> String {
    let call = kms.administrator().create_key().set_policy(policy.map(|policy| policy.to_string()));
    call.bypass_policy_lockout_safety_check(true).send().await.unwrap().key_metadata.unwrap().arn.unwrap()
}

async fn encrypt(client: &Client, key: &str) -> Result<(), (String, Option<String>)> {
    let answer = client.encrypt().key_id(key).plaintext(Blob::new("x")).send().await;
    if answer.is_ok() { Ok(()) } else { Err(refusal(answer)) }
}

fn denied(who: &str, action: &str, resource: &str, why: &str) -> (String, Option<String>) {
    let text = format!("User: {who} is not authorized to perform: {action} on resource: {resource} {why}");
    refused("AccessDeniedException", &text)
}

const NO_IDENTITY: &str = "because no identity-based policy allows the kms:Encrypt action";
const NO_RESOURCE: &str = "because no resource-based policy allows the kms:Encrypt action";
const DENY_IDENTITY: &str = "with an explicit deny in an identity-based policy";

#[tokio::test]
async fn an_identity_policy_works_where_the_key_policy_names_the_account() {
    let kms = Kms::start().await;
    let key = key_with(&kms, None).await;
    let alice = kms.stranger(ALICE);
    assert_eq!(encrypt(&alice, &key).await, Err(denied(ALICE, "kms:Encrypt", &key, NO_IDENTITY)));
    attach(&kms, ALICE, "Use", &json!([allow("kms:Encrypt", &key)])).unwrap();
    assert_eq!(encrypt(&alice, &key).await, Ok(()));
    // For this key and this action only.
    let other = key_with(&kms, None).await;
    assert_eq!(encrypt(&alice, &other).await, Err(denied(ALICE, "kms:Encrypt", &other, NO_IDENTITY)));
    let describe = refusal(alice.describe_key().key_id(&key).send().await);
    let why = "because no identity-based policy allows the kms:DescribeKey action";
    assert_eq!(describe, denied(ALICE, "kms:DescribeKey", &key, why));
    // And no more when it is gone.
    assert!(kms.server.remove_identity_policy(ALICE, "Use").unwrap());
    assert!(!kms.server.remove_identity_policy(ALICE, "Use").unwrap());
    assert_eq!(encrypt(&alice, &key).await, Err(denied(ALICE, "kms:Encrypt", &key, NO_IDENTITY)));
}

#[tokio::test]
async fn an_identity_policy_allows_nothing_where_the_key_policy_does_not_name_the_account() {
    let kms = Kms::start().await;
    let named = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:user/bob"}, "Action": "kms:*", "Resource": "*"},
    ]});
    let key = key_with(&kms, Some(named)).await;
    let alice = kms.stranger(ALICE);
    attach(&kms, ALICE, "All", &json!([allow("*", "*")])).unwrap();
    assert_eq!(encrypt(&alice, &key).await, Err(denied(ALICE, "kms:Encrypt", &key, NO_RESOURCE)));
    // The administrator has no better policy than that.
    let administrator = format!("arn:aws:iam::{ACCOUNT}:user/administrator");
    assert_eq!(
        encrypt(&kms.administrator(), &key).await,
        Err(denied(&administrator, "kms:Encrypt", &key, NO_RESOURCE))
    );
    // Who is named needs none.
    assert_eq!(encrypt(&kms.stranger("arn:aws:iam::111122223333:user/bob"), &key).await, Ok(()));
}

#[tokio::test]
async fn a_deny_in_an_identity_policy_wins_over_the_key_policy() {
    let kms = Kms::start().await;
    let direct = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": ALICE}, "Action": "kms:*", "Resource": "*"},
    ]});
    let key = key_with(&kms, Some(direct)).await;
    let alice = kms.stranger(ALICE);
    assert_eq!(encrypt(&alice, &key).await, Ok(()));
    attach(&kms, ALICE, "First", &json!([allow("kms:*", "*")])).unwrap();
    let deny = json!([{"Effect": "Deny", "Action": "kms:Encrypt", "Resource": "arn:aws:kms:*:*:key/*",
        "Condition": {"StringNotEquals": {"kms:EncryptionContext:team": "${aws:username}"}}}]);
    attach(&kms, ALICE, "Second", &deny).unwrap();
    assert_eq!(encrypt(&alice, &key).await, Err(denied(ALICE, "kms:Encrypt", &key, DENY_IDENTITY)));
    let with_context =
        alice.encrypt().key_id(&key).plaintext(Blob::new("x")).encryption_context("team", "alice");
    with_context.send().await.unwrap();
}

#[tokio::test]
async fn a_key_of_another_account_needs_both_sides() {
    let kms = Kms::start().await;
    let open = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "444455556666"}, "Action": "kms:Encrypt", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "kms:*", "Resource": "*"},
    ]});
    let (key, closed) = (key_with(&kms, Some(open)).await, key_with(&kms, None).await);
    let other = kms.stranger(OTHER);
    assert_eq!(encrypt(&other, &key).await, Err(denied(OTHER, "kms:Encrypt", &key, NO_IDENTITY)));
    attach(&kms, OTHER, "Partner", &json!([allow("kms:Encrypt", "arn:aws:kms:*:111122223333:key/*")]))
        .unwrap();
    assert_eq!(encrypt(&other, &key).await, Ok(()));
    assert_eq!(encrypt(&other, &closed).await, Err(denied(OTHER, "kms:Encrypt", &closed, NO_RESOURCE)));
}

#[tokio::test]
async fn lists_aliases_and_random_bytes_are_up_to_identity_policies() {
    let kms = Kms::start().await;
    let key = key_with(&kms, None).await;
    let alice = kms.stranger(ALICE);
    let listed = refusal(alice.list_keys().send().await);
    let text = format!(
        "User: {ALICE} is not authorized to perform: kms:ListKeys because no identity-based policy allows the \
         kms:ListKeys action"
    );
    assert_eq!(listed, refused("AccessDeniedException", &text));
    // A pattern on keys does not take in what is about none.
    attach(&kms, ALICE, "Lists", &json!([allow("kms:ListKeys", "arn:aws:kms:*:*:key/*")])).unwrap();
    assert_eq!(refusal(alice.list_keys().send().await).0, "AccessDeniedException");
    attach(&kms, ALICE, "Lists", &json!([allow("kms:List*", "*"), allow("kms:GenerateRandom", "*")]))
        .unwrap();
    alice.list_keys().send().await.unwrap();
    alice.generate_random().number_of_bytes(8).send().await.unwrap();
    // An alias needs a word on itself and one on its key.
    let alias = "arn:aws:kms:eu-west-1:111122223333:alias/app";
    let create = || alice.create_alias().alias_name("alias/app").target_key_id(&key).send();
    let why = "because no identity-based policy allows the kms:CreateAlias action";
    assert_eq!(refusal(create().await), denied(ALICE, "kms:CreateAlias", alias, why));
    attach(&kms, ALICE, "Alias", &json!([allow("kms:CreateAlias", alias)])).unwrap();
    assert_eq!(refusal(create().await), denied(ALICE, "kms:CreateAlias", &key, why));
    attach(&kms, ALICE, "Key", &json!([allow("kms:CreateAlias", &key)])).unwrap();
    create().await.unwrap();
}

#[tokio::test]
async fn conditions_know_the_caller_the_alias_and_the_parameters() {
    let kms = Kms::start().await;
    let key = key_with(&kms, None).await;
    let administrator = kms.administrator();
    administrator.create_alias().alias_name("alias/app").target_key_id(&key).send().await.unwrap();
    let user = User {
        tags: [("team".to_owned(), "blue".to_owned())].into(),
        ..User::generate(ALICE, false).unwrap()
    };
    kms.server.add_user(&user).unwrap();
    let alice = kms.client(&user);
    let condition = |condition: Value| json!([{"Effect": "Allow", "Action": "kms:*", "Resource": "*", "Condition": condition}]);
    let with = async |conditions: Value| {
        attach(&kms, ALICE, "Only", &condition(conditions)).unwrap();
        encrypt(&alice, &key).await.is_ok()
    };
    for holds in [
        json!({"StringEquals": {"aws:username": "alice", "aws:PrincipalType": "User"}}),
        json!({"StringEquals": {"aws:PrincipalTag/team": "blue", "aws:PrincipalAccount": ACCOUNT}}),
        json!({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:user/al*"}}),
        json!({"StringLike": {"aws:userid": "AIDA?????????????????"}}),
        json!({"StringEquals": {"kms:CallerAccount": ACCOUNT, "kms:KeySpec": "SYMMETRIC_DEFAULT"}}),
        json!({"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/app"}}),
        json!({"Bool": {"aws:SecureTransport": true, "aws:ViaAWSService": false, "kms:MultiRegion": false}}),
        json!({"Null": {"kms:ViaService": true, "kms:RequestAlias": true, "aws:SourceVpce": true}}),
        json!({"StringEquals": {"kms:EncryptionAlgorithm": "SYMMETRIC_DEFAULT", "kms:KeyOrigin": "AWS_KMS"}}),
        json!({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z", "aws:EpochTime": "1577836800"}}),
        json!({"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}),
    ] {
        assert!(with(holds.clone()).await, "{holds}");
    }
    for fails in [
        json!({"StringEquals": {"aws:PrincipalTag/team": "red"}}),
        json!({"StringEquals": {"kms:RequestAlias": "alias/app"}}),
        json!({"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/other"}}),
        json!({"StringLike": {"kms:ViaService": "*"}}),
    ] {
        assert!(!with(fails.clone()).await, "{fails}");
    }
    attach(&kms, ALICE, "Only", &condition(json!({"StringEquals": {"kms:RequestAlias": "alias/app"}})))
        .unwrap();
    encrypt(&alice, "alias/app").await.unwrap();
    // Of an operation's own parameters.
    let days =
        condition(json!({"NumericGreaterThanEquals": {"kms:ScheduleKeyDeletionPendingWindowInDays": 20}}));
    attach(&kms, ALICE, "Only", &days).unwrap();
    let schedule = |days| alice.schedule_key_deletion().key_id(&key).pending_window_in_days(days).send();
    assert_eq!(refusal(schedule(7).await).0, "AccessDeniedException");
    schedule(20).await.unwrap();
}

#[tokio::test]
async fn a_role_has_its_policies_in_every_session_and_a_root_user_needs_none() {
    let kms = Kms::start().await;
    let key = key_with(&kms, None).await;
    attach(&kms, "arn:aws:iam::111122223333:role/app", "Use", &json!([allow("kms:Encrypt", "*")])).unwrap();
    for session in ["one", "two"] {
        let client = kms.stranger(&format!("arn:aws:sts::111122223333:assumed-role/app/{session}"));
        assert_eq!(encrypt(&client, &key).await, Ok(()));
    }
    let root = kms.stranger("arn:aws:iam::111122223333:root");
    assert_eq!(encrypt(&root, &key).await, Ok(()));
    root.list_keys().send().await.unwrap();
    let foreign = kms.stranger("arn:aws:iam::444455556666:root");
    let who = "arn:aws:iam::444455556666:root";
    assert_eq!(encrypt(&foreign, &key).await, Err(denied(who, "kms:Encrypt", &key, NO_RESOURCE)));
}

#[tokio::test]
async fn the_lockout_check_takes_identity_policies_into_account() {
    let kms = Kms::start().await;
    let alice = kms.stranger(ALICE);
    let lockout = "The new key policy will not allow you to update the key policy in the future.";
    attach(&kms, ALICE, "Make", &json!([allow("kms:CreateKey", "*")])).unwrap();
    let create = || alice.create_key().send();
    assert_eq!(refusal(create().await), refused("MalformedPolicyDocumentException", lockout));
    attach(&kms, ALICE, "Put", &json!([allow("kms:PutKeyPolicy", "*")])).unwrap();
    create().await.unwrap();
}

#[tokio::test]
async fn what_iam_would_refuse_is_refused_in_its_words() {
    let kms = Kms::start().await;
    let put = |principal: &str, name: &str, document: &str| {
        let (principal, name, document) = (principal.to_owned(), name.to_owned(), document.to_owned());
        let done = kms.server.put_identity_policy(&IdentityPolicyRecord { principal, name, document });
        match done.unwrap_err() {
            KmsError::Iam { code, message } => (code, message),
            other => panic!("{other}"),
        }
    };
    let good = json!({"Version": "2012-10-17", "Statement": [allow("kms:*", "*")]}).to_string();
    assert_eq!(put(ALICE, "p", "{}"), ("MalformedPolicyDocument", "Syntax errors in policy.".to_owned()));
    assert_eq!(put(ALICE, "p q", &good).0, "ValidationError");
    assert_eq!(put("arn:aws:iam::111122223333:root", "p", &good).0, "ValidationError");
    let sids = (0..60).map(|number| {
        let mut statement = allow("kms:Encrypt", "*");
        statement["Sid"] = format!("S{number}").into();
        statement
    });
    let long = json!({"Version": "2012-10-17", "Statement": sids.collect::<Vec<_>>()}).to_string();
    assert_eq!(
        put(ALICE, "p", &long),
        ("LimitExceeded", "Maximum policy size of 2048 bytes exceeded for user alice".to_owned())
    );
    // A role may have more.
    let role = "arn:aws:iam::111122223333:role/app".to_owned();
    let policy = IdentityPolicyRecord { principal: role, name: "p".into(), document: long };
    kms.server.put_identity_policy(&policy).unwrap();
}

#[tokio::test]
async fn policies_survive_a_restart() {
    let kms = Kms::start().await;
    let key = key_with(&kms, None).await;
    let user = User::generate(ALICE, false).unwrap();
    kms.server.add_user(&user).unwrap();
    attach(&kms, ALICE, "Use", &json!([allow("kms:Encrypt", "*")])).unwrap();
    let kms = kms.restart().await;
    assert_eq!(encrypt(&kms.client(&user), &key).await, Ok(()));
    let names: Vec<_> = kms.server.identity_policies(ALICE).unwrap().into_iter().map(|p| p.name).collect();
    assert_eq!(names, ["Use"]);
}

/// A KMS that speaks HTTP without TLS.
async fn plain(adjust: impl FnOnce(&mut KmsConfig)) -> Kms {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    adjust(&mut config);
    Kms::serve(folder, config, Transport::Plain).await
}

/// Status and body of the answer.
async fn ask(kms: &Kms, method: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}"
    );
    let mut stream = TcpStream::connect(("127.0.0.1", kms.port)).await.unwrap();
    stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn policies_are_put_over_http_where_that_was_asked_for() {
    let kms = plain(|config| config.iam_endpoint = true).await;
    let good = json!({"Version": "2012-10-17", "Statement": [allow("kms:Encrypt", "*")]}).to_string();
    let path = "/_adyton/iam/arn:aws:iam::111122223333:user/alice/Use";
    assert_eq!(ask(&kms, "PUT", path, &good).await, (200, "{}".to_owned()));
    let encoded = "/_adyton/iam/arn%3Aaws%3Aiam%3A%3A111122223333%3Auser%2Falice";
    let listed = json!({"Policies": [{"Name": "Use", "Policy": good}]}).to_string();
    assert_eq!(ask(&kms, "GET", encoded, "").await, (200, listed));
    let (status, body) = ask(&kms, "PUT", path, "[]").await;
    let malformed = json!({"__type": "MalformedPolicyDocument", "message": "Syntax errors in policy."});
    assert_eq!((status, body), (400, malformed.to_string()));
    assert_eq!(ask(&kms, "DELETE", path, "").await, (200, "{}".to_owned()));
    assert_eq!(ask(&kms, "DELETE", path, "").await.0, 404);
    assert_eq!(ask(&kms, "POST", path, "").await.0, 405);
    assert_eq!(ask(&kms, "PUT", "/_adyton/iam/alice", &good).await.0, 400);

    let closed = plain(|_| ()).await;
    assert_eq!(ask(&closed, "PUT", path, &good).await.0, 404);
}
