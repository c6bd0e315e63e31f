//! Signatures and histories, made and judged by the real git beside us. What we accept, git accepts.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::world::{World, with_header};
use evenkeel::git::{Repo, allowed_signers, commit, graph, openpgp::Keyring, read_revoked, sshsig};
use evenkeel_core::{
    id::CommitId,
    trust::{Authority, Code, Policy, Revoked, Signature, Signers, Verdict, When},
};
use jiff::tz::TimeZone;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

fn signers(file: &Path) -> Option<Signers> {
    allowed_signers::parse(&std::fs::read(file).unwrap(), &TimeZone::UTC).ok()
}

/// Our verdict on a commit as a tip, with the rule.
fn ours(world: &World, id: &CommitId, file: &Path, revoked: Option<&Path>) -> (Verdict, Option<Code>) {
    let policy = Policy {
        authority: Authority::Server(signers(file).unwrap_or_default()),
        revoked: revoked.map_or(Revoked::Keys(BTreeSet::new()), read_revoked),
        introduction: None,
        forge: Signers::default(),
        deploy_to: None,
    };
    let commit = graph::one(&Repo::open(&world.repo()).unwrap(), &Keyring::default(), id).unwrap();
    let judged = policy.judge(&commit.signature, When::Now(now()));
    (judged.verdict, judged.code)
}

/// Our verdict, after making sure that we accept nothing that git refuses.
fn checked(world: &World, id: &CommitId, file: &Path) -> (Verdict, Option<Code>) {
    let ours = ours(world, id, file, None);
    assert!(ours.0 != Verdict::Good || world.git_accepts(id, file, None), "git refuses {id}, we accept it");
    ours
}

fn world_with(keys: &[(&str, &[&str])]) -> (World, std::path::PathBuf) {
    let world = World::new();
    let lines: Vec<String> =
        keys.iter().map(|(name, kind)| format!("{name}@example.org {}", world.key(name, kind))).collect();
    let file = world.write("signers", lines.join("\n") + "\n");
    (world, file)
}

#[test]
fn accepts_every_kind_of_key_that_the_rules_name_and_no_weak_one() {
    let (world, file) = world_with(&[
        ("ed25519", &["ed25519"]),
        ("p256", &["ecdsa", "-b", "256"]),
        ("p384", &["ecdsa", "-b", "384"]),
        ("p521", &["ecdsa", "-b", "521"]),
        ("rsa2048", &["rsa", "-b", "2048"]),
        ("rsa4608", &["rsa", "-b", "4608"]),
        ("rsa1024", &["rsa", "-b", "1024"]),
    ]);
    for key in ["ed25519", "p256", "p384", "p521", "rsa2048", "rsa4608"] {
        let id = world.commit("signed", key);
        assert!(world.git_accepts(&id, &file, None), "{key}");
        assert_eq!(checked(&world, &id, &file), (Verdict::Good, None), "{key}");
    }
    let weak = world.commit("signed", "rsa1024");
    assert_eq!(checked(&world, &weak, &file), (Verdict::UnknownKey, Some(Code::UnknownKey)));
}

#[test]
fn refuses_what_is_unsigned_altered_or_signed_by_another() {
    let (world, file) = world_with(&[("me", &["ed25519"])]);
    world.key("stranger", &["ed25519"]);
    std::fs::write(world.repo().join("f"), "x").unwrap();
    world.git(["add", "f"]);
    let good = world.commit("first", "me");
    assert_eq!(checked(&world, &good, &file), (Verdict::Good, None));
    let raw = String::from_utf8(world.raw(&good)).unwrap();
    let tree = world.git(["rev-parse", "HEAD^{tree}"]);
    let bad = (Verdict::Bad, Some(Code::BadSig));
    for altered in [
        raw.replace("first", "other"),
        raw.replace(&tree, "4b825dc642cb6eb9a060e54bf8d69288fbee4904"),
        raw.replace("author Test", "author Best"),
        raw.replace("\nauthor", &format!("\nparent {good}\nauthor")),
        format!("{raw}more\n"),
    ] {
        assert_ne!(altered, raw);
        assert_eq!(checked(&world, &world.store(altered.as_bytes()), &file), bad, "{altered}");
    }
    let unsigned = world.commit_unsigned("no");
    assert_eq!(checked(&world, &unsigned, &file), (Verdict::Unsigned, Some(Code::Unsigned)));
    let strange = world.commit("strange", "stranger");
    assert_eq!(checked(&world, &strange, &file), (Verdict::UnknownKey, Some(Code::UnknownKey)));
}

