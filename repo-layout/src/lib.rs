//! From a repository's tree and a server's name to that server's stack set.
//!
//! Pure: a repository is seen through [`tree::Tree`] only, and nothing here reads a file, a clock or the environment.
//!
//! [`stack_set`] is the way in. It never fails: what is wrong comes as [`problem::Problem`]s beside what could be
//! found out, and [`set::StackSet`] says which stacks those concern.

mod assemble;
mod claims;
mod compose;
pub mod config;
pub mod drift;
pub mod duration;
mod env;
mod extension;
pub mod gate;
mod glob;
mod join;
mod layout;
pub mod name;
mod nearest;
mod order;
pub mod policy;
pub mod problem;
mod project;
pub mod reload;
mod repo;
pub mod schemas;
mod section;
mod server_file;
pub mod set;
mod stack_set;
mod tell;
pub mod tree;
pub mod window;
pub mod yaml;

pub use claims::unclaimed;
pub use config::{CONFIG_FILE, LayoutConfig};
pub use extension::reserved;
pub use nearest::nearest;
pub use order::waves;
pub use stack_set::{servers, stack_set};
