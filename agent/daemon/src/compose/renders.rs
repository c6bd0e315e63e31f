//! Renderings that are remembered, so that a stack of which nothing has changed starts no process.
//!
//! In memory, where a model may hold what environment files say (decision 0028). For verbs of the command line also on disk, if
//! the caller says that everything that was read may be known to whoever has the repository (decision 0031).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use evenkeel_core::id::Digest;
use evenkeel_layout::problem::Problem;
use semver::Version;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Compose,
    render::{RenderError, RenderRequest, Rendered},
};
use crate::cache::Cache;

/// The sources of this program, digested: what another build rendered counts no more.
const BUILD: &str = env!("EVENKEEL_BUILD");

/// What renderings came to, by everything that they are made of.
#[derive(Default)]
pub struct Renders {
    state: Mutex<State>,
    kept: Option<Kept>,
}

/// What is read for a rendering besides its request's environment files.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// Files below the request's root, those that are not there too.
    pub files: &'a BTreeSet<String>,
    /// Whether nothing that takes part, environment files included, is more than what the repository itself has in plain text.
    pub may_last: bool,
}

#[derive(Default)]
struct State {
    made_by: Option<(Compose, Version)>,
    rendered: Known<Result<Rendered, Vec<Problem>>>,
    values: Known<BTreeMap<String, String>>,
}

