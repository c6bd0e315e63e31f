//! Writing a whole tree into a fresh folder, so that Compose can read it there.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

use evenkeel_core::{
    path::{Followed, follow, join},
    reason::{Code, Reason},
};
use evenkeel_layout::{
    problem::Problem,
    tree::{Entry, EntryKind, Tree, TreeError},
};

/// How much of a tree is written at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, folders and links.
    pub entries: usize,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Folders within folders.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 50_000, bytes: 1024 * 1024 * 1024, depth: 64 }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StageReport {
    /// Files and links.
    pub files: usize,
    /// Bytes of all files together.
    pub bytes: u64,
    /// What was left out on purpose, or looks wrong.
    pub problems: Vec<Problem>,
}

/// A tree could not be written.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// It could not be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is larger than what is accepted.
    #[error("the repository has more than {0}: take what no stack needs out of it")]
    TooLarge(String),
    /// A name that could lead elsewhere, or one that is there twice. Git itself makes none.
    #[error("the repository has an entry with the unusable name {0:?}: somebody made this tree by hand")]
    Name(String),
}

impl StageError {
    /// The reason that is reported.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Write { path, source } if source.kind() == std::io::ErrorKind::StorageFull => {
                let what = format!("there is no room for the commit at {}; make room on its disk", path.display());
                Reason::new(Code::DiskFull, what)
            }
            Self::Write { .. } => Reason::new(Code::FileWrite, format!("cannot stage the commit: {self}")),
            Self::Tree(_) | Self::TooLarge(_) | Self::Name(_) => {
                Reason::new(Code::SourceInvalid, format!("cannot stage the commit: {self}"))
            }
        }
    }
}

/// Writes `tree` into `dest`, a folder that is made here (mode 0700) and must not exist yet. Files get mode 0644 or 0755,
/// symlinks are written only if they stay within the tree, submodules are left out.
pub fn stage(tree: &dyn Tree, dest: &Path, limits: Limits) -> Result<StageReport, StageError> {
    stage_some(tree, dest, limits, None)
}

/// The same, but only these of the files are written, with all folders and links and the files that links lead to. The others are
/// read all the same: whether a tree can be staged does not depend on who asks.
pub fn stage_only(
    tree: &dyn Tree,
    dest: &Path,
    limits: Limits,
    files: &BTreeSet<String>,
) -> Result<StageReport, StageError> {
    stage_some(tree, dest, limits, Some(files))
}

fn stage_some(
    tree: &dyn Tree,
    dest: &Path,
    limits: Limits,
    only: Option<&BTreeSet<String>>,
) -> Result<StageReport, StageError> {
    make_folder(dest, 0o700)?;
    let (linked, report) = (BTreeSet::new(), StageReport::default());
    let mut stage = Stage { tree, dest, limits, only, linked, entries: 0, report };
    stage.folder("", 0)?;
    for path in std::mem::take(&mut stage.linked) {
        let is_written = only.is_none_or(|only| only.contains(&path));
        if let (false, Some(EntryKind::File { executable })) = (is_written, tree.kind(&path)?) {
            stage.write(&path, &tree.read(&path)?.unwrap_or_default(), executable)?;
        }
    }
    stage.report.problems.sort();
    Ok(stage.report)
}

/// Copies a file that is only on the server beside the staged ones, readable by us only. Returns whether it did: a file that is
/// staged already stays, and what is no plain file or larger than `max_bytes` is not taken.
pub fn overlay(live: &Path, dest: &Path, path: &str, max_bytes: u64) -> Result<bool, StageError> {
    let (from, to) = (live.join(path), dest.join(path));
    let plain = from.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= max_bytes);
    if !plain || to.symlink_metadata().is_ok() {
        return Ok(false);
    }
    let failed = |source| StageError::Write { path: to.clone(), source };
    let bytes = fs::read(&from).map_err(|source| StageError::Write { path: from.clone(), source })?;
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    write_file(&to, &bytes, 0o600)?;
    Ok(true)
}

/// Puts an empty file into a staged tree, for one that only the server has. A file that is there stays.
pub fn stand_in(dest: &Path, path: &str) -> Result<(), StageError> {
    let to = dest.join(path);
    if to.symlink_metadata().is_ok() {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|source| StageError::Write { path: to.clone(), source })?;
    }
    write_file(&to, b"", 0o600)
}

/// Makes a folder that looks like `dir` with an empty file at each of `paths`: links into `dir`, and folders of its own on the
/// way to those files. Nothing is copied and `dir` is not touched.
pub fn shadow(dir: &Path, dest: &Path, paths: &BTreeSet<String>) -> Result<(), StageError> {
    make_folder(dest, 0o700)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StageError::Write { path, source }
    };
    let tops: BTreeSet<&str> = paths.iter().filter_map(|path| path.split('/').next()).collect();
    if let Ok(names) = fs::read_dir(dir) {
        for name in names.flatten().map(|entry| entry.file_name()) {
            let own = name.to_str().is_some_and(|name| tops.contains(name));
            if !own {
                symlink(dir.join(&name), dest.join(&name)).map_err(failed(dest))?;
            }
        }
    }
    for top in tops {
        let rest = paths.iter().filter_map(|path| path.strip_prefix(top)?.strip_prefix('/'));
        let rest: BTreeSet<String> = rest.map(str::to_owned).collect();
        if rest.is_empty() {
            stand_in(dest, top)?;
        } else {
            shadow(&dir.join(top), &dest.join(top), &rest)?;
        }
    }
    Ok(())
}

