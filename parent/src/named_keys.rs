//! Hands wrapped named keys to enclaves, on port 8002.
//!
//! A `file:` source is a file in one folder, which the operator names; a source is a plain name, so it
//! leads nowhere else. What is wrapped is no secret from this machine: it opens inside an attested
//! enclave only, under the key and context of the enclave's policy.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adyton_shared::limits::MAX_WRAPPED_KEY_BYTES;
use adyton_shared::message::{KeyAnswer, KeyQuestion};
use adyton_shared::policy::Source;
use serde_bytes::ByteBuf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::answer::{ConverseError, answer};
use crate::counters::Counters;
use crate::listen::{self, Accept};

/// Conversations at once; each needs a descriptor and 8 KiB.
const MAX_CONNECTIONS: usize = 64;

/// Serves wrapped keys from a folder.
pub struct NamedKeyService {
    folder: PathBuf,
    places: Arc<Semaphore>,
    counters: Arc<Counters>,
}

impl NamedKeyService {
    /// A service for this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)), counters: Arc::default() }
    }

    /// What it has done so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves for ever.
    pub async fn serve(self: Arc<Self>, listener: impl Accept) {
        let (places, counters) = (Arc::clone(&self.places), self.counters());
        let handle = |stream| {
            let service = Arc::clone(&self);
            async move {
                if let Err(error) = service.converse(stream).await {
                    service.counters.fail();
                    tracing::debug!(%error, "a request for a named key failed");
                }
            }
        };
        listen::serve(listener, places, counters, handle).await;
    }

    async fn converse(&self, stream: impl AsyncRead + AsyncWrite) -> Result<(), ConverseError> {
        answer(stream, |KeyQuestion::Wrapped { name, source }| async move {
            match self.fetch(source.clone()).await {
                Ok(blob) => KeyAnswer::Wrapped { blob: ByteBuf::from(blob) },
                Err(error) => {
                    tracing::warn!(%name, %source, %error, "no wrapped key for the enclave");
                    KeyAnswer::Missing {}
                }
            }
        })
        .await
    }

    /// What is kept there.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, source: Source) -> Result<Vec<u8>, FetchError> {
        match source {
            Source::File(name) => {
                let path = self.folder.join(name);
                let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
                read.map_err(|error| FetchError::Io(error.into()))?
            }
        }
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, FetchError> {
    // A pipe in the folder would hold this thread for ever.
    if !std::fs::metadata(path)?.is_file() {
        return Err(FetchError::NoFile);
    }
    let limit = MAX_WRAPPED_KEY_BYTES as u64;
    let mut blob = Vec::new();
    std::fs::File::open(path)?.take(limit + 1).read_to_end(&mut blob)?;
    if blob.len() as u64 > limit { Err(FetchError::TooLarge) } else { Ok(blob) }
}

impl fmt::Debug for NamedKeyService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedKeyService").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Why there is nothing to hand out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The file system.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A folder, a pipe, a device.
    #[error("it is no ordinary file")]
    NoFile,
    /// KMS wraps no key so long.
    #[error("it is longer than {MAX_WRAPPED_KEY_BYTES} bytes, which no wrapped key is")]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hands_out_ordinary_files_of_its_folder_only() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("keys");
        std::fs::create_dir_all(folder.join("folder")).unwrap();
        std::fs::write(outside.path().join("secret"), b"outside").unwrap();
        std::fs::write(folder.join("token.key"), b"wrapped").unwrap();
        std::fs::write(folder.join("long"), vec![0; MAX_WRAPPED_KEY_BYTES + 1]).unwrap();
        let service = NamedKeyService::new(folder);
        assert_eq!(service.fetch("file:token.key".parse().unwrap()).await.unwrap(), b"wrapped");
        let error = |name: &str| {
            let source = name.parse().unwrap();
            let service = &service;
            async move { service.fetch(source).await.unwrap_err() }
        };
        assert!(matches!(error("file:none").await, FetchError::Io(_)));
        assert!(matches!(error("file:folder").await, FetchError::NoFile));
        assert!(matches!(error("file:long").await, FetchError::TooLarge));
        assert!("file:../secret".parse::<Source>().is_err());
    }
}
