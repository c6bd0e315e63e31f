//! A stack's slice: the repository's files that it mounts, reads or builds from.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_layout::{
    problem::Problem,
    tree::{EntryKind, Tree, TreeError},
};

use crate::{
    id::Digest,
    model::{Model, Service},
    path::{Followed, Place, below, follow, is_within, join, parent, resolve},
    release::{FileRecord, Files},
};

/// Most names that are looked at for one slice.
pub const MAX_ENTRIES: usize = 50_000;
/// Most files that are copied for a health-check script, itself among them.
pub const MAX_SCRIPT_FILES: usize = 1000;
/// Most bytes of them.
pub const MAX_SCRIPT_BYTES: u64 = 32 * MIB;
const MIB: u64 = 1024 * 1024;

/// A slice, with its files' digests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice {
    /// Every file, by its path in the repository.
    pub files: Files,
    /// Of these, the ones that change no container by themselves: layers and environment files. Sorted.
    pub passive: Vec<String>,
    /// What the model uses and cannot have, such as a symlink that leads out of the repository.
    pub problems: Vec<Problem>,
}

/// The repository paths that containers and builds of this model see: files and folders. `root` is where the model has the
/// repository's root.
pub fn active_paths(model: &Model, root: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for service in model.services().values() {
        paths.extend(mounted_paths(*service, root));
        paths.extend(build_paths(*service, root));
    }
    for section in ["configs", "secrets"] {
        let files = model.section(section);
        paths.extend(files.values().filter_map(|v| v["file"].as_str()).filter_map(|f| inside(root, f)));
    }
    paths.extend(model.watched().chain(model.health_check()).filter_map(|file| inside(root, file)));
    paths
}

/// The repository paths that this service bind-mounts.
pub fn mounted_paths(service: Service<'_>, root: &str) -> BTreeSet<String> {
    service.binds().into_iter().filter_map(|(source, _)| inside(root, source)).collect()
}

/// The repository paths that building this service's image reads.
pub fn build_paths(service: Service<'_>, root: &str) -> BTreeSet<String> {
    let Some(build) = service.build() else { return BTreeSet::new() };
    let context = build["context"].as_str().unwrap_or_default();
    let mut paths: BTreeSet<String> = inside(root, context).into_iter().collect();
    if let (Some(context), Some(dockerfile)) = (inside(root, context), build["dockerfile"].as_str()) {
        let file = match resolve(&context, dockerfile) {
            Place::Inside(path) => Some(path),
            Place::Outside => inside(root, dockerfile),
        };
        paths.extend(file);
    }
    let more = build["additional_contexts"].as_object().into_iter().flat_map(|m| m.values());
    paths.extend(more.filter_map(|v| v.as_str()).filter_map(|path| inside(root, path)));
    paths
}

fn inside(root: &str, path: &str) -> Option<String> {
    below(root, path).map(str::to_owned)
}

/// Which of the slice's files each of these paths covers.
pub fn covered<'a>(files: &'a Files, paths: &BTreeSet<String>) -> BTreeMap<&'a str, &'a FileRecord> {
    files
        .iter()
        .filter(|(file, _)| paths.iter().any(|path| is_within(file, path)))
        .map(|(file, record)| (file.as_str(), record))
        .collect()
}

/// Of these files the ones that go with a script, a path in the repository: those in its folder and below.
pub fn beside(files: &Files, script: &str) -> Files {
    let of_folder = files.iter().filter(|(file, _)| is_within(file, parent(script)));
    of_folder.map(|(file, record)| (file.clone(), record.clone())).collect()
}

/// A health-check script that has more beside it than the gate copies for it.
pub fn check_script(model: &Model, root: &str, files: &Files) -> Option<Problem> {
    let script = below(root, model.health_check()?)?;
    let (count, bytes) = beside(files, script)
        .values()
        .fold((0, 0_u64), |(count, bytes), record| (count + 1, bytes.saturating_add(record.size)));
    if count <= MAX_SCRIPT_FILES && bytes <= MAX_SCRIPT_BYTES {
        return None;
    }
    let message = format!(
        "the health-check script {script} has {count} files with {} MiB in its folder and below that the stack uses; {MAX_SCRIPT_FILES} \
         files and {} MiB are the most that is copied for it",
        bytes.div_ceil(MIB),
        MAX_SCRIPT_BYTES / MIB
    );
    let help = "move the script into a folder of its own, with only what it needs";
    Some(Problem::error("hooks.size", message, help).at(script, None))
}

