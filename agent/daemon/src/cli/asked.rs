//! What the verbs share that ask the agent, and without one its store or the backup repository.

use std::path::Path;

use super::{
    output::{Failure, Output},
    runtime, sync, tell, words,
};
use crate::{
    config::settings::Settings,
    socket::ClientError,
    store::{Store, StoreError},
};

/// What the agent answers, or, if none runs or it does not answer, what is found without it: then with a notice that says so. An
/// agent that goes on with an older configuration than the file has is asked as well.
pub fn agent_or<T>(
    config: &Path,
    ask: impl AsyncFnOnce(&Path) -> Result<T, ClientError>,
    find: impl AsyncFnOnce(&Settings, String) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let socket = tell::socket_of(config)?;
    runtime()?.block_on(async {
        let error = match ask(&socket).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        let notice = words::from_the_store(&error).ok_or_else(|| sync::failure(&error))?;
        find(&words::settings(config)?, notice).await
    })
}

/// The same, where the agent's store has the answer.
pub fn agent_or_store<T>(
    config: &Path,
    ask: impl AsyncFnOnce(&Path) -> Result<T, ClientError>,
    read: impl AsyncFnOnce(&Settings, &Store, String) -> Result<T, StoreError>,
) -> Result<T, Failure> {
    agent_or(config, ask, async |settings: &_, notice| {
        read(settings, &open(settings)?, notice).await.map_err(|e| failure(&e))
    })
}

/// Says before an answer that it comes from the store.
pub fn say(out: &Output, notice: &str) {
    out.note(&format!("note: {notice}"));
}

/// The store of an agent that does not run.
pub fn open(settings: &Settings) -> Result<Store, Failure> {
    Store::open_read_only(&settings.paths.state).map_err(|e| {
        Failure::failed("store.failed", e.to_string(), "start the agent once, or name its configuration with --config")
    })
}

/// A store that was opened and cannot be read.
pub fn failure(error: &StoreError) -> Failure {
    Failure::failed("store.failed", error.to_string(), "look at the state directory")
}
