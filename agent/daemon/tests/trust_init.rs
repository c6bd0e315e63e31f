//! `evenkeel trust init`, as a person sets a server up: on real repositories, at a real terminal.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails where it stands")]

mod done;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use done::Done;
use insta::assert_snapshot;
use serde_json::json;

const EVENKEEL: &str = env!("CARGO_BIN_EXE_evenkeel");
/// How long a program may take to say something, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bare repository, a clone of it, and a server's folder that does not exist yet.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(world.path("home")).unwrap();
        world.run("git", &["init", "-q", "--bare", "-b", "main", "infra.git"]);
        world.run("git", &["clone", "-q", "infra.git", "infra"]);
        world.git(&["config", "user.name", "Ada Lovelace"]);
        world.git(&["config", "user.email", "ada@example.org"]);
        world.key("ada");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.folder.path()).env("HOME", self.path("home")).env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("TZ", "UTC").env_remove("NO_COLOR").stdin(Stdio::null());
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> String {
        let done = Done(self.command(program).args(args).output().unwrap());
        assert_eq!(done.code(), 0, "{program} {args:?}: {}", done.stderr());
        done.stdout().trim().to_owned()
    }

    fn git(&self, args: &[&str]) -> String {
        self.run("git", &[&["-C", "infra"], args].concat())
    }

    /// Makes a key pair, and gives its fingerprint.
    fn key(&self, name: &str) -> String {
        if !self.path(name).exists() {
            self.run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", &format!("{name}@laptop"), "-f", name]);
        }
        self.run("ssh-keygen", &["-lf", name]).split(' ').nth(1).unwrap().to_owned()
    }

    /// Commits and pushes; nobody signs if no key is named.
    fn push(&self, subject: &str, key: Option<&str>) -> String {
        let file = format!("user.signingkey={}", self.path(key.unwrap_or("none")).display());
        let sign = if key.is_some() { "-S" } else { "--no-gpg-sign" };
        self.git(&["-c", "gpg.format=ssh", "-c", &file, "commit", "-q", "--allow-empty", sign, "-m", subject]);
        self.git(&["push", "-q", "origin", "HEAD:refs/heads/main"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn url(&self) -> String {
        format!("file://{}", self.path("infra.git").display())
    }

    fn config(&self) -> PathBuf {
        self.path("etc/agent.yml")
    }

    /// `evenkeel trust init` for this repository and this server.
    fn init_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(EVENKEEL);
        command.args(["trust", "init", "--url", &self.url(), "--config"]).arg(self.config()).args(args);
        command
    }

    fn init(&self, args: &[&str]) -> Done {
        Done(self.init_command(args).output().unwrap())
    }

    fn init_with(&self, args: &[&str], stdin: &str) -> Done {
        let mut command = self.init_command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        Done(child.wait_with_output().unwrap())
    }

    /// The same at a terminal of its own.
    fn at_terminal(&self, args: &[&str]) -> Terminal {
        let init = self.init_command(args);
        let words = [init.get_program()].into_iter().chain(init.get_args());
        let line: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let mut command = self.command("script");
        command.args(["-qefc", &line.join(" "), "/dev/null"]).env("TERM", "xterm");
        Terminal::start(&mut command)
    }

    /// What was said, without what differs from run to run.
    fn told(&self, text: &str) -> String {
        let mut text = text.replace(&self.folder.path().display().to_string(), "/WORLD");
        let ids = self.git(&["log", "--format=%H"]);
        for (number, id) in ids.lines().rev().enumerate() {
            text = text.replace(id, &format!("<id{number}>")).replace(&id[..12], &format!("<commit-{number}> "));
        }
        for name in ["ada", "bob"].iter().filter(|name| self.path(name).exists()) {
            let public = fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap();
            let base64 = public.split(' ').nth(1).unwrap();
            text =
                text.replace(&self.key(name), &format!("SHA256:<{name}>")).replace(base64, &format!("<{name}'s key>"));
        }
        let today = self.git(&["log", "-1", "--format=%ad", "--date=format:%Y-%m-%d"]);
        text.replace(&today, "2026-11-21")
    }
}

impl Done {
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{}{}", self.stdout(), self.stderr());
        self
    }
}

