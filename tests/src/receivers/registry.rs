//! A real image registry, from Debian's package, on a free port of the loopback address, where the engine needs no TLS.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    docker,
    engine::Engine,
    http, port,
    program::Run,
    wait::{seconds, wait_until},
};

/// The user `git` with the password `s3cr3t`, as `htpasswd -B` writes it.
const USERS: &str = "git:$2y$05$abcdefghijklmnopqrstuu9Avu/WgbsK7g7xfCY1X3pdjsTgxqQLS\n";

/// The server. Dropping it kills it.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// Starts a registry; its files lie in `folder`, and what an earlier one left there is in it.
    #[track_caller]
    pub fn start(folder: &Path) -> Self {
        Self::launch(folder, "", 200)
    }

    /// The same, for who logs in as `git` with the password `s3cr3t`.
    #[track_caller]
    pub fn start_private(folder: &Path) -> Self {
        let users = folder.join("registry-users");
        fs::write(&users, USERS).expect("the world's folder is writable");
        Self::launch(folder, &format!("auth: {{ htpasswd: {{ realm: x, path: {} }} }}\n", users.display()), 401)
    }

    /// Starts a registry in the network of an engine of one's own.
    #[track_caller]
    pub fn start_beside(engine: &Engine, folder: &Path) -> Self {
        Run::of(engine.beside("ip").args(["link", "set", "lo", "up"])).exits(0);
        let registry = Self::spawn(folder, "", engine.beside("docker-registry"));
        let url = format!("http://127.0.0.1:{}/v2/", registry.port);
        wait_until(seconds(20), "the registry answers", || {
            let seen = Run::of(engine.beside("curl").args(["--silent", "--fail", &url]));
            if seen.code == Some(0) { Ok(()) } else { Err(seen.report()) }
        });
        registry
    }

    #[track_caller]
    fn launch(folder: &Path, auth: &str, answer: u16) -> Self {
        let registry = Self::spawn(folder, auth, Command::new("docker-registry"));
        let url = format!("http://127.0.0.1:{}/v2/", registry.port);
        wait_until(seconds(20), "the registry answers", || match http::get(&url) {
            Ok(seen) if seen.status == answer => Ok(()),
            other => Err(format!("{other:?}")),
        });
        registry
    }

    #[track_caller]
    fn spawn(folder: &Path, auth: &str, mut command: Command) -> Self {
        let folder = folder.join("registry");
        fs::create_dir_all(&folder).expect("the world's folder is writable");
        let port = port::free();
        let config = format!(
            "version: 0.1\n{auth}log: {{ level: warn }}\nstorage: {{ filesystem: {{ rootdirectory: {}/data }} }}\nhttp: {{ addr: '127.0.0.1:{port}' }}\n",
            folder.display()
        );
        let file = folder.join("config.yml");
        fs::write(&file, config).expect("the world's folder is writable");
        let log = File::create(folder.join("log")).expect("the world's folder is writable");
        let child = command
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run docker-registry ({e}): run `make test`, which gets it first"));
        Self { child, port }
    }

    /// Takes connections and says nothing from now on, until [`Registry::go_on`].
    #[track_caller]
    pub fn hang(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).expect("a child that was not waited for gets signals");
    }

    /// Answers again.
    #[track_caller]
    pub fn go_on(&self) {
        kill_process(Pid::from_child(&self.child), Signal::CONT).expect("a child that was not waited for gets signals");
    }

    /// Its port at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The name of an image in it.
    pub fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }

    /// Pushes a local image as `name`, and leaves the engine without that name.
    #[track_caller]
    pub fn publish(&self, local: &str, name: &str) {
        let image = self.image(name);
        docker::docker(&["tag", local, &image]);
        docker::docker(&["push", "--quiet", &image]);
        docker::docker(&["image", "rm", &image]);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Either may fail because it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        docker::sweep(&[&format!("127.0.0.1:{}/", self.port)]);
    }
}
