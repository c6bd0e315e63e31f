//! `evenkeel trust init` where people sign with OpenPGP. Certificates are made by the real gpg.

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::{gpg::Gpg, world::with_header};

impl Gpg {
    /// Signs the newest commit of the repository in the place of nobody.
    fn commit(&self, subject: &str, key: &str) {
        self.world.commit_unsigned(subject);
        let raw = self.world.raw(&self.world.head());
        let id = self.world.store(&with_header(&raw, "gpgsig", &self.sign(&raw, key, &[])));
        self.world.git(["reset", "-q", "--hard", id.as_str()]);
    }

    fn exported(&self, key: &str) -> PathBuf {
        self.world.write(&format!("{key}.asc"), self.run(&["--armor", "--export", key], b""))
    }

    /// `evenkeel trust init` for this repository, and what it said.
    fn init(&self, args: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        let url = format!("file://{}", self.world.repo().display());
        command.args(["trust", "init", "--server", "home", "--url", &url, "--config"]).arg(self.etc("agent.yml"));
        let out = command.args(args).env("TZ", "UTC").output().unwrap();
        let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (out.status.code().unwrap(), said.concat())
    }

    fn etc(&self, name: &str) -> PathBuf {
        self.world.path("etc").join(name)
    }

    fn states(&self) -> Vec<(String, String)> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        command.args(["trust", "status", "--format", "json", "--config"]).arg(self.etc("agent.yml"));
        let out = command.output().unwrap();
        let document: Value = serde_json::from_slice(&out.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let signers = document["signers"].as_array().unwrap().iter();
        signers.map(|s| (text(&s["fingerprint"]), text(&s["state"]))).collect()
    }
}

#[test]
fn a_commit_whose_certificate_is_not_known_says_how_to_hand_it_over() {
    let gpg = Gpg::new();
    let ada = gpg.key("ada", "ed25519", &[]);
    gpg.commit("By ada", &ada);
    let (code, said) = gpg.init(&["--yes"]);
    assert_eq!(code, 2, "{said}");
    for words in [&ada, "By ada", &format!("gpg --armor --export {ada} > signer.asc"), "--keys signer.asc"] {
        assert!(said.contains(words), "it should say {words:?}: {said}");
    }
    assert!(!gpg.world.path("etc").exists());
}

#[test]
fn a_certificate_that_is_handed_over_is_shown_chosen_and_written() {
    let gpg = Gpg::new();
    let ada = gpg.key("ada", "ed25519", &[]);
    gpg.commit("By ada", &ada);
    let file = gpg.exported(&ada);
    let (code, said) = gpg.init(&["--keys", file.to_str().unwrap(), "--yes"]);
    assert_eq!(code, 0, "{said}");
    for words in [
        "signed",
        &format!("openpgp  {ada}"),
        &format!("openpgp/{ada}.asc"),
        "git config --global gpg.format openpgp",
        &format!("git config --global user.signingkey {ada}"),
    ] {
        assert!(said.contains(words), "it should say {words:?}: {said}");
    }
    let config = fs::read_to_string(gpg.etc("agent.yml")).unwrap();
    assert!(config.contains("openpgp_certificates: ") && config.contains(&format!("signer: \"{ada}\"")), "{config}");
    assert!(!config.contains("allowed_signers") && !gpg.etc("allowed_signers").exists(), "{config}");
    let written = gpg.etc("openpgp").join(format!("{ada}.asc"));
    let shown = gpg.run(&["--with-colons", "--show-keys", written.to_str().unwrap()], b"");
    assert!(String::from_utf8(shown).unwrap().contains(&ada), "gpg reads what was written");
    assert_eq!(gpg.states(), [(ada.clone(), "counts".to_owned())]);

    // Another one comes later: what is there stays.
    let bob = gpg.key("bob", "rsa2048", &[]);
    gpg.commit("By bob", &bob);
    let both = [file.to_str().unwrap().to_owned(), gpg.exported(&bob).to_str().unwrap().to_owned()];
    let (code, said) = gpg.init(&["--keys", &both[1], "--introduction", "first", "--yes", "--force"]);
    assert_eq!(code, 0, "{said}");
    let mut states = gpg.states();
    states.sort();
    let mut expected = [ada, bob].map(|key| (key, "counts".to_owned()));
    expected.sort();
    assert_eq!(states, expected);
}

#[test]
fn of_a_file_of_certificates_those_are_taken_that_are_named_beside_keys_of_ssh() {
    let gpg = Gpg::new();
    let (ada, bob) = (gpg.key("ada", "ed25519", &[]), gpg.key("bob", "ed25519", &[]));
    gpg.world.key("eve", &["ed25519"]);
    gpg.commit("By ada", &ada);
    gpg.world.commit("By eve", "eve");
    gpg.commit("By bob", &bob);
    let all = gpg.world.write("all.asc", gpg.run(&["--armor", "--export"], b""));
    let eve = gpg.world.fingerprint("eve");
    let args = ["--keys", all.to_str().unwrap(), "--signer", &eve, "--introduction", "first", "--format", "json"];
    let (code, said) = gpg.init(&[&args[..], &["--yes"]].concat());
    assert_eq!(code, 0, "{said}");
    let document: Value = serde_json::from_str(&said).unwrap();
    let kinds: Vec<&Value> = document["keys"].as_array().unwrap().iter().map(|key| &key["kind"]).collect();
    assert_eq!(kinds, [&json!("openpgp"), &json!("ed25519"), &json!("openpgp")]);
    assert_eq!(document["commits"][0]["key"], json!({ "kind": "openpgp", "fingerprint": bob }));
    let paths = document["files"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned());
    let names: Vec<String> = paths.map(|path| path.rsplit('/').next().unwrap().to_owned()).collect();
    let expected = ["allowed_signers", &format!("{bob}.asc"), &format!("{ada}.asc"), "agent.yml"];
    assert_eq!(names, expected, "in the order of their last commits");
    let config = fs::read_to_string(gpg.etc("agent.yml")).unwrap();
    assert!(config.contains("allowed_signers: ") && config.contains("openpgp_certificates: "), "{config}");
    assert_eq!(gpg.states().len(), 3);
}
