//! STS on the same address: who am I, roles and their sessions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::harness::{ACCOUNT, Kms, REGION};
use crate::protocol::{Answer, connect, exchange, signed_as, start, start_with};
use adyton_simulator::kms::{IdentityPolicyRecord, Role, User};
use serde_json::{Value, json};

const ROLE: &str = "arn:aws:iam::111122223333:role/app/reader";
const ALICE: &str = "arn:aws:iam::111122223333:user/alice";
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

fn form(parameters: &[(&str, &str)]) -> Vec<u8> {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect()
    };
    let pairs = parameters.iter().map(|(name, value)| format!("{name}={}", encode(value)));
    let version = [("Version", "2011-06-15")].map(|(name, value)| format!("{name}={value}"));
    pairs.chain(version).collect::<Vec<_>>().join("&").into_bytes()
}

async fn ask_at(
    kms: &Kms,
    user: &User,
    service: &str,
    time: SystemTime,
    parameters: &[(&str, &str)],
) -> Answer {
    let headers = vec![
        ("host".to_owned(), "localhost".to_owned()),
        ("content-type".to_owned(), "application/x-www-form-urlencoded; charset=utf-8".to_owned()),
    ];
    let request = signed_as(user, REGION, service, time, headers, &form(parameters));
    exchange(&mut connect(kms).await, &request).await
}

