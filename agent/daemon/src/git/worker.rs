//! Work that is done apart from the agent: a process of our own program, with a deadline and limits, that has nothing in
//! its environment and dies with the agent. What it cannot cope with, it alone dies of.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
};

use super::child::MAX_HEAP_BYTES;

/// Most bytes that such a process may say on one stream.
const MAX_OUTPUT_BYTES: u64 = 64 * 1024;

/// One piece of work.
pub(super) struct Job<'a, Q> {
    /// `evenkeel` itself.
    pub program: &'a Path,
    /// The hidden verb.
    pub verb: &'static str,
    /// The whole environment. Never a secret.
    pub environment: Vec<(&'static str, OsString)>,
    /// Written to its standard input.
    pub request: Q,
}

/// Why there is no answer.
pub(super) enum Lost {
    /// It took too long and was ended.
    Deadline,
    /// It came to this limit.
    Limit(String),
    /// A fault of ours.
    Failed(String),
}

impl<Q: Serialize> Job<'_, Q> {
    /// Does the work. Dropping the future ends it.
    pub async fn ask<A: DeserializeOwned>(&self, deadline: Duration) -> Result<A, Lost> {
        let mut line = serde_json::to_vec(&self.request).map_err(|e| Lost::Failed(e.to_string()))?;
        line.push(b'\n');
        tokio::time::timeout(deadline, self.run(&line)).await.map_err(|_| Lost::Deadline)?
    }

    async fn run<A: DeserializeOwned>(&self, request: &[u8]) -> Result<A, Lost> {
        let failed = |what: &str, e: io::Error| Lost::Failed(format!("{}: {what}: {e}", self.verb));
        let mut child = Command::new(self.program)
            .arg(self.verb)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failed("it cannot be started", e))?;
        let mut group = Group::of(&child);
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Lost::Failed(format!("{}: it has no standard streams", self.verb)));
        };
        // Standard input stays open: its end tells the child that we are gone.
        let sent = async { stdin.write_all(request).await };
        let (sent, said, complained) = tokio::join!(sent, capped(stdout), capped(stderr));
        let status = child.wait().await.map_err(|e| failed("it cannot be waited for", e))?;
        group.ended();
        drop(stdin);
        let said = said.map_err(|e| failed("its answer cannot be read", e))?;
        serde_json::from_slice(&said).map_err(|_| {
            let complained = complained.unwrap_or_default();
            if let Some(why) = limit(status, &complained) {
                return Lost::Limit(why);
            }
            let last = complained.trim_ascii().split(|&b| b == b'\n').next_back().unwrap_or_default();
            let sent = sent.err().map(|e| format!(", the request was not read ({e})")).unwrap_or_default();
            let last = super::commit::displayable(last, 300);
            Lost::Failed(format!("{}: no answer, {status}{sent}: {last}", self.verb))
        })
    }
}

/// Which limit a process came to, if it was one.
fn limit(status: ExitStatus, complained: &[u8]) -> Option<String> {
    let says = |text: &str| complained.windows(text.len()).any(|w| w == text.as_bytes());
    if says("memory allocation of") || says("failed to spawn thread") {
        return Some(format!("it asked for more than {} MiB of memory", MAX_HEAP_BYTES >> 20));
    }
    if says("has overflowed its stack") {
        return Some("something in it is nested too deeply".to_owned());
    }
    match status.signal() {
        Some(signal) if signal == Signal::XFSZ.as_raw() => Some("it would have filled the disk".to_owned()),
        Some(signal) if signal == Signal::KILL.as_raw() => {
            Some("it was killed; the machine may have run out of memory".to_owned())
        }
        _ => None,
    }
}

async fn capped(stream: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(MAX_OUTPUT_BYTES).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// Ends a process group when dropped, unless its leader was waited for: from then on the number may be another's.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }

    fn ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}
