//! `evenkeel render`: the Compose model of one stack, as it would be applied.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use evenkeel_core::{
    outcome::Exit,
    provenance::{self, Said},
    references::{ReferenceKind, reads, references},
};
use evenkeel_layout::{
    name::StackName,
    problem::{Problem, Severity},
    set::{Stack, StackSet},
    tree::TreeError,
    yaml,
};
use serde::Serialize;

use super::{
    cache::{CacheArgs, With},
    output::{Failure, Output, SCHEMA},
    repo::{self, RepoArgs, Source},
    runtime,
    secrets::IdentityArgs,
    text::{self, DIM},
};
use crate::{
    compose::{
        render::{RenderError, RenderRequest, Rendered},
        renders::Inputs,
    },
    host::{
        candidates::Place,
        encrypted::{self, Encrypted},
        examples::Examples,
        lasting::Origin,
    },
};

/// The end of the advice on variables that may be empty.
const OR_ALLOW_UNSET: &str = ", or --allow-unset";

/// Print the Compose model of one stack, as it would be applied.
///
/// Works on the files alone: `docker compose` is needed, an engine is not.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel render --server home immich
  evenkeel render --server home immich --env-file secrets.env
  evenkeel render --server home immich --live-root /srv/evenkeel
  evenkeel render --server home immich --explain
  evenkeel render --rev main --server home immich --allow-unset | jq .services")]
pub struct Args {
    #[command(flatten)]
    repo: RepoArgs,
    /// A revision instead of the work tree; of a bare repository the default is HEAD
    #[arg(long, value_name = "REV")]
    rev: Option<String>,
    /// The stack
    stack: String,
    /// Variables besides those of the repository; may be given again, later files win
    #[arg(long = "env-file", value_name = "FILE")]
    env_files: Vec<PathBuf>,
    /// Show for each key of the model the layer and line that it comes from, instead of the model
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// Take variables that are set nowhere for empty, as Compose does
    #[arg(long)]
    allow_unset: bool,
    /// Where the files will be; default is the repository's folder
    #[arg(long, value_name = "DIR")]
    live_root: Option<PathBuf>,
}

/// Prints the model.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let source = Source::open(&args.repo.repo, args.rev.as_deref())?;
    let (server, set) = source.one_set(args.repo.server.as_deref())?;
    let stack = find(&set, &args.stack)?;
    let prepared = source.prepare(&[(server.clone(), set.clone())], false)?;
    let target = match &args.live_root {
        Some(root) => absolute(root)?,
        None => source.dir().to_owned(),
    };
    let mut env_files: Vec<PathBuf> = stack.env_files.iter().map(|path| prepared.root.join(path)).collect();
    for file in &args.env_files {
        env_files.push(given(file)?);
    }
    // Where keys come from can be told without the values of variables.
    let lenient = args.explain;
    let request = RenderRequest { stack, env_files: &env_files, root: &prepared.root, target: &target, lenient };
    let only = StackSet { stacks: vec![stack.clone()], ..set.clone() };
    let from = encrypted::Source {
        tree: source.tree(),
        set: &only,
        root: &prepared.root,
        identities: args.identity.file()?,
        place: Place::Elsewhere,
    };
    let encrypted = Encrypted::open(from);
    let (errors, warnings): (Vec<Problem>, Vec<Problem>) =
        encrypted.problems(source.tree(), stack).into_iter().partition(|p| p.severity == Severity::Error);
    if !errors.is_empty() {
        return Err(failed(&errors));
    }
    let examples = Examples::of(source.tree(), stack, &server);
    let reads = reads(source.tree(), &stack.layers).map_err(|e| unreadable(&e))?;
    let origin = Origin { tree: source.tree(), committed: source.committed(), encrypted: &encrypted };
    let may_last = origin.is_plain(&request, &reads);
    // A file that was named may be a pipe, which is there to be read once.
    let inputs = reads.inputs.as_ref().filter(|_| args.env_files.is_empty()).map(|files| Inputs { files, may_last });
    let rendered = runtime()?.block_on(async {
        let With { compose, renders } = With::of(args.cache).await?;
        Ok::<_, Failure>(renders.render(&compose, &request, inputs).await)
    })?;
    let mut rendered = rendered.map_err(|e| failure(e, args.allow_unset, &examples))?;
    rendered.warnings.extend(warnings);
    rendered.unset.retain(|problem| !encrypted.may_set(stack, problem));
    for problem in &mut rendered.unset {
        examples.point_out(problem);
    }
    if args.explain {
        let unset = rendered.unset.iter().cloned().map(|p| Problem { severity: Severity::Warning, ..p });
        out.note_text(&text::problems(&rendered.warnings.iter().cloned().chain(unset).collect::<Vec<_>>()));
        let document = explained(&source, stack, &rendered)?;
        out.answer(&document, explained_text);
        return Ok(Exit::Fine);
    }
    answer(&rendered, args.allow_unset, out)
}

