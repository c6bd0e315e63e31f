//! The agent as a container, which works on the engine that runs it.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{fs, process::Command};

use evenkeel_tests::{
    docker, fixture, http, port,
    program::{self, Run},
    receivers::git_http::GitHttp,
    wait::{PATIENCE, wait_until},
    world::{World, page_at},
};

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
        let status: serde_json::Value = serde_json::from_str(&run.stdout).map_err(|_| run.report())?;
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
    let config = world.config.file();
    let ask = |verb: &[&str]| {
        let config = config.to_str().unwrap();
        contained
            .compose(&[&["exec", "-T", "agent", "evenkeel"], verb, &["--format", "json", "--config", config]].concat())
    };
    let status = wait_until(PATIENCE, "the other stack is deployed", || {
        let run = ask(&["status"]);
        let status: serde_json::Value = serde_json::from_str(&run.stdout).map_err(|_| run.report())?;
        let stacks = status["stacks"].as_array().cloned().unwrap_or_default();
        let done =
            stacks.iter().any(|s| s["name"] == world.stack("app") && s["commit"] == commit && s["state"] == "steady");
        if done { Ok(stacks) } else { Err(run.report()) }
    });
    let held = status.iter().find(|s| s["name"] == own_stack).unwrap();
    assert_eq!((&held["state"], &held["last"]["reason"]["code"]), (&"held".into(), &"held.own".into()), "{held:#}");
    let message = held["last"]["reason"]["message"].as_str().unwrap();
    assert!(message.contains("it leaves this stack alone") && message.contains(&before.name()), "{message}");
    let explained = ask(&["explain", &own_stack]).json();
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
    wait_until(PATIENCE, "the new agent goes on", || {
        let run = ask(&["status"]);
        let status: serde_json::Value = serde_json::from_str(&run.stdout).map_err(|_| run.report())?;
        let stacks = status["stacks"].as_array().cloned().unwrap_or_default();
        let done =
            stacks.iter().any(|s| s["name"] == world.stack("app") && s["commit"] == next && s["state"] == "steady");
        if done { Ok(()) } else { Err(run.report()) }
    });
    contained.compose(&["stop"]).exits(0);
}
