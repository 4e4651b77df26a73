//! A local AWS KMS that says no for the right reason.
//!
//! It speaks the real protocol (AWS JSON 1.1 over TLS, signatures checked), so every AWS SDK can talk to
//! it; it verifies attestation documents with the production verifier, evaluates key policies with
//! their condition keys, answers with `CiphertextForRecipient`, throttles, persists, and writes an
//! audit log in CloudTrail's shape. It trusts its state folder and the one attestation root it is
//! given, which is its only deliberate difference from AWS. A bad document is an error here, never
//! a reason to answer in plaintext.
//!
//! What it never does: act for a caller on the word of a request. Everything that a policy
//! condition sees comes from the connection, the verified signature or the verified document;
//! `kms:ViaService` is always absent, because no AWS service calls on anybody's behalf.

mod admin;
mod asymmetric;
mod audit;
mod authorize;
mod blob;
mod call;
mod chains;
mod cms;
mod conditions;
mod decisions;
mod error;
mod explain;
mod faults;
mod fixture;
mod grants;
mod hsm;
mod iam;
mod iam_endpoint;
mod input;
mod key;
mod key_id;
mod key_store;
mod master;
mod material;
mod metrics;
mod operations;
mod patience;
mod quota;
mod recipient;
#[cfg(test)]
mod robustness;
mod server;
mod settle;
pub mod sigv4;
mod spec;
mod stale;
mod store;
mod sts;
mod tls;
mod usage;
mod user;
mod wrapping;

use std::fmt;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use adyton_verifier::attestation::TrustAnchor;
use adyton_verifier::key_policy::PrincipalError;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use audit::{AuditVerdict, verify_audit};
pub use cms::{CmsForm, KeyEncryption};
pub use decisions::{By, CallRecord, Judgement, Traced, Unmet, Which, find_call};
pub use faults::{Faults, Rule, RuleError};
pub use fixture::{FixtureError, FixtureKey, export_state, import_state};
pub use iam::IdentityPolicyRecord;
pub use quota::{Quota, QuotaError, Quotas};
pub use sts::{Role, RoleError};
pub use user::User;

use audit::AuditLog;
use chains::Chains;
use decisions::Decisions;
use faults::Running;
use hsm::Clusters;
use key::Millis;
use master::RootKey;
use metrics::Metrics;
use quota::Throttle;
use stale::Stale;
use store::Store;

/// Where the service reads the time.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// How a local KMS starts.
#[derive(Clone)]
pub struct KmsConfig {
    /// Database, root key, certificates and audit log lie here; made if absent.
    pub state_dir: PathBuf,
    /// The twelve-digit account that the first administrator belongs to. Others begin to exist with
    /// their first user.
    pub account: String,
    /// The region in the server's certificate. Every region is served: a call's is the one that it
    /// was signed for.
    pub region: String,
    /// The root that attestation documents must lead to. With AWS's, real documents are accepted.
    pub attestation_root: TrustAnchor,
    /// The service's clock: signatures, documents, waiting periods, throttling.
    pub clock: Clock,
    /// The file that names the HSM clusters of custom key stores; `hsm.toml` in the state folder if
    /// not given and there.
    pub hsm: Option<PathBuf>,
    /// How many symmetric cryptographic operations an account may ask for, unless `quotas` says.
    pub quota: Quota,
    /// How many calls of each kind an account may ask for; if not given, what `quota.toml` in the state
    /// folder says, else [`Quotas::relaxed`] with `quota`.
    pub quotas: Option<Quotas>,
    /// The encoding of `CiphertextForRecipient`.
    pub cms_form: CmsForm,
    /// Names for the server's certificate besides `localhost`, `127.0.0.1`, `::1` and `kms.REGION.localhost`.
    pub server_names: Vec<String>,
    /// Whether `POST /_adyton/faults` is answered, on loopback connections only. Off by default.
    pub faults_endpoint: bool,
    /// Whether `PUT /_adyton/iam/PRINCIPAL/NAME` and its like are answered, on loopback connections
    /// only. Off by default.
    pub iam_endpoint: bool,
    /// Whether `POST /_adyton/reset` is answered, on loopback connections only. Off by default.
    pub admin_endpoint: bool,
}

impl KmsConfig {
    /// Account 111122223333 in eu-west-1 on the host's clock, with a generous quota.
    pub fn new(state_dir: impl Into<PathBuf>, attestation_root: TrustAnchor) -> Self {
        Self {
            state_dir: state_dir.into(),
            account: "111122223333".into(),
            region: "eu-west-1".into(),
            attestation_root,
            clock: Arc::new(SystemTime::now),
            hsm: None,
            quota: Quota::default(),
            quotas: None,
            cms_form: CmsForm::default(),
            server_names: Vec::new(),
            faults_endpoint: false,
            iam_endpoint: false,
            admin_endpoint: false,
        }
    }
}

