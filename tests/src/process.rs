//! The simulator's parts as processes, as `adyton-sim up` starts them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

/// For a process to become ready or to end, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The `adyton-sim` of this build. It stands beside the test executables; if it is missing or older
/// than its sources, it is built first.
pub fn simulator() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let test = std::env::current_exe().expect("the test has an executable");
        let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/e2e");
        let program = profile.join("adyton-sim");
        if !is_fresh(&program) {
            build(profile);
        }
        assert!(program.is_file(), "{} was not built", program.display());
        program
    })
}

/// Whether the program is newer than every source that cargo lists beside it.
fn is_fresh(program: &Path) -> bool {
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let (Some(built), Ok(sources)) =
        (modified(program), std::fs::read_to_string(program.with_extension("d")))
    else {
        return false;
    };
    let sources = sources.split_once(": ").map_or("", |(_, sources)| sources);
    sources.split_whitespace().all(|source| modified(Path::new(source)).is_some_and(|time| time <= built))
}

/// Builds the program as a test of the simulator would have it. `cargo build` would ask for other features
/// of the dependencies than tests do, and build all of them a second time.
fn build(profile: &Path) {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["test", "--workspace", "--no-run", "--test", "nsm_device", "--target-dir"]);
    cargo.arg(profile.parent().expect("a profile lies in the target folder"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs");
    assert!(built.success(), "adyton-sim does not build");
}

/// A process that said in one line of JSON that it is ready.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it said.
    pub ready: Value,
    /// Where its standard error goes.
    pub log: PathBuf,
}

impl Process {
    /// Starts `adyton-sim` with these arguments and waits for it.
    ///
    /// # Errors
    /// What it wrote to standard error, if it ends instead.
    pub async fn start(
        arguments: &[OsString],
        environment: &[(&str, OsString)],
        log: PathBuf,
    ) -> Result<Self, String> {
        let file = std::fs::File::create(&log).expect("the log can be written");
        let mut child = Command::new(simulator())
            .args(arguments)
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env_remove("AWS_SESSION_TOKEN")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .expect("adyton-sim starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("it is ready in time");
        let Ok(Some(line)) = line else {
            let _ = child.wait().await;
            return Err(std::fs::read_to_string(&log).unwrap_or_default());
        };
        let ready = serde_json::from_str(&line).expect("it says in JSON that it is ready");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, ready, log })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Everything that it wrote to standard error.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(mut self) {
        drop(self.stdin.take());
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
        }
        timeout(PATIENCE, self.child.wait()).await.expect("it stops in time").expect("it can be waited for");
    }
}
