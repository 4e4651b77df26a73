//! Grants: made, used, bound, passed on, listed, retired, revoked.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_sdk_kms::Client;
use aws_sdk_kms::operation::create_grant::builders::CreateGrantFluentBuilder;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{GrantConstraints, GrantOperation, KeySpec, KeyUsageType};
use serde_json::json;

use crate::harness::{Kms, config, refusal, refused};
use adyton_simulator::kms::{Faults, IdentityPolicyRecord, KmsServer, Transport, User};

const ALICE: &str = "arn:aws:iam::111122223333:user/alice";
const BOB: &str = "arn:aws:iam::111122223333:user/bob";
const OTHER: &str = "arn:aws:iam::444455556666:user/other";

struct Scene {
    kms: Kms,
    administrator: Client,
    key: String,
}

impl Scene {
    async fn new() -> Self {
        let kms = Kms::start().await;
        let administrator = kms.administrator();
        let key = administrator.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
        Self { kms, administrator, key }
    }

    fn grant(&self, to: &str, operations: &[GrantOperation]) -> CreateGrantFluentBuilder {
        let call = self.administrator.create_grant().key_id(&self.key).grantee_principal(to);
        operations.iter().fold(call, |call, operation| call.operations(operation.clone()))
    }

    async fn encrypt(
        &self,
        client: &Client,
        context: &[(&str, &str)],
    ) -> Result<(), (String, Option<String>)> {
        let call = client.encrypt().key_id(&self.key).plaintext(Blob::new("x"));
        let call = context.iter().fold(call, |call, (key, value)| call.encryption_context(*key, *value));
        let answer = call.send().await;
        if answer.is_ok() { Ok(()) } else { Err(refusal(answer)) }
    }

    fn denied(&self, who: &str, action: &str) -> (String, Option<String>) {
        let text = format!(
            "User: {who} is not authorized to perform: {action} on resource: {} because no identity-based policy \
             allows the {action} action",
            self.key
        );
        refused("AccessDeniedException", &text)
    }

    async fn listed(&self) -> Vec<String> {
        let listed = self.administrator.list_grants().key_id(&self.key).send().await.unwrap();
        listed.grants().iter().map(|grant| grant.grant_id().unwrap().to_owned()).collect()
    }
}

fn attach(kms: &Kms, principal: &str, action: &str) {
    let document = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": action, "Resource": "*"},
    ]});
    let policy = IdentityPolicyRecord {
        principal: principal.into(),
        name: "p".into(),
        document: document.to_string(),
    };
    kms.server.put_identity_policy(&policy).unwrap();
}

fn constraints(equals: &[(&str, &str)], subset: &[(&str, &str)]) -> GrantConstraints {
    let built = GrantConstraints::builder();
    let built = equals.iter().fold(built, |built, (k, v)| built.encryption_context_equals(*k, *v));
    subset.iter().fold(built, |built, (k, v)| built.encryption_context_subset(*k, *v)).build()
}

#[tokio::test]
async fn a_grant_allows_its_operations_to_its_grantee_until_it_is_revoked() {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.kms.stranger(ALICE), scene.kms.stranger(BOB));
    assert_eq!(scene.encrypt(&alice, &[]).await, Err(scene.denied(ALICE, "kms:Encrypt")));
    let made = scene.grant(ALICE, &[GrantOperation::Encrypt]).send().await.unwrap();
    let id = made.grant_id().unwrap();
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert!(made.grant_token().unwrap().len() > 100);
    assert_eq!(scene.encrypt(&alice, &[]).await, Ok(()));
    assert_eq!(scene.encrypt(&bob, &[]).await, Err(scene.denied(BOB, "kms:Encrypt")));
    let data_key = alice.generate_data_key().key_id(&scene.key).number_of_bytes(8).send().await;
    assert_eq!(refusal(data_key), scene.denied(ALICE, "kms:GenerateDataKey"));

    let revoke = |id: &str| scene.administrator.revoke_grant().key_id(&scene.key).grant_id(id).send();
    revoke(id).await.unwrap();
    assert_eq!(scene.encrypt(&alice, &[]).await, Err(scene.denied(ALICE, "kms:Encrypt")));
    assert_eq!(refusal(revoke(id).await).0, "NotFoundException");
    let by_alice = alice.revoke_grant().key_id(&scene.key).grant_id(id).send().await;
    assert_eq!(refusal(by_alice), scene.denied(ALICE, "kms:RevokeGrant"));
}