impl fmt::Debug for KmsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KmsConfig")
            .field("state_dir", &self.state_dir)
            .field("account", &self.account)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// Why the local KMS could not start or keep its state.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KmsError {
    /// A file or the listener cannot be used; the source names it.
    #[error("the state folder of the local KMS is not usable")]
    State(#[from] io::Error),
    /// The database failed, or another process has it open.
    #[error("the database of the local KMS is not usable")]
    Database(#[source] Box<redb::Error>),
    /// The database was written by another version of the simulator.
    #[error("the database of the local KMS has another format; remove the state folder to start anew")]
    Format,
    /// A record of the database cannot be read.
    #[error("a record in the database of the local KMS is damaged")]
    Record,
    /// A sealed secret does not open: the root key is not the one it was sealed under.
    #[error("a secret in the database of the local KMS does not open under its root key")]
    Sealed,
    /// A certificate could not be made.
    #[error("could not make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS certificate or its key is missing or damaged.
    #[error("{} is missing or damaged; remove it and its companion to start with a new certificate authority", path.display())]
    Authority {
        /// The file that is wrong.
        path: PathBuf,
    },
    /// TLS could not be set up.
    #[error("could not set up TLS")]
    Tls(#[from] rustls::Error),
    /// The figures of the request quotas.
    #[error("{}", path.display())]
    Quota {
        /// The file that is wrong.
        path: PathBuf,
        /// What is wrong in it.
        source: QuotaError,
    },
    /// Account or region cannot be part of an ARN.
    #[error("the {0} of the local KMS is malformed")]
    Identity(&'static str),
    /// Not the ARN of a user, a role session or an account's root.
    #[error("a KMS user needs the ARN of an IAM user, an assumed role or an account's root")]
    Principal(#[from] PrincipalError),
    /// The system's random source or the cryptographic library failed.
    #[error("the cryptographic library failed")]
    Crypto,
    /// The secret is in an HSM, which keeps it.
    #[error("the secret of the key is in an HSM")]
    InHsm,
    /// IAM would refuse it.
    #[error("{code}: {message}")]
    Iam {
        /// IAM's name of the error.
        code: &'static str,
        /// In IAM's words.
        message: String,
    },
    /// A role that cannot be one.
    #[error("not a role")]
    Role(#[from] RoleError),
    /// A key vanished between two steps.
    #[error("the key is gone")]
    Gone,
}

macro_rules! database_errors {
    ($($source:ty),*) => {$(
        impl From<$source> for KmsError {
            fn from(error: $source) -> Self {
                Self::Database(Box::new(error.into()))
            }
        }
    )*};
}

database_errors!(
    redb::Error,
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

/// How clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TLS under the authority in [`KmsServer::ca_pem`], as every SDK expects.
    Tls,
    /// Plain HTTP, for a look at the protocol.
    Plain,
}

/// A local KMS. Clones share one state.
#[derive(Clone)]
pub struct KmsServer {
    service: Arc<Service>,
    tls: Arc<tls::Identity>,
    permits: Arc<Semaphore>,
    faults_endpoint: bool,
    iam_endpoint: bool,
    admin_endpoint: bool,
}

impl KmsServer {
    /// Opens the state folder, making root key, database, certificate authority and a first
    /// administrator if it is new.
    ///
    /// # Errors
    /// [`KmsError`] if the folder cannot be used, is in use by another process, or is damaged.
    pub fn open(config: KmsConfig) -> Result<Self, KmsError> {
        let KmsConfig {
            state_dir,
            account,
            region,
            attestation_root,
            clock,
            hsm,
            quota,
            quotas,
            cms_form,
            server_names,
            faults_endpoint,
            iam_endpoint,
            admin_endpoint,
        } = config;
        if account.len() != 12 || !account.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(KmsError::Identity("account"));
        }
        if region.is_empty()
            || !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return Err(KmsError::Identity("region"));
        }
        make_folder(&state_dir)?;
        let quotas = match quotas {
            Some(quotas) => quotas,
            None => quotas_of(&state_dir.join("quota.toml"), quota)?,
        };
        let store = Store::open(&state_dir)?;
        let clusters = Clusters::open(hsm.as_deref(), &state_dir)?;
        let tls = tls::Identity::open(&state_dir, &region, &server_names)?;
        let root = RootKey::open(&state_dir.join("root.key"), false)?;
        let audit = AuditLog::open(&state_dir.join("audit.ndjson"), root, millis(clock()))?;
        let service = Service {
            account,
            region,
            anchor: attestation_root,
            chains: Chains::default(),
            clock,
            cms_form,
            clusters,
            store,
            throttle: Throttle::new(quotas),
            audit,
            metrics: Metrics::default(),
            decisions: Decisions::open(&state_dir)?,
            faults: Mutex::default(),
            usage: usage::Usage::default(),
            stale: Stale::default(),
        };
        service.start()?;
        Ok(Self {
            service: Arc::new(service),
            tls: Arc::new(tls),
            permits: Arc::new(Semaphore::new(server::MAX_CONNECTIONS)),
            faults_endpoint,
            iam_endpoint,
            admin_endpoint,
        })
    }

    /// Serves connections until `shutdown` resolves, then lets calls under way finish.
    ///
    /// # Errors
    /// [`KmsError::State`] if the listener has no address. A failing connection ends alone.
    pub async fn serve(
        &self,
        listener: TcpListener,
        transport: Transport,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), KmsError> {
        server::serve(self.clone(), listener, transport, shutdown).await?;
        self.service.write_usage()
    }

    /// The certificate of the authority that clients have to trust, in PEM; also in `ca.pem`.
    pub fn ca_pem(&self) -> &str {
        self.tls.ca_pem()
    }

    /// The administrator made at the first start.
    ///
    /// # Errors
    /// [`KmsError`] if the database fails or holds no administrator any more.
    pub fn first_administrator(&self) -> Result<User, KmsError> {
        let name = self.service.administrator_arn();
        let users = self.service.store.users()?;
        users.into_iter().find(|user| user.administrator && user.principal_arn == name).ok_or(KmsError::Gone)
    }

    /// Adds a user, or replaces the one with the same access key id. Durable when it returns.
    ///
    /// # Errors
    /// [`KmsError`] if the principal's ARN is malformed or the database fails.
    pub fn add_user(&self, user: &User) -> Result<(), KmsError> {
        user.check()?;
        self.service.store.put_user(user)
    }

    /// Removes a user; `false` if there was none.
    ///
    /// # Errors
    /// [`KmsError`] if the database fails.
    pub fn remove_user(&self, access_key_id: &str) -> Result<bool, KmsError> {
        self.service.store.remove_user(access_key_id)
    }

    /// All users.
    ///
    /// # Errors
    /// [`KmsError`] if the database fails.
    pub fn users(&self) -> Result<Vec<User>, KmsError> {
        self.service.store.users()
    }

    /// Adds a role, or replaces the one with the same ARN. Durable when it returns.
    ///
    /// # Errors
    /// [`KmsError`] if the role cannot be one or the database fails.
    pub fn add_role(&self, role: &Role) -> Result<(), KmsError> {
        role.check()?;
        self.service.store.put_role(role)
    }

    /// Removes a role, and with it all its sessions; `false` if there was none.
    ///
    /// # Errors
    /// [`KmsError`] if the database fails.
    pub fn remove_role(&self, arn: &str) -> Result<bool, KmsError> {
        self.service.store.remove_role(arn)
    }

    /// All roles.
    ///
    /// # Errors
    /// [`KmsError`] if the database fails.
    pub fn roles(&self) -> Result<Vec<Role>, KmsError> {
        self.service.store.roles()
    }

    /// Removes all keys with their aliases and grants, ends all faults and fills all quotas. Users and
    /// roles, certificates and the audit log stay.
    ///
    /// # Errors
    /// [`KmsError`] if the database fails; then nothing is removed.
    pub fn reset(&self) -> Result<(), KmsError> {
        self.service.store.reset()?;
        self.set_faults(Faults::default());
        self.service.stale.clear();
        self.service.throttle.fill();
        Ok(())
    }

    fn connections(&self) -> usize {
        server::MAX_CONNECTIONS.saturating_sub(self.permits.available_permits())
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        let now = millis((self.service.clock)());
        *self.service.running() = Running::start(faults, now);
    }

    /// What goes wrong now; counters have run down.
    pub fn faults(&self) -> Faults {
        self.service.running().faults().clone()
    }
}

impl fmt::Debug for KmsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KmsServer")
            .field("account", &self.service.account)
            .field("region", &self.service.region)
            .finish_non_exhaustive()
    }
}

/// What all calls share.
struct Service {
    account: String,
    region: String,
    anchor: TrustAnchor,
    chains: Chains,
    clock: Clock,
    cms_form: CmsForm,
    clusters: Clusters,
    store: Store,
    throttle: Throttle,
    audit: AuditLog,
    decisions: Decisions,
    metrics: Metrics,
    faults: Mutex<Running>,
    usage: usage::Usage,
    stale: Stale,
}

impl Service {
    fn start(&self) -> Result<(), KmsError> {
        if !self.store.has_users()? {
            self.store.put_user(&User::generate(self.administrator_arn(), true)?)?;
        }
        // An exchanged root key is better noticed now than by the first caller.
        self.store.users()?;
        self.settle(millis((self.clock)()))?;
        if let Err(error) = self.remove_all_loose() {
            tracing::warn!(code = error.code, "what deleted keys left in custom key stores was not removed");
        }
        Ok(())
    }

    fn administrator_arn(&self) -> String {
        format!("arn:aws:iam::{}:user/administrator", self.account)
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // A panic leaves counters that are each whole.
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn millis(time: SystemTime) -> Millis {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn quotas_of(path: &Path, symmetric: Quota) -> Result<Quotas, KmsError> {
    if !path.try_exists()? {
        return Ok(Quotas::relaxed().with_symmetric(symmetric));
    }
    Quotas::parse(&fs_err::read_to_string(path)?)
        .map_err(|source| KmsError::Quota { path: path.to_owned(), source })
}

fn make_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
