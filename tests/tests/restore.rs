//! Data comes back from a snapshot, and what was there is never lost on the way.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    docker::{Container, docker, image_id},
    journal::Journal,
    receivers::socket::Socket,
    restic::Restic,
    wait::{PATIENCE, seconds, wait_until},
    world::World,
};
use serde_json::Value;

/// A service that is well as long as its data is not bad, with a volume and a folder that Git fills in part.
fn compose(image: u8) -> String {
    format!(
        "services:
  app:
    image: evenkeel-test/busybox:{image}
    init: true
    command: [sh, -c, '[ -e /data/file ] || echo one > /data/file; sleep 100000']
    volumes: ['data:/data', './state:/state']
    healthcheck: {{ test: [CMD, sh, -c, '! grep -q bad /data/file'], interval: 300ms, retries: 2 }}
volumes: {{ data: {{}} }}
"
    )
}

/// A stack whose second release runs with a snapshot from before it, in which the data is `one`; now it is `two`.
struct Server {
    world: World,
    restic: Restic,
    stack: String,
}

impl Server {
    fn new() -> Self {
        let mut world = World::new();
        let restic = Restic::init(&world.config, &world.folder().join("backups"));
        restic.configure(&mut world.config);
        world.config.set("gate", "{ min_healthy_time: 500ms, healthy_deadline: 20s, progress_deadline: 60s }");
        for (image, text) in [(1, "first"), (2, "second")] {
            world
                .change(text)
                .file(&world.path("db", "compose.yml"), compose(image))
                .file(&world.path("db", "state/tracked"), format!("{text}\n"))
                .push();
            world.once().exits(0);
            if image == 1 {
                fs::write(world.live(&world.path("db", "state/notes")), "one\n").unwrap();
            }
        }
        let stack = world.stack("db");
        let server = Self { world, restic, stack };
        server.write("two");
        fs::write(server.data().join("extra"), "of now\n").unwrap();
        fs::write(server.state().join("notes"), "two\n").unwrap();
        server
    }

    /// The volume's folder on this machine.
    fn data(&self) -> PathBuf {
        let volume = format!("{}_data", self.stack);
        docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", &volume]).into()
    }

    fn state(&self) -> PathBuf {
        self.world.live(&self.world.path("db", "state"))
    }

    fn write(&self, text: &str) {
        fs::write(self.data().join("file"), format!("{text}\n")).unwrap();
    }

    /// What the service sees.
    fn sees(&self) -> String {
        let container = self.world.container("db", "app");
        let (id, is_up) = (container.id(), container.state() == "running");
        assert!(is_up, "{}", container.shown());
        docker(&["exec", &id, "sh", "-c", "cat /data/file /state/notes /state/tracked | tr '\\n' ' '"])
    }

    /// What was put aside beside a path, and what ran there and was taken back.
    fn kept(path: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let name = format!("{}.before-restore-", path.file_name().unwrap().to_string_lossy());
        let entries = fs::read_dir(path.parent().unwrap()).unwrap().flatten().map(|entry| entry.path());
        let kept = entries.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with(&name));
        kept.partition(|p| !p.to_string_lossy().ends_with(".failed"))
    }

    fn aside(path: &Path) -> Vec<PathBuf> {
        Self::kept(path).0
    }

    fn failed(path: &Path) -> Vec<PathBuf> {
        Self::kept(path).1
    }

    /// A running container of somebody else, with these arguments.
    fn guest(&self, args: &[&str]) -> String {
        let name = format!("{}-guest", self.world.prefix());
        let run = ["run", "--detach", "--init", "--name", &name];
        docker(&[&run[..], args, &["evenkeel-test/busybox:1", "sleep", "1000"]].concat());
        name
    }

    /// No half-restored data lies about.
    fn check_tidy(&self) {
        for path in [self.data(), self.state()] {
            let entries = fs::read_dir(path.parent().unwrap()).unwrap().flatten();
            let left: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            assert!(!left.iter().any(|name| name.contains("restoring")), "{left:?}");
        }
    }

    fn snapshots(&self) -> Vec<Value> {
        let run = self.world.evenkeel(&["snapshots", &self.stack, "--format", "json"]);
        run.exits(0).json()["snapshots"].as_array().unwrap().clone()
    }

    /// A snapshot of data with which the service does not get well.
    fn bad_snapshot(&self) -> String {
        let elsewhere = self.world.folder().join(format!("{}_data", self.stack)).join("_data");
        fs::create_dir_all(&elsewhere).unwrap();
        fs::write(elsewhere.join("file"), "bad\n").unwrap();
        self.restic.back_up(&self.stack, &format!("{}_data", self.stack), &elsewhere)
    }
}