#[tokio::test]
async fn constraints_bind_the_encryption_context() {
    let scene = Scene::new().await;
    let alice = scene.kms.stranger(ALICE);
    let denied = Err(scene.denied(ALICE, "kms:Encrypt"));
    let bound = |equals: &[(&str, &str)], subset: &[(&str, &str)]| {
        scene
            .grant(ALICE, &[GrantOperation::Encrypt, GrantOperation::DescribeKey])
            .constraints(constraints(equals, subset))
    };
    let made = bound(&[("tenant", "a"), ("object", "1")], &[]).send().await.unwrap();
    for (context, allowed) in [
        (&[("tenant", "a"), ("object", "1")][..], true),
        (&[("Tenant", "a"), ("OBJECT", "1")], true),
        (&[("tenant", "A"), ("object", "1")], false),
        (&[("tenant", "a")], false),
        (&[("tenant", "a"), ("object", "1"), ("more", "x")], false),
        (&[], false),
    ] {
        let expected = if allowed { Ok(()) } else { denied.clone() };
        assert_eq!(scene.encrypt(&alice, context).await, expected, "equals, {context:?}");
    }
    // They concern operations with an encryption context alone.
    alice.describe_key().key_id(&scene.key).send().await.unwrap();
    scene.administrator.revoke_grant().key_id(&scene.key).set_grant_id(made.grant_id).send().await.unwrap();

    bound(&[], &[("tenant", "a")]).send().await.unwrap();
    for (context, allowed) in [
        (&[("tenant", "a")][..], true),
        (&[("tenant", "a"), ("more", "x")], true),
        (&[("tenant", "b")], false),
        (&[("more", "a")], false),
        (&[], false),
    ] {
        let expected = if allowed { Ok(()) } else { denied.clone() };
        assert_eq!(scene.encrypt(&alice, context).await, expected, "subset, {context:?}");
    }
}

#[tokio::test]
async fn a_grant_never_helps_against_a_deny() {
    let scene = Scene::new().await;
    let alice = scene.kms.stranger(ALICE);
    scene.grant(ALICE, &[GrantOperation::Encrypt]).send().await.unwrap();
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Deny", "Principal": {"AWS": ALICE}, "Action": "kms:Encrypt", "Resource": "*"},
    ]});
    scene.administrator.put_key_policy().key_id(&scene.key).policy(policy.to_string()).send().await.unwrap();
    let text = format!(
        "User: {ALICE} is not authorized to perform: kms:Encrypt on resource: {} with an explicit deny in a \
         resource-based policy",
        scene.key
    );
    assert_eq!(scene.encrypt(&alice, &[]).await, Err(refused("AccessDeniedException", &text)));
}

#[tokio::test]
async fn a_grant_reaches_roles_in_every_session_and_other_accounts() {
    let scene = Scene::new().await;
    scene.grant("arn:aws:iam::111122223333:role/app", &[GrantOperation::Encrypt]).send().await.unwrap();
    let session = scene.kms.stranger("arn:aws:sts::111122223333:assumed-role/app/one");
    assert_eq!(scene.encrypt(&session, &[]).await, Ok(()));
    scene.grant(OTHER, &[GrantOperation::Encrypt]).send().await.unwrap();
    assert_eq!(scene.encrypt(&scene.kms.stranger(OTHER), &[]).await, Ok(()));
}

