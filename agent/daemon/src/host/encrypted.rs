//! Files of a commit that are encrypted in Git: opened for as long as stacks are rendered, and in memory only.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use evenkeel_core::{
    model::Model,
    path::below,
    references::{ReferenceKind, references},
    slice, validate,
};
use evenkeel_layout::{
    problem::Problem,
    set::{Stack, StackSet},
    tree::Tree,
};

use super::candidates::Place;
use crate::secrets::{
    self, Keys, Kind, Plain, Unreadable,
    held::{Held, Lent},
};

/// The shortest value that is looked for in messages: shorter ones stand in too many words.
const MIN_REDACTED: usize = 6;

/// What encrypted files are opened from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The commit's files.
    pub tree: &'a (dyn Tree + Sync),
    /// Stacks whose environment files are opened.
    pub set: &'a StackSet,
    /// Where the tree's files are staged: an encrypted file there leads to its plain text as long as the answer lives.
    pub root: &'a Path,
    /// A file of age keys.
    pub identities: Option<&'a Path>,
    /// Where this is.
    pub place: Place,
}

/// The environment files of a stack that the repository has, by their paths in it.
fn env_files(tree: &dyn Tree, stack: &Stack) -> BTreeSet<String> {
    // A tree that cannot be read is told of when the stack is rendered.
    let read = references(tree, &stack.layers).unwrap_or_default();
    let read = read.into_iter().filter(|r| r.kind == ReferenceKind::EnvFile).filter_map(|r| r.path);
    stack.env_files.iter().cloned().chain(read).collect()
}

/// The encrypted environment files of these stacks.
pub fn paths(tree: &dyn Tree, set: &StackSet) -> BTreeSet<String> {
    let all: BTreeSet<String> = set.stacks.iter().flat_map(|stack| env_files(tree, stack)).collect();
    all.into_iter().filter(|path| content(tree, path).is_some()).collect()
}

/// An encrypted file's content; `None` for any other.
fn content(tree: &dyn Tree, path: &str) -> Option<(Kind, Vec<u8>)> {
    let (content, _) = slice::content(tree, path).ok()??;
    Some((secrets::recognise(&content)?, content))
}

enum State {
    Open(Plain),
    /// Without a key: what is known of the variables, the names only where SOPS leaves them readable.
    Sealed(Kind, Option<BTreeSet<String>>),
    Failed(Box<Problem>),
}

/// Encrypted files, as far as they could be opened.
pub struct Encrypted {
    files: BTreeMap<String, State>,
    opener: Opener,
    _lent: Option<Lent>,
}

/// What became of an encrypted file that is used as it is.
pub enum Opened {
    /// Its plain text.
    Plain(Plain),
    /// Nobody tried: there is no key here, and need not be.
    Sealed(Box<Problem>),
    /// It cannot be opened.
    Failed(Box<Problem>),
}

impl Encrypted {
    /// Opens the encrypted environment files of these stacks. The key is read only if there are any.
    pub fn open(source: Source<'_>) -> Self {
        let opener =
            Opener { identities: source.identities.map(Path::to_owned), place: source.place, keys: OnceLock::new() };
        let mut files = BTreeMap::new();
        let mut plain = Vec::new();
        for path in paths(source.tree, source.set) {
            let Some((kind, content)) = content(source.tree, &path) else { continue };
            let state = opener.state(&path, kind, &content);
            let shown = match &state {
                State::Open(text) => Some(text.clone()),
                State::Sealed(..) => Some(stand_in(source, &path, &content)),
                State::Failed(_) => None,
            };
            plain.extend(shown.map(|text| (path.clone(), text)));
            files.insert(path, state);
        }
        let held = plain.into_iter().map(|(path, text)| Ok((path, Held::new(&text)?)));
        let lent = held.collect::<std::io::Result<Vec<_>>>().and_then(|held| Lent::to(source.root, held));
        match lent {
            Ok(lent) => Self { files, opener, _lent: Some(lent) },
            Err(error) => {
                let fault = |path: &String| {
                    let message = format!("the file cannot be opened in memory: {error}");
                    Box::new(
                        Problem::error("secrets.memory", message, "look at the system's limits").at(path.clone(), None),
                    )
                };
                let files = files.into_keys().map(|path| (path.clone(), State::Failed(fault(&path)))).collect();
                Self { files, opener, _lent: None }
            }
        }
    }

    /// Opens a file that is used as it is, not as an environment; `None` of one that is not encrypted.
    pub fn file(&self, path: &str, content: &[u8]) -> Option<Opened> {
        let kind = secrets::recognise(content)?;
        Some(match self.opener.open(path, kind, |keys| secrets::decrypt_file(name_of(path), content, keys)) {
            Ok(Some(plain)) => Opened::Plain(plain),
            Ok(None) => Opened::Sealed(Box::new(sealed(kind, "its content is not known here").at(path, None))),
            Err(problem) => Opened::Failed(problem),
        })
    }

    /// What a stack has to be told of its files: an error for each that cannot be opened, a warning for each that nobody tried to.
    pub fn problems(&self, tree: &dyn Tree, stack: &Stack) -> Vec<Problem> {
        let files = env_files(tree, stack).into_iter().filter_map(|path| Some((self.files.get(&path)?, path)));
        let problem = |(state, path): (&State, String)| match state {
            State::Open(_) => None,
            State::Failed(problem) => Some((**problem).clone()),
            State::Sealed(kind, _) => Some(sealed(*kind, "its variables are taken for set").at(path, None)),
        };
        files.filter_map(problem).collect()
    }

