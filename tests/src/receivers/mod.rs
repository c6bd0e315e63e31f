//! Receivers of what the agent says, servers of what it reads, and the ways to them: on the loopback address.

pub mod discord;
pub mod forge;
pub mod git_http;
pub mod ntfy;
pub mod proxy;
pub mod registry;
pub mod socket;
pub mod sshd;
pub mod webhook;
pub mod wire;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Mutex, MutexGuard},
    thread::{self, JoinHandle},
};

use axum::Router;
use tokio::sync::oneshot;

use crate::port;

/// A server on a thread of its own. Dropping it closes it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `router` on a free port.
    #[track_caller]
    pub fn start(router: Router) -> Self {
        Self::serving(port::listener(), router)
    }

    /// Serves `router` on this port.
    #[track_caller]
    pub fn start_on(port: u16, router: Router) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = std::net::TcpListener::bind(address);
        Self::serving(listener.unwrap_or_else(|e| panic!("cannot listen on {address}: {e}")), router)
    }

    #[track_caller]
    fn serving(listener: std::net::TcpListener, router: Router) -> Self {
        Self::run_on(listener, async |listener| {
            axum::serve(listener, router).await.expect("axum serves until it is dropped");
        })
    }

    /// Does what `work` says with a free port, until it is dropped.
    #[track_caller]
    pub fn run<F: Future<Output = ()>>(work: impl FnOnce(tokio::net::TcpListener) -> F + Send + 'static) -> Self {
        Self::run_on(port::listener(), work)
    }

    #[track_caller]
    fn run_on<F: Future<Output = ()>>(
        listener: std::net::TcpListener,
        work: impl FnOnce(tokio::net::TcpListener) -> F + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        listener.set_nonblocking(true).expect("a listener can be made non-blocking");
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime of one thread can be made");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("the listener is non-blocking");
                // Not graceful: an open connection must not keep a test from ending.
                tokio::select! {
                    () = work(listener) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// Its port at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `http://127.0.0.1:port` and `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It has ended already if this fails.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Locks what a server's thread shares with the test, also after that thread panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
