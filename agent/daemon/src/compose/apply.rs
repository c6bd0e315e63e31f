//! The few runs of Compose that change a server: pull, build, up, removal.
//!
//! `up` names its services and never their dependencies (`--no-deps`): a changed database would otherwise take every
//! dependent with it, and each plain `up` runs a finished one-shot again. Never `--remove-orphans`, never `--wait`.

use std::{collections::BTreeMap, path::Path, time::Duration};

use tokio::{sync::Notify, time::timeout};

use super::{Compose, ComposeError, base_args};
use crate::process::{Finished, OnLine};

/// How long images may take to come.
pub const PULL_TIMEOUT: Duration = Duration::from_secs(3600);
/// How long images may take to be built.
pub const BUILD_TIMEOUT: Duration = Duration::from_secs(2 * 3600);
/// How long containers may take to go; each has its own `stop_grace_period`.
pub const DOWN_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Most of a complaint that is shown.
const MAX_COMPLAINT_CHARS: usize = 1_000;
/// How many lines of a build's failed step are shown.
const STEP_LINES: usize = 5;

/// A project as Compose is told of it.
#[derive(Clone, Copy)]
pub struct Project<'a> {
    /// Its name.
    pub name: &'a str,
    /// The rendered model, a file.
    pub model: &'a Path,
    /// Compose's project directory.
    pub directory: &'a Path,
    /// Variables that become secrets; they go to the process, never to its arguments.
    pub secrets: &'a BTreeMap<String, String>,
}

impl Compose {
    /// Pulls the images of these services.
    pub async fn pull(
        &self,
        project: &Project<'_>,
        services: &[String],
        on_line: Option<OnLine<'_>>,
    ) -> Result<(), ComposeError> {
        let args = project_args(project, &["pull"], services);
        self.run_project(project, "pull", (args, PULL_TIMEOUT), on_line).await
    }

    /// Pulls all images of a project as long as something of them comes. Where there is no terminal Compose tells of each part
    /// that does; a pull that is silent for so long hangs.
    pub async fn pull_unless_silent(&self, project: &Project<'_>, silence: Duration) -> Result<(), ComposeError> {
        let heard = Notify::new();
        let on_line = |_: &str| heard.notify_one();
        let silent = async { while timeout(silence, heard.notified()).await.is_ok() {} };
        tokio::select! {
            pulled = self.pull(project, &[], Some(&on_line)) => pulled,
            () = silent => Err(ComposeError::Failed {
                what: format!("docker compose pull of {}", project.name),
                message: format!("nothing came from the registry for {silence:?}"),
            }),
        }
    }

    /// Builds the images of these services.
    pub async fn build(
        &self,
        project: &Project<'_>,
        services: &[String],
        on_line: Option<OnLine<'_>>,
    ) -> Result<(), ComposeError> {
        let args = project_args(project, &["build"], services);
        self.run_project(project, "build", (args, BUILD_TIMEOUT), on_line).await
    }

    /// Makes or replaces the containers of these services from images that are here.
    pub async fn up(
        &self,
        project: &Project<'_>,
        services: &[String],
        deadline: Duration,
        on_line: Option<OnLine<'_>>,
    ) -> Result<(), ComposeError> {
        let args = project_args(project, &UP, services);
        self.run_project(project, "up", (args, deadline), on_line).await
    }

    /// Makes containers of these services beside those that stand, up to so many in all, and leaves them as they are made.
    pub async fn create_beside(
        &self,
        project: &Project<'_>,
        counts: &BTreeMap<String, usize>,
        deadline: Duration,
        on_line: Option<OnLine<'_>>,
    ) -> Result<(), ComposeError> {
        let args = beside_args(project, "--no-start", counts);
        self.run_project(project, "create", (args, deadline), on_line).await
    }

    /// Starts what [`Compose::create_beside`] has made, in the order of their dependencies.
    pub async fn start_beside(
        &self,
        project: &Project<'_>,
        counts: &BTreeMap<String, usize>,
        deadline: Duration,
        on_line: Option<OnLine<'_>>,
    ) -> Result<(), ComposeError> {
        let args = beside_args(project, "--detach", counts);
        self.run_project(project, "up", (args, deadline), on_line).await
    }

    /// Stops the project's services, each after those that depend on it.
    pub async fn stop(&self, project: &Project<'_>) -> Result<(), ComposeError> {
        let args = project_args(project, &["stop"], &[]);
        self.run_project(project, "stop", (args, DOWN_TIMEOUT), None).await
    }

    /// Takes the whole project down: containers and the networks it made. Volumes stay.
    pub async fn down(&self, project: &Project<'_>) -> Result<(), ComposeError> {
        let args = project_args(project, &["down"], &[]);
        self.run_project(project, "down", (args, DOWN_TIMEOUT), None).await
    }

    async fn run_project(
        &self,
        project: &Project<'_>,
        what: &str,
        (args, timeout): (Vec<String>, Duration),
        on_line: Option<OnLine<'_>>,
    ) -> Result<(), ComposeError> {
        let mut invocation = self.invocation(args, project.directory, timeout);
        invocation.env.extend(project.secrets.iter().map(|(k, v)| (k.clone(), v.clone())));
        let done = self.run(&invocation, on_line).await?;
        if done.success() {
            return Ok(());
        }
        let step = failed_step(&String::from_utf8_lossy(&done.stdout));
        let step = step.map(|lines| format!("; its output ends: {lines}")).unwrap_or_default();
        Err(ComposeError::Failed {
            what: format!("docker compose {what} of {}", project.name),
            message: complaint(&done) + &step,
        })
    }
}

const BESIDE: [&str; 6] = ["--no-deps", "--no-recreate", "--pull", "never", "--no-build", "--quiet-pull"];
const UP: [&str; 8] =
    ["up", "--detach", "--no-deps", "--force-recreate", "--pull", "never", "--no-build", "--quiet-pull"];

