//! Files on disk: a work tree as a repository's tree, and the folder in which a tree is rendered.

pub mod differing;
pub mod live;
pub mod stage;
pub mod worktree;
