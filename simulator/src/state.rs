//! The simulator's state folder: what lies where, and one `up` at a time.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Paths in one state folder. Everything in it may be deleted together, and only together.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// Uses this folder, made if absent, readable by nobody else.
    ///
    /// # Errors
    /// [`io::Error`] that names the folder.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
            io::Error::new(error.kind(), format!("the state folder {}: {error}", folder.display()))
        })?;
        let state = Self(fs_err::canonicalize(folder)?);
        fs_err::create_dir_all(state.0.join("logs"))?;
        Ok(state)
    }

    /// The folder where the user wants none in particular: `$XDG_STATE_HOME/adyton-sim`.
    pub fn default_path() -> PathBuf {
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        std::env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(home)
            .unwrap_or_else(|| PathBuf::from("."))
            .join("adyton-sim")
    }

    /// The folder itself; the NSM keeps its root in its subfolder `nsm`.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The local KMS's folder.
    pub fn kms(&self) -> PathBuf {
        self.0.join("kms")
    }

    /// The certificate that clients of the local KMS trust.
    pub fn kms_ca(&self) -> PathBuf {
        self.kms().join("ca.pem")
    }

    /// The root that the simulated NSM's documents lead to.
    pub fn nsm_root(&self) -> PathBuf {
        self.0.join("nsm/root.pem")
    }

    /// The socket that stands for the enclave.
    pub fn socket(&self) -> PathBuf {
        self.0.join("enclave.sock")
    }

    /// The measured policy.
    pub fn policy(&self) -> PathBuf {
        self.0.join("policy.toml")
    }

    /// Access keys for the local KMS, in AWS's format.
    pub fn credentials(&self) -> PathBuf {
        self.0.join("credentials")
    }

    /// The demo requester's key.
    pub fn requester_key(&self) -> PathBuf {
        self.0.join("requester.key")
    }

    /// Settings for the `adyton` command.
    pub fn client_config(&self) -> PathBuf {
        self.0.join("adyton.toml")
    }

    /// ARN of the partner's key.
    pub fn partner_key_arn(&self) -> PathBuf {
        self.0.join("partner-key-arn")
    }

    /// The auditor's age identity.
    pub fn auditor(&self) -> PathBuf {
        self.0.join("auditor.key")
    }

    /// Wrapped named keys, for the policy's `file:` sources.
    pub fn named_keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// What runs at present.
    pub fn up(&self) -> PathBuf {
        self.0.join("up.json")
    }

    /// The ARN of the KMS key that was made for this state.
    pub fn key_arn(&self) -> PathBuf {
        self.0.join("key-arn")
    }

    /// A part's log.
    pub fn log(&self, part: &str) -> PathBuf {
        self.0.join("logs").join(format!("{part}.log"))
    }

    /// Takes the folder for one `up`; `None` if another has it.
    ///
    /// # Errors
    /// [`io::Error`] if the lock file cannot be made.
    pub fn lock(&self) -> io::Result<Option<Lock>> {
        let file =
            File::options().write(true).create(true).truncate(false).mode(0o600).open(self.0.join("lock"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Holds the state folder until dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Writes under another name and renames, so that a reader sees all of it or nothing. Only the
/// owner can read it.
///
/// # Errors
/// [`io::Error`].
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
