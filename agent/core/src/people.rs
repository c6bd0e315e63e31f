//! What people tell the agent: who said it and why, what is suspended and until when.

use serde::{Deserialize, Serialize};

/// Longest time that a stack may be suspended for, in milliseconds: a month.
pub const LONGEST_SUSPENSION_MS: i64 = 31 * 24 * 3600 * 1000;

/// A user of the server, as the kernel vouches for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The user's number.
    pub uid: u32,
    /// The user's name; the number if nobody knows a name. Through `sudo`, both: `alice (root)`.
    pub name: String,
}

/// What somebody told the agent, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// Who.
    pub by: Person,
    /// Why, in their words: data, never markup.
    pub reason: String,
}

/// What people can tell the agent. The text form is that of the verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// Put an earlier release back.
    Rollback,
    /// Bring data back from a snapshot.
    Restore,
    /// Try once more what is kept out.
    Retry,
    /// Take what runs as good.
    Accept,
    /// Let a plan go ahead that removes many stacks.
    Confirm,
    /// Leave a stack alone for a while.
    Suspend,
    /// End a suspension.
    Resume,
    /// Deploy outside of maintenance windows.
    Override,
    /// Say which commit counts as accepted by trust.
    TrustAccept,
}

impl Told {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Restore => "restore",
            Self::Retry => "retry",
            Self::Accept => "accept",
            Self::Confirm => "confirm",
            Self::Suspend => "suspend",
            Self::Resume => "resume",
            Self::Override => "override",
            Self::TrustAccept => "trust_accept",
        }
    }
}

/// Something that a person told the agent, as history keeps it. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intervention {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: String,
    /// What.
    pub told: Told,
    /// The stack; `None` for all.
    pub stack: Option<String>,
    /// Who.
    pub by: Person,
    /// Why.
    pub reason: String,
    /// What exactly: the release, the plan, until when.
    pub detail: Option<String>,
    /// The sync that it began, if it began one.
    pub sync: Option<i64>,
}

/// A stack, or all of them, left alone for a while. It ends by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// The stack; `None` for all.
    pub stack: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub since_ms: i64,
    /// When it ends.
    pub until_ms: i64,
    /// For how long it was asked for.
    pub for_ms: i64,
    /// Who, and why.
    pub stated: Stated,
}

impl Suspension {
    /// Whether it is over.
    pub fn is_over(&self, now_ms: i64) -> bool {
        now_ms >= self.until_ms
    }

    /// The same after the clock was set: by so many milliseconds it shows more than time went by. What was to last two
    /// hours lasts two hours.
    #[must_use]
    pub fn after_clock_set(self, jump_ms: i64) -> Self {
        Self {
            since_ms: self.since_ms.saturating_add(jump_ms),
            until_ms: self.until_ms.saturating_add(jump_ms),
            ..self
        }
    }

    /// The same when the agent starts and nobody knows what the clock did meanwhile: it never lasts longer from now on
    /// than it was asked for.
    #[must_use]
    pub fn at_start(self, now_ms: i64) -> Self {
        let latest = now_ms.saturating_add(self.for_ms);
        if self.until_ms <= latest { self } else { Self { since_ms: now_ms, until_ms: latest, ..self } }
    }
}

/// A suspension in status and reports. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// Whether all stacks are suspended, not this one alone.
    pub all: bool,
    /// When it began.
    pub since: String,
    /// When it ends by itself.
    pub until: String,
    /// Who.
    pub by: Person,
    /// Why.
    pub reason: String,
}

/// A stack that stays at the release that a person chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Since when.
    pub since: String,
    /// Who chose it, why, and what ends it.
    pub reason: String,
}

/// A stack's maintenance window in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowState {
    /// As it is written, its spans separated by `; `.
    pub window: String,
    /// Whether deployments may begin now.
    pub open: bool,
    /// When that changes next; `None` if nobody can tell.
    pub changes: Option<String>,
}

/// A plan that waits for a person's `confirm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    /// The plan's id.
    pub plan: String,
    /// The stacks that it removes, sorted.
    pub removes: Vec<String>,
    /// Since when it waits.
    pub since: String,
    /// Who let it go ahead, if somebody did.
    pub confirmed: Option<Person>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn suspension(since_ms: i64, for_ms: i64) -> Suspension {
        let by = Person { uid: 0, name: "root".to_owned() };
        let stated = Stated { by, reason: "repair".to_owned() };
        Suspension { stack: None, since_ms, until_ms: since_ms + for_ms, for_ms, stated }
    }

    proptest! {
        #[test]
        fn a_clock_that_is_set_changes_nothing_about_how_long_it_lasts(
            since in 0_i64..4_000_000_000_000, length in 1_i64..LONGEST_SUSPENSION_MS, passed in 0_i64..LONGEST_SUSPENSION_MS,
            jump in -4_000_000_000_000_i64..4_000_000_000_000,
        ) {
            let moved = suspension(since, length).after_clock_set(jump);
            prop_assert_eq!(moved.is_over(since + passed + jump), passed >= length);
        }

        #[test]
        fn after_a_start_it_never_lasts_longer_than_it_was_asked_for(
            since in 0_i64..4_000_000_000_000, length in 1_i64..LONGEST_SUSPENSION_MS, now in 0_i64..4_000_000_000_000,
        ) {
            let before = suspension(since, length);
            let after = before.clone().at_start(now);
            prop_assert!(after.is_over(now + length));
            prop_assert!(after.until_ms <= before.until_ms, "a start never makes it longer");
        }
    }
}
