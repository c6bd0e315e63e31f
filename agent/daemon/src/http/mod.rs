//! What the agent serves over HTTP, each on a listener of its own: the forge's webhook, and the status page with API,
//! health and metrics.
//!
//! It enqueues triggers and never calls `sync`. Every connection has bounds: its number, its time, its size.

mod hooks;
mod page;
mod serve;

use std::future::Future;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use hooks::HookState;
pub use page::PageState;

/// Serves `POST /hooks/github` and nothing else, until `shutdown` ends; then requests that run have five seconds.
///
/// Never fails: what goes wrong with a connection or with accepting one is logged.
pub async fn serve_hooks(listener: TcpListener, hook: HookState, shutdown: impl Future<Output = ()>) {
    serve::serve(listener, move |request| hooks::answer(hook.clone(), request), shutdown).await;
}

/// Serves the status page, the API, health and metrics until `close` is cancelled. Nothing there changes anything.
///
/// Never fails, as [`serve_hooks`].
pub async fn serve_page(listener: TcpListener, page: PageState, close: CancellationToken) {
    let shutdown = close.clone().cancelled_owned();
    serve::serve(listener, move |request| page::answer(page.clone(), close.clone(), request), shutdown).await;
}

#[cfg(test)]
mod tests;
