//! The way to an engine: a Unix socket that passes bytes on, that can be gone for a while, and that knows what was asked to
//! be changed.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use super::locked;

/// What the way is like. Each change of the number ends every connection.
type Road = (bool, u64);

/// What passed that changes something.
#[derive(Debug, Default)]
struct Traffic {
    changes: Vec<(i64, String)>,
    /// Told when so many have passed.
    wire: Option<(usize, mpsc::Sender<()>)>,
    /// How long everything is held up.
    delay: Duration,
}

/// The way. Dropping it closes it.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    road: Arc<Mutex<Option<watch::Sender<Road>>>>,
    traffic: Arc<Mutex<Traffic>>,
    thread: Option<JoinHandle<()>>,
}

impl Socket {
    /// Lays a way at `path` to the socket of the engine in use.
    #[track_caller]
    pub fn to_engine(path: &Path) -> Self {
        let engine = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        let target = PathBuf::from(engine.strip_prefix("unix://").expect("the engine of the tests has a Unix socket"));
        let (sender, receiver) = watch::channel((true, 0));
        let (at, road) = (path.to_path_buf(), Arc::new(Mutex::new(Some(sender))));
        let traffic = Arc::<Mutex<Traffic>>::default();
        let seen = Arc::clone(&traffic);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime of one thread can be made");
            runtime.block_on(serve(&at, (&target, &seen), receiver));
            runtime.shutdown_background();
        });
        let socket = Self { path: path.to_path_buf(), road, traffic, thread: Some(thread) };
        socket.wait(true);
        socket
    }

    /// As it stands in a configuration.
    pub fn url(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Every connection ends, and nothing listens any more: as if the engine were stopped.
    #[track_caller]
    pub fn cut(&self) {
        self.change(|road| *road = (false, road.1 + 1));
        self.wait(false);
    }

    /// It listens again.
    #[track_caller]
    pub fn restore(&self) {
        self.change(|road| road.0 = true);
        self.wait(true);
    }

    /// Every connection ends, and new ones are taken.
    pub fn hang_up(&self) {
        self.change(|road| road.1 += 1);
    }

    /// Forgets what has passed, and tells when so many requests that change something have passed from now on.
    pub fn wire(&self, count: usize) -> mpsc::Receiver<()> {
        let (sender, receiver) = mpsc::channel();
        *locked(&self.traffic) = Traffic { wire: Some((count, sender)), ..Traffic::default() };
        receiver
    }

    /// The requests that change something, in order, since the last wire: when, in milliseconds since 1970, and what:
    /// `POST containers start`.
    pub fn changes(&self) -> Vec<(i64, String)> {
        locked(&self.traffic).changes.clone()
    }

    /// Each answer takes so much longer from now on.
    pub fn slow_down(&self, by: Duration) {
        locked(&self.traffic).delay = by;
    }

    fn change(&self, how: impl FnOnce(&mut Road)) {
        if let Some(sender) = locked(&self.road).as_ref() {
            sender.send_modify(how);
        }
    }

    #[track_caller]
    fn wait(&self, listens: bool) {
        crate::wait::wait_until(crate::wait::seconds(10), "the socket follows", || {
            if self.path.exists() == listens { Ok(()) } else { Err(format!("listens: {}", !listens)) }
        });
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        locked(&self.road).take();
        if let Some(thread) = self.thread.take() {
            // It has told of a panic already.
            let _ = thread.join();
        }
    }
}

async fn serve(at: &Path, (target, traffic): (&Path, &Arc<Mutex<Traffic>>), mut road: watch::Receiver<Road>) {
    loop {
        if !road.borrow_and_update().0 {
            if road.changed().await.is_err() {
                return;
            }
            continue;
        }
        let listener = UnixListener::bind(at).expect("the world's folder is writable");
        while road.borrow().0 {
            tokio::select! {
                Ok((stream, _)) = listener.accept() => {
                    tokio::spawn(pass(stream, (target.to_path_buf(), Arc::clone(traffic)), road.clone()));
                }
                changed = road.changed() => if changed.is_err() { break },
            }
        }
        drop(listener);
        // Nobody else makes or removes it.
        let _ = std::fs::remove_file(at);
        if road.has_changed().is_err() {
            return;
        }
    }
}

async fn pass(outer: UnixStream, (target, traffic): (PathBuf, Arc<Mutex<Traffic>>), mut road: watch::Receiver<Road>) {
    let Ok(inner) = UnixStream::connect(target).await else { return };
    let own = road.borrow().1;
    let ((mut from_outer, mut to_outer), (mut from_inner, mut to_inner)) = (outer.into_split(), inner.into_split());
    let there = relay(&mut from_outer, &mut to_inner, |request| note(&traffic, request));
    let back = relay(&mut from_inner, &mut to_outer, |_| locked(&traffic).delay);
    tokio::select! {
        // How a connection ends is its ends' business.
        _ = async { tokio::join!(there, back) } => {}
        _ = road.wait_for(|road| road.1 != own) => {}
    }
}

/// Passes on what comes, each part after the pause that `note` asks for, until there is no more.
async fn relay(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, note: impl Fn(&[u8]) -> Duration) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let part = &buffer[..count];
        if to.write_all(part).await.is_err() {
            break;
        }
        let pause = note(part);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    // It may be gone already.
    let _ = to.shutdown().await;
}

/// Notes a request that changes something: nobody sends a second one before the answer to the first, so each begins a part.
fn note(traffic: &Mutex<Traffic>, part: &[u8]) -> Duration {
    let line = part.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(&line[..line.len().min(1024)]).into_owned();
    let mut words = line.split(' ');
    let (Some(method @ ("POST" | "DELETE" | "PUT")), Some(path)) = (words.next(), words.next()) else {
        return Duration::ZERO;
    };
    let path = path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty() && !p.starts_with("v1.")).collect();
    let (what, how) = (parts.first().unwrap_or(&""), parts.last().filter(|_| method == "POST").unwrap_or(&""));
    let mut traffic = locked(traffic);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    traffic.changes.push((now, format!("{method} {what} {how}").trim_end().to_owned()));
    if let Some((count, sender)) = &traffic.wire
        && traffic.changes.len() == *count
    {
        // Nobody may be waiting any more.
        let _ = sender.send(());
    }
    Duration::ZERO
}
