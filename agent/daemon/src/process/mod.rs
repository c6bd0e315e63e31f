//! Running a program: an argument vector, an environment that is stated whole, a deadline, bounded output, and no process
//! left behind.

pub mod supervisor;

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    time::timeout,
};

/// Most that is read from a program's standard output, in bytes. The largest rendered models are a few hundred kilobytes.
pub const MAX_STDOUT_BYTES: usize = 32 * 1024 * 1024;
/// Most that is kept of a program's standard error, in bytes; the last part, where the errors are.
pub const MAX_STDERR_BYTES: usize = 1024 * 1024;
/// Longest line of standard error that is shown as progress, in bytes.
const MAX_LINE_BYTES: usize = 8 * 1024;

/// A program with all that it is given: a value that tests compare whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The program's absolute path.
    pub program: PathBuf,
    /// Its arguments. Never a secret: other users of the machine can read them.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// The folder it runs in.
    pub cwd: PathBuf,
    /// How long it may take.
    pub timeout: Duration,
}

impl Invocation {
    /// The program's name, for messages.
    pub fn name(&self) -> &str {
        self.program.file_name().and_then(|n| n.to_str()).unwrap_or("program")
    }

    /// The command line as a person would type it, without the environment.
    pub fn command_line(&self) -> String {
        let mut text = self.name().to_owned();
        for arg in &self.args {
            text.push(' ');
            text.push_str(&quoted(arg));
        }
        text
    }
}

/// Values of variables can be secret, so only their names are shown.
impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.env.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Invocation")
            .field("command", &self.command_line())
            .field("env", &names)
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

fn quoted(arg: &str) -> String {
    let plain = !arg.is_empty() && arg.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&b));
    if plain { arg.to_owned() } else { format!("'{}'", arg.replace('\'', r"'\''")) }
}

/// What a program left behind when it ended by itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output, whole.
    pub stdout: Vec<u8>,
    /// Its standard error; of more than [`MAX_STDERR_BYTES`] the last part.
    pub stderr: Vec<u8>,
}

impl Finished {
    /// Whether it ended with exit code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// A program could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not start.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program's path.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It took too long and was killed.
    #[error("{program} did not end within {after:?} and was killed")]
    Timeout {
        /// The program's name.
        program: String,
        /// How long it had.
        after: Duration,
    },
    /// It printed more than is read and was killed.
    #[error("{program} printed more than {limit} bytes and was killed")]
    TooMuchOutput {
        /// The program's name.
        program: String,
        /// The limit.
        limit: usize,
    },
    /// Its output could not be read.
    #[error("cannot read what {program} prints: {source}")]
    Read {
        /// The program's name.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What is called with each line that a program prints on standard error.
pub type OnLine<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// How programs are started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runner {
    supervisor: Option<PathBuf>,
}

impl Runner {
    /// Programs run under a supervisor that ends them when this process ends. For the `evenkeel` program itself: the
    /// supervisor is this very executable, also when its file was replaced meanwhile.
    pub fn supervised() -> Self {
        Self { supervisor: Some(PathBuf::from("/proc/self/exe")) }
    }

    /// As [`Runner::supervised`], with an `evenkeel` program at another place; for tests, which are other executables.
    pub fn supervised_by(evenkeel: &Path) -> Self {
        Self { supervisor: Some(evenkeel.to_owned()) }
    }

    /// Programs run without a supervisor: they are killed when the future is dropped, but outlive a SIGKILL of this process.
    pub fn plain() -> Self {
        Self { supervisor: None }
    }

    /// Runs a program to its end. Dropping the future kills it with all that it started in its process group; so do the
    /// deadline and too much output.
    pub async fn run(&self, invocation: &Invocation, on_line: Option<OnLine<'_>>) -> Result<Finished, RunError> {
        self.run_until(invocation, on_line, std::future::ready).await
    }

    /// As [`Runner::run`], and what it left in the background is killed when it has ended: nothing outlives it.
    pub async fn run_alone(&self, invocation: &Invocation) -> Result<Finished, RunError> {
        self.run_until(invocation, None, kill_rest).await
    }

