//! `/_adyton/iam/PRINCIPAL/NAME`: identity policies of a KMS that runs.
//!
//! On loopback connections and only where it was asked for: whoever reaches it can permit themselves
//! everything. ARNs come as they are or percent-encoded.

use http::{Method, StatusCode};
use serde_json::json;

use super::iam::IdentityPolicyRecord;
use super::{KmsError, KmsServer};

pub(super) const PREFIX: &str = "/_adyton/iam/";

/// Answers a request whose path had [`PREFIX`] in front of `rest`.
pub(super) fn answer(server: &KmsServer, method: &Method, rest: &str, body: &[u8]) -> (StatusCode, String) {
    let Some(rest) = decode(rest) else { return refused("ValidationError", "The path is not UTF-8.") };
    if method == Method::GET {
        return reply(server.identity_policies(&rest), |policies| {
            let policies =
                policies.into_iter().map(|policy| json!({"Name": policy.name, "Policy": policy.document}));
            (StatusCode::OK, json!({ "Policies": policies.collect::<Vec<_>>() }).to_string())
        });
    }
    let Some((principal, name)) = rest.rsplit_once('/') else {
        return refused("ValidationError", "The path is /_adyton/iam/PRINCIPAL/NAME.");
    };
    let (principal, name) = (principal.to_owned(), name.to_owned());
    match *method {
        Method::PUT => {
            let Ok(document) = String::from_utf8(body.to_vec()) else {
                return refused("MalformedPolicyDocument", "Syntax errors in policy.");
            };
            let policy = IdentityPolicyRecord { principal, name, document };
            reply(server.put_identity_policy(&policy), |()| (StatusCode::OK, "{}".to_owned()))
        }
        Method::DELETE => reply(server.remove_identity_policy(&principal, &name), |removed| {
            if removed {
                return (StatusCode::OK, "{}".to_owned());
            }
            let text = format!("The policy with name {name} cannot be found.");
            (StatusCode::NOT_FOUND, error("NoSuchEntity", &text))
        }),
        _ => {
            (StatusCode::METHOD_NOT_ALLOWED, error("InvalidAction", "GET, PUT and DELETE are all there is."))
        }
    }
}

fn reply<T>(
    done: Result<T, KmsError>,
    answer: impl FnOnce(T) -> (StatusCode, String),
) -> (StatusCode, String) {
    match done {
        Ok(value) => answer(value),
        Err(KmsError::Iam { code, message }) => refused(code, &message),
        Err(failure) => {
            tracing::error!(error = &failure as &dyn std::error::Error, "the local KMS failed");
            (StatusCode::INTERNAL_SERVER_ERROR, error("ServiceFailure", "The request failed."))
        }
    }
}

fn refused(code: &str, message: &str) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, error(code, message))
}

fn error(code: &str, message: &str) -> String {
    json!({"__type": code, "message": message}).to_string()
}

/// Percent-decoding; a `%` without two digits stands for itself.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let code = match (first, more) {
            (b'%', [high, low, ..]) => hex::decode([*high, *low]).ok(),
            _ => None,
        };
        if let Some(byte) = code {
            bytes.extend(byte);
            rest = &more[2..];
        } else {
            bytes.push(*first);
            rest = more;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn paths_are_decoded_once() {
        for (text, expected) in [
            ("arn:aws:iam::1:user/a/b", Some("arn:aws:iam::1:user/a/b")),
            ("arn%3Aaws%3aiam::1:user%2Fa", Some("arn:aws:iam::1:user/a")),
            ("%2541", Some("%41")),
            ("100%", Some("100%")),
            ("%4", Some("%4")),
            ("%zz", Some("%zz")),
            ("%ff", None),
        ] {
            assert_eq!(decode(text).as_deref(), expected, "{text}");
        }
    }
}
