//! `x-evenkeel: gate`: what a stack asks of its health gate.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Times that a stack sets for its own gate. `None` means: as the server's configuration has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GateSpec {
    /// How long everything must be good without a break.
    pub min_healthy_time: Option<Duration>,
    /// How long it may take until everything is good.
    pub healthy_deadline: Option<Duration>,
}

impl GateSpec {
    /// Takes over what a higher layer says.
    pub fn overlay(&mut self, higher: Self) {
        self.min_healthy_time = higher.min_healthy_time.or(self.min_healthy_time);
        self.healthy_deadline = higher.healthy_deadline.or(self.healthy_deadline);
    }
}
