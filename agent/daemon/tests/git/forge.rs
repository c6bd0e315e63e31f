//! A forge that signs merges with OpenPGP, and how certificates are shown. Keys are made by the real gpg.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use evenkeel::{
    config::settings::{SignersOf, Trust},
    git::{GitError, openpgp::Keyring, read_forge_keys, verify},
};
use evenkeel_core::{
    id::CommitId,
    trust::{Code, Refusal, VerifiedRevision, When},
};
use serde_json::{Value, json};

use crate::{
    cases::{BAD, GOOD},
    gpg::{Gpg, now},
    world::with_header,
};

const YEAR: i64 = 365 * 86_400;

/// Somebody who signs.
enum Hand<'a> {
    Ssh(&'a str),
    OpenPgp(&'a str),
}

/// A repository with a branch to merge, and a forge whose certificate is on the server.
struct Town {
    gpg: Gpg,
    trust: Trust,
    forge: String,
}

impl Town {
    fn new() -> Self {
        let gpg = Gpg::new();
        let user = "Forge <noreply@forge.example>";
        gpg.run(&["--quick-generate-key", user, "rsa2048", "sign", "1y"], b"");
        let listed = String::from_utf8(gpg.run(&["--with-colons", "--list-keys", &format!("={user}")], b"")).unwrap();
        let forge = listed.lines().find_map(|line| line.strip_prefix("fpr:::::::::")).unwrap();
        let forge = forge.trim_end_matches(':').to_owned();
        let published = gpg.run(&["--armor", "--export", &forge], b"");
        let trust = Trust {
            signers: SignersOf::Repository,
            revoked: None,
            introduction: None,
            forge_keys: Some(gpg.world.write("forge_keys", published)),
            require_deploy_to: false,
            stale_after: Duration::from_secs(86_400),
        };
        Self { gpg, trust, forge }
    }

    /// People who sign with SSH.
    fn with_ssh() -> Self {
        let mut town = Self::new();
        let ada = town.gpg.world.key("ada", &["ed25519"]);
        let file = town.gpg.world.write("signers", format!("ada@example.org {ada}\n"));
        town.trust.signers = SignersOf::Server { allowed_signers: Some(file), openpgp_certificates: None };
        town
    }

    /// People who sign with OpenPGP; and the fingerprint of ada's key.
    fn with_openpgp() -> (Self, String) {
        let mut town = Self::new();
        let ada = town.gpg.key("ada", "ed25519", &[]);
        town.gpg.list("ada");
        let openpgp_certificates = Some(town.gpg.folder());
        town.trust.signers = SignersOf::Server { allowed_signers: None, openpgp_certificates };
        (town, ada)
    }

    /// Signs the newest commit in the place of who made it.
    fn signed(&self, by: &Hand<'_>) -> CommitId {
        let world = &self.gpg.world;
        let raw = world.raw(&world.head());
        let armour = match by {
            Hand::Ssh(key) => world.sign(&raw, key, "git", "sha512"),
            Hand::OpenPgp(key) => self.gpg.sign(&raw, key, &[]),
        };
        let id = world.store(&with_header(&raw, "gpgsig", &armour));
        world.git(["reset", "-q", "--hard", id.as_str()]);
        id
    }

    fn commit(&self, file: &str, by: &Hand<'_>) -> CommitId {
        let world = &self.gpg.world;
        fs::write(world.repo().join(file), file).unwrap();
        world.git(["add", "--all"]);
        world.commit_unsigned(file);
        self.signed(by)
    }

    /// Two branches by a person, merged on the forge's site.
    fn merged(&self, by: &Hand<'_>) -> CommitId {
        let world = &self.gpg.world;
        let first = self.commit("first", by);
        self.commit("main", by);
        world.git(["checkout", "-q", "-b", "side", first.as_str()]);
        self.commit("side", by);
        world.git(["checkout", "-q", "main"]);
        world.git(["merge", "-q", "--no-ff", "-m", "Merge pull request #1", "side"]);
        self.signed(&Hand::OpenPgp(&self.forge))
    }

    fn decide(&self, tip: &CommitId, now: i64) -> Result<Result<VerifiedRevision, Box<Refusal>>, GitError> {
        verify(&self.gpg.world.repo(), (&self.trust, "refs/heads/main"), tip, None, now)
    }

    #[track_caller]
    fn refuses(&self, tip: &CommitId, at: i64, code: Code, words: &str) {
        let refusal = self.decide(tip, at).unwrap().unwrap_err();
        assert!(refusal.code == code && refusal.to_string().contains(words), "{refusal}");
    }

    /// What a server with this trust has in its configuration.
    fn config(&self) -> PathBuf {
        let world = &self.gpg.world;
        let at = |name: &str| world.path(name).display().to_string();
        let trust = match &self.trust.signers {
            SignersOf::Server { allowed_signers: Some(_), .. } => json!({ "allowed_signers": at("signers") }),
            _ => json!({ "openpgp_certificates": at("certificates") }),
        };
        let mut config = json!({
            "server": "home",
            "source": { "url": format!("file://{}", world.repo().display()) },
            "trust": trust,
            "paths": { "state": at("state"), "live": at("live"), "env": at("env"), "socket": at("socket") },
        });
        config["trust"]["forge_keys"] = json!(at("forge_keys"));
        world.write("agent.yml", config.to_string())
    }

    fn evenkeel(&self, args: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        let out = command.args(args).current_dir(self.gpg.world.repo()).output().unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stdout).unwrap() + &String::from_utf8_lossy(&out.stderr))
    }
}

