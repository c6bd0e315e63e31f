//! An engine of one's own, to stop, to start and to fill: `dockerd` in a network namespace of its own, without a bridge.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    disk::Disk,
    docker::Container,
    program::Run,
    skip,
    wait::{seconds, wait_until},
};

/// The engine. Dropping it stops it, with its containers.
#[derive(Debug)]
pub struct Engine {
    folder: PathBuf,
    daemon: Option<Child>,
    /// Where its images and containers are.
    pub disk: Disk,
}

impl Engine {
    /// Starts an engine whose disk has so many mebibytes, with the tests' image 1. `None`, and the test `name` is told as
    /// skipped, if that is not possible here. Its containers need `network_mode: none`.
    #[track_caller]
    pub fn start(name: &str, folder: &Path, mib: u64) -> Option<Self> {
        if !skip::is_root(name) {
            return None;
        }
        if Command::new("dockerd").arg("--version").output().is_err() {
            skip::skip(name, "there is no `dockerd` on PATH to start an engine of its own with");
            return None;
        }
        // containerd's socket lies some folders deeper, and its path must stay short.
        let folder = folder.join("e");
        fs::create_dir_all(&folder).expect("the world's folder is writable");
        fs::write(folder.join("daemon.json"), "{}\n").expect("the same");
        let disk = Disk::mount(&folder.join("data"), mib);
        let mut engine = Self { folder, daemon: None, disk };
        engine.resume();
        let image = engine.folder.join("image.tar");
        let saved = ["save", "--output", &image.to_string_lossy(), "evenkeel-test/busybox:1"].map(str::to_owned);
        Run::of(Command::new("docker").args(saved)).exits(0);
        engine.docker(&["load", "--quiet", "--input", &image.to_string_lossy()]).exits(0);
        fs::remove_file(image).expect("it was written a moment ago");
        Some(engine)
    }

    /// What its `daemon.json` says from its next start on.
    #[track_caller]
    pub fn configure(&self, json: &str) {
        fs::write(self.folder.join("daemon.json"), json).expect("the world's folder is writable");
    }

    /// Starts it, after [`Engine::stop`].
    #[track_caller]
    pub fn resume(&mut self) {
        let at = |name: &str| self.folder.join(name).display().to_string();
        let log = File::options().create(true).append(true).open(at("log")).expect("the world's folder is writable");
        let daemon = Command::new("unshare")
            .args(["--net", "dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
            .args(["--config-file", &at("daemon.json"), "--data-root", &at("data"), "--exec-root", &at("x")])
            .args(["--pidfile", &at("pid"), "--host", &self.url()])
            .env_remove("DOCKER_HOST")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unshare was there a moment ago");
        self.daemon = Some(daemon);
        wait_until(seconds(60), "the engine answers", || {
            let answer = self.docker(&["version", "--format", "{{.Server.Version}}"]);
            let log = || crate::agent::tail(&self.folder.join("log"), 5);
            if answer.code == Some(0) { Ok(()) } else { Err(format!("{}\n{}", answer.stderr, log())) }
        });
    }

    /// Stops it as systemd would; its containers end.
    #[track_caller]
    pub fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&daemon), Signal::TERM);
        wait_until(seconds(60), "the engine ends", || match daemon.try_wait() {
            Ok(Some(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// Restarts it as a machine does: what lies in memory only is gone, and containers come up by their restart policies.
    #[track_caller]
    pub fn reboot(&mut self) {
        self.stop();
        let _ = fs::remove_file(self.folder.join("pid"));
        fs::remove_dir_all(self.folder.join("x")).expect("nothing of a stopped engine is in use");
        self.resume();
    }

    /// The one container of a service, whatever it does, as `docker inspect` shows it; while it is replaced this waits.
    #[track_caller]
    pub fn container(&self, service: &str) -> Container {
        let label = format!("label=com.docker.compose.service={service}");
        wait_until(seconds(20), &format!("there is one container of {service}"), || {
            let ids = self.docker(&["ps", "--all", "--quiet", "--filter", &label]).ok();
            let shown = self.docker(&["inspect", &ids]);
            if ids.lines().count() == 1 && shown.code == Some(0) {
                return Ok(Container(shown.json()[0].clone()));
            }
            Err(shown.report())
        })
    }

    /// A command that runs a program in the engine's network, where it finds the loopback address.
    #[track_caller]
    pub fn beside(&self, program: &str) -> Command {
        let daemon = self.daemon.as_ref().expect("the engine runs");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", daemon.id())).arg(program);
        command
    }

    /// As it stands in a configuration.
    pub fn url(&self) -> String {
        format!("unix://{}", self.folder.join("s").display())
    }

    /// Runs `docker` on it.
    #[track_caller]
    pub fn docker(&self, args: &[&str]) -> Run {
        Run::of(Command::new("docker").args(args).env("DOCKER_HOST", self.url()))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.daemon.is_none() {
            return;
        }
        let ids = self.docker(&["ps", "--quiet", "--all"]).stdout;
        let ids: Vec<&str> = ids.lines().collect();
        if !ids.is_empty() {
            self.docker(&[&["rm", "--force"], &ids[..]].concat());
        }
        if std::thread::panicking() {
            eprintln!("---- the engine's log, its end:\n{}", crate::agent::tail(&self.folder.join("log"), 20));
        }
        let Some(mut daemon) = self.daemon.take() else { return };
        let _ = kill_process(Pid::from_child(&daemon), Signal::TERM);
        // Not without an end: a test must not hang because an engine does.
        for _ in 0..200 {
            if matches!(daemon.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let _ = daemon.kill();
        let _ = daemon.wait();
    }
}
