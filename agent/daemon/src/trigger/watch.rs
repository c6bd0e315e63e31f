//! Notices changes of the configuration, of environment files and of key files.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{Trigger, Waker};
use crate::config::{self, settings::Settings};

/// A change counts once nothing has changed for this long: editors write in several steps.
const QUIET: Duration = Duration::from_millis(500);

/// A file that changes without a pause is looked at this often nevertheless.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The system does not let us watch files.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot watch the configuration for changes: {0}; restart the agent after a change, or raise fs.inotify limits"
)]
pub struct WatchError(#[from] notify::Error);

/// Watches files and folders, most of which may come and go.
///
/// Editors replace a file by renaming another over it, so it is the folders around the files that are watched.
pub struct ConfigWatch {
    watcher: RecommendedWatcher,
    shared: Arc<Shared>,
    folders: BTreeSet<PathBuf>,
}

struct Shared {
    /// What counts: these paths and whatever is directly in them.
    paths: Mutex<BTreeSet<PathBuf>>,
    changed: Notify,
}

impl ConfigWatch {
    /// Begins to watch `paths`: files, and folders with what is directly in them.
    pub fn start(paths: &[PathBuf]) -> Result<Self, WatchError> {
        let shared = Arc::new(Shared { paths: Mutex::default(), changed: Notify::new() });
        let of_watcher = Arc::clone(&shared);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error means that events may be lost: then look.
            if event.map_or(true, |event| of_watcher.concerns(&event)) {
                of_watcher.changed.notify_one();
            }
        })?;
        let mut this = Self { watcher, shared, folders: BTreeSet::new() };
        this.watch(paths);
        Ok(this)
    }

    /// Watches `paths` from now on, and no others. Call it after each change too: a folder may have appeared.
    pub fn watch(&mut self, paths: &[PathBuf]) {
        let wanted = with_targets(paths);
        let folders = folders_of(&wanted);
        *self.shared.paths.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
        for gone in self.folders.difference(&folders) {
            // It may have been deleted, and its watch with it.
            let _ = self.watcher.unwatch(gone);
        }
        self.folders = folders
            .into_iter()
            .filter(|folder| match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(folder = %folder.display(), %error, "changes in this folder will not be noticed");
                    false
                }
            })
            .collect();
    }

    /// Waits for the next change, until it is over. May be dropped while it waits.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
        let latest = Instant::now() + LONGEST_WAIT;
        while Instant::now() < latest && timeout(QUIET, self.shared.changed.notified()).await.is_ok() {}
    }
}

impl Shared {
    fn concerns(&self, event: &Event) -> bool {
        // Our own reading of the files is an event too.
        if event.kind.is_access() {
            return false;
        }
        let paths = self.paths.lock().unwrap_or_else(PoisonError::into_inner);
        let counts =
            |path: &PathBuf| paths.contains(path) || path.parent().is_some_and(|folder| paths.contains(folder));
        event.need_rescan() || event.paths.iter().any(|path| counts(path) || paths.iter().any(|p| p.starts_with(path)))
    }
}

/// The paths, and what they lead to if they are symlinks: either may change.
fn with_targets(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    paths.iter().cloned().chain(paths.iter().filter_map(|path| fs::canonicalize(path).ok())).collect()
}

/// The folders to watch: those among `paths`, and the nearest existing folder above each path.
fn folders_of(paths: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let themselves = paths.iter().filter(|path| path.is_dir()).cloned();
    let above = paths.iter().filter_map(|path| path.ancestors().skip(1).find(|folder| folder.is_dir()));
    themselves.chain(above.map(Path::to_owned)).collect()
}

/// The configuration that is in force, and what is wrong with the file if a newer one was not taken over.
#[derive(Debug, Clone)]
pub struct CurrentConfig {
    /// In force.
    pub settings: Arc<Settings>,
    /// The problems of the file as it is now, in the form of [`config::ConfigErrors`]; `None` if it is in force.
    pub rejected: Option<String>,
}

