//! Listens, and holds conversations: a bound on how many, a deadline on every wait.
//!
//! One conversation that fails, panics or stalls harms no other.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use adyton_shared::ErrorCode;
use adyton_shared::frame::{Deadlines, FrameError, FrameReader, FrameWriter, Kind};
use adyton_shared::message::{self, FromEnclave, Refusal, ToEnclave};
use adyton_shared::sealed_request::OpenedRequest;
use serde_bytes::ByteBuf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep, timeout};

use crate::attest::ChallengeError;
use crate::boot::Enclave;
use crate::event::Event;
use crate::job;
use crate::platform::{Listen, Stream};
use crate::reply::{Answer, attest_code, send};

/// Conversations at once. Each holds a descriptor and at least 8 KiB.
const MAX_CONVERSATIONS: usize = 256;
/// For the next message, and for one frame of it.
const DEADLINES: Deadlines = Deadlines { idle: Duration::from_secs(30), frame: Duration::from_secs(10) };
/// For the frames of a payload: the parent may itself wait for a slow source.
const PAYLOAD_DEADLINES: Deadlines =
    Deadlines { idle: Duration::from_mins(2), frame: Duration::from_secs(30) };
/// How long a refused sender may go on before the connection is cut.
const LINGER: Duration = Duration::from_secs(2);
/// For telling a client that there is no place.
const TURN_AWAY_DEADLINE: Duration = Duration::from_millis(100);
/// Pause after a failed accept, which is mostly a full descriptor table.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Serves until `shutdown` completes or listening ends; conversations under way are then dropped,
/// and with them everything that was not released.
pub async fn serve(enclave: Arc<Enclave>, mut listener: impl Listen, shutdown: impl Future<Output = ()>) {
    let places = Arc::new(Semaphore::new(MAX_CONVERSATIONS));
    let mut tasks = JoinSet::new();
    let fresh = Arc::clone(&enclave);
    tasks.spawn(async move {
        fresh.identity.keep_fresh(&fresh.attester, &fresh.clock, fresh.events.as_ref()).await;
    });
    enclave.events.emit(Event::Listening);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(Some(stream)) => {
                let enclave = Arc::clone(&enclave);
                match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => tasks.spawn(async move {
                        converse(&enclave, stream).await;
                        drop(place);
                    }),
                    Err(_) => tasks.spawn(turn_away(stream)),
                };
            }
            Ok(None) => break,
            Err(_) => {
                enclave.events.emit(Event::AcceptFailed);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    enclave.events.emit(Event::Stopping);
}

async fn turn_away(stream: Stream) {
    let mut frames = FrameWriter::new(stream, DEADLINES);
    let _ =
        timeout(TURN_AWAY_DEADLINE, send(&mut frames, &FromEnclave::Refused(ErrorCode::Busy.into()))).await;
}

/// Serves one message after the other until the parent leaves or a refusal ends the conversation.
async fn converse(enclave: &Enclave, stream: Stream) {
    let (read, write) = tokio::io::split(stream);
    let mut input = FrameReader::new(read, DEADLINES);
    let mut output = FrameWriter::new(write, DEADLINES);
    loop {
        let served = guarded(enclave, serve_one(enclave, &mut input, &mut output)).await;
        match served {
            Ok(true) => input.set_deadlines(DEADLINES),
            Ok(false) => return,
            Err(refusal) => {
                enclave.events.emit(Event::Refused(refusal.code));
                output.discard();
                if send(&mut output, &FromEnclave::Refused(refusal)).await.is_ok() {
                    let _ = output.shutdown().await;
                    // Closing while the sender still writes could take the refusal away from it.
                    let _ = timeout(LINGER, drain(&mut input)).await;
                }
                return;
            }
        }
    }
}

/// Serves one message; `false` if the parent has left.
async fn serve_one<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    enclave: &Enclave,
    input: &mut FrameReader<R>,
    output: &mut FrameWriter<W>,
) -> Result<bool, Refusal> {
    let mut bytes = Vec::new();
    match input.next(&mut bytes).await {
        Ok(Kind::Control) => {}
        Ok(_) => return Err(ErrorCode::UnexpectedMessage.into()),
        Err(FrameError::Closed) => return Ok(false),
        Err(error) => return Err(ErrorCode::from(&error).into()),
    }
    match message::decode(&bytes).map_err(|error| ErrorCode::from(&error))? {
        ToEnclave::Attest { nonce } => {
            let document = enclave
                .attester
                .challenge(enclave.identity.identified(), &nonce)
                .await
                .map_err(challenge_code)?;
            send(output, &FromEnclave::Document { document: ByteBuf::from(document) }).await?;
        }
        ToEnclave::Job { request } => {
            input.set_deadlines(PAYLOAD_DEADLINES);
            job::run(enclave, &request, Answer::Open, input, output).await?;
        }
        ToEnclave::SealedJob(sealed) => {
            input.set_deadlines(PAYLOAD_DEADLINES);
            // Whether key, binding or bytes are wrong is one code.
            let OpenedRequest { signed, reply } =
                enclave.identity.open(&sealed).map_err(|_| ErrorCode::SealedRequestUnopenable)?;
            job::run(enclave, &signed, Answer::Sealed(reply), input, output).await?;
        }
    }
    Ok(true)
}

fn challenge_code(error: ChallengeError) -> ErrorCode {
    match error {
        ChallengeError::NonceReused => ErrorCode::NonceRefused,
        ChallengeError::Attest(error) => attest_code(error),
    }
}

/// Turns a panic into a refusal, so that the parent hears of it and others are not harmed.
async fn guarded<T>(enclave: &Enclave, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let mut work = pin!(work);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(poll) => poll,
        Err(panic) => {
            forget(enclave, panic);
            Poll::Ready(Err(ErrorCode::Internal.into()))
        }
    })
    .await
}

/// The panic's message may quote data, so nobody looks at it.
fn forget(enclave: &Enclave, panic: Box<dyn Any + Send>) {
    enclave.events.emit(Event::Panicked);
    // Dropping the payload of a panic could panic again.
    std::mem::forget(panic);
}

async fn drain<R: AsyncRead + Unpin>(input: &mut FrameReader<R>) {
    let mut sink = Vec::new();
    while input.next(&mut sink).await.is_ok() {
        sink.clear();
    }
}
