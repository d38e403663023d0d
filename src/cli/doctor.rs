//! `cproxy doctor`.
use std::process::ExitCode;
/// What `doctor` takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct DoctorArgs {
    #[arg(long)]
    json: bool,
}
pub async fn run(_: DoctorArgs) -> ExitCode {
    ExitCode::SUCCESS
}
