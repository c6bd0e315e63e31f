//! What is read beside the signature itself: the file of allowed signers, and every byte of a commit.

use evenkeel::git::{commit, sshsig};
use evenkeel_core::trust::{Signature, When};

use crate::{
    cases::GOOD,
    ssh::{Given, Ssh, now},
};

#[test]
fn allowed_signers_are_read_no_more_leniently_than_ssh_keygen_does() {
    let ssh = Ssh::new();
    let world = &ssh.world;
    let id = world.commit("signed", "me");
    let (me, other) = (world.public("me"), world.key("other", &["ed25519"]));
    let (kind, rest) = me.split_once(' ').unwrap();
    for (text, accepted) in [
        (format!("a {me}"), true),
        (format!("a {me}\n"), true),
        (format!("  a\t{me}\n"), true),
        (format!("\"a b\" {me}\n"), true),
        (format!("*@x.example,b {me}\n"), true),
        (format!("# c\n\na {other}\nb {me}\n"), true),
        (format!("a namespaces=\"git\" {me}\n"), true),
        (format!("a NAMESPACES=\"file,g*\" {me}\n"), true),
        (format!("a namespaces=\"file\" {me}\n"), false),
        (format!("a namespaces=\"*,!git\" {me}\n"), false),
        (format!("a namespaces=\"file\" {me}\na {me}\n"), true),
        (format!("a namespaces=\"file\" {me}\nb {me}\n"), false),
        (format!("a,!a {me}\n"), false),
        (format!("!b,a {me}\n"), true),
        (format!("a valid-after=\"20200101\" {me}\n"), true),
        (format!("a valid-after=\"20200101\",valid-before=\"20990101\" {me}\n"), true),
        (format!("a valid-after=\"209901010000\" {me}\n"), false),
        (format!("a valid-before=\"20200101000000\" {me}\n"), false),
        (format!("a valid-before=\"20200101\" {me}\nb {me}\n"), true),
        (format!("a valid-before=\"2020-01-01\" {me}\n"), false),
        (format!("a valid-before=\"20990101\",valid-before=\"20990101\" {me}\n"), false),
        (format!("a unknown {me}\n"), false),
        (format!("a namespaces=\"git\", {me}\n"), false),
        (format!("a namespaces=git {me}\n"), false),
        (format!("a cert-authority {me}\n"), false),
        (format!("a {kind}\n"), false),
        (format!("a ssh-rsa {rest}\n"), false),
        (format!("a {kind} {}\n", &rest[..30]), false),
        (format!("a {me}\r\n"), true),
        (format!("{me}\n"), false),
        (format!("a {other}\n"), false),
        (format!("odd\na {me}\n"), false),
    ] {
        let file = world.write("file", &text);
        let given = Given { signers: &file, revoked: None, zone: "UTC" };
        let (ours, git) = (ssh.ours(&id, given, When::Now(now())) == GOOD, world.git_accepts(&id, &file, None));
        assert!(ours == accepted && (git || !ours), "{text:?}: ours is {ours}, git's {git}");
    }
}

#[test]
fn every_change_of_one_byte_is_refused_or_leaves_the_payload_alone() {
    let ssh = Ssh::new();
    let world = &ssh.world;
    let raw = world.raw(&world.commit("a message", "me"));
    let original = commit::parse(&raw, 40).unwrap().payload_digest();
    let mut twins = Vec::new();
    let mut check = |changed: &[u8]| {
        let Ok(parsed) = commit::parse(changed, 40) else { return };
        let Some(armour) = &parsed.signature else { return };
        if matches!(sshsig::check(armour, &parsed.payload), Signature::Valid { .. }) {
            assert_eq!(parsed.payload_digest(), original, "{}", String::from_utf8_lossy(changed));
            twins.push(changed.to_vec());
        }
    };
    for at in 0..raw.len() {
        for flip in [0x01, 0x20] {
            let mut changed = raw.clone();
            changed[at] ^= flip;
            check(&changed);
        }
        check(&[&raw[..at], &raw[at + 1..]].concat());
        for byte in *b"\n " {
            check(&[&raw[..at], &[byte], &raw[at..]].concat());
        }
    }
    // Whitespace in the armour is of no account, for ssh-keygen too.
    assert!(twins.len() > 10);
    for twin in twins.iter().step_by(twins.len() / 10) {
        assert!(world.git_accepts(&world.store(twin), &ssh.signers, None), "{}", String::from_utf8_lossy(twin));
    }
}
