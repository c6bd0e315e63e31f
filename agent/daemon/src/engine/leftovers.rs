//! What an interrupted `docker compose up` leaves, put right before the next one.
//!
//! Compose makes a replacement as `<12 hex digits>_<name>`, stops and removes the old container, then renames the
//! replacement. Killed in between, a second `up` may fail on the name or keep the hexadecimal name for ever.

use bollard::query_parameters::{RemoveContainerOptions, RenameContainerOptions, StopContainerOptions};

use super::{Engine, EngineError, PROJECT};

/// What was put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mended {
    /// A replacement that never started was removed; the container that it should have replaced is still there.
    Removed(String),
    /// A replacement whose predecessor is gone got its proper name.
    Renamed(String),
}

/// What is known of a container that may be a leftover.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Leftover {
    id: String,
    name: String,
    proper: String,
    started: bool,
}

impl Engine {
    /// Puts right what an interrupted Compose left of a project. Never removes the last container of a name.
    pub async fn mend_leftovers(&self, project: &str) -> Result<Vec<Mended>, EngineError> {
        let summaries = self.summaries(vec![format!("{PROJECT}={project}")]).await?;
        let name = |s: &bollard::models::ContainerSummary| {
            s.names.iter().flatten().next().map(|n| n.trim_start_matches('/').to_owned())
        };
        let mut names: Vec<String> = summaries.iter().filter_map(name).collect();
        let mut leftovers: Vec<Leftover> = summaries
            .iter()
            .filter(|s| s.labels.as_ref().is_some_and(|l| l.contains_key("com.docker.compose.replace")))
            .filter_map(|s| {
                let name = name(s)?;
                let proper = proper_name(&name)?.to_owned();
                let started = s.state != Some(bollard::models::ContainerSummaryStateEnum::CREATED);
                Some(Leftover { id: s.id.clone()?, name, proper, started })
            })
            .collect();
        // Of two that want one name, left by two interruptions, the one that ran gets it.
        leftovers.sort_by_key(|leftover| !leftover.started);
        let mut mended = Vec::new();
        for leftover in leftovers {
            mended.extend(self.mend(&leftover, names.contains(&leftover.proper)).await?);
            names.push(leftover.proper);
        }
        Ok(mended)
    }

    /// Stops and removes the containers of services that a project no longer has. Volumes stay, anonymous ones too.
    pub async fn remove_services(&self, project: &str, services: &[String]) -> Result<(), EngineError> {
        if services.is_empty() {
            return Ok(());
        }
        for container in self.project(project).await?.into_iter().filter(|c| services.contains(&c.service)) {
            tracing::info!(container = container.name, "removing: its service is gone from the stack");
            let docker = self.docker()?;
            // Without a time of ours the container's own grace period counts.
            let gone = |e: &EngineError| matches!(e, EngineError::NotFound(_));
            let stopped = docker.stop_container(&container.id, None::<StopContainerOptions>).await;
            stopped
                .map_err(|e| self.error("stop a container", &e))
                .or_else(|e| if gone(&e) { Ok(()) } else { Err(e) })?;
            let options = RemoveContainerOptions { v: false, force: false, link: false };
            let removed = docker.remove_container(&container.id, Some(options)).await;
            removed
                .map_err(|e| self.error("remove a container", &e))
                .or_else(|e| if gone(&e) { Ok(()) } else { Err(e) })?;
        }
        Ok(())
    }

    async fn mend(&self, leftover: &Leftover, has_predecessor: bool) -> Result<Option<Mended>, EngineError> {
        let docker = self.docker()?;
        if !has_predecessor {
            let options = RenameContainerOptions { name: leftover.proper.clone() };
            docker.rename_container(&leftover.id, options).await.map_err(|e| self.error("rename a container", &e))?;
            return Ok(Some(Mended::Renamed(leftover.proper.clone())));
        }
        if leftover.started {
            return Ok(None); // both are there and it ran: Compose sorts that out itself
        }
        let options = RemoveContainerOptions { v: false, force: false, link: false };
        docker.remove_container(&leftover.id, Some(options)).await.map_err(|e| self.error("remove a container", &e))?;
        Ok(Some(Mended::Removed(leftover.name.clone())))
    }
}

/// `web-1` in `0123456789ab_web-1`.
fn proper_name(name: &str) -> Option<&str> {
    let (prefix, proper) = name.split_once('_')?;
    (prefix.len() == 12 && prefix.bytes().all(|b| b.is_ascii_hexdigit())).then_some(proper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_twelve_hexadecimal_digits_make_a_leftover() {
        assert_eq!(proper_name("0123456789ab_web-1"), Some("web-1"));
        assert_eq!(proper_name("my_app_web-1"), None);
        assert_eq!(proper_name("0123456789a_web-1"), None);
        assert_eq!(proper_name("web-1"), None);
    }
}
