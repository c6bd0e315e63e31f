//! A server whose stacks somebody started by hand is taken over as it runs.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    docker::{Container, docker, image_id, make_image},
    fixture, http, port,
    program::Run,
    wait::{PATIENCE, wait_until},
    world::{World, page_at},
};
use serde_json::Value;

/// Everything that a person may say of a service without a second machine, so that what is compared is compared.
const RICH: &str = "services:
  app:
    image: evenkeel-test/busybox:1
    init: true
    hostname: rich
    command: [sh, -c, 'echo $$HOME; exec sleep 100000']
    environment: { A: 'b', N: 3, DOLLAR: 'x$$y', EMPTY: '' }
    labels: { some.label: 'of mine' }
    expose: ['3000']
    ports: ['127.0.0.1::80', '127.0.0.1::81/udp']
    volumes:
      - ./conf:/conf:ro
      - data:/data
      - /anonymous
      - /etc/hostname:/host/name:ro
      - { type: tmpfs, target: /memory, tmpfs: { size: 1000000 } }
    tmpfs: ['/run:size=1m']
    healthcheck: { test: [CMD, 'true'], interval: 1s, timeout: 1m30s, retries: 2, start_period: 500ms }
    restart: unless-stopped
    mem_limit: 64m
    cpus: 0.5
    pids_limit: 50
    shm_size: 128m
    ulimits: { nofile: { soft: 100, hard: 200 }, nproc: 50 }
    extra_hosts: ['a:1.2.3.4', 'host.docker.internal:host-gateway']
    cap_add: [NET_ADMIN]
    cap_drop: [ALL]
    security_opt: ['no-new-privileges:true']
    sysctls: { net.core.somaxconn: 1024 }
    logging: { driver: json-file, options: { max-size: 10m } }
    secrets: [password]
    configs: [{ source: settings, target: /etc/settings.conf }]
    devices: ['/dev/null:/dev/also-null']
    dns: [1.1.1.1]
    group_add: ['44']
    stop_grace_period: 1s
    stop_signal: SIGINT
    stdin_open: true
    working_dir: /tmp
    networks: { default: { aliases: [rich-one] }, other: {} }
    depends_on: [side]
  side:
    image: evenkeel-test/busybox:1
    init: true
    command: sleep 100000
    user: '1000:1000'
    read_only: true
    deploy:
      replicas: 2
      resources: { limits: { cpus: '0.25', memory: 32M, pids: 40 }, reservations: { memory: 16M } }
      restart_policy: { condition: on-failure, max_attempts: 3 }
  shares:
    image: evenkeel-test/busybox:1
    init: true
    command: [sleep, '100000']
    network_mode: service:app
    ipc: shareable
  ended:
    image: evenkeel-test/busybox:1
    command: ['true']
    network_mode: none
volumes: { data: {} }
networks: { other: {} }
secrets: { password: { file: ./password.txt } }
configs: { settings: { file: ./settings.conf } }
";

/// Clones the repository to `root` and starts every stack of `names` there, as people do.
fn started_by_hand(world: &World, root: &Path, names: &[&str]) {
    let git = ["clone", "-q", &world.repository.bare.to_string_lossy(), &root.to_string_lossy()].map(str::to_owned);
    Run::of(Command::new("git").args(git)).ok();
    for name in names {
        let folder = root.join("stacks").join(world.stack(name));
        Run::of(Command::new("docker").args(["compose", "up", "-d"]).current_dir(folder)).ok();
    }
}

fn adopt(world: &World, clone: &Path, more: &[&str]) -> Run {
    world.config.write();
    let clone = clone.to_string_lossy().into_owned();
    world.evenkeel(&[&["adopt", "--repo", &clone][..], more].concat())
}

/// `service change` of a stack, as the answer has it.
fn services(answer: &Value, stack: &str) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().expect("the reference says that this is a list");
    let text = |value: &Value| value.as_str().expect("the reference says that this is text").to_owned();
    let found = list(&answer["stacks"]).into_iter().find(|s| s["name"] == stack).expect("the stack is in the answer");
    let said = |service: &Value| {
        let whys = list(&service["why"]).into_iter().map(|why| text(&why["name"]));
        [text(&service["service"]), text(&service["change"])].into_iter().chain(whys).collect::<Vec<_>>().join(" ")
    };
    list(&found["services"]).iter().map(said).collect()
}

fn ids(containers: &[Container]) -> Vec<(String, String)> {
    containers.iter().map(|c| (c.id(), c.started())).collect()
}

fn live_root(world: &World) -> PathBuf {
    world.server().join("live")
}

