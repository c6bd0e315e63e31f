//! From the document to [`Settings`], block by block. Defaults and limits stand here, beside the keys they belong to.

use std::{path::Path, time::Duration};

use evenkeel_layout::{
    drift::{MODES, Mode},
    name::ServerName,
    window::{Span, Window},
};
use tracing::Level;

use super::{
    section::{Found, Read, Recorded, Section},
    settings::{Backup, Drift, Engine, Gate, Hooks, Keep, Listen, Log, LogFormat, Page, Paths, Secrets, Settings},
    sinks, source, trust, value,
};

/// Where the agent listens unless the configuration says otherwise.
pub(super) const DEFAULT_SOCKET: &str = "/run/evenkeel/agent.sock";
pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

/// Reads the whole file. `host` is the host's name.
pub(super) fn settings(root: Found<'_, '_>, host: &str) -> Read<Settings> {
    let root = root.section()?;
    let server = server(&root, host);
    let server_is_host = root.find("server").is_none();
    let observe = root.flag("observe", false);
    let source = source::source(root.section("source"));
    let interval = source.as_ref().map_or(Duration::ZERO, |source| source.interval);
    let trust = trust::trust(root.section("trust"), interval);
    let layout = root.find("layout").map_or(Ok(None), |found| found.layout());
    let paths = paths(root.section("paths"));
    let secrets = secrets(root.section("secrets"));
    let engine = engine(root.section("engine"));
    let gate = gate(root.section("gate"));
    let drift = drift(root.section("drift"));
    let window = root.find("window").map(|found| window(&found)).transpose();
    let prune = root.section("prune");
    let prune_max = prune.count("max", 1, (0, 1000));
    prune.finish();
    let releases = root.section("releases");
    let releases_keep = releases.count("keep", 5, (1, 1000));
    releases.finish();
    let backup = optional(root.find("backup"), backup);
    let reports = root.find("reports").map_or_else(|| Ok(Vec::new()), |list| sinks::sinks(&list));
    let listen = listen(root.section("listen"));
    let log = log(root.section("log"));
    root.finish();
    Ok(Settings {
        server: server?,
        server_is_host,
        observe: observe?,
        source: source?,
        trust: trust?,
        layout: layout?,
        paths: paths?,
        secrets: secrets?,
        engine: engine?,
        gate: gate?,
        drift: drift?,
        window: window?,
        prune_max: prune_max?,
        releases_keep: releases_keep?,
        backup: backup?,
        reports: reports?,
        listen: listen?,
        log: log?,
    })
}

/// One span, or a list of spans.
fn window(found: &Found<'_, '_>) -> Read<Window> {
    let help = "write days, times and a zone: Mon-Fri 02:00-05:00 Europe/Berlin, or a list of such";
    let span = |found: &Found<'_, '_>| {
        let span: Span = found.parsed(str::parse, help)?;
        value::time_zone(&span).map_or_else(|message| found.wrong(message, help), |_| Ok(span))
    };
    if found.is_list() {
        // Each wrong span is told, not the first alone.
        let spans: Vec<Read<Span>> = found.items()?.iter().map(span).collect();
        let spans = spans.into_iter().collect::<Read<Vec<Span>>>()?;
        return Window::new(spans).map_or_else(|| found.wrong("has no span, or too many", help), Ok);
    }
    let spans = vec![span(found)?];
    Window::new(spans).map_or_else(|| found.wrong("has no span", help), Ok)
}

pub(super) fn optional<'d, 'r, T>(
    found: Option<Found<'d, 'r>>,
    read: impl FnOnce(Section<'d, 'r>) -> Read<T>,
) -> Read<Option<T>> {
    found.map(|found| read(found.section()?)).transpose()
}

fn server(root: &Section<'_, '_>, host: &str) -> Read<ServerName> {
    if let Some(found) = root.find("server") {
        return found.parsed(ServerName::new, "write the name that the repository has for this server");
    }
    ServerName::new(host).map_err(|_| {
        let message = "is absent, and the host's own name cannot be a server's name";
        root.wrong("server", message, "add `server:` with the name that the repository has for this server");
        Recorded
    })
}

