//! Which snapshots somebody may still want.

use super::*;

#[test]
fn the_snapshot_that_a_way_back_names_stays_until_its_stack_has_a_later_release() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let named = || store.named_snapshots().unwrap().into_iter().collect::<Vec<_>>();
    let first = deploy(&store, "web", b"1", Outcome::Committed);
    deploy(&store, "db", b"1", Outcome::Committed);
    for (outcome, snapshot) in
        [(Outcome::RolledBack, "back"), (Outcome::Halted, "halted"), (Outcome::Aborted, "aborted")]
    {
        deploy_over(&store, "web", b"2", outcome, (Some(first), Some(snapshot)));
    }
    // A first deployment has no release before it.
    deploy_over(&store, "new", b"1", Outcome::RolledBack, (None, Some("new")));
    assert_eq!(named(), ["back", "halted", "new"]);
    // That of another stack says nothing of this one.
    deploy(&store, "db", b"2", Outcome::Committed);
    assert_eq!(named(), ["back", "halted", "new"]);
    let second = deploy_over(&store, "web", b"3", Outcome::Committed, (Some(first), Some("unnamed by its release")));
    assert_eq!(named(), ["new"]);
    deploy_over(&store, "web", b"4", Outcome::RolledBack, (Some(second), Some("later")));
    store.rename(&stack("web"), &stack("site")).unwrap();
    assert_eq!(named(), ["later", "new"]);
}