#[test]
fn takes_over_what_runs_already_without_making_a_container_anew() {
    let mut world = World::new();
    let port = port::free();
    world
        .change("What runs")
        .file(&world.path("web", "compose.yml"), fixture::web(1, port))
        .file(&world.path("web", "index.html"), "by hand\n")
        .file(&world.path("rich", "compose.yml"), RICH)
        .file(&world.path("rich", "conf/a.conf"), "a\n")
        .file(&world.path("rich", "password.txt"), "secret\n")
        .file(&world.path("rich", "settings.conf"), "b\n")
        .push();
    let root = live_root(&world);
    started_by_hand(&world, &root, &["web", "rich"]);
    let (web, rich) = (world.containers("web"), world.containers("rich"));
    assert_eq!((web.len(), rich.len()), (1, 5));

    let run = adopt(&world, &root, &["--exit-code", "--format", "json"]);
    let said = run.json();
    assert_eq!(services(&said, &world.stack("web")), ["app none"]);
    assert_eq!(services(&said, &world.stack("rich")), ["app none", "ended none", "shares none", "side none"]);
    run.exits(0);
    assert_eq!((&said["live"]["best"], &said["live"]["line"]), (&said["live"]["configured"], &Value::Null));
    let text = adopt(&world, &root, &[]).ok();
    assert!(text.contains("(as configured): services: 5 taken over as they run"), "{text}");

    world.config.set("observe", "true");
    world.once();
    assert_eq!(ids(&world.containers("rich")), ids(&rich), "observing changes nothing");
    world.config.unset("observe");
    world.once().exits(0);
    assert_eq!(ids(&world.containers("web")), ids(&web));
    assert_eq!(ids(&world.containers("rich")), ids(&rich));
    let sync = world.last_sync(Outcome::Committed);
    for name in ["web", "rich"] {
        sync.deployment(&world.stack(name)).ended(Outcome::Committed);
    }

    // From then on they are stacks like any other: a change reaches what uses it, and nothing else.
    world.change("A page").file(&world.path("web", "index.html"), "by the agent\n").push();
    world.once().exits(0);
    assert_ne!(ids(&world.containers("web")), ids(&web));
    assert_eq!(ids(&world.containers("rich")), ids(&rich));
    assert_eq!(http::text(&page_at(port)), Ok("by the agent".to_owned()));

    // What was made from a person's files is no drift; what goes away is put back.
    world.start_and_wait();
    let shares = world.container("rich", "shares").id();
    docker(&["rm", "-f", &shares]);
    world.wait_container("rich", "shares", "is made again", |c| c.id() != shares && c.state() == "running");
    wait_until(PATIENCE, "no drift is left", || {
        let status = world.evenkeel(&["status", "--format", "json"]).json();
        let drift: Vec<&Value> = status["stacks"].as_array().unwrap().iter().map(|stack| &stack["drift"]).collect();
        if drift.iter().all(|drift| drift.as_array().is_none_or(Vec::is_empty)) {
            Ok(())
        } else {
            Err(format!("{drift:?}"))
        }
    });
    let rest =
        |containers: &[Container]| ids(containers).into_iter().filter(|(id, _)| *id != shares).collect::<Vec<_>>();
    let now = ids(&world.containers("rich"));
    assert!(rest(&rich).iter().all(|one| now.contains(one)), "{:?} are all in {now:?}", rest(&rich));
}

/// Two services of two images, of which one has a variable.
fn pair([app, beside]: [&str; 2], value: &str) -> String {
    format!(
        "services:
  app: {{ image: '{app}', init: true, command: [sleep, '100000'] }}
  beside: {{ image: '{beside}', init: true, command: [sleep, '100000'], environment: {{ A: '{value}' }} }}
"
    )
}

/// Lets the agent's live tree be there.
fn live_at(world: &mut World, root: &Path) {
    let (at, root) = (world.server().display().to_string(), root.display());
    let paths = format!("{{ state: {at}/state, live: \"{root}\", env: {at}/env, socket: {at}/run/agent.sock }}");
    world.config.set("paths", &paths);
}

