//! What the demo plays with: a repository made from `examples/quickstart`, a server with one agent, and three receivers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    agent::{self, Agent, MARK},
    config::Config,
    docker::{self, Container},
    http,
    keys::Key,
    operator::Operator,
    port, program,
    receivers::{discord::Discord, ntfy::Ntfy, webhook::Webhook},
    repository::{Change, Repository},
    said::Sync,
};
use rustix::process::{Signal, kill_process};

use crate::narrator::{Narrator, output};

/// The Compose projects of the example, as its files name them.
const PROJECTS: [&str; 2] = ["quickstart-api", "quickstart-web"];
/// The tags that an agent keeps for the example's stacks.
const KEPT: [&str; 2] = ["evenkeel-keep/api:", "evenkeel-keep/web:"];
/// In the environment of everything that the demo starts; `tests/demo.sh` sets it.
const MARKED: &str = "demo";
/// The topic that a phone would be subscribed to.
pub const TOPIC: &str = "my-server";

/// Everything on stage.
pub struct Stage {
    pub narrator: Narrator,
    pub repository: Repository,
    pub operator: Operator,
    pub ntfy: Ntfy,
    pub discord: Discord,
    pub webhook: Webhook,
    pub port: u16,
    config: Config,
    folder: PathBuf,
    agent: Option<Agent>,
    heard: usize,
}

