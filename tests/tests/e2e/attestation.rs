//! Attestation: what an enclave shows, how often, and what follows from it.

use std::sync::Arc;

use adyton_parent::client::{ClientError, Conversation};
use adyton_shared::ErrorCode;
use adyton_shared::frame::{Deadlines, FrameReader, FrameWriter, Kind};
use adyton_shared::id::{EnclaveId, Nonce};
use adyton_shared::message::{self, FromEnclave};
use adyton_shared::statement::Statement;
use adyton_simulator::enclave::{EnclaveConfig, launch};
use adyton_simulator::nsm::SimulatedHost;
use adyton_tests::client::{Requester, code, digest_job};
use adyton_tests::hostile::{HostileParent, Wallet};
use adyton_tests::message::Recipe;
use adyton_tests::process::{PATIENCE, simulator};
use adyton_tests::world::World;
use adyton_verifier::attestation::{AttestationError, parse_unverified};
use aws_nitro_enclaves_nsm_api::api::{ErrorCode as NsmError, Request, Response};
use serde::Serialize;
use serde_bytes::ByteBuf;
use tokio::task::JoinSet;

const DEADLINES: Deadlines = Deadlines { idle: PATIENCE, frame: PATIENCE };

/// A challenge with any nonce, the forbidden ones too.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Challenge {
    Attest { nonce: ByteBuf },
}

async fn answer(requester: &Requester, nonce: Vec<u8>) -> FromEnclave {
    let (read, write) = tokio::io::split(requester.dial().await);
    let question = message::encode(&Challenge::Attest { nonce: ByteBuf::from(nonce) }).expect("encoded");
    FrameWriter::new(write, DEADLINES).send(Kind::Control, &question).await.expect("sent");
    let mut bytes = Vec::new();
    FrameReader::new(read, DEADLINES).next(&mut bytes).await.expect("an answer");
    message::decode(&bytes).expect("a message")
}

fn refused(answer: &FromEnclave) -> Option<ErrorCode> {
    match answer {
        FromEnclave::Refused(refusal) => Some(refusal.code),
        _ => None,
    }
}

