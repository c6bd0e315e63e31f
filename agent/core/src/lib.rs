//! Every decision of the Evenkeel agent.
//!
//! Pure: no input or output, no async, no clock, no randomness. Time comes in as an argument.

pub mod adopt;
pub mod answer;
pub mod change;
pub mod drift;
pub mod group;
pub mod health;
pub mod id;
pub mod journal;
pub mod model;
pub mod outcome;
pub mod path;
pub mod people;
pub mod plan;
pub mod probe;
pub mod provenance;
pub mod quiesce;
pub mod reason;
pub mod references;
pub mod release;
pub mod relocate;
mod said;
pub mod slice;
pub mod trust;
pub mod update;
pub mod validate;
