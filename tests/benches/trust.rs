//! `make bench`: fetching and verifying beside what Git itself does, both in one run.
//!
//! Every line is a ratio. The aims are those of `docs/performance.md`; a ratio over its aim is printed as such and fails
//! nothing, since it depends on the machine. The program under test is `EVENKEEL_BIN`, built for release. `COMMITS=200`
//! verifies a shorter history than one of 5,000: Git takes a minute for that.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use evenkeel_tests::{
    keys::Key,
    memory::filled_by,
    program::{self, Run},
    receivers::git_http::GitHttp,
};
use serde_json::{Value, json};
use ssh_key::{HashAlg, LineEnding, PrivateKey};

/// How many commits are verified, unless `COMMITS` says otherwise.
const COMMITS: usize = 5000;
/// How often an unchanged ref is asked for, on each side in turn.
const ROUNDS: usize = 25;

fn print(name: &str, (ours, theirs): (f64, f64), unit: &str, aim: f64) {
    let ratio = ours / theirs;
    let verdict = if ratio <= aim { "ok" } else { "OVER" };
    println!("{verdict:<5} {name:<62} ratio {ratio:>7.4} (aim {aim})   {ours:.3} {unit} against {theirs:.3} {unit}");
}

fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("TZ", "UTC");
    command
}

/// A bare repository with a line of signed commits, and the file of who may sign.
struct History {
    folder: tempfile::TempDir,
    first: String,
}

impl History {
    /// The commits are signed here: `git commit` would take a minute for what is not measured.
    fn of(count: usize) -> Self {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let key = Key::make(&folder.path().join("keys"), "alice");
        fs::write(folder.path().join("signers"), key.allowed()).expect("the same");
        let private = PrivateKey::read_openssh_file(&key.file).expect("ssh-keygen writes keys");
        Run::of(git(folder.path()).args(["init", "-q", "--bare", "-b", "main", "infra.git"])).exits(0);
        let bare = folder.path().join("infra.git");
        let tree = Run::of(git(&bare).args(["hash-object", "-t", "tree", "-w", "/dev/null"])).ok();
        let mut store = git(&bare);
        store.args(["hash-object", "-t", "commit", "-w", "--no-filters", "--stdin-paths"]);
        let mut store = store.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("git runs");
        let mut paths = store.stdin.take().expect("it is piped");
        let mut ids = BufReader::new(store.stdout.take().expect("it is piped"));
        let file = folder.path().join("commit");
        let mut all: Vec<String> = Vec::new();
        for n in 0..=count {
            fs::write(&file, signed(&private, &tree, all.last(), n)).expect("the folder is writable");
            writeln!(paths, "{}", file.display()).expect("git reads it");
            let mut id = String::new();
            ids.read_line(&mut id).expect("git answers with the id");
            all.push(id.trim().to_owned());
        }
        drop(paths);
        assert!(store.wait().expect("git ends").success());
        let last = &all[count];
        Run::of(git(&bare).args(["update-ref", "refs/heads/main", last])).exits(0);
        Run::of(git(&bare).args(["repack", "-a", "-d", "-q"])).exits(0);
        Self { folder, first: all.swap_remove(0) }
    }

    fn bare(&self) -> PathBuf {
        self.folder.path().join("infra.git")
    }
}

/// A commit object with its signature where Git puts it.
fn signed(key: &PrivateKey, tree: &str, parent: Option<&String>, n: usize) -> String {
    let parent = parent.map(|id| format!("parent {id}\n")).unwrap_or_default();
    let time = 1_700_000_000 + n;
    let head = format!("tree {tree}\n{parent}author A <a@x> {time} +0000\ncommitter A <a@x> {time} +0000\n");
    let message = format!("\nChange {n}\n");
    let payload = format!("{head}{message}");
    let signature = key.sign("git", HashAlg::Sha512, payload.as_bytes()).expect("the key can sign");
    let armour = signature.to_pem(LineEnding::LF).expect("a signature can be written");
    format!("{head}gpgsig {}\n{message}", armour.trim_end().replace('\n', "\n "))
}

