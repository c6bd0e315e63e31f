//! The webhook listener: opened as the configuration says, and opened anew when that changes.

use std::{net::SocketAddr, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::{Service, ServiceError};
use crate::{
    http::{HookState, serve_hooks},
    run::SyncEnd,
    trigger::Waker,
};

/// Opens the hook listener and follows the configuration from then on.
pub(super) async fn hooks(
    service: &Arc<Service>,
    waker: &Waker<SyncEnd>,
    tasks: &TaskTracker,
) -> Result<(), ServiceError> {
    let address = wanted(service);
    let first = match address {
        Some(address) => Some(open(address).await?),
        None => None,
    };
    tasks.spawn(follow(Arc::clone(service), waker.clone(), address, first));
    Ok(())
}

fn wanted(service: &Service) -> Option<SocketAddr> {
    service.settings().listen.hooks.as_ref().map(|h| h.address)
}

async fn open(address: SocketAddr) -> Result<TcpListener, ServiceError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServiceError::Hooks { address, source })?;
    tracing::info!(%address, "listening for webhooks");
    Ok(listener)
}

async fn follow(
    service: Arc<Service>,
    waker: Waker<SyncEnd>,
    mut address: Option<SocketAddr>,
    mut listener: Option<TcpListener>,
) {
    let mut changes = service.current.subscribe();
    loop {
        let close = service.stop.child_token();
        let running = listener.take().map(|open| {
            let hook = HookState::new(service.current.subscribe(), waker.clone());
            tokio::spawn(serve_hooks(open, hook, close.clone().cancelled_owned()))
        });
        while wanted(&service) == address {
            tokio::select! {
                () = service.stop.cancelled() => break,
                news = changes.changed() => if news.is_err() { break },
            }
        }
        close.cancel();
        if let Some(task) = running
            && task.await.is_err()
        {
            tracing::error!("the webhook listener panicked");
        }
        if service.stop.is_cancelled() {
            return;
        }
        address = wanted(&service);
        if let Some(address) = address {
            listener = open(address).await.inspect_err(|error| tracing::error!("{error}")).ok();
        }
    }
}
