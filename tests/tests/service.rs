//! The agent as a service: what it tells systemd, what systemd gives it, and what a person sees of its work.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    net::TcpListener,
    os::unix::net::UnixDatagram,
    process::{self, Command},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    agent::Agent,
    fixture, http, port,
    program::Run,
    receivers::webhook::github_signature,
    wait::{PATIENCE, seconds, wait_until},
    world::World,
};
use serde_json::json;

/// What is said on the socket on which systemd listens to a unit (sd_notify(3)), with the time.
type Said = Arc<Mutex<Vec<(Instant, String)>>>;

/// systemd's end of a unit.
struct Systemd {
    said: Said,
}

impl Systemd {
    /// Starts the agent as systemd would, with a watchdog of 3 s.
    fn start(world: &World) -> (Self, Agent) {
        world.config.write();
        let path = world.folder().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let said = Said::default();
        let listener = Arc::clone(&said);
        // Ends with the process: nobody can hang up on a datagram socket.
        std::thread::spawn(move || {
            let mut datagram = [0; 4096];
            while let Ok(length) = socket.recv(&mut datagram) {
                let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
                listener.lock().unwrap().push((Instant::now(), text));
            }
        });
        let mut command = world.command(&["agent", "--config"]);
        command.arg(world.config.file()).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "3000000");
        let agent = Agent::start(&mut command, &world.log());
        (Self { said }, agent)
    }

    /// Everything that was said so far, line by line.
    fn lines(&self) -> Vec<String> {
        self.said.lock().unwrap().iter().flat_map(|(_, text)| text.lines().map(str::to_owned)).collect()
    }

    #[track_caller]
    fn wait_for(&self, what: &str) {
        wait_until(PATIENCE, &format!("systemd is told {what:?}"), || {
            let said = self.lines();
            if said.iter().any(|line| line.contains(what)) { Ok(()) } else { Err(format!("{said:#?}")) }
        });
    }

    /// The longest pause between two signs of life.
    fn longest_silence(&self) -> Duration {
        let signs: Vec<Instant> =
            self.said.lock().unwrap().iter().filter(|(_, t)| t.contains("WATCHDOG=1")).map(|(at, _)| *at).collect();
        signs.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
    }
}

#[test]
fn systemd_is_told_what_is_done_that_it_is_alive_and_when_it_stops() {
    let world = World::new();
    let commit = world.change("Slow").file(&world.path("app", "compose.yml"), fixture::slow(1, 8)).push();
    let (systemd, agent) = Systemd::start(&world);
    systemd.wait_for("READY=1");
    systemd.wait_for(&format!("STATUS=syncing {}: gating {}, waiting for ", &commit[..12], world.stack("app")));
    world.wait_sync(&commit, Outcome::Committed);
    systemd.wait_for("STATUS=idle since 20");
    assert!(systemd.longest_silence() < seconds(3), "a gate of 8 s is no reason to be silent: {:#?}", systemd.lines());
    let (code, _) = agent.terminate(seconds(10));
    assert_eq!(code, Some(0));
    systemd.wait_for("STOPPING=1");
}

#[test]
fn ends_at_once_while_a_repository_does_not_answer() {
    let mut world = World::new();
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    world.config.source(&format!("http://{}/repo.git", deaf.local_addr().unwrap()), "1h");
    world.start_and_wait();
    let _asked = deaf.accept().unwrap();
    let (code, took) = world.take_agent().terminate(seconds(10));
    assert_eq!(code, Some(0));
    assert!(took < seconds(5), "{took:?}");
    assert_eq!(world.processes(), Vec::<String>::new());
}

