use std::{path::PathBuf, process::Command};

use evenkeel_core::references::reads;
use evenkeel_layout::{
    name::StackName,
    set::{Layer, Origin, Stack},
    tree::MapTree,
};

use super::*;
use crate::{cache::Limits, process::Runner};

/// A repository in two places, as two commits are staged, and a Compose whose runs are counted.
struct World {
    folder: tempfile::TempDir,
    compose: Compose,
    renders: Renders,
    may_last: bool,
    stack: Stack,
}

/// A stack that extends or includes is rendered once more for what its services say under `x-evenkeel`.
const RENDERING: usize = 2;
const FILES: &[(&str, &str)] = &[
    (
        "stacks/web/compose.yml",
        "include: [more/x.yml]\nservices:\n  a: {image: 'x:${TAG}', env_file: a.env, extends: {file: base.yml, service: b}}\n",
    ),
    ("stacks/web/base.yml", "services: {b: {restart: always, env_file: [{path: later.env, required: false}]}}\n"),
    ("stacks/web/more/x.yml", "services: {x: {image: 'y:${FROM:-0}'}}\n"),
    ("stacks/web/a.env", "A=1\n"),
    (".env", "TAG=1\n"),
    ("README.md", "Read me.\n"),
];

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut compose = Compose::find(Runner::plain(), None, None).unwrap();
        let script = folder.path().join("docker");
        let log = folder.path().join("log");
        let text = format!("#!/bin/sh\necho \"$@\" >>{}\nexec {} \"$@\"\n", log.display(), compose.docker.display());
        // Written by another process: no child of this one may have it open for writing when it is started.
        fs::write(&log, text).unwrap();
        assert!(Command::new("install").args(["-m", "755"]).args([&log, &script]).status().unwrap().success());
        fs::write(&log, "").unwrap();
        compose.docker = script;
        let layers = vec![Layer::new("stacks/web/compose.yml", Origin::Folder)];
        let stack = Stack { project: Some("web".to_owned()), ..Stack::new(StackName::new("web").unwrap(), layers) };
        let world = Self { folder, compose, renders: Renders::default(), may_last: true, stack };
        for commit in ["one", "two"] {
            for (path, content) in FILES {
                world.write(commit, path, content);
            }
        }
        world
    }

    fn write(&self, commit: &str, path: &str, content: &str) {
        let file = self.folder.path().join(commit).join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    /// As the next process finds it: with nothing in memory.
    fn again(&mut self, version: &Version) {
        let cache = Cache::open(&self.folder.path().join("cache"), "x", Limits::default()).unwrap();
        self.renders = Renders::lasting(cache, &self.compose, version);
    }

    fn inputs(&self) -> Option<BTreeSet<String>> {
        reads(&MapTree::new(FILES.iter().copied()), &self.stack.layers).unwrap().inputs
    }

    /// Renders a commit, and says how many processes that took.
    async fn render(&self, commit: &str) -> (Rendered, usize) {
        let count = || fs::read_to_string(self.folder.path().join("log")).unwrap().lines().count();
        let before = count();
        let root = self.folder.path().join(commit);
        let env_files: Vec<PathBuf> = vec![root.join(".env")];
        let target = Path::new("/srv/live");
        let request = RenderRequest { stack: &self.stack, env_files: &env_files, root: &root, target, lenient: false };
        let inputs = self.inputs();
        let inputs = inputs.as_ref().map(|files| Inputs { files, may_last: self.may_last });
        let rendered = self.renders.render(&self.compose, &request, inputs).await;
        (rendered.map_err(|e| e.to_string()).ok().unwrap(), count() - before)
    }
}

#[tokio::test]
async fn a_stack_of_which_nothing_changed_starts_no_process() {
    let world = World::new();
    let (first, processes) = world.render("one").await;
    assert_eq!(processes, RENDERING);
    world.write("two", "README.md", "Another text.\n");
    world.write("two", "stacks/other/compose.yml", "services: {a: {image: x}}\n");
    let (second, processes) = world.render("two").await;
    assert_eq!(processes, 0);
    assert!(first.model == second.model && first.project == second.project);
}

