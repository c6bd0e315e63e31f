use std::{
    collections::BTreeMap,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
};

use evenkeel_core::{
    id::ReleaseId,
    journal::{Event, Progress, Purpose, SnapshotDecision, Todo},
};

use super::*;

fn permit() -> ApplyPermit {
    let events = [
        Event::Intended { digest: None, from: None, purpose: Purpose::Deploy, group: None },
        Event::Staged { to: Some(ReleaseId(1)) },
        Event::BackupStarted { quiet: Vec::new() },
        Event::BackedUp { snapshot: SnapshotDecision::NotConfigured, left_out: vec![] },
        Event::ApplyStarted { before: vec![], ailing: vec![], beside: vec![] },
    ];
    match Progress::replay(&events).unwrap().todo() {
        Some(Todo::Apply(permit)) => permit,
        other => panic!("{other:?}"),
    }
}

/// A live tree with the contents that releases have.
struct World {
    dir: tempfile::TempDir,
    live: LiveTree,
    contents: BTreeMap<Digest, Vec<u8>>,
    in_place: BTreeSet<String>,
    shared: Shared,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let live = LiveTree::new(&dir.path().join("live"));
        Self { dir, live, contents: BTreeMap::new(), in_place: BTreeSet::new(), shared: Shared::new() }
    }

    fn files(&mut self, files: &[(&str, &str)]) -> Files {
        files
            .iter()
            .map(|(path, text)| {
                let digest = Digest::of(text.as_bytes());
                self.contents.insert(digest.clone(), text.as_bytes().to_vec());
                let executable = path.ends_with("run.sh");
                ((*path).to_owned(), FileRecord { digest, size: text.len() as u64, executable })
            })
            .collect()
    }

    fn change<'a>(&'a self, to: &'a Files, other: &'a Files) -> SliceChange<'a> {
        SliceChange { to, other, release: ReleaseId(5), shared: &self.shared, in_place: &self.in_place }
    }

    fn write(&self, to: &Files, other: &Files) -> Result<Vec<String>, LiveError> {
        self.live.check(&self.change(to, other))?;
        self.live.write(&permit(), &self.change(to, other), |d| Ok(self.contents.get(d).cloned()))
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.live.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.live.root().join(path)).ok()
    }
}

#[test]
fn writes_a_slice_with_its_modes_and_takes_it_back_byte_for_byte() {
    let mut world = World::new();
    let first = world.files(&[("a/index.html", "one"), ("a/run.sh", "#!/bin/sh\n"), ("gone", "x")]);
    let second = world.files(&[("a/index.html", "two"), ("a/run.sh", "#!/bin/sh\n"), ("new", "y")]);
    world.write(&first, &Files::new()).unwrap();
    let mode = |path: &str| fs::metadata(world.live.root().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("a/index.html"), mode("a/run.sh")), (0o644, 0o755));
    world.write(&second, &first).unwrap();
    assert_eq!(
        (world.read("a/index.html"), world.read("gone"), world.read("new")),
        (Some("two".into()), None, Some("y".into()))
    );
    world.write(&first, &second).unwrap();
    assert_eq!(
        (world.read("a/index.html"), world.read("gone"), world.read("new")),
        (Some("one".into()), Some("x".into()), None)
    );
}

#[test]
fn an_untracked_file_in_the_way_is_named_and_nothing_is_written() {
    let mut world = World::new();
    world.put("b/data", "precious");
    let files = world.files(&[("a", "1"), ("b/data", "2")]);
    let error = world.write(&files, &Files::new()).unwrap_err();
    assert!(error.to_string().contains("live/b/data"), "{error}");
    assert_eq!(error.reason().code, Code::FileConflict);
    assert_eq!((world.read("a"), world.read("b/data")), (None, Some("precious".into())));
}

#[test]
fn an_identical_untracked_file_is_adopted() {
    let mut world = World::new();
    world.put("a", "1");
    let files = world.files(&[("a", "1")]);
    world.write(&files, &Files::new()).unwrap();
}

#[test]
fn what_a_person_changed_is_left_alone_if_the_commit_does_not_change_it() {
    let mut world = World::new();
    let first = world.files(&[("a", "1"), ("b", "1")]);
    let second = world.files(&[("a", "1"), ("b", "2")]);
    world.write(&first, &Files::new()).unwrap();
    world.put("a", "edited");
    assert_eq!(world.write(&second, &first).unwrap(), ["a"]);
    assert_eq!((world.read("a"), world.read("b")), (Some("edited".into()), Some("2".into())));
}

