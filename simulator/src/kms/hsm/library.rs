//! A PKCS#11 library: loaded once in a process, started anew when what is behind it has changed.
//!
//! Such a library has one state in the whole process (`C_Initialize`, `C_Finalize`), so there is one
//! [`Library`] for a path, whoever asks. Libraries see new or returned tokens only when they start,
//! and a session handle of an earlier start may name somebody else's session in the next: therefore
//! every call holds the lock shared, and a new start holds it alone and ends all sessions first.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use super::HsmError;

/// Shortest time between two starts: with an HSM that stays away, calls must fail fast.
const START_PAUSE: Duration = Duration::from_secs(1);
/// Most object handles remembered for a token, about 64 bytes each; then the memory starts anew.
const MAX_HANDLES: usize = 10_000;

static LIBRARIES: Mutex<BTreeMap<PathBuf, Arc<Library>>> = Mutex::new(BTreeMap::new());

/// The library at one path.
pub(super) struct Library {
    path: PathBuf,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    /// Never unloaded: cryptographic libraries do not survive that.
    loaded: Option<Pkcs11>,
    started: Option<Started>,
}

/// The library between `C_Initialize` and `C_Finalize`.
pub(super) struct Started {
    pub(super) pkcs11: Pkcs11,
    since: Instant,
    tokens: Mutex<BTreeMap<String, Token>>,
}

/// What is kept for a token: logged-in sessions that nobody uses, and where objects are.
#[derive(Default)]
struct Token {
    idle: Vec<Session>,
    handles: HashMap<Vec<u8>, ObjectHandle>,
}

impl Library {
    /// The library at this path, which need not exist yet.
    pub(super) fn at(path: &Path) -> Arc<Self> {
        let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
        let library = libraries
            .entry(path.to_owned())
            .or_insert_with(|| Arc::new(Self { path: path.to_owned(), state: RwLock::default() }));
        Arc::clone(library)
    }

    /// Works with the library, starting it if need be. Also says which start it was.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Started) -> Result<T, HsmError>,
    ) -> (Option<Instant>, Result<T, HsmError>) {
        if !self.is_started()
            && let Err(error) = self.start()
        {
            return (None, Err(error));
        }
        match &self.state.read().unwrap_or_else(PoisonError::into_inner).started {
            Some(started) => (Some(started.since), work(started)),
            None => (None, Err(HsmError::Unreachable)),
        }
    }

    fn is_started(&self) -> bool {
        self.state.read().unwrap_or_else(PoisonError::into_inner).started.is_some()
    }

    fn start(&self) -> Result<(), HsmError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.started.is_none() {
            state.start(&self.path)?;
        }
        Ok(())
    }

    /// Starts the library anew, unless that has been done since the start `seen`, or just now.
    ///
    /// # Errors
    /// [`HsmError::Unreachable`] if there was no new start and none was made.
    pub(super) fn restart(&self, seen: Option<Instant>) -> Result<(), HsmError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let since = state.started.as_ref().map(|started| started.since);
        if since != seen {
            return Ok(());
        }
        if since.is_some_and(|since| since.elapsed() < START_PAUSE) {
            return Err(HsmError::Unreachable);
        }
        // Ends its sessions.
        state.started = None;
        if let Some(pkcs11) = state.loaded.clone() {
            let _ = pkcs11.finalize();
        }
        state.start(&self.path)
    }
}

impl State {
    fn start(&mut self, path: &Path) -> Result<(), HsmError> {
        let pkcs11 = match &self.loaded {
            Some(pkcs11) => pkcs11.clone(),
            None => self.loaded.insert(Pkcs11::new(path)?).clone(),
        };
        self.started = Some(Started::initialize(pkcs11)?);
        Ok(())
    }
}

impl Started {
    fn initialize(pkcs11: Pkcs11) -> Result<Self, HsmError> {
        match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self { pkcs11, since: Instant::now(), tokens: Mutex::default() })
    }

    fn token<T>(&self, token: &str, look: impl FnOnce(&mut Token) -> T) -> T {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        look(tokens.entry(token.to_owned()).or_default())
    }

    pub(super) fn idle_session(&self, token: &str) -> Option<Session> {
        self.token(token, |token| token.idle.pop())
    }

    pub(super) fn keep_session(&self, token: &str, session: Session) {
        self.token(token, |token| token.idle.push(session));
    }

    pub(super) fn handle(&self, token: &str, id: &[u8]) -> Option<ObjectHandle> {
        self.token(token, |token| token.handles.get(id).copied())
    }

    pub(super) fn keep_handle(&self, token: &str, id: &[u8], handle: ObjectHandle) {
        self.token(token, |token| {
            if token.handles.len() >= MAX_HANDLES {
                token.handles.clear();
            }
            token.handles.insert(id.to_owned(), handle);
        });
    }

    pub(super) fn forget_handle(&self, token: &str, id: &[u8]) {
        self.token(token, |token| token.handles.remove(id));
    }

    /// Ends the sessions that nobody uses and forgets where objects are.
    pub(super) fn forget_token(&self, token: &str) {
        let forgotten = self.token(token, std::mem::take);
        drop(forgotten);
    }
}
