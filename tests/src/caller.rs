//! A client that calls a service by its name every 20 ms, from inside the network of a container: what a program beside the
//! service would see. It resolves by the engine's own DNS, does not try twice, and may remember what it has resolved, as proxies do.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{docker::Container, http};

/// How often it calls.
const EVERY: Duration = Duration::from_millis(20);
/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where the engine answers for names.
const DNS: &str = "127.0.0.11:53";

/// What came of the calls.
#[derive(Debug, Default, Clone)]
pub struct Calls {
    /// How many got which answer.
    pub answers: BTreeMap<String, usize>,
    /// Why others got none.
    pub failed: Vec<String>,
    /// How long the slowest took.
    pub slowest: Duration,
}

impl Calls {
    /// How many calls there were.
    pub fn count(&self) -> usize {
        self.answers.values().sum::<usize>() + self.failed.len()
    }
}

/// A client at work. Dropping it ends it.
#[derive(Debug)]
pub struct Caller {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Calls>>,
}

impl Caller {
    /// Calls `GET path` of port 80 of the service `name` from where `container` is. What it resolves it remembers for so long.
    #[track_caller]
    pub fn start(container: &Container, name: &'static str, path: &'static str, remembers: Duration) -> Self {
        let network =
            File::open(format!("/proc/{}/ns/net", container.pid())).expect("the container runs, and we are root");
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let thread = thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).expect("we are root");
            let mut calls = Calls::default();
            let mut known: Option<(Instant, Vec<Ipv4Addr>)> = None;
            while !is_over.load(Ordering::Relaxed) {
                let began = Instant::now();
                let addresses = match known.take() {
                    Some((at, addresses)) if at.elapsed() < remembers => Ok((at, addresses)),
                    _ => resolve(name).map(|addresses| (began, addresses)),
                };
                let answer = addresses.and_then(|(at, addresses)| {
                    let address = addresses[calls.count() % addresses.len()];
                    known = Some((at, addresses));
                    call(address, path).map_err(|e| io::Error::other(format!("{address}: {e}")))
                });
                match answer {
                    Ok(text) => *calls.answers.entry(text).or_default() += 1,
                    Err(error) => {
                        calls.failed.push(format!("{} after {:?}: {error}", Timestamp::now(), began.elapsed()));
                    }
                }
                calls.slowest = calls.slowest.max(began.elapsed());
                thread::sleep(EVERY.saturating_sub(began.elapsed()));
            }
            calls
        });
        Self { over, thread: Some(thread) }
    }

    /// Ends it; gives what came of the calls.
    #[track_caller]
    pub fn end(mut self) -> Calls {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().expect("it was started").join().expect("it does not panic")
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn call(address: Ipv4Addr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, 80)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    let answer = http::parse(&raw)?;
    if answer.status == 200 {
        Ok(answer.text().trim().to_owned())
    } else {
        Err(io::Error::other(answer.status.to_string()))
    }
}

/// The addresses of a name, in the order of the answer.
fn resolve(name: &str) -> io::Result<Vec<Ipv4Addr>> {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    question.push(u8::try_from(name.len()).map_err(io::Error::other)?);
    question.extend(name.as_bytes());
    question.extend([0, 0, 1, 0, 1]); // the end of the name; an address, on the Internet
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(&question, DNS)?;
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer)?;
    let found = addresses(&answer[..length], question.len());
    found.filter(|found| !found.is_empty()).ok_or_else(|| io::Error::other(format!("{name} has no address")))
}

/// The addresses in an answer to a question of that length.
fn addresses(answer: &[u8], question: usize) -> Option<Vec<Ipv4Addr>> {
    let count = u16::from_be_bytes([*answer.get(6)?, *answer.get(7)?]);
    let mut rest = answer.get(question..)?;
    let mut found = Vec::new();
    for _ in 0..count {
        // A name is a reference of two bytes, or labels up to an empty one.
        let name = if rest.first()? & 0xc0 == 0xc0 { 2 } else { rest.iter().position(|b| *b == 0)? + 1 };
        let (kind, length) = (rest.get(name + 1)?, usize::from(*rest.get(name + 9)?));
        let data = rest.get(name + 10..name + 10 + length)?;
        if let (1, Ok(address)) = (*kind, <[u8; 4]>::try_from(data)) {
            found.push(address.into());
        }
        rest = rest.get(name + 10 + length..)?;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_addresses_whose_name_is_written_out_and_whose_name_is_a_reference() {
        let head = [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0];
        let question = [3, b'a', b'p', b'p', 0, 0, 1, 0, 1];
        let written = [3, b'a', b'p', b'p', 0, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 172, 19, 0, 2];
        let reference = [0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 172, 19, 0, 4];
        let answer = [&head[..], &question, &written, &reference].concat();
        let expected = [Ipv4Addr::new(172, 19, 0, 2), Ipv4Addr::new(172, 19, 0, 4)];
        assert_eq!(addresses(&answer, head.len() + question.len()), Some(expected.to_vec()));
        assert_eq!(addresses(&answer[..30], head.len() + question.len()), None);
    }
}