fn merges_count(town: &mut Town, by: &Hand<'_>) {
    let merged = town.merged(by);
    assert_eq!(town.decide(&merged, now()).unwrap().unwrap().verified(), 4);
    // The forge's key ends; what it merged before stays merged.
    town.refuses(&merged, now() + 2 * YEAR, Code::Expired, "expired");
    let above = town.commit("above", by);
    assert_eq!(town.decide(&above, now() + 2 * YEAR).unwrap().unwrap().verified(), 5);

    // It signs nothing else.
    let alone = town.commit("alone", &Hand::OpenPgp(&town.forge));
    town.refuses(&alone, now(), Code::Merge, "not a merge of two commits");
    let world = &town.gpg.world;
    world.git(["checkout", "-q", merged.as_str()]);
    fs::write(world.repo().join("evil"), "x").unwrap();
    world.git(["add", "--all"]);
    let tree = world.git(["write-tree"]);
    let whole = String::from_utf8(evenkeel::git::commit::parse(&world.raw(&merged), 40).unwrap().payload).unwrap();
    let (first, rest) = whole.split_once('\n').unwrap();
    assert!(first.starts_with("tree "));
    world.git(["reset", "-q", "--hard", world.store(format!("tree {tree}\n{rest}").as_bytes()).as_str()]);
    let evil = town.signed(&Hand::OpenPgp(&town.forge));
    town.refuses(&evil, now(), Code::Merge, "not those that merging");

    // Nor after the server revoked it, nor where nobody named it.
    town.trust.revoked = Some(town.gpg.world.write("revoked", format!("{}\n", town.forge)));
    town.refuses(&merged, now(), Code::Revoked, "revoked");
    (town.trust.revoked, town.trust.forge_keys) = (None, None);
    town.refuses(&merged, now(), Code::UnknownKey, &town.forge.clone());
}

#[test]
fn merges_that_the_forge_signed_with_openpgp_count_where_people_sign_with_ssh() {
    merges_count(&mut Town::with_ssh(), &Hand::Ssh("ada"));
}

#[test]
fn merges_that_the_forge_signed_with_openpgp_count_where_people_sign_with_openpgp() {
    let (mut town, ada) = Town::with_openpgp();
    merges_count(&mut town, &Hand::OpenPgp(&ada));
}

