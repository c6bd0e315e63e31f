//! What the gate makes of services of every kind: the verdict, its reason as a person reads it, and how long it took.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    fs::File,
    path::PathBuf,
    process::{Child, Command},
};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    fixture,
    wait::{PATIENCE, wait_until},
    world::World,
};
use rusqlite::{Connection, OpenFlags};

/// A service of this name on the test image: its command for a shell, and more keys (indented by four spaces).
fn service(name: &str, command: &str, more: &str) -> String {
    format!(
        "  {name}:\n    image: evenkeel-test/busybox:1\n    init: true\n    command: [sh, -c, \"{command}\"]\n{more}"
    )
}

fn one(command: &str, more: &str) -> String {
    format!("services:\n{}", service("app", command, more))
}

/// A gate of the stack's own.
fn gated(compose: &str, gate: &str) -> String {
    format!("{compose}x-evenkeel: {{ gate: {{ {gate} }} }}\n")
}

/// Everything must be good for so long that what sickens does so before.
const PATIENT: &str = "min_healthy_time: 8s";
/// What never comes good is given up after so long.
const SHORT: &str = "min_healthy_time: 1s, healthy_deadline: 6s";
const HTTPD: &str = "exec httpd -f -p 80 -h /";

/// One line of the table.
struct Row {
    /// What is wrong with it, or not.
    name: &'static str,
    compose: String,
    /// Why it fails and how the reason begins, without the world's prefix; what was seen when it passed.
    verdict: Result<&'static str, (Code, &'static str)>,
}

