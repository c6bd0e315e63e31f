//! `evenkeel verify` as people and programs call it.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::world::World;

fn run(world: &World, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_evenkeel")).arg("verify").args(args).current_dir(world.repo()).output().unwrap()
}

/// Exit code and document.
fn verify(world: &World, args: &[&str]) -> (i32, Value) {
    let out = run(world, &[args, &["--format", "json"]].concat());
    (out.status.code().unwrap(), serde_json::from_slice(&out.stdout).unwrap())
}

fn world() -> World {
    let world = World::new();
    let public = world.key("me", &["ed25519"]);
    world.write("signers", format!("me@example.org {public}\n"));
    world
}

const KEYS: [&str; 2] = ["--allowed-signers", "../signers"];

#[test]
fn a_revision_is_judged_alone() {
    let world = world();
    world.commit_unsigned("1");
    let id = world.commit("2", "me");
    let (code, document) = verify(&world, &KEYS);
    assert_eq!(code, 0);
    assert_eq!(
        document,
        json!({
            "schema": 1,
            "verdict": "good",
            "forward": null,
            "commits": [{
                "id": id.as_str(),
                "verdict": "good",
                "code": null,
                "signer": {"principal": "me@example.org", "fingerprint": world.fingerprint("me")},
                "reason": "signed by me@example.org",
            }],
            "refusal": null,
        })
    );
}

#[test]
fn a_range_is_judged_parents_first_and_refused_for_one_bad_commit() {
    let world = world();
    let first = world.commit("1", "me");
    let bad = world.commit_unsigned("2");
    let tip = world.commit("3", "me");
    let (code, document) = verify(&world, &[&KEYS[..], &[&format!("{first}..main")]].concat());
    assert_eq!((code, &document["verdict"], &document["forward"]), (4, &json!("refused"), &json!(true)));
    let ids: Vec<_> = document["commits"].as_array().unwrap().iter().map(|c| &c["id"]).collect();
    assert_eq!(ids, [bad.as_str(), tip.as_str()]);
    assert_eq!(document["commits"][0]["code"], "E-UNSIGNED");
    assert_eq!(document["commits"][0]["signer"], Value::Null);

    let (code, empty) = verify(&world, &[&KEYS[..], &["main..HEAD~1"]].concat());
    assert_eq!((code, &empty["verdict"], &empty["forward"]), (0, &json!("good"), &json!(false)));
    assert_eq!(empty["commits"], json!([]));
    let (code, same) = verify(&world, &[&KEYS[..], &["main.."]].concat());
    assert_eq!((code, &same["forward"]), (0, &json!(true)));
}

#[test]
fn only_the_tips_key_is_held_against_the_clock() {
    let world = world();
    let first = world.commit("1", "me");
    world.commit("2", "me");
    world.commit("3", "me");
    world.write("signers", format!("me valid-before=\"20200101Z\" {}\n", world.public("me")));
    let (code, document) = verify(&world, &[&KEYS[..], &[&format!("{first}..")]].concat());
    assert_eq!(code, 4);
    assert_eq!(document["commits"][0]["verdict"], "good");
    assert_eq!(
        (&document["commits"][1]["verdict"], &document["commits"][1]["code"]),
        (&json!("expired"), &json!("E-EXPIRED"))
    );
}

#[test]
fn revoked_keys_are_refused_and_an_unreadable_list_refuses_all() {
    let world = world();
    world.commit("1", "me");
    world.write("revoked", world.public("me"));
    let (code, document) = verify(&world, &[&KEYS[..], &["--revoked", "../revoked"]].concat());
    assert_eq!((code, &document["commits"][0]["verdict"]), (4, &json!("revoked")));
    let (code, document) = verify(&world, &[&KEYS[..], &["--revoked", "../absent"]].concat());
    assert_eq!((code, &document["commits"][0]["code"]), (4, &json!("E-REVOCATION")));
    assert_eq!(verify(&world, &[&KEYS[..], &["--revoked", "../absent", "HEAD..HEAD"]].concat()).0, 4);
}

#[test]
fn without_keys_or_revision_the_usage_is_wrong() {
    let world = world();
    world.commit("1", "me");
    world.write("empty", "# nobody\n");
    world.write("odd", "me ssh-ed25519 x\n");
    for args in [
        &["--allowed-signers", "../absent"][..],
        &["--allowed-signers", "../empty"],
        &["--allowed-signers", "../odd"],
        &["--allowed-signers", "../signers", "nope"],
        &["--allowed-signers", "../signers", "nope..HEAD"],
        &["--allowed-signers", "../signers", "HEAD...HEAD"],
        &["--allowed-signers", "../signers", "--repo", "/nowhere"],
    ] {
        let (code, document) = verify(&world, args);
        assert_eq!(code, 2, "{args:?}");
        assert!(document["error"]["message"].is_string(), "{document}");
    }
}

