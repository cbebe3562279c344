// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `containerd-ferofs-grpc store ls|gc|verify`, which `ferofs store` calls: asks the daemon and shows what it says.

use crate::api::store as api;
use crate::api::store::store_client::StoreClient;
use crate::content::connect;
use crate::problem::Problem;
use crate::problem::Result;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use tonic::Status;

/// What is asked.
#[derive(clap::Subcommand)]
pub enum Command {
    /// List layers and snapshots
    Ls,
    /// Remove files that no snapshot has
    Gc,
    /// Compare all layers with their sha256
    Verify,
}

fn failed(status: Status) -> Problem {
    Problem::failed(status.message().to_owned())
}

/// Asks.
///
/// # Errors
///
/// When there is no daemon, or it has a problem.
pub async fn run(command: &Command, address: &Path) -> Result<ExitCode> {
    let mut client = StoreClient::new(connect(address).await.map_err(failed)?);
    let mut text = String::new();
    let mut code = ExitCode::SUCCESS;
    match command {
        Command::Ls => {
            let answer = client.list(api::ListRequest {}).await.map_err(failed)?;
            text = listing(&answer.into_inner());
        }
        Command::Gc => {
            let answer = client
                .collect(api::CollectRequest {})
                .await
                .map_err(failed)?
                .into_inner();
            text = format!("removed {} files, {} bytes\n", answer.files, answer.bytes);
        }
        Command::Verify => {
            let answer = client.verify(api::VerifyRequest {}).await.map_err(failed)?;
            let mut answers = answer.into_inner();
            let (mut good, mut bad) = (0, 0);
            while let Some(answer) = answers.message().await.map_err(failed)? {
                match answer.problem.is_empty() {
                    true => good += 1,
                    false => {
                        bad += 1;
                        text.push_str(&answer.problem);
                        text.push('\n');
                    }
                }
                eprint!("\r{} of {} bytes", answer.bytes, answer.total);
            }
            eprintln!();
            text.push_str(&format!(
                "{good} layers are as they should be, {bad} are not\n"
            ));
            if bad > 0 {
                code = ExitCode::FAILURE;
            }
        }
    }
    let written = std::io::stdout().lock().write_all(text.as_bytes());
    written.map_err(|error| Problem::failed(format!("cannot write: {error}")))?;
    Ok(code)
}

fn listing(answer: &api::ListResponse) -> String {
    let mut text = String::new();
    text.push_str(&format!(
        "{:<71} {:<6} {:>12} {:>10} {:>6}\n",
        "LAYER", "KIND", "BYTES", "INDEX", "USERS"
    ));
    for layer in &answer.layers {
        text.push_str(&format!(
            "sha256:{:<64} {:<6} {:>12} {:>10} {:>6}\n",
            layer.digest, layer.kind, layer.bytes, layer.index_bytes, layer.users
        ));
    }
    text.push_str(&format!(
        "\n{:>6} {:<10} {:<8} SNAPSHOT\n",
        "NUMBER", "KIND", "MOUNTED"
    ));
    for snapshot in &answer.snapshots {
        let mounted = if snapshot.mounted { "yes" } else { "-" };
        text.push_str(&format!(
            "{:>6} {:<10} {:<8} {}\n",
            snapshot.id, snapshot.kind, mounted, snapshot.name
        ));
    }
    text
}