async fn ask(kms: &Kms, user: &User, parameters: &[(&str, &str)]) -> Answer {
    ask_at(kms, user, "sts", SystemTime::now(), parameters).await
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

/// What stands in the element of that name.
fn element(xml: &str, name: &str) -> String {
    let rest = xml.split(&format!("<{name}>")).nth(1).unwrap_or_else(|| panic!("no {name} in {xml}"));
    rest.split(&format!("</{name}>")).next().unwrap().to_owned()
}

/// Status, code and message of an error.
fn refusal(answer: &Answer) -> (u16, String, String) {
    let xml = text(answer);
    assert!(
        xml.starts_with(&format!("<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type>")),
        "{xml}"
    );
    (answer.status, element(&xml, "Code"), element(&xml, "Message"))
}

fn trust(principal: &str, actions: &[&str], condition: Value) -> String {
    let mut statement = json!({"Effect": "Allow", "Principal": {"AWS": principal}, "Action": actions});
    if !condition.is_null() {
        statement["Condition"] = condition;
    }
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

fn alice(kms: &Kms) -> User {
    let user = User::generate(ALICE, false).unwrap();
    kms.server.add_user(&user).unwrap();
    user
}

fn add_role(kms: &Kms, trust: String) {
    kms.server.add_role(&Role::new(ROLE, trust).unwrap()).unwrap();
}

/// The credentials in an answer of `AssumeRole`, as a user that signs with them.
fn credentials(answer: &Answer) -> User {
    let xml = text(answer);
    assert_eq!(answer.status, 200, "{xml}");
    let mut user = User::generate(element(&xml, "Arn"), false).unwrap();
    user.access_key_id = element(&xml, "AccessKeyId");
    user.secret_access_key = element(&xml, "SecretAccessKey").into();
    user.session_token = Some(element(&xml, "SessionToken").into());
    user
}

const ASSUME: [(&str, &str); 3] =
    [("Action", "AssumeRole"), ("RoleArn", ROLE), ("RoleSessionName", "batch-1")];

#[tokio::test]
async fn everybody_may_ask_who_they_are() {
    let kms = start().await;
    let answer = ask(&kms, &alice(&kms), &[("Action", "GetCallerIdentity")]).await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/xml\r\n"));
    let xml = text(&answer);
    let id = element(&xml, "UserId");
    assert!(id.starts_with("AIDA") && id.len() == 21, "{id}");
    let request = element(&xml, "RequestId");
    assert_eq!(
        xml,
        format!(
            "<GetCallerIdentityResponse xmlns=\"{NAMESPACE}\"><GetCallerIdentityResult><Arn>{ALICE}</Arn><UserId>{id}</UserId>\
             <Account>{ACCOUNT}</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>{request}</RequestId>\
             </ResponseMetadata></GetCallerIdentityResponse>\n"
        )
    );
    let root = User::generate("arn:aws:iam::444455556666:root", false).unwrap();
    kms.server.add_user(&root).unwrap();
    let xml = text(&ask(&kms, &root, &[("Action", "GetCallerIdentity")]).await);
    assert_eq!(element(&xml, "UserId"), "444455556666");
}

#[tokio::test]
async fn a_session_acts_as_its_role_and_is_recorded_as_such() {
    let kms = start().await;
    let user = alice(&kms);
    add_role(&kms, trust(ALICE, &["sts:AssumeRole"], Value::Null));
    let answer = ask(&kms, &user, &ASSUME).await;
    let session = credentials(&answer);
    assert!(session.access_key_id.starts_with("ASIA"));
    let arn = "arn:aws:sts::111122223333:assumed-role/reader/batch-1";
    assert_eq!(session.principal_arn, arn);
    assert!(!text(&answer).contains("PackedPolicySize"));

    let who = text(&ask(&kms, &session, &[("Action", "GetCallerIdentity")]).await);
    assert_eq!(element(&who, "Arn"), arn);
    assert_eq!(element(&who, "UserId"), element(&text(&answer), "AssumedRoleId"));

    // Nothing of its own, until the role has a policy; the policy names the role with its path.
    let call = |body: &'static str| {
        let headers = vec![
            ("host".to_owned(), "localhost".to_owned()),
            ("x-amz-target".to_owned(), "TrentService.ListKeys".to_owned()),
        ];
        signed_as(&session, REGION, "kms", SystemTime::now(), headers, body.as_bytes())
    };
    let denied = exchange(&mut connect(&kms).await, &call("{}")).await;
    assert_eq!((denied.status, &denied.json()["__type"]), (400, &json!("AccessDeniedException")));
    let allow = json!({"Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "kms:ListKeys", "Resource": "*"}});
    let policy =
        IdentityPolicyRecord { principal: ROLE.into(), name: "list".into(), document: allow.to_string() };
    kms.server.put_identity_policy(&policy).unwrap();
    assert_eq!(exchange(&mut connect(&kms).await, &call("{}")).await.status, 200);

    let lines = kms.audit();
    let assumed = &lines[0];
    assert_eq!(assumed["eventSource"], "sts.amazonaws.com");
    assert_eq!(assumed["eventName"], "AssumeRole");
    assert_eq!(assumed["userIdentity"]["type"], "IAMUser");
    assert_eq!(assumed["requestParameters"], json!({"roleArn": ROLE, "roleSessionName": "batch-1"}));
    assert_eq!(assumed["responseElements"]["assumedRoleUser"]["arn"], arn);
    assert_eq!(assumed["resources"], json!([{"accountId": ACCOUNT, "type": "AWS::IAM::Role", "ARN": ROLE}]));
    let listed = lines.last().unwrap();
    assert_eq!(listed["userIdentity"]["type"], "AssumedRole");
    assert_eq!(listed["userIdentity"]["arn"], arn);
    let issuer = &listed["userIdentity"]["sessionContext"]["sessionIssuer"];
    assert_eq!((&issuer["arn"], &issuer["userName"]), (&json!(ROLE), &json!("reader")));
    assert_eq!(issuer["type"], "Role");
    // Who reads the log cannot act as the session.
    let log = std::fs::read_to_string(kms.folder.path().join("kms/audit.ndjson")).unwrap();
    assert!(!log.contains(session.secret_access_key.as_str()));
    assert!(!log.contains(session.session_token.as_ref().unwrap().as_str()));
}

#[tokio::test]
async fn requests_that_sts_refuses_are_refused_in_its_words() {
    let kms = start().await;
    let user = alice(&kms);
    add_role(&kms, trust("arn:aws:iam::111122223333:user/bob", &["sts:AssumeRole"], Value::Null));
    let with = |name: &'static str, value: &'static str| {
        let mut parameters: BTreeMap<&str, &str> = ASSUME.into_iter().collect();
        parameters.insert(name, value);
        parameters.into_iter().collect::<Vec<_>>()
    };
    let not_authorized = format!("User: {ALICE} is not authorized to perform: sts:AssumeRole on resource: ");
    let absent = "arn:aws:iam::111122223333:role/absent";
    let constraint = |text: &str| format!("1 validation error detected: {text}");
    let cases = [
        (ASSUME.to_vec(), 403, "AccessDenied", not_authorized.clone() + ROLE),
        (with("RoleArn", absent), 403, "AccessDenied", not_authorized.clone() + absent),
        (
            with("RoleArn", "arn:aws:iam::111122223333:user/bob"),
            400,
            "ValidationError",
            "arn:aws:iam::111122223333:user/bob is invalid".into(),
        ),
        (
            with("RoleSessionName", "a"),
            400,
            "ValidationError",
            constraint(
                "Value 'a' at 'roleSessionName' failed to satisfy constraint: Member must have length greater than or equal to 2",
            ),
        ),
        (
            with("RoleSessionName", "a b"),
            400,
            "ValidationError",
            constraint(
                r"Value 'a b' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*",
            ),
        ),
        (
            with("DurationSeconds", "899"),
            400,
            "ValidationError",
            constraint(
                "Value '899' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900",
            ),
        ),
        (
            with("DurationSeconds", "43201"),
            400,
            "ValidationError",
            constraint(
                "Value '43201' at 'durationSeconds' failed to satisfy constraint: Member must have value less than or equal to 43200",
            ),
        ),
        (
            vec![("Action", "AssumeRole"), ("RoleArn", ROLE)],
            400,
            "ValidationError",
            constraint(
                "Value null at 'roleSessionName' failed to satisfy constraint: Member must not be null",
            ),
        ),
        (with("Policy", "{}"), 400, "ValidationError", "Policy is not available in the local STS.".into()),
        (
            vec![("Action", "GetFederationToken")],
            400,
            "InvalidAction",
            "Could not find operation GetFederationToken for version 2011-06-15".into(),
        ),
    ];
    for (parameters, status, code, message) in cases {
        assert_eq!(refusal(&ask(&kms, &user, &parameters).await), (status, code.into(), message));
    }
    let root = User::generate("arn:aws:iam::111122223333:root", false).unwrap();
    kms.server.add_user(&root).unwrap();
    assert_eq!(refusal(&ask(&kms, &root, &ASSUME).await).2, "Roles may not be assumed by root accounts.");
}

#[tokio::test]
async fn callers_that_sts_cannot_authenticate_learn_why() {
    let kms = start().await;
    let user = alice(&kms);
    let who = [("Action", "GetCallerIdentity")];
    let forged = User { secret_access_key: "wrong".to_owned().into(), ..user.clone() };
    let (status, code, _) = refusal(&ask(&kms, &forged, &who).await);
    assert_eq!((status, code.as_str()), (403, "SignatureDoesNotMatch"));
    let (status, code, message) = refusal(&ask_at(&kms, &user, "kms", SystemTime::now(), &who).await);
    assert_eq!((status, code.as_str()), (403, "SignatureDoesNotMatch"));
    assert_eq!(
        message,
        "Credential should be scoped to correct service: &apos;sts&apos;. ".replace("&apos;", "'")
    );
    let stranger = User::generate(ALICE, false).unwrap();
    assert_eq!(
        refusal(&ask(&kms, &stranger, &who).await),
        (403, "InvalidClientTokenId".into(), "The security token included in the request is invalid.".into())
    );
    let old = SystemTime::now() - Duration::from_mins(6);
    let (status, code, message) = refusal(&ask_at(&kms, &user, "sts", old, &who).await);
    assert_eq!((status, code.as_str()), (403, "SignatureDoesNotMatch"));
    assert!(message.starts_with("Signature expired: "), "{message}");
    let unsigned =
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
        content-length: 24\r\n\r\nAction=GetCallerIdentity";
    let answer = exchange(&mut connect(&kms).await, unsigned).await;
    assert_eq!(refusal(&answer).1, "MissingAuthenticationToken");
    let presigned = b"POST /?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00 HTTP/1.1\r\nhost: localhost\r\n\
        content-type: application/x-www-form-urlencoded\r\ncontent-length: 24\r\n\r\nAction=GetCallerIdentity";
    let answer = exchange(&mut connect(&kms).await, presigned).await;
    assert_eq!(refusal(&answer).1, "IncompleteSignature");
}

#[tokio::test]
async fn sessions_die_at_their_end_with_their_role_and_under_another_key() {
    let start = SystemTime::now();
    let now = Arc::new(Mutex::new(start));
    let clock = Arc::clone(&now);
    let kms = start_with(move |config| config.clock = Arc::new(move || *clock.lock().unwrap())).await;
    let user = alice(&kms);
    add_role(&kms, trust(ALICE, &["sts:AssumeRole"], Value::Null));
    let mut parameters = ASSUME.to_vec();
    parameters.push(("DurationSeconds", "900"));
    let session = credentials(&ask(&kms, &user, &parameters).await);
    let other = credentials(&ask(&kms, &user, &parameters).await);
    let who = [("Action", "GetCallerIdentity")];
    assert_eq!(ask(&kms, &session, &who).await.status, 200);

    let crossed = User { session_token: other.session_token.clone(), ..session.clone() };
    assert_eq!(refusal(&ask(&kms, &crossed, &who).await).1, "InvalidClientTokenId");
    let bare = User { session_token: None, ..session.clone() };
    assert_eq!(refusal(&ask(&kms, &bare, &who).await).1, "InvalidClientTokenId");

    let end = start + Duration::from_mins(15);
    *now.lock().unwrap() = end - Duration::from_secs(1);
    assert_eq!(ask_at(&kms, &session, "sts", end, &who).await.status, 200);
    *now.lock().unwrap() = end;
    assert_eq!(
        refusal(&ask_at(&kms, &session, "sts", end, &who).await),
        (403, "ExpiredToken".into(), "The security token included in the request is expired".into())
    );

    *now.lock().unwrap() = start;
    assert!(kms.server.remove_role(ROLE).unwrap());
    assert_eq!(refusal(&ask(&kms, &session, &who).await).1, "InvalidClientTokenId");
}

#[tokio::test]
async fn tags_need_their_permission_decide_in_key_policies_and_go_further_when_transitive() {
    let kms = start().await;
    let user = alice(&kms);
    add_role(&kms, trust(ALICE, &["sts:AssumeRole"], Value::Null));
    let mut tagged = ASSUME.to_vec();
    tagged.extend([
        ("Tags.member.1.Key", "tenant"),
        ("Tags.member.1.Value", "a"),
        ("TransitiveTagKeys.member.1", "tenant"),
    ]);
    let (status, code, message) = refusal(&ask(&kms, &user, &tagged).await);
    assert_eq!((status, code.as_str()), (403, "AccessDenied"));
    assert_eq!(
        message,
        format!("User: {ALICE} is not authorized to perform: sts:TagSession on resource: {ROLE}")
    );

    add_role(&kms, trust(ALICE, &["sts:AssumeRole", "sts:TagSession"], Value::Null));
    let answer = ask(&kms, &user, &tagged).await;
    assert_eq!(element(&text(&answer), "PackedPolicySize"), "1");
    let session = credentials(&answer);

    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": ROLE}, "Action": "kms:DescribeKey", "Resource": "*",
            "Condition": {"StringEquals": {"aws:PrincipalTag/tenant": "a"}}},
    ]});
    let create = json!({"Policy": policy.to_string()}).to_string();
    let admin = kms.server.first_administrator().unwrap();
    let kms_call = |user: &User, operation: &str, body: &str| {
        let headers = vec![
            ("host".to_owned(), "localhost".to_owned()),
            ("x-amz-target".to_owned(), format!("TrentService.{operation}")),
        ];
        signed_as(user, REGION, "kms", SystemTime::now(), headers, body.as_bytes())
    };
    let made = exchange(&mut connect(&kms).await, &kms_call(&admin, "CreateKey", &create)).await.json();
    let describe = json!({"KeyId": made["KeyMetadata"]["Arn"]}).to_string();
    assert_eq!(
        exchange(&mut connect(&kms).await, &kms_call(&session, "DescribeKey", &describe)).await.status,
        200
    );
    let untagged = credentials(&ask(&kms, &user, &ASSUME).await);
    assert_eq!(
        exchange(&mut connect(&kms).await, &kms_call(&untagged, "DescribeKey", &describe)).await.status,
        400
    );

    // A second role, assumed by the session of the first.
    let second = "arn:aws:iam::111122223333:role/second";
    let condition = json!({"StringEquals": {"aws:PrincipalTag/tenant": "a"}});
    let second_trust = trust(ROLE, &["sts:AssumeRole"], condition);
    kms.server
        .add_role(&Role { max_session_seconds: 43200, ..Role::new(second, second_trust).unwrap() })
        .unwrap();
    let chained = [("Action", "AssumeRole"), ("RoleArn", second), ("RoleSessionName", "chain")];
    assert_eq!(ask(&kms, &untagged, &chained).await.status, 403);
    assert_eq!(ask(&kms, &session, &chained).await.status, 200);
    let mut long = chained.to_vec();
    long.push(("DurationSeconds", "3601"));
    assert_eq!(
        refusal(&ask(&kms, &session, &long).await).2,
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
    );
}

