//! The repositories of `examples/`, as a user who starts from one would have them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{program, world::World};

/// A file of an example.
#[derive(Debug)]
struct ExampleFile {
    path: String,
    /// Where it lies in the project.
    origin: PathBuf,
}

/// The folder of an example.
pub fn folder(name: &str) -> PathBuf {
    program::root().join("examples").join(name)
}

/// Pushes an example as the repository's first commit. Worlds share one engine, so everything that a Compose file names
/// (`name:` of projects, networks and volumes) begins with the world's prefix, and so do these `stacks`: their folders, and
/// where others name them. Only the stack of files at the root is called `root` in any repository.
#[track_caller]
pub fn push(world: &World, name: &str, stacks: &[&str]) -> String {
    let base = folder(name);
    let stacks: Vec<&str> = stacks.iter().copied().filter(|stack| *stack != "root").collect();
    let mut files = Vec::new();
    collect(&base, &base, &mut files);
    assert!(!files.is_empty(), "{} is there", base.display());
    let segment = |part: &str| if stacks.contains(&part) { world.stack(part) } else { part.to_owned() };
    let mut change = world.change("Begin with an example");
    for ExampleFile { path, origin } in &files {
        let content = fs::read(origin).expect("an example can be read");
        let is_settings = [".yml", "config.json"].iter().any(|end| path.ends_with(end));
        let content = if is_settings {
            let text = String::from_utf8(content).expect("a file of settings is a text");
            stacks
                .iter()
                .fold(prefixed(world, &text), |text, stack| named(&text, stack, &world.stack(stack)))
                .into_bytes()
        } else {
            content
        };
        let path = path.split('/').map(segment).collect::<Vec<_>>().join("/");
        change = change.file(&path, content);
        let mode = fs::metadata(origin).expect("an example can be read").permissions();
        fs::set_permissions(world.repository.work.join(&path), mode).expect("the clone is writable");
    }
    change.push()
}

fn prefixed(world: &World, text: &str) -> String {
    let line = |line: &str| match line.split_once("name: ") {
        Some((before, name)) if before.trim().is_empty() => format!("{before}name: {}-{name}\n", world.prefix()),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Where an example names one of its stacks: as a dependency, in a server's list, in a path.
fn named(text: &str, stack: &str, new: &str) -> String {
    let places = [("depends_on: [", "]"), ("\"", "\""), ("/sites/", "/")];
    places.iter().fold(text.to_owned(), |text, (before, after)| {
        text.replace(&format!("{before}{stack}{after}"), &format!("{before}{new}{after}"))
    })
}

fn collect(base: &Path, folder: &Path, files: &mut Vec<ExampleFile>) {
    for entry in fs::read_dir(folder).expect("an example can be read") {
        let origin = entry.expect("an example can be read").path();
        if origin.is_dir() {
            collect(base, &origin, files);
        } else {
            let path = origin.strip_prefix(base).expect("below its own folder").display().to_string();
            files.push(ExampleFile { path, origin });
        }
    }
}
