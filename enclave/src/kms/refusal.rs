//! What KMS's error answers mean here, by their names in a closed list.

use std::borrow::Cow;

use http::StatusCode;
use serde::Deserialize;

use super::error::{AnswerFault, KeyError};
use super::link::Answer;

/// What to do about an answer that is not 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Final.
    Final(KeyError),
    /// The credentials are not accepted; new ones may be.
    Credentials,
    /// Too many requests; later ones may pass.
    Throttled,
    /// KMS has a problem that may pass.
    Failing,
}

/// `None` for an answer that is no refusal.
pub(super) fn read(answer: &Answer) -> Option<Refusal> {
    if answer.status == StatusCode::OK {
        return None;
    }
    Some(error_name(answer).and_then(|name| meaning(&name)).unwrap_or_else(|| by_status(answer.status)))
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(rename = "__type", borrow)]
    name: Option<Cow<'a, str>>,
}

/// `Name`, `namespace#Name` or `Name:address`, in the body or the header.
fn error_name(answer: &Answer) -> Option<String> {
    let body: Option<Body<'_>> = serde_json::from_slice(&answer.body).ok();
    let named = body.and_then(|body| body.name).or(answer.error_type.as_deref().map(Cow::from))?;
    let name = named.rsplit('#').next()?.split(':').next()?;
    Some(name.to_owned())
}

fn meaning(name: &str) -> Option<Refusal> {
    let refusal = match name {
        "AccessDeniedException" | "AccessDenied" => Refusal::Final(KeyError::AccessDenied),
        "InvalidCiphertextException" | "IncorrectKeyException" => {
            Refusal::Final(KeyError::WrappedKeyRejected)
        }
        "DisabledException"
        | "NotFoundException"
        | "KMSInvalidStateException"
        | "InvalidKeyUsageException"
        | "InvalidArnException"
        | "UnsupportedOperationException"
        | "CloudHsmClusterNotActiveException"
        | "CustomKeyStoreInvalidStateException" => Refusal::Final(KeyError::KeyUnusable),
        "ThrottlingException"
        | "Throttling"
        | "ThrottledException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "TooManyRequestsException"
        | "SlowDown" => Refusal::Throttled,
        "KMSInternalException"
        | "DependencyTimeoutException"
        | "KeyUnavailableException"
        | "InternalFailure"
        | "InternalServerError"
        | "InternalServerException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException"
        | "RequestTimeout"
        | "RequestTimeoutException" => Refusal::Failing,
        "ExpiredTokenException"
        | "ExpiredToken"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" => Refusal::Credentials,
        "ValidationException"
        | "ValidationError"
        | "SerializationException"
        | "UnknownOperationException" => {
            Refusal::Final(KeyError::AnswerRejected(AnswerFault::RequestInvalid))
        }
        _ => return None,
    };
    Some(refusal)
}

fn by_status(status: StatusCode) -> Refusal {
    if status == StatusCode::TOO_MANY_REQUESTS {
        Refusal::Throttled
    } else if status.is_server_error() {
        Refusal::Failing
    } else {
        Refusal::Final(KeyError::AnswerRejected(AnswerFault::Status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn answer(status: u16, error_type: Option<&str>, body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            error_type: error_type.map(str::to_owned),
            body: Zeroizing::new(body.as_bytes().to_vec()),
        }
    }

    #[test]
    fn a_name_is_found_wherever_aws_puts_it() {
        for (header, body) in [
            (None, r#"{"__type":"AccessDeniedException","Message":"User: …"}"#),
            (None, r#"{"__type":"com.amazonaws.kms#AccessDeniedException"}"#),
            (Some("AccessDeniedException:http://internal.amazon.com/"), ""),
        ] {
            assert_eq!(read(&answer(400, header, body)), Some(Refusal::Final(KeyError::AccessDenied)));
        }
    }

    #[test]
    fn an_unknown_name_goes_by_its_status() {
        let unknown = r#"{"__type":"NewException"}"#;
        let rejected = Refusal::Final(KeyError::AnswerRejected(AnswerFault::Status));
        for (status, refusal) in [
            (400, rejected),
            (302, rejected),
            (429, Refusal::Throttled),
            (500, Refusal::Failing),
            (503, Refusal::Failing),
        ] {
            assert_eq!(read(&answer(status, None, unknown)), Some(refusal));
            assert_eq!(read(&answer(status, None, "<html>")), Some(refusal));
        }
        assert_eq!(read(&answer(200, None, unknown)), None);
    }
}
