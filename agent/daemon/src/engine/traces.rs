//! What an earlier agent left on the engine: containers that were made from its models.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{Engine, EngineError, PROJECT};

pub(super) const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
pub(super) const WORKING_DIR: &str = "com.docker.compose.project.working_dir";

impl Engine {
    /// The Compose projects that an agent with these folders deployed, running or not: `models` is where it keeps the
    /// models that it gives to Compose, `live` the live tree. The state may have been elsewhere before; then a project
    /// is known by its folder in the live tree and the name of the model's folder.
    pub async fn deployed_from(&self, models: &Path, live: &Path) -> Result<Vec<String>, EngineError> {
        let found = self.summaries(vec![PROJECT.to_owned()]).await?;
        let projects: BTreeSet<String> = found
            .into_iter()
            .filter_map(|container| {
                let labels = container.labels?;
                let path = |label: &str| labels.get(label).map(PathBuf::from).unwrap_or_default();
                ours(&path(CONFIG_FILES), &path(WORKING_DIR), (models, live))
                    .then(|| labels.get(PROJECT).cloned())
                    .flatten()
            })
            .collect();
        Ok(projects.into_iter().collect())
    }
}

fn ours(file: &Path, folder: &Path, (models, live): (&Path, &Path)) -> bool {
    let is_model = || file.parent().and_then(Path::file_name) == models.file_name();
    file.starts_with(models) || (folder.starts_with(live) && is_model())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_from_our_models_is_ours() {
        let at = (Path::new("/var/lib/evenkeel/models"), Path::new("/srv/evenkeel"));
        for (file, folder, want) in [
            ("/var/lib/evenkeel/models/web.json", "/srv/evenkeel/stacks/web", true),
            ("/var/lib/evenkeel/models/web.json", "/elsewhere", true),
            ("/old/state/models/web.json", "/srv/evenkeel/stacks/web", true),
            ("/srv/evenkeel/stacks/web/compose.yml", "/srv/evenkeel/stacks/web", false),
            ("/old/state/models/web.json", "/elsewhere", false),
            ("", "", false),
        ] {
            assert_eq!(ours(Path::new(file), Path::new(folder), at), want, "{file} in {folder}");
        }
    }
}
