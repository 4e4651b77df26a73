//! The simulator's parts as processes of their own, as in life.
//!
//! A part is this same executable with another subcommand. It says in one line of JSON on standard
//! output that it is ready, and stops when its standard input ends, so that none outlives the
//! process that started it, however that ends.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

/// For a part to become ready: making keys and certificates takes a moment on a busy machine.
const READY_DEADLINE: Duration = Duration::from_mins(1);
/// For a part to stop after it was asked to.
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// How much of a part's log is shown when it fails, in bytes.
const LOG_TAIL_BYTES: usize = 2000;

/// A running part.
#[derive(Debug)]
pub struct Part {
    name: &'static str,
    child: Child,
    /// Open for as long as the part is to run. Kept apart because waiting for a child closes its own.
    stdin: Option<ChildStdin>,
    ready: serde_json::Value,
    log: PathBuf,
}

impl Part {
    /// Starts this executable with `arguments` and waits until it is ready. What it writes to
    /// standard error goes to `log`.
    ///
    /// # Errors
    /// What the part's log says, if it ends before it is ready.
    pub async fn start(
        name: &'static str,
        arguments: &[OsString],
        environment: &[(&str, OsString)],
        log: PathBuf,
    ) -> Result<Self> {
        let executable = std::env::current_exe().context("this executable cannot be found")?;
        let file = fs_err::File::create(&log)?.into_parts().0;
        let mut child = Command::new(executable)
            .args(arguments)
            // The user's own AWS keys have no business here.
            .env_remove("AWS_ACCESS_KEY_ID")
            .env_remove("AWS_SECRET_ACCESS_KEY")
            .env_remove("AWS_SESSION_TOKEN")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("the {name} could not be started"))?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let first = timeout(READY_DEADLINE, lines.next_line()).await;
        let line = match first {
            Ok(Ok(Some(line))) => line,
            Ok(_) => bail!("the {name} ended before it was ready: {}", tail(&log)),
            Err(_) => bail!("the {name} was not ready in {READY_DEADLINE:?}: {}", tail(&log)),
        };
        let ready = serde_json::from_str(&line)
            .with_context(|| format!("the {name} said something else than that it is ready: {line}"))?;
        // Whatever it says later must not block it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let stdin = child.stdin.take();
        Ok(Self { name, child, stdin, ready, log })
    }

    /// What the part said when it was ready.
    pub fn ready(&self) -> &serde_json::Value {
        &self.ready
    }

    /// The process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Where its standard error goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until the part ends by itself, which it should not.
    ///
    /// # Errors
    /// Always: that it ended, with the end of its log.
    pub async fn watch(&mut self) -> Result<()> {
        let status = self.child.wait().await?;
        bail!("the {} ended ({status}): {}", self.name, tail(&self.log))
    }

    /// Asks the part to stop, and kills it if it does not.
    pub async fn stop(mut self) {
        drop(self.stdin.take());
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
        }
        if timeout(STOP_DEADLINE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

fn tail(log: &Path) -> String {
    let text = fs_err::read_to_string(log).unwrap_or_default();
    let start = text.len().saturating_sub(LOG_TAIL_BYTES);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text[start..].trim().to_owned()
}

/// Completes when this process is told to stop, or, for a part, when its standard input ends.
pub async fn shutdown_requested(is_part: bool) {
    let interrupt = tokio::signal::ctrl_c();
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    let orphaned = async {
        if !is_part {
            return std::future::pending().await;
        }
        let mut stdin = tokio::io::stdin();
        let mut byte = [0];
        while matches!(stdin.read(&mut byte).await, Ok(read) if read > 0) {}
    };
    tokio::select! {
        _ = interrupt => {}
        () = terminate => {}
        () = orphaned => {}
    }
}
