//! Services hold still while their data is saved, and run again whatever comes of it.

use std::{
    process::{Command, Stdio},
    thread::sleep,
};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    docker::docker,
    fixture, http,
    journal::Journal,
    range::{Operation, Range},
    restic::Restic,
    wait::{PATIENCE, seconds, stays, wait_until},
    world::{World, page_at},
};

/// A page, and beside it a service with data that says `quiesce` and is changed by nobody. It writes down whether it runs.
fn compose(image: u8, port: u16, quiesce: &str) -> String {
    stopping_in(0, image, port, quiesce)
}

/// The same, with a service that takes so many seconds to stop.
fn stopping_in(seconds: u8, image: u8, port: u16, quiesce: &str) -> String {
    let data = format!(
        "[sh, -c, 'trap \"sleep {seconds}; echo stopped > /data/state; exit 0\" TERM; echo running > /data/state; while :; do sleep 0.1; done']"
    );
    format!(
        "{}  db:
    image: evenkeel-test/busybox:1
    command: {data}
    volumes: ['data:/data']
    x-evenkeel: {{ quiesce: {quiesce} }}
volumes: {{ data: {{}} }}
",
        fixture::web(image, port)
    )
}

/// A server on which the page and the service run, and what saves its data.
struct Server {
    world: World,
    restic: Restic,
    port: u16,
}

impl Server {
    fn new(quiesce: &str) -> Self {
        let mut world = World::new();
        let restic = Restic::init(&world.config, &world.folder().join("backups"));
        restic.configure(&mut world.config);
        let port = world.serve("good");
        let server = Self { world, restic, port };
        server.push(1, quiesce);
        server.world.once().exits(0);
        server
    }

    /// Another image for the page alone.
    fn push(&self, image: u8, quiesce: &str) -> String {
        let text = compose(image, self.port, quiesce);
        self.world.change("Change the page").file(&self.world.path("web", "compose.yml"), text).push()
    }

    /// What the newest snapshot has of a file of the service's data; `None` if it is not in there.
    fn saved(&self, file: &str) -> Option<String> {
        let id = self.restic.ids().pop().expect("there is a snapshot");
        let list = self.restic.run(&["ls", &id]);
        let path = list.lines().find(|line| line.ends_with(&format!("/_data/{file}")))?;
        Some(self.restic.run(&["dump", &id, path]).trim().to_owned())
    }

    fn in_db(&self, command: &str) -> String {
        docker(&["exec", &self.world.container("web", "db").id(), "sh", "-c", command]).trim().to_owned()
    }
}

/// What happens to a container during some work, but for commands in it. The engine remembers few events: they are heard as they come.
fn events_of(container: &str, work: impl FnOnce()) -> Vec<String> {
    let filter = format!("container={container}");
    let mut command = Command::new("docker");
    command.args(["events", "--filter", &filter, "--format", "{{.Action}}"]).stdout(Stdio::piped());
    let mut listener = command.spawn().expect("docker runs");
    sleep(seconds(1));
    work();
    sleep(seconds(1));
    listener.kill().expect("it listens until it is killed");
    let heard = listener.wait_with_output().expect("it has ended");
    let heard = String::from_utf8(heard.stdout).expect("actions are words");
    heard.lines().filter(|event| !event.starts_with("exec_")).map(str::to_owned).collect()
}

#[test]
fn a_service_that_says_stop_is_stopped_while_its_data_is_saved_and_is_not_made_anew() {
    let server = Server::new("stop");
    let before = server.world.container("web", "db");
    server.push(2, "stop");
    server.world.once().exits(0);
    let after = server.world.container("web", "db");
    assert_eq!((after.id(), after.state()), (before.id(), "running".to_owned()));
    assert_eq!(server.saved("state").as_deref(), Some("stopped"));
    wait_until(PATIENCE, "it runs again", || match server.in_db("cat /data/state") {
        state if state == "running" => Ok(()),
        other => Err(other),
    });
    let history = server.world.evenkeel(&["history", "--format", "json"]).json().to_string();
    assert!(history.contains("db to hold still") && history.contains("woken"), "{history}");
}

#[test]
fn a_service_that_says_pause_is_frozen_and_goes_on() {
    let server = Server::new("pause");
    let before = server.world.container("web", "db");
    server.push(2, "pause");
    let events = events_of(&before.id(), || _ = server.world.once().exits(0));
    let after = server.world.container("web", "db");
    assert_eq!((after.id(), after.state()), (before.id(), "running".to_owned()));
    assert_eq!(events, ["pause", "unpause"]);
}

#[test]
fn commands_make_data_whole_and_what_they_left_is_taken_away_again() {
    let commands = "{ before: [sh, -c, 'echo whole > /data/dump'], after: [rm, /data/dump] }";
    let server = Server::new(commands);
    server.push(2, commands);
    server.world.once().exits(0);
    assert_eq!(server.saved("dump").as_deref(), Some("whole"));
    assert_eq!(server.in_db("ls /data"), "state");
}

