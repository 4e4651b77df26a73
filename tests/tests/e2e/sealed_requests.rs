//! Sealed requests: what who carries them learns, and to whom they open.

use std::sync::{Arc, Mutex};

use adyton_parent::client::{ClientError, Order, seal_request};
use adyton_shared::ErrorCode;
use adyton_shared::job::{Input, Job, Mask, Step};
use adyton_shared::message::SealedRequest;
use adyton_shared::sealed_request::{ReplyKey, seal};
use adyton_tests::client::{Requester, claims, code, digest_job, job, path};
use adyton_tests::hostile::{Recorded, Seen};
use adyton_tests::message::Recipe;
use adyton_tests::world::World;

/// A field's name that stands for what a job says.
const SECRET_FIELD: &str = "canary_field_9f3c";

fn secret_job() -> Job {
    let steps = vec![
        Step::Select(vec![path("id"), path(SECRET_FIELD)]),
        Step::Mask(Mask { fields: vec![path(SECRET_FIELD)], keep_last: 0 }),
    ];
    job(Input::Ndjson, steps)
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

// S-12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_carries_a_sealed_request_reads_nothing_of_job_answer_or_receipt() {
    let world = World::start().await;
    let rule = format!("    \"country\",\n    {{ path = \"{SECRET_FIELD}\", as = \"mask\" }},\n");
    let enclave = world.enclave(|policy| policy.replace("    \"country\",\n", &rule)).await;
    let parent = world.parent(&enclave.socket).await;
    let requester = world.requester_at(&enclave.socket);
    let records = format!("{{\"id\":\"1\",\"{SECRET_FIELD}\":\"secret\"}}\n");
    let owner = world.kms("owner").await;
    let message = Recipe::of("a").seal(&owner, &enclave.key, records.as_bytes()).await;

    for sealed in [false, true] {
        let verified = requester.challenge().await.expect("the enclave is genuine");
        let (request, signed) = requester.sign(verified.id, "a", secret_job());
        let order = if sealed {
            seal_request(&verified, &request, &signed).expect("sealed")
        } else {
            Order::from(signed.clone())
        };
        let seen: Seen = Arc::new(Mutex::new(Vec::new()));
        let stream = Recorded::new(requester.dial().await, Arc::clone(&seen));
        let done = requester.carry(&request, order, &message.bytes[..], stream).await.expect("a job");
        assert_eq!(done.output, format!("{{\"id\":\"1\",\"{SECRET_FIELD}\":\"******\"}}\n").as_bytes());
        let seen = seen.lock().expect("no panic").clone();
        let receipt = &done.receipt.receipt;
        let secrets: [(&str, &[u8]); 7] = [
            ("a field's name", SECRET_FIELD.as_bytes()),
            ("the signed request", &signed[signed.len() - 64..]),
            ("the job's id", request.id.as_bytes()),
            ("the requester", b"billing"),
            ("the job's digest", receipt.job_digest.as_bytes()),
            ("the result's digest", receipt.output_digest.as_bytes()),
            ("the enclave's id", request.enclave.as_bytes()),
        ];
        for (what, secret) in secrets {
            // What is sent in the open is the control: there it is all to be seen.
            assert_eq!(contains(&seen, secret), !sealed, "{what}, sealed: {sealed}");
        }
    }
    parent.stop().await;
    enclave.process.stop().await;
    world.stop().await;
}

/// The same sealed bytes, as a carrier sends them again; nobody can open the answer.
fn again(sealed: &SealedRequest, spare: ReplyKey) -> Order {
    Order::Sealed { sealed: sealed.clone(), reply: spare }
}

fn sealed(
    requester: &Requester,
    enclave: &adyton_parent::client::VerifiedEnclave,
) -> (SealedRequest, ReplyKey) {
    let (_, signed) = requester.sign(enclave.id, "a", digest_job());
    seal(&signed, enclave.id, enclave.sealing_key).expect("sealed")
}

// S-7, S-12, K-14
#[tokio::test]
async fn a_sealed_request_opens_in_its_own_enclave_once() {
    let world = World::start().await;
    let policy = std::fs::read_to_string(&world.info.policy).expect("a policy");
    let (process, socket, _) = world.launch(&policy, &[], &[]).await.expect("an enclave");
    let (own, other) = (world.requester(), world.requester_at(&socket));
    let message = Recipe::of("a").seal(&world.kms("owner").await, &world.key(), b"data").await;
    let gone = other.challenge().await.expect("genuine");
    process.stop().await;

    // To an enclave of the same image that is gone.
    let (request, signed) = own.sign(gone.id, "a", digest_job());
    let order = seal_request(&gone, &request, &signed).expect("sealed");
    let refused = own.carry(&request, order, &message.bytes[..], own.dial().await).await;
    assert_eq!(code(refused), ErrorCode::SealedRequestUnopenable);

    // Signed for the one that is gone, sealed to the one that is there: the client does not do it, and
    // whoever does it is refused by what was signed.
    let here = own.challenge().await.expect("genuine");
    let refused = seal_request(&here, &request, &signed);
    assert!(matches!(refused, Err(ClientError::OtherEnclave)), "{refused:?}");
    let (forced, reply) = seal(&signed, here.id, here.sealing_key).expect("sealed");
    let order = Order::Sealed { sealed: forced, reply };
    let refused = own.carry(&request, order, &message.bytes[..], own.dial().await).await;
    assert_eq!(code(refused), ErrorCode::WrongEnclave);

    // Changed on the way.
    let (mut changed, reply) = sealed(&own, &here);
    changed.sealed[100] ^= 1;
    let refused = own.carry(&request, again(&changed, reply), &message.bytes[..], own.dial().await).await;
    assert_eq!(code(refused), ErrorCode::SealedRequestUnopenable);

    // Sent once by its sender, and once more by the carrier.
    let (request, signed) = own.sign_claims(here.id, claims("a"), digest_job());
    let (good, reply) = seal(&signed, here.id, here.sealing_key).expect("sealed");
    let order = Order::Sealed { sealed: good.clone(), reply };
    own.carry(&request, order, &message.bytes[..], own.dial().await).await.expect("a job");
    let (_, spare) = sealed(&own, &here);
    let refused = own.carry(&request, again(&good, spare), &message.bytes[..], own.dial().await).await;
    assert_eq!(code(refused), ErrorCode::RequestReplayed);
    world.stop().await;
}
