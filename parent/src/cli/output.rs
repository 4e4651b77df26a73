//! Output that appears whole or not at all.
//!
//! A file is written without a name (`O_TMPFILE`) and linked to its name when it is complete, so that
//! even a killed process leaves nothing. Where the file system knows no unnamed files, a hidden name
//! is used, which only a killed process leaves behind. What is no regular file, such as a pipe or
//! `/dev/null`, is written through at the end and never replaced.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};
use tempfile::{NamedTempFile, TempPath};

use super::failure::failed_with;
use crate::exit::{Exit, Failure};

const BUFFER_BYTES: usize = 256 * 1024;

/// Where a command writes to.
pub(super) enum Target {
    /// Standard output.
    Stdout,
    /// A file that will be made, or replaced.
    File { path: PathBuf, force: bool },
    /// Something that is there and is no regular file.
    Special { path: PathBuf },
}

impl Target {
    /// Looks at the output before anything is sent: `-` is standard output, and a file is not
    /// overwritten unless told so.
    pub(super) fn check(path: PathBuf, force: bool) -> Result<Self, Failure> {
        if path.as_os_str() == "-" {
            return Ok(Self::Stdout);
        }
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                let message = format!("{} is a folder", path.display());
                Err(failed_with(Exit::File, message, "name a file in it"))
            }
            Ok(metadata) if !metadata.is_file() => Ok(Self::Special { path }),
            // A link that leads nowhere is there, too.
            _ if !force && std::fs::symlink_metadata(&path).is_ok() => {
                let message = format!("{} exists", path.display());
                Err(failed_with(Exit::File, message, "--force overwrites it"))
            }
            Err(_) if !folder(&path).is_dir() => {
                let message = format!("the folder of {} does not exist", path.display());
                Err(failed_with(Exit::File, message, "make it first"))
            }
            _ => Ok(Self::File { path, force }),
        }
    }

    /// Whether both would be written to one place, however it is spelt.
    pub(super) fn is_same_place(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Stdout, Self::Stdout) => true,
            (Self::File { path: one, .. }, Self::File { path: two, .. }) => same_file(one, two),
            _ => false,
        }
    }

    /// Where temporary files go: beside the output, so that they can become it.
    pub(super) fn folder(&self) -> PathBuf {
        match self {
            Self::Stdout | Self::Special { .. } => std::env::temp_dir(),
            Self::File { path, .. } => folder(path),
        }
    }

    /// Begins to write.
    pub(super) fn open(&self) -> io::Result<Pending> {
        let temporary = match self {
            Self::Stdout | Self::Special { .. } => Temporary::Unnamed(tempfile::tempfile()?),
            Self::File { .. } => temporary(&self.folder())?,
        };
        Ok(Pending { file: BufWriter::with_capacity(BUFFER_BYTES, temporary) })
    }
}

fn folder(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Whether two names are of one file: of one folder and one name, or of one file that is there.
fn same_file(one: &Path, two: &Path) -> bool {
    let place = |path: &Path| Some((folder(path).canonicalize().ok()?, path.file_name()?.to_owned()));
    let file = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let same = |one: Option<_>, two| one.is_some() && one == two;
    one == two || same(place(one), place(two)) || file(one).is_some_and(|found| Some(found) == file(two))
}

/// Output that nobody can see yet.
pub(super) struct Pending {
    file: BufWriter<Temporary>,
}

enum Temporary {
    Unnamed(File),
    /// Removed by drop.
    Named(NamedTempFile),
}

fn temporary(folder: &Path) -> io::Result<Temporary> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match openat(CWD, folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(Temporary::Unnamed(file.into())),
        // File systems say in different ways that they have no unnamed files; any other reason holds here, too.
        Err(_) => Ok(Temporary::Named(hidden().tempfile_in(folder)?)),
    }
}

