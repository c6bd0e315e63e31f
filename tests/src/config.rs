//! `agent.yml`, as a person would write it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The server's folder with its configuration. Each key of the top level is one text of YAML.
#[derive(Debug, Clone)]
pub struct Config {
    /// The folder that holds everything of the server.
    pub folder: PathBuf,
    keys: BTreeMap<&'static str, String>,
}

impl Config {
    /// A configuration with times that make tests fast; everything lies under `folder`, which is made.
    #[track_caller]
    pub fn new(folder: &Path, url: &str) -> Self {
        for name in ["env", "state", "live", "run"] {
            fs::create_dir_all(folder.join(name)).expect("the world's folder is writable");
        }
        let mut config = Self { folder: folder.to_path_buf(), keys: BTreeMap::new() };
        let at = folder.display();
        let engine = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        config.set("server", "home");
        config.source(url, "1h");
        config.set("trust", &format!("{{ allowed_signers: {at}/allowed_signers }}"));
        let paths = format!("{{ state: {at}/state, live: {at}/live, env: {at}/env, socket: {at}/run/agent.sock }}");
        config.set("paths", &paths);
        config.set("engine", &format!("{{ socket: \"{engine}\", parallel: 2 }}"));
        config.set("gate", "{ min_healthy_time: 1s, healthy_deadline: 20s, progress_deadline: 60s }");
        config.set("log", "{ format: text, level: debug }");
        config
    }

    /// Sets a key of the top level to a text of YAML that fits on one line, or begins with a line break.
    pub fn set(&mut self, key: &'static str, yaml: &str) -> &mut Self {
        self.keys.insert(key, yaml.to_owned());
        self
    }

    /// Removes a key of the top level.
    pub fn unset(&mut self, key: &'static str) -> &mut Self {
        self.keys.remove(key);
        self
    }

    /// Sets the repository and how often the agent looks at it.
    pub fn source(&mut self, url: &str, interval: &str) -> &mut Self {
        self.set("source", &format!("{{ url: \"{url}\", ref: refs/heads/main, interval: {interval}, timeout: 20s }}"))
    }

    /// The whole file.
    pub fn text(&self) -> String {
        self.keys.iter().map(|(key, yaml)| format!("{key}: {yaml}\n")).collect::<Vec<_>>().concat()
    }

    /// Where the file lies.
    pub fn file(&self) -> PathBuf {
        self.folder.join("agent.yml")
    }

    /// Writes the file.
    #[track_caller]
    pub fn write(&self) {
        self.put("agent.yml", &self.text());
    }

    /// Writes a file of the server, readable by its owner only, and returns its path. It appears whole or not at all.
    #[track_caller]
    pub fn put(&self, name: &str, content: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let file = self.folder.join(name);
        let new = file.with_extension("new");
        let written = fs::create_dir_all(file.parent().unwrap_or(&self.folder))
            .and_then(|()| fs::write(&new, content))
            .and_then(|()| fs::set_permissions(&new, fs::Permissions::from_mode(0o600)))
            .and_then(|()| fs::rename(&new, &file));
        written.unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
        file
    }
}
