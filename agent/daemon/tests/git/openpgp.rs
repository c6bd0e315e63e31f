//! OpenPGP signatures, made and judged by the real gpg beside us. What we accept, git accepts.

use evenkeel::git::{commit, signature};
use evenkeel_core::trust::Signature;

use crate::{
    cases::{BAD, FORMAT, GOOD, UNKNOWN, case},
    gpg::Gpg,
    world::with_header,
};

#[test]
fn accepts_the_kinds_of_keys_that_the_rules_name_and_no_others() {
    const KIND: &str = "a kind of key that is not on the list";
    let gpg = Gpg::new();
    let payload = gpg.world.raw(&gpg.world.commit_unsigned("payload"));
    let mut cases = Vec::new();
    for (name, kind, ours, why) in [
        ("ed25519", "ed25519", GOOD, ""),
        ("p256", "nistp256", GOOD, ""),
        ("p384", "nistp384", GOOD, ""),
        ("p521", "nistp521", GOOD, ""),
        ("rsa2048", "rsa2048", GOOD, ""),
        ("rsa3072", "rsa3072", GOOD, ""),
        ("rsa1024", "rsa1024", UNKNOWN, "RSA under 2,048 bits"),
        ("dsa", "dsa2048", UNKNOWN, KIND),
        ("brainpool", "brainpoolP256r1", UNKNOWN, KIND),
        ("secp256k1", "secp256k1", UNKNOWN, KIND),
    ] {
        let key = gpg.key(name, kind, &[]);
        gpg.list(name);
        cases.push(case(name, with_header(&payload, "gpgsig", &gpg.sign(&payload, &key, &[])), ours, true, why));
    }
    let signers = gpg.keyring().principals();
    assert_eq!(signers.get(&gpg.fingerprints("p256")[0]).unwrap(), "p256 <p256@example.org>");
    gpg.compare(cases);
}

#[test]
fn signatures_are_read_no_more_leniently_than_gpg_does() {
    let gpg = Gpg::new();
    let (ada, bob) = (gpg.key("ada", "ed25519", &[]), gpg.key("bob", "ed25519", &[]));
    gpg.list("ada");
    let payload = gpg.world.raw(&gpg.world.commit_unsigned("payload"));
    let good = gpg.sign(&payload, &ada, &[]);
    let altered = String::from_utf8(payload.clone()).unwrap().replace("payload", "altered").into_bytes();
    let header = |armour: &str| with_header(&payload, "gpgsig", armour);
    let by = |key: &str, more: &[&str]| header(&gpg.sign(&payload, key, more));
    let tag = format!("object {}\ntype commit\ntag t\ntagger T <t@x> 1 +0000\n\nt\n", gpg.world.head());
    gpg.compare(vec![
        case("as gpg writes it", header(&good), GOOD, true, ""),
        case("SHA-256", by(&ada, &["--digest-algo", "SHA256"]), GOOD, true, ""),
        case("SHA-384", by(&ada, &["--digest-algo", "SHA384"]), GOOD, true, ""),
        case("SHA-1", by(&ada, &["--digest-algo", "SHA1"]), BAD, true, "SHA-1 digests are refused"),
        case("SHA-224", by(&ada, &["--digest-algo", "SHA224"]), BAD, true, "digests under 256 bits are refused"),
        case("text mode", by(&ada, &["--textmode"]), BAD, true, "it would hold for other line ends too"),
        case("a notation", by(&ada, &["--sig-notation", "a@x=b"]), GOOD, true, ""),
        case("a critical notation", by(&ada, &["--sig-notation", "!a@x=b"]), BAD, false, ""),
        case(
            "an expired signature",
            by(
                &ada,
                &["--faked-system-time", "20240101T000000", "--default-sig-expire", "1d", "--ignore-time-conflict"],
            ),
            BAD,
            false,
            "",
        ),
        case("not listed on the server", by(&bob, &[]), UNKNOWN, true, "its key is not in the folder"),
        case("altered message", with_header(&altered, "gpgsig", &good), BAD, false, ""),
        case("a tag's signature", header(&gpg.sign(tag.as_bytes(), &ada, &[])), BAD, false, ""),
    ]);
}

