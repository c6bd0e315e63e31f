use evenkeel_layout::tree::{Entry, MapTree};

use super::*;

/// A map in which a content that begins with `->` is a symlink.
struct Links(MapTree);

impl Tree for Links {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, TreeError> {
        Ok(self.0.read(path)?.map(|c| c.strip_prefix(b"->").map(<[u8]>::to_vec).unwrap_or(c)))
    }

    fn list(&self, dir: &str) -> Result<Vec<Entry>, TreeError> {
        let mut entries = self.0.list(dir)?;
        for entry in &mut entries {
            if self.0.read(&join(dir, &entry.name))?.is_some_and(|c| c.starts_with(b"->")) {
                entry.kind = EntryKind::Symlink;
            }
        }
        Ok(entries)
    }
}

const MODEL: &str = r#"{"services":{"web":{
  "build":{"context":"/r/stacks/web/src","dockerfile":"../Dockerfile.x","additional_contexts":{"lib":"/r/lib","img":"docker-image://alpine"}},
  "volumes":[{"type":"bind","source":"/r/stacks/web/conf"},{"type":"bind","source":"/var/run/docker.sock"},{"type":"volume","source":"data"}]}},
  "configs":{"c":{"file":"/r/stacks/web/c.conf"}},"secrets":{"s":{"file":"/run/s"},"e":{"environment":"X"}}}"#;

#[test]
fn a_stack_owns_what_it_mounts_reads_and_builds_from() {
    let model = Model::parse(MODEL).unwrap();
    let paths: Vec<_> = active_paths(&model, "/r").into_iter().collect();
    assert_eq!(paths, ["lib", "stacks/web/Dockerfile.x", "stacks/web/c.conf", "stacks/web/conf", "stacks/web/src"]);
}

#[test]
fn a_folder_stands_for_its_files_and_a_symlink_for_its_target() {
    let tree = Links(MapTree::new([
        ("stacks/web/conf/a", "1"),
        ("stacks/web/conf/b", "->../../../shared/b"),
        ("stacks/web/conf/out", "->/etc/passwd"),
        ("stacks/web/conf/loop", "->loop"),
        ("stacks/web/conf/self", "->."),
        // Textually inside: only whoever follows `deep` first sees that it is not.
        ("stacks/web/deep", "->../.."),
        ("stacks/web/conf/sly", "->../deep/../x"),
        ("stacks/web/conf/dir", "->../../../shared"),
        ("shared/b", "2"),
        ("stacks/web/compose.yml", "x"),
    ]));
    let active = BTreeSet::from(["stacks/web/conf".to_owned(), "nowhere".to_owned()]);
    let slice = read(&tree, &active, ["stacks/web/compose.yml".to_owned(), "stacks/web/.env".to_owned()]).unwrap();
    let files: Vec<_> = slice.files.keys().map(String::as_str).collect();
    assert_eq!(files, ["stacks/web/compose.yml", "stacks/web/conf/a", "stacks/web/conf/b", "stacks/web/conf/dir/b"]);
    assert_eq!(slice.files["stacks/web/conf/b"].digest, Digest::of(b"2"));
    assert_eq!(slice.passive, ["stacks/web/compose.yml"]);
    let refused: Vec<_> = slice.problems.iter().filter_map(|p| p.path.as_deref()).collect();
    assert_eq!(refused, ["stacks/web/conf/loop", "stacks/web/conf/out", "stacks/web/conf/self", "stacks/web/conf/sly"]);
    assert_eq!(content(&tree, "stacks/web/conf/dir/b").unwrap(), Some((b"2".to_vec(), false)));
}

#[test]
fn a_layer_that_is_mounted_is_active() {
    let tree = MapTree::new([("a/compose.yml", "x")]);
    let slice = read(&tree, &BTreeSet::from(["a".to_owned()]), ["a/compose.yml".to_owned()]).unwrap();
    assert!(slice.passive.is_empty());
    assert_eq!(slice.files.len(), 1);
}

#[test]
fn a_script_with_too_much_beside_it_is_refused() {
    let model = Model::parse(r#"{"services":{}}"#).unwrap().checked_by("/r/web/scripts/check.sh");
    let record = |size| FileRecord { digest: Digest::of(b""), size, executable: false };
    let found = |files: Vec<(String, u64)>| {
        let files = files.into_iter().map(|(path, size)| (path, record(size))).collect();
        check_script(&model, "/r", &files).map(|problem| problem.message)
    };
    let of = |count: usize| (0..count).map(|n| (format!("web/scripts/{n}"), 1)).collect::<Vec<_>>();
    assert_eq!(found([of(MAX_SCRIPT_FILES), vec![("web/data/x".to_owned(), u64::MAX)]].concat()), None);
    assert!(found(of(MAX_SCRIPT_FILES + 1)).unwrap().contains("has 1001 files with 1 MiB in its folder"));
    assert_eq!(found(vec![("web/scripts/a".to_owned(), MAX_SCRIPT_BYTES)]), None);
    let large = found(vec![("web/scripts/a".to_owned(), MAX_SCRIPT_BYTES), ("web/scripts/b".to_owned(), 1)]).unwrap();
    assert!(large.contains("2 files with 33 MiB") && large.contains("32 MiB are the most"), "{large}");
}