#[tokio::test]
async fn the_same_name_and_content_is_the_same_grant_with_a_new_token() {
    let scene = Scene::new().await;
    let make = |name: &str, operation| scene.grant(ALICE, &[operation]).name(name).send();
    let first = make("one", GrantOperation::Encrypt).await.unwrap();
    let again = make("one", GrantOperation::Encrypt).await.unwrap();
    assert_eq!(first.grant_id, again.grant_id);
    assert_ne!(first.grant_token, again.grant_token);
    let other = make("one", GrantOperation::Decrypt).await.unwrap();
    assert_ne!(first.grant_id, other.grant_id);
    let unnamed = || scene.grant(ALICE, &[GrantOperation::Encrypt]).send();
    assert_ne!(unnamed().await.unwrap().grant_id, unnamed().await.unwrap().grant_id);
    assert_eq!(scene.listed().await.len(), 4);
    // Both tokens are good, and for one grant.
    let retire = |token: Option<String>| scene.administrator.retire_grant().set_grant_token(token).send();
    retire(again.grant_token).await.unwrap();
    assert_eq!(refusal(retire(first.grant_token).await).0, "InvalidGrantTokenException");
    assert_eq!(scene.listed().await.len(), 3);
}

#[tokio::test]
async fn a_dry_run_makes_and_removes_nothing() {
    let scene = Scene::new().await;
    let text = "The request would have succeeded, but the DryRun option is set.";
    let dry = refused("DryRunOperationException", text);
    let create = scene.grant(ALICE, &[GrantOperation::Encrypt]);
    assert_eq!(refusal(create.clone().dry_run(true).send().await), dry);
    assert_eq!(scene.listed().await.len(), 0);
    let id = create.send().await.unwrap().grant_id.unwrap();
    let admin = &scene.administrator;
    let revoke = admin.revoke_grant().key_id(&scene.key).grant_id(&id).dry_run(true).send().await;
    assert_eq!(refusal(revoke), dry);
    let retire = admin.retire_grant().key_id(&scene.key).grant_id(&id).dry_run(true).send().await;
    assert_eq!(refusal(retire), dry);
    assert_eq!(scene.listed().await, [id]);
}

#[tokio::test]
async fn what_a_grant_cannot_be_is_refused() {
    let scene = Scene::new().await;
    let admin = &scene.administrator;
    let nobody = scene.grant("alice", &[GrantOperation::Encrypt]).send().await;
    assert_eq!(
        refusal(nobody),
        refused("InvalidArnException", "ARN does not refer to a valid principal: alice")
    );
    let unknown = scene.grant(ALICE, &[GrantOperation::from("Destroy")]).send().await;
    let (code, text) = refusal(unknown);
    assert_eq!(code, "ValidationException");
    assert!(
        text.unwrap().starts_with(
            "1 validation error detected: Value '[Destroy]' at 'operations' failed to satisfy constraint: Member must \
             satisfy constraint: [Member must satisfy enum value set: [Decrypt, Encrypt, GenerateDataKey,"
        )
    );
    let none = admin.create_grant().key_id(&scene.key).grantee_principal(ALICE).send().await;
    let text = "1 validation error detected: Value null at 'operations' failed to satisfy constraint: Member must not be null";
    assert_eq!(refusal(none), refused("ValidationException", text));
    let name = scene.grant(ALICE, &[GrantOperation::Encrypt]).name("not a name").send().await;
    assert_eq!(refusal(name).0, "ValidationException");
    // Operations that the key does not have.
    let sign = scene.grant(ALICE, &[GrantOperation::Encrypt, GrantOperation::Sign]).send().await;
    let text = format!(
        "Grant operation Sign is not supported for {} with key usage ENCRYPT_DECRYPT and key spec SYMMETRIC_DEFAULT.",
        scene.key
    );
    assert_eq!(refusal(sign), refused("ValidationException", &text));
    let signing = admin.create_key().key_spec(KeySpec::EccNistP256).key_usage(KeyUsageType::SignVerify);
    let signing = signing.send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let on_signing =
        |operation| admin.create_grant().key_id(&signing).grantee_principal(ALICE).operations(operation);
    on_signing(GrantOperation::Sign).send().await.unwrap();
    let bound = on_signing(GrantOperation::Sign).constraints(constraints(&[], &[("a", "b")])).send().await;
    assert_eq!(refusal(bound).0, "ValidationException");
    assert_eq!(refusal(on_signing(GrantOperation::Encrypt).send().await).0, "ValidationException");
    // A disabled key takes none.
    admin.disable_key().key_id(&scene.key).send().await.unwrap();
    let disabled = scene.grant(ALICE, &[GrantOperation::Encrypt]).send().await;
    assert_eq!(refusal(disabled), refused("DisabledException", &format!("{} is disabled.", scene.key)));
}

