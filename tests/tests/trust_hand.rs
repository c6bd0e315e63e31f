//! Trust by hand: a server is set up, and a person says what is accepted when the agent must not decide it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{fs, path::Path, process::Command};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    fixture,
    keys::Key,
    program::{self, Run},
    receivers::sshd::Sshd,
    world::World,
};
use serde_json::{Value, json};

/// A world whose agent has deployed two generations.
struct Deployed {
    world: World,
    first: String,
    second: String,
}

impl Deployed {
    fn new() -> Self {
        let world = World::new();
        let push = |generation| {
            let file = world.path("web", "compose.yml");
            let commit = world.change("A stack").file(&file, fixture::sleeper(generation)).push();
            world.once().exits(0);
            commit
        };
        let (first, second) = (push(1), push(2));
        Self { world, first, second }
    }

    /// Rewrites the branch: the second generation never was, another one takes its place.
    fn rewrite(&self) -> String {
        self.world.repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
        let file = self.world.path("web", "compose.yml");
        let commit = self.world.change("Instead").file(&file, fixture::sleeper(3)).commit();
        self.world.repository.force_push();
        commit
    }

    fn image(&self) -> String {
        self.world.container("web", "app").image()
    }

    #[track_caller]
    fn runs(&self, generation: u8) {
        let expected = evenkeel_tests::docker::image_id(&format!("evenkeel-test/busybox:{generation}")).unwrap();
        assert_eq!(self.image(), expected);
    }
}

fn accept(world: &World, commit: &str) -> Run {
    world.evenkeel(&["trust", "accept", commit, "--reason", "a secret was taken out", "--yes"])
}

fn interventions(world: &World) -> Value {
    world.evenkeel(&["history", "--format", "json"]).json()["interventions"].clone()
}

#[test]
fn what_init_writes_deploys_a_push_and_refuses_an_unsigned_one() {
    let world = World::new();
    let file = world.path("web", "compose.yml");
    world.change("Long ago").file("README.md", "words\n").unsigned().push();
    world.change("A stack").file(&file, fixture::sleeper(1)).push();
    let config = world.folder().join("etc/agent.yml");
    let fingerprint = world.repository.key.fingerprint();
    let args =
        ["trust", "init", "--url", &world.repository.url(), "--server", "home", "--signer", &fingerprint, "--yes"];
    Run::of(world.command(&args).arg("--config").arg(&config)).exits(0);
    // What the world's own configuration says of paths and engine is not trust's business.
    let rest = world.config.text();
    let rest = rest.lines().filter(|line| ["paths:", "engine:", "gate:"].iter().any(|key| line.starts_with(key)));
    let rest = rest.collect::<Vec<_>>().join("\n");
    fs::write(&config, fs::read_to_string(&config).unwrap() + &rest).unwrap();
    let once = || Run::of(world.command(&["agent", "--once", "--config"]).arg(&config));
    once().exits(0);
    assert_eq!(world.container("web", "app").state(), "running");
    world.change("Unsigned").file(&file, fixture::sleeper(2)).unsigned().push();
    assert!(once().exits(4).said().contains("E-UNSIGNED"));
}

#[test]
fn init_reaches_a_repository_over_ssh_with_the_files_that_the_agent_will_use() {
    let world = World::new();
    world.change("A stack").file("README.md", "words\n").push();
    let sshd = Sshd::start(world.folder());
    let known_hosts = world.config.put("known hosts", &sshd.known_hosts());
    let config = world.folder().join("etc/agent.yml");
    let init = |key: &Path| {
        let url = sshd.url(&world.repository.bare);
        let mut command = world.command(&["trust", "init", "--url", &url, "--branch", "main", "--yes", "--keys"]);
        command.arg(world.repository.key.file.with_extension("pub")).arg("--ssh-key").arg(key);
        Run::of(command.arg("--known-hosts").arg(&known_hosts).arg("--config").arg(&config))
    };
    let stranger = Key::make(world.folder(), "stranger");
    let run = init(&stranger.file);
    assert!(run.code == Some(1) && run.said().contains("deploy key") && !config.exists(), "{}", run.report());
    init(&sshd.deploy_key.file).exits(0);
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("known_hosts: ") && text.contains(&sshd.deploy_key.file.display().to_string()), "{text}");
}

