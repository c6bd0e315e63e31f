//! The steps of one deployment, each on the adapters of a host: stage, back up, apply, gate.
//!
//! A step does one thing and says what came of it; what that means and what comes next is the journal's to say.

mod adopt;
pub mod apply;
pub mod backup;
pub mod beside;
pub mod gate;
pub mod images;
pub mod masked;
mod probe;
pub mod quiesce;
pub mod restore;
mod script;
pub mod stage;
