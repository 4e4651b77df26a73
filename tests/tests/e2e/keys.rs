//! Data keys: released to one image, for one payload, by one key, over one connection.

use adyton_shared::ErrorCode;
use adyton_shared::job::Input;
use adyton_shared::statement::{Purpose, Statement, release_digest};
use adyton_simulator::kms::{Faults, KeyEncryption};
use adyton_simulator::nsm::{NsmConfig, SimulatedNsm};
use adyton_tests::client::{claims, code, digest_job, mask_job};
use adyton_tests::hostile::{Egress, HostileParent, Wallet, now_ms};
use adyton_tests::message::{Recipe, replace};
use adyton_tests::world::World;
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyEncryptionMechanism, RecipientInfo};
use serde_bytes::ByteBuf;

fn wallet(world: &World) -> Wallet {
    Wallet::Profile(world.info.credentials_file.clone(), "enclave")
}

// K-4, K-5, K-7
#[tokio::test]
async fn a_payload_opens_under_its_own_key_context_and_claims_only() {
    let world = World::start().await;
    let (requester, owner) = (world.requester(), world.kms("owner").await);
    let a = Recipe::of("a").seal(&owner, &world.key(), b"the first object").await;
    let b = Recipe::of("b").seal(&owner, &world.key(), b"the other object").await;
    assert_eq!(a.wrapped.len(), b.wrapped.len());
    assert!(requester.run("a", digest_job(), &a.bytes).await.is_ok());

    // K-4: another object's wrapped key under the same KMS key.
    let swapped = a.with_wrapped(&b.wrapped);
    assert_eq!(code(requester.run("a", digest_job(), &swapped).await), ErrorCode::WrappedKeyRejected);

    // K-5: wrapped key and context together, that is, another object for the one that was asked for.
    assert_eq!(code(requester.run("a", digest_job(), &b.bytes).await), ErrorCode::ClaimMismatch);

    // K-7: the frames of one message under the header of another.
    let relocated = [&a.bytes[..a.header_length], b.body()].concat();
    assert_eq!(code(requester.run("a", digest_job(), &relocated).await), ErrorCode::PayloadTampered);
    let relocated = [&b.bytes[..b.header_length], a.body()].concat();
    assert_eq!(code(requester.run("b", digest_job(), &relocated).await), ErrorCode::PayloadTampered);

    assert!(requester.run("b", digest_job(), &b.bytes).await.is_ok());
    world.stop().await;
}

// K-9
#[tokio::test]
async fn only_a_key_that_the_policy_lists_by_its_full_arn_is_asked() {
    let world = World::start().await;
    let (requester, owner) = (world.requester(), world.kms("owner").await);
    let key = world.key();
    let arn = key.as_str();
    let id = arn.rsplit('/').next().expect("an id");
    let names = [
        arn.replace(&format!("key/{id}"), "alias/payments"),
        arn.replace("eu-west-1", "us-east-1"),
        arn.replace("111122223333", "444455556666"),
        arn.replace("arn:aws:", "arn:aws-cn:"),
        // A Cyrillic letter that looks like the Latin one.
        arn.replace("key/", "k\u{435}y/"),
        id.to_owned(),
        format!("{arn} "),
    ];
    for name in names {
        let message = Recipe::of("a").seal_naming(&owner, &key, &name, b"data").await;
        let refused = requester.run("a", digest_job(), &message.bytes).await;
        assert_eq!(code(refused), ErrorCode::NoAllowedKey, "{name}");
    }
    world.stop().await;
}

// K-1, K-9, K-11
#[tokio::test]
async fn an_answer_of_kms_that_does_not_fit_the_question_is_not_used() {
    let world = World::start().await;
    let enclave = world.enclave(|policy| policy).await;
    let parent = HostileParent::start(&enclave.socket, world.info.kms_port, wallet(&world));
    let requester = world.requester_at(&enclave.socket);
    let message = Recipe::of("a").seal(&world.kms("owner").await, &enclave.key, b"data").await;
    let foreign = world.create_key().await;
    let only_decrypt = || Faults { operations: vec!["Decrypt".into()], ..Faults::default() };
    let cases = [
        (Faults { plaintext_despite_recipient: true, ..only_decrypt() }, ErrorCode::KmsPlaintextRefused),
        (Faults { key_id: Some(foreign.to_string()), ..only_decrypt() }, ErrorCode::KmsAnswerRejected),
        (Faults { key_id: Some("alias/payments".into()), ..only_decrypt() }, ErrorCode::KmsAnswerRejected),
        (
            Faults { encryption_algorithm: Some("RSAES_OAEP_SHA_256".into()), ..only_decrypt() },
            ErrorCode::KmsAnswerRejected,
        ),
        (Faults { key_encryption: KeyEncryption::OaepSha1, ..only_decrypt() }, ErrorCode::KmsAnswerRejected),
        (Faults { garbage_next: 1, ..only_decrypt() }, ErrorCode::KmsAnswerRejected),
    ];
    for (faults, expected) in cases {
        world.faults(faults.clone()).await;
        let refused = requester.run("a", digest_job(), &message.bytes).await;
        assert_eq!(code(refused), expected, "{faults:?}");
    }
    world.faults(Faults::default()).await;
    assert!(requester.run("a", digest_job(), &message.bytes).await.is_ok());
    drop(parent);
    world.stop().await;
}

