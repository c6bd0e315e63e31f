use std::{path::PathBuf, process::Command};

use evenkeel_core::references::reads;
use evenkeel_layout::{
    name::StackName,
    set::{Layer, Origin, Stack},
    tree::MapTree,
};

use super::*;
use crate::process::Runner;

/// A repository in two places, as two commits are staged, and a Compose whose runs are counted.
struct World {
    folder: tempfile::TempDir,
    compose: Compose,
    renders: Renders,
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
        let world = Self { folder, compose, renders: Renders::default(), stack };
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
        let rendered = self.renders.render(&self.compose, &request, inputs.as_ref()).await;
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
    let killed = world.renders.render(&world.compose, &request, world.inputs().as_ref()).await;
    assert!(matches!(killed, Err(RenderError::Compose(_))), "{:?}", killed.map(|r| r.project));
    world.compose.docker = whole;
    assert!(world.render("one").await.1 > 0);
}
