//! The engine, seen through the real `docker` program as a user would look at it.

use std::process::Command;

use serde_json::Value;

use crate::program::Run;

/// Runs `docker` and returns what came of it.
#[track_caller]
pub fn run(args: &[&str]) -> Run {
    Run::of(Command::new("docker").args(args))
}

/// Runs `docker`, which must end well, and returns its output.
#[track_caller]
pub fn docker(args: &[&str]) -> String {
    run(args).ok()
}

/// Fails with advice if there is no engine.
#[track_caller]
pub fn must_answer() {
    let answer = Command::new("docker").args(["version", "--format", "{{.Server.Version}}"]).output();
    let answers = answer.is_ok_and(|output| output.status.success());
    assert!(answers, "no Docker engine answers to `docker version`: run `make test`, which brings one up first");
}

/// A container, as `docker inspect` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Container(pub Value);

impl Container {
    /// All containers of a Compose project, running or not, sorted by name.
    #[track_caller]
    pub fn of_project(project: &str) -> Vec<Self> {
        Self::with_labels(&[&format!("com.docker.compose.project={project}")])
    }

    /// The containers of a service.
    #[track_caller]
    pub fn of_service(project: &str, service: &str) -> Vec<Self> {
        let labels = [format!("com.docker.compose.project={project}"), format!("com.docker.compose.service={service}")];
        Self::with_labels(&[&labels[0], &labels[1]])
    }

    #[track_caller]
    fn with_labels(labels: &[&str]) -> Vec<Self> {
        let filters: Vec<String> = labels.iter().map(|l| format!("label={l}")).collect();
        let mut args = vec!["ps", "--all", "--quiet", "--no-trunc"];
        args.extend(filters.iter().flat_map(|f| ["--filter", f.as_str()]));
        let ids = docker(&args);
        if ids.is_empty() {
            return Vec::new();
        }
        let mut args = vec!["inspect"];
        args.extend(ids.lines());
        // One that vanished in between makes `inspect` end with 1, and show the others.
        let shown = run(&args).stdout;
        let mut found: Vec<Self> = match serde_json::from_str(&shown) {
            Ok(Value::Array(items)) => items.into_iter().map(Self).collect(),
            _ => Vec::new(),
        };
        found.sort_by_key(Self::name);
        found
    }

    fn text(&self, pointer: &str) -> String {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// The full id.
    pub fn id(&self) -> String {
        self.text("/Id")
    }

    /// The name, without the slash.
    pub fn name(&self) -> String {
        self.text("/Name").trim_start_matches('/').to_owned()
    }

    /// The id of the image that it was made from.
    pub fn image(&self) -> String {
        self.text("/Image")
    }

    /// `created`, `running`, `exited`, …
    pub fn state(&self) -> String {
        self.text("/State/Status")
    }

    /// `healthy`, `unhealthy`, `starting`; empty without a healthcheck.
    pub fn health(&self) -> String {
        self.text("/State/Health/Status")
    }

    /// When it was made.
    pub fn created(&self) -> String {
        self.text("/Created")
    }

    /// When it was last started.
    pub fn started(&self) -> String {
        self.text("/State/StartedAt")
    }

    /// A variable of its environment.
    pub fn variable(&self, name: &str) -> Option<String> {
        let all = self.0.pointer("/Config/Env").and_then(Value::as_array)?;
        all.iter().filter_map(Value::as_str).find_map(|v| v.strip_prefix(&format!("{name}=")).map(str::to_owned))
    }

    /// The process id of its first process on this machine; 0 if it does not run.
    pub fn pid(&self) -> u64 {
        self.0.pointer("/State/Pid").and_then(Value::as_u64).unwrap_or_default()
    }

    /// One line for messages.
    pub fn shown(&self) -> String {
        format!(
            "{} {} {} {}",
            self.name(),
            self.state(),
            self.health(),
            &self.image().chars().take(19).collect::<String>()
        )
    }
}

/// The id of an image, if the engine has it.
#[track_caller]
pub fn image_id(reference: &str) -> Option<String> {
    let run = run(&["image", "inspect", "--format", "{{.Id}}", reference]);
    (run.code == Some(0)).then(|| run.stdout.trim().to_owned())
}

/// Makes an image of the tests' own that no other is the same as.
#[track_caller]
pub fn make_image(reference: &str, unlike: &str) {
    let container = docker(&["create", "evenkeel-test/busybox:1"]);
    docker(&["commit", "--change", &format!("LABEL unlike='{unlike}'"), &container, reference]);
    docker(&["rm", &container]);
}

/// Removes a container and the volume without a name that it has at `target`. `rm --volumes` would leave one that came from the
/// container before, which Compose mounts by its name.
#[track_caller]
pub fn remove_with_volume(container: &str, target: &str) {
    let mount =
        format!("{{{{range .Mounts}}}}{{{{if eq .Destination {target:?}}}}}{{{{.Name}}}}{{{{end}}}}{{{{end}}}}");
    let volume = docker(&["inspect", "--format", &mount, container]);
    docker(&["rm", "--force", container]);
    docker(&["volume", "rm", volume.trim()]);
}

/// Removes every container, network, volume and image tag whose name or project begins with one of `prefixes`; says what
/// it could not remove. Does not fail: it runs while a failed test unwinds.
pub fn sweep(prefixes: &[&str]) {
    for (list, remove) in [
        (
            vec!["ps", "--all", "--format", "{{.ID}} {{.Label \"com.docker.compose.project\"}} {{.Names}}"],
            vec!["rm", "--force", "--volumes"],
        ),
        (
            vec!["network", "ls", "--format", "{{.ID}} {{.Label \"com.docker.compose.project\"}} {{.Name}}"],
            vec!["network", "rm"],
        ),
        (
            vec!["volume", "ls", "--format", "{{.Name}} {{.Label \"com.docker.compose.project\"}}"],
            vec!["volume", "rm", "--force"],
        ),
        (vec!["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"], vec!["image", "rm", "--force"]),
    ] {
        let lines = quiet(&list);
        let ours = |line: &&str| line.split_whitespace().any(|w| prefixes.iter().any(|p| w.starts_with(p)));
        let ids: Vec<&str> = lines.lines().filter(ours).filter_map(|l| l.split_whitespace().next()).collect();
        if !ids.is_empty() {
            quiet(&[remove, ids].concat());
        }
    }
}

fn quiet(args: &[&str]) -> String {
    match Command::new("docker").args(args).output() {
        Ok(output) => {
            if !output.status.success() {
                eprintln!("cleaning up: docker {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
            }
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
        Err(e) => {
            eprintln!("cleaning up: docker {}: {e}", args.join(" "));
            String::new()
        }
    }
}
