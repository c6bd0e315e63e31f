//! The agent as a container, which works on the engine that runs it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{fs, process::Command};

use evenkeel_tests::{
    docker, fixture, http,
    journal::Journal,
    port,
    program::{self, Run},
    receivers::{git_http::GitHttp, webhook::Webhook},
    wait::{PATIENCE, wait_until},
    world::{World, page_at},
};
use serde_json::Value;

/// A world whose agent's image is made, with a repository on a web server that the container reaches.
struct Contained {
    world: World,
    image: String,
    _git: GitHttp,
}

impl Contained {
    fn new() -> Self {
        let mut world = World::new();
        let repository = world.repository.bare.clone();
        let git = GitHttp::start(repository.parent().unwrap().to_owned());
        let url = git.url(repository.file_name().unwrap().to_str().unwrap());
        world.config.source(&url, "300ms");
        let at = world.server().display().to_string();
        // The configuration's folder cannot be written in the container.
        let paths = format!("{{ state: {at}/state, live: {at}/live, env: {at}/env, socket: {at}/state/agent.sock }}");
        world.config.set("paths", &paths);
        world.config.write();
        let image = format!("{}-agent:1", world.prefix());
        let script = program::root().join("docker/image.sh");
        Run::of(Command::new(script).arg("--for-tests").arg(program::evenkeel()).arg(&image)).exits(0);
        Self { world, image, _git: git }
    }

    fn socket() -> String {
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        host.trim_start_matches("unix://").to_owned()
    }

    /// `docker compose` on the project's own docker/compose.yml, with this world's folders.
    fn compose(&self, args: &[&str]) -> Run {
        let at = |folder: &str| self.world.server().join(folder);
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", &format!("{}-agent", self.world.prefix()), "--file"]);
        command.arg(program::root().join("docker/compose.yml")).args(args);
        command.env("EVENKEEL_IMAGE", &self.image).env("EVENKEEL_DOCKER_SOCKET", Self::socket());
        command.env("EVENKEEL_ETC", self.world.server());
        for (name, folder) in [("STATE", "state"), ("LIVE", "live"), ("VOLUMES", "volumes"), ("BACKUPS", "backups")] {
            command.env(format!("EVENKEEL_{name}"), at(folder));
        }
        Run::of(&mut command)
    }

    /// A verb of the agent in the container.
    fn ask(&self, verb: &[&str]) -> Run {
        let config = self.world.config.file();
        let config = ["--format", "json", "--config", config.to_str().unwrap()];
        self.compose(&[&["exec", "-T", "agent", "evenkeel"], verb, &config].concat())
    }

    /// Waits until a stack is steady at a commit. Gives all stacks.
    fn wait_steady(&self, stack: &str, commit: &str) -> Vec<Value> {
        wait_until(PATIENCE, &format!("{stack} is steady at {commit}"), || {
            let run = self.ask(&["status"]);
            let status: Value = serde_json::from_str(&run.stdout).map_err(|_| run.report())?;
            let stacks = status["stacks"].as_array().cloned().unwrap_or_default();
            let done = stacks.iter().any(|s| s["name"] == stack && s["commit"] == commit && s["state"] == "steady");
            if done { Ok(stacks) } else { Err(format!("{}\n{}", run.report(), self.logs())) }
        })
    }

    /// The agent's own container, or nothing.
    fn own(&self) -> Option<docker::Container> {
        docker::Container::of_service(&format!("{}-agent", self.world.prefix()), "agent").pop()
    }

    fn logs(&self) -> String {
        self.compose(&["logs", "--no-color"]).said()
    }
}

#[test]
fn an_agent_in_a_container_deploys_on_the_engine_outside() {
    let contained = Contained::new();
    let world = &contained.world;
    let port = port::free();
    let change = world.change("Serve a page").file(&world.path("web", "compose.yml"), fixture::web(1, port));
    let commit = change.file(&world.path("web", "index.html"), "from a container\n").push();
    contained.compose(&["up", "--detach"]).exits(0);
    wait_until(PATIENCE, "the page is served", || match http::text(&page_at(port)) {
        Ok(page) if page == "from a container" => Ok(()),
        other => Err(format!("{other:?}\n{}", contained.logs())),
    });
    let live = fs::read_to_string(world.live(&world.path("web", "index.html"))).unwrap();
    assert_eq!(live, "from a container\n", "the live tree is the host's");
    let config = world.config.file();
    wait_until(PATIENCE, "the deployment is committed", || {
        let asked =
            ["exec", "-T", "agent", "evenkeel", "status", "--format", "json", "--config", config.to_str().unwrap()];
        let run = contained.compose(&asked);
        let status: Value = serde_json::from_str(&run.stdout).map_err(|_| run.report())?;
        let done = status["stacks"][0]["commit"] == commit && status["stacks"][0]["state"] == "steady";
        if done { Ok(()) } else { Err(run.report()) }
    });
    let next = world.change("Another page").file(&world.path("web", "index.html"), "changed\n");
    next.push();
    wait_until(PATIENCE, "the next page is served", || match http::text(&page_at(port)) {
        Ok(page) if page == "changed" => Ok(()),
        other => Err(format!("{other:?}\n{}", contained.logs())),
    });
    contained.compose(&["stop"]).exits(0);
    let agent = docker::Container::of_project(&format!("{}-agent", world.prefix()));
    assert_eq!(agent[0].0["State"]["ExitCode"], 0, "{}", contained.logs());
    assert_eq!(world.container("web", "app").state(), "running", "its stacks do not stop with it");
}