#[test]
fn a_rewritten_history_waits_for_a_person_and_then_runs() {
    let deployed = Deployed::new();
    let world = &deployed.world;
    let commit = deployed.rewrite();
    assert!(world.once().exits(4).said().contains("E-DIVERGED"));
    deployed.runs(2);

    let asked = world.evenkeel(&["trust", "accept", &commit[..12], "--reason", "x"]);
    assert!(asked.exits(2).said().contains("no terminal to ask at"), "{}", asked.report());
    let said = accept(world, &commit[..12]).exits(0).said();
    for word in [&deployed.second[..12], &commit[..12], "1 commit goes away, 1 commit comes", "Instead", "accepted"] {
        assert!(said.contains(word), "it should say {word:?}:\n{said}");
    }
    assert_eq!(world.status().source.accepted.as_deref(), Some(commit.as_str()));
    world.once().exits(0);
    deployed.runs(3);
    assert_eq!(world.status().source.refused, None);
    let told = interventions(world)[0].clone();
    assert_eq!((&told["told"], &told["reason"]), (&json!("trust_accept"), &json!("a secret was taken out")));
    assert_eq!(told["detail"], json!(format!("{} in place of {}", &commit[..12], &deployed.second[..12])));
    assert_eq!(told["by"]["uid"], json!(rustix::process::geteuid().as_raw()));
    assert!(world.evenkeel(&["history"]).stdout.contains("a secret was taken out"));
}

#[test]
fn a_running_agent_takes_what_a_person_accepts_and_goes_on_at_once() {
    let mut deployed = Deployed::new();
    deployed.world.start_and_wait();
    let commit = deployed.rewrite();
    deployed.world.evenkeel(&["sync"]).exits(4);
    let run = deployed.world.evenkeel(&["trust", "accept", &commit, "--reason", "meant", "--yes", "--format", "json"]);
    let told = run.exits(0).json();
    assert_eq!(
        (&told["commit"], &told["from"], &told["changed"]),
        (&json!(commit), &json!(deployed.second), &json!(true))
    );
    assert_eq!((&told["goes"][0]["id"], &told["comes"][0]["id"]), (&json!(deployed.second), &json!(commit)));
    deployed.world.wait_sync(&commit, Outcome::Committed);
    deployed.runs(3);
    assert_eq!(interventions(&deployed.world)[0]["reason"], "meant");
    let again = accept(&deployed.world, &commit);
    assert!(again.exits(0).said().contains("already"), "{}", again.report());
}

#[test]
fn an_older_commit_can_be_gone_back_to_by_hand() {
    let deployed = Deployed::new();
    let world = &deployed.world;
    world.repository.git(&["reset", "-q", "--hard", &deployed.first]);
    world.repository.force_push();
    assert!(world.once().exits(4).said().contains("E-ROLLBACK"));
    let said = accept(world, &deployed.first).exits(0).said();
    assert!(said.contains("1 commit goes away, 0 commits come"), "{said}");
    world.once().exits(0);
    deployed.runs(1);
}

#[test]
fn a_lost_state_waits_for_a_person_and_then_goes_on() {
    let deployed = Deployed::new();
    let world = &deployed.world;
    fs::remove_dir_all(world.server().join("state")).unwrap();
    assert!(world.once().exits(4).said().contains("E-STATE"));
    deployed.runs(2);
    let said = accept(world, &deployed.second).exits(0).said();
    assert!(said.contains("nothing is known to be accepted"), "{said}");
    world.once().exits(0);
    assert_eq!(world.status().source.accepted.as_deref(), Some(deployed.second.as_str()));
    deployed.runs(2);
}

#[test]
fn accepting_makes_no_signature_good() {
    let deployed = Deployed::new();
    let world = &deployed.world;
    let refused = |commit: &str, rule: &str| {
        world.repository.force_push();
        world.once().exits(4);
        let run = accept(world, commit);
        assert!(run.exits(4).said().contains(rule), "{}", run.report());
        assert_eq!(world.status().source.accepted.as_deref(), Some(deployed.second.as_str()));
        assert_eq!(interventions(world), json!([]));
    };
    world.repository.git(&["reset", "-q", "--hard", &deployed.first]);
    let hidden = world.change("Unsigned").file("a.md", "a\n").unsigned().commit();
    refused(&hidden, "E-UNSIGNED");
    let above = world.change("Signed above it").file("b.md", "b\n").commit();
    refused(&above, "E-UNSIGNED");
    world.repository.git(&["reset", "-q", "--hard", &deployed.first]);
    let mallory = Key::make(&world.folder().join("keys"), "mallory");
    let foreign = world.change("By another").file("a.md", "a\n").signed_by(&mallory).commit();
    refused(&foreign, "E-UNKNOWN-KEY");
    // An older commit, by a key that is revoked by now.
    world.repository.git(&["reset", "-q", "--hard", &deployed.first]);
    let revoked = world.config.put("revoked", &format!("{}\n", world.repository.key.public()));
    let mut config = world.config.clone();
    let signers = world.server().join("allowed_signers");
    config.set("trust", &format!("{{ allowed_signers: {}, revoked: {} }}", signers.display(), revoked.display()));
    config.write();
    let run = accept(world, &deployed.first);
    assert!(run.exits(4).said().contains("E-REVOKED"), "{}", run.report());
    let absent = accept(world, &"ab".repeat(20));
    assert!(absent.exits(2).said().contains("has no commit"), "{}", absent.report());
    deployed.runs(2);
}

