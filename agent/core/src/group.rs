//! Stacks that move together: what becomes of all of them once each has got as far as it gets alone.
//!
//! The verdict is read from their journals, while living and after a crash alike. A member that may be committed proves that
//! all had passed, so the others go on too; before that one failure takes all of them back.

use evenkeel_layout::name::{GroupName, StackName};

use crate::{
    journal::{Group, Progress, State},
    reason::{Code, Reason},
};

/// What becomes of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not all have got as far as they get alone.
    Wait,
    /// All have passed: each is committed.
    GoOn,
    /// One has failed: all go back.
    GoBack(Reason),
}

/// Judges a group by the journals of its members; `None` is a member that has none.
pub fn verdict<'p>(group: &Group, progress: impl Fn(&StackName) -> Option<&'p Progress>) -> Verdict {
    let all: Vec<(&StackName, Option<&Progress>)> = group.members().map(|m| (m, progress(m))).collect();
    let states = || all.iter().map(|(_, progress)| progress.map(Progress::state));
    if states().any(|state| matches!(state, Some(State::Retiring | State::Committed))) {
        return Verdict::GoOn;
    }
    if let Some(reason) = failed(group, &all) {
        return Verdict::GoBack(reason);
    }
    if states().all(|state| state == Some(State::Passed)) { Verdict::GoOn } else { Verdict::Wait }
}

/// Why the others go back, if they do: because of the one that failed by itself.
fn failed(group: &Group, all: &[(&StackName, Option<&Progress>)]) -> Option<Reason> {
    let lost = Reason::new(Code::Interrupted, "the agent was stopped before it was begun");
    let why = |(stack, progress): &(&StackName, Option<&Progress>)| {
        let reason = match progress {
            None => lost.clone(),
            Some(progress) => progress.failure()?.clone(),
        };
        Some(((*stack).clone(), reason))
    };
    let failures: Vec<(StackName, Reason)> = all.iter().filter_map(why).collect();
    let own = failures.iter().find(|(_, reason)| reason.code != Code::GroupFailed);
    let (stack, reason) = own.or(failures.first())?;
    let message = format!("it moves together with {stack} (group {}), which failed: {}", group.name, reason.message);
    Some(Reason { class: reason.class, ..Reason::new(Code::GroupFailed, message) })
}

/// One that is to change, as admission sees it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The stack.
    pub stack: &'a StackName,
    /// What it moves with.
    pub group: Option<&'a GroupName>,
    /// Why these very bytes failed before, if they did.
    pub failed: Option<Code>,
    /// Whether it is another one than the release that runs.
    pub is_new: bool,
}

