//! Whole histories in real repositories, from the mirror to the decision.

use std::time::Duration;

use crate::world::{World, with_header};
use evenkeel::{
    config::settings::{Introduction, SignersOf, Trust},
    git::{Repo, verify},
};
use evenkeel_core::{
    id::CommitId,
    trust::{Accepted, Code, Refusal, VerifiedRevision},
};
use evenkeel_layout::tree::{EntryKind, Tree as _};

fn world() -> World {
    let world = World::new();
    let public = world.key("me", &["ed25519"]);
    world.write("signers", format!("me@example.org {public}\n"));
    world
}

fn decide(
    world: &World,
    introduction: Option<&CommitId>,
    accepted: Option<&Accepted>,
    tip: &CommitId,
) -> Result<VerifiedRevision, Box<Refusal>> {
    let trust = Trust {
        signers: SignersOf::Server { allowed_signers: Some(world.path("signers")), openpgp_certificates: None },
        revoked: None,
        introduction: introduction.map(|id| Introduction { commit: id.clone(), signer: world.fingerprint("me") }),
        forge_keys: None,
        require_deploy_to: false,
        stale_after: Duration::from_secs(86_400),
    };
    verify(&world.repo(), (&trust, "refs/heads/main"), tip, accepted, 2_000_000_000).unwrap()
}

fn refused(
    world: &World,
    introduction: Option<&CommitId>,
    accepted: Option<&Accepted>,
    tip: &CommitId,
) -> (Code, CommitId) {
    let refusal = decide(world, introduction, accepted, tip).unwrap_err();
    (refusal.code, refusal.commit)
}

/// The commit made with a signature that ssh-keygen reads as the same, and so with another id.
fn twin(world: &World, id: &CommitId) -> CommitId {
    let raw = String::from_utf8(world.raw(id)).unwrap();
    let other = raw.replacen("-----BEGIN SSH SIGNATURE-----\n", "-----BEGIN SSH SIGNATURE-----\n \n", 1);
    let twin = world.store(other.as_bytes());
    assert_ne!(twin, *id);
    twin
}

#[test]
fn every_new_commit_is_judged_and_the_accepted_one_carried_on() {
    let world = world();
    let first = world.commit("1", "me");
    let accepted = decide(&world, None, None, &first).unwrap().accepted();
    world.commit("2", "me");
    let third = world.commit("3", "me");
    let revision = decide(&world, None, Some(&accepted), &third).unwrap();
    assert_eq!((revision.verified(), revision.signer().unwrap().principal.as_str()), (2, "me@example.org"));
    assert_eq!(decide(&world, None, Some(&revision.accepted()), &third).unwrap().verified(), 0);

    let bad = world.commit_unsigned("4");
    let tip = world.commit("5", "me");
    let refusal = decide(&world, None, Some(&accepted), &tip).unwrap_err();
    assert_eq!((refusal.code, &refusal.commit, refusal.subject.as_str()), (Code::Unsigned, &bad, "4"));
}

#[test]
fn going_back_or_aside_is_refused_and_a_twin_is_not() {
    let world = world();
    let first = world.commit("1", "me");
    let second = world.commit("2", "me");
    let accepted = decide(&world, None, None, &second).unwrap().accepted();
    assert_eq!(refused(&world, None, Some(&accepted), &first).0, Code::Rollback);

    world.git(["reset", "-q", "--hard", first.as_str()]);
    let aside = world.commit("2 anew", "me");
    assert_eq!(refused(&world, None, Some(&accepted), &aside).0, Code::Diverged);

    let twin = twin(&world, &second);
    assert_eq!(decide(&world, None, Some(&accepted), &twin).unwrap().verified(), 0);
    world.git(["reset", "-q", "--hard", twin.as_str()]);
    let on_twin = world.commit("3", "me");
    assert_eq!(decide(&world, None, Some(&accepted), &on_twin).unwrap().verified(), 1);
}

#[test]
fn an_accepted_commit_that_is_gone_from_the_repository_is_a_divergence() {
    let world = world();
    let accepted = decide(&world, None, None, &world.commit("1", "me")).unwrap().accepted();
    let fresh = self::world();
    std::fs::copy(world.path("signers"), fresh.path("signers")).unwrap();
    let tip = fresh.commit("another", "me");
    assert_eq!(refused(&fresh, None, Some(&accepted), &tip).0, Code::Diverged);
}