/// A command that somebody without any right runs.
fn as_nobody(args: &[&str]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(args);
    command
}

#[test]
fn only_root_accepts_with_a_running_agent_or_without() {
    if !rustix::process::geteuid().is_root() {
        return skip("only_root_accepts_with_a_running_agent_or_without", "another user can only be tried as root");
    }
    let mut deployed = Deployed::new();
    let around = deployed.world.folder().parent().expect("it is in the folder of temporary files").to_owned();
    let may_use = |path: &Path| as_nobody(&["test", "-x"]).arg(path).status().is_ok_and(|status| status.success());
    if !may_use(&around) || !may_use(&program::evenkeel()) {
        return skip(
            "only_root_accepts_with_a_running_agent_or_without",
            "another user may not enter the folder of the program or of temporary files",
        );
    }
    let commit = deployed.rewrite();
    deployed.world.once().exits(4);
    let open = |world: &World| {
        // Everybody may open everything: only who asks decides.
        Run::of(Command::new("chmod").args(["-R", "a+rwX"]).arg(world.folder())).exits(0);
        Run::of(Command::new("chmod").arg("0644").arg(world.config.file()).arg(world.server().join("allowed_signers")))
            .exits(0);
    };
    let ask = |world: &World| {
        let mut command = as_nobody(&[]);
        command.arg(program::evenkeel());
        command.args(["trust", "accept", &commit, "--reason", "x", "--yes", "--config"]).arg(world.config.file());
        Run::of(&mut command)
    };
    open(&deployed.world);
    let run = ask(&deployed.world);
    assert!(run.exits(2).said().contains("run it as root"), "{}", run.report());

    // The agent asks the kernel who speaks, whatever the command line found to be in order.
    deployed.world.start_and_wait();
    open(&deployed.world);
    Run::of(Command::new("chown").arg("65534").arg(deployed.world.server().join("state"))).exits(0);
    let run = ask(&deployed.world);
    assert!(run.exits(2).said().contains("the agent refuses this: only root may"), "{}", run.report());
    assert_eq!(deployed.world.status().source.accepted.as_deref(), Some(deployed.second.as_str()));
    assert_eq!(interventions(&deployed.world), json!([]));
}

#[test]
fn status_tells_who_may_sign_and_what_to_look_after() {
    let mut deployed = Deployed::new();
    let world = &mut deployed.world;
    let keys = world.folder().join("keys");
    let (bob, eve) = (Key::make(&keys, "bob"), Key::make(&keys, "eve"));
    let soon = Run::of(Command::new("date").args(["-u", "-d", "+20 days", "+%Y%m%dZ"])).ok();
    let expiring = bob.allowed().replace("namespaces=", &format!("valid-before=\"{soon}\",namespaces="));
    world.config.put("allowed_signers", &(world.repository.key.allowed() + &expiring + &eve.allowed()));
    let revoked = world.config.put("revoked", &format!("{}\n", eve.public()));
    let signers = world.server().join("allowed_signers");
    world.config.set("trust", &format!("{{ allowed_signers: {}, revoked: {} }}", signers.display(), revoked.display()));
    world.config.write();
    let told = world.evenkeel(&["trust", "status", "--format", "json"]).exits(0).json();
    let states: Vec<&str> = told["signers"].as_array().unwrap().iter().map(|s| s["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["counts", "expires soon", "revoked"]);
    assert_eq!(
        (&told["mode"], &told["accepted"], &told["refused"]),
        (&json!("server"), &json!(deployed.second), &Value::Null)
    );
    assert_eq!(told["signers"][0]["last"]["commit"], json!(deployed.second));
    assert_eq!((&told["signers"][1]["last"], &told["revoked"]), (&Value::Null, &json!([eve.fingerprint()])));

    world.change("Unsigned").file("a.md", "a\n").unsigned().push();
    world.once().exits(4);
    let text = world.evenkeel(&["trust", "status"]).exits(0).stdout.clone();
    for word in ["REFUSED", "E-UNSIGNED", "alice@example.org", "expires 20", "revoked", "begins at  the first commit"] {
        assert!(text.contains(word), "it should say {word:?}:\n{text}");
    }
}

/// Says that a test cannot run on this machine.
fn skip(name: &str, why: &str) {
    use std::io::Write as _;
    if let Some(file) = std::env::var_os("EVENKEEL_SKIPS") {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        writeln!(file, "{name}: {why}").unwrap();
    }
}
