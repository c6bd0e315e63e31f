//! Probes at work: rounds of questions to a release's containers, asked beside the gate's looks so that they hold up none.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use evenkeel_core::{
    health::{Activity, ContainerSample, Health},
    model::Model,
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

use super::{masked::shown, script::Script};
use crate::{
    engine::{Engine, Executed},
    host::Host,
};

/// How long between the end of a round and the beginning of the next.
const PAUSE: Duration = Duration::from_secs(1);
/// Most characters that are shown of what a probe said.
const MAX_SAID: usize = 200;
/// Most characters that are shown of a probe.
const MAX_PROBE: usize = 80;
/// Said of a command that does not end and that the agent cannot end.
const STILL: &str = "; it is still at work and cannot be ended from here, so it is not asked again until it has ended";

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
    /// Whether there was something to ask at the last look.
    has_asks: bool,
    /// When the last round began.
    began: Option<Instant>,
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
            script_said: script.as_ref().map(|script| format!("{} to end", script.name())),
            script,
            asker: Asker {
                engine: host.engine.clone(),
                model: release.model.clone(),
                secret_env: release.secret_env.clone(),
                is_apart: host.own.as_ref().is_some_and(|own| !own.has_hosts_network),
                hanging: Arc::default(),
            },
            under_way: None,
            has_asks: false,
            began: None,
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
        self.has_asks = !due.is_empty() || self.script.is_some();
        let now = Instant::now();
        if self.has_asks && self.under_way.is_none() && now >= self.next {
            self.began = Some(now);
            let (asker, script) = (self.asker.clone(), self.script.clone());
            self.under_way = Some(async move { asker.round(due, script).await }.boxed());
        }
    }

    /// Whether what is known is from a round that began at `since` or later and has ended; if not, such a round comes next.
    pub fn has_asked_since(&mut self, since: Instant) -> bool {
        if self.under_way.is_some() {
            return false;
        }
        let is_known = !self.has_asks || self.began.is_some_and(|began| began >= since);
        if !is_known {
            self.next = Instant::now();
        }
        is_known
    }

    /// Whether a round is under way.
    pub fn is_asking(&self) -> bool {
        self.under_way.is_some()
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
    /// Whether the agent is in a container that has a network of its own.
    is_apart: bool,
    hanging: Arc<Mutex<Hanging>>,
}

/// Commands that took too long and are still at work, by container and command.
type Hanging = BTreeMap<(String, Vec<String>), String>;

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
            Some(format!("{}, which says: {}", script.name(), self.shown(&said)))
        };
        let (asked, script) = tokio::join!(join_all(asked), script);
        Round { containers: asked.into_iter().collect(), script }
    }

    async fn complaint(&self, container: &str, probe: &Probe) -> Option<String> {
        let limit = probe.timeout;
        let asked = match &probe.ask {
            Ask::Http { port, path, status } => within(limit, self.get(container, *port, path, *status)).await,
            Ask::Tcp { port } => within(limit, self.connect(container, *port)).await.map(drop),
            Ask::Command(words) => self.command(container, words, limit).await,
        };
        let why = self.shown(&asked.err()?);
        let probe = shown(&self.model, &self.secret_env, &probe.to_string(), MAX_PROBE);
        Some(format!("whose probe {probe} says: {why}"))
    }

    async fn get(&self, container: &str, port: u16, path: &str, status: Option<u16>) -> Result<(), String> {
        let stream = self.connect(container, port).await?;
        match (get(stream, path).await?, status) {
            (found, Some(wanted)) if found != wanted => Err(format!("status {found}, not {wanted}")),
            (found, None) if !(200..400).contains(&found) => Err(format!("status {found}")),
            _ => Ok(()),
        }
    }

    /// Asks with a command, unless the last one is still at work: they would pile up in the container.
    async fn command(&self, container: &str, words: &[String], limit: Duration) -> Result<(), String> {
        let key = (container.to_owned(), words.to_vec());
        let known = self.hanging().get(&key).cloned();
        if let Some(exec) = known {
            if self.engine.is_at_work(&exec).await.map_err(|e| e.to_string())? {
                return Err(no_answer(limit) + STILL);
            }
            self.hanging().remove(&key);
        }
        let asked = self.engine.execute(container, words, limit).await.map_err(|e| e.to_string())?;
        let exec = match asked {
            Executed::Ended(Some(0), _) => return Ok(()),
            Executed::Ended(code, printed) => return Err(ended(code, &printed)),
            Executed::Overdue(exec) => exec,
        };
        let Some(exec) = exec else { return Err(no_answer(limit)) };
        if let Ok(true) = self.engine.end(&exec).await {
            return Err(no_answer(limit) + ", and was ended");
        }
        self.hanging().insert(key, exec);
        Err(no_answer(limit) + STILL)
    }

    fn hanging(&self) -> MutexGuard<'_, Hanging> {
        self.hanging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, container: &str, port: u16) -> Result<TcpStream, String> {
        let address = self.engine.address(container).await.map_err(|e| e.to_string())?;
        let address = reachable(address, self.is_apart)?;
        TcpStream::connect((address, port)).await.map_err(|e| e.to_string())
    }

    fn shown(&self, said: &str) -> String {
        shown(&self.model, &self.secret_env, said, MAX_SAID)
    }
}

async fn within<T>(limit: Duration, asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    timeout(limit, asked).await.unwrap_or_else(|_| Err(no_answer(limit)))
}

fn no_answer(within: Duration) -> String {
    format!("no answer within {within:?}")
}

/// Where a container is asked. An agent in a container with a network of its own would ask itself at the host's loopback.
fn reachable(address: Option<IpAddr>, is_apart: bool) -> Result<IpAddr, &'static str> {
    match address {
        None => Err("the container is on no network; use a `command` probe"),
        Some(address) if is_apart && address.is_loopback() => {
            Err("cannot be reached from the agent's container; use a `command` probe")
        }
        Some(address) => Ok(address),
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
pub(super) fn ended(code: Option<i64>, printed: &str) -> String {
    let end = code.map_or_else(|| "killed".to_owned(), |code| format!("exit code {code}"));
    match printed.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => format!("{line} ({end})"),
        None => end,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_agent_with_a_network_of_its_own_never_asks_itself() {
        let (loopback, other) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from([172, 17, 0, 2]));
        assert_eq!(reachable(Some(loopback), false), Ok(loopback));
        assert_eq!(reachable(Some(other), true), Ok(other));
        assert!(reachable(Some(loopback), true).unwrap_err().contains("the agent's container"));
        assert!(reachable(None, false).unwrap_err().contains("on no network"));
    }

    #[test]
    fn of_a_command_that_fails_the_last_line_is_told() {
        assert_eq!(ended(Some(2), "a\nno table\n\n"), "no table (exit code 2)");
        assert_eq!(ended(Some(1), " \n"), "exit code 1");
        assert_eq!(ended(None, ""), "killed");
    }
}
