//! SSH signatures, made by the real ssh-keygen and judged by the real git beside us. What we accept, git accepts.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use evenkeel::git::{Repo, allowed_signers, graph, openpgp::Keyring, read_revoked};
use evenkeel_core::{
    id::CommitId,
    trust::{Authority, Policy, Revoked, Signers, When},
};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    cases::{BAD, Case, EXPIRED, FORMAT, GOOD, REVOKED, Ruling, TIME, UNKNOWN, UNREADABLE, UNSIGNED, case, compare},
    container::{Container, Touch},
    world::{World, with_header},
};

/// A world where `me` may sign.
pub struct Ssh {
    pub world: World,
    pub signers: PathBuf,
    /// A commit without a signature.
    payload: Vec<u8>,
}

/// What both are given besides the commit.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    pub signers: &'a Path,
    pub revoked: Option<&'a Path>,
    pub zone: &'a str,
}

impl Ssh {
    pub fn new() -> Self {
        let world = World::new();
        let me = world.key("me", &["ed25519"]);
        let signers = world.write("signers", format!("me@example.org {me}\n"));
        std::fs::write(world.repo().join("file"), "words\n").unwrap();
        world.git(["add", "file"]);
        world.commit_unsigned("first");
        let payload = world.raw(&world.commit_unsigned("payload"));
        Self { world, signers, payload }
    }

    fn armour(&self, payload: &[u8]) -> String {
        self.world.sign(payload, "me", "git", "sha512")
    }

    /// The payload with this signature.
    fn with(&self, armour: &str) -> Vec<u8> {
        with_header(&self.payload, "gpgsig", armour)
    }

    /// The payload with a change, and the signature from before it.
    fn altered(&self, from: &str, to: &str) -> Vec<u8> {
        with_header(&self.edited(from, to), "gpgsig", &self.armour(&self.payload))
    }

    /// The payload with a change, and a signature that fits it.
    fn signed(&self, from: &str, to: &str) -> Vec<u8> {
        let payload = self.edited(from, to);
        with_header(&payload, "gpgsig", &self.armour(&payload))
    }

    fn edited(&self, from: &str, to: &str) -> Vec<u8> {
        let text = String::from_utf8(self.payload.clone()).unwrap();
        assert!(text.contains(from), "{from:?} is not in {text}");
        text.replacen(from, to, 1).into_bytes()
    }

    /// A commit that says it was made then, in this zone.
    fn dated(&self, seconds: i64, zone: &str) -> Vec<u8> {
        let text = String::from_utf8(self.payload.clone()).unwrap();
        let (head, rest) = text.split_once("committer Test <t@example.org> ").unwrap();
        let (_, message) = rest.split_once('\n').unwrap();
        let payload = format!("{head}committer Test <t@example.org> {seconds} {zone}\n{message}").into_bytes();
        with_header(&payload, "gpgsig", &self.armour(&payload))
    }

    /// A signers' file that lists `me` with these options.
    fn listed(&self, options: &str) -> PathBuf {
        self.world.write("listed", format!("me@example.org {options} {}\n", self.world.public("me")))
    }

    fn compare(&self, cases: Vec<Case>) {
        self.compare_given(Given { signers: &self.signers, revoked: None, zone: "UTC" }, cases);
    }

    fn compare_given(&self, given: Given<'_>, cases: Vec<Case>) {
        compare(cases, |raw| {
            let id = self.world.store(raw);
            let ours = self.ours(&id, given, When::Now(now()));
            let git = self.world.git_accepts_in(given.zone, &id, given.signers, given.revoked);
            (id, ours, git)
        });
    }

