//! What the agent serves over HTTP: for now, the forge's webhook on a listener of its own.
//!
//! It enqueues triggers and never calls `sync`. Every connection has bounds: its number, its time, its size.

mod hooks;
mod serve;

use std::future::Future;

use tokio::net::TcpListener;

pub use hooks::HookState;

/// Serves `POST /hooks/github` and nothing else, until `shutdown` ends; then requests that run have five seconds.
///
/// Never fails: what goes wrong with a connection or with accepting one is logged.
pub async fn serve_hooks(listener: TcpListener, hook: HookState, shutdown: impl Future<Output = ()>) {
    serve::serve(listener, move |request| hooks::answer(hook.clone(), request), shutdown).await;
}

#[cfg(test)]
mod tests;
