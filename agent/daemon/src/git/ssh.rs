//! A repository over SSH: `git-upload-pack` on the other machine, through the real `ssh` and nothing of its user's
//! settings. A server is believed only if its key is pinned, and no key is ever learned.

use std::{
    ffi::OsString,
    io::Read as _,
    path::Path,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use gix::protocol::transport::{
    Protocol,
    client::git::{ConnectMode, blocking_io::Connection},
};

use super::{
    commit::displayable,
    wire::{Answer, SshAccess},
};

/// Most of what `ssh` complains of that is kept, in bytes: the end of it.
const MAX_COMPLAINT_BYTES: usize = 16 * 1024;
/// How long `ssh` may take to end after its pipes were closed.
const GRACE: Duration = Duration::from_secs(2);
/// The exit code of `ssh` for faults of its own (ssh(1)); every other one is the remote command's.
const OF_SSH: i32 = 255;
/// The exit code of a shell that does not find the command (POSIX, 2.8.2).
const NOT_FOUND: i32 = 127;

/// What `ssh` is told besides the files and the address. Where a default is the same, it stands here because
/// security rests on it, and because `ssh` was compiled by somebody else.
const OPTIONS: &[&str] = &[
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "GlobalKnownHostsFile=/dev/null",
    "UpdateHostKeys=no",
    "VerifyHostKeyDNS=no",
    "CanonicalizeHostname=no",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "PreferredAuthentications=publickey",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "ControlMaster=no",
    "ControlPath=none",
    "ConnectTimeout=30",
    "ConnectionAttempts=1",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
    "LogLevel=ERROR",
    "SendEnv=GIT_PROTOCOL",
];

/// What `ssh` says of a connection that was open and is not any more.
const BROKEN: &[&str] =
    &["client_loop: ", "closed by remote host", "Connection reset by ", "Connection closed by ", "Broken pipe"];

/// What Git's protocol is spoken over.
pub(super) type Pipes = Connection<ChildStdout, ChildStdin>;

/// Starts `ssh`. It belongs to this process's group, and so ends with it.
pub(super) fn connect(access: &SshAccess) -> Result<(Pipes, Session), Answer> {
    let mut command = Command::new("ssh");
    command
        .args(arguments(access))
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("LC_ALL", "C")
        .env("GIT_PROTOCOL", "version=2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Answer::Unreachable(
            "there is no `ssh` on this server; install OpenSSH's client (Debian: apt install openssh-client)"
                .to_owned(),
        ),
        _ => Answer::Unreachable(format!("`ssh` cannot be started: {e}")),
    })?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Answer::Unreachable("`ssh` has no standard streams".to_owned()));
    };
    let path = access.remote.path.as_str();
    let pipes = Connection::new(stdout, stdin, Protocol::V2, path, None::<(&str, _)>, ConnectMode::Process, false);
    Ok((pipes, Session { child, complaint: Complaint::collect(stderr) }))
}

/// Everything after `ssh`. No text of the configuration can be read as an option.
fn arguments(access: &SshAccess) -> Vec<OsString> {
    let SshAccess { remote, key, known_hosts } = access;
    let mut all: Vec<OsString> = ["-F", "/dev/null", "-T"].map(OsString::from).to_vec();
    let files = [format!("UserKnownHostsFile={}", quoted(known_hosts)), format!("IdentityFile={}", quoted(key))];
    for option in OPTIONS.iter().map(|option| (*option).to_owned()).chain(files) {
        all.extend([OsString::from("-o"), option.into()]);
    }
    if let Some(port) = remote.port {
        all.extend([OsString::from("-p"), port.to_string().into()]);
    }
    if let Some(user) = &remote.user {
        all.extend([OsString::from("-l"), user.into()]);
    }
    let command = format!("git-upload-pack {}", for_shell(&remote.path));
    all.extend([OsString::from("--"), OsString::from(&remote.host), command.into()]);
    all
}

