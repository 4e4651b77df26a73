//! A role's session: what its token holds.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::kms::key::Millis;
use crate::kms::sigv4::Credential;
use crate::kms::user::User;

/// Longest token that is looked at, in characters. What fits was made here.
const MAX_TOKEN: usize = 64 * 1024;

/// A session, as it stands sealed in its own token.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::kms) struct Session {
    pub(in crate::kms) access_key_id: String,
    #[serde(with = "secret_text")]
    pub(super) secret: Zeroizing<String>,
    pub(in crate::kms) role_arn: String,
    /// The name that the caller gave it.
    pub(in crate::kms) name: String,
    /// With the role's own.
    pub(in crate::kms) tags: BTreeMap<String, String>,
    /// The keys of the tags that go over to a session that this one assumes.
    pub(super) transitive: Vec<String>,
    pub(in crate::kms) created: Millis,
    pub(in crate::kms) expires: Millis,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("role_arn", &self.role_arn).finish_non_exhaustive()
    }
}

impl Session {
    /// The token: base64 of the sealed session.
    pub(super) fn seal(&self, seal: impl Fn(&str, &[u8]) -> Option<Vec<u8>>) -> Option<String> {
        let plain = Zeroizing::new(serde_json::to_vec(self).ok()?);
        Some(STANDARD.encode(seal(&identity(&self.access_key_id), &plain)?))
    }

    /// The session of a token that came with this access key id.
    pub(in crate::kms) fn open(
        access_key_id: &str,
        token: &str,
        open: impl Fn(&str, &[u8]) -> Option<Zeroizing<Vec<u8>>>,
    ) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let plain = open(&identity(access_key_id), &STANDARD.decode(token).ok()?)?;
        serde_json::from_slice(&plain).ok()
    }

    /// What the signature of a request with this token is checked with.
    pub(in crate::kms) fn credential(&self, token: &str) -> Credential {
        Credential {
            secret: self.secret.clone(),
            session_token: Some(Zeroizing::new(token.to_owned())),
            expires: Some(self.end()),
        }
    }

    /// The user that a session acts as.
    pub(in crate::kms) fn user(&self, principal_arn: &str, administrator: bool) -> User {
        User {
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret.clone(),
            principal_arn: principal_arn.to_owned(),
            session_token: None,
            expires: Some(self.end()),
            administrator,
            tags: self.tags.clone(),
        }
    }

    fn end(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.expires)
    }
}

/// What a token is bound to: it opens for the access key that it was made for.
fn identity(access_key_id: &str) -> String {
    format!("sts/session/{access_key_id}")
}

mod secret_text {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(
        secret: &Zeroizing<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}