/// Loads the configuration again after each change and wakes the slot; an invalid one is logged and the old one kept.
/// Ends when nobody listens to `current` any more.
pub async fn follow<R, O>(
    path: PathBuf,
    mut watch: ConfigWatch,
    current: watch::Sender<CurrentConfig>,
    waker: Waker<R, O>,
) {
    loop {
        tokio::select! {
            () = watch.changed() => {}
            () = current.closed() => return,
        }
        match config::load(&path) {
            Ok(settings) => {
                watch.watch(&config::watched(&settings, &path));
                current.send_modify(|current| {
                    current.rejected = None;
                    if *current.settings != settings {
                        tracing::info!("the configuration changed and is in force");
                        current.settings = Arc::new(settings);
                    }
                });
                // Also if the settings are the same: an environment or key file changed then.
                waker.wake(Trigger::Watch);
            }
            Err(errors) => {
                let old = Arc::clone(&current.borrow().settings);
                watch.watch(&config::watched(&old, &path));
                let errors = errors.to_string();
                tracing::error!("the configuration is invalid, so the old one stays in force:\n{errors}");
                current.send_modify(|current| current.rejected = Some(errors));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trigger::{Work, slot};

    const SOON: Duration = Duration::from_secs(5);
    const NEVER: Duration = Duration::from_millis(900);

    #[tokio::test]
    async fn sees_a_file_that_is_written_replaced_and_made() {
        let folder = tempfile::tempdir().unwrap();
        let (file, env) = (folder.path().join("agent.yml"), folder.path().join("env"));
        fs::write(&file, "1").unwrap();
        let paths = [file.clone(), env.clone()];
        let mut watch = ConfigWatch::start(&paths).unwrap();

        fs::write(&file, "2").unwrap();
        timeout(SOON, watch.changed()).await.expect("written");
        fs::write(folder.path().join("new"), "3").unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
        timeout(SOON, watch.changed()).await.expect("replaced");
        fs::create_dir(&env).unwrap();
        timeout(SOON, watch.changed()).await.expect("a folder made");
        watch.watch(&paths);
        fs::write(env.join("web.env"), "A=1").unwrap();
        timeout(SOON, watch.changed()).await.expect("a file in it made");
    }

    #[tokio::test]
    async fn ignores_reading_and_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.yml");
        fs::write(&file, "1").unwrap();
        let watch = ConfigWatch::start(std::slice::from_ref(&file)).unwrap();
        fs::read(&file).unwrap();
        fs::write(folder.path().join("other"), "x").unwrap();
        assert!(timeout(NEVER, watch.changed()).await.is_err());
    }

    #[tokio::test]
    async fn a_burst_is_one_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.yml");
        let watch = ConfigWatch::start(std::slice::from_ref(&file)).unwrap();
        for _ in 0..10 {
            fs::write(&file, "x").unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        timeout(SOON, watch.changed()).await.unwrap();
        assert!(timeout(NEVER, watch.changed()).await.is_err());
    }

    #[tokio::test]
    async fn a_valid_change_wakes_and_an_invalid_one_keeps_the_old() {
        let folder = tempfile::tempdir().unwrap();
        let (path, signers) = (folder.path().join("agent.yml"), folder.path().join("allowed_signers"));
        let text = |interval: &str| {
            format!(
                "server: a\nsource: {{ url: 'file:///r', interval: {interval} }}\ntrust: {{ allowed_signers: {} }}\n",
                signers.display()
            )
        };
        fs::write(&signers, "").unwrap();
        fs::write(&path, text("1m")).unwrap();
        let settings = config::load(&path).unwrap();
        let watcher = ConfigWatch::start(&config::watched(&settings, &path)).unwrap();
        let (sender, mut receiver) = watch::channel(CurrentConfig { settings: Arc::new(settings), rejected: None });
        let (waker, mut slot) = slot::<(), ()>();
        let follower = tokio::spawn(follow(path.clone(), watcher, sender, waker));

        fs::write(&path, text("2m")).unwrap();
        assert_eq!(timeout(SOON, slot.next()).await.unwrap(), Work::Sync(BTreeSet::from([Trigger::Watch])));
        assert_eq!(receiver.borrow_and_update().settings.source.interval, Duration::from_secs(120));

        fs::write(&path, "intervall: 3m").unwrap();
        timeout(SOON, receiver.changed()).await.unwrap().unwrap();
        let now = receiver.borrow_and_update().clone();
        assert_eq!(now.settings.source.interval, Duration::from_secs(120));
        assert!(now.rejected.unwrap().contains("agent.yml:1: intervall: is not a known key"));
        assert!(timeout(NEVER, slot.next()).await.is_err());

        drop(receiver);
        timeout(SOON, follower).await.unwrap().unwrap();
    }
}
