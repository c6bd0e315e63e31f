//! A stack's slice: the repository's files that it mounts, reads or builds from.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_layout::tree::{EntryKind, Tree, TreeError};

use crate::{
    id::Digest,
    model::{Model, Service},
    path::{Place, below, join, parent, resolve},
    release::{FileRecord, Files},
};

/// Most files that a slice may have.
pub const MAX_FILES: usize = 20_000;
/// How many symlinks may lead to one another, and how deep folders may be nested.
const MAX_DEPTH: usize = 64;

/// A slice, with its files' digests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice {
    /// Every file, by its path in the repository.
    pub files: Files,
    /// Of these, the ones that change no container by themselves: layers and environment files. Sorted.
    pub passive: Vec<String>,
}

/// The repository paths that containers and builds of this model see: files and folders. `root` is where the model has the
/// repository's root.
pub fn active_paths(model: &Model, root: &str) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for service in model.services().values() {
        paths.extend(service.binds().into_iter().filter_map(|(source, _)| inside(root, source)));
        paths.extend(build_paths(*service, root));
    }
    for section in ["configs", "secrets"] {
        let files = model.section(section);
        paths.extend(files.values().filter_map(|v| v["file"].as_str()).filter_map(|f| inside(root, f)));
    }
    paths
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

/// Reads the slice: everything at and below the `active` paths, and the `passive` files, as far as the tree has them.
/// Symlinks are followed within the tree and count as what they lead to.
pub fn read(
    tree: &dyn Tree,
    active: &BTreeSet<String>,
    passive: impl IntoIterator<Item = String>,
) -> Result<Slice, TreeError> {
    let mut reader = Reader { tree, files: Files::new() };
    for path in active {
        reader.add(path, 0)?;
    }
    let mut slice = Slice { files: reader.files, passive: Vec::new() };
    let passive: BTreeSet<String> = passive.into_iter().collect();
    for path in passive {
        // A layer that is also mounted is active: its container sees it.
        if slice.files.contains_key(&path) {
            continue;
        }
        if let Some(record) = record(tree, &path)? {
            slice.files.insert(path.clone(), record);
            slice.passive.push(path);
        }
    }
    Ok(slice)
}

/// The content of a slice's file and whether it is executable, through symlinks within the tree; `None` if there is none.
pub fn content(tree: &dyn Tree, path: &str) -> Result<Option<(Vec<u8>, bool)>, TreeError> {
    let Some(target) = follow(tree, path)? else { return Ok(None) };
    let executable = match tree.kind(&target)? {
        Some(EntryKind::File { executable }) => executable,
        _ => return Ok(None),
    };
    Ok(tree.read(&target)?.map(|bytes| (bytes, executable)))
}

fn record(tree: &dyn Tree, path: &str) -> Result<Option<FileRecord>, TreeError> {
    Ok(content(tree, path)?.map(|(bytes, executable)| FileRecord {
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
        executable,
    }))
}

struct Reader<'a> {
    tree: &'a dyn Tree,
    files: Files,
}

impl Reader<'_> {
    fn add(&mut self, path: &str, depth: usize) -> Result<(), TreeError> {
        let too_much = |why: &str| TreeError { path: path.to_owned(), why: why.to_owned() };
        if depth > MAX_DEPTH {
            return Err(too_much("folders or symlinks are nested too deeply"));
        }
        if self.files.len() >= MAX_FILES {
            return Err(too_much("one stack uses more than 20000 files of the repository"));
        }
        let Some(target) = follow(self.tree, path)? else { return Ok(()) };
        let kind = if target.is_empty() { Some(EntryKind::Directory) } else { self.tree.kind(&target)? };
        match kind {
            Some(EntryKind::File { .. }) => {
                if let Some(record) = record(self.tree, &target)? {
                    self.files.insert(path.to_owned(), record);
                }
            }
            Some(EntryKind::Directory) => {
                for entry in self.tree.list(&target)? {
                    self.add(&join(path, &entry.name), depth + 1)?;
                }
            }
            Some(EntryKind::Symlink | EntryKind::Submodule) | None => {}
        }
        Ok(())
    }
}

/// The path that `path` leads to when symlinks in it, at any part, are followed; `None` if one leads out of the tree or
/// round in a circle.
fn follow(tree: &dyn Tree, path: &str) -> Result<Option<String>, TreeError> {
    let mut path = path.to_owned();
    for _ in 0..MAX_DEPTH {
        match first_link(tree, &path)? {
            None => return Ok(Some(path)),
            Some((link, rest)) => {
                let target = tree.read(&link)?.unwrap_or_default();
                match resolve(parent(&link), &String::from_utf8_lossy(&target)) {
                    Place::Inside(target) => path = join(&target, &rest),
                    Place::Outside => return Ok(None),
                }
            }
        }
    }
    Ok(None)
}

/// The first part of `path` that is a symlink, and what comes after it.
fn first_link(tree: &dyn Tree, path: &str) -> Result<Option<(String, String)>, TreeError> {
    let ends = path.match_indices('/').map(|(i, _)| i).chain([path.len()]);
    for end in ends.filter(|end| *end > 0) {
        if tree.kind(&path[..end])? == Some(EntryKind::Symlink) {
            return Ok(Some((path[..end].to_owned(), path[end..].trim_start_matches('/').to_owned())));
        }
    }
    Ok(None)
}

/// Which of the slice's files each of these paths covers.
pub fn covered<'a>(files: &'a Files, paths: &BTreeSet<String>) -> BTreeMap<&'a str, &'a FileRecord> {
    files
        .iter()
        .filter(|(file, _)| paths.iter().any(|path| crate::path::is_within(file, path)))
        .map(|(file, record)| (file.as_str(), record))
        .collect()
}

#[cfg(test)]
#[path = "slice_tests.rs"]
mod tests;
