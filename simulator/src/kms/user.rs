//! Who may call: access keys, and the principals they belong to.
//!
//! What they may do beside what key policies and grants give them is in identity policies, see
//! `iam.rs`; an administrator's allows everything.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use adyton_verifier::key_policy::Principal;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::KmsError;
use super::sigv4::Credential;

/// An access key and its principal.
#[derive(Clone)]
pub struct User {
    /// The public part of the access key, `AKIA…` or, with a session token, `ASIA…`.
    pub access_key_id: String,
    /// The secret part.
    pub secret_access_key: Zeroizing<String>,
    /// The ARN that key policies see, for instance `arn:aws:iam::111122223333:user/alice`.
    pub principal_arn: String,
    /// The token that temporary credentials have to be sent with.
    pub session_token: Option<Zeroizing<String>>,
    /// When temporary credentials end.
    pub expires: Option<SystemTime>,
    /// Whether an identity policy that allows everything is attached.
    pub administrator: bool,
    /// The user's tags, or those of the role and its session: `aws:PrincipalTag/…`.
    pub tags: BTreeMap<String, String>,
}

impl User {
    /// A user with a fresh access key and without an end.
    ///
    /// # Errors
    /// [`KmsError::Principal`] if the text is not the ARN of a principal, [`KmsError::Crypto`]
    /// if there is no randomness.
    pub fn generate(principal_arn: impl Into<String>, administrator: bool) -> Result<Self, KmsError> {
        Self::with_prefix("AKIA", principal_arn.into(), administrator)
    }

    /// Temporary credentials, as a role gives them: with a session token and an end.
    ///
    /// # Errors
    /// As [`User::generate`].
    pub fn generate_session(
        principal_arn: impl Into<String>,
        administrator: bool,
        expires: SystemTime,
    ) -> Result<Self, KmsError> {
        let user = Self::with_prefix("ASIA", principal_arn.into(), administrator)?;
        let mut token = Zeroizing::new([0; 96]);
        getrandom::fill(token.as_mut_slice()).map_err(|_| KmsError::Crypto)?;
        Ok(Self {
            session_token: Some(Zeroizing::new(encode(token.as_slice()))),
            expires: Some(expires),
            ..user
        })
    }

    fn with_prefix(prefix: &str, principal_arn: String, administrator: bool) -> Result<Self, KmsError> {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        Principal::parse(&principal_arn)?;
        let mut id = [0_u8; 16];
        let mut secret = Zeroizing::new([0; 30]);
        getrandom::fill(&mut id).map_err(|_| KmsError::Crypto)?;
        getrandom::fill(secret.as_mut_slice()).map_err(|_| KmsError::Crypto)?;
        let digits = id.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
        Ok(Self {
            access_key_id: prefix.chars().chain(digits).collect(),
            secret_access_key: Zeroizing::new(encode(secret.as_slice())),
            principal_arn,
            session_token: None,
            expires: None,
            administrator,
            tags: BTreeMap::new(),
        })
    }

    /// The account, the fifth part of the principal's ARN.
    pub fn account(&self) -> &str {
        self.principal_arn.split(':').nth(4).unwrap_or_default()
    }

    /// What a signature is checked with.
    pub(super) fn credential(&self) -> Credential {
        Credential {
            secret: self.secret_access_key.clone(),
            session_token: self.session_token.clone(),
            expires: self.expires,
        }
    }

    pub(super) fn check(&self) -> Result<(), KmsError> {
        Principal::parse(&self.principal_arn)?;
        Ok(())
    }

    pub(super) fn seal(&self, seal: impl Fn(&str, &[u8]) -> Option<Vec<u8>>) -> Option<SealedUser> {
        let identity = identity(&self.access_key_id);
        Some(SealedUser {
            access_key_id: self.access_key_id.clone(),
            sealed_secret: seal(&identity, self.secret_access_key.as_bytes())?,
            principal_arn: self.principal_arn.clone(),
            sealed_token: match &self.session_token {
                Some(token) => Some(seal(&format!("{identity}/token"), token.as_bytes())?),
                None => None,
            },
            expires: self.expires,
            administrator: self.administrator,
            tags: self.tags.clone(),
        })
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("access_key_id", &self.access_key_id)
            .field("principal_arn", &self.principal_arn)
            .field("administrator", &self.administrator)
            .finish_non_exhaustive()
    }
}

/// A user as the database holds it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SealedUser {
    access_key_id: String,
    sealed_secret: Vec<u8>,
    principal_arn: String,
    sealed_token: Option<Vec<u8>>,
    expires: Option<SystemTime>,
    administrator: bool,
    tags: BTreeMap<String, String>,
}

impl SealedUser {
    pub(super) fn open(self, open: impl Fn(&str, &[u8]) -> Option<Zeroizing<Vec<u8>>>) -> Option<User> {
        let Self { access_key_id, sealed_secret, principal_arn, sealed_token, expires, administrator, tags } =
            self;
        let text = |bytes: Zeroizing<Vec<u8>>| {
            std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned()))
        };
        let identity = identity(&access_key_id);
        let session_token = match sealed_token {
            Some(sealed) => Some(text(open(&format!("{identity}/token"), &sealed)?)?),
            None => None,
        };
        let secret_access_key = text(open(&identity, &sealed_secret)?)?;
        Some(User {
            access_key_id,
            secret_access_key,
            principal_arn,
            session_token,
            expires,
            administrator,
            tags,
        })
    }
}

fn identity(access_key_id: &str) -> String {
    format!("users/{access_key_id}")
}

fn encode(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes)
}