fn beside_args(project: &Project<'_>, how: &str, counts: &BTreeMap<String, usize>) -> Vec<String> {
    let mut args = project_args(project, &["up", how], &[]);
    args.extend(BESIDE.map(str::to_owned));
    args.extend(counts.iter().flat_map(|(service, count)| ["--scale".to_owned(), format!("{service}={count}")]));
    args.extend(counts.keys().cloned());
    args
}

fn project_args(project: &Project<'_>, verb: &[&str], services: &[String]) -> Vec<String> {
    let mut args = base_args(project.name, project.model, project.directory, &[]);
    args.extend(verb.iter().map(|word| (*word).to_owned()));
    args.extend(services.iter().cloned());
    args
}

/// What Compose complained of, without its progress: the lines that speak of an error, else its last lines.
fn complaint(done: &Finished) -> String {
    let text = String::from_utf8_lossy(&done.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let speaks = |line: &&&str| {
        let lower = line.to_ascii_lowercase();
        ["error", "denied", "failed", "cannot", "no such", "not found", "unhealthy", "exited"]
            .iter()
            .any(|word| lower.contains(word))
    };
    let telling: Vec<&str> = lines.iter().filter(speaks).copied().collect();
    let chosen = if telling.is_empty() { &lines[lines.len().saturating_sub(3)..] } else { &telling[..] };
    let mut unique: Vec<&str> = Vec::new();
    for line in chosen {
        if !unique.contains(line) {
            unique.push(line);
        }
    }
    let end = done.code.map_or_else(|| "it was killed".to_owned(), |code| format!("exit code {code}"));
    if unique.is_empty() { end } else { unique.join("; ").chars().take(MAX_COMPLAINT_CHARS).collect() }
}

/// The end of what the failed step of a build said: between the two last lines of dashes, after the step itself.
fn failed_step(stdout: &str) -> Option<String> {
    let mut parts = stdout.rsplit("------\n");
    let lines: Vec<&str> = parts.nth(1)?.lines().skip(1).map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(STEP_LINES)..)?.join(" | ");
    (!last.is_empty()).then(|| last.chars().take(MAX_COMPLAINT_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, time::Instant};

    use super::*;
    use crate::process::Runner;

    #[tokio::test]
    async fn a_pull_goes_on_as_long_as_something_comes_and_is_ended_when_it_is_silent() {
        let folder = tempfile::tempdir().unwrap();
        let docker = folder.path().join("docker");
        let pull = async |script: &str| {
            fs::write(&docker, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
            let env = vec![("PATH".to_owned(), std::env::var("PATH").unwrap())];
            let compose = Compose { runner: Runner::plain(), docker: docker.clone(), env };
            let (model, secrets) = (folder.path().join("model.json"), BTreeMap::new());
            let project = Project { name: "x", model: &model, directory: folder.path(), secrets: &secrets };
            compose.pull_unless_silent(&project, Duration::from_secs(2)).await.map_err(|e| e.to_string())
        };
        assert_eq!(pull("for n in 1 2 3 4 5 6 7 8; do echo $n >&2; sleep 0.5; done").await, Ok(()));
        let began = Instant::now();
        let silent = pull("echo Downloading >&2; exec sleep 600").await.unwrap_err();
        assert_eq!(silent, "docker compose pull of x failed: nothing came from the registry for 2s");
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn of_a_failed_build_the_failed_step_is_told() {
        let stdout =
            "#5 0.13 bad\n#5 ERROR: exit code: 3\n------\n > [app 2/2] RUN make:\n0.132 hello\n0.134 bad\n------\n";
        assert_eq!(failed_step(stdout).as_deref(), Some("0.132 hello | 0.134 bad"));
        for nothing in ["", "Pulling\n", "------\n", "------\n > [app]:\n------\n"] {
            assert_eq!(failed_step(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn up_names_its_services_and_spares_their_dependencies() {
        let project = Project {
            name: "web",
            model: Path::new("/var/lib/evenkeel/models/web.json"),
            directory: Path::new("/srv/evenkeel/stacks/web"),
            secrets: &BTreeMap::new(),
        };
        assert_eq!(
            project_args(&project, &UP, &["page".to_owned()]).join(" "),
            "compose -p web -f /var/lib/evenkeel/models/web.json --project-directory /srv/evenkeel/stacks/web \
             up --detach --no-deps --force-recreate --pull never --no-build --quiet-pull page"
        );
    }

    #[test]
    fn what_is_made_beside_leaves_what_stands_alone() {
        let project = Project {
            name: "web",
            model: Path::new("/m/web.json"),
            directory: Path::new("/live/web"),
            secrets: &BTreeMap::new(),
        };
        let counts = BTreeMap::from([("app".to_owned(), 2), ("page".to_owned(), 5)]);
        assert_eq!(
            beside_args(&project, "--no-start", &counts).join(" "),
            "compose -p web -f /m/web.json --project-directory /live/web up --no-start --no-deps --no-recreate \
             --pull never --no-build --quiet-pull --scale app=2 --scale page=5 app page"
        );
    }

    #[test]
    fn a_complaint_is_the_error_without_the_progress() {
        let stderr = " Container web-page-1  Recreate\n Container web-page-1  Recreated\n\
                      Error response from daemon: driver failed: port is already allocated\n";
        let done = Finished { code: Some(1), stdout: vec![], stderr: stderr.as_bytes().to_vec() };
        assert_eq!(complaint(&done), "Error response from daemon: driver failed: port is already allocated");
        let silent = Finished { code: Some(3), stdout: vec![], stderr: vec![] };
        assert_eq!(complaint(&silent), "exit code 3");
    }
}