    pub fn ours(&self, id: &CommitId, given: Given<'_>, when: When) -> Ruling {
        let zone = TimeZone::get(given.zone).unwrap();
        let text = std::fs::read(given.signers).unwrap();
        let policy = Policy {
            // A file that cannot be read lists nobody.
            authority: Authority::Server(allowed_signers::parse(&text, &zone).unwrap_or_default()),
            revoked: given.revoked.map_or(Revoked::Keys(BTreeSet::new()), read_revoked),
            introduction: None,
            forge: Signers::default(),
            deploy_to: None,
        };
        let commit = graph::one(&Repo::open(&self.world.repo()).unwrap(), &Keyring::default(), id).unwrap();
        let judged = policy.judge(&commit.signature, when);
        (judged.verdict, judged.code)
    }
}

pub fn now() -> i64 {
    Timestamp::now().as_second()
}

#[test]
fn a_signature_holds_for_the_one_commit_and_the_one_purpose() {
    let ssh = Ssh::new();
    ssh.world.key("stranger", &["ed25519"]);
    let by = |key: &str, namespace: &str| ssh.with(&ssh.world.sign(&ssh.payload, key, namespace, "sha512"));
    let head = ssh.world.head();
    let tree = ssh.world.git(["rev-parse", "HEAD^{tree}"]);
    let tag = format!("object {head}\ntype commit\ntag t\ntagger T <t@x> 1 +0000\n\nt\n");
    let mergetag = format!("\nmergetag {}\n\npayload", tag.trim_end().replace('\n', "\n "));
    ssh.compare(vec![
        case("as git writes it", ssh.world.raw(&ssh.world.commit("signed", "me")), GOOD, true, ""),
        case("SHA-256", ssh.with(&ssh.world.sign(&ssh.payload, "me", "git", "sha256")), GOOD, true, ""),
        case("a merged tag", ssh.signed("\n\npayload", &mergetag), GOOD, true, ""),
        case("no signature", ssh.payload.clone(), UNSIGNED, false, ""),
        case("an altered message", ssh.altered("payload", "altered"), BAD, false, ""),
        case("an altered tree", ssh.altered(&tree, "4b825dc642cb6eb9a060e54bf8d69288fbee4904"), BAD, false, ""),
        case("an altered author", ssh.altered("author Test", "author Best"), BAD, false, ""),
        case("an altered date", ssh.altered(" +0000\n\n", " +0100\n\n"), BAD, false, ""),
        case("one more parent", ssh.altered("\nauthor", &format!("\nparent {head}\nauthor")), BAD, false, ""),
        case("a parent less", ssh.altered(&format!("parent {}\n", parent(&ssh)), ""), BAD, false, ""),
        case("one more merged tag", ssh.altered("\n\npayload", &mergetag), BAD, false, ""),
        case("more at the end", ssh.altered("payload\n", "payload\nmore\n"), BAD, false, ""),
        case("a key that is not listed", by("stranger", "git"), UNKNOWN, false, ""),
        case("another namespace", by("me", "file"), BAD, false, ""),
        case("no namespace of Git's", by("me", "git@example.org"), BAD, false, ""),
        case("a tag's signature", ssh.with(&ssh.armour(tag.as_bytes())), BAD, false, ""),
    ]);
}

/// The parent that the payload names.
fn parent(ssh: &Ssh) -> String {
    let text = String::from_utf8(ssh.payload.clone()).unwrap();
    text.lines().find_map(|line| line.strip_prefix("parent ")).unwrap().to_owned()
}

