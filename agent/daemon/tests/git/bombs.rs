//! What a hostile repository or a fault of ours can do to the processes that fetch and verify: cost one sync.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use evenkeel::{
    config::settings::{SignersOf, Trust},
    git::{
        GitError,
        apart::{Decision, Question},
    },
};
use evenkeel_core::{id::CommitId, reason::Code};

use crate::{
    fetch::{code_of, files},
    world::World,
};

const PATIENCE: Duration = Duration::from_secs(120);

fn world() -> World {
    let world = World::new();
    let public = world.key("me", &["ed25519"]);
    world.write("signers", format!("me@example.org {public}\n"));
    world
}

fn question(world: &World, tip: &CommitId) -> Question {
    let trust = Trust {
        signers: SignersOf::Server { allowed_signers: Some(world.path("signers")), openpgp_certificates: None },
        revoked: None,
        introduction: None,
        forge_keys: None,
        require_deploy_to: false,
        stale_after: Duration::from_secs(86_400),
    };
    let (mirror, tip) = (world.repo(), tip.clone());
    let reference = "refs/heads/main".to_owned();
    Question { mirror, trust, reference, tip, accepted: None, beside: None, now_unix: 2_000_000_000 }
}

async fn apart(question: &Question) -> Decision {
    question.decide_with(Path::new(env!("CARGO_BIN_EXE_evenkeel")), PATIENCE).await
}

/// A signed commit with this tree.
fn commit_of(world: &World, tree: &str) -> CommitId {
    let key = format!("user.signingkey={}", world.path("me.pub").display());
    CommitId::new(&world.git(["-c", &key, "commit-tree", "-S", "-m", "bomb", tree])).unwrap()
}

/// A program in place of ours, which does as the script says.
fn stand_in(world: &World, script: &str) -> PathBuf {
    let file = world.write("stand-in", format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

#[tokio::test]
async fn a_process_apart_decides_as_we_would() {
    let world = world();
    let first = world.commit("1", "me");
    let accepted = apart(&question(&world, &first)).await.unwrap().unwrap();
    assert_eq!(Ok(accepted.clone()), question(&world, &first).decide().unwrap());
    let bad = world.commit_unsigned("2");
    let asked = Question { accepted: Some(accepted.accepted()), ..question(&world, &bad) };
    assert_eq!(apart(&asked).await, asked.decide());
    let lost = CommitId::new(&"1".repeat(40)).unwrap();
    assert_eq!(apart(&question(&world, &lost)).await, question(&world, &lost).decide());
}

#[tokio::test]
async fn a_huge_folder_and_a_bottomless_one_are_refused() {
    let world = world();
    let empty = String::from_utf8(world.any("git", &["hash-object", "-w", "--stdin"], b"").stdout).unwrap();
    let lines: Vec<String> = (0..200_000).map(|n| format!("100644 blob {}\tf{n:06}\n", empty.trim())).collect();
    let wide = String::from_utf8(world.any("git", &["mktree"], lines.concat().as_bytes()).stdout).unwrap();
    let path = vec!["d"; 10_000].join("/");
    let import = format!(
        "blob\nmark :1\ndata 1\nx\ncommit refs/heads/deep\ncommitter T <t@x> 1 +0000\ndata 1\nx\nM 100644 :1 {path}\n\n"
    );
    let imported = world.any("git", &["fast-import", "--quiet"], import.as_bytes());
    assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
    let deep = world.git(["rev-parse", "deep^{tree}"]);
    for (tree, says) in [(wide.trim(), "100000 entries"), (deep.as_str(), "nested deeper")] {
        let error = apart(&question(&world, &commit_of(&world, tree))).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.reason().code, Code::SourceInvalid);
    }
}

#[tokio::test]
async fn a_chain_of_tags_is_no_branch() {
    let world = world();
    let mut id = world.commit("1", "me").to_string();
    let mut kind = "commit";
    for _ in 0..50 {
        let tag = format!("object {id}\ntype {kind}\ntag t\ntagger T <t@x> 1 +0000\n\nt\n");
        let out = world.any("git", &["hash-object", "-t", "tag", "-w", "--stdin"], tag.as_bytes());
        id = String::from_utf8(out.stdout).unwrap().trim().to_owned();
        kind = "tag";
    }
    fs::write(world.repo().join(".git/refs/heads/main"), format!("{id}\n")).unwrap();
    assert_eq!(code_of(&world, &files(&world)).await, Code::SourceInvalid);
}

#[tokio::test]
async fn an_answer_about_another_commit_is_none() {
    let world = world();
    let (first, second) = (world.commit("1", "me"), world.commit("2", "me"));
    let accepts = |tip: &CommitId| {
        let payload = "0".repeat(64);
        let said = serde_json::json!({ "Accepted": { "tip": tip, "payload": payload, "verified": 1, "signer": null } });
        stand_in(&world, &format!("read line; echo '{said}'"))
    };
    let asked = question(&world, &second);
    assert_eq!(asked.decide_with(&accepts(&second), PATIENCE).await.unwrap().unwrap().tip(), &second);
    let error = asked.decide_with(&accepts(&first), PATIENCE).await.unwrap_err();
    assert!(matches!(&error, GitError::Internal(why) if why.contains(first.as_str())), "{error}");
}

#[tokio::test]
async fn a_hang_and_a_panic_are_errors() {
    let world = world();
    let asked = question(&world, &world.commit("1", "me"));
    let begun = Instant::now();
    let hangs = stand_in(&world, "sleep 600 & wait");
    let error = asked.decide_with(&hangs, Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(&error, GitError::TooMuch { why, .. } if why.contains("longer than 1 s")), "{error}");
    assert!(begun.elapsed() < PATIENCE);
    let panics = stand_in(&world, "read line; echo \"thread 'main' panicked at x.rs:1\" >&2; exit 101");
    let error = asked.decide_with(&panics, PATIENCE).await.unwrap_err();
    assert!(matches!(&error, GitError::Internal(why) if why.contains("panicked")), "{error}");
    let starves = stand_in(&world, "read line; echo 'memory allocation of 9 bytes failed' >&2; kill -ABRT $$");
    let error = asked.decide_with(&starves, PATIENCE).await.unwrap_err();
    assert!(matches!(&error, GitError::TooMuch { why, .. } if why.contains("512 MiB")), "{error}");
}
