//! Probes at work: rounds of questions to a release's containers, asked beside the gate's looks so that they hold up none.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use evenkeel_core::{
    health::{Activity, ContainerSample, Health},
    model::Model,
    path::below,
    probe::{Ask, Probe, probes},
    release::{Release, SecretEnv},
};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use http_body_util::Empty;
use hyper::{Method, Request, body::Bytes, header};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::gate::without_values;
use crate::{
    compose::Compose,
    engine::Engine,
    host::{Host, write_private},
    process::Invocation,
};

/// How long between the end of a round and the beginning of the next.
const PAUSE: Duration = Duration::from_secs(1);
/// How long the stack's own script may take.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(60);
/// Most characters that are shown of what a probe said.
const MAX_SAID: usize = 200;

/// What came of a round: the complaint about each container that was asked, and that of the script.
struct Round {
    containers: BTreeMap<String, Option<String>>,
    script: Option<String>,
}

/// Asks the probes of a release again and again.
pub struct Prober {
    asks: BTreeMap<String, Vec<Probe>>,
    script: Option<Script>,
    asker: Asker,
    under_way: Option<BoxFuture<'static, Round>>,
    next: Instant,
    known: BTreeMap<String, Option<String>>,
    script_said: Option<String>,
}

impl Prober {
    /// A prober that has asked nothing yet. `with_script`: whether the stack's own script counts.
    pub fn new(host: &Host, release: &Release, with_script: bool) -> Self {
        let asks = release.model.services().into_iter().map(|(name, service)| (name.to_owned(), probes(service)));
        let script = Script::of(host, release).filter(|_| with_script);
        Self {
            asks: asks.filter(|(_, probes)| !probes.is_empty()).collect(),
            script_said: script.as_ref().map(|script| format!("{} to end", script.shown)),
            script,
            asker: Asker {
                engine: host.engine.clone(),
                model: release.model.clone(),
                secret_env: release.secret_env.clone(),
            },
            under_way: None,
            next: Instant::now(),
            known: BTreeMap::new(),
        }
    }

    /// Adds what is known of the containers, and begins a round if it is time for one.
    pub fn look(&mut self, samples: &mut [ContainerSample]) {
        let mut due = Vec::new();
        for sample in samples {
            let Some(probes) = self.asks.get(&sample.service) else { continue };
            let can_answer =
                sample.activity == Activity::Running && matches!(sample.health, Health::Healthy | Health::None);
            if can_answer {
                let known = self.known.get(&sample.id).cloned();
                sample.probe = known.unwrap_or_else(|| Some("whose probes have not answered yet".to_owned()));
                due.push((sample.id.clone(), probes.clone()));
            }
        }
        let is_time = self.under_way.is_none() && Instant::now() >= self.next;
        if is_time && (!due.is_empty() || self.script.is_some()) {
            let (asker, script) = (self.asker.clone(), self.script.clone());
            self.under_way = Some(async move { asker.round(due, script).await }.boxed());
        }
    }

    /// What the script has against it.
    pub fn script_said(&self) -> Option<String> {
        self.script_said.clone()
    }

    /// Ends with the round that is under way. Never ends if none is.
    pub async fn answered(&mut self) {
        let Some(under_way) = self.under_way.as_mut() else { return std::future::pending().await };
        let round = under_way.await;
        self.under_way = None;
        self.next = Instant::now() + PAUSE;
        self.known = round.containers;
        self.script_said = round.script;
    }
}

/// What a round needs, all its own.
#[derive(Clone)]
struct Asker {
    engine: Engine,
    model: Model,
    secret_env: SecretEnv,
}

impl Asker {
    async fn round(self, due: Vec<(String, Vec<Probe>)>, script: Option<Script>) -> Round {
        let asked = due.into_iter().map(|(container, probes)| {
            let asker = &self;
            async move {
                let mut complaint = None;
                for probe in &probes {
                    complaint = asker.complaint(&container, probe).await;
                    if complaint.is_some() {
                        break;
                    }
                }
                (container, complaint)
            }
        });
        let script = async {
            let script = script?;
            let said = script.run().await.err()?;
            Some(format!("{}, which says: {}", script.shown, self.shown(&said)))
        };
        let (asked, script) = tokio::join!(join_all(asked), script);
        Round { containers: asked.into_iter().collect(), script }
    }

    async fn complaint(&self, container: &str, probe: &Probe) -> Option<String> {
        let why = match timeout(probe.timeout, self.ask(container, &probe.ask)).await {
            Ok(Ok(())) => return None,
            Ok(Err(why)) => self.shown(&why),
            Err(_) => format!("no answer within {:?}", probe.timeout),
        };
        let probe = without_values(&self.model, &self.secret_env, &probe.to_string());
        Some(format!("whose probe {probe} says: {why}"))
    }

    async fn ask(&self, container: &str, ask: &Ask) -> Result<(), String> {
        match ask {
            Ask::Http { port, path, status } => {
                let stream = self.connect(container, *port).await?;
                match (get(stream, path).await?, *status) {
                    (found, Some(wanted)) if found != wanted => Err(format!("status {found}, not {wanted}")),
                    (found, None) if !(200..400).contains(&found) => Err(format!("status {found}")),
                    _ => Ok(()),
                }
            }
            Ask::Tcp { port } => self.connect(container, *port).await.map(drop),
            Ask::Command(words) => {
                let done = self.engine.execute(container, words).await.map_err(|e| e.to_string())?;
                match done {
                    (Some(0), _) => Ok(()),
                    (code, printed) => Err(ended(code, &printed)),
                }
            }
        }
    }