// T-1
#[tokio::test]
async fn two_boots_of_one_image_are_two_enclaves() {
    let world = World::start().await;
    let policy = std::fs::read_to_string(&world.info.policy).expect("a policy");
    let mut ids = vec![world.requester().enclave().await];
    for _ in 0..2 {
        let (process, socket, _) = world.launch(&policy, &[], &[]).await.expect("an enclave");
        assert_eq!(process.ready["pcrs"]["0"], world.info.pcrs[&0], "the same image");
        ids.push(world.requester_at(&socket).enclave().await);
        process.stop().await;
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    world.stop().await;
}

// T-2
#[tokio::test]
async fn a_nonce_has_16_to_512_bytes_and_is_answered_once() {
    let world = World::start().await;
    let requester = world.requester();
    for length in [0, 15, 513] {
        let answer = answer(&requester, vec![1; length]).await;
        assert_eq!(refused(&answer), Some(ErrorCode::MalformedMessage), "{length} bytes");
    }
    for length in [16, 512] {
        let first = answer(&requester, vec![1; length]).await;
        let FromEnclave::Document { document } = first else { panic!("{length} bytes: {first:?}") };
        let nonce = parse_unverified(&document).expect("a document").nonce;
        assert_eq!(nonce.as_deref(), Some(vec![1; length].as_slice()));
        let again = answer(&requester, vec![1; length]).await;
        assert_eq!(refused(&again), Some(ErrorCode::NonceRefused), "{length} bytes, again");
    }
    world.stop().await;
}

// T-4
#[tokio::test]
async fn one_byte_of_the_policy_changes_the_measurements() {
    let world = World::start().await;
    let policy = std::fs::read_to_string(&world.info.policy).expect("a policy") + " ";
    let (process, socket, _) = world.launch(&policy, &[], &[]).await.expect("an enclave");
    let pcrs = &process.ready["pcrs"];
    for index in [0, 2, 16] {
        assert_ne!(pcrs[index.to_string()], world.info.pcrs[&index], "PCR{index}");
    }
    assert_eq!(pcrs["1"], world.info.pcrs[&1], "the kernel is the same");
    let (own, other) = (world.requester(), world.requester_at(&socket));
    let (own, other) = (own.challenge().await, other.challenge().await);
    assert_ne!(own.expect("genuine").policy, other.expect("genuine").policy);
    process.stop().await;
    world.stop().await;
}

// T-5
#[tokio::test]
async fn the_policy_register_is_locked_once_the_enclave_runs() {
    let world = World::start().await;
    let policy = std::fs::read(&world.info.policy).expect("a policy");
    let config = EnclaveConfig {
        state_dir: world.state.path().to_owned(),
        socket: world.folder().join("here.sock"),
        executable: simulator().to_owned(),
        debug: false,
        host: SimulatedHost::default(),
    };
    let launched = launch(config, &policy).await.expect("an enclave");
    let before = launched.nsm.process(Request::DescribePCR { index: 16 });
    let Response::DescribePCR { lock: true, data } = before else { panic!("not locked: {before:?}") };
    assert_eq!(hex::encode(&data), world.info.pcrs[&16]);
    let extended = launched.nsm.process(Request::ExtendPCR { index: 16, data: vec![1; 48] });
    assert!(matches!(extended, Response::Error(NsmError::ReadOnlyIndex)), "{extended:?}");
    let after = launched.nsm.process(Request::DescribePCR { index: 16 });
    assert!(matches!(after, Response::DescribePCR { lock: true, data: now } if now == data));
    world.stop().await;
}

// T-6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_challenges_do_not_keep_jobs_from_finishing() {
    const CLIENTS: u16 = 100;
    const CHALLENGES: u16 = 10;
    let world = World::start().await;
    let requester = Arc::new(world.requester());
    let message = Recipe::of("a").seal(&world.kms("owner").await, &world.key(), b"data").await;
    let id = requester.enclave().await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let requester = Arc::clone(&requester);
        clients.spawn(async move {
            let mut answered = 0_u32;
            for challenge in 0..CHALLENGES {
                let nonce = [client.to_be_bytes(), challenge.to_be_bytes()].concat().repeat(8);
                let nonce = Nonce::try_from(nonce).expect("32 bytes");
                match Conversation::new(requester.dial().await).attest(nonce).await {
                    Ok(_) => answered += 1,
                    refused => assert_eq!(code(refused), ErrorCode::AttestationLimited),
                }
            }
            answered
        });
    }
    for _ in 0..10 {
        let done = requester.send(id, "a", digest_job(), &message.bytes[..], requester.dial().await).await;
        done.expect("a job is done while challenges storm in");
    }
    let answered: u32 = clients.join_all().await.into_iter().sum();
    assert!(answered > 0, "some challenges are answered");
    world.stop().await;
}

// V-6
#[tokio::test]
async fn an_enclave_in_debug_mode_gets_no_key_and_no_client() {
    let world = World::start().await;
    let policy = world.policy(&world.key());
    let (process, socket, _) = world.launch(&policy, &["--debug"], &[]).await.expect("an enclave");
    let wallet = Wallet::Profile(world.info.credentials_file.clone(), "enclave");
    let parent = HostileParent::start(&socket, world.info.kms_port, wallet);
    let requester = world.requester_at(&socket);
    match requester.challenge().await {
        Err(ClientError::Attestation(AttestationError::DebugMode { .. })) => {}
        other => panic!("a client takes it: {other:?}"),
    }

    // A client that does not look is refused by KMS.
    let nonce = Nonce::try_from(vec![7; 32]).expect("32 bytes");
    let document = Conversation::new(requester.dial().await).attest(nonce).await.expect("a document");
    let said = parse_unverified(&document).expect("a document").user_data.expect("a statement");
    let id = EnclaveId::new(Statement::parse(&said).expect("a statement").subject);
    let message = Recipe::of("a").seal(&world.kms("owner").await, &world.key(), b"data").await;
    let sent = requester.send(id, "a", digest_job(), &message.bytes[..], requester.dial().await).await;
    assert_eq!(code(sent), ErrorCode::KmsAccessDenied);
    drop(parent);
    process.stop().await;
    world.stop().await;
}