    async fn run_until<F: Future<Output = Leader>>(
        &self,
        invocation: &Invocation,
        on_line: Option<OnLine<'_>>,
        beside: impl FnOnce(Leader) -> F,
    ) -> Result<Finished, RunError> {
        let program = || invocation.name().to_owned();
        let mut child = self
            .command(invocation)
            .spawn()
            .map_err(|source| RunError::Start { program: invocation.program.display().to_string(), source })?;
        let mut group = Group::of(&child);
        // Held until the end: the supervisor takes its end for ours.
        let _lifeline = child.stdin.take();
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let leader = group.0;
        let work = async {
            let (_, stdout, stderr) = tokio::try_join!(
                async { Ok(beside(leader).await) },
                async { read_all(out, MAX_STDOUT_BYTES).await },
                async { read_lines(err, on_line).await.map_err(ReadError::Io) },
            )?;
            let status = child.wait().await.map_err(ReadError::Io)?;
            Ok::<_, ReadError>((status, stdout, stderr))
        };
        let done = timeout(invocation.timeout, work).await;
        let result = match done {
            Ok(Ok((status, stdout, stderr))) => {
                group.disarm();
                return Ok(Finished { code: exit_code(status), stdout, stderr });
            }
            Ok(Err(ReadError::TooMuch)) => RunError::TooMuchOutput { program: program(), limit: MAX_STDOUT_BYTES },
            Ok(Err(ReadError::Io(source))) => RunError::Read { program: program(), source },
            Err(_) => RunError::Timeout { program: program(), after: invocation.timeout },
        };
        drop(group);
        // Killed, so this is short; without it the process would stay as a zombie until the runtime looks again.
        let _ = child.wait().await;
        Err(result)
    }

    fn command(&self, invocation: &Invocation) -> Command {
        let mut command = Command::new(self.supervisor.as_ref().unwrap_or(&invocation.program));
        if self.supervisor.is_some() {
            command.arg(supervisor::VERB).arg(&invocation.program).stdin(Stdio::piped());
        } else {
            command.stdin(Stdio::null());
        }
        command
            .args(&invocation.args)
            .env_clear()
            .envs(invocation.env.iter().map(|(k, v)| (k, v)))
            .current_dir(&invocation.cwd)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

fn exit_code(status: ExitStatus) -> Option<i32> {
    // The supervisor's way to say "ended by a signal" stays a number: no program of ours uses codes above 128.
    status.code().filter(|code| *code <= 128)
}

/// The first process of a group, which gave the group its number.
type Leader = Option<rustix::process::Pid>;

/// Waits until the leader of a group has ended and kills the others. The leader must not have been waited for: so long its
/// number, and that of the group, cannot belong to anybody else.
async fn kill_rest(leader: Leader) -> Leader {
    use rustix::process::{Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
    let pid = leader?;
    let until_ended = move || {
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), how))
    };
    if let Ok(Ok(Some(_))) = tokio::task::spawn_blocking(until_ended).await {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    leader
}

/// A process group that is killed when this value is dropped, unless it was disarmed.
struct Group(Leader);

impl Group {
    fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        Self(pid.and_then(rustix::process::Pid::from_raw))
    }

    /// The leader has ended and was waited for: its number may belong to another process from now on.
    fn disarm(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

enum ReadError {
    TooMuch,
    Io(std::io::Error),
}

async fn read_all(pipe: Option<impl AsyncRead + Unpin>, limit: usize) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let limit_plus_one = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        pipe.take(limit_plus_one).read_to_end(&mut bytes).await.map_err(ReadError::Io)?;
    }
    if bytes.len() > limit { Err(ReadError::TooMuch) } else { Ok(bytes) }
}

/// Reads to the end, keeps the last [`MAX_STDERR_BYTES`], and shows each line as it comes.
async fn read_lines(
    pipe: Option<impl AsyncRead + Unpin>,
    on_line: Option<OnLine<'_>>,
) -> Result<Vec<u8>, std::io::Error> {
    let Some(mut pipe) = pipe else { return Ok(Vec::new()) };
    let mut kept = Vec::new();
    let mut line = Vec::new();
    let mut chunk = [0; 8 * 1024];
    loop {
        let n = pipe.read(&mut chunk).await?;
        let chunk = &chunk[..n];
        kept.extend_from_slice(chunk);
        // Cut in large steps, so that the cost stays linear.
        if kept.len() > 2 * MAX_STDERR_BYTES {
            kept.drain(..kept.len() - MAX_STDERR_BYTES);
        }
        if let Some(on_line) = on_line {
            for &byte in chunk {
                if byte == b'\n' || line.len() >= MAX_LINE_BYTES {
                    on_line(String::from_utf8_lossy(&line).trim_end());
                    line.clear();
                }
                if byte != b'\n' {
                    line.push(byte);
                }
            }
        }
        if n == 0 {
            break;
        }
    }
    if let (Some(on_line), false) = (on_line, line.is_empty()) {
        on_line(String::from_utf8_lossy(&line).trim_end());
    }
    let excess = kept.len().saturating_sub(MAX_STDERR_BYTES);
    kept.drain(..excess);
    Ok(kept)
}

#[cfg(test)]
mod tests;