#[tokio::test]
async fn a_change_of_anything_that_is_read_renders_again() {
    let world = World::new();
    world.render("two").await;
    for (path, content) in [
        ("stacks/web/compose.yml", FILES[0].1.replace("x:", "z:")),
        ("stacks/web/base.yml", FILES[1].1.replace("always", "unless-stopped")),
        ("stacks/web/more/x.yml", FILES[2].1.replace("y:", "z:")),
        ("stacks/web/a.env", "A=2\n".to_owned()),
        (".env", "TAG=2\n".to_owned()),
        // What was not there: an environment file that need not be, and one that Compose looks for beside an include.
        ("stacks/web/later.env", "B=3\n".to_owned()),
        ("stacks/web/more/.env", "FROM=4\n".to_owned()),
    ] {
        let (before, processes) = world.render("two").await;
        assert_eq!(processes, 0, "{path}");
        world.write("two", path, &content);
        let (after, processes) = world.render("two").await;
        assert!(processes > 0, "{path}");
        assert!(before.model != after.model, "{path} makes a difference");
    }
}

#[tokio::test]
async fn another_compose_and_another_round_forget() {
    let world = World::new();
    let version = Version::new(2, 26, 1);
    world.renders.begin(&world.compose, version.clone());
    assert_eq!(world.render("one").await.1, RENDERING);
    world.renders.end();
    world.renders.begin(&world.compose, version.clone());
    assert_eq!(world.render("one").await.1, 0);
    world.renders.end();
    // Nobody asks for it in the next round.
    world.renders.end();
    assert_eq!(world.render("one").await.1, RENDERING);
    world.renders.begin(&world.compose, Version::new(2, 40, 0));
    assert_eq!(world.render("one").await.1, RENDERING);
    world.renders.clear();
    assert_eq!(world.render("one").await.1, RENDERING);
}

#[tokio::test]
async fn what_a_killed_compose_did_not_say_is_not_remembered() {
    let mut world = World::new();
    let whole = std::mem::replace(&mut world.compose.docker, world.folder.path().join("killed"));
    let source = world.folder.path().join("killed.sh");
    fs::write(&source, "#!/bin/sh\nkill -9 $$\n").unwrap();
    let installed = Command::new("install").args(["-m", "755"]).args([&source, &world.compose.docker]).status();
    assert!(installed.unwrap().success());
    let root = world.folder.path().join("one");
    let env_files = [root.join(".env")];
    let target = Path::new("/srv/live");
    let request = RenderRequest { stack: &world.stack, env_files: &env_files, root: &root, target, lenient: false };
    let files = world.inputs().unwrap();
    let inputs = Some(Inputs { files: &files, may_last: true });
    let killed = world.renders.render(&world.compose, &request, inputs).await;
    assert!(matches!(killed, Err(RenderError::Compose(_))), "{:?}", killed.map(|r| r.project));
    world.compose.docker = whole;
    assert!(world.render("one").await.1 > 0);
}

const VERSION: Version = Version::new(2, 26, 1);

/// What is kept on disk: the files, and all that is in them.
fn kept(world: &World) -> (usize, String) {
    let Ok(files) = fs::read_dir(world.folder.path().join("cache/evenkeel/x")) else { return (0, String::new()) };
    let texts: Vec<String> = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    (texts.len(), texts.concat())
}

#[tokio::test]
async fn the_next_process_starts_none_for_what_may_last() {
    let mut world = World::new();
    world.again(&VERSION);
    let (first, processes) = world.render("one").await;
    assert_eq!(processes, RENDERING);
    world.again(&VERSION);
    let (second, processes) = world.render("one").await;
    assert_eq!(processes, 0);
    assert!(first == second);
    // In another place of staging it is the same.
    assert_eq!(world.render("two").await.1, 0);
    // Another Compose, or one that is called with other variables, is asked anew.
    world.again(&Version::new(2, 40, 0));
    assert_eq!(world.render("one").await.1, RENDERING);
    world.compose.env.push(("DOCKER_HOST".to_owned(), "unix:///x.sock".to_owned()));
    world.again(&VERSION);
    assert_eq!(world.render("one").await.1, RENDERING);
}

