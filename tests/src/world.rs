//! A world for one test: a server, an operator's repository and keys, and an agent, all of its own.

use std::{
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::{
    agent::{self, Agent},
    config::Config,
    docker::{self, Container},
    fixture, http,
    keys::Key,
    operator::Operator,
    port,
    program::Run,
    repository::{Change, Repository},
    wait::{PATIENCE, wait_until},
};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A server, a repository and an agent. Dropping it removes all that it made, also after a failure.
#[derive(Debug)]
pub struct World {
    prefix: String,
    operator: Operator,
    /// `agent.yml`; written anew before each start.
    pub config: Config,
    /// The operator's repository.
    pub repository: Repository,
    /// The agent, while it runs in the background.
    agent: Option<Agent>,
    folder: TempDir,
}

impl World {
    /// Makes a world: a repository with no commit, a key that may sign, a configuration, no agent yet.
    #[track_caller]
    pub fn new() -> Self {
        docker::must_answer();
        let prefix = prefix();
        // Short: a Unix socket's path has at most 107 bytes.
        let folder = tempfile::Builder::new().prefix("w").tempdir().expect("the temporary folder is writable");
        let key = Key::make(&folder.path().join("keys"), "alice");
        let repository = Repository::make(folder.path(), key);
        let config = Config::new(&folder.path().join("server"), &repository.url());
        config.put("allowed_signers", &repository.key.allowed());
        let operator = Operator::new(&config, &prefix);
        Self { prefix, operator, config, repository, agent: None, folder }
    }

    /// The folder that holds everything of this world.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The server's folder: `agent.yml`, `env`, `state`, `live`, …
    pub fn server(&self) -> &Path {
        &self.config.folder
    }

    /// A file of the live tree.
    pub fn live(&self, path: &str) -> PathBuf {
        self.server().join("live").join(path)
    }

    /// The full name of a stack, its folder and its Compose project: worlds share one engine, so each has its own.
    pub fn stack(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A file in a stack's folder of the repository.
    pub fn path(&self, stack: &str, file: &str) -> String {
        format!("stacks/{}/{file}", self.stack(stack))
    }

    /// What everything on the engine that belongs to this world begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Begins a change of the repository.
    pub fn change(&self, subject: &str) -> Change<'_> {
        self.repository.change(subject)
    }

    // ------------------------------------------------------------ the program

    /// Writes `agent.yml` and runs `evenkeel agent --once`. What it says is kept for a failure's report.
    #[track_caller]
    pub fn once(&self) -> Run {
        self.config.write();
        let run = self.evenkeel(&["agent", "--once"]);
        append(&self.log(), &run.said());
        run
    }

    /// Writes `agent.yml` and starts the agent in the background.
    #[track_caller]
    pub fn start(&mut self) {
        self.config.write();
        assert!(self.agent.is_none(), "the agent of this world runs already");
        let mut command = self.command(&["agent", "--config"]);
        command.arg(self.config.file());
        self.agent = Some(Agent::start(&mut command, &self.log()));
    }

    /// Starts the agent and waits until it answers.
    #[track_caller]
    pub fn start_and_wait(&mut self) {
        self.start();
        self.wait_running();
    }

    /// Waits until the agent answers on its socket.
    #[track_caller]
    pub fn wait_running(&mut self) {
        let mut agent = self.take_agent();
        wait_until(PATIENCE, "the agent answers `evenkeel status`", || {
            if let Some(status) = agent.ended() {
                panic!("the agent ended with {status}:\n{}", agent.tail(30));
            }
            let run = self.evenkeel(&["status", "--format", "json"]);
            if run.code == Some(0) && run.json()["agent"]["running"] == true { Ok(()) } else { Err(run.report()) }
        });
        self.agent = Some(agent);
    }

    /// The running agent, to stop or to kill it.
    #[track_caller]
    pub fn take_agent(&mut self) -> Agent {
        self.agent.take().expect("the agent of this world was started")
    }

    /// Whether an agent was started that was not taken.
    pub fn is_running(&self) -> bool {
        self.agent.is_some()
    }

    /// The agent's process id.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.agent.as_ref().expect("the agent of this world was started").pid()
    }

    /// The file that holds all that the agent said.
    pub fn log(&self) -> PathBuf {
        self.folder().join("agent.log")
    }

    /// All that the agent said.
    pub fn logged(&self) -> String {
        agent::tail(&self.log(), usize::MAX)
    }

    /// Waits until the agent has said this.
    #[track_caller]
    pub fn wait_logged(&self, text: &str) {
        wait_until(PATIENCE, &format!("the agent says {text:?}"), || {
            if self.logged().contains(text) { Ok(()) } else { Err(agent::tail(&self.log(), 10)) }
        });
    }

    /// Lets the agent report to these sinks, each one item of a YAML list.
    pub fn report_to(&mut self, sinks: &[String]) {
        let items: Vec<String> = sinks.iter().map(|sink| format!("\n  - {sink}")).collect();
        self.config.set("reports", &items.concat());
    }

    /// Pushes a stack `web` that serves `page` on the returned port, and deploys it with `agent --once`.
    #[track_caller]
    pub fn serve(&self, page: &str) -> u16 {
        let port = port::free();
        self.change("Serve a page")
            .file(&self.path("web", "compose.yml"), fixture::web(1, port))
            .file(&self.path("web", "index.html"), format!("{page}\n"))
            .push();
        self.once().exits(0);
        assert_eq!(http::text(&page_at(port)), Ok(page.to_owned()));
        port
    }

    // ------------------------------------------------------------ the engine

    /// The containers of a stack.
    #[track_caller]
    pub fn containers(&self, stack: &str) -> Vec<Container> {
        Container::of_project(&self.stack(stack))
    }

    /// The one container of a service.
    #[track_caller]
    pub fn container(&self, stack: &str, service: &str) -> Container {
        let mut found = Container::of_service(&self.stack(stack), service);
        let shown: Vec<String> = self.containers(stack).iter().map(Container::shown).collect();
        assert!(found.len() == 1, "expected one container of {stack}/{service}; the stack has {shown:?}");
        found.remove(0)
    }

    /// Waits until a service has one container and it is as `good` says.
    #[track_caller]
    pub fn wait_container(
        &self,
        stack: &str,
        service: &str,
        what: &str,
        good: impl Fn(&Container) -> bool,
    ) -> Container {
        wait_until(PATIENCE, &format!("a container of {stack}/{service} {what}"), || {
            let found = Container::of_service(&self.stack(stack), service);
            let shown: Vec<String> = found.iter().map(Container::shown).collect();
            found.into_iter().find(&good).ok_or_else(|| format!("{shown:?}"))
        })
    }

    /// Everything this world started that still runs, with its command line.
    pub fn processes(&self) -> Vec<String> {
        agent::processes_of(&self.prefix, self.folder()).into_iter().map(|(_, line)| line).collect()
    }

    fn report_failure(&self) {
        eprintln!("---- the agent's log, its end:\n{}", agent::tail(&self.log(), 100));
        eprintln!("---- containers of this world:");
        let list = docker::run(&["ps", "--all", "--format", "{{.Names}}\t{{.Image}}\t{{.Status}}"]);
        for line in list.stdout.lines().filter(|l| l.contains(&self.prefix)) {
            eprintln!("{line}");
        }
        eprintln!("----");
    }
}

