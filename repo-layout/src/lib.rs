//! From a repository's tree and a server's name to that server's stack set.
//!
//! Pure: a repository is seen through [`tree::Tree`] only, and nothing here reads a file, a clock or the environment.

pub mod gate;
pub mod name;
pub mod problem;
pub mod set;
pub mod tree;
