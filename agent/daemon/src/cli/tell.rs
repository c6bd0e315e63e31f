//! What the verbs share with which a person tells the agent something.

use std::path::{Path, PathBuf};

use evenkeel_core::outcome::Exit;
use evenkeel_layout::name::StackName;

use super::{
    output::{Failure, Output},
    runtime, sync,
    words::{self, settings},
};
use crate::{
    config::{self, DEFAULT_PATH},
    socket::{self, Tell, TellAnswer},
};

/// Where the agent is.
#[derive(Debug, clap::Args)]
pub struct Where {
    /// The agent's configuration, which says where its socket is
    #[arg(long, value_name = "FILE", default_value = DEFAULT_PATH)]
    pub config: PathBuf,
}

/// A stack's name from the command line.
pub fn stack(text: &str) -> Result<StackName, String> {
    StackName::new(text).map_err(|error| error.to_string())
}

/// Words from the command line that say something.
pub fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("say in a few words why".to_owned()) } else { Ok(text.to_owned()) }
}

/// The socket of the agent, also of one that goes on with an older configuration than the file has.
pub fn socket_of(config: &Path) -> Result<PathBuf, Failure> {
    match settings(config) {
        Ok(settings) => Ok(settings.paths.socket),
        Err(failure) => config::socket_of_invalid(config).filter(|socket| socket.exists()).ok_or(failure),
    }
}

/// Tells the agent, waits for the end of what that begins, and says what came of it.
pub fn run(config: &Path, tell: &Tell, out: &Output) -> Result<Exit, Failure> {
    let socket = socket_of(config)?;
    let answer = runtime()?.block_on(sync::watched(&socket, out, socket::tell(&socket, tell)));
    let answer = answer.map_err(|error| sync::failure(&error))?;
    out.answer(&answer, text);
    Ok(answer.sync.as_ref().map_or(Exit::Fine, |sync| words::exit(sync.exit)))
}

fn text(answer: &TellAnswer) -> String {
    let sync = answer.sync.as_ref().map_or_else(String::new, sync::text);
    let is_good = answer.sync.as_ref().is_none_or(|sync| sync.exit == 0);
    // How it ended is in the sync: what was wanted is only said again if it came about.
    if is_good { format!("{}\n{sync}", answer.said) } else { sync }
}
