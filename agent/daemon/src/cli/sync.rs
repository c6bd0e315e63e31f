//! `evenkeel sync`.

use std::{
    convert::Infallible,
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel_core::{
    outcome::{DeploymentRecord, Exit, Outcome},
    reason::Code,
};
use jiff::Timestamp;

use super::{
    output::{Failure, Output},
    runtime, tell,
    words::{self, short},
};
use crate::{
    config::DEFAULT_PATH,
    host::activity,
    socket::{self, ClientError, SyncAnswer, Tell},
    terminal,
};

/// How often the agent is asked what it is doing, for the line on a terminal.
const LOOK: Duration = Duration::from_millis(400);

/// After this long, and again and again, a person is told that there is no answer yet.
const PATIENCE: Duration = Duration::from_secs(30);

/// Tell the running agent to sync now, and wait for the end.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The exit code says how it ended: 0 fine, 1 failed or held, 4 refused by trust,
5 rolled back or quarantined, 6 halted, 7 transient.

Examples:
  evenkeel sync
  evenkeel sync --override --reason \"the fix cannot wait for tonight\"
  evenkeel sync --format json")]
pub struct Args {
    /// The agent's configuration, which says where its socket is
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
    /// Deploy outside of maintenance windows too
    #[arg(long = "override", requires = "reason")]
    pub overrides: bool,
    /// Why, for the history
    #[arg(long, value_name = "WHY", requires = "overrides")]
    pub reason: Option<String>,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    if let Some(reason) = args.reason.as_deref().filter(|_| args.overrides) {
        return tell::run(&args.config, &Tell::Override { reason: reason.to_owned() }, out);
    }
    let settings = words::settings(&args.config)?;
    let socket = &settings.paths.socket;
    let answer = runtime()?.block_on(watched(socket, out, socket::sync(socket)));
    show(&answer.map_err(|e| failure(&e))?, out)
}

/// Waits for an answer that may take long: on a terminal what happens is shown, elsewhere it is said that it takes long.
pub async fn watched<T>(
    socket: &Path,
    out: &Output,
    asking: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    if out.is_json() || !terminal::is_watched() {
        return patiently(out, asking).await;
    }
    let answer = tokio::select! {
        answer = asking => answer,
        never = show_progress(socket) => match never {},
    };
    terminal::show("");
    answer
}

/// Shows in one line what the agent is doing, for ever. An agent that does not say is waited for without.
async fn show_progress(socket: &Path) -> Infallible {
    loop {
        if let Ok(answer) = socket::activity(socket).await {
            let doing = answer.activity.map(|a| activity::line(&a, Some(Timestamp::now())));
            terminal::show(&doing.unwrap_or_else(|| "waiting for the agent".to_owned()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits for the answer, and says now and then that there is none yet.
async fn patiently<T>(out: &Output, asking: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let mut answer = std::pin::pin!(asking);
    loop {
        match tokio::time::timeout(PATIENCE, &mut answer).await {
            Ok(answer) => return answer,
            Err(_) => out.note("it has not ended yet; `evenkeel status` shows what it does"),
        }
    }
}

/// Says how a sync ended, and gives its exit code.
pub fn show(answer: &SyncAnswer, out: &Output) -> Result<Exit, Failure> {
    out.answer(answer, text);
    Ok(words::exit(answer.exit))
}

/// An agent that cannot be asked.
pub fn failure(error: &ClientError) -> Failure {
    match error {
        ClientError::NotRunning(_) => {
            let help = "start it with `systemctl start evenkeel` or `evenkeel agent`, or do one sync with `evenkeel agent --once`";
            Failure::failed("agent.not-running", error.to_string(), help)
        }
        ClientError::Denied(_) => Failure::usage("agent.denied", error.to_string(), "use sudo"),
        ClientError::Declined(refusal) => {
            Failure::new(words::exit(refusal.exit), &refusal.code, &*refusal.message, &*refusal.help)
        }
        ClientError::Refused(_) => Failure::failed("agent.refused", error.to_string(), "look at the agent's log"),
        ClientError::Broken { .. } | ClientError::Silent(_) => {
            Failure::transient(Code::Interrupted, error.to_string(), "see `evenkeel status`, then try again")
        }
    }
}

/// A sync, for people.
pub fn text(answer: &SyncAnswer) -> String {
    let mut text = String::new();
    let commit = answer.sync.as_ref().and_then(|s| s.commit.as_deref()).map_or("no commit", short);
    let _ = writeln!(text, "{commit}: {}", words::outcome(answer.outcome));
    if let Some(reason) = answer.reason.as_ref().or(answer.sync.as_ref().and_then(|s| s.reason.as_ref())) {
        let _ = writeln!(text, "  {reason}");
    }
    for deployment in answer.sync.iter().flat_map(|s| &s.deployments) {
        text.push_str(&line(deployment));
    }
    text
}

/// One stack's part, for people.
pub fn line(deployment: &DeploymentRecord) -> String {
    let outcome = words::outcome_so_far(deployment.outcome);
    let from = deployment.from.as_deref().map_or("nothing", short);
    let to = deployment.to.as_deref().map_or("nothing", short);
    let took = words::took(&deployment.started, deployment.ended.as_deref());
    let mut text = match (deployment.outcome, &deployment.to) {
        (Some(Outcome::Committed), None) => format!("  {}: removed{took}\n", deployment.stack),
        _ => format!("  {}: {outcome}, {from} -> {to}{took}\n", deployment.stack),
    };
    if let Some(reason) = &deployment.reason {
        let _ = writeln!(text, "    {reason}");
    }
    if let Some(snapshot) = &deployment.snapshot {
        let _ = writeln!(text, "    snapshot {}", short(snapshot));
    }
    text
}
