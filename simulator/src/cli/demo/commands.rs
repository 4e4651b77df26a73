//! The commands that the demo runs, as a user would type them.

use std::ffi::OsString;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Demo;
use crate::world::{adyton, adyton_output};

impl Demo<'_> {
    pub(super) async fn encrypt(&self, object: &str, output: &str) -> Result<()> {
        let arguments =
            ["encrypt", "customers.ndjson", "--tenant", "acme", "--purpose", "payments", "--version", "1"];
        let mut arguments = self.arguments(&arguments);
        arguments.extend(["--object".into(), object.into(), "-o".into(), self.folder.join(output).into()]);
        adyton(self.state, &arguments).await?;
        Ok(())
    }

    pub(super) async fn job(&self, job: &str, input: &str, output: &str, object: &str) -> Result<Value> {
        adyton(self.state, &self.run_arguments(job, input, output, object)).await
    }

    pub(super) fn run_arguments(&self, job: &str, input: &str, output: &str, object: &str) -> Vec<OsString> {
        let mut arguments = self.arguments(&["run", job, input, "--tenant", "acme", "--version", "1"]);
        arguments.extend(["--object".into(), object.into(), "-o".into(), self.folder.join(output).into()]);
        arguments
    }

    /// Words as they are, names of files in the demo's folder as paths.
    pub(super) fn arguments(&self, words: &[&str]) -> Vec<OsString> {
        let word = |word: &&str| {
            let path = self.folder.join(word);
            if path.is_file() { path.into_os_string() } else { OsString::from(word) }
        };
        let config = ["--config".into(), self.info.client_config.clone().into_os_string()];
        words.iter().map(word).chain(config).collect()
    }

    /// What a command says that must be refused.
    pub(super) async fn refused(&self, arguments: &[OsString]) -> Result<Value> {
        let output = adyton_output(self.state, arguments).await?;
        if output.status.success() {
            bail!("the job was not refused");
        }
        serde_json::from_slice(&output.stderr)
            .with_context(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