// K-13
#[tokio::test]
async fn a_document_belongs_to_the_request_that_it_was_made_for() {
    let world = World::start().await;
    let owner = world.kms("owner").await;
    let key = world.key();
    let a = Recipe::of("a").seal(&owner, &key, b"data").await;
    let b = Recipe::of("b").seal(&owner, &key, b"data").await;
    world.requester().run("a", digest_job(), &a.bytes).await.expect("a job");
    let matches = |line: &serde_json::Value| {
        line.pointer("/additionalEventData/recipient/documentMatchesRequest").cloned()
    };
    let calls: Vec<_> = world.audit().iter().filter_map(matches).collect();
    assert_eq!(calls, [true], "the enclave's own call");

    // The same document, made for the request about `a`, attached to a request about `b`.
    let pcrs = adyton_simulator::nsm::measure(adyton_tests::process::simulator(), &world.info.policy);
    let nsm = SimulatedNsm::open(NsmConfig::new(world.state.path(), pcrs.expect("measured")));
    let nsm = nsm.expect("the device of the same root");
    let policy = world.requester().challenge().await.expect("genuine").policy;
    assert!(matches!(
        nsm.process(Request::ExtendPCR { index: 16, data: policy.as_bytes().to_vec() }),
        Response::ExtendPCR { .. }
    ));
    assert!(matches!(nsm.process(Request::LockPCR { index: 16 }), Response::LockPCR));
    let recipient = PrivateDecryptingKey::generate(KeySize::Rsa2048).expect("a key");
    let public: PublicKeyX509Der<'_> = recipient.public_key().as_der().expect("its encoding");
    let subject = *release_digest("Decrypt", &key, &a.wrapped, &a.context).as_bytes();
    let statement = Statement { purpose: Purpose::Release, subject, policy };
    let Response::Attestation { document } = nsm.process(Request::Attestation {
        user_data: Some(ByteBuf::from(statement.to_bytes())),
        nonce: None,
        public_key: Some(ByteBuf::from(public.as_ref().to_vec())),
    }) else {
        panic!("no document")
    };
    let enclave = world.kms("enclave").await;
    for (message, expected) in [(&a, true), (&b, false)] {
        let recipient = RecipientInfo::builder()
            .attestation_document(Blob::new(document.clone()))
            .key_encryption_algorithm(KeyEncryptionMechanism::RsaesOaepSha256)
            .build();
        let pairs = message.context.pairs().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        enclave
            .decrypt()
            .key_id(key.as_str())
            .ciphertext_blob(Blob::new(message.wrapped.clone()))
            .set_encryption_context(Some(pairs))
            .recipient(recipient)
            .send()
            .await
            .expect("the measurements are those that the key policy demands");
        let last = world.audit().iter().rev().find_map(matches);
        assert_eq!(last, Some(expected.into()));
    }
    world.stop().await;
}

// K-14
#[tokio::test]
async fn old_payloads_and_replayed_requests_are_refused() {
    let world = World::start().await;
    let enclave = world.enclave(|policy| policy.replace("minimum = 1", "minimum = 7")).await;
    let parent = HostileParent::start(&enclave.socket, world.info.kms_port, wallet(&world));
    let requester = world.requester_at(&enclave.socket);
    let owner = world.kms("owner").await;
    let old = Recipe { version: 6, ..Recipe::of("a") }.seal(&owner, &enclave.key, b"yesterday").await;
    let new = Recipe { version: 8, ..Recipe::of("a") }.seal(&owner, &enclave.key, b"today").await;
    assert_eq!(code(requester.run("a", digest_job(), &old.bytes).await), ErrorCode::VersionTooOld);

    // What the request claims is a floor too.
    let id = requester.enclave().await;
    let mut wanted = claims("a");
    wanted.insert("version".into(), "9".into());
    let (request, signed) = requester.sign_claims(id, wanted, digest_job());
    let refused = requester.carry(&request, signed, &new.bytes[..], requester.dial().await).await;
    assert_eq!(code(refused), ErrorCode::VersionTooOld);

    // Yesterday's valid pair of request and payload, once more.
    let (request, signed) = requester.sign(id, "a", digest_job());
    let first = requester.carry(&request, signed.clone(), &new.bytes[..], requester.dial().await).await;
    assert!(first.is_ok());
    let second = requester.carry(&request, signed, &new.bytes[..], requester.dial().await).await;
    assert_eq!(code(second), ErrorCode::RequestReplayed);
    drop(parent);
    world.stop().await;
}

