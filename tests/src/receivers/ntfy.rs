//! A real ntfy server, from Debian's package, on a free port.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::Value;

use crate::{
    http, port,
    program::Run,
    wait::{seconds, wait_until},
};

/// The server. Dropping it kills it.
#[derive(Debug)]
pub struct Ntfy {
    child: Child,
    port: u16,
    folder: PathBuf,
    token: Option<String>,
}

impl Ntfy {
    /// Starts a server that anyone may write to; its files lie in `folder`.
    #[track_caller]
    pub fn start(folder: &Path) -> Self {
        Self::launch(folder, false)
    }

    /// Starts a server that only the holder of a token may read and write.
    #[track_caller]
    pub fn start_private(folder: &Path) -> Self {
        Self::launch(folder, true)
    }

    #[track_caller]
    fn launch(folder: &Path, private: bool) -> Self {
        let folder = folder.join("ntfy");
        std::fs::create_dir_all(&folder).expect("the world's folder is writable");
        let port = port::free();
        let at = folder.display();
        let open = format!(
            "listen-http: \"127.0.0.1:{port}\"\nbase-url: \"http://127.0.0.1:{port}\"\ncache-file: \"{at}/cache.db\"\n\
             # Tests look more often than the 60 requests that a visitor may make at once.\n\
             visitor-request-limit-exempt-hosts: \"127.0.0.1\"\n"
        );
        let closed = format!("auth-file: \"{at}/users.db\"\nauth-default-access: \"deny-all\"\n");
        let config = if private { open + &closed } else { open };
        let file = folder.join("server.yml");
        std::fs::write(&file, config).expect("the world's folder is writable");
        let log = File::create(folder.join("log")).expect("the world's folder is writable");
        let child = Command::new("ntfy")
            .args(["serve", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run ntfy ({e}): run `make test`, which gets it first"));
        let mut ntfy = Self { child, port, folder, token: None };
        wait_until(seconds(20), "ntfy answers", || match http::get(&ntfy.url("v1/health")) {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}\n{}", crate::agent::tail(&ntfy.folder.join("log"), 5))),
        });
        if private {
            ntfy.token = Some(make_token(&file));
        }
        ntfy
    }

    /// A topic's URL.
    pub fn url(&self, topic: &str) -> String {
        format!("http://127.0.0.1:{}/{topic}", self.port)
    }

    /// The access token of a private server; empty for one that anyone may use.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// The messages of a topic, in order, as the server gives them to a phone.
    #[track_caller]
    pub fn messages(&self, topic: &str) -> Vec<Value> {
        let authorization = format!("Bearer {}", self.token());
        let headers: &[(&str, &str)] =
            if self.token.is_some() { &[("Authorization", authorization.as_str())] } else { &[] };
        let url = self.url(&format!("{topic}/json?poll=1"));
        let answer = http::request("GET", &url, headers, b"").unwrap_or_else(|e| panic!("{url}: {e}"));
        assert_eq!(answer.status, 200, "{url}: {}", answer.text());
        let lines = answer.text();
        lines.lines().filter_map(|l| serde_json::from_str(l).ok()).filter(|m: &Value| m["event"] == "message").collect()
    }
}

/// Makes a user who may do anything, and a token for it.
#[track_caller]
fn make_token(config: &Path) -> String {
    let ntfy = |args: &[&str]| {
        let mut command = Command::new("ntfy");
        command.args(&args[..1]).arg("--config").arg(config).args(&args[1..]).env("NTFY_PASSWORD", "only-in-this-test");
        Run::of(&mut command).exits(0).said()
    };
    ntfy(&["user", "add", "--role=admin", "agent"]);
    let said = ntfy(&["token", "add", "agent"]);
    let token = said.split_whitespace().find(|w| w.starts_with("tk_"));
    token.unwrap_or_else(|| panic!("ntfy made no token: {said}")).trim_end_matches([',', '.']).to_owned()
}

impl Drop for Ntfy {
    fn drop(&mut self) {
        // Either may fail because it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
