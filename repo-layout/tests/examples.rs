//! The example repositories have the stacks that their READMEs tell of, and no problems.

use std::path::Path;

use evenkeel_layout::{name::ServerName, servers, set::LayoutKind, stack_set, tree::MapTree, unclaimed, waves};

#[expect(clippy::disallowed_methods, reason = "the crate reads no files, its tests may")]
fn load(base: &Path, dir: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            load(base, &path, files);
        } else {
            let name = path.strip_prefix(base).expect("below the base").to_str().expect("UTF-8");
            files.push((name.to_owned(), std::fs::read(&path).expect("a file")));
        }
    }
}

fn example(name: &str) -> MapTree {
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    let mut files = Vec::new();
    load(&base, &base, &mut files);
    MapTree::new(files)
}

/// Stacks in their waves, for each server of a repository without problems.
fn deployed(tree: &MapTree, kind: LayoutKind, names: &[&str]) -> Vec<String> {
    let set = |name: &str| stack_set(tree, &ServerName::new(name).expect("a name"), None);
    let sets: Vec<_> = names.iter().map(|name| set(name)).collect();
    assert_eq!(unclaimed(tree, &sets, None), []);
    let shown = sets.iter().map(|set| {
        assert_eq!((set.layout, &set.problems), (kind, &vec![]));
        assert!(set.stacks.iter().all(|stack| stack.project.is_some()));
        let wave = |wave: &Vec<_>| wave.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        waves(&set.stacks).iter().map(wave).collect::<Vec<_>>().join(", then ")
    });
    shown.collect()
}

#[test]
fn quickstart_deploys_the_api_before_the_web_page() {
    assert_eq!(deployed(&example("quickstart"), LayoutKind::Stacks, &["any"]), ["api, then web"]);
}

#[test]
fn servers_gives_each_server_its_own() {
    let tree = example("servers");
    assert_eq!(servers(&tree, None).iter().map(ServerName::as_str).collect::<Vec<_>>(), ["cloud", "home"]);
    let waves = deployed(&tree, LayoutKind::Servers, &["cloud", "home"]);
    assert_eq!(waves, ["cloud front", "front notes, then watch"]);
}

#[test]
fn hosts_gives_each_host_what_lies_in_its_folder() {
    let tree = example("hosts");
    assert_eq!(servers(&tree, None).iter().map(ServerName::as_str).collect::<Vec<_>>(), ["edge", "nas"]);
    let waves = deployed(&tree, LayoutKind::Hosts, &["edge", "nas"]);
    assert_eq!(waves, ["home, then watch", "files, then backup"]);
}

#[test]
fn sites_stands_on_the_root() {
    assert_eq!(deployed(&example("sites"), LayoutKind::Sites, &["any"]), ["root, then blog shop"]);
}

#[test]
fn root_is_one_stack_of_a_file_and_its_parts() {
    let tree = example("root");
    assert_eq!(deployed(&tree, LayoutKind::Root, &["any"]), ["root"]);
    let set = stack_set(&tree, &ServerName::new("any").expect("a name"), None);
    let files = ["docker-compose.yml", "docker-compose.hardening.yml", "docker-compose.monitoring.yml"];
    assert_eq!(set.stacks[0].paths().collect::<Vec<_>>(), files);
}