#[test]
fn one_certificate_is_a_persons_or_the_forges_and_never_both() {
    let (mut town, ada) = Town::with_openpgp();
    let tip = town.commit("first", &Hand::OpenPgp(&ada));
    town.trust.forge_keys = Some(town.gpg.folder().join("ada.asc"));
    let error = town.decide(&tip, now()).unwrap_err().to_string();
    assert!(error.contains(&ada) && error.contains("is there twice"), "{error}");
    town.trust.forge_keys = Some(town.gpg.world.write("forge_keys", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!!\n"));
    let error = town.decide(&tip, now()).unwrap_err().to_string();
    assert!(error.contains("forge_keys") && error.contains("armour"), "{error}");
}

#[test]
fn verify_takes_the_forges_certificate_too() {
    let town = Town::with_ssh();
    town.merged(&Hand::Ssh("ada"));
    let keys = ["verify", "--allowed-signers", "../signers", "--forge-keys", "../forge_keys", "--format", "json"];
    let (code, said) = town.evenkeel(&keys);
    let document: Value = serde_json::from_str(&said).unwrap();
    let newest = document["commits"].as_array().unwrap().last().unwrap();
    assert_eq!((code, &newest["verdict"]), (0, &json!("forge-merge")), "{said}");
    assert_eq!(newest["signer"]["fingerprint"], json!(town.forge));
    assert_eq!(town.evenkeel(&keys[..3]).0, 4);
}

#[test]
fn the_status_shows_which_certificates_do_not_count_and_why() {
    let (town, ada) = Town::with_openpgp();
    let gpg = &town.gpg;
    let then = ["--faked-system-time", "20200101T000000"];
    gpg.run(&[&then[..], &["--quick-generate-key", "past <past@example.org>", "ed25519", "sign", "60d"]].concat(), b"");
    gpg.run(&["--quick-generate-key", "soon <soon@example.org>", "ed25519", "sign", "10d"], b"");
    gpg.run(&["--quick-generate-key", "only <only@example.org>", "ed25519", "cert", "never"], b"");
    let gone = gpg.key("gone", "ed25519", &[]);
    let revocation = gpg.answers(&["--armor", "--output", "-", "--gen-revoke", &gone], "y\n1\n\ny\n");
    gpg.run(&["--import"], &revocation);
    for name in ["past", "soon", "only", "gone"] {
        gpg.list(name);
    }
    let config = town.config();
    let verb = ["trust", "status", "--config", config.to_str().unwrap()];
    let (code, said) = town.evenkeel(&[&verb[..], &["--format", "json"]].concat());
    let document: Value = serde_json::from_str(&said).unwrap();
    let states = |list: &str| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = document[list].as_array().unwrap().iter();
        all.map(|s| (text(&s["principals"]).split(' ').next().unwrap().to_owned(), text(&s["state"]))).collect()
    };
    let expected = [
        ("ada", "counts"),
        ("gone", "revoked"),
        ("only", "cannot sign"),
        ("past", "expired"),
        ("soon", "expires soon"),
    ];
    let expected = expected.map(|(name, state)| (name.to_owned(), state.to_owned()));
    assert_eq!((code, states("signers")), (0, expected.to_vec()), "{document:#}");
    assert_eq!(states("forge"), [("Forge".to_owned(), "counts".to_owned())]);
    let past = &document["signers"][3];
    assert_eq!((&past["valid_before"], &past["valid_after"]), (&json!("2020-03-01T00:00:00Z"), &Value::Null));
    assert_eq!(
        (&document["signers"][0]["fingerprint"], &document["signers"][0]["reason"]),
        (&json!(ada), &Value::Null)
    );

    let (_, text) = town.evenkeel(&verb);
    for words in [
        "past <past@example.org> signs nothing that counts at the tip: its OpenPGP key expired on 2020-03-01",
        "gone <gone@example.org> signs nothing that counts at the tip: its OpenPGP certificate is revoked",
        "only <only@example.org> signs nothing that counts at the tip: its certificate does not let",
        "expired 2020-03-01",
        "FORGE (CLEAN MERGES ONLY)",
    ] {
        assert!(text.contains(words), "it should say {words:?}: {text}");
    }
}

/// Two commits as GitHub made them from pull requests (jqlang/jq and useblocks/sphinx-needs), and what it publishes at
/// <https://github.com/web-flow.gpg>: a certificate that expired in 2024 and the one that signs since.
#[test]
fn real_commits_of_github_hold_under_the_certificates_that_it_publishes() {
    let gpg = Gpg::new();
    let published = gpg.world.write("forge_keys", include_bytes!("github/web-flow.gpg"));
    gpg.run(&["--import", &published.display().to_string()], b"");
    let (_, keyring) = read_forge_keys(&published, Keyring::empty(now())).unwrap();
    assert!(keyring.principals().values().any(|name| name == "GitHub <noreply@github.com>"));
    let jq = include_bytes!("github/588ff18.commit").as_slice();
    let needs = include_bytes!("github/050bec7.commit").as_slice();
    for (raw, name) in
        [(jq, "588ff1874c8c394253c231733047a550efe78260"), (needs, "050bec750ff2c5acf881415fa2b5efb5fcce8414")]
    {
        let id = gpg.world.store(raw);
        assert_eq!(id.as_str(), name);
        assert!(gpg.git_accepts(&id), "{id}");
        assert_eq!(gpg.judged(&id, &keyring, When::Now(now())), GOOD, "{id}");
        let altered = String::from_utf8(raw.to_vec()).unwrap().replace("ump ", "UMP ");
        let altered = gpg.world.store(altered.as_bytes());
        assert_eq!(gpg.judged(&altered, &keyring, When::Now(now())), BAD, "{altered}");
    }
}
