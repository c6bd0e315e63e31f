//! The files of a server's trust: `agent.yml`, and beside it `allowed_signers` and the folder `openpgp`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use evenkeel_core::{
    id::CommitId,
    trust::{Revoked, Signers},
};

use super::{given::SigningKey, survey::Candidate};
use crate::{
    cli::output::Failure,
    config,
    git::{self, public_keys::PublicKey},
};

/// The repository and the way to it, as `agent.yml` has them.
#[derive(Debug, clap::Args)]
pub struct SourceArgs {
    /// The repository: https://…, ssh://…, git@host:path or file:///…
    #[arg(long)]
    pub url: String,
    /// The branch that this server follows
    #[arg(long, default_value = "main")]
    pub branch: String,
    /// A token for https, in a file that only its owner may read
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The user name that goes with the token [default: git]
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
    /// The private half of a deploy key, for ssh
    #[arg(long, value_name = "FILE")]
    pub ssh_key: Option<PathBuf>,
    /// The server's own keys, for ssh
    #[arg(long, value_name = "FILE")]
    pub known_hosts: Option<PathBuf>,
    /// CA certificates instead of the system's, for https
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// The name that the repository has for this server [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub server: Option<String>,
}

impl SourceArgs {
    /// The full name of the branch.
    pub fn reference(&self) -> String {
        if self.branch.starts_with("refs/") { self.branch.clone() } else { format!("refs/heads/{}", self.branch) }
    }

    fn yaml(&self) -> String {
        let mut text = String::new();
        if let Some(server) = &self.server {
            text.push_str(&entry(0, "server", server));
        }
        text.push_str("source:\n");
        text.push_str(&entry(1, "url", &self.url));
        text.push_str(&entry(1, "ref", &self.reference()));
        let path = |indent, key, path: &Option<PathBuf>| {
            path.as_ref().map(|path| entry(indent, key, &absolute(path).display().to_string())).unwrap_or_default()
        };
        text.push_str(&path(1, "ca_file", &self.ca_file));
        let auth = [
            path(2, "token_file", &self.token_file),
            self.username.as_ref().map(|name| entry(2, "username", name)).unwrap_or_default(),
            path(2, "ssh_key", &self.ssh_key),
            path(2, "known_hosts", &self.known_hosts),
        ]
        .concat();
        if !auth.is_empty() {
            text.push_str("  auth:\n");
            text.push_str(&auth);
        }
        text
    }
}

/// The first trusted commit and who signed it.
pub struct Introduced<'a> {
    pub commit: &'a CommitId,
    pub signer: &'a str,
}

/// Where the keys are that count: a file of SSH keys, a folder of OpenPGP certificates, or both.
#[derive(Debug, Clone, Copy)]
pub struct Lists<'a> {
    pub allowed_signers: Option<&'a Path>,
    pub openpgp_certificates: Option<&'a Path>,
}

/// The keys of `agent.yml` that say what is trusted.
pub fn block(source: &SourceArgs, lists: Lists<'_>, introduced: Option<&Introduced<'_>>) -> String {
    let mut text = source.yaml();
    text.push_str("trust:\n");
    let Lists { allowed_signers, openpgp_certificates } = lists;
    for (key, path) in [("allowed_signers", allowed_signers), ("openpgp_certificates", openpgp_certificates)] {
        text.push_str(&path.map(|path| entry(1, key, &path.display().to_string())).unwrap_or_default());
    }
    if let Some(Introduced { commit, signer }) = introduced {
        text.push_str("  introduction:\n");
        // In quotes: digits alone would be a number.
        for (key, value) in [("commit", commit.as_str()), ("signer", signer)] {
            let _ = writeln!(text, "    {key}: {value:?}");
        }
    }
    text
}

fn entry(indent: usize, key: &str, value: &str) -> String {
    let plain = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "/._@:+-".contains(c))
        && !value.ends_with(':')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&value.to_ascii_lowercase().as_str());
    // A text in JSON is one in YAML.
    let value = if plain { value.to_owned() } else { serde_json::Value::from(value).to_string() };
    format!("{}{key}: {value}\n", "  ".repeat(indent))
}

/// A line of `allowed_signers`.
pub fn signer_line(label: &str, key: &PublicKey) -> String {
    format!("{label} namespaces=\"git\" {} {}\n", key.kind, key.base64)
}

/// What is there, and so what is to be done.
#[derive(Debug)]
pub enum Existing {
    /// No file.
    Absent,
    /// A file of comments, as the package installs it: something can be added without changing what it says.
    Blank(String),
    /// A configuration.
    Full(String),
}

/// Where the files are, and what they hold.
#[derive(Debug)]
pub struct Files {
    /// `agent.yml`.
    pub config: PathBuf,
    /// `allowed_signers`, beside it.
    pub signers: PathBuf,
    /// The folder of OpenPGP certificates, beside them.
    pub certificates: PathBuf,
    /// What `agent.yml` holds.
    pub existing: Existing,
    /// What `allowed_signers` holds.
    listed: String,
    /// The keys in it, and the certificates in the folder.
    known: Signers,
}

