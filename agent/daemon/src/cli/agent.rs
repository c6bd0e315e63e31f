//! `evenkeel agent`.

use std::path::PathBuf;

use evenkeel_core::outcome::Exit;

use super::{
    output::{Failure, Output},
    sync::show,
};
use crate::{
    config::DEFAULT_PATH,
    service::{self, ServiceError},
};

/// Run the agent of this server.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The agent watches the repository and deploys what trusted people signed. It
runs until SIGTERM; systemd's `Type=notify` is told when it is ready.

Examples:
  evenkeel agent
  evenkeel agent --once --config ./agent.yml")]
pub struct Args {
    /// The agent's configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Do one sync and end with its exit code
    #[arg(long)]
    pub once: bool,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| {
        Failure::failed("internal", format!("cannot start the runtime: {e}"), "look at the system's limits")
    })?;
    let result = if args.once {
        runtime.block_on(service::once(&args.config)).map_err(|e| failure(&e)).and_then(|(end, store)| {
            let answer = service::answers::answer(&store, end)
                .map_err(|why| Failure::failed("store.failed", why, "look at the state directory"))?;
            show(&answer, out)
        })
    } else {
        runtime.block_on(service::run(args.config.clone())).map(|()| Exit::Fine).map_err(|e| failure(&e))
    };
    // A thread that still waits for a blocked read must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}

fn failure(error: &ServiceError) -> Failure {
    let (code, help) = match error {
        ServiceError::Config(_) => ("config.invalid", "correct the file; docs/reference/agent.yml.md lists every key"),
        ServiceError::Store(_) => ("store.failed", "nothing was changed"),
        ServiceError::Compose(_) => ("compose.missing", "install Docker's command line with Compose"),
        ServiceError::Socket(_) | ServiceError::Listen { .. } => {
            ("listen.failed", "change the address, or stop who has it")
        }
        ServiceError::Misplaced(_) => ("agent.misplaced", "nothing was changed; mount them and start the agent again"),
        ServiceError::System(_) => ("internal", "look at the system's limits"),
    };
    Failure::new(error.exit(), code, error.to_string(), help)
}
