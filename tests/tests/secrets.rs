//! What is secret reaches the containers, and nothing that people read.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    fixture,
    receivers::{discord::Discord, ntfy::Ntfy, webhook::Webhook},
    wait::{PATIENCE, wait_until},
    world::World,
};
use rusqlite::types::ValueRef;

const SECRET: &str = "hunter2-Correct-Horse-Battery";
const WEBHOOK_KEY: &str = "key-of-the-webhook-Staple";

struct Told {
    webhook: Webhook,
    discord: Discord,
    ntfy: Ntfy,
}

impl Told {
    fn by(world: &mut World) -> Self {
        let told =
            Self { webhook: Webhook::start(WEBHOOK_KEY), discord: Discord::start(), ntfy: Ntfy::start(world.folder()) };
        let url = world.config.put("discord-url", &told.discord.url());
        let key = world.config.put("webhook-secret", WEBHOOK_KEY);
        let reports = format!(
            "\n  - webhook: {{ url: {}, secret_file: {} }}\n  - discord: {{ url_file: {} }}\n  - ntfy: {{ url: {} }}",
            told.webhook.url(),
            key.display(),
            url.display(),
            told.ntfy.url("home")
        );
        world.config.set("reports", &reports);
        world.config.set("log", "{ format: text, level: trace }");
        world.config.put("env/_server.env", &format!("DB_PASSWORD={SECRET}\n"));
        told
    }

    /// Waits until each has as many messages, and returns all of them as one text.
    fn wait(&self, count: usize) -> String {
        wait_until(PATIENCE, &format!("each receiver has {count} messages"), || {
            let (a, b, c) = (self.webhook.taken(), self.discord.messages(), self.ntfy.messages("home"));
            if [a.len(), b.len(), c.len()] == [count; 3] {
                Ok(format!("{a:?} {b:?} {c:?}"))
            } else {
                Err(format!("{a:?} {b:?} {c:?}"))
            }
        })
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[track_caller]
fn is_silent(what: &str, text: &str) {
    for secret in [SECRET, WEBHOOK_KEY] {
        assert!(
            !text.contains(secret),
            "{what} tells a secret:\n{}",
            text.lines().filter(|l| l.contains(secret)).collect::<Vec<_>>().join("\n")
        );
    }
}

fn everything_said(world: &World) -> String {
    let verbs: [&[&str]; 4] =
        [&["status"], &["status", "--format", "json"], &["history"], &["history", "--format", "json"]];
    verbs.iter().map(|v| world.evenkeel(v).said()).collect()
}

#[test]
fn a_variable_of_the_server_reaches_the_container_and_no_one_else() {
    let mut world = World::new();
    let told = Told::by(&mut world);
    world.config.source(&world.repository.url(), "300ms");
    let compose = fixture::sleeper(1)
        + "    environment: { PASSWORD: '${DB_PASSWORD}' }\n    secrets: [token]\nsecrets: { token: { environment: DB_PASSWORD } }\n";
    let commit = world.change("Use it").file(&world.path("db", "compose.yml"), compose).push();
    let (seen, done) = (std::sync::Mutex::new(String::new()), AtomicBool::new(false));
    world.config.write();
    world.start();
    thread::scope(|scope| {
        // What anyone on the machine sees in `ps`, all the time.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                seen.lock().unwrap().push_str(&world.processes().join("\n"));
            }
        });
        let _stop = Stop(&done);
        world.wait_sync(&commit, Outcome::Committed);
    });
    let container = world.container("db", "app");
    assert_eq!(container.variable("PASSWORD").as_deref(), Some(SECRET));
    is_silent("a process's arguments", &seen.lock().unwrap());
    is_silent("a message", &told.wait(1));
    is_silent("a verb", &everything_said(&world));
    world.take_agent().terminate(evenkeel_tests::wait::seconds(10));
    is_silent("the log", &world.logged());
    is_silent("the live tree", &fs::read_to_string(world.live(&world.path("db", "compose.yml"))).unwrap());
    let state = world.server().join("state");
    assert_eq!(mode(&state), 0o700);
    for file in files(&state).into_iter().filter(|f| contains(f, SECRET)) {
        assert_eq!(mode(&file), 0o600, "{} holds the secret", file.display());
    }
    is_silent("the journal, history or outbox", &tables(&state.join("evenkeel.db")));
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn contains(file: &Path, secret: &str) -> bool {
    fs::read(file).is_ok_and(|bytes| bytes.windows(secret.len()).any(|w| w == secret.as_bytes()))
}