/// Reads the slice: everything at and below the `active` paths, and the `passive` files, as far as the tree has them.
/// Symlinks are followed within the tree and count as what they lead to.
pub fn read(
    tree: &dyn Tree,
    active: &BTreeSet<String>,
    passive: impl IntoIterator<Item = String>,
) -> Result<Slice, TreeError> {
    let mut reader = Reader { tree, slice: Slice::default(), seen: 0 };
    for path in active {
        reader.follow(path, path)?;
    }
    let mut slice = reader.slice;
    let passive: BTreeSet<String> = passive.into_iter().collect();
    for path in passive {
        // A layer that is also mounted is active: its container sees it.
        if slice.files.contains_key(&path) {
            continue;
        }
        if let Some((bytes, executable)) = content(tree, &path)? {
            slice.files.insert(path.clone(), record(&bytes, executable));
            slice.passive.push(path);
        }
    }
    slice.problems.sort();
    slice.problems.dedup();
    Ok(slice)
}

/// The content of a slice's file and whether it is executable, through symlinks within the tree; `None` if there is none.
pub fn content(tree: &dyn Tree, path: &str) -> Result<Option<(Vec<u8>, bool)>, TreeError> {
    let Followed::To(target) = follow(tree, path)? else { return Ok(None) };
    let Some(EntryKind::File { executable }) = tree.kind(&target)? else { return Ok(None) };
    Ok(tree.read(&target)?.map(|bytes| (bytes, executable)))
}

fn record(bytes: &[u8], executable: bool) -> FileRecord {
    FileRecord { digest: Digest::of(bytes), size: bytes.len() as u64, executable }
}

struct Reader<'a> {
    tree: &'a dyn Tree,
    slice: Slice,
    seen: usize,
}

impl Reader<'_> {
    /// Adds what `at` leads to under the name `path`.
    fn follow(&mut self, path: &str, at: &str) -> Result<(), TreeError> {
        match follow(self.tree, at)? {
            // A folder that holds a link to itself, or to one above, would never end.
            Followed::To(target) if target != at && is_within(at, &target) => self.refuse(path, "leads into itself"),
            Followed::To(target) => {
                let kind = if target.is_empty() { Some(EntryKind::Directory) } else { self.tree.kind(&target)? };
                // Without a kind it is not in the repository: data that exists on the server only, or nothing.
                if let Some(kind) = kind {
                    return self.add(path, &target, kind);
                }
            }
            Followed::Outside => self.refuse(path, "is a symlink out of the repository"),
            Followed::Circle => self.refuse(path, "is a symlink that leads round in a circle"),
        }
        Ok(())
    }

    fn add(&mut self, path: &str, target: &str, kind: EntryKind) -> Result<(), TreeError> {
        self.seen += 1;
        if self.seen > MAX_ENTRIES {
            let why = format!("one stack uses more than {MAX_ENTRIES} files of the repository");
            return Err(TreeError { path: path.to_owned(), why });
        }
        match kind {
            EntryKind::File { executable } => {
                if let Some(bytes) = self.tree.read(target)? {
                    self.slice.files.insert(path.to_owned(), record(&bytes, executable));
                }
            }
            EntryKind::Directory => {
                for entry in self.tree.list(target)? {
                    let (path, target) = (join(path, &entry.name), join(target, &entry.name));
                    match entry.kind {
                        EntryKind::Symlink => self.follow(&path, &target)?,
                        kind => self.add(&path, &target, kind)?,
                    }
                }
            }
            EntryKind::Submodule => self.refuse(path, "is a submodule, whose files no commit of this repository has"),
            EntryKind::Symlink => {}
        }
        Ok(())
    }

    fn refuse(&mut self, path: &str, why: &str) {
        let message = format!("{path} {why}, and the stack uses it");
        let help = "put the files themselves into the repository";
        self.slice.problems.push(Problem::error("path.outside", message, help).at(path, None));
    }
}

#[cfg(test)]
#[path = "slice_tests.rs"]
mod tests;