/// A file of trust: its path, and what it shall hold.
pub type File = (PathBuf, String);

impl Files {
    /// Looks at what is there.
    pub fn at(config: &Path) -> Result<Self, Failure> {
        let config = absolute(config);
        let folder = config.parent().unwrap_or(Path::new("/"));
        let signers = folder.join("allowed_signers");
        let existing = match read(&config)? {
            None => Existing::Absent,
            Some(text) if config::is_blank(&text) => Existing::Blank(text),
            Some(text) => Existing::Full(text),
        };
        let listed = read(&signers)?.unwrap_or_default();
        let zone = jiff::tz::TimeZone::system();
        let known = git::allowed_signers::parse(listed.as_bytes(), &zone).map_err(|e| {
            Failure::usage(
                "trust.keys",
                format!("{}: {e}", signers.display()),
                "correct the line, or move the file away",
            )
        })?;
        let certificates = folder.join("openpgp");
        let is_used = fs::read_dir(&certificates).is_ok_and(|mut entries| entries.next().is_some());
        let certified = if is_used {
            git::keyring(Some(&certificates), &Revoked::Keys([].into()), 0)
                .map_err(|e| Failure::usage("trust.keys", e.to_string(), "correct the file, or move the folder away"))?
                .principals()
        } else {
            BTreeMap::new()
        };
        Ok(Self { config, signers, certificates, existing, listed, known: known.with_certificates(certified) })
    }

    /// Says early what would fail late.
    pub fn check_writable(&self) -> Result<(), Failure> {
        let there = self.config.ancestors().skip(1).find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        rustix::fs::access(there, rustix::fs::Access::WRITE_OK).map_err(|_| {
            let message = format!("{} cannot be written by this user", there.display());
            Failure::usage(
                "trust.denied",
                message,
                "run it as root on the server; or with --print, which shows the files instead of writing them",
            )
        })
    }

    /// `allowed_signers` with these keys besides those that it has.
    pub fn signers_text(&self, chosen: &[&Candidate]) -> String {
        let mut text = self.listed.clone();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text + &self.new_lines(chosen)
    }

    /// The lines for keys that `allowed_signers` does not have yet.
    pub fn new_lines(&self, chosen: &[&Candidate]) -> String {
        self.unknown(chosen)
            .filter_map(|(candidate, key)| match key {
                SigningKey::Ssh(key) => Some(signer_line(&candidate.label, key)),
                SigningKey::OpenPgp(_) => None,
            })
            .collect()
    }

    /// A file for each certificate that the folder does not have yet.
    pub fn new_certificates(&self, chosen: &[&Candidate]) -> Vec<File> {
        self.unknown(chosen)
            .filter_map(|(_, key)| match key {
                SigningKey::Ssh(_) => None,
                SigningKey::OpenPgp(certificate) => {
                    let path = self.certificates.join(format!("{}.asc", certificate.fingerprint));
                    Some((path, certificate.armour.clone()))
                }
            })
            .collect()
    }

    fn unknown<'c>(&self, chosen: &[&'c Candidate]) -> impl Iterator<Item = (&'c Candidate, &'c SigningKey)> {
        let new = chosen.iter().filter(|c| self.known.label(c.key.fingerprint()).is_none());
        new.map(|candidate| (*candidate, &candidate.key))
    }

    /// How many keys and certificates are listed already.
    pub fn listed(&self) -> usize {
        self.listed_lines() + self.known.certificates().len()
    }

    fn listed_lines(&self) -> usize {
        self.listed.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#')).count()
    }

    /// Which lists the configuration names once these keys are written.
    pub fn lists(&self, chosen: &[&Candidate]) -> Lists<'_> {
        let has = |kind: fn(&SigningKey) -> bool| chosen.iter().any(|candidate| kind(&candidate.key));
        let ssh = self.listed_lines() > 0 || has(|key| matches!(key, SigningKey::Ssh(_)));
        let openpgp = !self.known.certificates().is_empty() || has(|key| matches!(key, SigningKey::OpenPgp(_)));
        Lists {
            allowed_signers: ssh.then_some(self.signers.as_path()),
            openpgp_certificates: openpgp.then_some(self.certificates.as_path()),
        }
    }

    /// Every file that these keys need besides `agent.yml`.
    pub fn of_keys(&self, chosen: &[&Candidate]) -> Vec<File> {
        let signers = self.lists(chosen).allowed_signers.map(|path| (path.to_owned(), self.signers_text(chosen)));
        signers.into_iter().chain(self.new_certificates(chosen)).collect()
    }

    /// `agent.yml` with this block: alone, or after the comments that are there.
    pub fn config_text(&self, block: &str) -> String {
        match &self.existing {
            Existing::Blank(comments) => format!("{}\n\n{block}", comments.trim_end()),
            Existing::Absent | Existing::Full(_) => format!(
                "# Evenkeel's configuration of this server, made by `evenkeel trust init`.\n\
                 # docs/reference/agent.yml.md lists every key.\n\n{block}"
            ),
        }
    }

    /// Writes them, each as a whole, the configuration last. One that is replaced stays beside it; its name is given.
    pub fn write(&self, keys: &[File], config: &str) -> Result<Option<PathBuf>, Failure> {
        let fail = |path: &Path| {
            let path = path.display().to_string();
            move |e: io::Error| {
                Failure::failed(
                    "trust.write",
                    format!("cannot write {path}: {e}"),
                    "look at the folder's owner and free space",
                )
            }
        };
        if let Some(folder) = self.config.parent().filter(|folder| !folder.exists()) {
            fs::create_dir_all(folder).map_err(fail(folder))?;
            fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(fail(folder))?;
        }
        for (path, text) in keys {
            if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
                fs::create_dir(folder).map_err(fail(folder))?;
                fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(fail(folder))?;
            }
            put(path, text, 0o644).map_err(fail(path))?;
        }
        let mut old = None;
        if let Existing::Full(text) = &self.existing {
            let path = self.config.with_extension("yml.old");
            put(&path, text, 0o600).map_err(fail(&path))?;
            old = Some(path);
        }
        put(&self.config, config, 0o600).map_err(fail(&self.config))?;
        Ok(old)
    }
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => {
            let help = "run it as root; or with --print, which needs no file of the server";
            Err(Failure::usage("trust.denied", format!("cannot read {}: {e}", path.display()), help))
        }
    }
}