/// The text of a checked URL.
pub(super) fn url_of(found: &Found<'_, '_>, schemes: &[&str]) -> Read<String> {
    let text = found.text()?;
    match value::checked_url(text, schemes) {
        Ok(_) => Ok(text.to_owned()),
        Err((message, help)) => found.wrong(message, help),
    }
}

fn paths(paths: Section<'_, '_>) -> Read<Paths> {
    let state = paths.path("state", "/var/lib/evenkeel");
    let live = paths.path("live", "/srv/evenkeel");
    let env = paths.path("env", "/etc/evenkeel/env");
    let socket = paths.path("socket", DEFAULT_SOCKET);
    if let (Ok(state), Ok(live), Ok(env), Ok(socket)) = (&state, &live, &env, &socket) {
        // Whatever stands in the live tree may be overwritten by a commit, and mounted into a container.
        for (key, path) in [("state", state), ("env", env), ("socket", socket)] {
            if path.starts_with(live) {
                paths.wrong(key, "is inside the live tree, where a commit could overwrite it", "choose another place");
            }
        }
        if live != state && live.starts_with(state) {
            paths.wrong("live", "is inside the agent's own state", "choose another place");
        }
    }
    paths.finish();
    Ok(Paths { state: state?, live: live?, env: env?, socket: socket? })
}

fn secrets(secrets: Section<'_, '_>) -> Read<Secrets> {
    let age_identities = secrets.secret_file("age_identities");
    secrets.finish();
    Ok(Secrets { age_identities: age_identities? })
}

fn engine(engine: Section<'_, '_>) -> Read<Engine> {
    let socket = engine.text("socket", "unix:///var/run/docker.sock");
    let is_socket =
        |text: &str| text.strip_prefix("unix://").is_some_and(|path| value::is_plain_absolute(Path::new(path)));
    if socket.as_deref().is_ok_and(|text| !is_socket(text)) {
        engine.wrong(
            "socket",
            "must be a Unix socket's URL",
            "write unix:///var/run/docker.sock or your engine's socket",
        );
    }
    let parallel = engine.count("parallel", 2, (1, 64));
    let registry_auth = engine.file("registry_auth");
    let create_networks = engine.flag("create_networks", true);
    let allow_host_paths = engine.paths("allow_host_paths");
    engine.finish();
    Ok(Engine {
        allow_host_paths: allow_host_paths?,
        socket: socket?,
        parallel: parallel?,
        registry_auth: registry_auth?,
        create_networks: create_networks?,
    })
}

fn gate(gate: Section<'_, '_>) -> Read<Gate> {
    let min = gate.duration("min_healthy_time", 10 * SECOND, (100 * MILLISECOND, HOUR));
    let healthy = gate.duration("healthy_deadline", 5 * MINUTE, (SECOND, 12 * HOUR));
    let progress = gate.duration("progress_deadline", 10 * MINUTE, (SECOND, DAY));
    let help = "keep min_healthy_time < healthy_deadline < progress_deadline (10s, 5m, 10m unless set)";
    if let (Ok(min), Ok(healthy), Ok(progress)) = (min, healthy, progress) {
        if min >= healthy {
            gate.wrong("min_healthy_time", "is not shorter than healthy_deadline: the gate could never pass", help);
        }
        if healthy >= progress {
            gate.wrong("healthy_deadline", "is not shorter than progress_deadline: it could never be reached", help);
        }
    }
    gate.finish();
    Ok(Gate { min_healthy_time: min?, healthy_deadline: healthy?, progress_deadline: progress? })
}

fn drift(drift: Section<'_, '_>) -> Read<Drift> {
    let mode = drift.find("mode").map_or(Ok(Mode::Heal), |found| found.choice(&MODES));
    let interval = drift.duration("interval", HOUR, (SECOND, 7 * DAY));
    drift.finish();
    Ok(Drift { mode: mode?, interval: interval? })
}

