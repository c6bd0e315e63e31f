//! `agent.yml`: read whole, checked whole, or not taken over at all.
//!
//! [`load`] turns the file into [`settings::Settings`] or says everything that is wrong with it, with line and remedy.
//! Secrets are never in it: it names files, which [`read_secret`] reads when they are used.

mod document;
mod problem;
mod read;
mod remote;
mod secret;
mod section;
pub mod settings;
mod sinks;
mod source;
mod trust;
mod value;

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

pub use problem::{ConfigErrors, ConfigProblem};
pub use secret::{SecretError, read_secret, read_secret_text};
use section::{Found, Reader};
use settings::Settings;
pub(crate) use sinks::topic_of;
pub(crate) use value::duration_text;
pub use value::{parse_duration, time_zone};

/// Where the agent's configuration is unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/evenkeel/agent.yml";

/// Where systemd puts the credentials of our unit.
const UNIT_CREDENTIALS: &str = "/run/credentials/evenkeel.service";

/// Largest configuration file that is read, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// Reads and checks the agent's configuration, the files that it names included.
///
/// Systemd credentials (`credential:NAME`) are turned into their paths here.
/// The error holds every problem that was found; nothing of the file may be used then.
pub fn load(path: &Path) -> Result<Settings, ConfigErrors> {
    // Whoever can write this file says whose commits may run.
    secret::check_unwritable(path).map_err(|error| ConfigErrors {
        file: path.to_owned(),
        problems: vec![whole(None, error.what(), &error.help())],
    })?;
    load_with(path, secret::credentials_directory(), true)
}

/// [`load`] for who only asks the agent, and is somewhere else than it: the files of secrets are not looked at, and systemd
/// credentials are taken to be where the unit has them.
pub fn load_to_ask(path: &Path) -> Result<Settings, ConfigErrors> {
    load_with(path, Some(secret::credentials_directory().unwrap_or_else(|| UNIT_CREDENTIALS.into())), false)
}

fn load_with(path: &Path, credentials: Option<PathBuf>, reads_secrets: bool) -> Result<Settings, ConfigErrors> {
    let text = read_capped(path).map_err(|problem| ConfigErrors { file: path.to_owned(), problems: vec![problem] })?;
    // Not from /proc/sys, which a unit may hide (`ProcSubset=pid`).
    let uname = rustix::system::uname();
    let reader = Reader::new(&text, credentials, reads_secrets);
    parse(reader, path, &uname.nodename().to_string_lossy())
}

/// [`load`] of the text that `reader` has from `file`, on a host of this name.
fn parse(reader: Reader<'_>, file: &Path, host: &str) -> Result<Settings, ConfigErrors> {
    let errors = |problems| ConfigErrors { file: file.to_owned(), problems };
    let node = document::parse(reader.text()).map_err(|error| {
        errors(vec![whole(error.line, format!("is not valid YAML: {}", error.message), "correct the syntax")])
    })?;
    let settings = read::settings(Found::root(&reader, &node), host);
    let (problems, _) = reader.finish();
    settings.ok().filter(|_| problems.is_empty()).ok_or_else(|| errors(problems))
}

/// [`load`] of a text that shall stand in `file`, where nothing needs to be yet.
pub fn check(text: &str, file: &Path) -> Result<Settings, ConfigErrors> {
    let uname = rustix::system::uname();
    parse(Reader::new(text, secret::credentials_directory(), true), file, &uname.nodename().to_string_lossy())
}

/// Whether a text says nothing: comments at most.
pub fn is_blank(text: &str) -> bool {
    document::parse(text).is_ok_and(|node| node == document::Node::Null)
}

/// Where the agent listens according to a file that [`load`] refuses: what it says of `paths.socket`, as far as it can be
/// read. Of a file that is no YAML it is the default, if the file is in the usual place; `None` if nobody can tell.
pub fn socket_of_invalid(path: &Path) -> Option<PathBuf> {
    let entry = |node: &document::Node, key: &str| match node {
        document::Node::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()),
        _ => None,
    };
    let default = || Some(PathBuf::from(read::DEFAULT_SOCKET));
    let Ok(document) = document::parse(&read_capped(path).ok()?) else {
        return if path == Path::new(DEFAULT_PATH) { default() } else { None };
    };
    match entry(&document, "paths").and_then(|paths| entry(&paths, "socket")) {
        Some(document::Node::Text(socket)) if socket.starts_with('/') => Some(socket.into()),
        Some(_) => None,
        None => default(),
    }
}

/// What should wake the agent when it changes: the configuration, the environment folder and the files of keys and
/// tokens, and logins. Some of it may not exist yet.
pub fn watched(settings: &Settings, config_path: &Path) -> Vec<PathBuf> {
    let Settings { source, trust, paths, secrets, listen, engine, .. } = settings;
    let always = [config_path.to_owned(), paths.env.clone()];
    let lists = [trust.allowed_signers(), trust.openpgp_certificates()].map(|path| path.map(Path::to_owned));
    let keys = [trust.forge_keys.clone(), trust.revoked.clone()];
    let hook_secret = listen.hooks.as_ref().map(|hooks| hooks.secret_file.clone());
    let page_token = listen.page.as_ref().and_then(|page| page.token_file.clone());
    let ssh = source.ssh.iter().flat_map(|ssh| [ssh.key.clone(), ssh.known_hosts.clone()]);
    let login = engine.registry_auth.clone();
    let optional = [source.ca_file.clone(), source.token_file.clone(), login, hook_secret, page_token];
    let optional = optional.into_iter().chain([secrets.age_identities.clone()]);
    always.into_iter().chain(ssh).chain(lists.into_iter().chain(keys).flatten()).chain(optional.flatten()).collect()
}

fn whole(line: Option<usize>, message: impl Into<String>, help: &str) -> ConfigProblem {
    ConfigProblem { line, key: String::new(), message: message.into(), help: help.to_owned() }
}

fn read_capped(path: &Path) -> Result<String, ConfigProblem> {
    let unreadable = |error: io::Error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "create it, or name another file with --config",
            _ => "let the agent's user read it",
        };
        whole(None, format!("cannot be read: {error}"), help)
    };
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(whole(None, "is larger than 1 MiB", "is this the right file?"));
    }
    String::from_utf8(bytes).map_err(|_| whole(None, "is not UTF-8 text", "save it as UTF-8"))
}

#[cfg(test)]
mod tests;