#[test]
fn says_at_which_live_root_the_most_is_taken_over_and_what_would_be_made_anew() {
    let mut world = World::new();
    let port = port::free();
    let images = [1, 2].map(|n| format!("{}-image:{n}", world.prefix()));
    make_image(&images[0], "one");
    make_image(&images[1], "two");
    let moved = format!("{}-moved:1", world.prefix());
    docker(&["tag", &images[0], &moved]);
    let pair = |value: &str| pair([&moved, &images[1]], value);
    world
        .change("What runs")
        .file(&world.path("web", "compose.yml"), fixture::web(1, port))
        .file(&world.path("web", "index.html"), "by hand\n")
        .file(&world.path("pair", "compose.yml"), pair("a secret"))
        .push();
    let clone = world.folder().join("opt/my infra");
    started_by_hand(&world, &clone, &["web", "pair"]);
    docker(&["run", "-d", "--init", "--name", &world.stack("alone"), "evenkeel-test/busybox:1", "sleep", "100000"]);
    // Somebody pulled another image under the same reference, and the repository went on.
    docker(&["tag", &images[1], &moved]);
    world
        .change("Another value")
        .file(&world.path("pair", "compose.yml"), pair("another secret"))
        .file(&world.path("new", "compose.yml"), fixture::sleeper(1))
        .push();
    Run::of(Command::new("git").args(["pull", "-q"]).current_dir(&clone)).ok();

    let run = adopt(&world, &clone, &["--exit-code", "--format", "json"]);
    let said = run.exits(3).json();
    assert_eq!(services(&said, &world.stack("web")), ["app none"]);
    assert_eq!(services(&said, &world.stack("pair")), ["app recreate image", "beside recreate A"]);
    assert_eq!(services(&said, &world.stack("new")), ["app create"]);
    assert!(!run.said().contains("secret"), "{}", run.report());
    let live = &said["live"];
    assert_eq!((live["best"].as_str(), live["configured"].as_str()), (clone.to_str(), live_root(&world).to_str()));
    assert_eq!(live["line"], format!("paths: {{ live: \"{}\" }}", clone.display()));
    let text = adopt(&world, &clone, &[]).ok();
    assert!(text.contains("in agent.yml: `paths: { live: "), "{text}");
    assert!(text.contains(&world.stack("alone")), "{text}");
    let live = live_root(&world).to_string_lossy().into_owned();
    let elsewhere = adopt(&world, &clone, &["--live", &live, "--format", "json"]).exits(0).json();
    assert_eq!(services(&elsewhere, &world.stack("web")), ["app recreate /www/index.html"]);
    let index = world.path("web", "index.html");
    let why = &elsewhere["stacks"].as_array().unwrap().iter().find(|s| s["name"] == world.stack("web")).unwrap()["services"]
        [0]["why"][0];
    assert_eq!(why["found"], format!("bind {}, read-only", clone.join(&index).display()));
    assert_eq!(why["wanted"], format!("bind {live}/{index}, read-only"));

    // As it says, so it is done.
    let (web, pair) = (world.containers("web"), world.containers("pair"));
    live_at(&mut world, &clone);
    adopt(&world, &clone, &[]).exits(0);
    world.once().exits(0);
    assert_eq!(ids(&world.containers("web")), ids(&web));
    for (before, after) in pair.iter().zip(&world.containers("pair")) {
        assert_ne!(before.id(), after.id());
    }
    assert_eq!(world.container("pair", "beside").variable("A").as_deref(), Some("another secret"));
    assert_eq!(world.container("new", "app").state(), "running");
}

#[test]
fn what_was_taken_over_runs_on_when_the_first_deployment_fails() {
    let world = World::new();
    let good = "services:
  page: { image: 'evenkeel-test/busybox:1', init: true, command: [sleep, '100000'], volumes: ['./a.conf:/a.conf:ro'] }
";
    let compose = world.path("web", "compose.yml");
    world.change("What runs").file(&compose, good).file(&world.path("web", "a.conf"), "a\n").push();
    let root = live_root(&world);
    started_by_hand(&world, &root, &["web"]);
    let before = ids(&world.containers("web"));
    let sick = "  sick: { image: 'evenkeel-test/busybox:1', command: [sh, -c, 'exit 3'], restart: always }\n";
    world.change("And one more").file(&compose, format!("{good}{sick}")).push();
    Run::of(Command::new("git").args(["pull", "-q"]).current_dir(&root)).ok();

    world.once().exits(5);
    world.last_sync(Outcome::RolledBack).deployment(&world.stack("web")).because(Code::GateExited);
    assert_eq!(ids(&world.containers("web")), before, "what was taken over runs on, and the sick one is gone");
    assert!(world.live(&world.path("web", "a.conf")).exists(), "nobody's files are removed");

    world.change("Without it").file(&compose, good).push();
    Run::of(Command::new("git").args(["pull", "-q"]).current_dir(&root)).ok();
    world.once().exits(0);
    assert_eq!(ids(&world.containers("web")), before);
}

#[test]
fn what_stood_runs_on_when_the_first_deployment_fails_before_anything_is_taken_over() {
    let mut world = World::new();
    let good = "services:
  page: { image: 'evenkeel-test/busybox:1', init: true, command: [sleep, '100000'], volumes: ['./a.conf:/a.conf:ro'] }
";
    let (compose, conf) = (world.path("web", "compose.yml"), world.path("web", "a.conf"));
    world.change("What runs").file(&compose, good).file(&conf, "a\n").push();
    let root = live_root(&world);
    started_by_hand(&world, &root, &["web"]);
    let before = ids(&world.containers("web"));
    let nowhere = format!("{}-nowhere", world.prefix());
    let more = format!(
        "  more: {{ image: 'evenkeel-test/busybox:1', init: true, command: [sleep, '100000'], networks: [out] }}
networks: {{ out: {{ external: true, name: {nowhere} }} }}
"
    );
    world.change("And one more").file(&compose, format!("{good}{more}")).push();
    Run::of(Command::new("git").args(["pull", "-q"]).current_dir(&root)).ok();
    let engine = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    world.config.set("engine", &format!("{{ socket: \"{engine}\", create_networks: false }}"));

    world.once().exits(5);
    world.last_sync(Outcome::RolledBack).deployment(&world.stack("web")).because(Code::ApplyFailed);
    assert_eq!(ids(&world.containers("web")), before, "nobody's containers go because something else is missing");
    assert_eq!(world.container("web", "page").state(), "running");
    assert!(world.live(&compose).exists() && world.live(&conf).exists(), "nobody's files are removed");
}

