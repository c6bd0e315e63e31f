//! A repository on disk, opened for reading: revisions, commits, trees. Objects only, never the work tree.

use std::path::{Path, PathBuf};

use evenkeel_core::id::CommitId;
use gix::{bstr::ByteSlice as _, objs};

use super::{
    GitError,
    commit::{self, MAX_COMMIT_BYTES},
    object_tree::GitTree,
};

/// The top folder of the work tree in which a folder lies, if that is another one.
pub fn enclosing(dir: &Path) -> Option<PathBuf> {
    let dir = dir.canonicalize().ok()?;
    dir.ancestors().skip(1).find(|folder| folder.join(".git").exists()).map(Path::to_owned)
}

/// Why a folder is no repository, in fewer words than the library has.
fn why_not(path: &Path, error: &gix::Error) -> String {
    if !path.exists() {
        return "it does not exist".to_owned();
    }
    if path.join(".git").exists() || path.join("HEAD").exists() {
        return super::error::one_line(error);
    }
    match enclosing(path) {
        Some(whole) => format!("it is only a folder of the repository {}", whole.display()),
        None => "it is not a Git repository".to_owned(),
    }
}

/// What people want to see of a commit. Nothing of it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// The first line of the message, fit for display.
    pub subject: String,
    /// The author's name, fit for display.
    pub author: String,
    /// When it was written, in seconds since 1970.
    pub time_unix: i64,
}

/// Objects are never replaced, and parents are those of the commits, not of a file beside them.
pub(super) const OVERRIDES: [&str; 2] = ["core.useReplaceRefs=false", "core.commitGraph=false"];

/// A repository: bare, a work tree's, or our mirror.
#[derive(Debug, Clone)]
pub struct Repo {
    path: PathBuf,
    pub(super) objects: Objects,
}

impl Repo {
    /// Opens the repository at `path`, a bare one or a work tree's top folder. Of all configuration only its own is
    /// read, and replacements of objects are never followed.
    pub fn open(path: &Path) -> Result<Self, GitError> {
        let options = gix::open::Options::isolated().config_overrides(OVERRIDES);
        let inner = options.open(path).map_err(|e| GitError::Open { path: path.to_owned(), why: why_not(path, &e) })?;
        Ok(Self { path: path.to_owned(), objects: Objects(inner) })
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The commit that `rev` names (`HEAD`, a branch, a tag, a full or short id, `main~2`), or `None` if there is no
    /// such commit or the name is ambiguous.
    pub fn resolve(&self, rev: &str) -> Option<CommitId> {
        if rev.is_empty() || rev.contains("..") {
            return None;
        }
        let repo = self.objects.0.to_thread_local();
        let id = repo.rev_parse_single(rev.as_bytes().as_bstr()).ok()?.detach();
        let commit = repo.find_object(id).ok()?.peel_to_kind(objs::Kind::Commit).ok()?;
        CommitId::new(&commit.id.to_string()).ok()
    }

    /// Whether the repository has this commit.
    pub fn has(&self, commit: &CommitId) -> bool {
        self.commit_bytes(commit).is_ok()
    }

    /// A commit object's bytes, hashed again.
    pub fn commit_bytes(&self, commit: &CommitId) -> Result<Vec<u8>, GitError> {
        self.objects.read(object_id(commit)?, objs::Kind::Commit, MAX_COMMIT_BYTES as u64)
    }

    /// A commit's files.
    pub fn tree(&self, commit: &CommitId) -> Result<GitTree, GitError> {
        let raw = self.commit_bytes(commit)?;
        let parsed = objs::CommitRefIter::from_bytes(&raw, object_id(commit)?.kind())
            .tree_id()
            .map_err(|_| GitError::Object { id: commit.to_string(), why: "it names no tree".to_owned() })?;
        Ok(GitTree::new(self.objects.clone(), parsed))
    }

    /// What people want to see of a commit, as far as it can be read.
    pub fn commit_info(&self, commit: &CommitId) -> Result<CommitInfo, GitError> {
        let raw = self.commit_bytes(commit)?;
        let parsed = commit::parse(&raw, commit.as_str().len())
            .map_err(|e| GitError::Object { id: commit.to_string(), why: e.to_string() })?;
        Ok(CommitInfo {
            subject: parsed.subject(),
            author: commit::displayable(parsed.author.name, 200),
            time_unix: parsed.author.seconds,
        })
    }

    /// Why the history in this repository cannot be relied on, or `None`: shallow, borrowing from another repository,
    /// grafted, or filtered.
    pub fn incomplete(&self) -> Result<Option<&'static str>, GitError> {
        let repo = self.objects.0.to_thread_local();
        let dir = repo.common_dir();
        let faults = [
            ("shallow", "the repository is shallow"),
            ("objects/info/alternates", "the repository borrows objects from another one (alternates)"),
            ("objects/info/http-alternates", "the repository borrows objects from another one (alternates)"),
            ("info/grafts", "the repository has grafts"),
        ];
        for (file, why) in faults {
            // An empty file is what a full clone may leave behind.
            if std::fs::metadata(dir.join(file)).is_ok_and(|m| m.len() > 0) {
                return Ok(Some(why));
            }
        }
        if has_replacements(&repo) {
            return Ok(Some("the repository replaces objects (git replace)"));
        }
        if repo.config_snapshot().string("extensions.partialClone").is_some()
            || has_promisor_pack(&dir.join("objects/pack"))
        {
            return Ok(Some("the repository is a partial clone"));
        }
        Ok(None)
    }

