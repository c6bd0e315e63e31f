//! The block `source`: where the repository is, and what opens it.

use super::{
    read::{DAY, HOUR, MILLISECOND, MINUTE, SECOND, url_of},
    remote::SshRemote,
    section::{Found, Read, Recorded, Section},
    settings::{Source, Ssh},
    value,
};

/// What is said where SSH lacks one of its files.
const NEEDS_KEY: &str = "name the file of the deploy key; docs/remotes.md says how to make one";
const NEEDS_HOSTS: &str = "name a file with the server's own keys (ssh-keyscan, compared with what the forge publishes): \
    a key that is not pinned is never believed; docs/remotes.md says how";

/// Reads the block.
pub(super) fn source(source: Section<'_, '_>) -> Read<Source> {
    let url = source
        .require("url", "write the repository's URL, such as https://github.com/you/infra.git")
        .and_then(|found| location(&found));
    let reference = source.text("ref", "refs/heads/main");
    if let Some(name) = reference.as_deref().ok().filter(|name| !value::is_branch_ref(name)) {
        let guess = format!("refs/heads/{name}");
        let help =
            if value::is_branch_ref(&guess) { format!("write {guess}") } else { "write refs/heads/<branch>".into() };
        source.wrong("ref", "must be a branch's full name: a short one may also mean a tag", help);
    }
    let interval = source.duration("interval", MINUTE, (100 * MILLISECOND, 7 * DAY));
    let timeout = source.duration("timeout", 2 * MINUTE, (SECOND, HOUR));
    let ca_file = source.file("ca_file");
    let auth = source.section("auth");
    let token_file = auth.secret_file("token_file");
    let username = auth.text("username", "git");
    let ssh = match url.as_ref().map(|(_, remote)| remote) {
        Ok(Some(remote)) => ssh(&auth, remote.clone(), username.as_deref().unwrap_or("git")).map(Some),
        Ok(None) => {
            no_ssh(&auth);
            Ok(None)
        }
        Err(Recorded) => {
            // What the keys are for is not known, but their files can be looked at.
            auth.secret_file("ssh_key").and(auth.guarded_file("known_hosts")).map(|_| None)
        }
    };
    auth.finish();
    if let (Ok((url, _)), Ok(Some(_))) = (&url, &token_file)
        && !url.starts_with("https://")
        && !is_loopback(url)
    {
        source.wrong(
            "url",
            "would send the token of `auth.token_file` unencrypted, or to nobody",
            "use an https:// URL",
        );
    }
    source.finish();
    Ok(Source {
        url: url?.0,
        reference: reference?,
        interval: interval?,
        timeout: timeout?,
        ca_file: ca_file?,
        token_file: token_file?,
        username: username?,
        ssh: ssh?,
    })
}

/// A URL that Git would take, and its parts if it is one of SSH.
fn location(found: &Found<'_, '_>) -> Read<(String, Option<SshRemote>)> {
    let text = found.text()?;
    if !SshRemote::is_meant(text) {
        return Ok((url_of(found, &["https", "http", "file", "ssh"])?, None));
    }
    let help = "write ssh://git@host:port/path/repository.git or git@host:path/repository.git";
    let remote = found.parsed(SshRemote::parse, help)?;
    Ok((text.to_owned(), Some(remote)))
}

/// The keys for SSH: both are needed there, and neither elsewhere.
fn ssh(auth: &Section<'_, '_>, remote: SshRemote, username: &str) -> Read<Ssh> {
    let key = auth.required_secret("ssh_key", NEEDS_KEY);
    let known_hosts = auth.required_guarded("known_hosts", NEEDS_HOSTS);
    let remote = if remote.user.is_some() { Some(remote) } else { remote.with_user(username) };
    let Some(remote) = remote else {
        let help = "write the user into the URL: git@host:path, or correct `username`";
        auth.wrong("username", "cannot be a user's name for SSH", help);
        return Err(Recorded);
    };
    Ok(Ssh { remote, key: key?, known_hosts: known_hosts? })
}

/// They would have no effect with another URL.
fn no_ssh(auth: &Section<'_, '_>) {
    let (key, known_hosts) = (auth.secret_file("ssh_key"), auth.guarded_file("known_hosts"));
    for (name, is_there) in
        [("ssh_key", matches!(key, Ok(Some(_)))), ("known_hosts", matches!(known_hosts, Ok(Some(_))))]
    {
        if is_there {
            let help = "use a URL such as git@host:path/repository.git, or remove the key";
            auth.wrong(name, "has no effect: the URL is not one of SSH", help);
        }
    }
}

/// Whether a URL stays on this machine, where plain HTTP shows a token to nobody else.
fn is_loopback(url: &str) -> bool {
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]"))
}