/// Of those that failed before the ones for which that does not count: they failed together with others, and what is to move
/// now was never tried. That it was is known only if every other one failed, too. Alone one may go that was not to blame.
pub fn pardoned<'a>(wanted: &[Wanted<'a>]) -> Vec<&'a StackName> {
    let is_pardoned = |one: &&Wanted<'_>| {
        let Some(code) = one.failed else { return false };
        let mut mates = wanted.iter().filter(|w| w.stack != one.stack && w.group.is_some() && w.group == one.group);
        match mates.clone().next() {
            None => code == Code::GroupFailed,
            Some(_) => mates.any(|mate| mate.failed.is_none() && mate.is_new),
        }
    };
    wanted.iter().filter(is_pardoned).map(|one| one.stack).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::ReleaseId,
        journal::{Event, Purpose, SnapshotDecision},
        reason::Class,
    };

    fn stack(name: &str) -> StackName {
        StackName::new(name).unwrap()
    }

    fn group() -> Group {
        Group { name: GroupName::new("shop").unwrap(), waves: vec![vec![stack("db"), stack("web")]] }
    }

    fn failed(code: Code) -> Event {
        Event::Failed { reason: Reason::new(code, "it is broken") }
    }

    /// A member's journal up to one that waits for the others, then `more`.
    fn member(more: &[Event]) -> Progress {
        let mut events = begun();
        events.extend([
            Event::ApplyStarted { before: vec![], ailing: vec![], beside: vec![] },
            Event::Applied,
            Event::GatePassed { seen: vec![] },
        ]);
        events.extend(more.iter().cloned());
        Progress::replay(&events).unwrap()
    }

    fn begun() -> Vec<Event> {
        let purpose = Purpose::Deploy;
        vec![
            Event::Intended { digest: None, from: Some(ReleaseId(1)), purpose, group: Some(group()) },
            Event::Staged { to: None },
            Event::BackupStarted { quiet: vec![] },
            Event::BackedUp { snapshot: SnapshotDecision::NotConfigured, left_out: vec![] },
        ]
    }

    fn judged(db: Option<&Progress>, web: Option<&Progress>) -> Verdict {
        verdict(&group(), |name| if name.as_str() == "db" { db } else { web })
    }

    #[test]
    fn all_go_on_when_all_have_passed() {
        let passed = member(&[]);
        assert_eq!(passed.state(), State::Passed);
        assert_eq!(judged(Some(&passed), Some(&passed)), Verdict::GoOn);
        let under_way = Progress::replay(&begun()).unwrap();
        assert_eq!(judged(Some(&passed), Some(&under_way)), Verdict::Wait);
    }

    #[test]
    fn one_that_is_committed_proves_that_all_had_passed() {
        let (passed, committed) = (member(&[]), member(&[Event::GroupPassed { seen: vec![] }]));
        assert_eq!(judged(Some(&passed), Some(&committed)), Verdict::GoOn);
        // Nobody may go on with it any more, which takes nothing away from what the others do.
        let halted = member(&[Event::LeftAlone { reason: Reason::new(Code::HeldAsOwn, "it is ours") }]);
        assert_eq!(judged(Some(&halted), Some(&committed)), Verdict::GoOn);
    }

    #[test]
    fn one_failure_takes_all_back_and_is_named() {
        let passed = member(&[]);
        let sick = Progress::replay(&[begun(), vec![failed(Code::ImagePull)]].concat()).unwrap();
        let Verdict::GoBack(reason) = judged(Some(&passed), Some(&sick)) else { panic!("it goes back") };
        assert_eq!(
            (reason.code, reason.class),
            (Code::GroupFailed, Class::Transient),
            "it is tried again as the other is"
        );
        assert_eq!(reason.message, "it moves together with web (group shop), which failed: it is broken");
        // After a crash in the middle of the way back the same one is to blame.
        let back = member(&[Event::Failed { reason }]);
        let Verdict::GoBack(again) = judged(Some(&back), Some(&sick)) else { panic!("it goes back") };
        assert!(again.message.starts_with("it moves together with web"), "{again:?}");
    }

    #[test]
    fn a_member_that_was_never_begun_takes_the_others_back() {
        let passed = member(&[]);
        let Verdict::GoBack(reason) = judged(Some(&passed), None) else { panic!("it goes back") };
        assert!(reason.message.contains("web") && reason.class == Class::Transient, "{reason:?}");
    }

    #[test]
    fn what_failed_together_is_tried_again_with_anything_new_and_nothing_else_is() {
        let (shop, db, web) = (GroupName::new("shop").unwrap(), stack("db"), stack("web"));
        let found = |of_db: (Option<Code>, bool), of_web: Option<(Option<Code>, bool)>| {
            let one = |stack, (failed, is_new)| Wanted { stack, group: Some(&shop), failed, is_new };
            let wanted: Vec<Wanted<'_>> =
                [Some(one(&db, of_db)), of_web.map(|web_is| one(&web, web_is))].into_iter().flatten().collect();
            pardoned(&wanted).into_iter().map(StackName::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        let (sick, with_it) = (Some(Code::GateUnhealthy), Some(Code::GroupFailed));
        assert!(found((with_it, true), Some((sick, true))).is_empty(), "the very same two");
        assert_eq!(found((None, true), Some((sick, true))), ["web"], "another db may be what web wants");
        assert_eq!(found((with_it, true), Some((None, true))), ["db"]);
        assert!(found((None, true), Some((None, true))).is_empty(), "nothing failed: a person's hold is none of this");
        assert!(found((None, false), Some((sick, true))).is_empty(), "db is what it was when web failed");
        assert_eq!(found((with_it, true), None), ["db"], "alone it was not to blame");
        assert!(found((sick, true), None).is_empty());
    }
}
