//! One cluster: its token, its sessions, and what is asked of it.

use std::sync::{Arc, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::config::Entry;
use super::gcm::{self, KEY_BYTES, Nonce, Nonces};
use super::library::{Library, Started};
use super::permits::Permits;
use super::{HsmError, Password};

/// Most sessions at work at once.
const MAX_SESSIONS: usize = 16;
/// How long a call waits for one.
const SESSION_DEADLINE: Duration = Duration::from_secs(10);
/// Most objects that a list looks at: each is a round trip to the HSM.
const MAX_LISTED: usize = 1000;

/// A cluster of `hsm.toml`. That it is there says nothing about whether it answers.
pub(in crate::kms) struct Cluster {
    entry: Entry,
    anchor: CertificateDer<'static>,
    library: Arc<Library>,
    permits: Permits,
    nonces: OnceLock<Nonces>,
    changes: RwLock<()>,
}

/// A key in the HSM, by what it is called there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kms) struct Object {
    /// `CKA_ID`: the id of the key material.
    pub(in crate::kms) id: Vec<u8>,
    /// `CKA_LABEL`: the ARN of the key.
    pub(in crate::kms) label: String,
}

/// A session that is logged in.
struct Open<'a> {
    started: &'a Started,
    session: Session,
}

impl Cluster {
    pub(super) fn new(entry: Entry, anchor: CertificateDer<'static>) -> Self {
        let library = Library::at(&entry.module);
        let permits = Permits::new(MAX_SESSIONS);
        Self { entry, anchor, library, permits, nonces: OnceLock::new(), changes: RwLock::new(()) }
    }

    pub(in crate::kms) fn id(&self) -> &str {
        &self.entry.id
    }