fn hidden() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".adyton-").suffix(".part");
    builder
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Write for Temporary {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unnamed(file) => file.write(bytes),
            Self::Named(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pending {
    /// Makes the output appear; what was there before can be had back.
    pub(super) fn commit_undoably(self, target: &Target) -> io::Result<Committed> {
        let mut committed = Committed { path: None, before: None };
        if let Target::File { path, .. } = target {
            // A link where the file system has links: what is there is not moved for a moment.
            let keep = |name: &Path| match std::fs::hard_link(path, name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => std::fs::copy(path, name).map(drop),
                linked => linked,
            };
            committed.before = match hidden().make_in(folder(path), keep) {
                Ok(kept) => Some(kept.into_temp_path()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            };
            committed.path = Some(path.clone());
        }
        self.commit(target)?;
        Ok(committed)
    }

    /// Makes the output appear.
    pub(super) fn commit(self, target: &Target) -> io::Result<()> {
        let temporary = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        match (target, temporary) {
            (Target::Stdout, temporary) => copy(temporary, &mut io::stdout().lock()),
            (Target::Special { path }, temporary) => {
                copy(temporary, &mut File::options().write(true).open(path)?)
            }
            (Target::File { path, force }, Temporary::Unnamed(file)) => {
                file.sync_all()?;
                name(&file, path, *force)
            }
            (Target::File { path, force }, Temporary::Named(file)) => {
                file.as_file().sync_all()?;
                let kept = if *force { file.persist(path) } else { file.persist_noclobber(path) };
                kept.map(drop).map_err(|error| error.error)
            }
        }
    }
}

/// Output that has appeared and may have to go again. What it replaced is gone once this is dropped.
pub(super) struct Committed {
    path: Option<PathBuf>,
    before: Option<TempPath>,
}

impl Committed {
    /// Takes the output back: what was there before is there again.
    pub(super) fn undo(self) -> io::Result<()> {
        match (self.path, self.before) {
            (Some(path), Some(before)) => before.persist(path).map_err(|error| error.error),
            (Some(path), None) => std::fs::remove_file(path),
            (None, _) => Ok(()),
        }
    }
}

fn copy(temporary: Temporary, out: &mut impl Write) -> io::Result<()> {
    let mut file = match temporary {
        Temporary::Unnamed(file) => file,
        Temporary::Named(file) => file.into_file(),
    };
    io::Seek::rewind(&mut file)?;
    io::copy(&mut file, out)?;
    out.flush()
}

/// Gives an unnamed file its name. Without `force` an existing file wins, even one made meanwhile.
fn name(file: &File, path: &Path, force: bool) -> io::Result<()> {
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |to: &Path| linkat(CWD, unnamed.as_str(), CWD, to, AtFlags::SYMLINK_FOLLOW);
    if !force {
        return Ok(link(path)?);
    }
    let temporary = hidden().make_in(folder(path), |name| Ok(link(name)?))?;
    temporary.into_temp_path().persist(path).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn target(path: &Path, force: bool) -> Target {
        Target::check(path.to_owned(), force).unwrap()
    }

    fn message(path: &Path, force: bool) -> String {
        Target::check(path.to_owned(), force).err().unwrap().message
    }

    #[test]
    fn a_file_appears_whole_and_an_abandoned_one_never() {
        let scratch = tempfile::tempdir().unwrap();
        let target = target(&scratch.path().join("out"), false);
        let mut pending = target.open().unwrap();
        pending.write_all(b"half").unwrap();
        pending.flush().unwrap();
        assert_eq!(names(scratch.path()), Vec::<String>::new());
        drop(pending);
        let mut pending = target.open().unwrap();
        pending.write_all(b"whole").unwrap();
        pending.commit(&target).unwrap();
        assert_eq!(names(scratch.path()), ["out"]);
        assert_eq!(std::fs::read(scratch.path().join("out")).unwrap(), b"whole");
    }

    #[test]
    fn a_hidden_name_serves_where_there_are_no_unnamed_files() {
        for force in [false, true] {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("out");
            let target = target(&path, force);
            let named = || Temporary::Named(hidden().tempfile_in(scratch.path()).unwrap());
            drop(Pending { file: BufWriter::new(named()) });
            assert_eq!(names(scratch.path()), Vec::<String>::new());
            let mut pending = Pending { file: BufWriter::new(named()) };
            pending.write_all(b"whole").unwrap();
            pending.commit(&target).unwrap();
            assert_eq!(names(scratch.path()), ["out"]);
            assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        }
    }

    #[test]
    fn replaces_only_when_told_to_and_never_in_part() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("out");
        std::fs::write(&path, "old").unwrap();
        assert!(message(&path, false).ends_with("out exists"));
        let target = target(&path, true);
        let mut pending = target.open().unwrap();
        pending.write_all(b"new").unwrap();
        pending.flush().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        pending.commit(&target).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(scratch.path()), ["out"]);
    }

    #[test]
    fn what_was_replaced_comes_back_and_what_was_new_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("out");
        for before in [None, Some("old")] {
            if let Some(before) = before {
                std::fs::write(&path, before).unwrap();
            }
            let target = target(&path, true);
            let commit = || {
                let mut pending = target.open().unwrap();
                pending.write_all(b"new").unwrap();
                pending.commit_undoably(&target).unwrap()
            };
            let committed = commit();
            assert_eq!(std::fs::read(&path).unwrap(), b"new");
            committed.undo().unwrap();
            assert_eq!(std::fs::read_to_string(&path).ok().as_deref(), before);
            drop(commit());
            assert_eq!(names(scratch.path()), ["out"]);
            assert_eq!(std::fs::read(&path).unwrap(), b"new");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn one_place_is_one_however_it_is_spelt() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        std::fs::create_dir(path("folder")).unwrap();
        std::os::unix::fs::symlink("folder", path("link")).unwrap();
        std::fs::write(path("here"), "x").unwrap();
        std::fs::hard_link(path("here"), path("there")).unwrap();
        std::os::unix::fs::symlink("here", path("to-here")).unwrap();
        let same = |one: &str, two: &str| target(&path(one), true).is_same_place(&target(&path(two), true));
        for (one, two) in [
            ("out", "out"),
            ("out", "./out"),
            ("out", "folder/../out"),
            ("folder/out", "link/out"),
            ("here", "there"),
            ("here", "to-here"),
        ] {
            assert!(same(one, two) && same(two, one), "{one} {two}");
        }
        for (one, two) in [("out", "out.receipt"), ("out", "folder/out"), ("here", "out")] {
            assert!(!same(one, two), "{one} {two}");
        }
        assert!(target(Path::new("-"), false).is_same_place(&target(Path::new("-"), false)));
        assert!(!target(Path::new("/dev/null"), false).is_same_place(&target(Path::new("/dev/null"), false)));
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_not_replaced() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("out");
        let target = target(&path, false);
        let pending = target.open().unwrap();
        std::fs::write(&path, "other").unwrap();
        assert_eq!(pending.commit(&target).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"other");
    }

    #[test]
    fn folders_missing_folders_and_dangling_links_are_found_before_any_work() {
        let scratch = tempfile::tempdir().unwrap();
        assert!(message(scratch.path(), true).ends_with("is a folder"));
        assert!(message(&scratch.path().join("none/out"), true).ends_with("does not exist"));
        let link = scratch.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(message(&link, false).ends_with("link exists"));
    }

    #[test]
    fn a_device_is_written_through_and_a_full_one_says_so() {
        for force in [false, true] {
            let null = target(Path::new("/dev/null"), force);
            assert!(matches!(null, Target::Special { .. }));
            null.open().unwrap().commit(&null).unwrap();
            assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
        }
        let full = target(Path::new("/dev/full"), false);
        let mut pending = full.open().unwrap();
        pending.write_all(b"x").unwrap();
        assert_eq!(pending.commit(&full).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
