//! What an OpenPGP certificate says of its keys: bound, alive, revoked. Certificates are made by the real gpg.

use std::{fs, os::unix::fs::PermissionsExt as _};

use evenkeel::git::{certificates::State, openpgp::Keyring};
use evenkeel_core::{id::CommitId, trust::When};
use pgp::{
    packet::{Packet, PacketParser, SignatureType, SubpacketData},
    ser::Serialize as _,
};

use crate::{
    cases::{BAD, EXPIRED, GOOD, REVOKED, Ruling, UNKNOWN, case},
    gpg::{Gpg, now},
    world::with_header,
};

/// The options with which gpg believes that it is another time.
fn at(time: &str) -> [&str; 2] {
    ["--faked-system-time", time]
}

impl Gpg {
    fn unsigned(&self) -> Vec<u8> {
        self.world.raw(&self.world.commit_unsigned("payload"))
    }

    /// A commit signed by a key, with more options of gpg.
    fn signed(&self, payload: &[u8], key: &str, more: &[&str]) -> Vec<u8> {
        with_header(payload, "gpgsig", &self.sign(payload, key, more))
    }

    /// Makes a certificate whose primary key only certifies; returns it and its one subkey, which signs.
    fn with_subkey(&self, name: &str, more: &[&str], expires: &str) -> (String, String) {
        let user = format!("{name} <{name}@example.org>");
        self.run(&[more, &["--quick-generate-key", &user, "ed25519", "cert", "never"]].concat(), b"");
        let primary = self.fingerprints(name).remove(0);
        self.run(&[more, &["--quick-add-key", &primary, "ed25519", "sign", expires]].concat(), b"");
        (primary, self.fingerprints(name).remove(1))
    }

    fn judged_as_member(&self, raw: &[u8]) -> Ruling {
        self.judged(&self.world.store(raw), &self.keyring(), When::Member)
    }

    fn stored(&self, raw: &[u8]) -> CommitId {
        self.world.store(raw)
    }
}

#[test]
fn a_key_counts_while_its_certificate_says_so() {
    let gpg = Gpg::new();
    let payload = gpg.unsigned();
    let (then, later) = (at("20200101T000000"), at("20200301T000000"));
    let (_, young) = gpg.with_subkey("young", &[], "1y");
    let (_, old) = gpg.with_subkey("old", &then, "60d");
    gpg.run(&[&then[..], &["--quick-generate-key", "past <past@example.org>", "ed25519", "sign", "1y"]].concat(), b"");
    let past = gpg.fingerprints("past").remove(0);
    let ended = gpg.key("ended", "ed25519", &then);
    let since = gpg.signed(&payload, &ended, &[]);
    gpg.run(&[&later[..], &["--quick-set-expire", &ended, "60d"]].concat(), b"");
    let longer = gpg.key("longer", "ed25519", &then);
    gpg.run(&[&then[..], &["--quick-set-expire", &longer, "60d"]].concat(), b"");
    gpg.run(&[&later[..], &["--quick-set-expire", &longer, "never"]].concat(), b"");
    let short = gpg.key("short", "ed25519", &[&then[..], &["--cert-digest-algo", "SHA256"]].concat());
    let future = gpg.key("future", "ed25519", &[]);
    for name in ["young", "old", "past", "ended", "longer", "short", "future"] {
        gpg.list(name);
    }
    let members = [gpg.signed(&payload, &old, &later), gpg.signed(&payload, &past, &later), since.clone()];
    for raw in &members {
        assert_eq!(gpg.judged_as_member(raw), GOOD, "it counts below the tip");
    }
    let [by_old, by_past, since] = members;
    let skewed = format!("{}!", now() + 240);
    gpg.compare(vec![
        case("a subkey that lives", gpg.signed(&payload, &young, &[]), GOOD, true, ""),
        case("a subkey that expired", by_old, EXPIRED, false, ""),
        case("a certificate that expired", by_past, EXPIRED, false, ""),
        case("signed after the certificate expired", since, EXPIRED, false, ""),
        case("an end that was put off", gpg.signed(&payload, &longer, &[]), GOOD, true, ""),
        case(
            "an expired signature",
            gpg.signed(&payload, &short, &[&later[..], &["--default-sig-expire", "1d"]].concat()),
            EXPIRED,
            false,
            "",
        ),
        case(
            "dated in the future",
            gpg.signed(&payload, &future, &at("20380101T000000")),
            BAD,
            true,
            "a signature from the future proves nothing",
        ),
        case("another clock, a little ahead", gpg.signed(&payload, &future, &at(&skewed)), GOOD, true, ""),
    ]);
}

