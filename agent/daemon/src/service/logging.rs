//! The log: lines on standard error, for people or for programs.

use std::io::IsTerminal as _;

use tracing_subscriber::{filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    config::settings::{Log, LogFormat},
    terminal,
};

/// Starts the log. A second start in one process changes nothing.
pub fn start(log: &Log) {
    // Libraries speak only when something is wrong; what they say in detail may hold what we must not log.
    let filter = Targets::new().with_target("evenkeel", log.level).with_default(tracing::Level::WARN);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match log.format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(fmt::layer().with_writer(|| terminal::Above).with_ansi(ansi).with_target(false)).try_init()
        }
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
    };
    if started.is_err() {
        tracing::debug!("the log was started before");
    }
}