    /// The certificate that `TrustAnchorCertificate` must be.
    pub(in crate::kms) fn anchor(&self) -> &CertificateDer<'static> {
        &self.anchor
    }

    /// Held while an object is made that no record names yet.
    pub(in crate::kms) fn making(&self) -> RwLockReadGuard<'_, ()> {
        self.changes.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Held while objects that no record names are removed.
    pub(in crate::kms) fn removing(&self) -> RwLockWriteGuard<'_, ()> {
        self.changes.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Whether the token is there and has what keys need. Nobody is logged in for that.
    ///
    /// # Errors
    /// [`HsmError::Unreachable`]; [`HsmError::Unsuitable`] without the mechanisms.
    pub(in crate::kms) fn check(&self) -> Result<(), HsmError> {
        self.again(|started| self.find_suitable(started))
    }

    /// Logs in with this password, whoever was logged in before.
    ///
    /// # Errors
    /// [`HsmError`] says what is wrong with password, user, token or mechanisms.
    pub(in crate::kms) fn connect(&self, password: &Password) -> Result<(), HsmError> {
        let _permit = self.permits.take(SESSION_DEADLINE)?;
        self.again(|started| {
            self.find_suitable(started)?;
            started.forget_token(self.token());
            let session = started.pkcs11.open_rw_session(self.slot(started)?)?;
            if is_logged_in(&session)? {
                session.logout()?;
            }
            session.login(UserType::User, Some(&self.pin(password)))?;
            self.nonces(&session)?;
            started.keep_session(self.token(), session);
            Ok(())
        })
    }

    /// Logs out and ends the sessions. An HSM that is gone has ended them itself.
    pub(in crate::kms) fn disconnect(&self) {
        let (_, _gone) = self.library.with(|started| {
            if let Some(session) = started.idle_session(self.token()) {
                let _ = session.logout();
            }
            started.forget_token(self.token());
            Ok(())
        });
    }

    /// Makes an AES-256 key that cannot leave the HSM.
    pub(in crate::kms) fn generate(&self, password: &Password, object: &Object) -> Result<(), HsmError> {
        self.run(password, |open| {
            let template = [
                Attribute::Class(ObjectClass::SECRET_KEY),
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Encrypt(true),
                Attribute::Decrypt(true),
                Attribute::Wrap(false),
                Attribute::Unwrap(false),
                Attribute::ValueLen(KEY_BYTES),
                Attribute::Id(object.id.clone()),
                Attribute::Label(object.label.clone().into_bytes()),
            ];
            let key = open.session.generate_key(&Mechanism::AesKeyGen, &template)?;
            if let Err(error) = confirm_kept(&open.session, key) {
                open.session.destroy_object(key)?;
                return Err(error);
            }
            open.started.keep_handle(self.token(), &object.id, key);
            Ok(())
        })
    }

    /// Destroys the key with this id; `false` if there was none.
    pub(in crate::kms) fn destroy(&self, password: &Password, id: &[u8]) -> Result<bool, HsmError> {
        self.run(password, |open| {
            open.started.forget_handle(self.token(), id);
            let found = open.session.find_objects(&by_id(id))?;
            for key in &found {
                open.session.destroy_object(*key)?;
            }
            Ok(!found.is_empty())
        })
    }

    /// The secret keys whose labels begin like this, as far as the list is looked at.
    pub(in crate::kms) fn objects(&self, password: &Password, label: &str) -> Result<Vec<Object>, HsmError> {
        self.run(password, |open| {
            let keys = [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Token(true)];
            let mut objects = Vec::new();
            for key in open.session.find_objects(&keys)?.into_iter().take(MAX_LISTED) {
                let names = open.session.get_attributes(key, &[AttributeType::Id, AttributeType::Label])?;
                objects.extend(object_of(names).filter(|object| object.label.starts_with(label)));
            }
            Ok(objects)
        })
    }

    pub(in crate::kms) fn encrypt(
        &self,
        password: &Password,
        id: &[u8],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<(Nonce, Vec<u8>), HsmError> {
        self.run(password, |open| {
            let key = self.key(open, id)?;
            gcm::encrypt(&open.session, key, self.nonces(&open.session)?, aad, plaintext)
        })
    }

    pub(in crate::kms) fn decrypt(
        &self,
        password: &Password,
        id: &[u8],
        nonce: &Nonce,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, HsmError> {
        self.run(password, |open| {
            let key = self.key(open, id)?;
            gcm::decrypt(&open.session, key, self.nonces(&open.session)?, nonce, aad, sealed)
        })
    }

    /// Fills `bytes` from the HSM's random source.
    pub(in crate::kms) fn random(&self, password: &Password, bytes: &mut [u8]) -> Result<(), HsmError> {
        let random = self.run(password, |open| {
            let mut random = Zeroizing::new(vec![0; bytes.len()]);
            open.session.generate_random_slice(&mut random)?;
            Ok(random)
        })?;
        bytes.copy_from_slice(&random);
        Ok(())
    }

    /// Works in a session; once more in a new one, and once more after a new start of the library.
    fn run<T>(
        &self,
        password: &Password,
        work: impl Fn(&Open<'_>) -> Result<T, HsmError>,
    ) -> Result<T, HsmError> {
        let _permit = self.permits.take(SESSION_DEADLINE)?;
        self.again(|started| {
            let open = self.open(started, password)?;
            let done = work(&open);
            match &done {
                Ok(_) | Err(HsmError::NotOpened) => started.keep_session(self.token(), open.session),
                Err(_) => started.forget_token(self.token()),
            }
            done
        })
    }

    fn again<T>(&self, work: impl Fn(&Started) -> Result<T, HsmError>) -> Result<T, HsmError> {
        let (mut seen, mut done) = self.library.with(&work);
        if matches!(done, Err(HsmError::Stale)) {
            (seen, done) = self.library.with(&work);
        }
        let gone = matches!(done, Err(HsmError::Stale | HsmError::Unreachable | HsmError::NoSuchKey));
        if gone && self.library.restart(seen).is_ok() {
            (_, done) = self.library.with(&work);
        }
        done
    }

    fn open<'a>(&self, started: &'a Started, password: &Password) -> Result<Open<'a>, HsmError> {
        if let Some(session) = started.idle_session(self.token()) {
            return Ok(Open { started, session });
        }
        // AWS's library has no read-only sessions.
        let session = started.pkcs11.open_rw_session(self.slot(started)?)?;
        if !is_logged_in(&session)? {
            match session.login(UserType::User, Some(&self.pin(password))) {
                // Another session was faster; a login is for all of them.
                Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Open { started, session })
    }

    fn key(&self, open: &Open<'_>, id: &[u8]) -> Result<ObjectHandle, HsmError> {
        if let Some(key) = open.started.handle(self.token(), id) {
            return Ok(key);
        }
        let found = open.session.find_objects(&by_id(id))?;
        let key = *found.first().ok_or(HsmError::NoSuchKey)?;
        open.started.keep_handle(self.token(), id, key);
        Ok(key)
    }

    fn nonces(&self, session: &Session) -> Result<Nonces, HsmError> {
        if let Some(nonces) = self.nonces.get() {
            return Ok(*nonces);
        }
        let nonces = Nonces::of(session)?;
        Ok(*self.nonces.get_or_init(|| nonces))
    }

    fn find_suitable(&self, started: &Started) -> Result<(), HsmError> {
        let mechanisms = started.pkcs11.get_mechanism_list(self.slot(started)?)?;
        let has = |mechanism| mechanisms.contains(&mechanism);
        if has(MechanismType::AES_KEY_GEN) && has(MechanismType::AES_GCM) {
            Ok(())
        } else {
            Err(HsmError::Unsuitable)
        }
    }

    /// The slot with the token; slot numbers change with every start.
    fn slot(&self, started: &Started) -> Result<Slot, HsmError> {
        for slot in started.pkcs11.get_slots_with_token()? {
            let Ok(token) = started.pkcs11.get_token_info(slot) else { continue };
            let named = self.entry.token.as_ref().is_none_or(|label| label == token.label());
            if token.token_initialized() && named {
                return Ok(slot);
            }
        }
        Err(HsmError::Unreachable)
    }

    fn token(&self) -> &str {
        self.entry.token.as_deref().unwrap_or_default()
    }

    fn pin(&self, password: &Password) -> AuthPin {
        let mut pin =
            String::with_capacity(password.len() + self.entry.user.as_ref().map_or(0, |user| user.len() + 1));
        if let Some(user) = &self.entry.user {
            pin.push_str(user);
            pin.push(':');
        }
        pin.push_str(password);
        AuthPin::from(pin)
    }
}

fn is_logged_in(session: &Session) -> Result<bool, HsmError> {
    let state = session.get_session_info()?.session_state();
    Ok(matches!(state, SessionState::RwUser | SessionState::RoUser | SessionState::RwSecurityOfficer))
}

fn by_id(id: &[u8]) -> [Attribute; 3] {
    [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Token(true), Attribute::Id(id.to_owned())]
}

/// Believes no library that it took the attributes it was given.
fn confirm_kept(session: &Session, key: ObjectHandle) -> Result<(), HsmError> {
    let kept = session.get_attributes(key, &[AttributeType::Sensitive, AttributeType::Extractable])?;
    if kept.contains(&Attribute::Sensitive(true)) && kept.contains(&Attribute::Extractable(false)) {
        Ok(())
    } else {
        Err(HsmError::Unsuitable)
    }
}

fn object_of(names: Vec<Attribute>) -> Option<Object> {
    let (mut id, mut label) = (None, None);
    for name in names {
        match name {
            Attribute::Id(bytes) => id = Some(bytes),
            Attribute::Label(bytes) => label = String::from_utf8(bytes).ok(),
            _ => {}
        }
    }
    Some(Object { id: id?, label: label? })
}
