//! What a person does next: the words of `evenkeel trust init`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use evenkeel_core::outcome::Exit;

use super::{
    choose::NEWEST,
    files::Files,
    init::Args,
    survey::{Candidate, Survey, hand_over},
};
use crate::{cli::output::Failure, config::DEFAULT_PATH};

/// What a person puts into files that are there already.
pub fn by_hand(files: &Files, block: &str, chosen: &[&Candidate]) -> String {
    let mut text = format!("Put this into {} by hand:\n\n{block}\n", files.config.display());
    let lines = files.new_lines(chosen);
    let lines = (!lines.is_empty()).then(|| (files.signers.clone(), lines));
    for (path, content) in lines.into_iter().chain(files.new_certificates(chosen)) {
        let _ = writeln!(text, "and this into {}:\n\n{content}", path.display());
    }
    text
}

/// What to do on the machines of people, and then here.
pub fn next_steps(files: &Files, git_config: &[String], written: bool) -> String {
    let mut text = "\nOn each machine where you commit, so that every commit is signed:\n\n".to_owned();
    for line in git_config {
        let _ = writeln!(text, "  {line}");
    }
    if written {
        let is_default = files.config == Path::new(DEFAULT_PATH);
        let config = if is_default { String::new() } else { format!(" --config {}", files.config.display()) };
        let _ = write!(
            text,
            "\nNext, on this server:\n\n  evenkeel agent --once{config}    # one sync, to see whether all is well\n  \
             evenkeel trust status{config}\n"
        );
        if is_default {
            text.push_str("  systemctl enable --now evenkeel\n");
        }
    }
    text
}

/// The three lines that make a machine sign, with the file that such a key usually has.
pub fn git_config(key: Option<(&str, &str)>) -> Vec<String> {
    if let Some(("openpgp", fingerprint)) = key {
        return vec![
            "git config --global gpg.format openpgp".to_owned(),
            format!("git config --global user.signingkey {fingerprint}"),
            "git config --global commit.gpgsign true".to_owned(),
        ];
    }
    let file = match key.map(|(kind, _)| kind) {
        Some("rsa") => "id_rsa",
        Some("ecdsa") => "id_ecdsa",
        Some("ed25519-sk") => "id_ed25519_sk",
        Some("ecdsa-sk") => "id_ecdsa_sk",
        _ => "id_ed25519",
    };
    let which = key.map(|(_, fingerprint)| format!("    # {fingerprint}")).unwrap_or_default();
    vec![
        "git config --global gpg.format ssh".to_owned(),
        format!("git config --global user.signingkey ~/.ssh/{file}.pub{which}"),
        "git config --global commit.gpgsign true".to_owned(),
    ]
}

/// Nobody signed the newest commit: what makes it right.
pub fn unsigned(survey: &Survey, git_config: &[String]) -> Failure {
    let (id, subject) = survey.commits.first().map_or(("", ""), |s| (s.commit.id.short(), s.commit.subject.as_str()));
    if let Some(key) = survey.lacks() {
        let message = format!(
            "the newest commit {id} {subject:?} is signed with the OpenPGP key {key}, whose certificate is not known here"
        );
        let help = format!("a signature of OpenPGP does not carry its key; hand it over, {}", hand_over(key));
        return Failure::usage("trust.keys", message, help);
    }
    let help = format!(
        "Trust begins at a commit that is signed. On your own machine:\n\n  {}\n  git commit --allow-empty -m 'Begin to sign' && git push\n",
        git_config.join("\n  ")
    );
    let message = format!("the newest commit {id} {subject:?} carries no signature that fits it");
    Failure::new(Exit::Refused, "trust.unsigned", message, help)
}

/// Nobody was there to ask.
pub fn unconfirmed() -> Failure {
    let message = "there is no terminal to ask at, and --yes is not given; nothing was written";
    Failure::usage("trust.unconfirmed", message, "say whose keys count and where history begins, and add --yes")
}

/// The command line that needs no answers: what a person would be proposed.
pub fn command(args: &Args, survey: &Survey) -> String {
    let source = &args.source;
    let mut words = vec!["--url".to_owned(), source.url.clone(), "--branch".to_owned(), source.branch.clone()];
    let shown = |path: &PathBuf| path.display().to_string();
    let mut flags: Vec<(&str, String)> = Vec::new();
    let paths = [
        ("token-file", &source.token_file),
        ("ssh-key", &source.ssh_key),
        ("known-hosts", &source.known_hosts),
        ("ca-file", &source.ca_file),
    ];
    flags.extend(paths.into_iter().filter_map(|(name, path)| Some((name, shown(path.as_ref()?)))));
    flags.extend(source.username.clone().map(|name| ("username", name)));
    flags.extend(source.server.clone().map(|name| ("server", name)));
    flags.extend(args.github.iter().map(|list| ("github", list.clone())));
    flags.extend(args.keys.iter().map(|list| ("keys", list.clone())));
    let tip = survey.commits.first();
    if args.github.is_empty() && args.keys.is_empty() {
        flags.extend(tip.and_then(|tip| tip.signer()).map(|key| ("signer", key.to_owned())));
    }
    let newest = tip.map_or_else(|| NEWEST.to_owned(), |tip| tip.commit.id.short().to_owned());
    flags.push(("introduction", args.introduction.clone().unwrap_or(newest)));
    if args.config != Path::new(DEFAULT_PATH) {
        flags.push(("config", shown(&args.config)));
    }
    words.extend(flags.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]));
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("evenkeel trust init {} --yes", words.join(" "))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._@:+=,-".contains(c));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
