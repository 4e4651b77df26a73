//! The answers of the query protocol.

use std::fmt::Write as _;

use crate::kms::error::ApiError;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Elements with text, one after the other.
pub(super) fn elements(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        // Writing into a text does not fail.
        let _ = write!(text, "<{name}>{}</{name}>", escape(value));
    }
    text
}

/// An element with elements inside.
pub(super) fn element(name: &str, content: &str) -> String {
    format!("<{name}>{content}</{name}>")
}

pub(super) fn response(action: &str, result: &str, request_id: &str) -> String {
    format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>\n"
    )
}

/// The name of an error in the query protocol, which has others than the JSON protocol, and its status.
pub(super) fn name_of(error: &ApiError) -> (&'static str, u16) {
    match error.code {
        "MissingAuthenticationTokenException" => ("MissingAuthenticationToken", 403),
        "IncompleteSignatureException" => ("IncompleteSignature", 403),
        "InvalidSignatureException" => ("SignatureDoesNotMatch", 403),
        "UnrecognizedClientException" => ("InvalidClientTokenId", 403),
        "ExpiredTokenException" => ("ExpiredToken", 403),
        "AccessDeniedException" => ("AccessDenied", 403),
        "ThrottlingException" => ("Throttling", 400),
        "ValidationException" => ("ValidationError", 400),
        "KMSInternalException" => ("InternalFailure", 500),
        other => (other, error.status),
    }
}

/// HTTP status and body of an error.
pub(super) fn error(error: &ApiError, request_id: &str) -> (u16, String) {
    let (code, status) = name_of(error);
    let kind = if status < 500 { "Sender" } else { "Receiver" };
    let message = match (code, &error.message) {
        ("MissingAuthenticationToken", _) => "Request is missing Authentication Token",
        ("Throttling", _) => "Rate exceeded",
        (_, message) => message.as_deref().unwrap_or_default(),
    };
    let content = elements(&[("Type", kind), ("Code", code), ("Message", message)]);
    let text = format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error>{content}</Error><RequestId>{request_id}</RequestId></ErrorResponse>\n"
    );
    (status, text)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => {
                let _ = write!(escaped, "&#{};", u32::from(c));
            }
            // XML 1.0 cannot say other control characters at all.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_said_stays_text() {
        assert_eq!(
            elements(&[("Message", "<a href=\"x\">&\u{0}\n")]),
            "<Message>&lt;a href=&quot;x&quot;&gt;&amp;\u{fffd}&#10;</Message>"
        );
    }
}