fn verification() {
    let count = std::env::var("COMMITS").ok().and_then(|n| n.parse().ok()).unwrap_or(COMMITS);
    let history = History::of(count);
    let (bare, signers) = (history.bare(), history.folder.path().join("signers"));
    let range = format!("{}..main", history.first);
    let verify = || {
        let mut command = Command::new(program::evenkeel());
        command.args(["verify", "--format", "json", "--repo"]).arg(&bare).arg("--allowed-signers").arg(&signers);
        let began = Instant::now();
        let run = Run::of(command.arg(&range));
        let took = began.elapsed();
        assert_eq!(run.exits(0).json()["commits"].as_array().map(Vec::len), Some(count));
        took
    };
    verify(); // the first reads the files from the disk, which the other side then need not
    let ours = verify();
    let (_, mib) = filled_by(std::process::id(), "--allowed-signers", verify);
    let mut log = git(&bare);
    log.args(["-c", &format!("gpg.ssh.allowedSignersFile={}", signers.display())]);
    let began = Instant::now();
    let shown = Run::of(log.args(["log", "--show-signature", "--format=%H %G?", &range])).ok();
    let theirs = began.elapsed();
    assert_eq!(shown.lines().filter(|line| line.ends_with(" G")).count(), count, "git accepts them too");
    let seconds = (ours.as_secs_f64(), theirs.as_secs_f64());
    print(&format!("verify of {count} signed commits / `git log --show-signature`"), seconds, "s", 0.02);
    print(&format!("memory for {count} signed commits / 50 MiB"), (mib_of(mib), 50.0), "MiB", 1.0);
}

fn mib_of(mib: u64) -> f64 {
    u32::try_from(mib).map_or(f64::INFINITY, f64::from)
}

/// One fetch as the agent starts it: a process of its own that is told everything on its standard input.
fn fetch(request: &Value) -> Duration {
    let began = Instant::now();
    let mut child = Command::new(program::evenkeel())
        .arg("__fetch")
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program runs");
    // Its end would tell the child that nobody waits for it.
    let mut stdin = child.stdin.take().expect("it is piped");
    writeln!(stdin, "{request}").expect("it reads the request");
    let mut said = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    stdout.read_line(&mut said).expect("it answers");
    assert!(child.wait().expect("it ends").success() && said.contains("tip"), "{said}");
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn unchanged_ref(over: &str, folder: &Path, url: &str) {
    let mirror = folder.join(format!("mirror-{over}.git"));
    let reference = "refs/heads/main";
    let request = json!({ "url": url, "reference": reference, "mirror": mirror, "credentials": null, "ssh": null });
    let ls_remote = || {
        let began = Instant::now();
        Run::of(git(folder).args(["ls-remote", url, reference])).exits(0);
        began.elapsed()
    };
    fetch(&request); // fills the mirror
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(fetch(&request));
        theirs.push(ls_remote());
    }
    print(
        &format!("fetch of an unchanged ref over {over} / `git ls-remote`"),
        (median(ours), median(theirs)),
        "ms",
        1.2,
    );
    let most = |word: &str, work: &dyn Fn() -> Duration| {
        (0..ROUNDS).map(|_| filled_by(std::process::id(), word, work).1).max().map_or(0.0, mib_of)
    };
    let (ours, theirs) = (most("__fetch", &|| fetch(&request)), most(url, &ls_remote));
    print(&format!("its memory over {over} / the largest process of `git ls-remote`"), (ours, theirs), "MiB", 1.0);
}

fn unchanged_refs() {
    let history = History::of(50);
    let folder = history.folder.path();
    unchanged_ref("file", folder, &format!("file://{}", history.bare().display()));
    let server = GitHttp::start(folder.to_path_buf());
    unchanged_ref("http", folder, &server.url("infra.git"));
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_default();
    let benches: [(&str, fn()); 2] = [("verification", verification), ("unchanged ref", unchanged_refs)];
    for (_, bench) in benches.iter().filter(|(name, _)| name.contains(&filter)) {
        bench();
    }
}