#[tokio::test]
async fn what_is_kept_counts_only_as_long_as_nothing_that_is_read_changed() {
    let mut world = World::new();
    let mut seen = Vec::new();
    for (path, content) in [
        ("README.md", Some("Another text.\n")),
        ("stacks/web/base.yml", Some("services: {b: {restart: 'no'}}\n")),
        ("stacks/web/more/x.yml", Some("services: {x: {image: 'z:${FROM:-0}'}}\n")),
        ("stacks/web/a.env", Some("A=2\n")),
        (".env", Some("TAG=2\n")),
        ("stacks/web/more/.env", Some("FROM=4\n")),
        ("stacks/web/more/.env", None),
        (".env", None),
    ] {
        world.again(&VERSION);
        seen.push(world.render("one").await.0);
        match content {
            Some(content) => world.write("one", path, content),
            None => fs::remove_file(world.folder.path().join("one").join(path)).unwrap(),
        }
        if path == ".env" && content.is_none() {
            world.write("one", path, "");
        }
        world.again(&VERSION);
        let (kept, _) = world.render("one").await;
        world.renders = Renders::default();
        let (anew, _) = world.render("one").await;
        assert!(kept == anew, "{path}");
    }
    // Each change made a difference, but for that of a file that nobody reads.
    let different = seen.windows(2).filter(|two| two[0] != two[1]).count();
    assert_eq!(different, seen.len() - 2);
}

#[tokio::test]
async fn of_what_may_not_last_nothing_is_on_disk() {
    let mut world = World::new();
    world.write("one", "stacks/web/a.env", "A=Xk3vQ9\n");
    world.may_last = false;
    world.again(&VERSION);
    let (rendered, _) = world.render("one").await;
    assert!(rendered.model.value().to_string().contains("Xk3vQ9"));
    assert_eq!(kept(&world), (0, String::new()));
    world.again(&VERSION);
    assert_eq!(world.render("one").await.1, RENDERING);
    // The same may last once its file is the repository's: nothing of it was remembered.
    world.may_last = true;
    world.again(&VERSION);
    assert_eq!(world.render("one").await.1, RENDERING);
    assert!(kept(&world).1.contains("Xk3vQ9"));
}

#[tokio::test]
async fn what_speaks_of_where_its_files_lay_is_not_kept() {
    let mut world = World::new();
    let beside =
        format!("services: {{x: {{image: y, command: '{}-old'}}}}\n", world.folder.path().join("one").display());
    world.write("one", "stacks/web/more/x.yml", &beside);
    world.again(&VERSION);
    world.render("one").await;
    assert_eq!(kept(&world).0, 0);
    world.write("one", "stacks/web/more/x.yml", "services: {x: {image: y, command: '${PWD}/old'}}\n");
    world.render("one").await;
    assert_eq!(kept(&world).0, 1);
    // Where a watched link leads is part of the model and of no key.
    let watched = "services: {x: {image: y, develop: {watch: [{path: ., action: rebuild}]}}}\n";
    world.write("one", "stacks/web/more/x.yml", watched);
    world.render("one").await;
    assert_eq!(kept(&world).0, 1);
}

#[tokio::test]
async fn refusals_and_values_are_kept_as_well() {
    let mut world = World::new();
    world.write("one", "stacks/web/more/x.yml", "services: {x: {imgae: y}}\n");
    let mut said = Vec::new();
    for processes in [RENDERING / 2, 0] {
        world.again(&VERSION);
        let before = fs::read_to_string(world.folder.path().join("log")).unwrap().lines().count();
        let root = world.folder.path().join("one");
        let (env_files, target) = ([root.join(".env")], Path::new("/srv/live"));
        let request = RenderRequest { stack: &world.stack, env_files: &env_files, root: &root, target, lenient: false };
        let files = world.inputs().unwrap();
        let inputs = Some(Inputs { files: &files, may_last: true });
        match world.renders.render(&world.compose, &request, inputs).await {
            Err(RenderError::Refused(problems)) => said.push(problems),
            _ => panic!("Compose refuses it"),
        }
        let values =
            world.renders.values(&world.compose, &request, &BTreeSet::from(["TAG", "NO"]), true).await.unwrap();
        assert_eq!(values.into_iter().collect::<Vec<_>>(), [("TAG".to_owned(), "1".to_owned())]);
        let after = fs::read_to_string(world.folder.path().join("log")).unwrap().lines().count();
        // One more for the values.
        assert_eq!(after - before, if processes == 0 { 0 } else { processes + 1 });
    }
    assert!(said[0] == said[1] && !said[0].is_empty());
}