#[tokio::test]
async fn who_holds_create_grant_passes_on_no_more_than_he_has() {
    let scene = Scene::new().await;
    let alice = scene.kms.stranger(ALICE);
    let held = [GrantOperation::Encrypt, GrantOperation::CreateGrant];
    scene.grant(ALICE, &held).constraints(constraints(&[], &[("tenant", "a")])).send().await.unwrap();
    let pass = |operation, pairs: &[(&str, &str)]| {
        let call = alice.create_grant().key_id(&scene.key).grantee_principal(BOB).operations(operation);
        call.constraints(constraints(&[], pairs)).send()
    };
    pass(GrantOperation::Encrypt, &[("tenant", "a"), ("object", "1")]).await.unwrap();
    let denied = scene.denied(ALICE, "kms:CreateGrant");
    assert_eq!(refusal(pass(GrantOperation::Encrypt, &[("tenant", "b")]).await), denied);
    assert_eq!(refusal(pass(GrantOperation::Encrypt, &[]).await), denied);
    assert_eq!(refusal(pass(GrantOperation::Decrypt, &[("tenant", "a")]).await), denied);
}

#[tokio::test]
async fn grants_are_retired_by_whom_they_name_and_whom_iam_allows() {
    let scene = Scene::new().await;
    let (alice, bob) = (scene.kms.stranger(ALICE), scene.kms.stranger(BOB));
    let grant = |operations: &[GrantOperation]| scene.grant(ALICE, operations).retiring_principal(BOB).send();
    let retire = |client: &Client, token: Option<String>| client.retire_grant().set_grant_token(token).send();
    // The retiring principal, by token; then by key and id.
    let made = grant(&[GrantOperation::Encrypt]).await.unwrap();
    assert_eq!(
        refusal(retire(&alice, made.grant_token.clone()).await),
        scene.denied(ALICE, "kms:RetireGrant")
    );
    retire(&bob, made.grant_token).await.unwrap();
    let made = grant(&[GrantOperation::Encrypt]).await.unwrap();
    bob.retire_grant().key_id(&scene.key).set_grant_id(made.grant_id).send().await.unwrap();
    // The grantee, if the grant says so.
    let made = grant(&[GrantOperation::Encrypt, GrantOperation::RetireGrant]).await.unwrap();
    retire(&alice, made.grant_token).await.unwrap();
    // Somebody with an identity policy in the key's account.
    let carol = "arn:aws:iam::111122223333:user/carol";
    let made = grant(&[GrantOperation::Encrypt]).await.unwrap();
    let client = scene.kms.stranger(carol);
    assert_eq!(
        refusal(retire(&client, made.grant_token.clone()).await),
        scene.denied(carol, "kms:RetireGrant")
    );
    attach(&scene.kms, carol, "kms:RetireGrant");
    retire(&client, made.grant_token).await.unwrap();
    assert_eq!(scene.listed().await.len(), 0);

    assert_eq!(
        refusal(retire(&bob, Some("no token".into())).await),
        ("InvalidGrantTokenException".into(), None)
    );
    assert_eq!(refusal(bob.retire_grant().send().await).0, "ValidationException");
    let unknown = bob.retire_grant().key_id(&scene.key).grant_id("0".repeat(64)).send().await;
    assert_eq!(refusal(unknown).0, "NotFoundException");
}