    async fn connect(&self, container: &str, port: u16) -> Result<TcpStream, String> {
        let address = self.engine.address(container).await.map_err(|e| e.to_string())?;
        let address = address.ok_or("the container is on no network; use a `command` probe")?;
        TcpStream::connect((address, port)).await.map_err(|e| e.to_string())
    }

    /// One line without control characters and without values that may be secret.
    fn shown(&self, said: &str) -> String {
        let said = without_values(&self.model, &self.secret_env, said);
        said.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
    }
}

/// A GET of the path; gives the status.
async fn get(stream: TcpStream, path: &str) -> Result<u16, String> {
    let broken = |e: hyper::Error| format!("no HTTP answer: {e}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::builder().method(Method::GET).uri(path).header(header::HOST, "localhost");
    let request = request.header(header::USER_AGENT, "evenkeel").body(Empty::<Bytes>::new());
    let request = request.map_err(|e| e.to_string())?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answered = tokio::select! {
        answered = &mut answer => answered,
        ended = connection => match ended {
            // An answer without a body is whole when the connection ends.
            Ok(()) => answer.await,
            Err(error) => Err(error),
        },
    };
    Ok(answered.map_err(broken)?.status().as_u16())
}

/// How something ended, with the last line that it printed.
fn ended(code: Option<i64>, printed: &str) -> String {
    let end = code.map_or_else(|| "killed".to_owned(), |code| format!("exit code {code}"));
    match printed.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => format!("{line} ({end})"),
        None => end,
    }
}

/// The stack's own health-check script, as the release has it.
#[derive(Clone)]
struct Script {
    shown: String,
    live: PathBuf,
    copy: PathBuf,
    content: Option<Vec<u8>>,
    invocation: Invocation,
    compose: Compose,
}

impl Script {
    fn of(host: &Host, release: &Release) -> Option<Self> {
        let live = PathBuf::from(release.model.health_check()?);
        let root = host.live.root().display().to_string();
        let path = below(&root, &live.display().to_string())?.to_owned();
        let content = release.files.get(&path).and_then(|record| host.store.blob(&record.digest).ok()?);
        let mut invocation =
            host.compose.invocation(Vec::new(), &host.live_directory(&release.directory), SCRIPT_TIMEOUT);
        invocation.env.extend([
            ("COMPOSE_PROJECT_NAME".to_owned(), release.project.clone()),
            ("EVENKEEL_STACK".to_owned(), release.stack.to_string()),
        ]);
        Some(Self {
            shown: format!("the script {path}"),
            live,
            copy: host.settings.paths.state.join("scripts").join(release.stack.as_str()),
            content,
            invocation,
            compose: host.compose.clone(),
        })
    }

    /// Runs what the release has, never what somebody made of it on the server.
    async fn run(&self) -> Result<(), String> {
        let content = self.content.as_ref().ok_or("the store has not its content; deploy the stack again")?;
        // In its place it finds what lies beside it.
        let file = if std::fs::read(&self.live).is_ok_and(|live| live == *content) {
            &self.live
        } else {
            write_private(&self.copy, content).map_err(|reason| reason.message)?;
            &self.copy
        };
        let (program, mut args) = interpreter(content);
        args.push(file.display().to_string());
        let invocation = Invocation { program, args, ..self.invocation.clone() };
        let done = self.compose.run(&invocation, None).await.map_err(|e| e.to_string())?;
        if done.success() {
            return Ok(());
        }
        let printed = [done.stdout, done.stderr].concat();
        Err(ended(done.code.map(i64::from), &String::from_utf8_lossy(&printed)))
    }
}

/// What the first line of a script says runs it: a file system may forbid to execute what lies on it.
fn interpreter(script: &[u8]) -> (PathBuf, Vec<String>) {
    let first = script.split(|b| *b == b'\n').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    let named = first.strip_prefix("#!").map(str::trim).filter(|line| line.starts_with('/'));
    let Some((program, rest)) = named.map(|line| line.split_once(char::is_whitespace).unwrap_or((line, ""))) else {
        return ("/bin/sh".into(), Vec::new());
    };
    let rest = rest.trim();
    (program.into(), if rest.is_empty() { Vec::new() } else { vec![rest.to_owned()] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_run_by_what_its_first_line_says() {
        for (script, program, args) in [
            ("#!/bin/bash\ntrue", "/bin/bash", vec![]),
            ("#!/usr/bin/env bash\n", "/usr/bin/env", vec!["bash"]),
            ("#! /bin/sh -eu\n", "/bin/sh", vec!["-eu"]),
            ("true\n", "/bin/sh", vec![]),
            ("#!bash\n", "/bin/sh", vec![]),
            ("", "/bin/sh", vec![]),
        ] {
            let found = interpreter(script.as_bytes());
            assert_eq!(found, (program.into(), args.into_iter().map(str::to_owned).collect()), "{script:?}");
        }
    }

    #[test]
    fn of_a_command_that_fails_the_last_line_is_told() {
        assert_eq!(ended(Some(2), "a\nno table\n\n"), "no table (exit code 2)");
        assert_eq!(ended(Some(1), " \n"), "exit code 1");
        assert_eq!(ended(None, ""), "killed");
    }
}