#[test]
fn an_agent_in_a_container_refuses_folders_that_are_not_the_hosts() {
    let contained = Contained::new();
    let world = &contained.world;
    world.change("Begin").file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    let at = world.server().display().to_string();
    let name = format!("{}-misplaced", world.prefix());
    let config = world.config.file();
    let socket = Contained::socket();
    let run = docker::run(&[
        "run",
        "--rm",
        "--name",
        &name,
        "--network",
        "host",
        "--volume",
        &format!("{socket}:{socket}"),
        "--volume",
        &format!("{at}/agent.yml:{at}/agent.yml:ro"),
        "--volume",
        &format!("{at}/allowed_signers:{at}/allowed_signers:ro"),
        "--volume",
        &format!("{at}/elsewhere:{at}/live"),
        &contained.image,
        "agent",
        "--config",
        config.to_str().unwrap(),
    ]);
    run.exits(2);
    let said = run.said();
    assert!(said.contains(&format!("paths.live {at}/live is {at}/elsewhere on the host")), "{said}");
    assert!(said.contains(&format!("paths.state {at}/state is inside the container")), "{said}");
    assert!(said.contains("at the same path inside as outside"), "{said}");
    assert!(world.containers("app").is_empty(), "nothing was deployed");
}

#[test]
fn an_agent_that_finds_itself_among_its_stacks_leaves_itself_alone_and_says_how_to_update_it() {
    let contained = Contained::new();
    let world = &contained.world;
    // As a person would: the Compose file that the agent was started from goes into the repository, too.
    let own = contained.compose(&["config"]).ok();
    let own_stack = format!("{}-agent", world.prefix());
    let change = world.change("The agent, and another").file(&format!("stacks/{own_stack}/compose.yml"), &own);
    let commit = change.file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    contained.compose(&["up", "--detach"]).exits(0);
    let agent = || docker::Container::of_project(&own_stack).remove(0);
    let before = agent();
    let status = contained.wait_steady(&world.stack("app"), &commit);
    let held = status.iter().find(|s| s["name"] == own_stack).unwrap();
    assert_eq!((&held["state"], &held["last"]["reason"]["code"]), (&"held".into(), &"held.own".into()), "{held:#}");
    let message = held["last"]["reason"]["message"].as_str().unwrap();
    assert!(message.contains("it leaves this stack alone") && message.contains(&before.name()), "{message}");
    let explained = contained.ask(&["explain", &own_stack]).json();
    let command = explained["stacks"][0]["can"][0]["command"].as_str().unwrap().to_owned();
    assert_eq!((agent().id(), agent().started()), (before.id(), before.started()), "it was not touched");
    // What it says is what a person does.
    let words: Vec<&str> = command.split(' ').collect();
    let file = words[words.iter().position(|w| *w == "--file").unwrap() + 1];
    assert_eq!(fs::canonicalize(file).unwrap(), fs::canonicalize(program::root().join("docker/compose.yml")).unwrap());
    let next = format!("{}-agent:2", world.prefix());
    docker::docker(&["tag", &contained.image, &next]);
    let updated = own.replace(&contained.image, &next);
    let copy = world.folder().join("compose.yml");
    fs::write(&copy, updated).unwrap();
    let copy = copy.to_str().unwrap();
    let words: Vec<&str> = words[1..].iter().map(|word| if *word == file { copy } else { *word }).collect();
    docker::run(&words).exits(0);
    assert_ne!(agent().id(), before.id(), "{command}");
    let next = world.change("Go on").file(&world.path("app", "compose.yml"), fixture::sleeper(2)).push();
    contained.wait_steady(&world.stack("app"), &next);
    contained.compose(&["stop"]).exits(0);
}