#[test]
fn what_its_owner_revoked_never_counts_whatever_the_reason() {
    let gpg = Gpg::new();
    let payload = gpg.unsigned();
    let mut cases = Vec::new();
    for (reason, name) in ["no reason", "compromised", "superseded", "retired"].into_iter().enumerate() {
        let user = name.replace(' ', "-");
        let key = gpg.key(&user, "ed25519", &[]);
        let raw = gpg.signed(&payload, &key, &[]);
        let revocation =
            gpg.answers(&["--armor", "--output", "-", "--gen-revoke", &key], &format!("y\n{reason}\n\ny\n"));
        gpg.run(&["--import"], &revocation);
        gpg.list(&user);
        assert_eq!(gpg.judged_as_member(&raw), REVOKED, "{name}");
        cases.push(case(name, raw, REVOKED, false, ""));
    }
    let (primary, subkey) = gpg.with_subkey("sub", &[], "never");
    let raw = gpg.signed(&payload, &subkey, &[]);
    gpg.answers(&["--edit-key", &primary], "key 1\nrevkey\ny\n3\n\ny\nsave\n");
    gpg.list("sub");
    assert_eq!(gpg.judged_as_member(&raw), REVOKED);
    cases.push(case("a subkey", raw, REVOKED, false, ""));
    gpg.compare(cases);
}

#[test]
fn the_servers_list_of_revoked_keys_takes_subkeys_too() {
    let gpg = Gpg::new();
    let payload = gpg.unsigned();
    let (primary, subkey) = gpg.with_subkey("ada", &[], "never");
    gpg.list("ada");
    let id = gpg.stored(&gpg.signed(&payload, &subkey, &[]));
    assert_eq!(gpg.ours(&id), GOOD);
    for key in [&primary, &subkey] {
        let keyring = gpg.keyring().without(&[key.clone()].into());
        assert_eq!(gpg.judged(&id, &keyring, When::Member), REVOKED, "{key}");
    }
}

#[test]
fn a_certificate_must_vouch_for_its_keys_with_accepted_digests() {
    let gpg = Gpg::new();
    let payload = gpg.unsigned();
    let weak = gpg.key("weak", "ed25519", &["--cert-digest-algo", "SHA1"]);
    let two = gpg.key("two", "ed25519", &[]);
    gpg.run(&["--quick-add-uid", &two, "second <second@example.org>"], b"");
    gpg.run(&["--quick-revoke-uid", &two, "second <second@example.org>"], b"");
    gpg.list("weak");
    gpg.list("two");
    gpg.compare(vec![
        case("a SHA-1 self-signature", gpg.signed(&payload, &weak, &[]), UNKNOWN, true, "SHA-1 digests are refused"),
        case("a user id that was revoked", gpg.signed(&payload, &two, &[]), GOOD, true, ""),
    ]);
}

/// A certificate's packets after a change of some.
fn rewritten(bytes: &[u8], change: impl Fn(&mut Packet) -> bool) -> Vec<u8> {
    let mut out = Vec::new();
    for packet in PacketParser::new(bytes) {
        let mut packet = packet.unwrap();
        if change(&mut packet) {
            packet.to_writer(&mut out).unwrap();
        }
    }
    out
}

