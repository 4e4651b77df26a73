//! What is not AWS: health, metrics, and what tests and rehearsals switch on.
//!
//! Health tells nothing that a port scan does not. The rest is for this host alone: a peer that is not
//! on the loopback address is told that there is nothing.

use std::net::SocketAddr;

use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::json;

use super::error::ApiError;
use super::{Faults, KmsServer, iam_endpoint};

/// Status, media type and body.
pub(super) type Reply = (StatusCode, &'static str, String);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The version that Prometheus asks for.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers a request under `/_adyton/`. Blocks: it reads and writes the database.
pub(super) fn answer(server: &KmsServer, parts: &Parts, body: &[u8], peer: SocketAddr) -> Reply {
    let service = &server.service;
    let here = peer.ip().to_canonical().is_loopback();
    match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/_adyton/health") => {
            let health = json!({"status": "ok", "account": service.account, "region": service.region});
            (StatusCode::OK, JSON, health.to_string())
        }
        (&Method::GET, "/_adyton/metrics") if here => match service.store.count_keys() {
            Ok(keys) => (StatusCode::OK, METRICS, service.metrics.text(keys, server.connections())),
            Err(error) => failed(error),
        },
        (&Method::POST, "/_adyton/reset") if here && server.admin_endpoint => match server.reset() {
            Ok(()) => (StatusCode::OK, JSON, "{}".into()),
            Err(error) => failed(error),
        },
        (&Method::POST, "/_adyton/faults") if here && server.faults_endpoint => {
            match serde_json::from_slice::<Faults>(body) {
                Ok(faults) => {
                    server.set_faults(faults);
                    (StatusCode::OK, JSON, "{}".into())
                }
                Err(error) => (StatusCode::BAD_REQUEST, TEXT, error.to_string()),
            }
        }
        (&Method::GET, "/_adyton/faults") if here && server.faults_endpoint => {
            (StatusCode::OK, JSON, serde_json::to_string(&server.faults()).unwrap_or_default())
        }
        (method, path) if here && server.iam_endpoint => match path.strip_prefix(iam_endpoint::PREFIX) {
            Some(rest) => {
                let (status, text) = iam_endpoint::answer(server, method, rest, body);
                (status, JSON, text)
            }
            None => nothing(),
        },
        _ => nothing(),
    }
}

fn nothing() -> Reply {
    (StatusCode::NOT_FOUND, TEXT, "there is nothing here".into())
}

fn failed(error: super::KmsError) -> Reply {
    let _logged = ApiError::from(error);
    (StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the state folder is not usable; the log says more".into())
}
