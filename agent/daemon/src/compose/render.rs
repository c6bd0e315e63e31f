//! Rendering: Compose resolves and merges, nothing here does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use evenkeel_core::{model::Model, relocate};
use evenkeel_layout::{
    problem::{Problem, Severity},
    reserved,
    set::Stack,
    yaml::{self, Step},
};
use serde::{Deserialize, Serialize};

use super::{
    Compose, ComposeError,
    layers::{self, Files, FilesError},
    message,
};
use crate::process::{Finished, Invocation};

/// How long one `docker compose config` may take. It reads files and talks to nobody.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How many variables stand-ins are made for; each required one costs one more try.
const MAX_STAND_INS: usize = 200;
/// Most that is read of one layer or environment file for messages, in bytes.
const MAX_READ_BYTES: u64 = 10 * 1024 * 1024;
/// An environment file without anything in it: Compose looks for an `.env` of its own only if it is given none.
const NO_ENV_FILE: &str = "/dev/null";

/// What to render.
#[derive(Debug, Clone)]
pub struct RenderRequest<'a> {
    /// The stack. If its project is not known it is left to Compose: `COMPOSE_PROJECT_NAME`, `name:`, the folder.
    pub stack: &'a Stack,
    /// Environment files for interpolation, lowest first: absolute paths.
    pub env_files: &'a [PathBuf],
    /// Where the repository's files are, absolute. Best a folder that nothing else is named like: its path is replaced.
    pub root: &'a Path,
    /// Where they will be: the model's paths are below this.
    pub target: &'a Path,
    /// Treat required variables (`${X:?}`) that are not set as empty, too: for predictions in a place without secrets.
    pub lenient: bool,
}

/// A rendered stack.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendered {
    /// The model with the services that are active, and paths below the request's target.
    pub model: Model,
    /// The Compose project.
    pub project: String,
    /// Variables that are set nowhere, one problem of severity error for each.
    pub unset: Vec<Problem>,
    /// What Compose warned of.
    pub warnings: Vec<Problem>,
}

/// A stack could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Compose refuses what the files say: a problem `env.unset` for each variable that is set nowhere, and Compose's own
    /// complaint unless these variables are to blame for it. Never empty.
    #[error("{}", .0.iter().map(|p| p.message.as_str()).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Problem>),
    /// Compose itself could not be used.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// A file that is needed on the way could not be written.
    #[error("cannot prepare the rendering in the system's temporary folder: {0}")]
    Prepare(#[from] std::io::Error),
}

impl Compose {
    /// Renders a stack as it would be applied.
    pub async fn render(&self, request: &RenderRequest<'_>) -> Result<Rendered, RenderError> {
        let view = View::of(request);
        let mut stand_ins = StandIns::default();
        let mut project = request.stack.project.clone();
        let (mut model, done) = self.attempt(request, &view, &mut stand_ins).await?;
        let renamed = project.is_none().then(|| folder_name(request, &model)).flatten();
        let has_profiles = model.services().values().any(|s| !s.value()["profiles"].is_null());
        if renamed.is_some() || has_profiles {
            // Everything is checked above; what is applied is what the environment files activate.
            project = project.or(renamed);
            let active = self.config(request, project.as_deref(), &stand_ins, (false, "json")).await?;
            model = view.read(&active).map_err(|problem| RenderError::Refused(vec![*problem]))?;
        }
        if view.may_say_of_services() {
            // As JSON Compose leaves out what services say under keys that begin with `x-`.
            let whole = self.config(request, project.as_deref(), &stand_ins, (true, "yaml")).await?;
            let said = view.said_of_services(&whole).map_err(|problem| RenderError::Refused(vec![*problem]))?;
            model = model.saying(&said);
        }
        view.refuse_own(&model).map_err(|problem| RenderError::Refused(vec![*problem]))?;
        let said = message::sort(&done.stderr, request.root);
        let names: BTreeSet<&String> = said.unset.iter().chain(stand_ins.values.keys()).collect();
        let model = stand_ins.emptied(&model).rebased(&text(request.root), &text(request.target));
        Ok(Rendered {
            project: model.value()["name"].as_str().unwrap_or_default().to_owned(),
            model,
            unset: names.into_iter().map(|name| message::unset_problem(name, &view.layers)).collect(),
            warnings: said.warnings.iter().map(|text| view.warning(text)).collect(),
        })
    }

