//! HTTP/1.1 in front of the service: connections, deadlines, limits.
//!
//! A peer can hold one connection for a while and no more: every wait has a deadline, the body a
//! limit, and the number of connections a bound. Whatever it sends harms only its own connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::call::{Call, Outcome};
use super::patience::Patient;
use super::{KmsServer, Transport, admin};

/// Most connections at once; further ones wait. 256 × 512 KiB of body = 128 MiB at worst.
pub(super) const MAX_CONNECTIONS: usize = 256;
/// Longest body, in bytes: the longest attestation document of the API's model in base64
/// (342 KiB) and room for the rest.
const MAX_BODY_BYTES: usize = 512 * 1024;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Also how long a kept-alive connection may be idle.
const HEADER_DEADLINE: Duration = Duration::from_mins(1);
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// How long an answer may make no progress.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// How long calls under way may take once the server is told to stop.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);
/// How long accepting pauses after an error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A fault ends the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped")]
struct Hangup;

pub(super) async fn serve(
    server: KmsServer,
    listener: TcpListener,
    transport: Transport,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    listener.local_addr()?;
    let acceptor = (transport == Transport::Tls).then(|| TlsAcceptor::from(server.tls.server()));
    let permits = Arc::clone(&server.permits);
    let (stop, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &permits) => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let (server, acceptor, stopped) = (server.clone(), acceptor.clone(), stopped.clone());
        connections.spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            match acceptor {
                None => converse(server, stream, peer, false, stopped).await,
                Some(acceptor) => {
                    if let Ok(Ok(stream)) = timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
                        converse(server, stream, peer, true, stopped).await;
                    }
                }
            }
        });
    }
    drop(listener);
    stop.send_replace(true);
    // What has not finished by then is aborted with the set.
    let _ = timeout(SHUTDOWN_DEADLINE, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, permit)),
        Err(error) => {
            tracing::warn!(%error, "could not accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn converse(
    server: KmsServer,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    secure: bool,
    mut stopped: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let server = server.clone();
        async move { respond(server, request, peer, secure).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .serve_connection(TokioIo::new(Patient::new(stream, WRITE_DEADLINE)), service);
    let mut connection = std::pin::pin!(connection);
    // A connection's error is its peer's business.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = told_to_stop(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Resolves when the server stops, or is gone.
async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn respond(
    server: KmsServer,
    request: Request<Incoming>,
    peer: SocketAddr,
    secure: bool,
) -> Result<Response<Full<Bytes>>, Hangup> {
    let request_id = uuid::Uuid::new_v4().to_string();
    let (parts, body) = request.into_parts();
    let body = match timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(body)) => Vec::from(body.to_bytes()),
        Ok(Err(_)) => {
            return Ok(plain(StatusCode::PAYLOAD_TOO_LARGE, "the body is over the limit or broken"));
        }
        Err(_) => return Ok(plain(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    };
    if parts.uri.path().starts_with("/_adyton/") {
        let answered = tokio::task::spawn_blocking(move || admin::answer(&server, &parts, &body, peer)).await;
        return Ok(match answered {
            Ok((status, kind, text)) => typed(status, kind, text),
            Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the request failed"),
        });
    }
    if parts.method != Method::POST || parts.uri.path() != "/" {
        return Ok(plain(StatusCode::NOT_FOUND, "POST / is all there is"));
    }
    let call = Call { request_id: request_id.clone(), parts, body, peer, secure };
    let service = Arc::clone(&server.service);
    let date = http_date((service.clock)());
    let fate = service.fate(&call);
    tokio::time::sleep(fate.delay).await;
    let answered = tokio::task::spawn_blocking(move || service.answer(&call, fate)).await;
    let (status, kind, body) = match answered {
        Ok(Outcome::Answer { status, kind, body }) => (status, kind, body),
        Ok(Outcome::Hangup) => return Err(Hangup),
        // A panic ends one call, not the service.
        Err(_) => (500, "application/x-amz-json-1.1", br#"{"__type":"KMSInternalException"}"#.to_vec()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    // Clients correct their own clocks by it, so it has to be the one that judges their signatures.
    if let Some(date) = date {
        response.headers_mut().insert(header::DATE, date);
    }
    if let Ok(id) = request_id.parse() {
        response.headers_mut().insert("x-amzn-requestid", id);
    }
    Ok(response)
}

/// A time as HTTP writes it (RFC 9110 §5.6.7).
fn http_date(time: SystemTime) -> Option<header::HeaderValue> {
    let time = OffsetDateTime::from(time);
    let (day, month) = (time.weekday().to_string(), time.month().to_string());
    let text = format!(
        "{}, {:02} {} {} {:02}:{:02}:{:02} GMT",
        day.get(..3)?,
        time.day(),
        month.get(..3)?,
        time.year(),
        time.hour(),
        time.minute(),
        time.second()
    );
    text.parse().ok()
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", text.to_owned())
}

fn typed(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