#[test]
fn a_file_that_was_pulled_after_the_start_reaches_the_container_that_mounts_it() {
    let world = World::new();
    let port = port::free();
    let page = world.path("web", "index.html");
    let compose = fixture::web(1, port)
        + "  clock: { image: 'evenkeel-test/busybox:1', init: true, command: [sleep, '100000'] }\n";
    world.change("What runs").file(&world.path("web", "compose.yml"), compose).file(&page, "old\n").push();
    let root = live_root(&world);
    started_by_hand(&world, &root, &["web"]);
    let clock = world.container("web", "clock").id();
    world.change("A page").file(&page, "new\n").push();
    // Git replaces the file: the container still has the one that was there.
    Run::of(Command::new("git").args(["pull", "-q"]).current_dir(&root)).ok();
    let served = wait_until(PATIENCE, "the page is served", || http::text(&page_at(port)));
    assert_eq!(served, "old");
    let said = adopt(&world, &root, &["--format", "json"]).json();
    let index = root.join(&page);
    let expected = [format!("app recreate {}", index.display()), "clock none".to_owned()];
    assert_eq!(services(&said, &world.stack("web")), expected);
    world.once().exits(0);
    assert_eq!(http::text(&page_at(port)), Ok("new".to_owned()));
    assert_eq!(world.container("web", "clock").id(), clock);
}

#[test]
fn a_takeover_that_is_killed_is_finished_and_what_matches_still_stays() {
    let mut world = World::new();
    let compose = world.path("web", "compose.yml");
    let both = |image| {
        let beside = "  beside: { image: 'evenkeel-test/busybox:1', init: true, command: [sleep, '100000'] }\n";
        fixture::stubborn(image, 4) + beside
    };
    world.change("What runs").file(&compose, both(1)).push();
    let root = live_root(&world);
    started_by_hand(&world, &root, &["web"]);
    let (app, beside) = (world.container("web", "app"), world.container("web", "beside"));
    world.change("Another image").file(&compose, both(2)).push();
    Run::of(Command::new("git").args(["pull", "-q"]).current_dir(&root)).ok();
    world.start();
    world.wait_logged("Recreate");
    world.take_agent().kill();
    world.once().exits(0);
    let now = world.container("web", "app");
    assert_eq!(Some(now.image()), image_id("evenkeel-test/busybox:2"));
    assert_ne!(now.id(), app.id());
    assert_eq!(ids(&[world.container("web", "beside")]), ids(&[beside]));
    world.history().deployments(&world.stack("web"))[0].ended(Outcome::Committed);
}

#[test]
fn a_stack_that_runs_under_another_project_is_told() {
    let world = World::new();
    world.change("What runs").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    let root = live_root(&world);
    started_by_hand(&world, &root, &[]);
    let (folder, other) = (root.join("stacks").join(world.stack("web")), world.stack("other"));
    Run::of(Command::new("docker").args(["compose", "-p", &other, "up", "-d"]).current_dir(folder)).ok();
    let text = adopt(&world, &root, &[]).ok();
    assert!(text.contains(&format!("runs as the project {other}")), "{text}");
}

#[test]
fn what_was_built_from_the_same_files_stays() {
    let world = World::new();
    let compose = "services:
  app: { build: { context: ., network: none }, init: true, command: [sleep, '100000'] }
";
    world
        .change("What runs")
        .file(&world.path("web", "compose.yml"), compose)
        .file(
            &world.path("web", "Dockerfile"),
            "FROM evenkeel-test/busybox:1\nCOPY a.txt /a.txt\nRUN cat /a.txt > /b.txt\n",
        )
        .file(&world.path("web", "a.txt"), format!("{}\n", world.prefix()))
        .push();
    let root = live_root(&world);
    started_by_hand(&world, &root, &["web"]);
    let before = world.containers("web");
    let said = adopt(&world, &root, &["--format", "json"]).json();
    assert_eq!(services(&said, &world.stack("web")), ["app none"]);
    world.once().exits(0);
    assert_eq!(ids(&world.containers("web")), ids(&before));
}