/// Answers by their keys, and whether they were asked for in this round.
struct Known<T>(HashMap<Digest, (T, bool)>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone> Known<T> {
    fn get(&mut self, key: &Digest) -> Option<T> {
        let (answer, is_used) = self.0.get_mut(key)?;
        *is_used = true;
        Some(answer.clone())
    }

    fn put(&mut self, key: Digest, answer: T) {
        self.0.insert(key, (answer, true));
    }

    /// Forgets what was not asked for since this was last called.
    fn sweep(&mut self) {
        self.0.retain(|_, (_, is_used)| std::mem::take(is_used));
    }
}

/// Renderings that outlive the process.
struct Kept {
    cache: Cache,
    /// Everything that answers depend on besides the requests.
    made_by: Digest,
}

impl Kept {
    fn key(&self, key: &Digest) -> Digest {
        Digest::of([self.made_by.as_str(), key.as_str()].concat().as_bytes())
    }

    fn get<T: DeserializeOwned>(&self, key: &Digest) -> Option<T> {
        serde_json::from_slice(&self.cache.get(&self.key(key))?).ok()
    }

    /// Keeps an answer if it reads as the same again, and does not speak of where its files happened to lie.
    fn put<T: Serialize + DeserializeOwned + PartialEq>(&self, key: &Digest, request: &RenderRequest<'_>, answer: &T) {
        let Ok(text) = serde_json::to_string(answer) else { return };
        let root = request.root.display().to_string();
        let is_placed = request.root != request.target && text.contains(&root);
        if !is_placed && serde_json::from_str::<T>(&text).is_ok_and(|read| read == *answer) {
            self.cache.put(&self.key(key), text.as_bytes());
        }
    }
}

/// Which state of Docker's own settings Compose may warn of: when they were written, and how long they are. They may hold
/// credentials, so they are not read.
fn settings(compose: &Compose) -> Option<(SystemTime, u64)> {
    let value = |name: &str| compose.env.iter().find(|(key, _)| key == name).map(|(_, value)| PathBuf::from(value));
    let folder = value("DOCKER_CONFIG").or_else(|| Some(value("HOME")?.join(".docker")))?;
    let meta = fs::metadata(folder.join("config.json")).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

impl Renders {
    /// Renderings by this Compose that are looked for in a cache, and kept there where that may be.
    pub fn lasting(cache: Cache, compose: &Compose, version: &Version) -> Self {
        let made_by =
            format!("{BUILD} {version} {} {:?} {:?}", compose.docker.display(), compose.env, settings(compose));
        let kept = Kept { cache, made_by: Digest::of(made_by.as_bytes()) };
        Self { kept: Some(kept), ..Self::default() }
    }

    /// Begins a round with this Compose. What another one, or another version, rendered counts no more.
    pub fn begin(&self, compose: &Compose, version: Version) {
        self.with(|state| {
            let made_by = Some((compose.clone(), version));
            if state.made_by != made_by {
                *state = State { made_by, ..State::default() };
            }
        });
    }

    /// Ends a round: what nobody asked for in it is forgotten.
    pub fn end(&self) {
        self.with(|state| {
            state.rendered.sweep();
            state.values.sweep();
        });
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.with(|state| *state = State::default());
    }

    /// What [`Compose::render`] says, or said of the same inputs; `None` if these cannot be told, and then nothing is remembered.
    pub async fn render(
        &self,
        compose: &Compose,
        request: &RenderRequest<'_>,
        inputs: Option<Inputs<'_>>,
    ) -> Result<Rendered, RenderError> {
        let Some(Inputs { files, may_last }) = inputs else { return compose.render(request).await };
        let key = key(request, files, &BTreeSet::new());
        let kept = self.kept.as_ref().filter(|_| may_last);
        if let Some(known) = self.with(|state| state.rendered.get(&key)).or_else(|| kept?.get(&key)) {
            self.with(|state| state.rendered.put(key, known.clone()));
            return known.map_err(RenderError::Refused);
        }
        let answer = compose.render(request).await;
        let lasting = match &answer {
            Ok(rendered) => Some(Ok(rendered.clone())),
            Err(RenderError::Refused(problems)) => Some(Err(problems.clone())),
            // The next try may end better.
            Err(RenderError::Compose(_) | RenderError::Prepare(_)) => None,
        };
        // Of files that changed meanwhile nobody knows which state was read.
        if let Some(lasting) = lasting
            && self::key(request, files, &BTreeSet::new()) == key
        {
            if let Some(kept) = kept.filter(|_| !follows_links(&lasting)) {
                kept.put(&key, request, &lasting);
            }
            self.with(|state| state.rendered.put(key, lasting));
        }
        answer
    }

    /// What [`Compose::values`] says, or said of the same inputs.
    pub async fn values(
        &self,
        compose: &Compose,
        request: &RenderRequest<'_>,
        names: &BTreeSet<&str>,
        may_last: bool,
    ) -> Result<BTreeMap<String, String>, RenderError> {
        let nothing_else = BTreeSet::new();
        let key = key(request, &nothing_else, names);
        let kept = self.kept.as_ref().filter(|_| may_last);
        if let Some(known) = self.with(|state| state.values.get(&key)).or_else(|| kept?.get(&key)) {
            self.with(|state| state.values.put(key, known.clone()));
            return Ok(known);
        }
        let values = compose.values(request, names).await?;
        if self::key(request, &nothing_else, names) == key {
            if let Some(kept) = kept {
                kept.put(&key, request, &values);
            }
            self.with(|state| state.values.put(key, values.clone()));
        }
        Ok(values)
    }

    fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        what(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether Compose followed symlinks for this model: it does for paths under `develop`, and where they lead is in no key.
fn follows_links(answer: &Result<Rendered, Vec<Problem>>) -> bool {
    let develops = |rendered: &Rendered| rendered.model.services().values().any(|s| !s.value()["develop"].is_null());
    answer.as_ref().is_ok_and(develops)
}

/// Digests everything that a rendering is made of besides the program: the stack with all its fields, where the files will be,
/// and the content of every file that is read. Where the files lie now leaves no trace in the answer.
fn key(request: &RenderRequest<'_>, inputs: &BTreeSet<String>, names: &BTreeSet<&str>) -> Digest {
    // What is not there and what cannot be read are two things to Compose.
    let content = |path: &Path| match path.metadata() {
        // A pipe would keep us waiting.
        Ok(meta) if !meta.is_file() => Err(ErrorKind::Other),
        Ok(_) => fs::read(path).map(|bytes| Digest::of(&bytes)).map_err(|error| error.kind()),
        Err(error) => Err(error.kind()),
    };
    let of_repository = |path: &str| (path.to_owned(), content(&request.root.join(path)));
    let read: Vec<_> = request.stack.paths().chain(inputs.iter().map(String::as_str)).map(of_repository).collect();
    let shown = |file: &Path| file.strip_prefix(request.root).unwrap_or(file).display().to_string();
    let env: Vec<_> = request.env_files.iter().map(|file| (shown(file), content(file))).collect();
    let all = (request.stack, request.target, request.lenient, read, env, names);
    Digest::of(format!("{all:?}").as_bytes())
}

#[cfg(test)]
#[path = "renders_tests.rs"]
mod tests;