/// A program at a terminal, and who reads and types there.
struct Terminal {
    child: Child,
    typed: ChildStdin,
    shown: Arc<(Mutex<String>, Condvar)>,
}

impl Terminal {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (typed, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let shown: Arc<(Mutex<String>, Condvar)> = Arc::default();
        let filled = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut buffer) {
                filled.0.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
                filled.1.notify_all();
            }
        });
        Self { child, typed, shown }
    }

    /// Waits for a text, and then types a line.
    #[track_caller]
    fn answers(&mut self, question: &str, line: &str) {
        self.asks(question);
        self.typed.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    /// Waits for a text. What was shown before it counts no more.
    #[track_caller]
    fn asks(&mut self, question: &str) {
        let (shown, more) = &*self.shown;
        let until = Instant::now() + PATIENCE;
        let mut text = shown.lock().unwrap();
        loop {
            if let Some(at) = text.find(question) {
                text.drain(..at + question.len());
                break;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{question:?} was not asked: {text}");
            text = more.wait_timeout(text, left).unwrap().0;
        }
    }

    /// Waits for the end, and gives the exit code with what was shown since the last answer.
    fn ends(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap();
        (code, self.shown.0.lock().unwrap().clone())
    }
}

#[test]
fn shows_who_signed_what_and_writes_what_was_chosen() {
    let world = World::new();
    world.push("Long ago", None);
    let bob = world.key("bob");
    world.push("By bob", Some("bob"));
    world.push("By ada", Some("ada"));
    let done = world.init(&["--signer", &world.key("ada"), "--signer", &bob, "--yes"]).exits(0);
    assert_snapshot!(world.told(&done.stdout()), @"
    The newest 3 commits of refs/heads/main:

    COMMIT        DATE        SIGNATURE  KEY  AUTHOR        SUBJECT
    <commit-2>   2026-11-21  signed     1    Ada Lovelace  By ada
    <commit-1>   2026-11-21  signed     2    Ada Lovelace  By bob
    <commit-0>   2026-11-21  unsigned   -    Ada Lovelace  Long ago

    Keys:

      1  ed25519  SHA256:<ada>
         1 commit of these, the last on 2026-11-21, Ada Lovelace <ada@example.org>
      2  ed25519  SHA256:<bob>
         1 commit of these, the last on 2026-11-21, Ada Lovelace <ada@example.org>

    wrote /WORLD/etc/allowed_signers
    wrote /WORLD/etc/agent.yml

    On each machine where you commit, so that every commit is signed:

      git config --global gpg.format ssh
      git config --global user.signingkey ~/.ssh/id_ed25519.pub    # SHA256:<ada>
      git config --global commit.gpgsign true

    Next, on this server:

      evenkeel agent --once --config /WORLD/etc/agent.yml    # one sync, to see whether all is well
      evenkeel trust status --config /WORLD/etc/agent.yml
    ");
    assert_snapshot!(world.told(&fs::read_to_string(world.config()).unwrap()), @r#"
    # Evenkeel's configuration of this server, made by `evenkeel trust init`.
    # docs/reference/agent.yml.md lists every key.

    source:
      url: file:///WORLD/infra.git
      ref: refs/heads/main
    trust:
      allowed_signers: /WORLD/etc/allowed_signers
      introduction:
        commit: "<id2>"
        signer: "SHA256:<ada>"
    "#);
    let signers = fs::read_to_string(world.path("etc/allowed_signers")).unwrap();
    assert_snapshot!(world.told(&signers), @r#"
    ada@example.org namespaces="git" ssh-ed25519 <ada's key>
    ada@example.org namespaces="git" ssh-ed25519 <bob's key>
    "#);
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("etc"), mode("etc/agent.yml"), mode("etc/allowed_signers")), (0o700, 0o600, 0o644));
}

#[test]
fn git_itself_takes_the_file_of_signers() {
    let world = World::new();
    world.push("By ada", Some("ada"));
    world.init(&["--keys", "ada.pub", "--yes"]).exits(0);
    let setting = format!("gpg.ssh.allowedSignersFile={}", world.path("etc/allowed_signers").display());
    world.git(&["-c", &setting, "verify-commit", "HEAD"]);
}

#[test]
fn without_a_terminal_it_says_which_flags_to_give_and_they_work() {
    let world = World::new();
    world.push("By ada", Some("ada"));
    let done = world.init(&["--branch", "main"]).exits(2);
    assert!(done.stderr().contains("there is no terminal to ask at"), "{}", done.stderr());
    assert!(!world.config().exists());
    let line = done.stderr().lines().find_map(|line| line.trim().strip_prefix("evenkeel ").map(str::to_owned)).unwrap();
    world.run("sh", &["-c", &format!("'{EVENKEEL}' {line}")]);
    assert!(world.config().exists());
    let told = world.init(&["--format", "json"]).exits(2).json();
    assert_eq!(told["error"]["code"], "trust.unconfirmed");
}

#[test]
fn a_person_at_a_terminal_is_asked_and_may_choose_again() {
    let world = World::new();
    let old = world.push("Long ago", None);
    let first = world.push("By ada", Some("ada"));
    world.key("bob");
    world.push("By bob", Some("bob"));
    let mut terminal = world.at_terminal(&[]);
    terminal.answers("Whose signatures count on this server?", "7");
    terminal.answers("\"7\" is no number from 1 to 2", "all");
    terminal.answers("Where does trusted history begin?", "nowhere");
    terminal.answers("has no commit \"nowhere\"", "first");
    terminal.answers(&old[..12], "2 1");
    terminal.answers("Where does trusted history begin?", &first[..10]);
    terminal.answers("Write ", "");
    let (code, shown) = terminal.ends();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("git config --global gpg.format ssh"), "{shown}");
    assert!(fs::read_to_string(world.config()).unwrap().contains(&first));
    assert_eq!(fs::read_to_string(world.path("etc/allowed_signers")).unwrap().lines().count(), 2);
}

#[test]
fn keys_may_come_from_a_pipe_while_the_person_answers_at_the_terminal() {
    let world = World::new();
    world.push("By ada", Some("ada"));
    let init = world.init_command(&["--github", "ada-l"]);
    let words: Vec<String> =
        [init.get_program()].into_iter().chain(init.get_args()).map(|w| w.to_string_lossy().into_owned()).collect();
    let line = format!("cat ada.pub | {}", words.join(" "));
    let mut terminal =
        Terminal::start(world.command("script").args(["-qefc", &line, "/dev/null"]).env("TERM", "xterm"));
    terminal.answers("listed by github.com/ada-l.keys", "");
    terminal.answers("Where does trusted history begin?", "");
    terminal.answers("Write ", "y");
    assert_eq!(terminal.ends().0, 0);
    assert!(fs::read_to_string(world.path("etc/allowed_signers")).unwrap().starts_with("ada-l namespaces="));
}

#[test]
fn who_says_no_or_nothing_changes_nothing() {
    let world = World::new();
    world.push("By ada", Some("ada"));
    for last in ["n", "\u{4}"] {
        let mut terminal = world.at_terminal(&[]);
        terminal.answers("Whose signatures count", "");
        terminal.answers("Where does trusted history begin?", "");
        terminal.answers("Write ", last);
        let (code, shown) = terminal.ends();
        assert!(code == 2 && shown.contains("nothing was written"), "{code}: {shown}");
        assert!(!world.path("etc").exists());
    }
}

#[test]
fn an_unsigned_history_is_told_with_what_makes_it_right_and_looked_at_again() {
    let world = World::new();
    world.push("Long ago", None);
    let done = world.init(&["--yes", "--keys", "ada.pub"]).exits(4);
    assert_snapshot!(world.told(&done.stderr()), @r#"
    error: the newest commit <commit-0>  "Long ago" carries no signature that fits it
    help: Trust begins at a commit that is signed. On your own machine:

      git config --global gpg.format ssh
      git config --global user.signingkey ~/.ssh/id_ed25519.pub    # SHA256:<ada>
      git config --global commit.gpgsign true
      git commit --allow-empty -m 'Begin to sign' && git push
    "#);

    // What it says, word for word, while it waits.
    fs::create_dir(world.path("home/.ssh")).unwrap();
    for end in ["", ".pub"] {
        fs::copy(world.path(&format!("ada{end}")), world.path(&format!("home/.ssh/id_ed25519{end}"))).unwrap();
    }
    let mut terminal = world.at_terminal(&["--keys", "ada.pub"]);
    terminal.asks("Press Enter");
    let told = done.stderr();
    for line in told.lines().filter_map(|line| line.strip_prefix("  git ")) {
        world.run("sh", &["-c", &format!("cd infra && git {line}")]);
    }
    terminal.answers("to look again", "");
    terminal.answers("Whose signatures count", "");
    terminal.answers("Where does trusted history begin?", "");
    terminal.answers("Write ", "");
    assert_eq!(terminal.ends().0, 0);
}

#[test]
fn a_configuration_that_is_there_is_never_overwritten_unasked() {
    let world = World::new();
    world.push("By ada", Some("ada"));
    fs::create_dir(world.path("etc")).unwrap();
    let own = "server: attic # mine\nobserve: true\n";
    fs::write(world.config(), own).unwrap();
    let done = world.init(&["--keys", "ada.pub", "--yes"]).exits(2);
    assert_snapshot!(world.told(&done.stdout()), @r#"
    The one commit of refs/heads/main:

    COMMIT        DATE        SIGNATURE  KEY  AUTHOR        SUBJECT
    <commit-0>   2026-11-21  signed     1    Ada Lovelace  By ada

    Keys:

      1  ed25519  SHA256:<ada>
         1 commit of these, the last on 2026-11-21, Ada Lovelace <ada@example.org>, listed by ada.pub

    Put this into /WORLD/etc/agent.yml by hand:

    source:
      url: file:///WORLD/infra.git
      ref: refs/heads/main
    trust:
      allowed_signers: /WORLD/etc/allowed_signers
      introduction:
        commit: "<id0>"
        signer: "SHA256:<ada>"

    and this into /WORLD/etc/allowed_signers:

    ada@laptop namespaces="git" ssh-ed25519 <ada's key>
    "#);
    assert!(done.stderr().contains("nothing was written"), "{}", done.stderr());
    assert_eq!(fs::read_to_string(world.config()).unwrap(), own);
    assert!(!world.path("etc/allowed_signers").exists());

    let mut terminal = world.at_terminal(&["--keys", "ada.pub"]);
    terminal.answers("Whose signatures count", "");
    terminal.answers("Where does trusted history begin?", "");
    terminal.answers("Replace it, and keep the old one beside it? [y/N]", "");
    assert_eq!(terminal.ends().0, 2);
    assert_eq!(fs::read_to_string(world.config()).unwrap(), own);

    world.init(&["--keys", "ada.pub", "--yes", "--force"]).exits(0);
    assert_eq!(fs::read_to_string(world.path("etc/agent.yml.old")).unwrap(), own);
    assert!(fs::read_to_string(world.config()).unwrap().contains("introduction"));
}

#[test]
fn the_packages_comments_stay_and_so_do_keys_that_are_listed() {
    let world = World::new();
    world.push("By ada", Some("ada"));
    fs::create_dir(world.path("etc")).unwrap();
    let comments = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docker/debian/agent.yml");
    fs::copy(comments, world.config()).unwrap();
    fs::set_permissions(world.config(), fs::Permissions::from_mode(0o600)).unwrap();
    world.key("bob");
    let bob = format!("bob@example.org {}", fs::read_to_string(world.path("bob.pub")).unwrap());
    fs::write(world.path("etc/allowed_signers"), &bob).unwrap();
    world.init(&["--keys", "ada.pub", "--yes"]).exits(0);
    let config = fs::read_to_string(world.config()).unwrap();
    assert!(config.starts_with(&fs::read_to_string(comments).unwrap()) && config.contains("\nsource:\n"), "{config}");
    let signers = fs::read_to_string(world.path("etc/allowed_signers")).unwrap();
    assert!(signers.starts_with(&bob) && signers.lines().count() == 2, "{signers}");
}

#[test]
fn a_choice_that_the_rules_do_not_bear_out_is_refused() {
    let world = World::new();
    world.push("Long ago", None);
    world.key("bob");
    let middle = world.push("By bob", Some("bob"));
    world.push("By ada", Some("ada"));
    for (keys, introduction, rule) in [
        ("ada.pub", "first", "E-UNSIGNED"),
        ("bob.pub", &middle, "E-UNKNOWN-KEY"),
        ("bob.pub", "newest", "E-UNKNOWN-KEY"),
        ("ada.pub", "newest~2", "has no commit"),
        ("ada.pub", "main~2", "carries no signature that fits it"),
    ] {
        let args = ["--keys", keys, "--introduction", introduction, "--yes"];
        let done = world.init(&args);
        let code = if rule == "has no commit" { 2 } else { 4 };
        assert!(done.code() == code && done.stderr().contains(rule), "{args:?}: {}", done.stderr());
        assert!(!world.path("etc").exists());
    }
}

#[test]
fn prints_the_files_for_another_machine_and_writes_none() {
    let world = World::new();
    world.push("By ada", Some("ada"));
    let done = world.init(&["--github", "ada=ada.pub", "--yes", "--print", "--format", "json"]).exits(0).json();
    assert!(!world.path("etc").exists());
    assert_eq!(done["files"][0]["written"], json!(false));
    assert!(done["files"][1]["content"].as_str().unwrap().contains("introduction:"));
    assert_eq!((&done["keys"][0]["principal"], &done["keys"][0]["chosen"]), (&json!("ada"), &json!(true)));
    assert_eq!(done["commits"][0]["signature"], "signed");
    assert_eq!(done["git_config"].as_array().unwrap().len(), 3);
}

#[test]
fn flags_that_cannot_be_are_told_in_their_own_names() {
    let world = World::new();
    world.push("By ada", Some("ada"));
    let cases: [(&[&str], &str); 7] = [
        (&["--branch", "a b"], "--branch must be a branch's full name"),
        (&["--ca-file", "/nowhere"], "--ca-file"),
        (&["--branch", "other"], "its branches are main"),
        (&["--keys", "infra.git/HEAD"], "line 1"),
        (&["--keys", "nowhere.pub"], "nowhere.pub: No such file"),
        (&["--github", "../x=ada.pub"], "no user's name"),
        (&["--signer", "SHA256:x"], "no key \"SHA256:x\" signed"),
    ];
    for (args, says) in cases {
        let done = world.init(&[args, &["--yes"]].concat());
        assert!(done.code() != 0 && done.stderr().contains(says), "{args:?}: {}", done.stderr());
    }
    assert!(world.init(&["--yes"]).exits(2).stderr().contains("no key was chosen"));
    let done = world.init_with(&["--github", "a", "--keys", "-", "--yes"], "").exits(2);
    assert!(done.stderr().contains("only one list"), "{}", done.stderr());
    let done = world.init_with(&["--github", "a", "--yes"], "<html>\n").exits(2);
    assert!(done.stderr().contains("standard input: line 1"), "{}", done.stderr());
    assert!(!world.path("etc").exists());
}
