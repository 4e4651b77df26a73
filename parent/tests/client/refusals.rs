//! Enclaves that refuse, break off, or speak out of turn, while a payload is on its way.

use adyton_parent::client::{ClientError, Sent};
use adyton_shared::ErrorCode;
use adyton_shared::frame::{FrameError, Kind};
use adyton_shared::message::{Done, FromEnclave, Refusal};
use serde_bytes::ByteBuf;
use tokio::io::duplex;

use crate::forge::Forge;
use crate::jobs::{Far, request, sealed, send};

/// More than every buffer on the way holds.
const LARGE: usize = 8 * 1024 * 1024;
const REFUSAL: Refusal =
    Refusal { code: ErrorCode::RecordMalformed, record: Some(12), step: None, retry_after_ms: None };

/// Sends a job with this payload to an enclave that takes the request and then does as told.
async fn against<F: Future<Output = ()>>(
    payload: usize,
    told: impl FnOnce(Far) -> F,
) -> Result<Sent, ClientError> {
    let forge = Forge::new();
    let folder = tempfile::tempdir().unwrap();
    let (_, signed) = request(&forge.enclave());
    let (near, far) = duplex(16 * 1024);
    let playing = async {
        let mut far = Far::new(far);
        far.request().await;
        told(far).await;
    };
    let (payload, mut ignore) = (vec![7; payload], |_| {});
    // What the client says is waited for; an enclave that never ends is dropped then.
    let playing = async {
        playing.await;
        std::future::pending().await
    };
    let sent = tokio::select! {
        sent = send(&folder, near, signed, &payload, &mut ignore) => sent,
        never = playing => never,
    };
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    sent
}

#[track_caller]
fn is_the_refusal(sent: Result<Sent, ClientError>) {
    match sent.err().unwrap() {
        ClientError::Refused(refusal) => assert_eq!(refusal, REFUSAL),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_refusal_is_heard_while_the_payload_still_goes_out() {
    // It reads nothing more, so writing cannot go on.
    is_the_refusal(
        against(LARGE, |mut far| async move {
            far.say(&FromEnclave::Refused(REFUSAL)).await;
            std::future::pending::<()>().await;
        })
        .await,
    );
}

#[tokio::test]
async fn a_refusal_wins_over_the_broken_pipe_that_follows_it() {
    for payload in [0, 1, LARGE] {
        is_the_refusal(
            against(payload, |mut far| async move {
                far.say(&FromEnclave::Refused(REFUSAL)).await;
            })
            .await,
        );
    }
}

#[tokio::test]
async fn a_refusal_after_most_of_the_result_lets_nothing_out() {
    is_the_refusal(
        against(10, |mut far| async move {
            far.payload().await;
            far.answers.send(Kind::Data, &[1; 1000]).await.unwrap();
            far.answers.send(Kind::End, &[]).await.unwrap();
            far.say(&FromEnclave::Refused(REFUSAL)).await;
        })
        .await,
    );
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_result() {
    let broken = against(LARGE, |far| async move { drop(far) }).await;
    assert!(matches!(broken, Err(ClientError::Frame(_))), "{:?}", broken.err());
    let ended = against(10, |mut far| async move {
        far.payload().await;
        far.answers.send(Kind::Data, &[1; 1000]).await.unwrap();
    })
    .await;
    assert!(matches!(ended, Err(ClientError::Frame(FrameError::Closed))), "{:?}", ended.err());
}

#[tokio::test]
async fn messages_out_of_turn_are_refused() {
    let done = || {
        let (_, sealer) = sealed(adyton_shared::id::JobId::new([1; 16]), b"");
        FromEnclave::Done(Done { key: sealer.finish(), receipt: ByteBuf::new() })
    };
    let before_the_end = against(10, |mut far| async move {
        far.payload().await;
        far.say(&done()).await;
    });
    let document = against(10, |mut far| async move {
        far.payload().await;
        far.say(&FromEnclave::Document { document: ByteBuf::new() }).await;
    });
    let data_after_the_end = against(10, |mut far| async move {
        far.payload().await;
        far.answers.send(Kind::End, &[]).await.unwrap();
        let _ = far.answers.send(Kind::Data, b"more").await;
    });
    for sent in [before_the_end.await, document.await, data_after_the_end.await] {
        assert!(matches!(sent, Err(ClientError::UnexpectedMessage)), "{:?}", sent.err());
    }
    let nonsense = against(10, |mut far| async move {
        far.payload().await;
        far.answers.send(Kind::Control, b"nonsense").await.unwrap();
    })
    .await;
    assert!(matches!(nonsense, Err(ClientError::Message(_))), "{:?}", nonsense.err());
}

#[tokio::test(start_paused = true)]
async fn an_enclave_that_is_done_before_it_has_everything_is_refused() {
    let early = against(LARGE, |mut far| async move {
        let (_, sealer) = sealed(adyton_shared::id::JobId::new([1; 16]), b"");
        far.answers.send(Kind::End, &[]).await.unwrap();
        far.say(&FromEnclave::Done(Done { key: sealer.finish(), receipt: ByteBuf::new() })).await;
        tokio::time::sleep(std::time::Duration::from_hours(1)).await;
    })
    .await;
    assert!(matches!(early, Err(ClientError::UnexpectedMessage)), "{:?}", early.err());
}