/// Where the keys of a model come from.
#[derive(Serialize)]
struct Explained {
    schema: u32,
    stack: StackName,
    keys: Vec<Said>,
}

fn explained(source: &Source, stack: &Stack, rendered: &Rendered) -> Result<Explained, Failure> {
    let tree = source.tree();
    let references = references(tree, &stack.layers).map_err(|e| unreadable(&e))?;
    let of_kind = |kinds: &'static [ReferenceKind]| {
        references.iter().filter(|r| kinds.contains(&r.kind)).filter_map(|r| r.path.clone())
    };
    let text = |path: String| -> Option<provenance::Source> {
        let bytes = tree.read(&path).ok()??;
        Some(provenance::Source { path, text: yaml::decode(&bytes).ok()?.to_owned() })
    };
    let layers = stack.layers.iter().rev().map(|l| l.path.clone());
    let taken = of_kind(&[ReferenceKind::Include, ReferenceKind::Extends]);
    let layers: Vec<_> = layers.chain(taken).filter_map(text).collect();
    let env_files: Vec<_> = of_kind(&[ReferenceKind::EnvFile]).filter_map(text).collect();
    let keys = provenance::explain(&rendered.model, &layers, &env_files);
    Ok(Explained { schema: SCHEMA, stack: stack.name.clone(), keys })
}

fn unreadable(e: &TreeError) -> Failure {
    Failure::failed("tree.unreadable", e.to_string(), "check the repository; `git fsck` finds broken objects")
}

fn explained_text(document: &Explained) -> String {
    let width = document.keys.iter().map(|said| said.key.chars().count()).max().unwrap_or(0).min(60);
    let mut out = String::new();
    for Said { key, path, line } in &document.keys {
        let place = match (path, line) {
            (Some(path), Some(line)) => format!("{path}:{line}"),
            (Some(path), None) => path.clone(),
            (None, _) => format!("{DIM}Compose's own{DIM:#}"),
        };
        let _ = writeln!(out, "{key:<width$}  {place}");
    }
    out
}

fn answer(rendered: &Rendered, allow_unset: bool, out: &Output) -> Result<Exit, Failure> {
    out.note_text(&text::problems(&rendered.warnings));
    if !rendered.unset.is_empty() && !allow_unset {
        return Err(failed(&rendered.unset));
    }
    out.json(rendered.model.value());
    Ok(Exit::Fine)
}

/// One failure of several problems; its code and help are the first one's.
fn failed(problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(|problem| repo::from_problem(problem).message).collect();
    let mut failure = problems.first().map_or_else(
        || Failure::failed("compose.invalid", "Compose refuses the stack", "correct the file"),
        repo::from_problem,
    );
    failure.message = lines.join("\n");
    if failure.code == "env.unset" {
        failure.help.push_str("; or name a file with --env-file");
        // A variable that Compose demands (`${NAME:?}`) may not be unset.
        if problems.iter().all(|p| p.message.ends_with("set nowhere")) {
            failure.help.push_str(OR_ALLOW_UNSET);
        }
    }
    failure
}

fn find<'a>(set: &'a StackSet, name: &str) -> Result<&'a Stack, Failure> {
    let found = set.stacks.iter().find(|stack| stack.name.as_str() == name);
    match (repo::fault(set, Some(name)), found) {
        (Some(failure), _) => Err(failure),
        (None, Some(stack)) => Ok(stack),
        (None, None) => Err(repo::no_stack(set, name)),
    }
}

fn failure(error: RenderError, allow_unset: bool, examples: &Examples) -> Failure {
    match error {
        RenderError::Refused(mut problems) => {
            for problem in &mut problems {
                examples.point_out(problem);
            }
            // Variables that may be unset are not what is wrong, unless Compose says so.
            let others = problems.iter().any(|p| p.code != "env.unset");
            problems.retain(|p| !(allow_unset && others && p.code == "env.unset"));
            let mut failure = failed(&problems);
            if allow_unset && !others {
                failure.message = format!("Compose refuses the stack while these are empty\n{}", failure.message);
                failure.help = failure.help.replace(OR_ALLOW_UNSET, "");
            }
            failure
        }
        RenderError::Compose(e) => match e.code() {
            Some(code) => Failure::transient(code, e.to_string(), "install Docker's command line with Compose"),
            None => Failure::failed("compose.failed", e.to_string(), "run `docker compose config` by hand"),
        },
        RenderError::Prepare(e) => {
            Failure::failed("stage.failed", e.to_string(), "look at the temporary folder ($TMPDIR)")
        }
    }
}

fn given(file: &Path) -> Result<PathBuf, Failure> {
    let path = absolute(file)?;
    // Process substitution (`<(…)`) gives a pipe, which Compose reads as well.
    if path.exists() && !path.is_dir() {
        return Ok(path);
    }
    Err(Failure::usage("env.file", format!("there is no file {}", file.display()), "name a file with --env-file"))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map(|path| path.components().collect())
        .map_err(|e| Failure::usage("usage", format!("{}: {e}", path.display()), "name a path"))
}
