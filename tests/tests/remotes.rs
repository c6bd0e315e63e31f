//! Repositories behind SSH: followed with what opens them, and refused with a remedy without it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{fs, path::Path, process::Command, time::Instant};

use evenkeel_core::reason::Code;
use evenkeel_tests::{
    fixture,
    keys::Key,
    program::Run,
    receivers::sshd::Sshd,
    wait::{seconds, wait_until},
    world::World,
};

/// A world whose repository is behind an SSH server; the configuration has the right key and the right host key.
struct OverSsh {
    world: World,
    sshd: Sshd,
    /// The block `source`, in one line.
    source: String,
}

impl OverSsh {
    fn new() -> Self {
        let world = World::new();
        let sshd = Sshd::start(world.folder());
        world.config.put("known hosts", &sshd.known_hosts());
        let mut this = Self { world, sshd, source: String::new() };
        this.configure(&this.sshd.url(&this.world.repository.bare), &this.sshd.deploy_key.file.clone());
        this
    }

    fn configure(&mut self, url: &str, key: &Path) {
        let known_hosts = self.world.server().join("known hosts");
        // JSON is YAML.
        let source = serde_json::json!({
            "url": url,
            "interval": "1h",
            "timeout": "20s",
            "auth": { "ssh_key": key, "known_hosts": known_hosts },
        });
        self.source = source.to_string();
        self.world.config.set("source", &self.source);
    }

    /// Pushes a commit with a stack that starts at once.
    fn push(&self, generation: u8) -> String {
        let compose = fixture::sleeper(generation);
        self.world.change("A stack").file(&self.world.path("web", "compose.yml"), compose).push()
    }

    /// One sync; it must end with `code` for this reason, and say all these words.
    #[track_caller]
    fn fails(&self, code: i32, reason: Code, words: &[&str]) -> String {
        let run = self.world.once();
        run.exits(code);
        for word in words.iter().chain(&[reason.as_str()]) {
            assert!(run.said().contains(word), "it should say {word:?}:\n{}", run.report());
        }
        run.said()
    }
}

// ---------------------------------------------------------------- SSH

#[test]
fn follows_a_repository_over_ssh() {
    let over = OverSsh::new();
    let first = over.push(1);
    over.world.once().exits(0);
    assert_eq!(over.world.container("web", "app").state(), "running");
    let second = over.push(2);
    over.world.once().exits(0);
    let accepted = over.world.status().source.accepted;
    assert_eq!(accepted.as_deref(), Some(second.as_str()));
    assert_ne!(first, second);
    assert!(over.sshd.logged().contains("Accepted publickey for "), "{}", over.sshd.logged());
}

#[test]
fn a_path_with_blanks_and_quotes_reaches_the_server_as_it_is() {
    let mut over = OverSsh::new();
    let marker = over.world.folder().join("ran");
    let strange = over.world.folder().join("a 'b' \"c\" $(touch ran) `touch ran` !d.git");
    fs::rename(&over.world.repository.bare, &strange).unwrap();
    over.world.repository.git(&["remote", "set-url", "origin", strange.to_str().unwrap()]);
    let key = over.world.folder().join("a \"key\" 100%h");
    fs::copy(&over.sshd.deploy_key.file, &key).unwrap();
    over.configure(&over.sshd.url(&strange).replace(' ', "%20"), &key);
    over.push(1);
    over.world.once().exits(0);
    if let Some(short) = over.sshd.short_url(strange.file_name().unwrap().to_str().unwrap()) {
        over.configure(&short, &key);
        let tip = over.push(2);
        over.world.once().exits(0);
        assert_eq!(over.world.status().source.accepted, Some(tip));
    }
    assert!(!marker.exists());
}

#[test]
fn a_key_that_the_server_does_not_know_is_told_with_what_to_do() {
    let mut over = OverSsh::new();
    over.push(1);
    let other = Key::make(over.world.folder(), "other");
    over.configure(&over.sshd.url(&over.world.repository.bare), &other.file);
    over.fails(1, Code::SourceDenied, &["deploy key", &format!("ssh-keygen -yf {}", other.file.display())]);

    let locked = Key::of_kind(over.world.folder(), "locked", &["-t", "ed25519", "-N", "a passphrase"]);
    over.configure(&over.sshd.url(&over.world.repository.bare), &locked.file);
    over.fails(1, Code::SourceDenied, &["passphrase"]);
}

#[test]
fn a_host_key_that_is_not_pinned_is_refused_and_never_learned() {
    let over = OverSsh::new();
    over.push(1);
    let known_hosts = over.world.config.put("known hosts", "# nobody\n");
    let port = over.sshd.port().to_string();
    over.fails(1, Code::SourceUntrusted, &[&format!("ssh-keyscan -p {port} 127.0.0.1"), "fingerprint"]);
    assert_eq!(fs::read_to_string(&known_hosts).unwrap(), "# nobody\n");

    // What the message says works.
    let scanned = Run::of(Command::new("ssh-keyscan").args(["-p", &port, "127.0.0.1"])).ok();
    over.world.config.put("known hosts", &format!("{scanned}\n"));
    over.world.once().exits(0);
}

#[test]
fn a_host_key_that_changed_is_refused_until_a_person_replaces_it() {
    let mut over = OverSsh::new();
    over.push(1);
    over.world.once().exits(0);
    let before = over.world.container("web", "app").id();
    over.sshd.change_host_key();
    over.push(2);
    over.fails(1, Code::SourceUntrusted, &["somebody may be in between", "compare the fingerprints"]);
    assert_eq!(over.world.container("web", "app").id(), before);
    over.world.config.put("known hosts", &over.sshd.known_hosts());
    over.world.once().exits(0);
    assert_ne!(over.world.container("web", "app").id(), before);
}

#[test]
fn a_server_that_hangs_is_left_at_the_deadline_with_all_that_was_started() {
    let mut over = OverSsh::new();
    over.push(1);
    let patient = over.source.clone();
    over.world.config.set("source", &patient.replace("20s", "2s"));
    over.sshd.freeze();
    let begun = Instant::now();
    over.fails(7, Code::SourceUnreachable, &["longer than 2 s"]);
    assert!(begun.elapsed() < seconds(12), "{:?}", begun.elapsed());
    let port = format!("\0-p\0{}\0", over.sshd.port());
    wait_until(seconds(5), "no ssh of ours is left", || match with_argument(&port) {
        0 => Ok(()),
        count => Err(format!("{count} processes")),
    });
    over.sshd.thaw();
    over.world.config.set("source", &patient);
    over.world.once().exits(0);
}

/// How many processes have these words in their command lines.
fn with_argument(words: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|e| fs::read(e.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(words)).count()
}

#[test]
fn a_server_that_is_away_is_tried_again_later() {
    let mut over = OverSsh::new();
    over.push(1);
    over.sshd.stop();
    over.fails(7, Code::SourceUnreachable, &["Connection refused"]);
}

#[test]
fn a_repository_that_is_not_on_the_ssh_server_is_told_in_the_servers_words() {
    let mut over = OverSsh::new();
    let key = over.sshd.deploy_key.file.clone();
    over.configure(&over.sshd.url(Path::new("/nowhere/at/all.git")), &key);
    over.fails(1, Code::SourceInvalid, &["/nowhere/at/all.git", "does not appear to be a git repository"]);
}