fn backup(backup: Section<'_, '_>) -> Read<Backup> {
    let repository = backup
        .require("repository", "write where backups go, as restic takes it: a path, sftp:…, rest:…, s3:…")
        .and_then(|found| found.text())
        .map(str::to_owned);
    if repository.as_deref().is_ok_and(has_password) {
        let help = "take it out and set RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD in a file named by `env_file`";
        backup.wrong("repository", "has a password in it, which would end up in logs and process lists", help);
    }
    let password_file = backup.required_secret("password_file", "name the file that holds the repository's password");
    let env_file = backup.secret_file("env_file");
    let required = backup.flag("required", true);
    let keep = optional(backup.find("keep"), keep);
    backup.finish();
    Ok(Backup {
        repository: repository?,
        password_file: password_file?,
        env_file: env_file?,
        required: required?,
        keep: keep?,
    })
}

fn keep(keep: Section<'_, '_>) -> Read<Keep> {
    let (last, daily, monthly) =
        (keep.count("last", 0, (0, 1000)), keep.count("daily", 0, (0, 1000)), keep.count("monthly", 0, (0, 1000)));
    if let (Ok(0), Ok(0), Ok(0)) = (&last, &daily, &monthly) {
        keep.wrong_here("keeps nothing", "write how many snapshots stay: { last: 10, daily: 30, monthly: 12 }");
    }
    keep.finish();
    Ok(Keep { last: last?, daily: daily?, monthly: monthly? })
}

/// Whether a restic repository such as `rest:https://user:pass@host/` tells a password.
fn has_password(repository: &str) -> bool {
    let url = repository.strip_prefix("rest:").unwrap_or(repository);
    reqwest::Url::parse(url).is_ok_and(|url| url.password().is_some())
}

fn listen(listen: Section<'_, '_>) -> Read<Listen> {
    let hooks = hooks(&listen);
    let page = page(&listen);
    if let (Ok(Some(hooks)), Ok(Some(page))) = (&hooks, &page)
        && hooks.address == page.address
    {
        listen.wrong(
            "page",
            "is the address of `hooks`, which serves webhooks and nothing else",
            "choose another port",
        );
    }
    listen.finish();
    Ok(Listen { hooks: hooks?, page: page? })
}

fn hooks(listen: &Section<'_, '_>) -> Read<Option<Hooks>> {
    let help = "write an address and a port: 0.0.0.0:8421 or [::]:8421";
    let address = listen.find("hooks").map(|found| found.parsed(str::parse, help)).transpose();
    let secret = if let Ok(Some(_)) = address {
        listen.required_secret("hook_secret_file", "name the file that holds the secret you gave the forge").map(Some)
    } else {
        listen.secret_file("hook_secret_file")
    };
    Ok(address?.zip(secret?).map(|(address, secret_file)| Hooks { address, secret_file }))
}

fn page(listen: &Section<'_, '_>) -> Read<Option<Page>> {
    let help = "write an address and a port, such as 127.0.0.1:8420";
    let address = listen.find("page").map(|found| found.parsed(str::parse::<std::net::SocketAddr>, help)).transpose();
    let token_file = match &address {
        Ok(Some(address)) if !address.ip().to_canonical().is_loopback() => {
            let help = "others can reach the page's address: make a token with `openssl rand -hex 32`, and name the file \
                        that holds it; or listen at 127.0.0.1";
            listen.required_secret("page_token_file", help).map(Some)
        }
        _ => listen.secret_file("page_token_file"),
    };
    let (address, token_file) = (address?, token_file?);
    Ok(address.map(|address| Page { address, token_file }))
}

fn log(log: Section<'_, '_>) -> Read<Log> {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let format = log.find("format").map_or(Ok(LogFormat::Text), |found| found.choice(&formats));
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let level = log.find("level").map_or(Ok(Level::INFO), |found| found.choice(&levels));
    log.finish();
    Ok(Log { format: format?, level: level? })
}