#[test]
fn what_undoes_a_command_finds_the_others_running_again() {
    let server = Server::new("stop");
    let asking = "
  asks:
    image: evenkeel-test/busybox:1
    command: [sleep, '100000']
    init: true
    x-evenkeel: { quiesce: { before: ['true'], after: [ping, -c, '1', -W, '5', db] } }
volumes: {";
    for image in [1, 2] {
        let text = compose(image, server.port, "stop").replace("\nvolumes: {", asking);
        server.world.change("With one that asks").file(&server.world.path("web", "compose.yml"), text).push();
        server.world.once().exits(0);
    }
    assert_eq!(server.saved("state").as_deref(), Some("stopped"));
}

#[test]
fn a_kill_while_a_service_is_being_stopped_leaves_it_running() {
    let mut server = Server::new("stop");
    let slow = |image| stopping_in(4, image, server.port, "stop");
    server.world.change("Slow").file(&server.world.path("web", "compose.yml"), slow(1)).push();
    server.world.once().exits(0);
    let before = server.world.container("web", "db");
    let journal = Journal::open(&server.world.server().join("state"));
    let since = journal.last_deployment();
    let commit = server.world.change("Next").file(&server.world.path("web", "compose.yml"), slow(2)).push();
    server.world.start();
    journal.wait_for("calming", since, 0);
    sleep(seconds(1));
    server.world.take_agent().kill();
    server.world.start();
    server.world.wait_sync(&commit, Outcome::Committed);
    stays(seconds(6), "it runs on, whatever was asked of the engine", || {
        let db = server.world.container("web", "db");
        if (db.id(), db.state()) == (before.id(), "running".to_owned()) { Ok(()) } else { Err(db.state()) }
    });
}

#[test]
fn a_command_that_fails_stops_the_deployment_before_anything_is_touched() {
    let commands = "{ before: [sh, -c, 'echo half > /data/dump; echo no room; exit 3'], after: [rm, /data/dump] }";
    let server = Server::new(commands);
    let (app, db) = (server.world.container("web", "app").id(), server.world.container("web", "db").id());
    let snapshots = server.restic.ids().len();
    server.push(2, commands);
    server.world.once().exits(7);
    let sync = server.world.last_sync(Outcome::Aborted);
    let why = sync.deployment(&server.world.stack("web")).because(Code::BackupFailed);
    assert!(why.contains("db: its x-evenkeel.quiesce command sh failed: no room (exit code 3)"), "{why}");
    assert!(why.contains("nothing was changed"), "{why}");
    assert_eq!((server.world.container("web", "app").id(), server.world.container("web", "db").id()), (app, db));
    assert_eq!(server.in_db("ls /data"), "state", "what it left is taken away");
    assert_eq!(server.restic.ids().len(), snapshots);
}

#[test]
fn nobody_holds_still_for_a_repository_that_cannot_be_used() {
    let server = Server::new("stop");
    server.world.config.put("restic-password", "wrong\n");
    server.push(2, "stop");
    let events = events_of(&server.world.container("web", "db").id(), || _ = server.world.once().exits(7));
    server.world.last_sync(Outcome::Aborted);
    assert_eq!(server.in_db("cat /data/state"), "running");
    assert_eq!(events, [""; 0]);
}

/// Pushes of another image for the page, while its neighbour is stopped for the backup.
struct Held {
    port: u16,
    image: u8,
    db: String,
}

impl Operation for Held {
    type Begun = String;

    fn begin(&mut self, range: &mut Range) -> String {
        range.settle();
        self.image = 3 - self.image;
        let text = compose(self.image, self.port, "stop");
        let world = &range.world;
        self.db = world.container("web", "db").id();
        range.mark();
        let world = &range.world;
        world.change("Change the page").file(&world.path("web", "compose.yml"), text).push()
    }

    fn check(&mut self, range: &mut Range, commit: String, told: &str) {
        range.wait_still("a sync of the commit has ended well", || {
            let history = range.world.try_history()?;
            let ended = history.of(&commit).and_then(|sync| sync.outcome);
            let done = [Some(Outcome::Committed), Some(Outcome::Unchanged), Some(Outcome::RolledBack)];
            if done.contains(&ended) { Ok(()) } else { Err(format!("{:#?}", history.last())) }
        });
        let db = range.world.container("web", "db");
        assert_eq!((db.id(), db.state()), (self.db.clone(), "running".to_owned()), "{told}");
        assert_eq!(http::text(&page_at(self.port)).as_deref(), Ok("good"), "{told}");
        let rolled_back = range.events().iter().any(|event| event == "rollback_started");
        if rolled_back {
            self.image = 3 - self.image; // a kill in each of its tries: the former one is back
        }
    }
}

#[test]
fn a_kill_while_a_service_holds_still_leaves_it_running() {
    let mut range = Range::new();
    let restic = Restic::init(&range.world.config, &range.world.folder().join("backups"));
    restic.configure(&mut range.world.config);
    range.world.config.source(&range.world.repository.url(), "300ms");
    let port = range.world.serve("good");
    let text = compose(1, port, "stop");
    range.world.change("Begin").file(&range.world.path("web", "compose.yml"), text).push();
    range.world.once().exits(0);
    let mut held = Held { port, image: 1, db: String::new() };
    range.everywhere(&mut held);
    range.print("a service that holds still");
}
