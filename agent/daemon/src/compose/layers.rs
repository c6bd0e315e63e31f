//! The files that Compose is given for a stack's layers: the layers themselves, or copies of them where relative paths have
//! to be resolved elsewhere than Compose does it, and what is taken out of the layers again.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use evenkeel_core::relocate::{self, RelocateError};
use evenkeel_layout::{
    problem::Problem,
    set::{Layer, Stack},
    yaml,
};

/// Layers that do not lie where Compose would resolve their relative paths, with their texts.
pub(super) fn elsewhere<'a>(stack: &'a Stack, root: &Path) -> Vec<(&'a Layer, String)> {
    let moved = stack.layers.iter().filter(|layer| layer.directory != stack.directory());
    moved.filter_map(|layer| Some((layer, text(&root.join(&layer.path))?))).collect()
}

/// A file that is read for its paths. What is no text stays where it is: Compose says what is wrong with it.
fn text(path: &Path) -> Option<String> {
    let small = path.metadata().is_ok_and(|meta| meta.len() <= yaml::MAX_YAML_BYTES as u64);
    let bytes = small.then(|| fs::read(path).ok()).flatten()?;
    yaml::decode(&bytes).ok().map(str::to_owned)
}

/// The arguments of `-f`, and what the copies among them stand for.
pub(super) struct Files {
    /// One for each layer, then one that takes out what is not the stack's.
    pub paths: Vec<PathBuf>,
    /// Copy to layer, for messages.
    copies: Vec<(String, String)>,
    /// Where the copies are, as long as this value lives.
    folder: Option<tempfile::TempDir>,
}

/// The files could not be prepared.
pub(super) enum FilesError {
    /// A layer cannot be copied: why, and where.
    Layer(Box<Problem>),
    /// The copy could not be written.
    Io(io::Error),
}

impl From<io::Error> for FilesError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Files {
    /// Prepares the files. `values` has what the paths come to that begin with a variable.
    pub fn prepare(stack: &Stack, root: &Path, values: &BTreeMap<String, String>) -> Result<Self, FilesError> {
        let moved = elsewhere(stack, root);
        let last = without(stack);
        let mut files =
            Self { paths: stack.paths().map(|path| root.join(path)).collect(), copies: Vec::new(), folder: None };
        if moved.is_empty() && last.is_none() {
            return Ok(files);
        }
        let folder = tempfile::Builder::new().prefix("evenkeel-layers-").tempdir()?;
        for (layer, text) in moved {
            let copy = relocate::relocate(&text, &layer.directory, stack.directory(), values);
            let copy = copy.map_err(|error| FilesError::Layer(Box::new(refused(layer, &error))))?;
            let at = stack.layers.iter().position(|l| std::ptr::eq(l, layer)).unwrap_or_default();
            let path = folder.path().join(format!("{at}.yml"));
            fs::write(&path, copy)?;
            files.copies.push((path.display().to_string(), layer.path.clone()));
            files.paths[at] = path;
        }
        if let Some(text) = last {
            let path = folder.path().join("last.yml");
            fs::write(&path, text)?;
            files.paths.push(path);
        }
        files.folder = Some(folder);
        Ok(files)
    }

    /// A text of Compose with the layers' names in place of their copies'.
    pub fn named(&self, said: &[u8]) -> Vec<u8> {
        if self.folder.is_none() {
            return said.to_vec();
        }
        let text = String::from_utf8_lossy(said).into_owned();
        self.copies.iter().fold(text, |text, (copy, layer)| text.replace(copy, layer)).into_bytes()
    }
}

/// A last layer that takes services out which another stack has, and keeps the project's name.
fn without(stack: &Stack) -> Option<String> {
    if stack.without.is_empty() && stack.named.is_none() {
        return None;
    }
    let quoted = |text: &str| serde_json::Value::String(text.to_owned()).to_string();
    let mut text = String::new();
    if let Some(name) = &stack.named {
        let _ = writeln!(text, "name: {}", quoted(name));
    }
    text.push_str("services:\n");
    for service in &stack.without {
        let _ = writeln!(text, "  {}: !reset null", quoted(service));
    }
    if stack.without.is_empty() {
        text.push_str("  {}\n");
    }
    Some(text)
}

fn refused(layer: &Layer, error: &RelocateError) -> Problem {
    let line = if let RelocateError::Written { line } = error { u32::try_from(*line).ok() } else { None };
    let message = format!("{} is a layer above files of other folders: {error}", layer.path);
    Problem::error("compose.layer", message, "write the path as the message says").at(layer.path.clone(), line)
}