#[test]
fn signature_headers_are_read_no_more_leniently_than_git_does() {
    let (world, file) = world_with(&[("me", &["ed25519"]), ("rsa", &["rsa", "-b", "2048"])]);
    let payload = world.raw(&world.commit_unsigned("payload"));
    let good = world.sign(&payload, "me", "git", "sha512");
    let other = world.sign(&payload, "me", "file", "sha512");
    let (first, rest) = good.split_once('\n').unwrap();
    let format = (Verdict::Malformed, Some(Code::Format));
    let bad = (Verdict::Bad, Some(Code::BadSig));
    let accepted = (Verdict::Good, None);
    let header = |armour: &str| with_header(&payload, "gpgsig", armour);
    for (what, raw, want) in [
        ("as git writes it", header(&good), accepted),
        ("sha256", header(&world.sign(&payload, "me", "git", "sha256")), accepted),
        ("rsa with sha256", header(&world.sign(&payload, "rsa", "git", "sha256")), accepted),
        ("another namespace", header(&other), bad),
        ("crlf armour", header(&good.replace('\n', "\r\n")), format),
        ("crlf after the first line", header(&format!("{first}\n{}", rest.replace('\n', "\r\n"))), accepted),
        ("blank lines in the armour", header(&format!("{first}\n\n\n{rest}")), accepted),
        ("no end", header(first), format),
        ("text after the end", header(&format!("{good}junk")), format),
        ("text before the begin", header(&format!("junk\n{good}")), format),
        ("junk base64", header("-----BEGIN SSH SIGNATURE-----\n!!!!\n-----END SSH SIGNATURE-----"), format),
        ("empty", header("-----BEGIN SSH SIGNATURE-----\n\n-----END SSH SIGNATURE-----"), format),
        ("two headers", with_header(&header(&good), "gpgsig", &good), format),
        ("a good and a bad header", with_header(&header(&good), "gpgsig", &other), format),
        ("the header of SHA-256", with_header(&payload, "gpgsig-sha256", &good), format),
        ("an odd header", with_header(&header(&good), "gpgsigned", "x"), format),
        (
            "x509",
            header("-----BEGIN SIGNED MESSAGE-----\nabcd\n-----END SIGNED MESSAGE-----"),
            (Verdict::UnknownKey, Some(Code::UnknownKey)),
        ),
        ("a NUL", [header(&good), b"\0".to_vec()].concat(), format),
    ] {
        assert_eq!(checked(&world, &world.store(&raw), &file), want, "{what}");
    }
}

#[test]
fn refuses_ssh_certificates() {
    let (world, file) = world_with(&[("me", &["ed25519"]), ("ca", &["ed25519"])]);
    let (ca, public) = (world.path("ca"), world.path("me.pub"));
    let args = ["-q", "-s", ca.to_str().unwrap(), "-I", "me", "-n", "me@example.org", public.to_str().unwrap()];
    world.ssh_keygen(&args, b"");
    let payload = world.raw(&world.commit_unsigned("payload"));
    let armour = world.sign(&payload, "me-cert.pub", "git", "sha512");
    let id = world.store(&with_header(&payload, "gpgsig", &armour));
    assert_eq!(checked(&world, &id, &file), (Verdict::UnknownKey, Some(Code::UnknownKey)));
    let authority = world.write("authority", format!("me@example.org cert-authority {}\n", world.public("ca")));
    assert!(world.git_accepts(&id, &authority, None));
    assert!(signers(&authority).is_none(), "a file that names an authority is refused as a whole");
}