/// Writes a file beside, to disk, then renames it: it appears whole or not at all.
fn put(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::Builder::new().prefix(".new").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    fs::File::open(folder)?.sync_all()
}

/// The whole path; a systemd credential stays one.
fn absolute(path: &Path) -> PathBuf {
    let is_credential = path.to_str().is_some_and(|text| text.starts_with("credential:"));
    let whole = || std::path::absolute(path).map_or_else(|_| path.to_owned(), |path| path.components().collect());
    if is_credential { path.to_owned() } else { whole() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(url: &str, branch: &str) -> SourceArgs {
        SourceArgs {
            url: url.to_owned(),
            branch: branch.to_owned(),
            token_file: None,
            username: None,
            ssh_key: None,
            known_hosts: None,
            ca_file: None,
            server: Some("home".to_owned()),
        }
    }

    #[test]
    fn the_block_is_what_the_configuration_reader_takes_it_for() {
        let folder = tempfile::tempdir().unwrap();
        let signers = folder.path().join("allowed signers: #1");
        put(&signers, "", 0o644).unwrap();
        let commit = CommitId::new(&"ab".repeat(20)).unwrap();
        let signer = "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU";
        for url in ["https://example.org/you/infra.git", "file:///srv/a%20b/c", "https://example.org/x?a=b"] {
            let lists = Lists { allowed_signers: Some(&signers), openpgp_certificates: None };
            let text = block(&source(url, "a-b/c"), lists, Some(&Introduced { commit: &commit, signer }));
            let settings = config::check(&text, Path::new("/x/agent.yml")).unwrap();
            assert_eq!((settings.source.url.as_str(), settings.source.reference.as_str()), (url, "refs/heads/a-b/c"));
            assert_eq!(settings.trust.allowed_signers(), Some(signers.as_path()));
            let introduction = settings.trust.introduction.unwrap();
            assert_eq!((&introduction.commit, introduction.signer.as_str()), (&commit, signer));
        }
        let [allowed_signers, openpgp_certificates] =
            ["/etc/evenkeel/allowed_signers", "/etc/evenkeel/openpgp"].map(|path| Some(Path::new(path)));
        let lists = Lists { allowed_signers, openpgp_certificates };
        insta::assert_snapshot!(block(&source("git@example.org:you/infra.git", "refs/heads/main"), lists, None), @"
        server: home
        source:
          url: git@example.org:you/infra.git
          ref: refs/heads/main
        trust:
          allowed_signers: /etc/evenkeel/allowed_signers
          openpgp_certificates: /etc/evenkeel/openpgp
        ");
    }

    #[test]
    fn a_file_is_told_from_one_of_comments() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("agent.yml");
        assert!(matches!(Files::at(&config).unwrap().existing, Existing::Absent));
        fs::write(&config, "# comments\n#source:\n").unwrap();
        let files = Files::at(&config).unwrap();
        assert!(matches!(files.existing, Existing::Blank(_)));
        assert_eq!(files.config_text("server: home\n"), "# comments\n#source:\n\nserver: home\n");
        fs::write(&config, "server: home\n").unwrap();
        assert!(matches!(Files::at(&config).unwrap().existing, Existing::Full(_)));
        fs::write(&config, "{ not: [yaml").unwrap();
        assert!(matches!(Files::at(&config).unwrap().existing, Existing::Full(_)));
    }
}