/// Whether a demo can be given here: nothing of another one, or of someone else's with the same names.
pub fn is_free(folder: &Path) -> Result<(), String> {
    if std::env::var(MARK).as_deref() != Ok(MARKED) {
        return Err("run it by `make demo`, or by tests/demo.sh".to_owned());
    }
    if folder.exists() {
        return Err(format!(
            "{} is there: another demo runs, or was left. Remove it with: tests/demo.sh clean",
            folder.display()
        ));
    }
    docker::must_answer();
    let projects = docker::docker(&["ps", "--all", "--format", "{{.Label \"com.docker.compose.project\"}}"]);
    let images = docker::docker(&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"]);
    let project = projects.lines().find(|p| PROJECTS.contains(p));
    let image = images.lines().find(|i| KEPT.iter().any(|k| i.starts_with(k)));
    match (project, image) {
        (Some(name), _) => {
            Err(format!("the engine has a Compose project {name} already, and the demo must not touch it"))
        }
        (_, Some(tag)) => Err(format!(
            "the engine has the tag {tag}: an agent of this machine keeps it, and the demo must not touch it"
        )),
        _ => Ok(()),
    }
}

/// Ends every process of the demo but this one, and removes its containers, networks, volumes, tags and files.
pub fn remove_all(folder: &Path) {
    for (pid, _) in agent::processes_of(MARKED, folder) {
        if pid != rustix::process::getpid() && !runs_this_program(pid) {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    docker::sweep(&[PROJECTS.as_slice(), KEPT.as_slice()].concat());
    if let Err(e) = fs::remove_dir_all(folder)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        complain!("demo: cannot remove {}: {e}", folder.display());
    }
}

/// Another `demo`: it ends by itself.
fn runs_this_program(pid: rustix::process::Pid) -> bool {
    let link = fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).unwrap_or_default();
    link.file_name().is_some_and(|n| n == "demo")
}

impl Stage {
    /// Sets the stage and says what stands on it.
    pub fn set(folder: &Path, narrator: Narrator) -> Self {
        narrator.title(
            "Evenkeel: signed GitOps for servers that run Docker Compose",
            "A server is set up in a folder of its own, with a real Docker engine, a real Git repository, a real SSH key \
             and a real ntfy server. Then you watch six pushes.",
        );
        let key = Key::make(&folder.join("keys"), "alice");
        let repository = Repository::make(folder, key);
        let ntfy = Ntfy::start(folder);
        let discord = Discord::start();
        let webhook = Webhook::start("the-key-of-the-webhook");
        let port = port::free();
        let config = configure(folder, &repository, (&ntfy, &discord, &webhook), port);
        let operator = Operator::new(&config, MARKED);
        let folder = folder.to_path_buf();
        let stage = Self {
            narrator,
            repository,
            operator,
            ntfy,
            discord,
            webhook,
            port,
            config,
            folder,
            agent: None,
            heard: 0,
        };
        stage.introduce();
        stage
    }

    fn introduce(&self) {
        let versions = docker::docker(&["version", "--format", "Docker {{.Server.Version}}"]);
        let compose = docker::docker(&["compose", "version", "--short"]);
        let say = |what: &str, where_: &str| output(&format!("{what:<12}{where_}"));
        say("engine", &format!("{versions}, Compose {compose}"));
        say("repository", &self.repository.bare.display().to_string());
        say("your clone", &self.repository.work.display().to_string());
        say("your key", &self.repository.key.fingerprint());
        say("agent.yml", &self.config.file().display().to_string());
        say("ntfy", &self.ntfy.url(TOPIC));
        say("Discord", "a receiver that enforces Discord's documented limits");
        say("webhook", "a receiver that checks signatures");
    }

    // ------------------------------------------------------------ the agent

    /// Starts the agent.
    pub fn start_agent(&mut self) {
        self.narrator.command("evenkeel agent &");
        let mut command = self.operator.command(&["agent", "--config"]);
        command.arg(self.config.file());
        self.agent = Some(Agent::start(&mut command, &self.log()));
    }

    /// Kills the agent with SIGKILL.
    pub fn kill_agent(&mut self) {
        let agent = self.agent.take().expect("the agent was started by the first step");
        self.narrator.command(&format!("kill -9 {}", agent.pid()));
        agent.kill();
    }

    fn log(&self) -> PathBuf {
        self.folder.join("agent.log")
    }

    /// Lets pass what the agent has said so far.
    pub fn skip_ahead(&mut self) {
        self.heard = fs::read_to_string(self.log()).unwrap_or_default().len();
    }

    /// Shows what the agent has said since this was last called.
    pub fn let_agent_speak(&mut self) {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        for line in log.get(self.heard..).unwrap_or_default().lines() {
            // Without the time, which a person at the terminal knows, without the level unless it is a warning, and
            // without the event's name, which the words before it tell already.
            let line = line.split_once("Z ").map_or(line, |(_, rest)| rest.trim_start());
            let line = line.split_once(" event=").map_or(line, |(words, _)| words);
            self.narrator.heard("agent", line.strip_prefix("INFO ").unwrap_or(line));
        }
        self.heard = log.len();
        tell!();
    }

    // ------------------------------------------------------------ the person

    /// A signed push, shown with what it changes.
    pub fn push<'a>(&'a self, subject: &str, change: impl FnOnce(Change<'a>) -> Change<'a>) -> String {
        let change = change(self.repository.change(subject));
        self.show_diff();
        self.narrator.command(&format!("git commit -a -S -m '{subject}'"));
        self.narrator.command("git push");
        change.push()
    }

    /// Shows what the work tree changes.
    pub fn show_diff(&self) {
        self.narrator.command("git diff -U0");
        let diff = self.repository.git(&["diff", "-U0", "--no-color"]);
        let lines: Vec<&str> = diff.lines().filter(|l| !l.starts_with("--- ")).collect();
        self.narrator.diff(&lines.join("\n"));
    }

    /// Runs a verb, shows the command and what it printed.
    pub fn ask(&self, verb: &str) {
        self.narrator.command(&format!("evenkeel {verb}"));
        let run = self.operator.evenkeel(&[verb]).exits(0).stdout.clone();
        output(&run);
    }

    /// Waits until a sync of `commit` ended so.
    pub fn wait(&mut self, commit: &str, outcome: Outcome) -> Sync {
        let started = Instant::now();
        let sync = self.operator.wait_sync(commit, outcome);
        self.let_agent_speak();
        self.narrator.checked(&format!(
            "{} {} after {:.1} s",
            &commit[..12],
            words(outcome),
            started.elapsed().as_secs_f32()
        ));
        sync
    }

    // ------------------------------------------------------------ what runs

    /// Checks that the page says `text`.
    #[track_caller]
    pub fn page_says(&self, text: &str) {
        let url = format!("http://127.0.0.1:{}/", self.port);
        let page = http::text(&url);
        let says = page.as_ref().is_ok_and(|page| page.contains(text));
        assert!(says, "{url} should say {text:?}, and: {page:?}");
        self.narrator.checked(&format!("{url} says: {text}"));
    }

    /// Checks that a live file is as it was at `commit`.
    #[track_caller]
    pub fn live_is_at(&self, commit: &str, path: &str) {
        let live = fs::read_to_string(self.config.folder.join("live").join(path)).unwrap_or_default();
        let then = self.repository.git(&["show", &format!("{commit}:{path}")]);
        assert_eq!(live.trim_end(), then, "the live {path} is not that of {commit}");
    }

    /// Says how to go on with a demo that was kept.
    pub fn tell_how_to_play(&self) {
        self.narrator.title("It is yours to play with", "The agent and the receivers go on running.");
        let (work, config) = (self.repository.work.display(), self.config.file().display().to_string());
        let evenkeel = program::evenkeel().display().to_string();
        output(&format!(
            "cd {work}\n$EDITOR stacks/web/site/index.html\ngit commit -a -S -m 'My change' && git push\n\n\
             The page:   http://127.0.0.1:{}/\nYour phone: curl -s '{}/json?poll=1'\n\
             Ask:        {evenkeel} status --config {config}\nIts log:    {}\nClean up:   tests/demo.sh clean",
            self.port,
            self.ntfy.url(TOPIC),
            self.log().display(),
        ));
    }
}

/// The one container of a service, which must be healthy.
#[track_caller]
pub fn healthy(stack: &str, service: &str) -> Container {
    let mut found = Container::of_service(&format!("quickstart-{stack}"), service);
    let shown: Vec<String> = found.iter().map(Container::shown).collect();
    assert!(
        found.len() == 1 && found[0].health() == "healthy",
        "{stack}/{service} should be one healthy container: {shown:?}"
    );
    found.remove(0)
}

/// The containers of the example, by id.
pub fn containers() -> Vec<(String, String)> {
    PROJECTS.iter().flat_map(|p| Container::of_project(p)).map(|c| (c.name(), c.id())).collect()
}

fn configure(folder: &Path, repository: &Repository, to: (&Ntfy, &Discord, &Webhook), port: u16) -> Config {
    let (ntfy, discord, webhook) = to;
    let mut config = Config::new(&folder.join("server"), &repository.url());
    config.put("allowed_signers", &repository.key.allowed());
    config.put("env/_server.env", &format!("EVENKEEL_IMAGE=evenkeel-test/busybox:1\nWEB_PORT={port}\n"));
    let url = config.put("discord-url", &discord.url());
    let secret = config.put("webhook-secret", "the-key-of-the-webhook");
    config.source(&repository.url(), "1s");
    config.set("gate", "{ min_healthy_time: 2s, healthy_deadline: 30s, progress_deadline: 2m }");
    config.set("log", "{ format: text, level: info }");
    let reports = format!(
        "\n  - ntfy: {{ url: {} }}\n  - discord: {{ url_file: {} }}\n  - webhook: {{ url: {}, secret_file: {} }}",
        ntfy.url(TOPIC),
        url.display(),
        webhook.url(),
        secret.display()
    );
    config.set("reports", &reports);
    config.write();
    config
}

/// Copies a folder into a repository's clone.
pub fn copy_example(name: &str, to: &Path) {
    let from = program::root().join("examples").join(name);
    program::Run::of(Command::new("cp").arg("-r").arg(from.join(".")).arg(to)).exits(0);
}

fn words(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Committed => "is deployed",
        Outcome::RolledBack => "was rolled back",
        Outcome::Refused => "was refused",
        other => other.as_str(),
    }
}
