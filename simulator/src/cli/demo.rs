//! `adyton-sim demo`: the whole way of a job, and three refusals.
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(super) struct DemoArgs {}

pub(super) async fn run(_: DemoArgs, _json: bool) -> Result<ExitCode> {
    anyhow::bail!("not yet")
}