#[test]
fn an_agent_that_stands_still_gives_no_sign_of_life() {
    let world = World::new();
    world.change("Begin").file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    let (systemd, agent) = Systemd::start(&world);
    systemd.wait_for("WATCHDOG=1");
    let pid = rustix::process::Pid::from_raw(agent.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let before = systemd.lines();
    std::thread::sleep(seconds(3));
    assert_eq!(systemd.lines(), before, "the signs come from the agent's own work");
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
    wait_until(seconds(10), "it gives signs again", || {
        if systemd.lines().len() > before.len() { Ok(()) } else { Err("silence".to_owned()) }
    });
}

#[test]
fn secrets_may_be_systemds_credentials() {
    let mut world = World::new();
    let secret = "a secret that only the unit has";
    world.config.put("credentials/hook", &format!("{secret}\n"));
    let address = format!("127.0.0.1:{}", port::free());
    world.config.set("listen", &format!("{{ hooks: '{address}', hook_secret_file: 'credential:hook' }}"));
    let without = world.once();
    without.exits(2);
    assert!(without.said().contains("LoadCredential=hook:"), "{}", without.report());
    let first = world.change("Begin").file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    let mut command = world.command(&["agent", "--config"]);
    command.arg(world.config.file()).env("CREDENTIALS_DIRECTORY", world.server().join("credentials"));
    let _agent = Agent::start(&mut command, &world.log());
    wait_until(PATIENCE, "the agent answers a person who has no credentials", || {
        let run = world.evenkeel(&["status"]);
        if run.code == Some(0) && run.stdout.contains(&first[..12]) { Ok(()) } else { Err(run.report()) }
    });
    let body = json!({ "ref": "refs/heads/main" }).to_string();
    let signature = github_signature(secret.as_bytes(), body.as_bytes());
    let headers = [("X-GitHub-Event", "push"), ("X-GitHub-Delivery", "d"), ("X-Hub-Signature-256", signature.as_str())];
    let answer = http::request("POST", &format!("http://{address}/hooks/github"), &headers, body.as_bytes()).unwrap();
    assert_eq!(answer.status, 202);
}

/// Runs `evenkeel` on a terminal of its own, made by script(1).
fn on_a_terminal(world: &World, verb: &str) -> Command {
    let line = format!(
        "stty cols 60; {} {verb} --config {}",
        evenkeel_tests::program::evenkeel().display(),
        world.config.file().display()
    );
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("TERM", "xterm").env_remove("NO_COLOR");
    command
}

#[test]
fn a_person_sees_what_is_going_on_and_a_program_only_the_end() {
    let mut world = World::new();
    let first = world.change("Begin").file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    world.start_and_wait();
    world.wait_sync(&first, Outcome::Committed);
    world.change("Slow").file(&world.path("app", "compose.yml"), fixture::slow(2, 4)).push();
    let seen = Run::of(&mut on_a_terminal(&world, "sync"));
    let gating = format!("gating {}", world.stack("app"));
    assert!(seen.exits(0).stdout.contains(&gating), "{}", seen.report());
    assert!(seen.stdout.contains("\x1b[32mdeployed\x1b[0m"), "states have colours on a terminal: {}", seen.report());
    for drawn in seen.stdout.split("\r\x1b[K") {
        let line = drawn.lines().next().unwrap_or_default();
        assert!(!line.starts_with("syncing") || line.chars().count() < 60, "it must not wrap: {line:?}");
    }
    let commit = world.change("Slower").file(&world.path("app", "compose.yml"), fixture::slow(1, 5)).push();
    let asked = sync_in_the_background(&world).spawn().unwrap();
    wait_until(PATIENCE, "status tells of the gate", || {
        let status = world.evenkeel(&["status", "--format", "json"]).json();
        let at = &status["activity"]["stacks"][0];
        let gates = at["phase"] == "gate" && at["detail"].as_str().is_some_and(|d| d.starts_with("waiting for"));
        if gates && status["activity"]["commit"] == commit { Ok(()) } else { Err(format!("{status:#}")) }
    });
    let output = asked.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains('\x1b') && !said.contains("gating"), "{said}");
    assert_eq!(world.evenkeel(&["status", "--format", "json"]).json().get("activity"), None, "nothing is going on now");
    let table = Run::of(on_a_terminal(&world, "status").env("NO_COLOR", "1"));
    assert!(!table.exits(0).stdout.contains("\x1b["), "NO_COLOR is respected: {}", table.report());
    assert!(table.stdout.lines().skip(2).all(|l| l.trim_end().chars().count() <= 60), "{}", table.report());
}

fn sync_in_the_background(world: &World) -> Command {
    let mut command = world.command(&["sync", "--config"]);
    command.arg(world.config.file()).stdout(process::Stdio::piped()).stderr(process::Stdio::piped());
    command
}