    /// Renders with every profile. If that fails while variables are not set, it is tried again with stand-ins for them: a
    /// lenient request takes what comes of it, any other learns whether the variables are to blame.
    async fn attempt(
        &self,
        request: &RenderRequest<'_>,
        view: &View<'_>,
        stand_ins: &mut StandIns,
    ) -> Result<(Model, Finished), RenderError> {
        let mut first: Option<Box<Problem>> = None;
        loop {
            let done = self.config(request, request.stack.project.as_deref(), stand_ins, (true, "json")).await?;
            let said = message::sort(&done.stderr, request.root);
            let last = match view.read(&done) {
                Ok(model) if first.is_none() || request.lenient => return Ok((model, done)),
                Ok(_) => None,
                Err(problem) if stand_ins.values.len() < MAX_STAND_INS && stand_ins.learn(view, &said) => {
                    first.get_or_insert(problem);
                    continue;
                }
                Err(problem) => Some(problem),
            };
            let mut problems = stand_ins.problems(view, first.as_deref());
            match last {
                // The same complaint whatever the values: it is not the values that Compose complains of.
                Some(last) if first.is_none_or(|first| first.message == last.message) => problems.push(*last),
                Some(last) if request.lenient => problems.push(message::undecided(&last)),
                Some(_) | None => {}
            }
            return Err(RenderError::Refused(problems));
        }
    }

