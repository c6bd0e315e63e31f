//! `x-evenkeel: drift`: what a stack wants done where the server differs from its release.

use serde::{Deserialize, Serialize};

/// What is done about drift. The text form is part of both configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What is missing or stopped is put back; all the rest is told.
    Heal,
    /// It is told.
    Report,
    /// Nobody looks.
    Off,
}

/// The words for it.
pub const MODES: [(&str, Mode); 3] = [("heal", Mode::Heal), ("report", Mode::Report), ("off", Mode::Off)];