#[test]
fn merges_are_judged_on_both_sides_wherever_they_forked() {
    let world = world();
    let first = world.commit("1", "me");
    world.git(["checkout", "-q", "-b", "side"]);
    let side = world.commit("side", "me");
    world.git(["checkout", "-q", "main"]);
    let second = world.commit("2", "me");
    let accepted = decide(&world, None, None, &second).unwrap().accepted();
    let merge = |world: &World| {
        let key = format!("user.signingkey={}", world.path("me.pub").display());
        world.git(["-c", &key, "merge", "-q", "-S", "--no-ff", "-m", "merge", "side"]);
        world.head()
    };
    let merged = merge(&world);
    assert_eq!(decide(&world, None, Some(&accepted), &merged).unwrap().verified(), 2);
    // With an introduction after the fork, the side stands on history that nobody introduced.
    assert_eq!(refused(&world, Some(&second), Some(&accepted), &merged), (Code::PreIntro, side.clone()));
    assert_eq!(refused(&world, Some(&second), None, &merged), (Code::PreIntro, side));
    assert_eq!(decide(&world, Some(&first), None, &merged).unwrap().verified(), 3);

    world.git(["reset", "-q", "--hard", second.as_str()]);
    world.git(["checkout", "-q", "side"]);
    let bad = world.commit_unsigned("bad");
    world.git(["checkout", "-q", "main"]);
    assert_eq!(refused(&world, None, Some(&accepted), &merge(&world)), (Code::Unsigned, bad));
}

#[test]
fn unsigned_history_before_the_introduction_is_of_no_account() {
    let world = world();
    let root = world.commit_unsigned("old");
    let introduction = world.commit("introduction", "me");
    let tip = world.commit("new", "me");
    assert_eq!(refused(&world, None, None, &tip), (Code::Unsigned, root.clone()));
    assert_eq!(decide(&world, Some(&introduction), None, &tip).unwrap().verified(), 1);
    assert_eq!(decide(&world, Some(&introduction), None, &introduction).unwrap().verified(), 1);
    assert_eq!(refused(&world, Some(&introduction), None, &root).0, Code::PreIntro);

    world.git(["checkout", "-q", "--orphan", "other"]);
    let orphan = world.commit("unrelated", "me");
    assert_eq!(refused(&world, Some(&introduction), None, &orphan).0, Code::PreIntro);
    world.git(["checkout", "-q", "main"]);
    let key = format!("user.signingkey={}", world.path("me.pub").display());
    world.git(["-c", &key, "merge", "-q", "-S", "--allow-unrelated-histories", "-m", "merge", "other"]);
    assert_eq!(refused(&world, Some(&introduction), None, &world.head()), (Code::Root, orphan));
}

#[test]
fn clocks_do_not_decide_what_is_judged() {
    let world = world();
    let first = world.commit("1", "me");
    let accepted = decide(&world, None, None, &first).unwrap().accepted();
    let raw = String::from_utf8(world.raw(&world.commit_unsigned("2"))).unwrap();
    // An unsigned commit from long before its parent, below a signed tip.
    let (head, rest) = raw.split_once("committer").unwrap();
    let (_, message) = rest.split_once("+0000").unwrap();
    let old = world.store(format!("{head}committer Test <t@example.org> 1 +0000{message}").as_bytes());
    world.git(["reset", "-q", "--hard", old.as_str()]);
    let tip = world.commit("3", "me");
    assert_eq!(refused(&world, None, Some(&accepted), &tip), (Code::Unsigned, old));
}

#[test]
fn replaced_and_missing_objects_deceive_nobody() {
    let world = world();
    let first = world.commit("1", "me");
    let accepted = decide(&world, None, None, &first).unwrap().accepted();
    let bad = world.commit_unsigned("2");
    world.git(["reset", "-q", "--hard", first.as_str()]);
    let good = world.commit("2 signed", "me");
    world.git(["replace", bad.as_str(), good.as_str()]);
    assert_eq!(refused(&world, None, Some(&accepted), &bad), (Code::Shallow, bad.clone()));
    world.git(["replace", "-d", bad.as_str()]);
    assert_eq!(refused(&world, None, Some(&accepted), &bad), (Code::Unsigned, bad));

    let shallow = World::new();
    world.git(["clone", "-q", "--depth", "1", &format!("file://{}", world.repo().display()), "../shallow"]);
    std::fs::remove_dir_all(shallow.repo()).unwrap();
    std::fs::rename(world.path("shallow"), shallow.repo()).unwrap();
    std::fs::copy(world.path("signers"), shallow.path("signers")).unwrap();
    assert_eq!(refused(&shallow, None, Some(&accepted), &good).0, Code::Shallow);
}