    /// The values that these variables have for the stack's interpolation; variables that are not set are left out.
    pub async fn values(
        &self,
        request: &RenderRequest<'_>,
        names: &BTreeSet<&str>,
    ) -> Result<BTreeMap<String, String>, RenderError> {
        let texts: BTreeMap<String, String> = names.iter().map(|n| ((*n).to_owned(), format!("${{{n}}}"))).collect();
        let done = self.interpolated(request, &texts, None).await?;
        let view = View::of(request);
        let model = view.read(&done).map_err(|problem| RenderError::Refused(vec![*problem]))?;
        let unset = message::sort(&done.stderr, request.root).unset;
        let shown = model.service("probe").and_then(|s| s.value()["environment"].as_object()).into_iter().flatten();
        Ok(shown
            .filter(|(name, _)| !unset.contains(*name))
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.replace("$$", "$"))))
            .collect())
    }

    /// What texts come to when Compose interpolates them for this stack: its model shows them as variables of a service.
    /// Compose reads its environment files in a way of its own, so it is asked.
    async fn interpolated(
        &self,
        request: &RenderRequest<'_>,
        texts: &BTreeMap<String, String>,
        lowest: Option<&Path>,
    ) -> Result<Finished, RenderError> {
        let probe = serde_json::json!({"services": {"probe": {"image": "probe", "environment": texts}}});
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("probe.json");
        fs::write(&file, probe.to_string())?;
        let mut args = ["compose", "-p", "probe", "-f"].map(str::to_owned).to_vec();
        args.push(text(&file));
        args.extend(["--project-directory".to_owned(), text(&request.root.join(request.stack.directory()))]);
        args.extend(env_file_args(lowest.into_iter().chain(request.env_files.iter().map(PathBuf::as_path))));
        args.extend(["config", "--format", "json"].map(str::to_owned));
        ended(self.run(&self.config_invocation(request, args), None).await?)
    }

    /// What the paths come to that begin with a variable, of layers whose relative paths are resolved elsewhere.
    async fn path_values(
        &self,
        request: &RenderRequest<'_>,
        lowest: Option<&Path>,
    ) -> Result<BTreeMap<String, String>, RenderError> {
        let moved = layers::elsewhere(request.stack, request.root);
        let paths: BTreeSet<String> = moved.iter().flat_map(|(_, text)| relocate::variable_paths(text)).collect();
        if paths.is_empty() {
            return Ok(BTreeMap::new());
        }
        let keyed: Vec<(String, String)> =
            paths.into_iter().enumerate().map(|(at, path)| (format!("PATH{at}"), path)).collect();
        let done = self.interpolated(request, &keyed.iter().cloned().collect(), lowest).await?;
        // Without an answer they stay as they are, and Compose says what is wrong with them.
        let Ok(model) = Model::parse(&String::from_utf8_lossy(&done.stdout)) else { return Ok(BTreeMap::new()) };
        let Some(probe) = model.service("probe") else { return Ok(BTreeMap::new()) };
        let value = |key: &str| probe.value()["environment"][key].as_str().map(|v| v.replace("$$", "$"));
        Ok(keyed.into_iter().filter_map(|(key, path)| Some((path, value(&key)?))).collect())
    }

    async fn config(
        &self,
        request: &RenderRequest<'_>,
        project: Option<&str>,
        stand_ins: &StandIns,
        (every_profile, format): (bool, &str),
    ) -> Result<Finished, RenderError> {
        let file = stand_ins.file(&request.stack.defaults)?;
        let lowest = file.as_ref().map(tempfile::NamedTempFile::path);
        let values = self.path_values(request, lowest).await?;
        let files = Files::prepare(request.stack, request.root, &values)?;
        let mut args = config_args(request, project, &files.paths, lowest);
        let all = ["*".to_owned()];
        for profile in if every_profile { &all[..] } else { &request.stack.profiles[..] } {
            args.extend(["--profile".to_owned(), profile.clone()]);
        }
        args.extend(["config", "--format", format].map(str::to_owned));
        let mut done = ended(self.run(&self.config_invocation(request, args), None).await?)?;
        done.stderr = files.named(&done.stderr);
        Ok(done)
    }

    fn config_invocation(&self, request: &RenderRequest<'_>, args: Vec<String>) -> Invocation {
        let cwd = request.root.join(request.stack.directory());
        let mut invocation = self.invocation(args, &cwd, TIMEOUT);
        invocation.env.extend([
            // `${PWD}` in a file means the folder that a person would run Compose in.
            ("PWD".to_owned(), text(&cwd)),
            // Only what the signed commit holds is rendered.
            ("COMPOSE_EXPERIMENTAL_GIT_REMOTE".to_owned(), "false".to_owned()),
            ("COMPOSE_EXPERIMENTAL_OCI_REMOTE".to_owned(), "false".to_owned()),
        ]);
        invocation
    }
}

/// Everything up to the profiles and the subcommand.
fn config_args(
    request: &RenderRequest<'_>,
    project: Option<&str>,
    files: &[PathBuf],
    lowest_env_file: Option<&Path>,
) -> Vec<String> {
    let mut args = vec!["compose".to_owned()];
    if let Some(project) = project {
        args.extend(["-p".to_owned(), project.to_owned()]);
    }
    for file in files {
        args.extend(["-f".to_owned(), text(file)]);
    }
    args.extend(["--project-directory".to_owned(), text(&request.root.join(request.stack.directory()))]);
    args.extend(env_file_args(lowest_env_file.into_iter().chain(request.env_files.iter().map(PathBuf::as_path))));
    args
}

/// What was said by a Compose that came to its end. One that was killed has judged nothing, nor has one that the system gave no
/// memory or threads.
fn ended(done: Finished) -> Result<Finished, RenderError> {
    let starved =
        ["fatal error: runtime: ", "runtime: failed to create new OS thread", "runtime/cgo: pthread_create failed"];
    let said = || String::from_utf8_lossy(&done.stderr);
    let message = match done.code {
        None => "something killed it",
        Some(code) if code != 0 && starved.iter().any(|words| said().contains(words)) => {
            "the system gave it too little memory or too few threads"
        }
        Some(_) => return Ok(done),
    };
    let (what, message) = ("docker compose config".to_owned(), message.to_owned());
    Err(RenderError::Compose(ComposeError::Failed { what, message }))
}