#[test]
fn data_comes_back_and_what_was_there_is_kept_aside_whole() {
    let mut server = Server::new();
    server.world.start_and_wait();
    let found = server.snapshots();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["volumes"], Value::from(vec![format!("{}_data", server.stack)]));
    assert_eq!((&found[0]["stack"], found[0]["size_bytes"].is_u64()), (&Value::from(server.stack.clone()), true));
    assert_eq!(server.sees(), "two two second");
    let mode = |path: &Path| {
        use std::os::unix::fs::MetadataExt as _;
        let meta = fs::metadata(path).unwrap();
        (meta.mode(), meta.uid(), meta.gid())
    };
    let before = (mode(&server.data()), mode(&server.state()));
    let old = server.world.container("db", "app");

    // A mount of all volumes, as of an agent in a container or of what watches the machine, sees the new names.
    let volumes = server.data().parent().and_then(Path::parent).unwrap().display().to_string();
    let guest = server.guest(&["--volume", &format!("{volumes}:{volumes}")]);
    let run = server.world.evenkeel(&["restore", &server.stack, "--reason", "an import went wrong"]);
    run.exits(0);
    let seen = docker(&["exec", &guest, "cat", &server.data().join("file").to_string_lossy()]);
    assert_eq!(seen.trim(), "one");
    docker(&["rm", "--force", &guest]);
    // Of a folder that Git fills in part, its own files are those of the release, not those of the snapshot.
    assert_eq!(server.sees(), "one one second");
    assert!(!server.data().join("extra").exists(), "what came after the snapshot is not mixed into it");
    assert_eq!((mode(&server.data()), mode(&server.state())), before, "owner and mode are as they were");
    let now = server.world.container("db", "app");
    assert_eq!((now.image(), now.health()), (old.image(), "healthy".to_owned()));
    for (path, file, text) in [(server.data(), "extra", "of now\n"), (server.state(), "notes", "two\n")] {
        let aside = Server::aside(&path);
        assert_eq!(aside.len(), 1, "{aside:?}");
        assert_eq!(fs::read_to_string(aside[0].join(file)).unwrap(), text);
        assert!(run.stdout.contains(&*aside[0].to_string_lossy()), "it says where: {}", run.report());
    }
    server.check_tidy();

    let history = server.world.evenkeel(&["history", "--format", "json"]).json();
    let told = &history["interventions"][0];
    assert_eq!((&told["told"], &told["reason"]), (&"restore".into(), &"an import went wrong".into()), "{told:#}");
    assert_eq!(history["syncs"][0]["trigger"], "restore");
    assert_eq!(server.world.status().stack(&server.stack).state, "steady");
    let next = server.world.change("Next").file(&server.world.path("db", "compose.yml"), compose(3)).push();
    server.world.evenkeel(&["sync"]).exits(0);
    server.world.last_sync(Outcome::Committed);
    assert_eq!(server.world.status().stack(&server.stack).commit, Some(next));
    assert_eq!(server.sees(), "one one second");
    assert_eq!(server.world.container("db", "app").image(), image_id("evenkeel-test/busybox:3").unwrap());
}