#[test]
fn a_person_sees_at_a_glance_what_is_wrong_and_what_to_do() {
    let world = world();
    let first = world.commit("Add the shop", "me");
    let second = world.commit_unsigned("Fix the shop");
    let out = run(&world, &[&KEYS[..], &[&format!("{first}~0..HEAD")]].concat());
    let text =
        String::from_utf8(out.stdout).unwrap().replace(second.as_str(), "<second>").replace(second.short(), "<second>");
    insta::assert_snapshot!(text, @r"
    <second> E-UNSIGNED    Fix the shop
                 it carries no signature
    1 of 1 refused. Next: sign it and push again: git commit --amend -S (git rebase --exec 'git commit --amend -S --no-edit' for several); or leave it and answer for it in a signed commit with the trailer `Evenkeel-Vouch: <second>`
    ");
    let bare = world.path("bare.git");
    world.git(["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    assert_eq!(verify(&world, &[&KEYS[..], &["--repo", bare.to_str().unwrap(), first.as_str()]].concat()).0, 0);
}

#[test]
fn the_whole_history_is_judged_as_a_server_would() {
    let world = world();
    let public = world.public("me");
    std::fs::create_dir_all(world.repo().join(".evenkeel")).unwrap();
    let list = |serial: u32| format!("# serial: {serial}\nme,admin {public}\n");
    std::fs::write(world.repo().join(".evenkeel/allowed_signers"), list(1)).unwrap();
    world.git(["add", "--all"]);
    let first = world.commit("1", "me");
    let second = world.commit("2", "me");
    let introduction = format!("{first}:{}", world.fingerprint("me"));
    let whole = ["--signers", "repository", "--introduction", &introduction];
    let (code, document) = verify(&world, &whole);
    assert_eq!((code, document["commits"].as_array().unwrap().len()), (0, 1), "{document}");

    world.key("other", &["ed25519"]);
    let stated = format!("{first}:{}", world.fingerprint("other"));
    let (code, document) = verify(&world, &["--signers", "repository", "--introduction", &stated]);
    assert_eq!((code, &document["refusal"]["code"]), (4, &json!("E-UNKNOWN-KEY")), "{document}");

    let third = world.commit("3", "me");
    let (code, document) = verify(&world, &[&KEYS[..], &["--accepted", third.as_str(), second.as_str()]].concat());
    assert_eq!((code, &document["refusal"]["code"]), (4, &json!("E-ROLLBACK")), "{document}");
    let remedy = document["refusal"]["remedy"].as_str().unwrap();
    assert!(remedy.contains(&format!("evenkeel trust accept {second}")), "{remedy}");

    world.git(["reset", "-q", "--hard", second.as_str()]);
    let aside = world.commit("aside", "me");
    let (code, document) = verify(&world, &[&KEYS[..], &["--accepted", third.as_str(), aside.as_str()]].concat());
    assert_eq!((code, &document["refusal"]["code"]), (4, &json!("E-DIVERGED")), "{document}");

    // In CI: a branch behind its base is judged from where they part.
    std::fs::write(world.repo().join(".evenkeel/allowed_signers"), list(1) + "# odd\n").unwrap();
    world.git(["add", "--all"]);
    let edit = world.commit("edit", "me");
    let (code, document) = verify(&world, &["--signers", "repository", &format!("{third}..{edit}")]);
    let refused: Vec<_> = document["commits"].as_array().unwrap().iter().map(|c| &c["code"]).collect();
    assert_eq!((code, &document["forward"], refused), (4, &json!(false), vec![&json!(null), &json!("E-AUTHZ")]));
    assert_eq!(document["refusal"]["commit"], json!(edit.as_str()));
}

#[test]
fn options_that_contradict_each_other_are_wrong_usage() {
    let world = world();
    let id = world.commit("1", "me");
    for args in [
        &["--signers", "repository"][..],
        &["--signers", "repository", "--allowed-signers", "../signers"],
        &["--allowed-signers", "../signers", "--accepted", id.as_str(), "HEAD..HEAD"],
        &["--allowed-signers", "../signers", "--require-deploy-to", "main"],
    ] {
        assert_eq!(run(&world, args).status.code(), Some(2), "{args:?}");
    }
}