/// A path as a value of ssh_config(5), where blanks, quotation marks, backslashes and `%` mean something.
fn quoted(path: &Path) -> String {
    let mut text = String::from('"');
    // A path of the configuration is text.
    for c in path.to_string_lossy().chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' => text.push_str("%%"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// One word for the shell of the server's user, which the SSH protocol (RFC 4254, 6.5) leaves us no way around.
fn for_shell(word: &str) -> String {
    // `!` means something to csh even between apostrophes.
    format!("'{}'", word.replace('\'', r"'\''").replace('!', r"'\!'"))
}

/// A running `ssh`. Dropping it ends it.
pub(super) struct Session {
    child: Child,
    complaint: Complaint,
}

impl Session {
    /// Why the connection broke, as far as `ssh` or the server's own words tell. Its pipes must be closed.
    pub fn fault(mut self, access: &SshAccess) -> Option<Answer> {
        let status = self.wait()?;
        let said = self.complaint.text();
        classed(status.code()?, &said, access)
    }

    fn wait(&mut self) -> Option<ExitStatus> {
        let begun = Instant::now();
        while begun.elapsed() < GRACE {
            match self.child.try_wait() {
                Ok(None) => thread::sleep(Duration::from_millis(10)),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
        None
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Either may fail because it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes on a standard error, read all the time so that nobody waits for us to read it.
struct Complaint {
    text: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Complaint {
    fn collect(mut stream: ChildStderr) -> Self {
        let text = Arc::<Mutex<Vec<u8>>>::default();
        let shared = Arc::clone(&text);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                let mut text = shared.lock().unwrap_or_else(PoisonError::into_inner);
                text.extend_from_slice(&buffer[..count]);
                let surplus = text.len().saturating_sub(MAX_COMPLAINT_BYTES);
                text.drain(..surplus);
            }
        });
        Self { text, reader }
    }

    /// All of it, once the other end was closed; what there is of it if that takes long.
    fn text(&self) -> String {
        let begun = Instant::now();
        while !self.reader.is_finished() && begun.elapsed() < GRACE {
            thread::sleep(Duration::from_millis(5));
        }
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// Sorts what `ssh` said by who must act.
fn classed(code: i32, said: &str, access: &SshAccess) -> Option<Answer> {
    let has = |text: &str| said.contains(text);
    let SshAccess { remote, key, known_hosts } = access;
    Some(match code {
        0 => return None,
        NOT_FOUND => Answer::Invalid(format!("the server has no git-upload-pack ({})", lines(said))),
        OF_SSH if has("REMOTE HOST IDENTIFICATION HAS CHANGED") => Answer::Untrusted(format!(
            "its host key is not the one in {}. If its owner announced a new key, compare the fingerprints and replace \
             the line; if not, somebody may be in between. To see the key: {}",
            known_hosts.display(),
            scan(access)
        )),
        OF_SSH if has("Host key verification failed") || has("host key is known for") => Answer::Untrusted(format!(
            "its host key is not in {}. To pin it: {} >> {}, then compare the fingerprint (ssh-keygen -lf {2}) with \
             the one that the server's owner publishes",
            known_hosts.display(),
            scan(access),
            known_hosts.display()
        )),
        OF_SSH if has("Load key ") || has("no such identity") => {
            let what = said.lines().find(|l| l.contains("Load key ") || l.contains("no such identity"));
            Answer::Denied(format!(
                "ssh cannot use the key {}: {}. It must be a private key without a passphrase",
                key.display(),
                lines(what.unwrap_or(said))
            ))
        }
        OF_SSH if has("Permission denied (") && has_passphrase(key) => Answer::Denied(format!(
            "the key {} has a passphrase, and nobody is there to type it. Make a deploy key without one \
             (ssh-keygen -t ed25519 -N '')",
            key.display()
        )),
        OF_SSH if has("Permission denied (") || has("Too many authentication failures") => Answer::Denied(format!(
            "it does not accept the key {} for the user {}. Add its public half (ssh-keygen -yf {0}) there as a deploy key",
            key.display(),
            remote.user.as_deref().unwrap_or("?")
        )),
        OF_SSH if has("Unable to negotiate") => Answer::Invalid(lines(said)),
        // In whose words it is told depends on who noticed first.
        OF_SSH if said.trim().is_empty() || BROKEN.iter().any(|text| has(text)) => {
            Answer::Unreachable("the connection broke".to_owned())
        }
        OF_SSH => Answer::Unreachable(lines(said)),
        _ if said.to_ascii_lowercase().contains("denied") => Answer::Denied(lines(said)),
        _ => Answer::Invalid(format!("it says: {}. Check that the deploy key may read this repository", lines(said))),
    })
}

/// Whether a private key is encrypted: `ssh` passes over such a key without a word.
fn has_passphrase(key: &Path) -> bool {
    let Ok(text) = std::fs::read_to_string(key) else { return false };
    // The formats before OpenSSH's own (RFC 1421, RFC 5958) say so in plain text.
    text.contains("ENCRYPTED") || ssh_key::PrivateKey::from_openssh(&text).is_ok_and(|key| key.is_encrypted())
}

/// The command that shows a server's keys.
fn scan(access: &SshAccess) -> String {
    let port = access.remote.port.map(|port| format!("-p {port} ")).unwrap_or_default();
    format!("ssh-keyscan {port}{}", access.remote.host)
}

/// The last lines of a complaint, on one line and fit for display.
fn lines(said: &str) -> String {
    let all: Vec<&str> = said.lines().map(|l| l.trim().trim_end_matches('.')).filter(|l| !l.is_empty()).collect();
    displayable(all[all.len().saturating_sub(4)..].join("; ").as_bytes(), 300)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::SshRemote;

    fn access(url: &str) -> SshAccess {
        SshAccess {
            remote: SshRemote::parse(url).unwrap(),
            key: "/etc/a key\"\\%h".into(),
            known_hosts: "/etc/known hosts".into(),
        }
    }

    #[test]
    fn every_word_of_the_command_is_one_argument() {
        let all = arguments(&access("ssh://git@example.org:2222/you/a 'b'!.git"));
        let all: Vec<&str> = all.iter().map(|a| a.to_str().unwrap()).collect();
        let options = OPTIONS.iter().flat_map(|option| ["-o", option]);
        let wanted: Vec<&str> = ["-F", "/dev/null", "-T"]
            .into_iter()
            .chain(options)
            .chain(["-o", "UserKnownHostsFile=\"/etc/known hosts\"", "-o", r#"IdentityFile="/etc/a key\"\\%%h""#])
            .chain(["-p", "2222", "-l", "git", "--", "example.org", r"git-upload-pack '/you/a '\''b'\'''\!'.git'"])
            .collect();
        assert_eq!(all, wanted);
    }

    #[test]
    fn complaints_are_sorted_by_who_must_act() {
        let access = access("ssh://git@example.org:2222/x");
        let told = |code: i32, said: &str| classed(code, said, &access);
        assert!(told(0, "").is_none());
        let unknown = "No ED25519 host key is known for example.org and you have requested strict checking.\r\n\
                       Host key verification failed.\r\n";
        let Some(Answer::Untrusted(why)) = told(255, unknown) else { panic!("untrusted") };
        assert!(why.contains("ssh-keyscan -p 2222 example.org >> /etc/known hosts"), "{why}");
        let changed = "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\n";
        let Some(Answer::Untrusted(why)) = told(255, changed) else { panic!("untrusted") };
        assert!(why.contains("somebody may be in between"), "{why}");
        let Some(Answer::Denied(why)) = told(255, "git@example.org: Permission denied (publickey).\n") else {
            panic!("denied")
        };
        assert!(why.contains("deploy key"), "{why}");
        let away = "ssh: connect to host example.org port 2222: Connection refused\r\n";
        assert!(matches!(told(255, away), Some(Answer::Unreachable(why)) if why.ends_with("refused")));
        for broken in ["", "client_loop: send disconnect: Broken pipe\n", "Connection to x closed by remote host.\r\n"]
        {
            assert!(matches!(told(255, broken), Some(Answer::Unreachable(why)) if why == "the connection broke"));
        }
        assert!(matches!(told(127, "sh: 1: git-upload-pack: not found\n"), Some(Answer::Invalid(_))));
        let absent = "fatal: '/x' does not appear to be a git repository\n";
        assert!(matches!(told(128, absent), Some(Answer::Invalid(why)) if why.contains("does not appear")));
        let hidden = "ERROR: Permission to you/x.git denied to deploy key\n";
        assert!(matches!(told(1, hidden), Some(Answer::Denied(_))));
    }
}
