//! A repository's tree, of any files with any content, and the stack sets of its servers.
//!
//! The bytes are files one after the other: a line `== PATH` and what follows up to the next one. A path that ends in ` ->` is a
//! symlink with this target.
#![no_main]

use evenkeel_layout::{
    name::ServerName,
    servers,
    set::StackSet,
    stack_set,
    tree::{Entry, EntryKind, MapTree, Tree, TreeError},
    unclaimed, waves,
};
use libfuzzer_sys::fuzz_target;

/// More files make a run slow and find nothing more.
const MAX_FILES: usize = 40;

/// A tree that nobody may ask for what is not in it by its own name.
struct Guarded(MapTree);

fn is_inside(path: &str) -> bool {
    path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

impl Tree for Guarded {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        assert!(is_inside(path), "{path:?} was read");
        self.0.read(path)
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>, TreeError> {
        assert!(is_inside(dir), "{dir:?} was listed");
        self.0.list(dir)
    }

    fn kind(&self, path: &str) -> Result<Option<EntryKind>, TreeError> {
        assert!(is_inside(path), "{path:?} was looked at");
        self.0.kind(path)
    }
}

fn tree(bytes: &[u8]) -> Guarded {
    let (mut files, mut links) = (Vec::new(), Vec::new());
    let mut rest = bytes.strip_prefix(b"== ").unwrap_or(bytes);
    while files.len() + links.len() < MAX_FILES && !rest.is_empty() {
        let next = rest.windows(4).position(|window| window == b"\n== ");
        let (file, more) = next.map_or((rest, &[][..]), |at| (&rest[..at], &rest[at + 4..]));
        rest = more;
        let line = file.iter().position(|byte| *byte == b'\n').unwrap_or(file.len());
        let content = file.get(line + 1..).unwrap_or_default().to_vec();
        let path = String::from_utf8_lossy(&file[..line]).into_owned();
        match path.strip_suffix(" ->") {
            Some(path) if is_inside(path) => links.push((path.to_owned(), String::from_utf8_lossy(&content).into_owned())),
            None if is_inside(&path) => files.push((path, content)),
            _ => {}
        }
    }
    links.into_iter().fold(Guarded(MapTree::new(files)), |tree, (path, target)| Guarded(tree.0.with_symlink(&path, &target)))
}

fn look_at(set: &StackSet) {
    for stack in &set.stacks {
        assert!(!stack.layers.is_empty(), "{} has a file", stack.name);
        let paths = stack.paths().chain(stack.layers.iter().map(|layer| layer.directory.as_str()));
        let paths = paths.chain(stack.env_files.iter().map(String::as_str)).chain(stack.watched.iter().map(String::as_str));
        for path in paths {
            assert!(is_inside(path), "{} has {path:?}", stack.name);
        }
        for other in &stack.depends_on {
            assert!(set.stacks.iter().any(|one| one.name == *other), "{other} is a stack");
        }
    }
    assert!(set.stacks.windows(2).all(|two| two[0].name < two[1].name), "sorted, and each name once");
    let in_waves: usize = waves(&set.stacks).iter().map(Vec::len).sum();
    assert!(in_waves <= set.stacks.len());
}

fuzz_target!(|bytes: &[u8]| {
    let tree = tree(bytes);
    let mut names = servers(&tree, None);
    names.truncate(4);
    names.push(ServerName::new("home").expect("a name"));
    let sets: Vec<StackSet> = names.iter().map(|name| stack_set(&tree, name, None)).collect();
    sets.iter().for_each(look_at);
    unclaimed(&tree, &sets, None);
});