fn env_file_args<'a>(files: impl Iterator<Item = &'a Path>) -> Vec<String> {
    let mut args: Vec<String> = files.flat_map(|file| ["--env-file".to_owned(), text(file)]).collect();
    if args.is_empty() {
        args.extend(["--env-file", NO_ENV_FILE].map(str::to_owned));
    }
    args
}

fn text(path: &Path) -> String {
    let text = path.display().to_string();
    // A join with an empty directory ends in a slash.
    if text.len() > 1 { text.trim_end_matches('/').to_owned() } else { text }
}

/// A project that took its name from the root folder takes that of the folder where it will be.
fn folder_name(request: &RenderRequest<'_>, model: &Model) -> Option<String> {
    let name_of = |path: &Path| path.file_name().map(|n| normal_project(&n.to_string_lossy()));
    let (here, there) = (name_of(request.root)?, name_of(request.target)?);
    let named = model.value()["name"].as_str()?;
    (request.stack.directory().is_empty() && named == here && here != there).then_some(there)
}

/// A folder's name as Compose makes a project of it: <https://docs.docker.com/compose/how-tos/project-name/>.
pub fn normal_project(folder: &str) -> String {
    let name: String =
        folder.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect();
    name.trim_start_matches(['_', '-']).to_owned()
}

/// What is needed to make good messages of what Compose says.
struct View<'a> {
    root: &'a Path,
    layers: Vec<message::Layer<'a>>,
    env: Vec<Vec<u8>>,
}

impl<'a> View<'a> {
    fn of(request: &RenderRequest<'a>) -> Self {
        let layers = request.stack.paths().map(|path| {
            let bytes = read_some(&request.root.join(path));
            message::Layer { path, text: String::from_utf8_lossy(&bytes).into_owned() }
        });
        Self {
            root: request.root,
            layers: layers.collect(),
            env: request.env_files.iter().map(|file| read_some(file)).collect(),
        }
    }

    /// Whether a service may say something of itself, in a layer or in a file that it takes in.
    fn may_say_of_services(&self) -> bool {
        let words = ["x-evenkeel", "extends", "include"];
        self.layers.iter().any(|layer| words.iter().any(|word| layer.text.contains(word)))
    }

    fn read(&self, done: &Finished) -> Result<Model, Box<Problem>> {
        let text = self.printed(done)?;
        Model::parse(&text).map_err(|e| self.refused(&[format!("Compose printed {e}")]))
    }

    /// What the services of a model in YAML say of themselves, by service.
    fn said_of_services(&self, done: &Finished) -> Result<BTreeMap<String, serde_json::Value>, Box<Problem>> {
        #[derive(serde::Deserialize)]
        struct Whole {
            #[serde(default)]
            services: BTreeMap<String, Said>,
        }
        #[derive(serde::Deserialize)]
        struct Said {
            #[serde(default, rename = "x-evenkeel")]
            said: serde_json::Value,
        }
        let whole: Whole = serde_yaml::from_str(&self.printed(done)?)
            .map_err(|e| self.refused(&[format!("what the services say under x-evenkeel cannot be read: {e}")]))?;
        let said = whole.services.into_iter().map(|(name, service)| (name, service.said));
        Ok(said.filter(|(_, said)| !said.is_null()).collect())
    }

