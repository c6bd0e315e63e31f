//! What holds still for a backup.

use super::*;

#[test]
fn what_held_still_for_a_backup_runs_again_before_the_end_and_before_the_apply() {
    for progress in reachable() {
        let told = progress.failure().is_some();
        match progress.state() {
            // One that must be left alone is left as it is, and that is told.
            State::BackingUp | State::Waking | State::Aborted | State::Halted => {}
            state => assert!(progress.quiet().is_empty(), "{state:?}: {progress:?}"),
        }
        if !progress.quiet().is_empty() && progress.todo().is_none() {
            assert!(told, "it could not be woken, and nobody hears of it");
        }
        if progress.state() == State::BackingUp && !progress.quiet().is_empty() {
            for event in [failed(), Event::Interrupted, backed_up()] {
                let next = progress.clone().next(&event).unwrap();
                assert_eq!(next.todo() == Some(Todo::Wake), progress.has_calmed(), "{event:?}");
                if !progress.has_calmed() {
                    continue; // nobody held still yet
                }
                let stopped = next.next(&Event::Interrupted).unwrap();
                assert_eq!(stopped.todo(), Some(Todo::Wake));
                assert_eq!(stopped.next(&Event::Woken).unwrap().state(), State::Aborted);
            }
        }
    }
}

#[test]
fn what_held_still_in_a_stack_that_is_left_alone_is_named() {
    let mut events = good_path()[..2].to_vec();
    events.extend([Event::BackupStarted { quiet: quiet() }, Event::Calming { ailing: vec![] }, left_alone()]);
    let progress = Progress::replay(&events).unwrap();
    let message = &progress.failure().unwrap().message;
    assert!(progress.state() == State::Aborted && message.contains("db held still"), "{message}");
}

#[test]
fn what_sickened_only_while_others_held_still_is_not_excused() {
    let mut events = good_path()[..2].to_vec();
    events.extend([Event::BackupStarted { quiet: quiet() }, Event::Calming { ailing: before("old") }, backed_up()]);
    let ailing = vec!["old".to_owned(), "web".to_owned()];
    events.extend([Event::Woken, Event::ApplyStarted { before: ailing.clone(), ailing, beside: vec![] }]);
    assert_eq!(Progress::replay(&events).unwrap().ailing(), ["old"]);
}

#[test]
fn what_cannot_be_woken_is_told_together_with_why_the_backup_failed() {
    let mut events = good_path()[..2].to_vec();
    events.extend([Event::BackupStarted { quiet: quiet() }, Event::Calming { ailing: vec![] }, failed()]);
    events.push(Event::Failed { reason: Reason::new(Code::BackupFailed, "db-1 cannot be started") });
    let progress = Progress::replay(&events).unwrap();
    let message = &progress.failure().unwrap().message;
    assert_eq!(progress.state(), State::Aborted);
    assert!(message.contains("db-1 cannot be started") && message.contains("web is unhealthy"), "{message}");
}
