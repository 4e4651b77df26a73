//! The canonical request: one spelling of everything that a signature covers.
//!
//! ```text
//! POST
//! /                                   path, dot segments resolved, encoded once more
//!                                     query, decoded and encoded again, sorted
//! host:kms.eu-west-1.amazonaws.com    signed headers, trimmed, sorted
//! x-amz-date:20150830T123600Z
//!
//! host;x-amz-date
//! e3b0c442..                          SHA-256 of the body
//! ```
//!
//! Source: IAM User Guide, "Create a signed AWS API request", step 1.

use aws_lc_rs::digest::{SHA256, digest};
use http::request::Parts;

/// The canonical request; `None` if a signed header is absent or the body is not the one announced.
///
/// `x-amz-content-sha256` replaces nothing: outside S3 the body itself is hashed, whatever the
/// header says, so `UNSIGNED-PAYLOAD` is a wrong hash like any other.
pub(super) fn request(parts: &Parts, body: &[u8], signed_headers: &[String]) -> Option<Vec<u8>> {
    let hash = sha256(body);
    if parts.headers.get_all("x-amz-content-sha256").iter().any(|announced| announced != hash.as_str()) {
        return None;
    }
    let mut out = Vec::new();
    for line in
        [parts.method.as_str(), &path(parts.uri.path()), &query(parts.uri.query().unwrap_or_default())]
    {
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    for name in signed_headers {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        header(parts, name, &mut out)?;
        out.push(b'\n');
    }
    for line in ["", "\n", &signed_headers.join(";"), "\n", &hash] {
        out.extend_from_slice(line.as_bytes());
    }
    Some(out)
}

/// SHA-256 in lower-case hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// All values of a header, in their order, between commas.
fn header(parts: &Parts, name: &str, out: &mut Vec<u8>) -> Option<()> {
    let values = parts.headers.get_all(name).iter().collect::<Vec<_>>();
    if values.is_empty() && name == "host" {
        // HTTP/2 has the host in the request line.
        out.extend_from_slice(parts.uri.authority()?.as_str().as_bytes());
        return Some(());
    }
    let (first, rest) = values.split_first()?;
    trim(first.as_bytes(), out);
    for value in rest {
        out.push(b',');
        trim(value.as_bytes(), out);
    }
    Some(())
}

/// No spaces around a value, and one where there are several.
fn trim(value: &[u8], out: &mut Vec<u8>) {
    let words = value.trim_ascii().split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    for (index, word) in words.enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

/// The path without empty and dot segments, encoded a second time.
fn path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let mut out = String::from("/");
    for (index, segment) in segments.iter().enumerate() {
        if index > 0 {
            out.push('/');
        }
        encode(segment.as_bytes(), &mut out);
    }
    let is_folder = path.ends_with(['/']) || path.ends_with("/.") || path.ends_with("/..");
    if is_folder && !segments.is_empty() {
        out.push('/');
    }
    out
}

fn query(query: &str) -> String {
    let mut pairs = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (mut encoded_key, mut encoded_value) = (String::new(), String::new());
            encode(&decode(key.as_bytes()), &mut encoded_key);
            encode(&decode(value.as_bytes()), &mut encoded_value);
            (encoded_key, encoded_value)
        })
        .collect::<Vec<_>>();
    pairs.sort_unstable();
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&")
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn encode(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            out.push(char::from(*byte));
        } else {
            out.push('%');
            out.push_str(&hex::encode_upper([*byte]));
        }
    }
}

/// Leaves a `%` without two hexadecimal digits as it is.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((byte, after)) = rest.split_first() {
        let mut decoded = [0];
        let encoded = after.split_at_checked(2).filter(|_| *byte == b'%');
        (rest, decoded[0]) = match encoded {
            Some((digits, tail)) if hex::decode_to_slice(digits, &mut decoded).is_ok() => (tail, decoded[0]),
            _ => (after, *byte),
        };
        out.extend_from_slice(&decoded);
    }
    out
}
