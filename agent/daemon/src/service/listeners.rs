//! The listeners for HTTP: opened as the configuration says, and opened anew when that changes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{net::TcpListener, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Order, Service, ServiceError};
use crate::{
    config::settings::Listen,
    http::{HookState, PageState, serve_hooks, serve_page},
    run::SyncEnd,
    trigger::Waker,
};

/// How long to wait before an address that could not be had is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// One kind of listener.
struct Kind {
    /// What it is for, as it is logged.
    purpose: &'static str,
    /// Where the configuration wants it.
    wanted: fn(&Listen) -> Option<SocketAddr>,
    /// Serves until the token is cancelled.
    serve: Serve,
}

type Serve = Box<dyn Fn(TcpListener, CancellationToken) -> BoxFuture<'static, ()> + Send + Sync>;

/// Opens the hook listener and follows the configuration from then on. The agent does not start without the address: a
/// forge that cannot reach it would go unnoticed.
pub(super) async fn hooks(
    service: &Arc<Service>,
    waker: &Waker<SyncEnd, Order>,
    tasks: &TaskTracker,
) -> Result<(), ServiceError> {
    let (current, waker) = (service.current.subscribe(), waker.clone());
    let kind = Kind {
        purpose: "webhooks",
        wanted: |listen| listen.hooks.as_ref().map(|h| h.address),
        serve: Box::new(move |listener, close| {
            let hook = HookState::new(current.clone(), waker.clone());
            Box::pin(serve_hooks(listener, hook, close.cancelled_owned()))
        }),
    };
    let first = match kind.address(service) {
        Some(address) => Some(kind.open(address).await?),
        None => None,
    };
    tasks.spawn(follow(Arc::clone(service), kind, first));
    Ok(())
}

/// Follows the configuration with the page's listener. A page that cannot be opened stops nothing: it is tried again.
pub(super) async fn page(service: &Arc<Service>, tasks: &TaskTracker) {
    let (store, metrics) = (Arc::clone(&service.store), Arc::clone(&service.metrics));
    let page = PageState::new(service.current.subscribe(), store, metrics, service.activity.clone());
    let kind = Kind {
        purpose: "readers of the status page",
        wanted: |listen| listen.page.as_ref().map(|p| p.address),
        serve: Box::new(move |listener, close| Box::pin(serve_page(listener, page.clone(), close))),
    };
    let first = match kind.address(service) {
        Some(address) => kind.open(address).await.inspect_err(|error| tracing::error!("{error}")).ok(),
        None => None,
    };
    tasks.spawn(follow(Arc::clone(service), kind, first));
}

impl Kind {
    fn address(&self, service: &Service) -> Option<SocketAddr> {
        (self.wanted)(&service.settings().listen)
    }

    async fn open(&self, address: SocketAddr) -> Result<TcpListener, ServiceError> {
        let failed = |source| ServiceError::Listen { purpose: self.purpose, address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        tracing::info!(%address, "listening for {}", self.purpose);
        Ok(listener)
    }
}

/// Serves with `listener`, and with another one whenever the configuration names another address.
async fn follow(service: Arc<Service>, kind: Kind, mut listener: Option<TcpListener>) {
    let mut changes = service.current.subscribe();
    let mut address = kind.address(&service);
    loop {
        let close = service.stop.child_token();
        let running = listener.take().map(|open| tokio::spawn((kind.serve)(open, close.clone())));
        let is_lacking = address.is_some() && running.is_none();
        while kind.address(&service) == address {
            tokio::select! {
                () = service.stop.cancelled() => break,
                news = changes.changed() => if news.is_err() { break },
                () = time::sleep(AGAIN), if is_lacking => break,
            }
        }
        close.cancel();
        if let Some(task) = running
            && task.await.is_err()
        {
            tracing::error!("the listener for {} panicked", kind.purpose);
        }
        if service.stop.is_cancelled() {
            return;
        }
        let before = address;
        address = kind.address(&service);
        if let Some(address) = address {
            let is_news = before != Some(address);
            listener = match kind.open(address).await {
                Ok(open) => Some(open),
                Err(error) => {
                    if is_news {
                        tracing::error!("{error}");
                    }
                    None
                }
            };
        }
    }
}
