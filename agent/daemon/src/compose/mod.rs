//! The `docker compose` program: argument vectors, and the process that runs them.

pub mod apply;
mod layers;
mod message;
mod place;
pub mod render;
pub mod renders;
pub mod version;

use std::{
    env,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel_core::reason::Code;
use semver::Version;

use crate::process::{Finished, Invocation, OnLine, RunError, Runner};

/// How long `docker compose version` may take: it talks to nobody.
const VERSION_TIMEOUT: Duration = Duration::from_secs(30);

/// Compose could not be used, or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// There is no `docker` program, or it has no Compose.
    #[error("{0}: install Docker's command line with `docker compose` {min} or later", min = version::MINIMUM)]
    Missing(String),
    /// It is older than what is needed.
    #[error("docker compose is {found}: install {min} or later", min = version::MINIMUM)]
    TooOld {
        /// Its version.
        found: Version,
    },
    /// It ended with a failure.
    #[error("{what} failed: {message}")]
    Failed {
        /// The subcommand and the project.
        what: String,
        /// What Compose said, without its noise.
        message: String,
    },
    /// It could not be run to its end.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl ComposeError {
    /// The reason's code where the program itself is at fault; `None` where it depends on what was asked.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Missing(_) | Self::TooOld { .. } | Self::Run(RunError::Start { .. }) => Some(Code::ComposeMissing),
            Self::Failed { .. } | Self::Run(_) => None,
        }
    }
}

/// The `docker compose` program and the little environment that it is given.
#[derive(Clone, PartialEq, Eq)]
pub struct Compose {
    runner: Runner,
    docker: PathBuf,
    env: Vec<(String, String)>,
}

impl Compose {
    /// Finds `docker` on `PATH`. `engine` is where the engine listens (`unix:///…`), `None` for the usual place or a
    /// `DOCKER_HOST` of our own environment; `registry_auth` is a Docker `config.json`, `None` for the usual one or that of a
    /// `DOCKER_CONFIG` of our own environment. Starts nothing.
    pub fn find(runner: Runner, engine: Option<&str>, registry_auth: Option<&Path>) -> Result<Self, ComposeError> {
        let path = env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
        let docker = env::split_paths(&path)
            .map(|folder| folder.join("docker"))
            .find(|file| is_program(file))
            .ok_or_else(|| ComposeError::Missing("there is no `docker` program on PATH".to_owned()))?;
        let own = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let config = registry_auth.and_then(Path::parent).map(|folder| folder.display().to_string());
        let pairs = [
            ("PATH", Some(path)),
            ("HOME", own("HOME")),
            ("DOCKER_HOST", engine.map(str::to_owned).or_else(|| own("DOCKER_HOST"))),
            ("DOCKER_CONFIG", config.or_else(|| own("DOCKER_CONFIG"))),
            // Where a build keeps its own notes when the usual place cannot be written, as in a sandbox.
            ("BUILDX_CONFIG", own("BUILDX_CONFIG")),
        ];
        let env = pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        Ok(Self { runner, docker: absolute(docker), env })
    }

    /// Asks for Compose's version and checks that it is new enough.
    pub async fn version(&self) -> Result<Version, ComposeError> {
        let args = ["compose", "version", "--short"].map(str::to_owned).to_vec();
        let done = self.run(&self.invocation(args, Path::new("/"), VERSION_TIMEOUT), None).await?;
        let text = String::from_utf8_lossy(&done.stdout);
        match version::parse(&text) {
            Some(version) if done.success() && version >= version::MINIMUM => Ok(version),
            Some(found) if done.success() => Err(ComposeError::TooOld { found }),
            _ => Err(ComposeError::Missing(format!("`{}` has no Compose", self.docker.display()))),
        }
    }

    /// A run of `docker` with these arguments in this folder, with no variables but our few.
    pub fn invocation(&self, args: Vec<String>, cwd: &Path, timeout: Duration) -> Invocation {
        Invocation { program: self.docker.clone(), args, env: self.env.clone(), cwd: cwd.to_owned(), timeout }
    }

    /// Runs it to its end, whatever its exit code.
    pub async fn run(&self, invocation: &Invocation, on_line: Option<OnLine<'_>>) -> Result<Finished, ComposeError> {
        Ok(self.runner.run(invocation, on_line).await?)
    }

    /// Runs it to its end, whatever its exit code, and ends what it left in the background.
    pub async fn run_alone(&self, invocation: &Invocation) -> Result<Finished, ComposeError> {
        Ok(self.runner.run_alone(invocation).await?)
    }
}

/// The beginning of every command line on a project: `compose -p PROJECT -f MODEL --project-directory DIRECTORY`, then the
/// profiles. Always with the project's name: a `COMPOSE_PROJECT_NAME` in an `.env` would win otherwise.
pub fn base_args(project: &str, model: &Path, directory: &Path, profiles: &[&str]) -> Vec<String> {
    let (model, directory) = (model.display().to_string(), directory.display().to_string());
    let mut args =
        ["compose", "-p", project, "-f", &model, "--project-directory", &directory].map(str::to_owned).to_vec();
    for profile in profiles {
        args.extend(["--profile".to_owned(), (*profile).to_owned()]);
    }
    args
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// `PATH` may hold relative folders, and the program runs in another folder than ours.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_begins_with_project_model_and_directory() {
        let args = base_args("web", Path::new("/s/model.json"), Path::new("/srv/stacks/web"), &["gpu", "debug"]);
        assert_eq!(
            args,
            [
                "compose",
                "-p",
                "web",
                "-f",
                "/s/model.json",
                "--project-directory",
                "/srv/stacks/web",
                "--profile",
                "gpu",
                "--profile",
                "debug"
            ]
        );
    }

    #[test]
    fn a_missing_or_old_program_is_one_reason_with_what_to_do() {
        let old = ComposeError::TooOld { found: Version::new(2, 3, 3) };
        assert_eq!(old.code(), Some(Code::ComposeMissing));
        assert_eq!(old.to_string(), "docker compose is 2.3.3: install 2.20.0 or later");
    }
}