    /// The length of an id here, in hexadecimal digits.
    pub(super) fn hex_len(&self) -> usize {
        self.objects.0.to_thread_local().object_hash().len_in_hex()
    }
}

/// Whether the repository's own configuration names programs that merge files.
pub(super) fn has_merge_drivers(repo: &gix::Repository) -> bool {
    let config = repo.config_snapshot();
    let sections = config.plumbing().sections_by_name("merge");
    sections.is_some_and(|mut all| all.any(|section| section.header().subsection_name().is_some()))
}

/// Replacements are not followed here; but who looks at the repository with Git sees another history than we do.
fn has_replacements(repo: &gix::Repository) -> bool {
    let all = repo.references().ok();
    let found = all.as_ref().and_then(|all| all.prefixed(b"refs/replace/".as_bstr()).ok());
    found.is_some_and(|mut found| found.next().is_some())
}

fn has_promisor_pack(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|e| e.path().extension().is_some_and(|x| x == "promisor"))
}

pub(super) fn object_id(commit: &CommitId) -> Result<gix::ObjectId, GitError> {
    gix::ObjectId::from_hex(commit.as_str().as_bytes())
        .map_err(|_| GitError::Object { id: commit.to_string(), why: "it is not an object id".to_owned() })
}

/// The objects of a repository. Every object that is read is hashed again: SHA-1 with collision detection.
#[derive(Debug, Clone)]
pub(super) struct Objects(pub gix::ThreadSafeRepository);

impl Objects {
    /// Reads a blob, unless it is larger than this, in bytes.
    pub fn read_if_small(&self, id: gix::ObjectId, max_bytes: u64) -> Result<(), GitError> {
        let repo = self.0.to_thread_local();
        let header = repo.try_find_header(id);
        let large = header.is_ok_and(|header| header.is_some_and(|header| header.size() > max_bytes));
        if large { Ok(()) } else { read(&repo, id, objs::Kind::Blob, max_bytes).map(drop) }
    }

    /// Reads one object of this kind and at most this size, in bytes.
    pub fn read(&self, id: gix::ObjectId, kind: objs::Kind, max_bytes: u64) -> Result<Vec<u8>, GitError> {
        read(&self.0.to_thread_local(), id, kind, max_bytes)
    }
}

/// As [`Objects::read`], for many reads in one thread.
pub(super) fn read(
    repo: &gix::Repository,
    id: gix::ObjectId,
    kind: objs::Kind,
    max_bytes: u64,
) -> Result<Vec<u8>, GitError> {
    let fail = |why: String| GitError::Object { id: id.to_string(), why };
    let header = repo.try_find_header(id).map_err(|e| fail(super::error::one_line(&e)))?;
    let Some(header) = header else { return Err(GitError::Missing { id: id.to_string() }) };
    if header.kind() != kind {
        return Err(fail(format!("it is a {}, not a {kind}", header.kind())));
    }
    if header.size() > max_bytes {
        return Err(fail(format!("it has {} bytes, more than the {max_bytes} that are read", header.size())));
    }
    let object = repo.find_object(id).map_err(|e| fail(super::error::one_line(&e)))?;
    let data = object.detach().data;
    objs::Data::new(&data, kind, id.kind())
        .verify_checksum(&id)
        .map_err(|_| fail("its content does not have this hash: the object is damaged or forged".to_owned()))?;
    Ok(data)
}