#[test]
fn data_that_does_not_get_well_goes_and_what_was_there_runs_again() {
    let mut server = Server::new();
    let bad = server.bad_snapshot();
    server.world.start_and_wait();
    let run = server.world.evenkeel(&["restore", &server.stack, "--snapshot", &bad[..8], "--reason", "try it"]);
    run.exits(5);
    assert_eq!(server.sees(), "two two second");
    assert_eq!(fs::read_to_string(server.data().join("extra")).unwrap(), "of now\n");
    assert_eq!(Server::aside(&server.data()), Vec::<PathBuf>::new());
    server.check_tidy();
    // The stack ran on it and may have written there: it is kept, too, and the answer says where.
    let failed = Server::failed(&server.data());
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(fs::read_to_string(failed[0].join("file")).unwrap(), "bad\n");
    assert!(run.said().contains(&format!("is kept in {}", failed[0].display())), "{}", run.report());
    assert_eq!(server.world.container("db", "app").health(), "healthy");
    // The release is not to blame for data that a person brought back.
    server.world.evenkeel(&["sync"]).exits(0);
    assert_eq!(server.world.status().stack(&server.stack).state, "steady");
}

#[test]
fn where_neither_gets_well_all_of_it_is_kept_and_the_commands_are_said() {
    let mut server = Server::new();
    let bad = server.bad_snapshot();
    server.world.start_and_wait();
    server.write("bad too");
    let run = server.world.evenkeel(&["restore", &server.stack, "--snapshot", &bad, "--reason", "try it"]);
    run.exits(6);
    let said = run.said();
    let commands = said.split('`').find(|part| part.starts_with("docker compose -p")).unwrap_or_default();
    assert!(commands.contains(&*server.data().to_string_lossy()) && commands.contains("mv -nT"), "{}", run.report());
    assert_eq!(fs::read_to_string(server.data().join("file")).unwrap(), "bad too\n");
    assert_eq!(fs::read_to_string(server.data().join("extra")).unwrap(), "of now\n");
    assert_eq!(server.world.status().stack(&server.stack).state, "halted");
    // Good data ends it.
    server.world.evenkeel(&["restore", &server.stack, "--snapshot", &first(&server), "--reason", "this one"]).exits(0);
    assert_eq!(server.sees(), "one one second");
    assert_eq!(server.world.status().stack(&server.stack).state, "steady");
    server.world.evenkeel(&["sync"]).exits(0);
}

/// The snapshot that the agent took.
fn first(server: &Server) -> String {
    let found = server.snapshots();
    let mut taken = found.iter().filter(|s| s["commit"].is_string()).filter_map(|s| s["id"].as_str());
    taken.next().unwrap().to_owned()
}