// K-16
#[tokio::test]
async fn nobody_between_enclave_and_kms_is_taken_for_kms() {
    let world = World::start().await;
    let enclave = world.enclave(|policy| policy).await;
    let parent = HostileParent::start(&enclave.socket, world.info.kms_port, wallet(&world));
    let requester = world.requester_at(&enclave.socket);
    let message = Recipe::of("a").seal(&world.kms("owner").await, &enclave.key, b"data").await;
    let cases = [
        (Egress::Impostor, ErrorCode::KmsTlsRejected),
        (Egress::Close, ErrorCode::KmsUnavailable),
        (Egress::Silent, ErrorCode::KmsUnavailable),
        (Egress::Garbage, ErrorCode::KmsUnavailable),
        (Egress::Corrupt(0), ErrorCode::KmsUnavailable),
        (Egress::Corrupt(3000), ErrorCode::KmsUnavailable),
        (Egress::Truncate(100), ErrorCode::KmsUnavailable),
    ];
    for (egress, expected) in cases {
        parent.egress(egress);
        let refused = requester.run("a", digest_job(), &message.bytes).await;
        assert_eq!(code(refused), expected, "{egress:?}");
    }
    parent.egress(Egress::Carry);
    assert!(requester.run("a", digest_job(), &message.bytes).await.is_ok());
    world.stop().await;
}

// K-20
#[tokio::test]
async fn a_key_that_is_disabled_or_changed_while_a_job_runs_ends_it_by_name() {
    let world = World::start().await;
    let enclave = world.enclave(|policy| policy).await;
    let parent = HostileParent::start(&enclave.socket, world.info.kms_port, wallet(&world));
    let requester = world.requester_at(&enclave.socket);
    let administrator = world.kms("default").await;
    let message = Recipe::of("a").seal(&world.kms("owner").await, &enclave.key, b"{\"id\":1}\n").await;
    let key = enclave.key.as_str();
    let id = requester.enclave().await;

    // The job is admitted and its payload half sent when the administrator disables the key.
    let mut payload = tokio::io::simplex(message.bytes.len() * 2);
    let (request, signed) = requester.sign(id, "a", mask_job(Input::Ndjson));
    let (from, to) = (&mut payload.0, &mut payload.1);
    tokio::io::AsyncWriteExt::write_all(to, &message.bytes[..50]).await.expect("sent");
    let job = requester.carry(&request, signed, from, requester.dial().await);
    let (refused, ()) = tokio::join!(job, async {
        administrator.disable_key().key_id(key).send().await.expect("disabled");
        tokio::io::AsyncWriteExt::write_all(to, &message.bytes[50..]).await.expect("sent");
        tokio::io::AsyncWriteExt::shutdown(to).await.expect("ended");
    });
    assert_eq!(code(refused), ErrorCode::KmsKeyUnusable);

    administrator.enable_key().key_id(key).send().await.expect("enabled");
    assert!(
        requester.run("a", digest_job(), &message.bytes).await.is_ok(),
        "a retry after the cause is gone"
    );

    // The key policy demands another image.
    let mut other = enclave.process.ready["pcrs"].clone();
    other["0"] = "11".repeat(48).into();
    world.demand(&enclave.key, &other).await;
    assert_eq!(code(requester.run("a", digest_job(), &message.bytes).await), ErrorCode::KmsAccessDenied);
    world.demand(&enclave.key, &enclave.process.ready["pcrs"]).await;
    assert!(requester.run("a", digest_job(), &message.bytes).await.is_ok());

    administrator
        .schedule_key_deletion()
        .key_id(key)
        .pending_window_in_days(7)
        .send()
        .await
        .expect("scheduled");
    assert_eq!(code(requester.run("a", digest_job(), &message.bytes).await), ErrorCode::KmsKeyUnusable);
    drop(parent);
    world.stop().await;
}

