//! The way to an engine: a Unix socket that passes bytes on, and that can be gone for a while.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
};

use super::locked;

/// What the way is like. Each change of the number ends every connection.
type Road = (bool, u64);

/// The way. Dropping it closes it.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    road: Arc<Mutex<Option<watch::Sender<Road>>>>,
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
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime of one thread can be made");
            runtime.block_on(serve(&at, &target, receiver));
            runtime.shutdown_background();
        });
        let socket = Self { path: path.to_path_buf(), road, thread: Some(thread) };
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

async fn serve(at: &Path, target: &Path, mut road: watch::Receiver<Road>) {
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
                    tokio::spawn(pass(stream, target.to_path_buf(), road.clone()));
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

async fn pass(mut outer: UnixStream, target: PathBuf, mut road: watch::Receiver<Road>) {
    let Ok(mut inner) = UnixStream::connect(target).await else { return };
    let own = road.borrow().1;
    tokio::select! {
        // How a connection ends is its ends' business.
        _ = tokio::io::copy_bidirectional(&mut outer, &mut inner) => {}
        _ = road.wait_for(|road| road.1 != own) => {}
    }
}
