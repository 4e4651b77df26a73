//! Connections to KMS: HTTP/1.1 over TLS over a stream that the parent forwards.
//!
//! A few are kept open between calls. One that turns out to be broken when it is used again is
//! replaced, and the call repeated once: every call here can be repeated without harm. What comes
//! back is bounded and held in memory that is wiped.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use adyton_shared::message::KMS_PORT;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::tls::{Tls, TlsError};
use crate::platform::{Dial, Stream};

/// Longest answer that is read, in bytes. An envelope of 6144 bytes takes 8192 in base64 and a key
/// ARN 2048; the rest is room for fields that are not known yet.
pub(super) const MAX_ANSWER_BYTES: usize = 32 * 1024;
/// Longest head of an answer, in bytes; KMS sends some hundred.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Most header lines of an answer.
const MAX_HEADERS: usize = 64;
/// Connections kept open while nothing is asked.
const MAX_IDLE: usize = 4;
/// How long one is kept: shorter than proxies and load balancers keep theirs.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// For opening a connection, TLS included, and for one question with its answer.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// What came back.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The header that names an error, which some front ends send instead of `__type`.
    pub(super) error_type: Option<String>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Why nothing came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LinkError {
    /// The endpoint's certificate does not verify.
    Rejected,
    /// No connection, or it broke, or it was too slow.
    Broken,
    /// Longer than [`MAX_ANSWER_BYTES`].
    TooLarge,
    /// Not HTTP.
    Malformed,
}

/// The connections to one endpoint.
pub(super) struct Links {
    dial: Arc<dyn Dial>,
    tls: Tls,
    idle: Mutex<Vec<(Link, Instant)>>,
}

impl Links {
    pub(super) fn new(dial: Arc<dyn Dial>, tls: Tls) -> Self {
        Self { dial, tls, idle: Mutex::default() }
    }

    /// Asks once; twice if a connection kept from before has meanwhile broken.
    pub(super) async fn call(&self, request: &Request<Bytes>) -> Result<Answer, LinkError> {
        if let Some(mut link) = self.kept().await {
            match self.ask(&mut link, request).await {
                Err(LinkError::Broken) => {}
                outcome => return self.settle(link, outcome),
            }
        }
        let mut link = timeout(STEP_TIMEOUT, self.open()).await.map_err(|_| LinkError::Broken)??;
        let outcome = self.ask(&mut link, request).await;
        self.settle(link, outcome)
    }

    async fn open(&self) -> Result<Link, LinkError> {
        let stream = self.dial.dial(KMS_PORT).await.map_err(|_| LinkError::Broken)?;
        let stream = self.tls.connect(stream).await.map_err(|error| match error {
            TlsError::Rejected => LinkError::Rejected,
            TlsError::Broken => LinkError::Broken,
        })?;
        Link::over(stream).await
    }

    async fn ask(&self, link: &mut Link, request: &Request<Bytes>) -> Result<Answer, LinkError> {
        timeout(STEP_TIMEOUT, link.ask(request)).await.map_err(|_| LinkError::Broken)?
    }

    /// Keeps the connection if all is well with it.
    fn settle(&self, link: Link, outcome: Result<Answer, LinkError>) -> Result<Answer, LinkError> {
        if outcome.is_ok() && !link.closed {
            let mut idle = self.lock();
            if idle.len() < MAX_IDLE {
                idle.push((link, Instant::now()));
            }
        }
        outcome
    }

    /// A connection that was kept and still seems alive; the last one used, so that others can age.
    async fn kept(&self) -> Option<Link> {
        loop {
            let (mut link, since) = self.lock().pop()?;
            if since.elapsed() < IDLE_LIMIT && link.alive().await {
                return Some(link);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Link, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Http = Connection<TokioIo<TlsStream<Stream>>, Full<Bytes>>;

/// One connection. It is driven by whoever asks, so it needs no task and ends when dropped.
struct Link {
    sender: SendRequest<Full<Bytes>>,
    connection: Pin<Box<Http>>,
    closed: bool,
}

impl Link {
    async fn over(stream: TlsStream<Stream>) -> Result<Self, LinkError> {
        let handshake = Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(|_| LinkError::Broken)?;
        Ok(Self { sender, connection: Box::pin(connection), closed: false })
    }

    /// Whether the other side has not closed it while nobody looked.
    async fn alive(&mut self) -> bool {
        let Self { connection, closed, .. } = self;
        let ended = poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx).is_ready())).await;
        *closed |= ended;
        !*closed
    }

    async fn ask(&mut self, request: &Request<Bytes>) -> Result<Answer, LinkError> {
        let Self { sender, connection, closed } = self;
        let mut exchange = std::pin::pin!(exchange(sender, request));
        poll_fn(|cx| {
            // The connection moves the bytes, so it goes first; what it has left behind when it
            // ends is still there to be read.
            if !*closed && connection.as_mut().poll(cx).is_ready() {
                *closed = true;
            }
            if let Poll::Ready(outcome) = exchange.as_mut().poll(cx) {
                return Poll::Ready(outcome);
            }
            Poll::Pending
        })
        .await
    }
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: &Request<Bytes>,
) -> Result<Answer, LinkError> {
    sender.ready().await.map_err(|error| fault(&error))?;
    let (parts, body) = request.clone().into_parts();
    let request = Request::from_parts(parts, Full::<Bytes>::new(body));
    let answer = sender.send_request(request).await.map_err(|error| fault(&error))?;
    let (head, body) = answer.into_parts();
    let error_type = head.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let error_type = error_type.map(str::to_owned);
    Ok(Answer { status: head.status, error_type, body: read(body).await? })
}

async fn read(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, LinkError> {
    // Sized once: a growing buffer would leave copies behind.
    let mut whole = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES));
    if body.size_hint().lower() > MAX_ANSWER_BYTES as u64 {
        return Err(LinkError::TooLarge);
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| fault(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        if whole.len().saturating_add(data.len()) > MAX_ANSWER_BYTES {
            return Err(LinkError::TooLarge);
        }
        whole.extend_from_slice(data);
    }
    Ok(whole)
}

fn fault(error: &hyper::Error) -> LinkError {
    if error.is_parse() { LinkError::Malformed } else { LinkError::Broken }
}
