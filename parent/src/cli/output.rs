//! Output that appears whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, linkat};

use super::failure::failed_with;
use crate::exit::{Exit, Failure};

/// Where a command writes to.
pub(super) enum Target {
    Stdout,
    File { path: PathBuf, force: bool },
}

impl Target {
    /// Looks at the output before anything is sent: `-` is standard output, and a file is not
    /// overwritten unless told so.
    pub(super) fn check(path: PathBuf, force: bool) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Ok(Self::Stdout);
        }
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                let message = format!("{} is a folder", path.display());
                Err(failed_with(Exit::File, message, "name a file in it"))
            }
            Ok(_) if !force => {
                let message = format!("{} exists", path.display());
                Err(failed_with(Exit::File, message, "--force overwrites it"))
            }
            Err(_) if !folder(&path).is_dir() => {
                let message = format!("the folder of {} does not exist", path.display());
                Err(failed_with(Exit::File, message, "make it first"))
            }
            Ok(_) | Err(_) => Ok(Self::File { path, force }),
        }
    }

    /// Where temporary files go: beside the output, so that they can become it.
    pub(super) fn folder(&self) -> PathBuf {
        match self {
            Self::Stdout => std::env::temp_dir(),
            Self::File { path, .. } => folder(path),
        }
    }

    /// Begins to write.
    pub(super) fn open(&self) -> io::Result<Pending> {
        // Unnamed: whatever ends this program, nothing half-written stays.
        Ok(Pending { file: BufWriter::with_capacity(256 * 1024, tempfile::tempfile_in(self.folder())?) })
    }
}

fn folder(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Output that nobody can see yet.
pub(super) struct Pending {
    file: BufWriter<File>,
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Pending {
    /// Makes the output appear.
    pub(super) fn commit(self, target: &Target) -> io::Result<()> {
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        match target {
            Target::Stdout => {
                io::Seek::rewind(&mut file)?;
                let mut out = io::stdout().lock();
                io::copy(&mut file, &mut out)?;
                out.flush()
            }
            Target::File { path, force } => {
                file.sync_all()?;
                name(&file, path, *force)
            }
        }
    }
}

/// Gives an unnamed file its name. Without `force` an existing file wins, even one made meanwhile.
fn name(file: &File, path: &Path, force: bool) -> io::Result<()> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |to: &Path| linkat(CWD, unnamed.as_str(), CWD, to, AtFlags::SYMLINK_FOLLOW);
    if !force {
        return Ok(link(path)?);
    }
    let temporary =
        tempfile::Builder::new().prefix(".adyton-").make_in(folder(path), |name| Ok(link(name)?))?;
    temporary.into_temp_path().persist(path).map_err(|error| error.error)
}
