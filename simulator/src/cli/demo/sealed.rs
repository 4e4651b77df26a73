//! Tokens and figures for the parent; results for others that the parent carries and cannot read.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use tokio::process::Command;

use super::{Demo, Teller};

/// Lines shown of each result.
const EXCERPT: usize = 3;

impl Demo<'_> {
    pub(super) async fn figures(&self, teller: &mut Teller) -> Result<()> {
        teller.heading("tokens and figures instead of data");
        self.job("tokens.toml", "customers.enc", "customers.tokens", "customers").await?;
        teller.step("token job: HMAC under a named key that was made in KMS and opened inside only");
        self.excerpt(teller, "tokens", "customers.tokens")?;
        self.job("by_country.toml", "customers.enc", "customers.figures", "customers").await?;
        teller.step("aggregate job: groups of twenty customers or more, sums exact to the cent");
        self.excerpt(teller, "figures", "customers.figures")
    }

    pub(super) async fn for_others(&self, teller: &mut Teller) -> Result<()> {
        teller.heading("results for others, carried by a parent that cannot read them");
        let recipient = crate::auditor::auditor(&self.info.auditor)?;
        let report = format!(
            "version = 1\ninput = \"ndjson\"\nto = \"{}\"\n\n[[step]]\nselect = [\"id\", \"name\", \"email\", \"spent\"]\n",
            recipient.as_str()
        );
        fs_err::write(self.folder.join("report.toml"), report)?;
        self.job("report.toml", "customers.enc", "report.age", "customers").await?;
        teller.step("report sealed to the auditor's age key");
        match self.open_with_age().await? {
            Some(text) => {
                for line in text.lines().take(EXCERPT) {
                    teller.show("age -d", line);
                }
            }
            None => teller.show("to open", "age -d -i auditor.key report.age (age is not installed here)"),
        }
        let rewrap = format!("version = 1\ninput = \"raw\"\nto = \"{}\"\n", self.info.partner_key_arn);
        fs_err::write(self.folder.join("rewrap.toml"), rewrap)?;
        self.job("rewrap.toml", "customers.enc", "customers.partner.enc", "customers").await?;
        teller.step("re-wrap: the same data under a key of another account, seen by nobody on the way");
        teller.show("key", &self.info.partner_key_arn);
        Ok(())
    }

    fn excerpt(&self, teller: &Teller, label: &str, file: &str) -> Result<()> {
        let text = fs_err::read_to_string(self.folder.join(file))?;
        for line in text.lines().take(EXCERPT) {
            teller.show(label, line);
        }
        Ok(())
    }

    /// What the ordinary `age` program, or `rage`, makes of the report; nothing if neither is installed.
    async fn open_with_age(&self) -> Result<Option<String>> {
        for program in ["age", "rage"] {
            let opened = Command::new(program)
                .args(["-d", "-i"])
                .arg(&self.info.auditor)
                .arg(self.folder.join("report.age"))
                .stdin(Stdio::null())
                .output()
                .await;
            match opened {
                Ok(output) => {
                    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                    return Ok(Some(String::from_utf8(output.stdout).context("not the report")?));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).context(program),
            }
        }
        Ok(None)
    }
}