#[test]
fn a_forged_object_is_not_read_as_the_one_it_stands_for() {
    let world = world();
    let id = world.commit("1", "me");
    let other = world.commit_unsigned("other");
    let loose = |id: &CommitId| world.repo().join(".git/objects").join(&id.as_str()[..2]).join(&id.as_str()[2..]);
    std::fs::remove_file(loose(&id)).unwrap();
    std::fs::copy(loose(&other), loose(&id)).unwrap();
    assert!(Repo::open(&world.repo()).unwrap().commit_info(&id).is_err());
}

#[test]
fn a_commits_files_are_read_as_they_stand_in_it() {
    let world = world();
    let repo = world.repo();
    std::fs::create_dir_all(repo.join("stacks/web")).unwrap();
    std::fs::write(repo.join("stacks/web/compose.yaml"), "services: {}\n").unwrap();
    std::fs::write(repo.join("run.sh"), "#!/bin/sh\n").unwrap();
    std::os::unix::fs::symlink("run.sh", repo.join("link")).unwrap();
    world.git(["add", "."]);
    world.git(["update-index", "--chmod=+x", "run.sh"]);
    let id = world.commit("files\u{1b}[31m\u{202e}", "me");
    let opened = Repo::open(&repo).unwrap();
    let tree = opened.tree(&id).unwrap();
    assert_eq!(tree.read("stacks/web/compose.yaml").unwrap().as_deref(), Some(b"services: {}\n".as_slice()));
    assert_eq!(tree.read("link").unwrap().as_deref(), Some(b"run.sh".as_slice()));
    assert_eq!(tree.read("stacks").unwrap(), None);
    assert_eq!(tree.kind("run.sh").unwrap(), Some(EntryKind::File { executable: true }));
    assert_eq!(tree.kind("stacks/web").unwrap(), Some(EntryKind::Directory));
    assert_eq!(tree.kind("").unwrap(), Some(EntryKind::Directory));
    let names: Vec<_> = tree.list("").unwrap().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["link", "run.sh", "stacks"]);
    assert!(tree.list("run.sh/x").unwrap().is_empty());

    let info = opened.commit_info(&id).unwrap();
    assert_eq!((info.subject.as_str(), info.author.as_str()), ("files[31m", "Test"));
    for (rev, found) in
        [("HEAD", true), ("main", true), ("nope", false), (&id.as_str()[..8], true), ("HEAD..main", false)]
    {
        assert_eq!(opened.resolve(rev), found.then(|| id.clone()), "{rev}");
    }
}

#[test]
fn a_tree_with_names_that_are_not_safe_is_refused() {
    let world = world();
    let blob = world.git(["hash-object", "-w", "--stdin"]);
    for (name, good) in [("fine", true), ("..", false), (".GIT", false), ("a\u{7}b", false), (".", false)] {
        let entry = [format!("100644 {name}\0").as_bytes(), &hex::decode(&blob).unwrap()].concat();
        let file = world.write("tree", entry);
        let tree = world.git(["hash-object", "-t", "tree", "-w", "--literally", file.to_str().unwrap()]);
        let raw = format!("tree {tree}\nauthor A <a@x> 1 +0000\ncommitter A <a@x> 1 +0000\n\nx\n");
        let tree = Repo::open(&world.repo()).unwrap().tree(&world.store(raw.as_bytes())).unwrap();
        assert_eq!(tree.list("").is_ok(), good, "{name:?}");
    }
}

#[test]
fn a_stripped_signature_makes_a_twin_and_a_second_one_does_not() {
    let world = world();
    let id = world.commit("1", "me");
    let accepted = decide(&world, None, None, &id).unwrap().accepted();
    let payload = evenkeel::git::commit::parse(&world.raw(&id), 40).unwrap().payload;
    let stripped = world.store(&payload);
    // Its content is what was accepted; nothing else could be.
    assert_eq!(decide(&world, None, Some(&accepted), &stripped).unwrap().payload_digest(), &accepted.payload);
    assert_eq!(refused(&world, None, None, &stripped).0, Code::Unsigned);
    let doubled = world.store(&with_header(&world.raw(&id), "gpgsig", "x"));
    assert_eq!(refused(&world, None, Some(&accepted), &doubled).0, Code::Diverged);
}