#[tokio::test]
async fn grants_are_listed_in_pages_and_by_grantee_and_retiring_principal() {
    let scene = Scene::new().await;
    let admin = &scene.administrator;
    for _ in 0..3 {
        scene.grant(ALICE, &[GrantOperation::Encrypt]).retiring_principal(BOB).send().await.unwrap();
    }
    let named = scene.grant(BOB, &[GrantOperation::Decrypt, GrantOperation::Encrypt]).name("n/1");
    let last = named.constraints(constraints(&[("a", "b")], &[])).send().await.unwrap().grant_id.unwrap();
    let all = scene.listed().await;
    assert_eq!(all.len(), 4);
    let mut paged = Vec::new();
    let mut marker = None;
    loop {
        let page = admin.list_grants().key_id(&scene.key).limit(2).set_marker(marker).send().await.unwrap();
        assert!(page.grants().len() <= 2);
        paged.extend(page.grants().iter().map(|grant| grant.grant_id().unwrap().to_owned()));
        assert_eq!(page.truncated, page.next_marker.is_some());
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(paged, all);
    let bobs = admin.list_grants().key_id(&scene.key).grantee_principal(BOB).send().await.unwrap();
    let [grant] = bobs.grants() else { panic!("{bobs:?}") };
    assert_eq!(grant.grant_id(), Some(last.as_str()));
    assert_eq!((grant.name(), grant.key_id()), (Some("n/1"), Some(scene.key.as_str())));
    assert_eq!(grant.issuing_account(), Some("arn:aws:iam::111122223333:root"));
    assert_eq!(grant.operations(), [GrantOperation::Decrypt, GrantOperation::Encrypt]);
    assert_eq!(grant.constraints().unwrap().encryption_context_equals().unwrap()["a"], "b");
    assert!(grant.retiring_principal().is_none() && grant.creation_date().is_some());
    let one = admin.list_grants().key_id(&scene.key).grant_id(&last).send().await.unwrap();
    assert_eq!(one.grants().len(), 1);
    let retirable = admin.list_retirable_grants().retiring_principal(BOB).limit(2).send().await.unwrap();
    assert_eq!((retirable.grants().len(), retirable.truncated), (2, true));
    let rest = admin.list_retirable_grants().retiring_principal(BOB).set_marker(retirable.next_marker);
    assert_eq!(rest.send().await.unwrap().grants().len(), 1);
    let marker = admin.list_grants().key_id(&scene.key).marker("x").send().await;
    assert_eq!(refusal(marker).0, "InvalidMarkerException");
    let by_alice = scene.kms.stranger(ALICE).list_grants().key_id(&scene.key).send().await;
    assert_eq!(refusal(by_alice), scene.denied(ALICE, "kms:ListGrants"));
}

// K-20
#[tokio::test]
async fn a_young_grant_is_seen_by_its_token_while_reads_are_stale() {
    let scene = Scene::new().await;
    let alice = scene.kms.stranger(ALICE);
    scene.kms.server.set_faults(Faults { stale_ms: u64::MAX, ..Faults::default() });
    let made = scene.grant(ALICE, &[GrantOperation::Encrypt]).send().await.unwrap();
    assert_eq!(scene.encrypt(&alice, &[]).await, Err(scene.denied(ALICE, "kms:Encrypt")));
    let with =
        |token: &str| alice.encrypt().key_id(&scene.key).plaintext(Blob::new("x")).grant_tokens(token).send();
    with(made.grant_token().unwrap()).await.unwrap();
    assert_eq!(refusal(with("bm8").await), ("InvalidGrantTokenException".into(), None));
    scene.kms.server.set_faults(Faults::default());
    assert_eq!(scene.encrypt(&alice, &[]).await, Ok(()));
}

#[tokio::test]
async fn policies_can_say_which_grants_are_made() {
    let scene = Scene::new().await;
    let alice = scene.kms.stranger(ALICE);
    let document = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "kms:CreateGrant", "Resource": "*",
        "Condition": {
            "ForAllValues:StringEquals": {"kms:GrantOperations": ["Encrypt", "DescribeKey"]},
            "StringEquals": {"kms:GranteePrincipal": BOB, "kms:GrantConstraintType": "EncryptionContextSubset"},
            "Bool": {"kms:GrantIsForAWSResource": false},
            "Null": {"kms:RetiringPrincipal": false},
        },
    }]});
    let policy =
        IdentityPolicyRecord { principal: ALICE.into(), name: "p".into(), document: document.to_string() };
    scene.kms.server.put_identity_policy(&policy).unwrap();
    let make = |to: &str, operation| {
        let call = alice.create_grant().key_id(&scene.key).grantee_principal(to).operations(operation);
        call.retiring_principal(ALICE).constraints(constraints(&[], &[("a", "b")]))
    };
    make(BOB, GrantOperation::Encrypt).send().await.unwrap();
    let denied = scene.denied(ALICE, "kms:CreateGrant");
    assert_eq!(refusal(make(ALICE, GrantOperation::Encrypt).send().await), denied);
    assert_eq!(refusal(make(BOB, GrantOperation::Decrypt).send().await), denied);
    let unbound = make(BOB, GrantOperation::Encrypt).set_constraints(None).send().await;
    assert_eq!(refusal(unbound), denied);
    let forever = make(BOB, GrantOperation::Encrypt).set_retiring_principal(None).send().await;
    assert_eq!(refusal(forever), denied);
}

