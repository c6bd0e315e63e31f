//! One loop that accepts connections and gives each a bounded life.

use std::{
    convert::Infallible,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http_body_util::combinators::UnsyncBoxBody;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, net::TcpStream, pin, sync::Semaphore, time, time::Instant};
use tokio_util::task::TaskTracker;

/// Connections at once. More wait in the system's queue.
const MAX_CONNECTIONS: usize = 64;

/// How long a client may take for its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection lives, whatever it does. One request each.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// How long requests that run may take after a shutdown began.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait after the system gave no connection, for want of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The body of an answer: whole, or a stream that goes on.
pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Put into an answer's extensions, it lets its connection live longer than others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lifetime(pub Duration);

/// Serves connections with `answer` until `shutdown` ends.
pub(super) async fn serve<A, F>(listener: TcpListener, answer: A, shutdown: impl Future<Output = ()>)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    pin!(shutdown);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let answer = answer.clone();
                connections.spawn(async move {
                    connection(stream, answer).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection, trying again");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if time::timeout(SHUTDOWN_TIMEOUT, connections.wait()).await.is_err() {
        tracing::warn!("some HTTP requests did not end in time and were left behind");
    }
}

async fn connection<A, F>(stream: TcpStream, answer: A)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    let (began, longer) = (Instant::now(), OnceLock::new());
    let service = service_fn(|request| {
        let (response, longer) = (answer(request), &longer);
        async move {
            let response = response.await;
            if let Some(Lifetime(life)) = response.extensions().get() {
                longer.get_or_init(|| *life);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    pin!(connection);
    loop {
        let life = longer.get().copied().unwrap_or(CONNECTION_TIMEOUT);
        match time::timeout_at(began + life, &mut connection).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => return tracing::debug!(%error, "a connection broke off"),
            // Its answer may have asked for longer in the meantime.
            Err(_) if longer.get().is_some_and(|now| *now > life) => {}
            Err(_) => return tracing::debug!("a connection took too long and was closed"),
        }
    }
}