struct Stage<'a> {
    tree: &'a dyn Tree,
    dest: &'a Path,
    limits: Limits,
    only: Option<&'a BTreeSet<String>>,
    /// Where links lead to.
    linked: BTreeSet<String>,
    entries: usize,
    report: StageReport,
}

impl Stage<'_> {
    fn folder(&mut self, dir: &str, depth: usize) -> Result<(), StageError> {
        if depth > self.limits.depth {
            return Err(StageError::TooLarge(format!("{} folders within one another", self.limits.depth)));
        }
        let entries = self.tree.list(dir)?;
        self.note_collisions(dir, &entries);
        for entry in entries {
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(StageError::TooLarge(format!("{} files", self.limits.entries)));
            }
            if !is_usable(&entry.name) {
                return Err(StageError::Name(join(dir, &entry.name)));
            }
            self.entry(&join(dir, &entry.name), entry.kind, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &str, kind: EntryKind, depth: usize) -> Result<(), StageError> {
        let to = self.dest.join(path);
        match kind {
            EntryKind::Directory => {
                make_folder(&to, 0o755)?;
                self.folder(path, depth + 1)?;
            }
            EntryKind::File { executable } => {
                let bytes = self.tree.read(path)?.unwrap_or_default();
                self.report.bytes += bytes.len() as u64;
                if self.report.bytes > self.limits.bytes {
                    return Err(StageError::TooLarge(format!("{} MiB", self.limits.bytes / 1024 / 1024)));
                }
                if self.only.is_none_or(|only| only.contains(path)) {
                    self.write(path, &bytes, executable)?;
                }
            }
            EntryKind::Symlink => self.link(path, &to)?,
            EntryKind::Submodule => {
                let help = "put the files themselves into the repository";
                self.leave_out("tree.submodule", path, "is a submodule and is left out", help);
            }
        }
        Ok(())
    }

    fn write(&mut self, path: &str, bytes: &[u8], executable: bool) -> Result<(), StageError> {
        write_file(&self.dest.join(path), bytes, if executable { 0o755 } else { 0o644 })?;
        self.report.files += 1;
        Ok(())
    }

    fn link(&mut self, path: &str, to: &Path) -> Result<(), StageError> {
        // What the kernel would follow, `..` behind other links too, has to end within the tree.
        let why = match follow(self.tree, path)? {
            Followed::To(end) => {
                self.linked.insert(end);
                let target = self.tree.read(path)?.unwrap_or_default();
                let target = String::from_utf8_lossy(&target).into_owned();
                symlink(target, to).map_err(|source| StageError::Write { path: to.to_owned(), source })?;
                self.report.files += 1;
                return Ok(());
            }
            Followed::Outside => "is a symlink out of the repository and is left out",
            Followed::Circle => "is a symlink that leads round in a circle and is left out",
        };
        self.leave_out("tree.symlink", path, why, "put the file itself into the repository");
        Ok(())
    }

    fn leave_out(&mut self, code: &str, path: &str, why: &str, help: &str) {
        self.report.problems.push(Problem::warning(code, format!("{path} {why}"), help).at(path, None));
    }

    fn note_collisions(&mut self, dir: &str, entries: &[Entry]) {
        let mut seen = BTreeSet::new();
        for entry in entries.iter().filter(|entry| !seen.insert(entry.name.to_lowercase())) {
            let path = join(dir, &entry.name);
            let help = "rename one of them: they are one file on systems that do not tell case apart";
            self.leave_out("tree.case", &path, "differs from another name only in case", help);
        }
    }
}

/// Git's own rules for names in a tree; `.git` in any case, since it would be a repository of its own.
fn is_usable(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0']) && !name.eq_ignore_ascii_case(".git")
}

