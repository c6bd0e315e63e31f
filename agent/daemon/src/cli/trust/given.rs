//! Keys that the operator names: `--github USER[=FILE]`, `--keys FILE`. Lists of SSH keys, or OpenPGP certificates.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    path::Path,
};

use jiff::Timestamp;

use crate::{
    cli::output::{Failure, Output},
    git::{
        allowed_signers::MAX_FILE_BYTES,
        certificates::{Listed, is_certificates},
        openpgp::Keyring,
        public_keys::{self, PublicKey},
    },
};

/// A key that could sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningKey {
    /// Of SSH.
    Ssh(PublicKey),
    /// An OpenPGP certificate.
    OpenPgp(Listed),
}

impl SigningKey {
    /// As Git prints it.
    pub fn fingerprint(&self) -> &str {
        match self {
            Self::Ssh(key) => &key.fingerprint,
            Self::OpenPgp(certificate) => &certificate.fingerprint,
        }
    }

    /// The kind in one word.
    pub fn short_kind(&self) -> &str {
        match self {
            Self::Ssh(key) => key.short_kind(),
            Self::OpenPgp(_) => "openpgp",
        }
    }
}

/// A key that was named on the command line.
#[derive(Debug, Clone)]
pub struct Given {
    /// The key.
    pub key: SigningKey,
    /// Whose it is said to be, as a principal of an allowed-signers file.
    pub label: String,
    /// Where it comes from, for people.
    pub origin: String,
}

/// Where a list of keys is.
struct List<'a> {
    /// `None` for standard input.
    file: Option<&'a str>,
    /// The user whose list it is.
    user: Option<&'a str>,
}

/// Reads all lists that the flags name. At most one of them is standard input; whether one is, is said too.
pub fn keys(github: &[String], files: &[String], out: &Output) -> Result<(Vec<Given>, bool), Failure> {
    let of_github = github.iter().map(|text| match text.split_once('=') {
        Some((user, file)) => List { file: (file != "-").then_some(file), user: Some(user) },
        None => List { file: None, user: Some(text) },
    });
    let of_files = files.iter().map(|file| List { file: (file != "-").then_some(file), user: None });
    let lists: Vec<List<'_>> = of_github.chain(of_files).collect();
    let from_stdin = lists.iter().filter(|list| list.file.is_none()).count();
    if from_stdin > 1 {
        return Err(Failure::usage(
            "usage",
            "only one list of keys can come from standard input",
            "put the others into files: --github USER=FILE, --keys FILE",
        ));
    }
    let mut all: Vec<Given> = Vec::new();
    for list in &lists {
        for key in read(list, out)? {
            if !all.iter().any(|known| known.key.fingerprint() == key.key.fingerprint()) {
                all.push(key);
            }
        }
    }
    Ok((all, from_stdin == 1))
}

fn read(list: &List<'_>, out: &Output) -> Result<Vec<Given>, Failure> {
    if let Some(user) = list.user.filter(|user| !is_user(user)) {
        let message = format!("{user:?} is no user's name on GitHub");
        return Err(Failure::usage(
            "usage",
            message,
            "write --github USER=FILE, or --github USER and the keys on standard input",
        ));
    }
    let text = match list.file {
        Some(file) => capped(File::open(Path::new(file))),
        None if io::stdin().is_terminal() => return Err(no_keys(list)),
        None => capped(Ok(io::stdin().lock())),
    };
    let name = list.file.unwrap_or("standard input");
    let unreadable = |why: String| Failure::usage("trust.keys", format!("{name}: {why}"), "name a file of public keys");
    let text = text.map_err(|e| unreadable(e.to_string()))?;
    if is_certificates(&text) {
        return certificates(&text, list.user, name).map_err(unreadable);
    }
    let keys = public_keys::parse(&text).map_err(|e| unreadable(e.to_string()))?;
    let origin = list.user.map_or_else(|| name.to_owned(), |user| format!("github.com/{user}.keys"));
    let mut accepted = Vec::new();
    for listed in keys {
        match listed.key {
            Ok(key) => accepted.push(Given {
                key: SigningKey::Ssh(key),
                label: label(list.user, &listed.comment),
                origin: origin.clone(),
            }),
            Err(why) => out.note(&format!("note: a key of {origin} is left out: {why}")),
        }
    }
    if accepted.is_empty() {
        let message = format!("{name} holds no key that is accepted");
        let help = "git signs with a key that is listed on GitHub as a signing key or an authentication key; \
                    https://github.com/USER.keys shows the latter, https://api.github.com/users/USER/ssh_signing_keys the former";
        return Err(Failure::usage(
            "trust.keys",
            message,
            if list.user.is_some() { help } else { "name another file" },
        ));
    }
    Ok(accepted)
}

/// OpenPGP certificates, as gpg exports them and as forges show them of a user. Whose they are, they say themselves.
fn certificates(text: &[u8], user: Option<&str>, name: &str) -> Result<Vec<Given>, String> {
    let keyring = Keyring::empty(Timestamp::now().as_second()).with(text)?;
    let origin = user.map_or_else(|| name.to_owned(), |user| format!("github.com/{user}.gpg"));
    let given = |certificate: Listed| Given {
        label: certificate.principal.clone(),
        key: SigningKey::OpenPgp(certificate),
        origin: origin.clone(),
    };
    Ok(keyring.listed().into_iter().map(given).collect())
}

fn no_keys(list: &List<'_>) -> Failure {
    let user = list.user.unwrap_or("USER");
    let help = format!(
        "evenkeel asks nobody but your repository. Hand the keys over: \
         curl -fsS https://github.com/{user}.keys | evenkeel trust init --github {user} …, or --github {user}=FILE"
    );
    Failure::usage("trust.keys", "the keys are expected on standard input, which is a terminal", help)
}

fn capped(source: io::Result<impl Read>) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    source?.take(MAX_FILE_BYTES + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn is_user(user: &str) -> bool {
    (1..=39).contains(&user.len()) && user.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn label(user: Option<&str>, comment: &str) -> String {
    principal(user.or_else(|| comment.split(' ').next()).unwrap_or_default())
}

/// A text as a principal: no pattern, no list, no quotation mark.
pub fn principal(text: &str) -> String {
    let fits = |c: char| c.is_alphanumeric() || "@._+-".contains(c);
    let clean: String = text.chars().map(|c| if fits(c) { c } else { '_' }).take(100).collect();
    if clean.is_empty() { "signer".to_owned() } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_never_a_pattern_or_a_second_field() {
        assert_eq!(principal("ada@example.org"), "ada@example.org");
        assert_eq!(principal("*,!a \"b\"#"), "___a__b__");
        assert_eq!(principal(""), "signer");
    }

    #[test]
    fn a_github_user_is_a_name_and_no_path() {
        assert!(is_user("ada-l") && !is_user("") && !is_user("../x") && !is_user("a/b") && !is_user(&"a".repeat(40)));
    }
}