fn row(name: &'static str, compose: String, verdict: Result<&'static str, (Code, &'static str)>) -> Row {
    Row { name, compose, verdict }
}

fn processes() -> Vec<Row> {
    let always = "    restart: always\n";
    let once = "[ -e /was ] && exec sleep 100000; touch /was; exit 1";
    let oom = "    mem_limit: 16m\n    memswap_limit: 16m\n";
    let replicas = "    deploy: { replicas: 2 }\n    volumes: ['data:/data']\nvolumes: { data: {} }\n";
    vec![
        row(
            "crash-loop",
            one("echo no such table; exit 3", always),
            Err((
                Code::GateExited,
                "crash-loop-app-1 is in a crash loop: N restarts since it was started, last after exit code 3; its log ends: no such table",
            )),
        ),
        row(
            "crash-hidden-by-restarts",
            gated(&one("sleep 1; exit 1", always), PATIENT),
            Err((
                Code::GateExited,
                "crash-hidden-by-restarts-app-1 is in a crash loop: N restarts since it was started, last after exit code 1",
            )),
        ),
        row(
            "one-crash-got-over",
            one(once, "    restart: on-failure\n    stop_grace_period: 1s\n"),
            Ok("one-crash-got-over-app-1 running after a restart"),
        ),
        row(
            "late-crash",
            gated(&one("sleep 3; echo lost the database; exit 4", ""), PATIENT),
            Err((Code::GateExited, "late-crash-app-1 exited with code 4; its log ends: lost the database")),
        ),
        row("one-shot-that-ends-with-0", one("exit 0", ""), Ok("one-shot-that-ends-with-0-app-1 exited 0")),
        row(
            "one-shot-that-ends-with-1",
            one("echo half done; exit 1", ""),
            Err((Code::GateExited, "one-shot-that-ends-with-1-app-1 exited with code 1; its log ends: half done")),
        ),
        row(
            "one-bad-replica-of-two",
            one("mkdir /data/first && exec sleep 100000; echo taken; exit 1", replicas),
            Err((Code::GateExited, "one-bad-replica-of-two-app-N exited with code 1; its log ends: ")),
        ),
        row(
            "out-of-memory",
            one("sleep 0.5; exec tail /dev/zero", &format!("{oom}{always}")),
            Err((Code::GateOom, "out-of-memory-app-1 was killed for want of memory")),
        ),
        row(
            "worker-out-of-memory",
            one("sleep 0.5; tail /dev/zero; exec sleep 100000", oom),
            Err((Code::GateOom, "worker-out-of-memory-app-1 was killed for want of memory")),
        ),
    ]
}

fn healthchecks() -> Vec<Row> {
    let check =
        |test: &str| format!("    healthcheck: {{ test: [CMD-SHELL, '{test}'], interval: 500ms, retries: 1 }}\n");
    let sickens = service(
        "db",
        "touch /well; sleep 3; rm /well; exec sleep 100000",
        &check("[ -e /well ] || { echo no answer; false; }"),
    );
    let needs = service("app", "exec sleep 100000", "    depends_on: { db: { condition: service_healthy } }\n");
    vec![
        row("slow-start", fixture::slow(1, 3), Ok("slow-start-app-1 healthy")),
        row(
            "never-healthy",
            gated(&fixture::slow(1, 60), SHORT),
            Err((Code::GateDeadline, "not healthy after 6 s: still waiting for never-healthy-app-1 to become healthy")),
        ),
        row(
            "unhealthy",
            one("exec sleep 100000", &check("echo no route; false")),
            Err((Code::GateUnhealthy, "unhealthy-app-1 became unhealthy; its healthcheck says: no route")),
        ),
        row(
            "flapping-health",
            gated(
                &one(
                    "exec sleep 100000",
                    &check("[ -e /odd ] && rm /odd || { touch /odd; false; }")
                        .replace("retries: 1", "retries: 1, start_period: 1s"),
                ),
                PATIENT,
            ),
            Err((Code::GateUnhealthy, "flapping-health-app-1 became unhealthy")),
        ),
        row(
            "dependency-that-sickens",
            gated(&format!("services:\n{sickens}{needs}"), PATIENT),
            Err((
                Code::GateUnhealthy,
                "dependency-that-sickens-db-1 became unhealthy; its healthcheck says: no answer",
            )),
        ),
    ]
}

fn probes() -> Vec<Row> {
    let probe = |probe: &str| format!("    x-evenkeel: {{ probes: [{{ {probe} }}] }}\n");
    let deaf = "exec nc -ll -p 80 -e sleep 100";
    let late = "sleep 2; touch /index.html; exec httpd -f -p 80 -h /";
    vec![
        row(
            "probe-that-comes-good",
            one(late, &probe("http: { port: 80, path: /index.html, status: 200 }")),
            Ok("probe-that-comes-good-app-1 running"),
        ),
        row(
            "probe-refused",
            gated(&one(HTTPD, &probe("tcp: { port: 81 }")), SHORT),
            Err((
                Code::GateDeadline,
                "not healthy after 6 s: still waiting for probe-refused-app-1, whose probe tcp 81 says: Connection refused (os error 111)",
            )),
        ),
        row(
            "probe-slow",
            gated(&one(deaf, &probe("http: { port: 80 }, timeout: 500ms")), SHORT),
            Err((
                Code::GateDeadline,
                "not healthy after 6 s: still waiting for probe-slow-app-1, whose probe http 80/ says: no answer within 500ms",
            )),
        ),
        row(
            "probe-with-a-wrong-status",
            gated(&one(HTTPD, &probe("http: { port: 80, path: /nothing }")), SHORT),
            Err((
                Code::GateDeadline,
                "not healthy after 6 s: still waiting for probe-with-a-wrong-status-app-1, whose probe http 80/nothing says: status 404",
            )),
        ),
        row(
            "probe-command-that-fails",
            gated(&one(HTTPD, &probe("command: [sh, -c, 'echo not yet; exit 2']")), SHORT),
            Err((
                Code::GateDeadline,
                "not healthy after 6 s: still waiting for probe-command-that-fails-app-1, whose probe command sh says: not yet (exit code 2)",
            )),
        ),
        row(
            "probe-that-answers-once",
            gated(
                &one(HTTPD, &probe("command: [sh, -c, '[ -e /asked ] && exec sleep 100; touch /asked'], timeout: 8s")),
                SHORT,
            ),
            Err((
                Code::GateDeadline,
                "not healthy after 6 s: still waiting for probe-that-answers-once-app-1, whose probe command sh says: no answer within 8s",
            )),
        ),
    ]
}

fn scripts() -> Vec<Row> {
    vec![
        row("script-that-agrees", scripted(), Ok("script-that-agrees-app-1 running")),
        row(
            "script-that-complains",
            scripted().replace("hooks:", "gate: { min_healthy_time: 1s, healthy_deadline: 6s }, hooks:"),
            Err((
                Code::GateDeadline,
                "not healthy after 6 s: still waiting for the script stacks/script-that-complains/scripts/health-check.sh, which says: script-that-complains has no backup (exit code 1)",
            )),
        ),
    ]
}

fn scripted() -> String {
    format!("{}x-evenkeel: {{ hooks: {{ health_check: scripts/health-check.sh }} }}\n", fixture::sleeper(1))
}

/// Without the world's prefix, and without the counts that chance has a part in.
fn plain(world: &World, text: &str) -> String {
    let mut text = text.replace(&format!("{}-", world.prefix()), "");
    for count in 3..20 {
        text = text.replace(&format!("crash loop: {count} restarts"), "crash loop: N restarts");
    }
    for number in 1..=2 {
        text = text.replace(&format!("one-bad-replica-of-two-app-{number} "), "one-bad-replica-of-two-app-N ");
    }
    text
}

/// When the engine started containers, in its own words: `nanoseconds project`, a line each.
struct Starts {
    events: Child,
    file: PathBuf,
}

impl Starts {
    fn watch(world: &World) -> Self {
        let file = world.folder().join("starts");
        let format = "{{.TimeNano}} {{index .Actor.Attributes \"com.docker.compose.project\"}}";
        let args = ["events", "--filter", "type=container", "--filter", "event=start", "--format", format];
        let events = Command::new("docker").args(args).stdout(File::create(&file).unwrap()).spawn().unwrap();
        Self { events, file }
    }

    /// When the first container of a project was started, in milliseconds since 1970.
    fn first(&self, project: &str) -> i64 {
        let lines = std::fs::read_to_string(&self.file).unwrap();
        let mut of_project = lines.lines().filter_map(|line| line.split_once(' ')).filter(|(_, name)| *name == project);
        let (nanoseconds, _) = of_project.next().expect("the engine tells of every start");
        nanoseconds.parse::<i64>().unwrap() / 1_000_000
    }
}

impl Drop for Starts {
    fn drop(&mut self) {
        // It may have ended with the engine.
        let _ = self.events.kill();
        let _ = self.events.wait();
    }
}

/// When the verdict was journalled, in milliseconds since 1970, and what the journal has for evidence.
fn journalled(world: &World, stack: &str) -> (i64, String) {
    let file = world.server().join("state/evenkeel.db");
    let store = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let query = "SELECT at_ms, event FROM journal JOIN deployments d ON d.id = deployment
        WHERE d.stack = ?1 AND event ->> 'event' IN ('failed', 'gate_passed')";
    let (at_ms, event): (i64, String) = store.query_row(query, [stack], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
    let event: serde_json::Value = serde_json::from_str(&event).unwrap();
    let seen = event["seen"].as_array().into_iter().flatten();
    let seen: Vec<String> =
        seen.map(|s| format!("{} {}", s["container"].as_str().unwrap(), s["state"].as_str().unwrap())).collect();
    (at_ms, seen.join(", "))
}

/// The deadline of all rows that do not say otherwise is ten minutes: whatever fails before fails at once.
#[test]
fn every_way_to_be_unwell_is_told_apart_and_none_waits_for_the_deadline_that_need_not() {
    let mut world = World::new();
    world.config.set("gate", "{ min_healthy_time: 2s, healthy_deadline: 10m, progress_deadline: 15m }");
    let engine = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    world.config.set("engine", &format!("{{ socket: \"{engine}\", parallel: 8 }}"));
    let rows: Vec<Row> = [processes(), healthchecks(), probes(), scripts()].into_iter().flatten().collect();
    let mut change = world.change("One stack for each row");
    for row in &rows {
        change = change.file(&world.path(row.name, "compose.yml"), &row.compose);
    }
    let complains = "#!/bin/sh\nname=${EVENKEEL_STACK#*-}\n[ \"$name\" = script-that-agrees ] && exec docker ps -q --filter label=com.docker.compose.project=\"$COMPOSE_PROJECT_NAME\"\necho \"$name has no backup\" >&2\nexit 1\n";
    for name in ["script-that-agrees", "script-that-complains"] {
        change = change.file(&world.path(name, "scripts/health-check.sh"), complains);
    }
    change.push();
    let starts = Starts::watch(&world);
    world.once().exits(5);
    let history = world.history();
    let sync = history.last().unwrap();
    let mut wrong: Vec<String> = Vec::new();
    let mut table = vec!["| service | verdict | after | what is said |\n|---|---|---|---|".to_owned()];
    for row in &rows {
        let stack = world.stack(row.name);
        let deployment = sync.deployment(&stack);
        let (at_ms, seen) = journalled(&world, &stack);
        #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
        let took = (at_ms - starts.first(&stack)) as f64 / 1000.0;
        let (verdict, said) = match &deployment.reason {
            None => ("passes".to_owned(), plain(&world, &seen)),
            Some(reason) => (format!("`{}`", reason.code), plain(&world, &reason.message)),
        };
        let (outcome, expected) = match row.verdict {
            Ok(expected) => (Outcome::Committed, ("passes".to_owned(), expected)),
            Err((code, expected)) => (Outcome::RolledBack, (format!("`{code}`"), expected)),
        };
        if deployment.outcome != Some(outcome) || verdict != expected.0 || !said.starts_with(expected.1) {
            wrong.push(format!("{}: {verdict}: {said}\n  expected {expected:?}", row.name));
        }
        let is_left = world.containers(row.name).is_empty() != row.verdict.is_err();
        if is_left {
            wrong.push(format!("{}: a first deployment that fails is stopped, no other one", row.name));
        }
        let shown = row.name.replace('-', " ");
        let said = said.replace('|', "\\|");
        table.push(format!("| {shown} | {verdict} | {took:.1} s | {said} |"));
    }
    println!("{}", table.join("\n"));
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn what_somebody_made_of_a_script_on_the_server_is_not_run() {
    let world = World::new();
    let (script, beside) = (world.path("app", "scripts/health-check.sh"), world.path("app", "scripts/lib/say.sh"));
    let (asked, started) = (world.folder().join("asked"), world.folder().join("started"));
    let said = |word: &str| format!("say() {{ echo \"{word} $1 ${{DOCKER_CONFIG-none}}\" >> {}; }}\n", asked.display());
    let runs = |word: &str| {
        format!(". ./lib/say.sh\nsay {word}\nsleep 100000 > /dev/null &\necho $! >> {}\n", started.display())
    };
    let compose = scripted().replace("x-evenkeel:", "    volumes: ['./scripts:/scripts:ro']\nx-evenkeel:");
    let begin = world.change("Begin").file(&world.path("app", "compose.yml"), &compose);
    begin.file(&script, runs("signed")).file(&beside, said("signed")).push();
    world.once().exits(0);
    std::fs::write(world.live(&script), runs("changed")).unwrap();
    std::fs::write(world.live(&beside), said("changed")).unwrap();
    std::fs::remove_file(&asked).unwrap();
    world.change("Next").file(&world.path("app", "compose.yml"), compose.replace("busybox:1", "busybox:2")).push();
    world.once().exits(0);
    let words = std::fs::read_to_string(&asked).unwrap();
    assert!(words.lines().count() > 0 && words.lines().all(|line| line == "signed signed none"), "{words}");
    let copies = world.server().join("state/scripts").join(world.stack("app"));
    assert_eq!(std::fs::read_dir(copies).unwrap().count(), 0, "the copy goes with its run");
    let pids = std::fs::read_to_string(&started).unwrap();
    wait_until(PATIENCE, "nothing that a script started lives", || {
        let is_alive =
            |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
        let alive: Vec<&str> = pids.lines().filter(is_alive).collect();
        if alive.is_empty() { Ok(()) } else { Err(format!("{alive:?}")) }
    });
}
