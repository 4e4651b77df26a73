//! The hash chain through the lines of the audit log.
//!
//! A line is the JSON of one record whose last member is `hash`: the SHA-256 of the line without
//! that member. As each record holds the hash before it, a line cannot be changed, removed,
//! inserted or moved without breaking the chain. `jq -cS 'del(.hash)' | sha256sum` gives the same.
//!
//! The hashes need no secret, so whoever writes the file can make a new chain. The head cannot be
//! made: see `head.rs`.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

pub(super) type Hash = [u8; 32];

/// Where the chain has come to: the number of the last line and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) sequence: u64,
    pub(super) hash: Hash,
}

impl Link {
    /// Before the first line.
    pub(super) const START: Self = Self { sequence: 0, hash: [0; 32] };

    /// The line that this record becomes after this link, without its line end, and the next link.
    pub(super) fn extend(self, mut record: Value) -> (String, Self) {
        let sequence = self.sequence.saturating_add(1);
        record["previousHash"] = hex::encode(self.hash).into();
        record["sequence"] = sequence.into();
        let mut line = record.to_string();
        let hash = sha256(line.as_bytes());
        line.pop();
        line.push_str(MEMBER);
        line.push_str(&hex::encode(hash));
        line.push_str("\"}");
        (line, Self { sequence, hash })
    }
}

const MEMBER: &str = ",\"hash\":\"";

/// A line, taken apart.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) link: Link,
    pub(super) previous: Hash,
    /// Whether the hash in the line is that of the line.
    pub(super) fits: bool,
}

impl Line {
    /// `None` if it is no line of this log.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let record: Value = serde_json::from_slice(line).ok()?;
        let sequence = record["sequence"].as_u64()?;
        let previous = of_hex(record["previousHash"].as_str()?)?;
        let hash = of_hex(record["hash"].as_str()?)?;
        let content = line.len().checked_sub(MEMBER.len() + 64 + 2).and_then(|end| line.get(..end));
        let fits = content.is_some_and(|content| {
            let without = [content, b"}"].concat();
            let whole = [content, MEMBER.as_bytes(), hex::encode(hash).as_bytes(), b"\"}"].concat();
            whole == line && sha256(&without) == hash
        });
        Some(Self { link: Link { sequence, hash }, previous, fits })
    }
}

pub(super) fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

fn of_hex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    hex::decode_to_slice(text, &mut hash).ok()?;
    Some(hash)
}
