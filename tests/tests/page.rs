//! The status page's listener: what it shows, to whom, and that it changes nothing.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{collections::BTreeSet, net::TcpListener, process::Command, thread};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    fixture,
    http::{self, Response},
    port,
    program::{Run, root},
    restic::Restic,
    wait::{seconds, wait_until},
    world::World,
};

const TOKEN: &str = "a token of many characters";

/// A world whose agent serves a page.
struct Paged {
    world: World,
    address: String,
}

impl Paged {
    /// The agent runs and has deployed a stack `web`; `subject` is its commit's.
    fn deployed(subject: &str) -> Self {
        Self::of(World::new(), subject)
    }

    /// The same, of a server that is set up already.
    fn of(mut world: World, subject: &str) -> Self {
        let address = format!("127.0.0.1:{}", port::free());
        world.config.set("listen", &format!("{{ page: '{address}' }}"));
        let commit = world.change(subject).file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
        world.start_and_wait();
        world.wait_sync(&commit, Outcome::Committed);
        Self { world, address }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn get(&self, path: &str) -> Response {
        http::get(&self.url(path)).unwrap()
    }

    fn with(&self, path: &str, name: &str, value: &str) -> Response {
        http::request("GET", &self.url(path), &[(name, value)], b"").unwrap()
    }
}

#[test]
fn the_api_says_what_the_command_line_says() {
    let paged = Paged::deployed("Begin");
    let world = &paged.world;
    let said = |verb: &[&str]| world.evenkeel(&[verb, &["--format", "json"]].concat()).json();
    // A poll may come in between.
    wait_until(seconds(10), "status and its page agree", || {
        let (page, cli) = (paged.get("/api/v1/status").json(), said(&["status"]));
        if page == cli { Ok(()) } else { Err(format!("{page:#}\n{cli:#}")) }
    });
    let history = paged.get("/api/v1/history?limit=5").json();
    assert_eq!(history["syncs"][0]["about"]["subject"], "Begin");
    assert_eq!(history, said(&["history", "--limit", "5"]));
    let repo = world.server().join("state/mirror.git");
    let commit = world.status().source.accepted.unwrap();
    let offline =
        ["stacks", "--format", "json", "--repo", repo.to_str().unwrap(), "--rev", &commit, "--server", "home"];
    let offline = Run::of(&mut world.command(&offline));
    assert_eq!(paged.get("/api/v1/stacks").json(), offline.json());
    let status = paged.get("/api/v1/status").json();
    assert_eq!(status["source"]["about"]["signer"]["fingerprint"], world.repository.key.fingerprint());
}

#[test]
fn nothing_can_be_changed_and_nothing_is_cached_framed_or_loaded_from_elsewhere() {
    let paged = Paged::deployed("Begin");
    for path in ["/", "/api/v1/status", "/healthz", "/metrics", "/nothing"] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let refused = http::request(method, &paged.url(path), &[], b"").unwrap();
            assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
    for path in ["/api/v1/status", "/healthz", "/nothing"] {
        let answer = paged.get(path);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(paged.get("/nothing").status, 404);
    assert_eq!(paged.get("/hooks/github").status, 404);
    assert_eq!(paged.get("/api/v1/history?limit=many").status, 400);
    assert_eq!(http::request("HEAD", &paged.url("/api/v1/status"), &[], b"").unwrap().status, 200);
}

#[test]
fn a_name_that_leads_here_from_elsewhere_sees_nothing() {
    let paged = Paged::deployed("Begin");
    // The kit's client sends a Host of its own; the first one counts for nobody, so this one asks by hand.
    let ask = |host: &str| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(&paged.address).unwrap();
        write!(stream, "GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("evil.example:8420").starts_with("HTTP/1.1 421 "));
    assert!(ask("localhost:8420").starts_with("HTTP/1.1 200 "));
}

#[test]
fn with_a_token_only_who_shows_it_reads_and_probes_need_none() {
    let mut world = World::new();
    let address = format!("0.0.0.0:{}", port::free());
    world.config.set("listen", &format!("{{ page: '{address}' }}"));
    let refused = world.once();
    let said = refused.exits(2).said();
    assert!(said.contains("listen.page_token_file") && said.contains("openssl rand -hex 32"), "{said}");
    let token = world.config.put("page-token", &format!("{TOKEN}\n"));
    world.config.set("listen", &format!("{{ page: '{address}', page_token_file: {} }}", token.display()));
    world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.start_and_wait();
    let paged = Paged { world, address: address.replace("0.0.0.0", "127.0.0.1") };

    for path in ["/", "/api/v1/status", "/api/v1/history", "/api/v1/stacks", "/metrics", "/events", "/style.css"] {
        let refused = paged.get(path);
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.header("www-authenticate").unwrap().starts_with("Basic "), "a browser asks for it");
        assert!(!refused.text().contains(TOKEN));
    }
    for wrong in ["Bearer a token", "Bearer", "Bearer  ", "Basic eDp5", TOKEN] {
        assert_eq!(paged.with("/api/v1/status", "Authorization", wrong).status, 401, "{wrong}");
    }
    let right = format!("Bearer {TOKEN}");
    assert_eq!(paged.with("/api/v1/status", "Authorization", &right).status, 200);
    // The same as a browser sends it: any user name, the token as the password.
    let basic = "Basic eDphIHRva2VuIG9mIG1hbnkgY2hhcmFjdGVycw==";
    assert_eq!(paged.with("/api/v1/status", "Authorization", basic).status, 200);
    assert_eq!(paged.get("/healthz").status, 200);
    wait_until(seconds(20), "it is ready", || match paged.get("/readyz") {
        ready if ready.status == 200 => Ok(()),
        other => Err(other.text()),
    });
    paged.world.config.put("page-token", "another token altogether\n");
    assert_eq!(paged.with("/api/v1/status", "Authorization", &right).status, 401, "a new token counts at once");
    assert!(!paged.world.logged().contains(TOKEN));
}

#[test]
fn ready_means_that_repository_and_engine_answer() {
    let mut paged = Paged::deployed("Begin");
    assert_eq!(paged.get("/readyz").text(), "ready\n");
    paged.world.config.set("engine", "{ socket: 'unix:///nowhere/docker.sock' }");
    paged.world.config.write();
    let said = wait_until(seconds(20), "the engine is missed", || match paged.get("/readyz") {
        lacking if lacking.status == 503 => Ok(lacking.text()),
        other => Err(other.text()),
    });
    assert_eq!(said, "not ready: the engine does not answer\n");
    assert_eq!(paged.get("/healthz").text(), "alive\n");
    let status = paged.get("/api/v1/status").json();
    assert_eq!((&status["engine"]["reachable"], &status["stacks"][0]["health"]), (&false.into(), &"unknown".into()));
}

#[test]
fn a_new_address_counts_without_a_restart_and_a_taken_one_stops_nothing() {
    let mut world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    world.config.set("listen", &format!("{{ page: '{address}' }}"));
    let commit = world.change("Begin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    world.start_and_wait();
    world.wait_sync(&commit, Outcome::Committed);
    assert!(world.logged().contains(&format!("cannot listen for readers of the status page at {address}")));
    drop(taken);
    let answers = |address: &str| match http::get(&format!("http://{address}/healthz")) {
        Ok(answer) if answer.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_until(seconds(20), "the address is tried again", || answers(&address));
    let other = format!("127.0.0.1:{}", port::free());
    world.config.set("listen", &format!("{{ page: '{other}' }}"));
    world.config.write();
    wait_until(seconds(10), "the new address is served", || answers(&other));
    wait_until(seconds(10), "the old one is not", || answers(&address).map_or(Ok(()), |()| Err("it is".to_owned())));
}

#[test]
fn whatever_a_commit_says_stays_text() {
    let hostile = "</title><script>alert(1)</script><img src=x onerror=alert(2)>\"'&";
    let paged = Paged::deployed(hostile);
    let answer = paged.get("/");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let page = answer.text();
    assert_eq!((page.matches("<script").count(), page.matches("<img").count()), (1, 0), "{page}");
    assert!(page.contains("&#60;script&#62;alert(1)"), "the subject is shown: {page}");
    assert!(answer.header("content-security-policy").unwrap().contains("script-src 'self'"));
    for (path, kind) in [
        ("/style.css", "text/css; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let answer = paged.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
    }
}

#[test]
fn the_page_tells_what_failed_and_why_and_what_runs() {
    let paged = Paged::deployed("Begin");
    let world = &paged.world;
    let good = world.status().source.accepted.unwrap();
    let bad = world
        .change("Break it")
        .file(
            &world.path("web", "compose.yml"),
            fixture::sleeper(2).replace("sleep, '100000'", "sh, -c, 'echo broken here; exit 3'"),
        )
        .push();
    world.evenkeel(&["sync"]).exits(5);
    let page = paged.get("/").text();
    for wanted in [
        "Break it",
        "rolled back",
        &bad[..12],
        &good[..12],
        "signed by",
        "gate.",
        "apply started",
        "rollback passed",
        "broken here",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
}

#[test]
fn the_page_shows_which_step_a_deployment_is_at() {
    let paged = Paged::deployed("Begin");
    paged.world.change("Slow").file(&paged.world.path("web", "compose.yml"), fixture::slow(2, 3)).push();
    thread::scope(|scope| {
        let sync = scope.spawn(|| paged.world.evenkeel(&["sync"]));
        wait_until(seconds(30), "the page shows the gate and what it waits for", || {
            let page = paged.get("/").text();
            let is_shown = page.contains("<li class=\"current\" aria-current=\"step\">gate</li>")
                && page.contains("to become healthy</bdi>");
            if is_shown { Ok(()) } else { Err(page) }
        });
        sync.join().expect("the program ran").exits(0);
    });
    assert!(!paged.get("/").text().contains("aria-current"));
}

/// An open stream of events.
struct Events(std::net::TcpStream);

impl Events {
    fn open(paged: &Paged) -> Self {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(&paged.address).unwrap();
        write!(stream, "GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", paged.address).unwrap();
        Self(stream)
    }

    /// Reads until `wanted` came, or the stream ended, or the time is over.
    fn until(&mut self, wanted: &str, limit: std::time::Duration) -> String {
        use std::io::Read as _;
        let (started, mut seen, mut buffer) = (std::time::Instant::now(), String::new(), [0; 4096]);
        self.0.set_read_timeout(Some(seconds(1))).unwrap();
        while !seen.contains(wanted) && started.elapsed() < limit {
            match self.0.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => seen.push_str(&String::from_utf8_lossy(&buffer[..count])),
                Err(_) => {}
            }
        }
        seen
    }
}

#[test]
fn an_open_page_is_told_of_changes_and_does_not_keep_the_agent_from_stopping() {
    let mut paged = Paged::deployed("Begin");
    let mut events = Events::open(&paged);
    let head = events.until("retry:", seconds(10));
    assert!(head.contains("200 OK") && head.contains("text/event-stream"), "{head}");
    paged.world.change("Next").file("README.md", "x\n").push();
    paged.world.evenkeel(&["sync"]).exits(0);
    assert!(events.until("event: changed", seconds(10)).contains("event: changed"));
    let (code, took) = paged.world.take_agent().terminate(seconds(20));
    assert_eq!(code, Some(0));
    assert!(took < seconds(5), "{took:?}");
}

#[test]
fn too_many_open_pages_leave_room_for_answers() {
    let paged = Paged::deployed("Begin");
    let mut open: Vec<Events> = (0..16).map(|_| Events::open(&paged)).collect();
    for events in &mut open {
        assert!(events.until("retry:", seconds(10)).contains("200 OK"));
    }
    let refused = paged.get("/events");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("30")));
    assert_eq!(paged.get("/").status, 200);
    drop(open);
    wait_until(seconds(20), "places are free again", || {
        let answer = Events::open(&paged).until("\r\n", seconds(2));
        if answer.contains("200 OK") { Ok(()) } else { Err(answer) }
    });
}

/// The names of our metrics in a text.
fn metric_names(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c: char| !is_name(c)).filter(|w| w.starts_with("evenkeel_"));
    let parts = ["_bucket", "_sum", "_count"];
    words.map(|w| parts.iter().find_map(|p| w.strip_suffix(p)).unwrap_or(w).to_owned()).collect()
}

#[test]
fn prometheus_takes_the_metrics_the_alerts_and_the_dashboard() {
    let mut world = World::new();
    // Some metrics are for those who have a backup.
    Restic::init(&world.config, &world.folder().join("restic")).configure(&mut world.config);
    let paged = Paged::of(world, "Begin");
    let world = &paged.world;
    world
        .change("Break it")
        .file(&world.path("web", "compose.yml"), fixture::sleeper(2).replace("sleep, '100000'", "'false'"))
        .push();
    world.evenkeel(&["sync"]).exits(5);
    let answer = paged.get("/metrics");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.text();
    let checked = Run::with_input(Command::new("promtool").args(["check", "metrics"]), text.as_bytes());
    assert_eq!((checked.code, checked.said().trim()), (Some(0), ""), "{text}");
    for line in [
        "evenkeel_deployments_total{outcome=\"committed\"} 1",
        "evenkeel_deployments_total{outcome=\"rolled_back\"} 1",
        "evenkeel_syncs_total{outcome=\"halted\"} 0",
        "evenkeel_stacks{state=\"rolled_back\"} 1",
        "evenkeel_quarantined_candidates 1",
        "evenkeel_engine_reachable 1",
        "evenkeel_phase_duration_seconds_count{phase=\"gate\"} 3",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {text}");
    }

    let docs = root().join("docs");
    let read = |name: &str| std::fs::read_to_string(docs.join(name)).unwrap();
    let rules = docs.join("prometheus-alerts.yml");
    Run::of(Command::new("promtool").args(["check", "rules", "--lint-fatal"]).arg(&rules)).exits(0);
    let (told, reference) = (metric_names(&text), read("reference/http.md"));
    assert_eq!(told, metric_names(&reference), "what is told and what the reference lists");
    for name in ["prometheus-alerts.yml", "grafana-dashboard.json"] {
        let unknown: Vec<_> = metric_names(&read(name)).difference(&told).cloned().collect();
        assert_eq!(unknown, Vec::<String>::new(), "{name}");
    }
    let dashboard: serde_json::Value = serde_json::from_str(&read("grafana-dashboard.json")).unwrap();
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 8));
}