    fn printed(&self, done: &Finished) -> Result<String, Box<Problem>> {
        if !done.success() {
            return Err(self.refused(&message::sort(&done.stderr, self.root).errors));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn refused(&self, errors: &[String]) -> Box<Problem> {
        let mut problem = message::problem(errors, &self.layers);
        problem.message = message::redacted(&problem.message, &self.env);
        Box::new(problem)
    }

    /// Refuses keys that only we write into a model, however a file brought them there.
    fn refuse_own(&self, model: &Model) -> Result<(), Box<Problem>> {
        let mut keys = model.value().as_object().into_iter().flatten().map(|(key, _)| key);
        let Some((key, problem)) = keys.find_map(|key| Some((key, reserved(key)?))) else { return Ok(()) };
        let line = |layer: &&message::Layer<'_>| yaml::line_of(&layer.text, &[Step::Key(key)]);
        let layer = self.layers.iter().rev().find(|layer| line(layer).is_some()).or(self.layers.first());
        Err(Box::new(match layer {
            Some(layer) => problem.at(layer.path, line(&layer)),
            None => problem,
        }))
    }

    fn warning(&self, text: &str) -> Problem {
        let text = &message::redacted(text, &self.env);
        let mut problem = Problem::warning("compose.warning", text, "follow Compose's advice");
        // That nobody needs to write `version:` any more is no fault of the deployment.
        if text.contains("is obsolete") {
            problem.severity = Severity::Info;
        }
        let layer = self.layers.iter().find(|l| text.contains(l.path)).or(self.layers.first());
        match layer {
            Some(layer) => problem.at(layer.path, None),
            None => problem,
        }
    }
}

fn read_some(file: &Path) -> Vec<u8> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    // Only for messages: a file that cannot be read is Compose's to complain of.
    if let Ok(file) = fs::File::open(file) {
        let _ = file.take(MAX_READ_BYTES).read_to_end(&mut bytes);
    }
    bytes
}

/// Values for variables that are set nowhere, so that Compose goes on; they are taken out of the model again.
#[derive(Default)]
struct StandIns {
    values: BTreeMap<String, String>,
}

impl StandIns {
    /// Adds the variables that Compose asks or warns of. Returns whether there were any that it did not have.
    fn learn(&mut self, view: &View<'_>, said: &message::Said) -> bool {
        let errors = said.errors.join("\n");
        let required = message::required_variable(&errors).map(str::to_owned);
        let before = self.values.len();
        for name in said.unset.iter().cloned().chain(required) {
            let value = message::plausible_value(&name, &view.layers);
            self.values.entry(name).or_insert(value);
        }
        self.values.len() > before
    }

    /// A problem for each variable, in Compose's own words if it asked for one.
    fn problems(&self, view: &View<'_>, first: Option<&Problem>) -> Vec<Problem> {
        let asked = first.filter(|problem| problem.code == "env.unset");
        let other = |name: &&String| asked.is_none_or(|p| !p.message.starts_with(&format!("the variable {name} must")));
        let unset = self.values.keys().filter(other).map(|name| message::unset_problem(name, &view.layers));
        asked.cloned().into_iter().chain(unset).collect()
    }

    /// The lowest environment file, with what a server's list says of the stack: whatever is set elsewhere wins.
    fn file(&self, defaults: &BTreeMap<String, String>) -> Result<Option<tempfile::NamedTempFile>, RenderError> {
        if self.values.is_empty() && defaults.is_empty() {
            return Ok(None);
        }
        let mut file = tempfile::NamedTempFile::new()?;
        for (name, value) in self.values.iter().chain(defaults) {
            writeln!(file, "{name}={}", quoted(value))?;
        }
        Ok(Some(file))
    }

    fn emptied(&self, model: &Model) -> Model {
        let marked = self.values.values().filter(|value| value.contains(message::MARK));
        marked.fold(model.clone(), |model, value| model.replaced(value, ""))
    }
}

/// A value as Compose's environment files have it, not interpolated.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '.');
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    if !value.contains(['\'', '\n']) {
        return format!("'{value}'");
    }
    format!("\"{}\"", value.replace('"', "\\\"").replace('$', "\\$").replace('\n', "\\n"))
}

impl From<FilesError> for RenderError {
    fn from(error: FilesError) -> Self {
        match error {
            FilesError::Layer(problem) => Self::Refused(vec![*problem]),
            FilesError::Io(error) => Self::Prepare(error),
        }
    }
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "merge_tests.rs"]
mod merge_tests;

#[cfg(test)]
#[path = "random_tests.rs"]
mod random_tests;