#[test]
fn a_signed_commit_that_two_readers_could_read_in_two_ways_is_refused() {
    const TWICE: &str = "what stands twice or in another place is read by one and passed over by another";
    const NUL: &str = "many a reader ends at a NUL";
    let ssh = Ssh::new();
    let good = ssh.armour(&ssh.payload);
    let other = ssh.world.sign(&ssh.payload, "me", "file", "sha512");
    let sha256 = |raw: &[u8]| with_header(raw, "gpgsig-sha256", &good);
    let (parent, empty) = (parent(&ssh), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    let line = format!("parent {parent}\n");
    let text = String::from_utf8(ssh.payload.clone()).unwrap();
    let author = text.lines().find(|l| l.starts_with("author")).unwrap().to_owned() + "\n";
    let late_parent = {
        let moved = text.replacen(&line, "", 1).replacen(&author, &format!("{author}{line}"), 1).into_bytes();
        with_header(&moved, "gpgsig", &ssh.armour(&moved))
    };
    let swapped = {
        let moved = text.replacen(&author, "", 1).replacen("\n\n", &format!("\n{author}\n"), 1).into_bytes();
        with_header(&moved, "gpgsig", &ssh.armour(&moved))
    };
    ssh.compare(vec![
        case("two signatures", with_header(&ssh.with(&good), "gpgsig", &good), FORMAT, true, TWICE),
        case("a good one before a bad one", with_header(&ssh.with(&good), "gpgsig", &other), FORMAT, true, TWICE),
        case("a bad one before a good one", with_header(&ssh.with(&other), "gpgsig", &good), FORMAT, false, ""),
        case("the header of SHA-256 alone", sha256(&ssh.payload), FORMAT, false, ""),
        case("an injected header of SHA-256", sha256(&ssh.with(&good)), FORMAT, true, TWICE),
        case(
            "a header that begins as gpgsig",
            ssh.signed("\n\npayload", "\ngpgsigned x\n\npayload"),
            FORMAT,
            false,
            "",
        ),
        case("a second tree", ssh.signed("\nauthor", &format!("\ntree {empty}\nauthor")), FORMAT, true, TWICE),
        case("a second tree at the end", ssh.signed("\n\np", &format!("\ntree {empty}\n\np")), FORMAT, true, TWICE),
        case("a parent after the author", late_parent, FORMAT, true, TWICE),
        case("the committer before the author", swapped, FORMAT, true, TWICE),
        case("a second author", ssh.signed("\n\np", &format!("\n{author}\np")), FORMAT, true, TWICE),
        case("a header twice", ssh.signed("\n\np", "\nencoding a\nencoding b\n\np"), FORMAT, true, TWICE),
        case("a header without a value", ssh.signed("\n\np", "\nodd\n\np"), FORMAT, true, TWICE),
        case("a NUL in the message", ssh.signed("payload", "pay\0load"), FORMAT, true, NUL),
        case("a NUL in a name", ssh.signed("author Test", "author T\0st"), FORMAT, false, ""),
        case("a zone of five digits", ssh.signed(" +0000\n\n", " +00000\n\n"), FORMAT, true, "it is no date of Git's"),
    ]);
}

#[test]
fn armour_is_read_no_more_leniently_than_ssh_keygen_does() {
    let ssh = Ssh::new();
    let good = ssh.armour(&ssh.payload);
    let (first, rest) = good.split_once('\n').unwrap();
    let last = good.trim_end().rsplit_once('\n').unwrap().0;
    ssh.compare(vec![
        case(
            "CRLF after the first line",
            ssh.with(&format!("{first}\n{}", rest.replace('\n', "\r\n"))),
            GOOD,
            true,
            "",
        ),
        case("blank lines", ssh.with(&format!("{first}\n\n\n{rest}")), GOOD, true, ""),
        case("base64 in one line", ssh.with(&one_line(&good)), GOOD, true, ""),
        case("CRLF", ssh.with(&good.replace('\n', "\r\n")), FORMAT, false, ""),
        case("a blank after the first line", ssh.with(&good.replacen('\n', " \n", 1)), FORMAT, false, ""),
        case("no end", ssh.with(last), FORMAT, false, ""),
        case("nothing in it", ssh.with(&format!("{first}\n-----END SSH SIGNATURE-----\n")), FORMAT, false, ""),
        case("no base64", ssh.with(&format!("{first}\n!!!!\n-----END SSH SIGNATURE-----\n")), FORMAT, false, ""),
        case("text before it", ssh.with(&format!("junk\n{good}")), FORMAT, false, ""),
        case("text after it", ssh.with(&format!("{good}junk\n")), FORMAT, true, "something follows its last line"),
        case("two armours", ssh.with(&format!("{good}{good}")), FORMAT, true, "something follows its last line"),
        case(
            "X.509",
            ssh.with("-----BEGIN SIGNED MESSAGE-----\nabcd\n-----END SIGNED MESSAGE-----\n"),
            UNKNOWN,
            false,
            "",
        ),
    ]);
}

/// The armour with its base64 in one line.
fn one_line(armour: &str) -> String {
    let lines: Vec<&str> = armour.lines().collect();
    let (first, last) = (lines[0], lines[lines.len() - 1]);
    format!("{first}\n{}\n{last}\n", lines[1..lines.len() - 1].concat())
}

#[test]
fn the_parts_of_a_signature_are_read_no_more_leniently_than_ssh_keygen_does() {
    let ssh = Ssh::new();
    ssh.world.key("rsa", &["rsa", "-b", "2048"]);
    let both = format!("a {}\nb {}\n", ssh.world.public("me"), ssh.world.public("rsa"));
    let signers = ssh.world.write("both", both);
    let good = Container::read(&ssh.armour(&ssh.payload));
    let sha512 = good.hash.clone();
    let rsa = Container::read(&ssh.world.sign(&ssh.payload, "rsa", "git", "sha512"));
    let with = |container: &Container| ssh.with(&container.armour());
    let good = || good.clone();
    ssh.compare_given(
        Given { signers: &signers, revoked: None, zone: "UTC" },
        vec![
            case("put together again", with(&good()), GOOD, true, ""),
            case("RSA", with(&rsa), GOOD, true, ""),
            case("a digest of SHA-1", with(&Container { hash: b"sha1".to_vec(), ..good() }), BAD, false, ""),
            case(
                "another digest than was signed",
                with(&Container { hash: b"sha256".to_vec(), ..good() }),
                BAD,
                false,
                "",
            ),
            case("RSA with SHA-1", with(&rsa.relabelled(b"rsa-sha2-512", b"ssh-rsa")), BAD, false, ""),
            case("RSA with another digest", with(&rsa.relabelled(b"rsa-sha2-512", b"rsa-sha2-256")), BAD, false, ""),
            case("another kind inside", with(&good().relabelled(b"ssh-ed25519", b"ssh-ed448xx")), BAD, false, ""),
            case(
                "something in the reserved field",
                with(&Container { reserved: sha512, ..good() }),
                FORMAT,
                true,
                "what it means is not known yet",
            ),
            case("another version", with(&Container { version: 2, ..good() }), FORMAT, false, ""),
            case(
                "two signatures in one armour",
                with(&Container { more: good().bytes(), ..good() }),
                FORMAT,
                false,
                "",
            ),
            case("bytes after it", with(&Container { more: vec![0], ..good() }), FORMAT, false, ""),
            case("another's key in it", with(&Container { key: rsa.key.clone(), ..good() }), BAD, false, ""),
            case("half a key", with(&Container { key: good().key[..20].to_vec(), ..good() }), FORMAT, false, ""),
        ],
    );
}

#[test]
fn every_kind_of_key_that_the_rules_name_counts_and_no_weak_one() {
    let ssh = Ssh::new();
    let mut cases = Vec::new();
    let mut lines = Vec::new();
    let weak = "RSA under 2,048 bits";
    for (name, kind, ours, why) in [
        ("ed25519", &["ed25519"][..], GOOD, ""),
        ("p256", &["ecdsa", "-b", "256"], GOOD, ""),
        ("p384", &["ecdsa", "-b", "384"], GOOD, ""),
        ("p521", &["ecdsa", "-b", "521"], GOOD, ""),
        ("rsa2048", &["rsa", "-b", "2048"], GOOD, ""),
        ("rsa4608", &["rsa", "-b", "4608"], GOOD, ""),
        ("rsa1024", &["rsa", "-b", "1024"], UNKNOWN, weak),
    ] {
        lines.push(format!("{name}@example.org {}\n", ssh.world.key(name, kind)));
        cases.push(case(name, ssh.with(&ssh.world.sign(&ssh.payload, name, "git", "sha512")), ours, true, why));
    }
    let untouched = "what signs without a touch signs for whoever holds the machine";
    for (name, flags, ours, why) in [
        ("a security key that was touched", 1, GOOD, ""),
        ("one that was touched and asked for a PIN", 5, GOOD, ""),
        ("one that nobody touched", 0, BAD, untouched),
        ("one that asked for a PIN only", 4, BAD, untouched),
    ] {
        let (public, armour) = Touch { flags, counter: 7 }.sign(&ssh.world, &ssh.payload);
        lines.push(format!("sk {public}\n"));
        cases.push(case(name, ssh.with(&armour), ours, true, why));
    }
    let dss = Container { key: Container::string(b"ssh-dss"), ..Container::read(&ssh.armour(&ssh.payload)) };
    cases.push(case("the head of a DSA key", ssh.with(&dss.armour()), UNKNOWN, false, ""));
    // OpenSSH 10 has no DSA any more.
    let file = ssh.world.path("dsa");
    if ssh.world.any("ssh-keygen", &["-q", "-N", "", "-t", "dsa", "-f", file.to_str().unwrap()], b"").status.success() {
        let armour = ssh.world.sign(&ssh.payload, "dsa", "git", "sha512");
        // As a server's file would have it, if we took a file with such a line.
        let signers = ssh.world.write("with dsa", format!("dsa {}\n", ssh.world.public("dsa")));
        let given = Given { signers: &signers, revoked: None, zone: "UTC" };
        ssh.compare_given(given, vec![case("DSA", ssh.with(&armour), UNKNOWN, true, "DSA is not accepted")]);
    }
    let signers = ssh.world.write("kinds", lines.concat());
    ssh.compare_given(Given { signers: &signers, revoked: None, zone: "UTC" }, cases);
}

#[test]
fn ssh_certificates_sign_for_nobody() {
    let ssh = Ssh::new();
    ssh.world.key("ca", &["ed25519"]);
    let (ca, public) = (ssh.world.path("ca"), ssh.world.path("me.pub"));
    let args = ["-q", "-s", ca.to_str().unwrap(), "-I", "me", "-n", "me@example.org", public.to_str().unwrap()];
    ssh.world.ssh_keygen(&args, b"");
    let raw = ssh.with(&ssh.world.sign(&ssh.payload, "me-cert.pub", "git", "sha512"));
    ssh.compare(vec![case("the plain key is listed", raw.clone(), UNKNOWN, false, "")]);
    let authority = ssh.world.write("authority", format!("me@example.org cert-authority {}\n", ssh.world.public("ca")));
    let why = "certificates are not accepted, and a file that names an authority is refused as a whole";
    let given = Given { signers: &authority, revoked: None, zone: "UTC" };
    ssh.compare_given(given, vec![case("the authority is listed", raw, UNKNOWN, true, why)]);
}

#[test]
fn the_tips_key_is_held_against_the_clock_and_never_against_what_the_commit_says() {
    const DAY: i64 = 86_400;
    let ssh = Ssh::new();
    let given = |signers| Given { signers, revoked: None, zone: "UTC" };
    let (past, future) = (1_577_836_800, now() + 20 * 365 * DAY);

    let ended = ssh.listed("valid-before=\"20200601Z\"");
    let backdated = ssh.dated(past, "+0000");
    ssh.compare_given(
        given(&ended),
        vec![
            case("an expired key, dated before its end", backdated.clone(), EXPIRED, true, TIME),
            case("the same in an odd zone", ssh.dated(past, "+1400"), EXPIRED, true, TIME),
            case("the same in a zone that is none", ssh.dated(past, "-9959"), EXPIRED, true, TIME),
            case("an expired key, dated after its end", ssh.dated(now(), "+0000"), EXPIRED, false, ""),
            case("an expired key, dated in the future", ssh.dated(future, "+0000"), EXPIRED, false, ""),
        ],
    );
    let below = |raw: &[u8]| ssh.ours(&ssh.world.store(raw), given(&ended), When::Member);
    assert_eq!([below(&backdated), below(&ssh.dated(now(), "+0000"))], [GOOD; 2], "it counts below the tip");

    let begun = ssh.listed("valid-after=\"20250101Z\"");
    ssh.compare_given(
        given(&begun),
        vec![
            case("a key that counts, dated before it did", backdated.clone(), GOOD, false, TIME),
            case("a key that counts, dated now", ssh.dated(now(), "-1200"), GOOD, true, ""),
        ],
    );
    let later = ssh.listed("valid-after=\"20900101Z\"");
    ssh.compare_given(
        given(&later),
        vec![
            case("a key that does not count yet, dated now", ssh.dated(now(), "+0000"), EXPIRED, false, ""),
            case("the same, dated when it will", ssh.dated(3_786_912_000 + DAY, "+0000"), EXPIRED, true, TIME),
        ],
    );
    let bounded = ssh.listed("valid-before=\"20400101Z\"");
    ssh.compare_given(
        given(&bounded),
        vec![case("dated after a key's end that is to come", ssh.dated(future, "+0000"), GOOD, false, TIME)],
    );
    ssh.compare(vec![case("dated in the future, no bound", ssh.dated(future, "+0000"), GOOD, true, "")]);
}

#[test]
fn a_bound_without_a_zone_is_in_that_of_the_machine_and_one_with_z_is_not() {
    let ssh = Ssh::new();
    let soon = Timestamp::from_second(now() + 3600).unwrap().strftime("%Y%m%d%H%M%S").to_string();
    let raw = ssh.dated(now(), "+0545");
    for (zone, suffix, ours) in [
        ("UTC", "", GOOD),
        ("Pacific/Kiritimati", "", EXPIRED),
        ("Etc/GMT+12", "", GOOD),
        ("Pacific/Kiritimati", "Z", GOOD),
        ("Etc/GMT+12", "Z", GOOD),
    ] {
        let signers = ssh.listed(&format!("valid-before=\"{soon}{suffix}\""));
        let given = Given { signers: &signers, revoked: None, zone };
        ssh.compare_given(given, vec![case("dated now, a bound in an hour", raw.clone(), ours, ours == GOOD, "")]);
    }
}

#[test]
fn what_the_server_revoked_never_counts_and_a_list_that_cannot_be_read_stops_all() {
    let ssh = Ssh::new();
    let other = ssh.world.key("other", &["ed25519"]);
    let (public, fingerprint) = (ssh.world.public("me"), ssh.world.fingerprint("me"));
    let krl = ssh.world.path("krl");
    let args = ["-q", "-k", "-f", krl.to_str().unwrap(), &format!("{}.pub", ssh.world.path("me").display())];
    ssh.world.ssh_keygen(&args, b"");
    let write = |name: &str, text: String| ssh.world.write(name, text);
    let raw = ssh.with(&ssh.armour(&ssh.payload));
    for (name, file, ours, git, why) in [
        ("the key", write("keys", format!("{public}\n")), REVOKED, false, ""),
        ("another key", write("others", format!("{other}\n")), GOOD, true, ""),
        ("its fingerprint", write("prints", format!("{fingerprint}\n")), REVOKED, false, ""),
        ("a KRL", krl, UNREADABLE, false, ""),
        ("no file", ssh.world.path("absent"), UNREADABLE, true, "git passes over a list that is not there"),
        ("an odd line", write("odd", format!("odd\n{other}\n")), UNREADABLE, false, ""),
    ] {
        let given = Given { signers: &ssh.signers, revoked: Some(&file), zone: "UTC" };
        ssh.compare_given(given, vec![case(name, raw.clone(), ours, git, why)]);
        if ours != GOOD {
            assert_eq!(ssh.ours(&ssh.world.store(&raw), given, When::Member), ours, "{name}, below the tip");
        }
    }
}
