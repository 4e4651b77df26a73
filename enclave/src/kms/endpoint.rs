//! The HTTP side of KMS: one endpoint, a few connections that are kept alive, bounds on all of it.

use std::sync::{Arc, Mutex, PoisonError};

use adyton_shared::message::KMS_PORT;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::time::{Duration, timeout};
use zeroize::Zeroizing;

use super::error::KeyError;
use super::tls::Tls;
use crate::platform::Dial;

/// Connections kept open while idle.
const MAX_IDLE: usize = 4;
/// Longest answer, in bytes: a ciphertext of 6 KiB in base64 and some text around it.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// For vsock, the proxy's connect and the TLS handshake together.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// For one request and its answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// A request that is signed and can be sent more than once.
pub(super) struct Signed {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
}

pub(super) struct Endpoint {
    tls: Tls,
    dial: Arc<dyn Dial>,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Endpoint {
    pub(super) fn new(tls: Tls, dial: Arc<dyn Dial>) -> Self {
        Self { tls, dial, idle: Mutex::default() }
    }

    /// Sends a request. A kept connection that turns out to be dead is replaced; what is asked of
    /// KMS here can be asked twice.
    pub(super) async fn post(&self, signed: &Signed) -> Result<Answer, KeyError> {
        while let Some(connection) = self.kept() {
            if let Ok(answer) = self.exchange(connection, signed).await {
                return Ok(answer);
            }
        }
        let connection =
            timeout(CONNECT_DEADLINE, self.connect()).await.map_err(|_| KeyError::Unavailable)??;
        self.exchange(connection, signed).await
    }

    fn kept(&self) -> Option<SendRequest<Full<Bytes>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, connection: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !connection.is_closed() {
            idle.push(connection);
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, KeyError> {
        let stream = self.dial.dial(KMS_PORT).await.map_err(|_| KeyError::Unavailable)?;
        let stream = self.tls.connect(stream).await?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|_| KeyError::Unavailable)?;
        // Ends by itself when the sender is dropped or the other side closes.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    async fn exchange(
        &self,
        mut connection: SendRequest<Full<Bytes>>,
        signed: &Signed,
    ) -> Result<Answer, KeyError> {
        let answer = timeout(ANSWER_DEADLINE, async {
            connection.ready().await.map_err(|_| KeyError::Unavailable)?;
            let mut request = Request::new(Full::new(signed.body.clone()));
            *request.method_mut() = http::Method::POST;
            *request.headers_mut() = signed.headers.clone();
            let response = connection.send_request(request).await.map_err(|error| {
                // Something that does not speak HTTP is not a KMS that may come back.
                if error.is_parse() { KeyError::AnswerRejected } else { KeyError::Unavailable }
            })?;
            let (parts, mut incoming) = response.into_parts();
            let mut body = Zeroizing::new(Vec::new());
            while let Some(frame) = incoming.frame().await {
                let frame = frame.map_err(|_| KeyError::Unavailable)?;
                if let Some(data) = frame.data_ref() {
                    if body.len().saturating_add(data.len()) > MAX_ANSWER_BYTES {
                        return Err(KeyError::AnswerRejected);
                    }
                    // Sized once, so that no copy of a secret stays behind in a smaller buffer.
                    let room = MAX_ANSWER_BYTES.saturating_sub(body.len());
                    body.reserve_exact(room);
                    body.extend_from_slice(data);
                }
            }
            Ok(Answer { status: parts.status, body })
        })
        .await
        .map_err(|_| KeyError::Unavailable)??;
        self.keep(connection);
        Ok(answer)
    }
}