#[test]
fn a_kill_at_any_step_leaves_all_of_the_old_data_or_all_of_the_restored() {
    let mut server = Server::new();
    let (good, bad) = (first(&server), server.bad_snapshot());
    let journal = Journal::open(&server.world.server().join("state"));
    let forward = ["intended", "staged", "backup_started", "backed_up", "apply_started", "applied"];
    let back = ["rollback_started", "rollback_applied"];
    let rounds = forward.map(|step| (&good, step)).into_iter().chain(back.map(|step| (&bad, step)));
    for (snapshot, step) in rounds {
        server.write("two");
        let since = journal.last_deployment();
        let before = Server::kept(&server.data());
        server.world.start_and_wait();
        let args = ["restore", &server.stack, "--snapshot", snapshot, "--reason", "kill it", "--config"];
        let mut command = server.world.command(&args);
        command.arg(server.world.config.file()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut asking = command.spawn().unwrap();
        journal.wait_for(step, since, 0);
        server.world.take_agent().kill();
        asking.wait().unwrap();

        server.world.start_and_wait();
        let events = wait_until(PATIENCE, "what was begun has ended", || {
            let history = server.world.try_history()?;
            let is_open = history.syncs.iter().any(|s| s.outcome.is_none());
            let events = journal.events(since);
            if is_open { Err(format!("{events:?}")) } else { Ok(events) }
        });
        let told = format!("killed at {step}: {events:?}");
        let touched = events.iter().any(|event| event == "apply_started");
        let is_restored = touched && *snapshot == good;
        server.world.wait_container("db", "app", "is healthy", |c| c.health() == "healthy");
        assert_eq!(server.world.containers("db").len(), 1, "{told}");
        let (asides, failed) = Server::kept(&server.data());
        let data = if is_restored { "one" } else { "two" };
        assert_eq!(server.sees().split(' ').next(), Some(data), "{told}");
        assert_eq!(asides.len(), before.0.len() + usize::from(is_restored), "{told}: {asides:?}");
        let is_taken_back = touched && !is_restored;
        assert_eq!(failed.len(), before.1.len() + usize::from(is_taken_back), "{told}: {failed:?}");
        if is_restored {
            let kept: Vec<_> = asides.iter().map(|aside| fs::read_to_string(aside.join("file")).unwrap()).collect();
            assert!(kept.iter().all(|text| text == "two\n"), "{told}: {kept:?}");
        }
        server.check_tidy();
        server.world.take_agent().terminate(PATIENCE);
        assert_eq!(server.world.processes(), Vec::<String>::new());
    }
}

impl Server {
    /// Asks for a restore of bad data and, as soon as the journal says `step`, does `cut`. Gives the asking process.
    fn goes_back(&self, bad: &str, step: &str, cut: impl FnOnce()) -> Child {
        let journal = Journal::open(&self.world.server().join("state"));
        let since = journal.last_deployment();
        let args = ["restore", &self.stack, "--snapshot", bad, "--reason", "a test", "--config"];
        let mut command = self.world.command(&args);
        command.arg(self.world.config.file()).stdout(Stdio::null()).stderr(Stdio::null());
        let asking = command.spawn().unwrap();
        journal.wait_for(step, since, 0);
        cut();
        asking
    }

    /// Waits until nothing is open. Gives how the last deployment ended that did something.
    fn ended(&self) -> Option<Outcome> {
        wait_until(PATIENCE, "what was begun has ended", || {
            let history = self.world.try_history()?;
            if history.syncs.iter().any(|s| s.outcome.is_none()) {
                return Err(format!("{:#?}", history.syncs.first()));
            }
            let mut outcomes = history.deployments(&self.stack).into_iter().rev().filter_map(|d| d.outcome);
            Ok(outcomes.find(|outcome| *outcome != Outcome::Unchanged))
        })
    }
}

#[test]
fn an_engine_that_leaves_while_old_data_is_put_back_is_waited_for() {
    let mut server = Server::new();
    let way = Socket::to_engine(&server.world.folder().join("engine.sock"));
    server.world.config.set("engine", &format!("{{ socket: \"{}\" }}", way.url()));
    let bad = server.bad_snapshot();
    server.world.start_and_wait();
    for (round, step) in ["rollback_started", "rollback_applied"].into_iter().enumerate() {
        let mut asking = server.goes_back(&bad, step, || way.cut());
        thread::sleep(seconds(3));
        way.restore();
        asking.wait().unwrap();
        assert_eq!(server.ended(), Some(Outcome::RolledBack), "cut off at {step}");
        server.world.wait_container("db", "app", "is healthy", |c| c.health() == "healthy");
        assert_eq!(server.sees(), "two two second", "cut off at {step}");
        assert_eq!(Server::kept(&server.data()).1.len(), round + 1, "what ran is kept");
        server.check_tidy();
    }
}

#[test]
fn what_somebody_makes_in_place_of_the_data_is_kept_each_time_and_stops_nothing() {
    let mut server = Server::new();
    let bad = server.bad_snapshot();
    server.world.start_and_wait();
    let agent = server.world.take_agent();
    let mut asking = server.goes_back(&bad, "rollback_started", || agent.kill());
    asking.wait().unwrap();
    // As if the engine had been restarted twice in the middle of it, and had made folders for its volume.
    let data = server.data();
    let aside = Server::aside(&data).remove(0).display().to_string();
    let make = |path: &Path, text: &str| {
        fs::create_dir(path).unwrap();
        fs::write(path.join("file"), text).unwrap();
    };
    fs::rename(&data, format!("{aside}.failed")).unwrap();
    make(Path::new(&format!("{aside}.between")), "made first\n");
    make(&data, "made last\n");
    server.world.start_and_wait();
    assert_eq!(server.ended(), Some(Outcome::RolledBack));
    server.world.wait_container("db", "app", "is healthy", |c| c.health() == "healthy");
    assert_eq!(server.sees(), "two two second");
    for (name, text) in [("between", "made first\n"), ("between-2", "made last\n"), ("failed", "bad\n")] {
        let file = format!("{aside}.{name}/file");
        assert_eq!(fs::read_to_string(&file).ok().as_deref(), Some(text), "{file}");
    }
    server.check_tidy();
}

#[test]
fn what_cannot_be_restored_is_refused_before_anything_is_touched() {
    let mut server = Server::new();
    server.world.start_and_wait();
    let before = server.world.container("db", "app");
    let restore = |more: &[&str]| {
        let args = [&["restore", &server.stack, "--reason", "x"], more].concat();
        server.world.evenkeel(&args)
    };
    let unknown = restore(&["--snapshot", "0123456789"]);
    assert!(unknown.exits(1).said().contains("no snapshot 0123456789"), "{}", unknown.report());
    let foreign = server.restic.back_up("another", "another_data", &server.data());
    let other = restore(&["--snapshot", &foreign]);
    assert!(other.exits(1).said().contains("is of another, not of"), "{}", other.report());
    // Somebody else has the volume open: it would go on with what is put aside.
    let name = server.guest(&["--volume", &format!("{}_data:/x", server.stack)]);
    let used = restore(&[]);
    assert!(used.exits(1).said().contains(&name) && used.said().contains("stop them first"), "{}", used.report());
    docker(&["rm", "--force", &name]);
    // So would what somebody runs of the stack itself at the side: `docker compose stop` leaves it alone.
    let file = server.world.live(&server.world.path("db", "compose.yml")).display().to_string();
    let compose = ["compose", "--project-name", &server.stack, "--file", &file];
    docker(&[&compose[..], &["run", "--detach", "--name", &name, "app", "sleep", "1000"]].concat());
    let used = restore(&[]);
    assert!(used.exits(1).said().contains(&name) && used.said().contains("stop them first"), "{}", used.report());
    docker(&["rm", "--force", &name]);
    // Of what is a link now the snapshot has something else.
    let elsewhere = server.world.folder().join("elsewhere");
    fs::rename(server.state(), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, server.state()).unwrap();
    let link = restore(&[]);
    assert!(link.exits(1).said().contains("state is a link"), "{}", link.report());
    fs::remove_file(server.state()).unwrap();
    fs::rename(&elsewhere, server.state()).unwrap();
    let after = server.world.container("db", "app");
    assert_eq!((after.id(), after.started()), (before.id(), before.started()));
    assert_eq!(server.sees(), "two two second");
    assert_eq!(Server::aside(&server.data()), Vec::<PathBuf>::new());
    server.check_tidy();
}

#[test]
fn a_server_that_lost_its_state_finds_its_snapshots_and_restores_from_them() {
    let mut server = Server::new();
    fs::remove_dir_all(server.world.server().join("state")).unwrap();
    let found = server.snapshots();
    assert_eq!(found.len(), 1, "without agent and store: {found:#?}");
    assert!(found[0]["release"].is_string() && found[0]["commit"].is_string(), "{found:#?}");
    let text = server.world.evenkeel(&["snapshots"]);
    assert!(text.exits(0).stdout.contains(&server.stack), "{}", text.report());
    // The engine is another one, too, as far as the stack is concerned: nothing of it is there.
    docker(&["rm", "--force", &server.world.container("db", "app").id()]);
    docker(&["volume", "rm", &format!("{}_data", server.stack)]);
    docker(&["network", "rm", &format!("{}_default", server.stack)]);
    server.world.start_and_wait();
    server.world.evenkeel(&["sync"]).exits(0);
    server.write("three");
    server.world.evenkeel(&["restore", &server.stack, "--reason", "the disk is new"]).exits(0);
    assert_eq!(server.sees(), "one one second");
    let names: Vec<String> = server.world.containers("db").iter().map(Container::name).collect();
    assert_eq!(names, [format!("{}-app-1", server.stack)]);
}