/// What a security key would answer: no such device is needed to make one, only its private key.
fn touched(world: &World, payload: &[u8], flags: u8) -> (String, String) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use rsa::signature::Signer as _;
    use ssh_key::sha2::{Digest as _, Sha256, Sha512};

    let string = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let private = ssh_key::PrivateKey::from_openssh(std::fs::read(world.path("me")).unwrap()).unwrap();
    let kind = b"sk-ssh-ed25519@openssh.com";
    let point = private.public_key().key_data().ed25519().unwrap().0;
    let key = [string(kind), string(&point), string(b"ssh:")].concat();
    let message =
        [b"SSHSIG".to_vec(), string(b"git"), string(b""), string(b"sha512"), string(&Sha512::digest(payload))].concat();
    let trailer = [flags, 0, 0, 0, 7];
    let device = [Sha256::digest(b"ssh:").as_slice(), &trailer, &Sha256::digest(&message)].concat();
    let signature = private.try_sign(&device).unwrap();
    let signature = [string(kind), string(signature.as_bytes()), trailer.to_vec()].concat();
    let blob = [
        b"SSHSIG\0\0\0\x01".to_vec(),
        string(&key),
        string(b"git"),
        string(b""),
        string(b"sha512"),
        string(&signature),
    ];
    let base64 = STANDARD.encode(blob.concat());
    let armour = format!("-----BEGIN SSH SIGNATURE-----\n{base64}\n-----END SSH SIGNATURE-----\n");
    (format!("{} {}", String::from_utf8_lossy(kind), STANDARD.encode(key)), armour)
}

#[test]
fn a_security_key_counts_only_if_somebody_touched_it() {
    let (world, _) = world_with(&[("me", &["ed25519"])]);
    let payload = world.raw(&world.commit_unsigned("payload"));
    for (flags, want) in [(1, Verdict::Good), (5, Verdict::Good), (0, Verdict::Bad), (4, Verdict::Bad)] {
        let (public, armour) = touched(&world, &payload, flags);
        let file = world.write("file", format!("a {public}\n"));
        let id = world.store(&with_header(&payload, "gpgsig", &armour));
        assert_eq!(checked(&world, &id, &file).0, want, "{flags}");
    }
}

#[test]
fn a_revoked_key_counts_for_nothing() {
    let (world, file) = world_with(&[("me", &["ed25519"]), ("other", &["ed25519"])]);
    let id = world.commit("signed", "me");
    let revoked = world.write("revoked", format!("{}\n", world.public("me")));
    assert!(!world.git_accepts(&id, &file, Some(&revoked)));
    assert_eq!(ours(&world, &id, &file, Some(&revoked)), (Verdict::Revoked, Some(Code::Revoked)));
    let by_fingerprint = world.write("revoked2", world.fingerprint("me"));
    assert_eq!(ours(&world, &id, &file, Some(&by_fingerprint)).0, Verdict::Revoked);
    let another = world.write("revoked3", world.public("other"));
    assert_eq!(ours(&world, &id, &file, Some(&another)), (Verdict::Good, None));
    assert_eq!(ours(&world, &id, &file, Some(&world.path("absent"))), (Verdict::Revoked, Some(Code::Revocation)));
}

#[test]
fn allowed_signers_are_read_no_more_leniently_than_ssh_keygen_does() {
    let (world, _) = world_with(&[("me", &["ed25519"]), ("other", &["ed25519"])]);
    let id = world.commit("signed", "me");
    let (me, other) = (world.public("me"), world.public("other"));
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
        let ours = checked(&world, &id, &file).0 == Verdict::Good;
        assert_eq!(ours, accepted, "{text:?}; git says {}", world.git_accepts(&id, &file, None));
    }
}

#[test]
fn every_change_of_one_byte_is_refused_or_leaves_the_payload_alone() {
    let (world, file) = world_with(&[("me", &["ed25519"])]);
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
        assert!(world.git_accepts(&world.store(twin), &file, None), "{}", String::from_utf8_lossy(twin));
    }
}