    /// Whether this file is one of them, however it fared.
    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Whether this file is one of them and nobody tried to open it.
    pub fn is_sealed(&self, path: &str) -> bool {
        matches!(self.files.get(path), Some(State::Sealed(..)))
    }

    /// Whether a variable that seems to be set nowhere may be set in a file of this stack that was not opened.
    pub fn may_set(&self, stack: &Stack, problem: &Problem) -> bool {
        let sealed = stack.env_files.iter().filter_map(|path| match self.files.get(path)? {
            State::Sealed(_, names) => Some(names),
            _ => None,
        });
        let mut words = problem.message.split(' ');
        problem.code == "env.unset"
            && sealed.into_iter().any(|names| {
                names.as_ref().is_none_or(|names| words.by_ref().any(|word| names.contains(word.trim_matches('"'))))
            })
    }

    /// Takes values of opened files out of a message.
    pub fn redact(&self, problem: &mut Problem) {
        for state in self.files.values() {
            let State::Open(plain) = state else { continue };
            for line in String::from_utf8_lossy(plain).lines() {
                let value = line.split_once('=').map_or(line, |(_, value)| value).trim().trim_matches(['"', '\'']);
                if value.len() >= MIN_REDACTED && problem.message.contains(value) {
                    problem.message = problem.message.replace(value, "***");
                }
            }
        }
    }
}

/// Said of a file that nobody tried to open.
fn sealed(kind: Kind, so: &str) -> Problem {
    let message = format!("the file is encrypted with {} and was not looked into: {so}", kind.name());
    Problem::warning("secrets.no-key", message, "name a key with --identity to look into it")
}

struct Opener {
    identities: Option<PathBuf>,
    place: Place,
    /// Read when the first file needs them.
    keys: OnceLock<Result<Option<Keys>, String>>,
}

impl Opener {
    fn state(&self, path: &str, kind: Kind, content: &[u8]) -> State {
        match self.open(path, kind, |keys| secrets::decrypt_env(name_of(path), content, keys)) {
            Ok(Some(plain)) => State::Open(plain),
            Ok(None) => State::Sealed(kind, secrets::names(content)),
            Err(problem) => State::Failed(problem),
        }
    }

    /// Opens a file with the keys; nothing comes of it where there need not be any.
    fn open(
        &self,
        path: &str,
        kind: Kind,
        decrypt: impl FnOnce(Option<&Keys>) -> Result<Plain, Unreadable>,
    ) -> Result<Option<Plain>, Box<Problem>> {
        let read = || self.identities.as_deref().map(Keys::read).transpose().map_err(|e| e.to_string());
        let failed =
            |code: &str, message: String, help: String| Box::new(Problem::error(code, message, help).at(path, None));
        let keys = self.keys.get_or_init(read).as_ref().map_err(|error| {
            let message = format!("the file is encrypted with {}, and the key cannot be used: {error}", kind.name());
            failed("secrets.no-key", message, "put the file of keys right".to_owned())
        })?;
        if keys.is_none() && self.place == Place::Elsewhere {
            return Ok(None);
        }
        let plain = decrypt(keys.as_ref());
        plain.map(Some).map_err(|error| failed(error.code(), format!("the file {error}"), Unreadable::help(&error)))
    }
}

/// What stands in for an environment file that is not opened. Where its variables reach containers, each has a value that changes
/// with its ciphertext; where they are interpolated they are left out, since a value must fit where it is used.
fn stand_in(source: Source<'_>, path: &str, content: &[u8]) -> Plain {
    let is_interpolated = source.set.stacks.iter().any(|s| s.env_files.iter().any(|file| file == path));
    secrets::stand_in(name_of(path), content, !is_interpolated)
}

fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// What an encryption tool wrote and nobody decrypted, wherever it would reach a container: in variables, and in the files of
/// secrets and configs. `target` is where the model has the repository's root.
pub fn ciphertext(model: &Model, tree: &dyn Tree, target: &str) -> Vec<Problem> {
    let refused = |place: &str, help: &str| {
        let message = format!("{place} holds encrypted text where a value is expected");
        Problem::error("env.ciphertext", message, help)
    };
    let mut found = Vec::new();
    for (name, service) in model.services() {
        for (variable, value) in service.value()["environment"].as_object().into_iter().flatten() {
            if value.as_str().is_some_and(validate::is_ciphertext) {
                let help = "keep it in an encrypted environment file (`evenkeel secrets`), or on the server";
                found.push(refused(&format!("services.{name}.environment.{variable}"), help));
            }
        }
    }
    for section in ["configs", "secrets"] {
        for (name, value) in model.section(section) {
            let file = value["file"].as_str().and_then(|file| below(target, file));
            let bytes = file.and_then(|file| slice::content(tree, file).ok()?).map(|(bytes, _)| bytes);
            let is_encrypted = |bytes: &Vec<u8>| validate::is_ciphertext(&String::from_utf8_lossy(bytes));
            if bytes.as_ref().is_some_and(is_encrypted) {
                let help = "encrypt it with age, or with SOPS for an age key: `evenkeel secrets encrypt`";
                found.push(refused(&format!("{section}.{name}.file"), help));
            }
        }
    }
    found
}