#[tokio::test]
async fn throttling_and_failures_are_sat_out_within_the_deadline_and_named_after_it() {
    let world = World::start().await;
    // The pauses between attempts are random: this one has time for many.
    let patient = |policy: String| policy.replace("deadline_seconds = 3", "deadline_seconds = 60");
    let enclave = world.enclave(patient).await;
    let parent = HostileParent::start(&enclave.socket, world.info.kms_port, wallet(&world));
    let requester = world.requester_at(&enclave.socket);
    let message = Recipe::of("a").seal(&world.kms("owner").await, &enclave.key, b"data").await;
    for faults in [
        Faults { throttle_until_unix_ms: now_ms() + 1000, ..Faults::default() },
        Faults { throttle_next: 2, ..Faults::default() },
        Faults { fail_next: 2, ..Faults::default() },
        Faults { drop_next: 2, ..Faults::default() },
        Faults { latency_ms: 300, ..Faults::default() },
    ] {
        world.faults(faults.clone()).await;
        let done = requester.run("a", digest_job(), &message.bytes).await;
        assert!(done.is_ok(), "{faults:?}: {done:?}");
    }
    drop(parent);

    world.faults(Faults::default()).await;
    let enclave = world.enclave(|policy| policy).await;
    let parent = HostileParent::start(&enclave.socket, world.info.kms_port, wallet(&world));
    let requester = world.requester_at(&enclave.socket);
    let message = Recipe::of("a").seal(&world.kms("owner").await, &enclave.key, b"data").await;
    world.faults(Faults { throttle_until_unix_ms: now_ms() + 600_000, ..Faults::default() }).await;
    assert_eq!(code(requester.run("a", digest_job(), &message.bytes).await), ErrorCode::KmsThrottled);
    world.faults(Faults { fail_next: u32::MAX, ..Faults::default() }).await;
    assert_eq!(code(requester.run("a", digest_job(), &message.bytes).await), ErrorCode::KmsUnavailable);
    world.faults(Faults::default()).await;
    assert!(requester.run("a", digest_job(), &message.bytes).await.is_ok());
    drop(parent);
    world.stop().await;
}

#[tokio::test]
async fn credentials_that_are_missing_expired_or_unknown_are_named_and_can_be_mended() {
    let world = World::start().await;
    let enclave = world.enclave(|policy| policy).await;
    let parent = HostileParent::start(&enclave.socket, world.info.kms_port, Wallet::None);
    let requester = world.requester_at(&enclave.socket);
    let message = Recipe::of("a").seal(&world.kms("owner").await, &enclave.key, b"data").await;
    let file = world.info.credentials_file.clone();
    let cases = [
        (Wallet::None, ErrorCode::CredentialsUnavailable),
        (Wallet::Garbage, ErrorCode::CredentialsUnavailable),
        (Wallet::Expiring(file.clone(), "enclave", now_ms() - 1000), ErrorCode::CredentialsUnavailable),
        (Wallet::Unknown, ErrorCode::CredentialsRejected),
    ];
    for (wallet, expected) in cases {
        parent.wallet(wallet.clone());
        let refused = requester.run("a", digest_job(), &message.bytes).await;
        assert_eq!(code(refused), expected, "{wallet:?}");
    }
    parent.wallet(Wallet::Expiring(file, "enclave", now_ms() + 600_000));
    assert!(requester.run("a", digest_job(), &message.bytes).await.is_ok());
    world.stop().await;
}

// K-2
#[tokio::test]
async fn credentials_of_another_role_or_without_a_document_open_nothing() {
    let world = World::start().await;
    let enclave = world.enclave(|policy| policy).await;
    let file = world.info.credentials_file.clone();
    let parent = HostileParent::start(&enclave.socket, world.info.kms_port, Wallet::Profile(file, "owner"));
    let requester = world.requester_at(&enclave.socket);
    let message = Recipe::of("a").seal(&world.kms("owner").await, &enclave.key, b"data").await;
    assert_eq!(code(requester.run("a", digest_job(), &message.bytes).await), ErrorCode::KmsAccessDenied);

    // The parent has the enclave's own credentials, and asks by itself.
    let pairs = message.context.pairs().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let stolen = world.kms("enclave").await;
    let answer = stolen
        .decrypt()
        .key_id(enclave.key.as_str())
        .ciphertext_blob(Blob::new(message.wrapped.clone()))
        .set_encryption_context(Some(pairs))
        .send()
        .await;
    let error = answer.expect_err("no document, no key").into_service_error();
    assert_eq!(error.meta().code(), Some("AccessDeniedException"));
    drop(parent);
    world.stop().await;
}

#[tokio::test]
async fn an_older_wrapped_key_in_a_newer_message_is_refused() {
    let world = World::start().await;
    let owner = world.kms("owner").await;
    let old = Recipe::of("a").seal(&owner, &world.key(), b"old").await;
    let new = Recipe { version: 2, ..Recipe::of("a") }.seal(&owner, &world.key(), b"new").await;
    let mixed = replace(&new.bytes, &new.wrapped, &old.wrapped);
    // K-14: the version is part of what the wrapped key is bound to.
    assert_eq!(code(world.requester().run("a", digest_job(), &mixed).await), ErrorCode::WrappedKeyRejected);
    world.stop().await;
}