#[test]
fn what_a_person_changed_is_a_conflict_if_the_commit_changes_it_too() {
    let mut world = World::new();
    let first = world.files(&[("a", "1")]);
    let second = world.files(&[("a", "2")]);
    world.write(&first, &Files::new()).unwrap();
    world.put("a", "edited");
    assert!(matches!(world.write(&second, &first), Err(LiveError::Conflict(_))));
    assert_eq!(world.read("a"), Some("edited".into()));
}

#[test]
fn a_file_that_is_mounted_by_itself_keeps_its_inode_and_others_are_replaced() {
    let mut world = World::new();
    world.in_place.insert("mounted".to_owned());
    let first = world.files(&[("mounted", "one, longer"), ("other", "1")]);
    let second = world.files(&[("mounted", "two"), ("other", "2")]);
    world.write(&first, &Files::new()).unwrap();
    let inode = |path: &str| fs::metadata(world.live.root().join(path)).unwrap().ino();
    let (mounted, other) = (inode("mounted"), inode("other"));
    world.write(&second, &first).unwrap();
    assert_eq!(inode("mounted"), mounted);
    assert_ne!(inode("other"), other);
    assert_eq!(world.read("mounted"), Some("two".into()));
}

#[test]
fn no_path_is_followed_through_a_link() {
    let mut world = World::new();
    let outside = world.dir.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(world.live.root()).unwrap();
    symlink(&outside, world.live.root().join("a")).unwrap();
    let files = world.files(&[("a/f", "1")]);
    assert!(matches!(world.write(&files, &Files::new()), Err(LiveError::Conflict(_))));
    let direct = world.live.write(&permit(), &world.change(&files, &Files::new()), |_| Ok(Some(b"1".to_vec())));
    assert!(matches!(direct, Err(LiveError::Conflict(_))));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_folder_stays_when_its_last_file_goes() {
    let mut world = World::new();
    let first = world.files(&[("conf/a", "1")]);
    world.write(&first, &Files::new()).unwrap();
    let inode = fs::metadata(world.live.root().join("conf")).unwrap().ino();
    world.write(&Files::new(), &first).unwrap();
    assert_eq!(fs::metadata(world.live.root().join("conf")).unwrap().ino(), inode);
    assert_eq!(world.read("conf/a"), None);
}

#[test]
fn a_person_who_changed_a_shared_file_is_noticed_too() {
    let mut world = World::new();
    let (old, new) = (world.files(&[("common.conf", "one")]), world.files(&[("common.conf", "two")]));
    world.shared.insert("common.conf".to_owned(), vec![(ReleaseId(1), Digest::of(b"one"))]);
    world.put("common.conf", "mine");
    assert!(matches!(world.write(&new, &old), Err(LiveError::Conflict(_))));
    world.put("common.conf", "one");
    world.write(&new, &Files::new()).unwrap();
    assert_eq!(world.read("common.conf").as_deref(), Some("two"));
}

#[test]
fn a_rollback_leaves_a_shared_file_as_the_newer_release_of_another_stack_has_it() {
    let mut world = World::new();
    let (old, new) = (world.files(&[("common.conf", "one")]), world.files(&[("common.conf", "two")]));
    world.put("common.conf", "two");
    world.shared.insert("common.conf".to_owned(), vec![(ReleaseId(6), Digest::of(b"two"))]);
    world.write(&old, &new).unwrap();
    assert_eq!(world.read("common.conf").as_deref(), Some("two"));
    world.shared.insert("common.conf".to_owned(), vec![(ReleaseId(4), Digest::of(b"two"))]);
    world.write(&old, &new).unwrap();
    assert_eq!(world.read("common.conf").as_deref(), Some("one"));
}

#[test]
fn a_file_that_another_stack_owns_stays_when_it_leaves_this_one() {
    let mut world = World::new();
    world.shared.insert("common.conf".to_owned(), vec![]);
    let first = world.files(&[("common.conf", "1")]);
    world.write(&first, &Files::new()).unwrap();
    world.write(&Files::new(), &first).unwrap();
    assert_eq!(world.read("common.conf"), Some("1".into()));
}