#[test]
fn armour_is_read_no_more_leniently_than_gpg_does() {
    let gpg = Gpg::new();
    let (ada, bob) = (gpg.key("ada", "ed25519", &[]), gpg.key("bob", "ed25519", &[]));
    gpg.list("ada");
    let payload = gpg.world.raw(&gpg.world.commit_unsigned("payload"));
    let good = gpg.sign(&payload, &ada, &[]);
    let header = |armour: &str| with_header(&payload, "gpgsig", armour);
    let (head, end) = (good.find("\n\n").unwrap() + 1, good.rfind("\n=").unwrap() + 1);
    let without_sum = format!("{}-----END PGP SIGNATURE-----\n", &good[..end]);
    let sum_of_another = good[..end].to_owned() + "=AAAA\n-----END PGP SIGNATURE-----\n";
    let inline = gpg.run(&["--armor", "--sign", "--local-user", &ada, "--output", "-"], &payload);
    let pair = gpg.run(&["--armor", "--detach-sign", "-u", &ada, "-u", &bob, "--output", "-"], &payload);
    gpg.compare(vec![
        case("two headers", with_header(&header(&good), "gpgsig", &good), FORMAT, false, ""),
        case("the header of SHA-256", with_header(&payload, "gpgsig-sha256", &good), FORMAT, false, ""),
        case(
            "an injected header of SHA-256",
            with_header(&header(&good), "gpgsig-sha256", &good),
            FORMAT,
            true,
            "signature header of another object format",
        ),
        case("two signatures in one armour", header(std::str::from_utf8(&pair).unwrap()), FORMAT, false, ""),
        case("two armours", header(&format!("{good}{good}")), FORMAT, false, ""),
        case("junk after the armour", header(&format!("{good}junk\n")), FORMAT, true, "something follows the armour"),
        case("junk before the armour", header(&format!("junk\n{good}")), FORMAT, false, ""),
        case("CRLF in the armour", header(&good.replace('\n', "\r\n")), FORMAT, true, "armour is as gpg writes it"),
        case("a comment", header(&good.replacen("\n\n", "\nComment: x\n\n", 1)), GOOD, true, ""),
        case(
            "an unknown armour header",
            header(&good.replacen("\n\n", "\nOdd: x\n\n", 1)),
            FORMAT,
            true,
            "armour is as gpg writes it",
        ),
        case("no checksum", header(&without_sum), GOOD, true, ""),
        case("a wrong checksum", header(&sum_of_another), FORMAT, false, ""),
        case(
            "base64 with blanks",
            header(&(good[..head + 10].to_owned() + " " + &good[head + 10..])),
            FORMAT,
            true,
            "armour is as gpg writes it",
        ),
        case("not detached", header(std::str::from_utf8(&inline).unwrap()), FORMAT, false, ""),
        case("no end", header(&good[..end]), FORMAT, true, "armour is as gpg writes it"),
        case(
            "no base64",
            header("-----BEGIN PGP SIGNATURE-----\n\n!!!!\n-----END PGP SIGNATURE-----"),
            FORMAT,
            false,
            "",
        ),
        case("empty", header("-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----"), FORMAT, false, ""),
    ]);
}

#[test]
fn every_change_of_one_byte_is_refused_or_leaves_the_payload_alone() {
    let gpg = Gpg::new();
    let key = gpg.key("ada", "ed25519", &[]);
    gpg.list("ada");
    let keyring = gpg.keyring();
    let payload = gpg.world.raw(&gpg.world.commit_unsigned("payload"));
    let raw = with_header(&payload, "gpgsig", &gpg.sign(&payload, &key, &[]));
    let mut twins = Vec::new();
    let mut check = |changed: &[u8]| {
        let Ok(parsed) = commit::parse(changed, 40) else { return };
        let Some(armour) = &parsed.signature else { return };
        if matches!(signature::check(&keyring, armour, &parsed.payload), Signature::Valid { .. }) {
            assert_eq!(parsed.payload, payload, "{}", String::from_utf8_lossy(changed));
            twins.push(changed.to_vec());
        }
    };
    for at in 0..raw.len() {
        for flip in (0..8).map(|bit| 1 << bit) {
            let mut changed = raw.clone();
            changed[at] ^= flip;
            check(&changed);
        }
        check(&[&raw[..at], &raw[at + 1..]].concat());
        for byte in *b"\n =A" {
            check(&[&raw[..at], &[byte], &raw[at..]].concat());
        }
    }
    // What a signature carries unsigned, such as half a checksum or a second way to write a length.
    assert!(twins.iter().all(|twin| *twin != raw));
    for twin in twins.iter().step_by((twins.len() / 20).max(1)) {
        assert!(gpg.git_accepts(&gpg.world.store(twin)), "{}", String::from_utf8_lossy(twin));
    }
}