#[tokio::test]
async fn grants_survive_a_restart() {
    let scene = Scene::new().await;
    let user = User::generate(ALICE, false).unwrap();
    scene.kms.server.add_user(&user).unwrap();
    let made = scene.grant(ALICE, &[GrantOperation::Encrypt]).send().await.unwrap();
    let kms = scene.kms.restart().await;
    let scene = Scene { administrator: kms.administrator(), key: scene.key, kms };
    assert_eq!(scene.encrypt(&scene.kms.client(&user), &[]).await, Ok(()));
    scene.administrator.retire_grant().set_grant_token(made.grant_token).send().await.unwrap();
    assert_eq!(scene.listed().await.len(), 0);
}

#[tokio::test]
async fn grants_go_with_their_key() {
    let scene = Scene::new().await;
    let grant = scene.grant(ALICE, &[GrantOperation::Encrypt]).retiring_principal(BOB).send().await.unwrap();
    let admin = &scene.administrator;
    admin.schedule_key_deletion().key_id(&scene.key).pending_window_in_days(7).send().await.unwrap();
    // Until then they are listed and can be retired, and no new ones are made.
    assert_eq!(scene.listed().await, [grant.grant_id().unwrap()]);
    let more = scene.grant(ALICE, &[GrantOperation::Encrypt]).send().await;
    let pending = format!("{} is pending deletion.", scene.key);
    assert_eq!(refusal(more), refused("KMSInvalidStateException", &pending));
    let retirable = || admin.list_retirable_grants().retiring_principal(BOB).send();
    assert_eq!(retirable().await.unwrap().grants().len(), 1);

    // A start after the window's end removes both for good.
    let folder = scene.kms.stop().await;
    let later = SystemTime::now() + Duration::from_hours(7 * 24) + Duration::from_mins(1);
    let mut again = config(folder.path());
    again.clock = Arc::new(move || later);
    drop(KmsServer::open(again).unwrap());
    let again = config(folder.path());
    let kms = Kms::serve(folder, again, Transport::Tls).await;
    let admin = kms.administrator();
    assert!(admin.list_retirable_grants().retiring_principal(BOB).send().await.unwrap().grants().is_empty());
    let retire = admin.retire_grant().set_grant_token(grant.grant_token).send().await;
    assert_eq!(refusal(retire).0, "InvalidGrantTokenException");
}
