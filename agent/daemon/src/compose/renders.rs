//! Renderings that are remembered, so that a stack of which nothing has changed starts no process.
//!
//! In memory only: a model holds the values of environment files (decision 0028).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

use evenkeel_core::id::Digest;
use evenkeel_layout::problem::Problem;
use semver::Version;

use super::{
    Compose,
    render::{RenderError, RenderRequest, Rendered},
};

/// What renderings came to, by everything that they are made of.
#[derive(Default)]
pub struct Renders(Mutex<State>);

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

impl Renders {
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

    /// What [`Compose::render`] says, or said of the same inputs. `inputs` are the files below the request's root that are read
    /// besides its environment files; `None` if they cannot be told, and then nothing is remembered.
    pub async fn render(
        &self,
        compose: &Compose,
        request: &RenderRequest<'_>,
        inputs: Option<&BTreeSet<String>>,
    ) -> Result<Rendered, RenderError> {
        let Some(inputs) = inputs else { return compose.render(request).await };
        let key = key(request, inputs, &BTreeSet::new());
        if let Some(known) = self.with(|state| state.rendered.get(&key)) {
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
            && self::key(request, inputs, &BTreeSet::new()) == key
        {
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
    ) -> Result<BTreeMap<String, String>, RenderError> {
        let nothing_else = BTreeSet::new();
        let key = key(request, &nothing_else, names);
        if let Some(known) = self.with(|state| state.values.get(&key)) {
            return Ok(known);
        }
        let values = compose.values(request, names).await?;
        if self::key(request, &nothing_else, names) == key {
            self.with(|state| state.values.put(key, values.clone()));
        }
        Ok(values)
    }

    fn with<T>(&self, what: impl FnOnce(&mut State) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Digests everything that a rendering is made of besides the program: the stack with all its fields, where the files will be,
/// and the content of every file that is read. Where the files lie now leaves no trace in the answer.
fn key(request: &RenderRequest<'_>, inputs: &BTreeSet<String>, names: &BTreeSet<&str>) -> Digest {
    let content = |path: &Path| fs::read(path).ok().map(|bytes| Digest::of(&bytes));
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