#[test]
fn an_agent_that_does_not_see_the_engines_files_knows_itself_all_the_same() {
    let contained = Contained::new();
    let world = &contained.world;
    let own_stack = format!("{}-agent", world.prefix());
    let change = world.change("Its own, and another").file(&world.path("agent", "compose.yml"), fixture::sleeper(1));
    let commit = change.file(&world.path("app", "compose.yml"), fixture::sleeper(1)).push();
    // What the engine mounts there is hidden by files of somebody's own.
    let mounts = ["hostname", "hosts", "resolv.conf"].map(|name| {
        let file = world.folder().join(name);
        fs::copy(format!("/etc/{name}"), &file).unwrap();
        format!("'{}:/etc/{name}:ro'", file.display())
    });
    let more = world.folder().join("more.yml");
    fs::write(&more, format!("services: {{ agent: {{ volumes: [{}] }} }}\n", mounts.join(", "))).unwrap();
    contained.compose(&["--file", more.to_str().unwrap(), "up", "--detach"]).exits(0);
    let before = contained.own().unwrap();
    let status = contained.wait_steady(&world.stack("app"), &commit);
    let held = status.iter().find(|s| s["name"] == own_stack).unwrap();
    assert_eq!((&held["state"], &held["last"]["reason"]["code"]), (&"held".into(), &"held.own".into()), "{held:#}");
    let own = contained.own().unwrap();
    assert_eq!((own.id(), own.started()), (before.id(), before.started()), "it was not touched");
    contained.compose(&["stop"]).exits(0);
}

#[test]
fn what_an_agent_elsewhere_began_of_its_stack_is_left_told_of_once_and_holds_nobody_up() {
    let mut contained = Contained::new();
    let webhook = Webhook::start("the-key");
    let world = &mut contained.world;
    let secret = world.config.put("webhook-secret", "the-key");
    world.report_to(&[format!("webhook: {{ url: {}, secret_file: {} }}", webhook.url(), secret.display())]);
    let (own_stack, file) = (world.stack("agent"), world.path("agent", "compose.yml"));
    // An agent on the host knows no reason to leave this stack alone.
    for image in [1, 3] {
        world.change("Begin").file(&file, fixture::sleeper(image)).push();
        world.once().exits(0);
    }
    let journal = Journal::open(&world.server().join("state"));
    let since = journal.last_deployment();
    let commit = world.change("Next").file(&file, fixture::slow(2, 100)).push();
    world.start_and_wait();
    journal.wait_for("applied", since, 0);
    world.take_agent().kill();
    let begun = world.container("agent", "app");
    let needs = format!("x-evenkeel: {{ depends_on: [{own_stack}] }}\n");
    let later = fixture::sleeper(1);
    let change = world.change("What needs it").file(&world.path("app", "compose.yml"), fixture::sleeper(1) + &needs);
    let last = change.file(&file, later).push();

    contained.compose(&["up", "--detach"]).exits(0);
    let world = &contained.world;
    // Its agent runs in it, so it runs: what depends on it goes on.
    let status = contained.wait_steady(&world.stack("app"), &last);
    assert_eq!(journal.outcomes(since)[0], "halted");
    let history = contained.ask(&["history"]).json();
    let syncs = history["syncs"].as_array().unwrap();
    let sync = syncs.iter().find(|sync| sync["commit"] == commit.as_str()).unwrap();
    let reason = &sync["deployments"][0]["reason"];
    assert_eq!(reason["code"], "held.own", "{sync:#}");
    assert!(reason["message"].as_str().unwrap().contains("stays as it was left"), "{reason:#}");
    let held = status.iter().find(|s| s["name"] == own_stack.as_str()).unwrap();
    assert_eq!((&held["state"], &held["last"]["reason"]["code"]), (&"held".into(), &"held.own".into()), "{held:#}");
    let explained = contained.ask(&["explain", &own_stack]).json();
    let can = explained["stacks"][0]["can"][0]["command"].as_str().unwrap_or_default().to_owned();
    assert!(can.starts_with("docker compose --project-name"), "{explained:#}");
    let now = world.container("agent", "app");
    assert_eq!((now.id(), now.started()), (begun.id(), begun.started()), "it was not touched");

    // What a person asks for would end it no less.
    for verb in ["restore", "rollback"] {
        let run = contained.ask(&[verb, &own_stack, "--reason", "a test"]);
        assert!(run.exits(1).said().contains("it leaves this stack alone"), "{}", run.report());
    }
    let now = world.container("agent", "app");
    assert_eq!((now.id(), now.started()), (begun.id(), begun.started()), "it was not touched");
    contained.compose(&["restart"]).exits(0);
    contained.wait_steady(&world.stack("app"), &last);
    let told = wait_until(PATIENCE, "the dependent is told", || {
        let taken: Vec<(String, Value)> =
            webhook.taken().iter().map(|d| (d.event.clone(), d.body["stack"].clone())).collect();
        let has = taken.contains(&("deployed".to_owned(), world.stack("app").into()));
        if has { Ok(taken) } else { Err(format!("{taken:?}")) }
    });
    let halted = told.iter().filter(|(event, stack)| event == "halted" && *stack == own_stack.as_str()).count();
    assert_eq!(halted, 1, "{told:?}");
    contained.compose(&["stop"]).exits(0);
}