fn make_folder(path: &Path, mode: u32) -> Result<(), StageError> {
    let result = fs::DirBuilder::new().mode(mode).create(path);
    result.map_err(|source| StageError::Write { path: path.to_owned(), source })
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StageError> {
    // `create_new` follows no symlink and takes no file that is there.
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(bytes));
    written.map_err(|source| StageError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use evenkeel_layout::tree::MapTree;

    use super::*;
    use crate::tree::worktree::DirTree;

    fn staged(tree: &dyn Tree, limits: Limits) -> (tempfile::TempDir, Result<StageReport, StageError>) {
        let folder = tempfile::tempdir().unwrap();
        let report = stage(tree, &folder.path().join("s"), limits);
        (folder, report)
    }

    #[test]
    fn writes_files_with_their_modes_and_links_that_stay() {
        let from = tempfile::tempdir().unwrap();
        fs::create_dir_all(from.path().join("a/b")).unwrap();
        fs::write(from.path().join("a/run.sh"), "x").unwrap();
        fs::set_permissions(from.path().join("a/run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
        for (target, link) in [
            ("../a/run.sh", "a/ok"),
            ("/etc/passwd", "a/abs"),
            ("../../x", "a/out"),
            ("me", "me"),
            ("a/b", "deep"),
            ("deep/../../..", "sly"),
        ] {
            symlink(target, from.path().join(link)).unwrap();
        }
        let tree = DirTree::open(from.path()).unwrap();
        let (folder, report) = staged(&tree, Limits::default());
        let root = folder.path().join("s");
        assert_eq!(fs::metadata(root.join("a/run.sh")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read(root.join("a/ok")).unwrap(), b"x");
        let left_out: Vec<_> = report.unwrap().problems.into_iter().filter_map(|p| p.path).collect();
        assert_eq!(left_out, ["a/abs", "a/out", "me", "sly"]);
        assert!(root.join("a/abs").symlink_metadata().is_err());
    }

    #[test]
    fn of_the_files_only_those_are_written_that_are_asked_for() {
        let tree = MapTree::new([("a/b/c", "1"), ("a/d", "2"), ("A/d", "3"), ("e", "4")]);
        let tree = tree.with_symlink("a/link", "b/c").with_symlink("to", "e").with_symlink("out", "/etc");
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("s");
        let report = stage_only(&tree, &root, Limits::default(), &["a/b/c".to_owned()].into()).unwrap();
        assert_eq!(fs::read_to_string(root.join("a/link")).unwrap(), "1");
        assert_eq!(fs::read_to_string(root.join("to")).unwrap(), "4");
        assert!(!root.join("a/d").exists() && root.join("A").is_dir());
        let found: Vec<_> = report.problems.into_iter().filter_map(|p| p.path).collect();
        assert_eq!(found, ["a", "out"], "what is wrong with the rest is told all the same");
        let few = Limits { bytes: 3, ..Limits::default() };
        let refused = stage_only(&tree, &folder.path().join("few"), few, &BTreeSet::new());
        assert!(matches!(refused, Err(StageError::TooLarge(_))));
    }

    #[test]
    fn refuses_names_that_lead_elsewhere_and_more_than_the_limits() {
        for name in ["../x", "a/.GIT/config", "a/./x"] {
            let (folder, result) = staged(&MapTree::new([(name, "x")]), Limits::default());
            assert!(matches!(result, Err(StageError::Name(_))), "{name}");
            assert!(!folder.path().join("x").exists());
        }
        let tree = MapTree::new([("a/b/c", "12345"), ("d", "6")]);
        for limits in [
            Limits { entries: 3, ..Limits::default() },
            Limits { bytes: 5, ..Limits::default() },
            Limits { depth: 1, ..Limits::default() },
        ] {
            assert!(matches!(staged(&tree, limits).1, Err(StageError::TooLarge(_))), "{limits:?}");
        }
    }

    #[test]
    fn a_shadow_has_the_files_of_the_folder_and_those_that_stand_in() {
        let from = tempfile::tempdir().unwrap();
        fs::create_dir_all(from.path().join("a/b")).unwrap();
        fs::write(from.path().join("a/b/c"), "x").unwrap();
        fs::write(from.path().join("top"), "y").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let dest = folder.path().join("s");
        let paths = ["a/.env", "a/n/m.env", ".env"].map(str::to_owned).into();
        shadow(from.path(), &dest, &paths).unwrap();
        for (path, content) in [("a/b/c", "x"), ("top", "y"), ("a/.env", ""), ("a/n/m.env", ""), (".env", "")] {
            assert_eq!(fs::read_to_string(dest.join(path)).unwrap(), content, "{path}");
        }
        assert!(!from.path().join("a/.env").exists());
    }

    #[test]
    fn never_writes_into_a_folder_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(stage(&MapTree::default(), folder.path(), Limits::default()), Err(StageError::Write { .. })));
    }

    #[test]
    fn overlays_only_plain_files_that_the_tree_does_not_have() {
        let live = tempfile::tempdir().unwrap();
        let (folder, _) = staged(&MapTree::new([("a/.env", "tracked")]), Limits::default());
        let root = folder.path().join("s");
        fs::create_dir_all(live.path().join("a")).unwrap();
        fs::create_dir_all(live.path().join("b")).unwrap();
        fs::write(live.path().join("a/.env"), "other").unwrap();
        fs::write(live.path().join("b/.env"), "secret").unwrap();
        symlink("/etc/passwd", live.path().join("b/link")).unwrap();
        assert!(!overlay(live.path(), &root, "a/.env", 100).unwrap());
        assert!(!overlay(live.path(), &root, "b/link", 100).unwrap());
        assert!(!overlay(live.path(), &root, "b/.env", 3).unwrap());
        assert!(overlay(live.path(), &root, "b/.env", 100).unwrap());
        assert_eq!(fs::metadata(root.join("b/.env")).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(root.join("a/.env")).unwrap(), b"tracked");
    }
}