#[test]
fn a_subkey_without_its_two_bindings_signs_for_nobody() {
    let gpg = Gpg::new();
    let payload = gpg.unsigned();
    let (primary, subkey) = gpg.with_subkey("ada", &[], "never");
    let other = gpg.key("other", "ed25519", &[]);
    let id = gpg.stored(&gpg.signed(&payload, &subkey, &[]));
    let whole = gpg.run(&["--export", &primary], b"");
    let judged = |bytes: &[u8]| gpg.judged(&id, &Keyring::parse(bytes, now()).unwrap(), When::Now(now()));
    assert_eq!(judged(&whole), GOOD);
    let is_binding =
        |packet: &Packet| matches!(packet, Packet::Signature(s) if s.typ() == Some(SignatureType::SubkeyBinding));
    let is_back = |data: &SubpacketData| matches!(data, SubpacketData::EmbeddedSignature(_));
    let without_back = rewritten(&whole, |packet| {
        if is_binding(packet)
            && let Packet::Signature(binding) = packet
        {
            let at = binding.config().unwrap().unhashed_subpackets().position(|sub| is_back(&sub.data)).unwrap();
            binding.unhashed_subpacket_remove(at).unwrap();
        }
        true
    });
    assert_ne!(whole, without_back);
    assert_eq!(judged(&without_back), UNKNOWN, "anybody could adopt the subkey");
    assert_eq!(judged(&rewritten(&whole, |packet| !is_binding(packet))), UNKNOWN);
    let unnamed = rewritten(&whole, |packet| !matches!(packet, Packet::UserId(_)));
    assert_eq!(judged(&unnamed), UNKNOWN);
    // The subkey with its binding behind somebody else's primary key.
    let adopted = rewritten(&whole, |packet| matches!(packet, Packet::PublicSubkey(_)) || is_binding(packet));
    let others = gpg.run(&["--export", &other], b"");
    assert_eq!(judged(&[others, adopted].concat()), UNKNOWN);
}

/// What a fuzzer found: 64 digits where 40 were expected.
#[test]
fn a_certificate_of_another_version_is_told_of_and_counts_for_nothing() {
    let of_version_6 = include_bytes!("../../../../fuzz/corpus/openpgp_certificate/version-6");
    let listed = Keyring::parse(of_version_6, now()).unwrap().listed();
    let State::Unfit(why) = &listed[0].state else { panic!("{listed:?}") };
    assert!(listed[0].fingerprint.len() == 64 && why.contains("this version are not accepted"), "{listed:?}");
}

#[test]
fn a_folder_of_certificates_is_read_whole_or_not_at_all() {
    let gpg = Gpg::new();
    let (ada, bob) = (gpg.key("ada", "ed25519", &[]), gpg.key("bob", "nistp256", &[]));
    let read = || Keyring::read(&gpg.folder(), now()).map(|keyring| keyring.principals().len());
    let put = |name: &str, bytes: &[u8]| fs::write(gpg.folder().join(name), bytes).unwrap();
    let fails = |says: &str| {
        let why = read().unwrap_err();
        assert!(why.contains(says), "{why}");
    };
    fails("no certificate");
    put(".hidden", b"not read");
    put("both.gpg", &gpg.run(&["--export"], b""));
    assert_eq!(read(), Ok(2));
    let (one, two) = (gpg.run(&["--armor", "--export", &ada], b""), gpg.run(&["--armor", "--export", &bob], b""));
    put("both.gpg", &[one.clone(), b"\n".to_vec(), two].concat());
    assert_eq!(read(), Ok(2));
    put("both.gpg", String::from_utf8(one.clone()).unwrap().replace('\n', "\r\n").as_bytes());
    assert_eq!(read(), Ok(1));
    put("again.asc", &one);
    fails(&format!("\"both.gpg\": the certificate {ada} is there twice"));
    for (bytes, says) in [
        (b"words".to_vec(), "again.asc"),
        (gpg.run(&["--armor", "--export-secret-keys", &bob], b""), "armour"),
        (gpg.run(&["--export-secret-keys", &bob], b""), "secret key"),
        (one[..200].to_vec(), "last line"),
        (vec![b'x'; 2 << 20], "1 MiB"),
    ] {
        put("again.asc", &bytes);
        fails(says);
    }
    fs::remove_file(gpg.folder().join("again.asc")).unwrap();
    fs::set_permissions(gpg.folder().join("both.gpg"), fs::Permissions::from_mode(0o666)).unwrap();
    fails("chmod 644");
}