/// All of the store but the releases and their files, which are what containers are made of.
fn tables(store: &Path) -> String {
    let db = rusqlite::Connection::open(store).unwrap();
    let names = rows(&db, "SELECT name FROM sqlite_master WHERE type = 'table'");
    assert!(names.contains("outbox") && names.contains("journal"), "{names}");
    let kept = names.split_whitespace().filter(|name| !matches!(*name, "releases" | "blobs"));
    kept.map(|name| rows(&db, &format!("SELECT * FROM {name}"))).collect::<Vec<_>>().join("\n")
}

fn rows(db: &rusqlite::Connection, query: &str) -> String {
    let mut statement = db.prepare(query).unwrap();
    let columns = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| {
        let cell = |n| match row.get_ref(n)? {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            other => Ok(format!("{other:?}")),
        };
        (0..columns).map(cell).collect::<rusqlite::Result<Vec<String>>>()
    };
    let all = statement.query_map([], row).unwrap();
    all.map(|cells| cells.unwrap().join(" ")).collect::<Vec<_>>().join("\n")
}

/// Ends the watching thread also when an assertion fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_container_that_prints_its_secret_and_dies_does_not_spread_it() {
    let mut world = World::new();
    let told = Told::by(&mut world);
    let compose = "services:
  app:
    image: evenkeel-test/busybox:1
    environment: { PASSWORD: '${DB_PASSWORD}' }
    command: [sh, -c, 'echo cannot connect with $$PASSWORD; sleep 0.2; exit 1']
    restart: always
";
    world.change("Crash").file(&world.path("db", "compose.yml"), compose).push();
    let run = world.once();
    run.exits(5);
    is_silent("the sync", &run.said());
    is_silent("a verb", &everything_said(&world));
    world.config.source(&world.repository.url(), "1h");
    world.start();
    is_silent("a message", &told.wait(1));
}

#[test]
fn an_error_of_compose_that_repeats_a_value_does_not_spread_it() {
    let mut world = World::new();
    let told = Told::by(&mut world);
    let compose = fixture::sleeper(1) + "    ports: ['${DB_PASSWORD}:80']\n";
    world.change("The wrong variable").file(&world.path("db", "compose.yml"), compose).push();
    let run = world.once();
    run.exits(1);
    is_silent("the sync", &run.said());
    is_silent("a verb", &everything_said(&world));
    is_silent("a message", &format!("{:?} {:?}", told.webhook.deliveries(), told.discord.messages()));
}

#[test]
fn the_address_of_a_discord_channel_is_a_secret() {
    let mut world = World::new();
    let told = Told::by(&mut world);
    told.discord.limit_next(0.5);
    world.config.source(&world.repository.url(), "300ms");
    world.start();
    world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    told.wait(1);
    assert!(!world.logged().contains(told.discord.token()), "the log tells the channel's address");
    assert!(!everything_said(&world).contains(told.discord.token()));
}

#[test]
fn a_secret_file_that_others_can_read_is_refused() {
    let mut world = World::new();
    let told = Told::by(&mut world);
    let file = world.server().join("webhook-secret");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let run = world.once();
    run.exits(2);
    assert!(run.said().contains("webhook-secret"), "{}", run.report());
    is_silent("the error", &run.said());
    drop(told);
}