#[tokio::test]
async fn another_account_needs_both_sides_and_the_external_id() {
    let kms = start().await;
    let bob = User::generate("arn:aws:iam::444455556666:user/bob", false).unwrap();
    kms.server.add_user(&bob).unwrap();
    let condition = json!({"StringEquals": {"sts:ExternalId": "contract-7"}});
    add_role(&kms, trust("arn:aws:iam::444455556666:root", &["sts:AssumeRole"], condition));
    let mut parameters = ASSUME.to_vec();
    parameters.push(("ExternalId", "contract-7"));
    assert_eq!(ask(&kms, &bob, &parameters).await.status, 403);
    let allow = json!({"Version": "2012-10-17",
        "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": ROLE}});
    let policy = IdentityPolicyRecord {
        principal: bob.principal_arn.clone(),
        name: "assume".into(),
        document: allow.to_string(),
    };
    kms.server.put_identity_policy(&policy).unwrap();
    assert_eq!(ask(&kms, &bob, &ASSUME).await.status, 403);
    assert_eq!(ask(&kms, &bob, &parameters).await.status, 200);
    let line = kms.audit().pop().unwrap();
    assert_eq!(line["userIdentity"]["type"], "AWSAccount");
    assert_eq!(line["userIdentity"]["accountId"], "444455556666");
    assert_eq!(line["recipientAccountId"], ACCOUNT);
}
