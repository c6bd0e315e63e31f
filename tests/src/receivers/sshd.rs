//! A real SSH server, from Debian's package, that serves a world's repositories and changes nothing of the system.
//!
//! As root it wants a user `sshd` and a folder `/run/sshd`. Both are given to it in a mount namespace of its own, together
//! with a user `git` who owns what root owns and whose home is the world's folder. Nobody else sees them. As another user
//! it needs none of that, and lets in that very user.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    agent,
    keys::Key,
    port,
    program::{Run, shown},
    wait::{seconds, wait_until},
};

/// What runs in the mount namespace: `$1` becomes the list of users, the rest is the server.
const IN_NAMESPACE: &str =
    r#"mount --bind "$1" /etc/passwd; mount -t tmpfs -o mode=755 none /run; mkdir /run/sshd; shift; exec "$@""#;

static COUNT: AtomicU32 = AtomicU32::new(1);

/// The server. Dropping it kills it.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    folder: PathBuf,
    port: u16,
    /// Where it listens on port 22 too, unless that is taken.
    address: Option<String>,
    /// The server's own key.
    pub host_key: Key,
    /// A key that it lets in.
    pub deploy_key: Key,
}

impl Sshd {
    /// Serves what lies in `folder` to who has the deploy key; relative paths begin there.
    #[track_caller]
    pub fn start(folder: &Path) -> Self {
        let home = folder;
        let folder = folder.join("sshd");
        let (host_key, deploy_key) = (Key::make(&folder, "host"), Key::make(&folder, "deploy"));
        fs::write(folder.join("authorized_keys"), deploy_key.public()).expect("the world's folder is writable");
        let users = fs::read_to_string("/etc/passwd").expect("every Unix has it");
        let users = users.lines().filter(|l| !l.starts_with("git:") && !l.starts_with("sshd:")).collect::<Vec<_>>();
        let ours = format!("sshd:x:65533:65534::/run/sshd:/bin/false\ngit:x:0:0::{}:/bin/sh\n", home.display());
        fs::write(folder.join("passwd"), format!("{}\n{ours}", users.join("\n")))
            .expect("the world's folder is writable");
        let (port, address) = (port::free(), own_address().filter(|_| is_root()));
        let mut server = Self { child: sleeping(), folder, port, address, host_key, deploy_key };
        server.start_again();
        server
    }

    /// Starts it with the host key as it is now.
    #[track_caller]
    fn start_again(&mut self) {
        self.stop();
        let config = self.folder.join("config");
        fs::write(&config, self.config()).expect("the world's folder is writable");
        let log = File::create(self.log()).expect("the world's folder is writable");
        let mut command = if is_root() { Command::new("unshare") } else { Command::new(program()) };
        if is_root() {
            command.args(["--mount", "--propagation", "private", "sh", "-euc", IN_NAMESPACE, "sh"]);
            command.arg(self.folder.join("passwd")).arg(program());
        }
        command.args(["-D", "-e", "-f"]).arg(&config);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = child.unwrap_or_else(|e| panic!("cannot run {}: {e}", shown(&command)));
        wait_until(seconds(20), "sshd listens", || {
            let said = agent::tail(&self.log(), usize::MAX);
            if said.contains("Server listening") { Ok(()) } else { Err(said) }
        });
    }

    fn config(&self) -> String {
        let folder = self.folder.display();
        let listen = self.address.as_ref().map(|a| format!("ListenAddress {a}:22\n")).unwrap_or_default();
        // Since 9.8 it consists of several programs, which a folder of unpacked packages has elsewhere.
        let helpers = program().ancestors().nth(2).map(|usr| usr.join("lib/openssh")).unwrap_or_default();
        let helper = |key: &str, name: &str| {
            let file = helpers.join(name);
            if file.exists() { format!("{key} {}\n", file.display()) } else { String::new() }
        };
        format!(
            "ListenAddress 127.0.0.1:{port}\n{listen}{session}{auth}HostKey {key}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             AuthorizedKeysFile {folder}/authorized_keys\nAcceptEnv GIT_PROTOCOL\nPrintMotd no\nUseDNS no\n\
             SetEnv PATH={path}\n",
            port = self.port,
            session = helper("SshdSessionPath", "sshd-session"),
            auth = helper("SshdAuthPath", "sshd-auth"),
            key = self.host_key.file.display(),
            path = std::env::var("PATH").unwrap_or_default(),
        )
    }

    /// The URL of a repository, by its whole path.
    pub fn url(&self, path: &Path) -> String {
        format!("ssh://{}@127.0.0.1:{}{}", user(), self.port, path.display())
    }

    /// The same in the short form, by its path in the folder; `None` where port 22 is taken or not ours to take.
    pub fn short_url(&self, path: &str) -> Option<String> {
        self.address.as_ref().map(|address| format!("git@{address}:{path}"))
    }

    /// The lines that pin its host key.
    pub fn known_hosts(&self) -> String {
        let key = self.host_key.public();
        let short = self.address.as_ref().map(|address| format!("{address} {key}\n")).unwrap_or_default();
        format!("[127.0.0.1]:{} {key}\n{short}", self.port)
    }

    /// The port at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it said.
    pub fn logged(&self) -> String {
        agent::tail(&self.log(), usize::MAX)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Gives it another host key, as a server has one that was set up anew, or that somebody else runs.
    #[track_caller]
    pub fn change_host_key(&mut self) {
        self.host_key = Key::make(&self.folder.join("new"), "host");
        self.start_again();
    }

    /// From now on it takes connections and says nothing.
    #[track_caller]
    pub fn freeze(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).expect("a child that was not waited for gets signals");
    }

    /// It goes on.
    #[track_caller]
    pub fn thaw(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).expect("a child that was not waited for gets signals");
    }

    /// Nothing listens any more.
    pub fn stop(&mut self) {
        // Either may fail because it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The server's program. It must be named by its whole path, because it starts itself anew for each connection.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = folders.map(|folder| folder.join("sshd")).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("there is no sshd: run `make test`, which gets it first"))
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Who may log in.
fn user() -> String {
    if is_root() { "git".to_owned() } else { Run::of(Command::new("id").arg("-un")).ok() }
}

/// An address of this machine that no other test uses, if port 22 is free there.
fn own_address() -> Option<String> {
    let [_, _, high, low] = process::id().to_be_bytes();
    let count = COUNT.fetch_add(1, Ordering::Relaxed) % 250 + 1;
    let address = format!("127.{}.{low}.{count}", high.max(1));
    TcpListener::bind((address.as_str(), 22)).is_ok().then_some(address)
}

/// A child that has ended, so that there always is one.
fn sleeping() -> Child {
    Command::new("true").spawn().unwrap_or_else(|e| panic!("cannot run true: {e}"))
}