/// A world is where its operator sits: `world.history()`.
impl Deref for World {
    type Target = Operator;

    fn deref(&self) -> &Operator {
        &self.operator
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Operator {
        &mut self.operator
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            self.report_failure();
        }
        drop(self.agent.take());
        for (pid, _) in agent::processes_of(&self.prefix, self.folder()) {
            // It may have ended since.
            let _ = kill_process(pid, Signal::KILL);
        }
        docker::sweep(&[&self.prefix, &format!("evenkeel-keep/{}", self.prefix)]);
        if std::env::var_os("KEEP").is_some_and(|v| !v.is_empty()) {
            eprintln!("kept: {}", self.folder().display());
            self.folder.disable_cleanup(true);
        }
    }
}

/// The page of [`World::serve`].
pub fn page_at(port: u16) -> String {
    format!("http://127.0.0.1:{port}/")
}

/// No prefix begins another one: a number, then two letters.
fn prefix() -> String {
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let letter = |n: u32| char::from_digit(n % 26 + 10, 36).expect("10 to 35 are digits of base 36");
    format!("evk{}{}{}", process::id(), letter(count / 26), letter(count))
}

fn append(file: &Path, text: &str) {
    use std::io::Write as _;
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(file);
    let written = opened.and_then(|mut f| f.write_all(text.as_bytes()));
    written.unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
}
