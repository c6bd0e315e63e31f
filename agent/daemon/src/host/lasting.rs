//! Which renderings may outlive the process: those for which nothing was read but what the repository has in plain text
//! (decision 0031).

use std::{collections::BTreeSet, fs, io, path::Path};

use evenkeel_core::{
    path::{Followed, follow},
    references::{Reads, ReferenceKind},
};
use evenkeel_layout::tree::Tree;

use super::encrypted::Encrypted;
use crate::compose::render::RenderRequest;

/// What a rendering's files are compared with.
#[derive(Clone, Copy)]
pub struct Origin<'a> {
    /// The files that are looked at: a work tree's, or a commit's.
    pub tree: &'a dyn Tree,
    /// The files that some commit has: of what lies in a work tree besides, nobody knows that it is no secret.
    pub committed: &'a dyn Tree,
    /// The encrypted files, as far as they were opened.
    pub encrypted: &'a Encrypted,
}

impl Origin<'_> {
    /// Whether everything that is read for this rendering is plain text of the repository: Compose files as the tree
    /// has them, and the commit if there is one, environment files as the commit has them.
    pub fn is_plain(&self, request: &RenderRequest<'_>, reads: &Reads) -> bool {
        let Some(inputs) = &reads.inputs else { return false };
        let env_files: Option<Vec<&str>> =
            request.env_files.iter().map(|file| file.strip_prefix(request.root).ok()?.to_str()).collect();
        let Some(env_files) = env_files else { return false };
        let is_compose = |kind: ReferenceKind| matches!(kind, ReferenceKind::Include | ReferenceKind::Extends);
        let taken = reads.references.iter().filter(|r| is_compose(r.kind)).filter_map(|r| r.path.as_deref());
        let compose: BTreeSet<&str> = request.stack.paths().chain(taken).collect();
        let others = inputs.iter().map(String::as_str).chain(env_files).filter(|path| !compose.contains(path));
        // Where there is Git, a Compose file that is ignored, or was changed since, may hold what nobody else is to see.
        let has_git = self.committed.list("").is_ok_and(|entries| !entries.is_empty());
        let is_known =
            |path: &str| self.is_tracked(request.root, path) && (!has_git || self.is_committed(request.root, path));
        compose.iter().all(|path| is_known(path))
            && others.collect::<BTreeSet<_>>().into_iter().all(|path| self.is_committed(request.root, path))
    }

    /// Whether what lies there is what the tree has, and nothing that a link leads to outside.
    fn is_tracked(&self, root: &Path, path: &str) -> bool {
        content(self.tree, path).is_some_and(|known| fs::read(root.join(path)).is_ok_and(|read| read == known))
    }

    /// Whether what lies there tells nothing that the commit does not tell.
    fn is_committed(&self, root: &Path, path: &str) -> bool {
        let file = root.join(path);
        // A pipe would keep us waiting.
        if file.metadata().is_ok_and(|meta| !meta.is_file()) {
            return false;
        }
        match fs::read(file) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            // Also what stands in for a file that only a server has.
            Ok(read) if read.is_empty() => true,
            // Made from the ciphertext alone.
            Ok(_) if self.encrypted.has(path) => self.encrypted.is_sealed(path),
            Ok(read) => content(self.committed, path).is_some_and(|known| known == read),
        }
    }
}

/// A file's content, through links that stay within the tree.
fn content(tree: &dyn Tree, path: &str) -> Option<Vec<u8>> {
    match follow(tree, path).ok()? {
        Followed::To(target) => tree.read(&target).ok()?,
        Followed::Outside | Followed::Circle => None,
    }
}
