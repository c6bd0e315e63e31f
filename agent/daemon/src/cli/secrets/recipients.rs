//! Whom a file is encrypted for.

use std::path::{Path, PathBuf};

use super::read;
use crate::{cli::output::Failure, secrets::age::Recipient};

/// Where a repository lists whom its files are for.
pub(super) const LIST: &str = ".evenkeel/recipients";

/// Whom to encrypt for.
#[derive(Debug, clap::Args)]
pub(super) struct RecipientArgs {
    /// Whom to encrypt for; may be given again. Default is everyone in .evenkeel/recipients
    #[arg(long, value_name = "age1…")]
    to: Vec<String>,
    /// A file that lists whom to encrypt for, one age1… a line; may be given again
    #[arg(long, short = 'R', value_name = "FILE")]
    recipients_file: Vec<PathBuf>,
}

impl RecipientArgs {
    /// Those that are named, or else those that the repository around `file` lists. Never nobody.
    pub(super) fn find(&self, file: &Path) -> Result<Vec<Recipient>, Failure> {
        let mut found = Vec::new();
        for text in &self.to {
            let wrong = |why| Failure::usage("secrets.recipient", format!("--to {why}"), "name the public key, age1…");
            found.push(Recipient::parse(text.trim()).map_err(wrong)?);
        }
        for list in &self.recipients_file {
            found.extend(listed(list)?);
        }
        if !self.to.is_empty() || !self.recipients_file.is_empty() {
            return Ok(found);
        }
        match list_around(file) {
            Some(list) => listed(&list),
            None => Err(Failure::usage(
                "secrets.recipient",
                "nobody is named to encrypt for",
                format!("list the servers' public keys in {LIST} at the repository's root, or name them with --to"),
            )),
        }
    }
}

/// The list of the repository that holds `file`: in the nearest folder above that has one, but not beyond the repository.
fn list_around(file: &Path) -> Option<PathBuf> {
    let file = std::path::absolute(file).ok()?;
    for folder in file.ancestors().skip(1) {
        let list = folder.join(LIST);
        if list.is_file() {
            return Some(list);
        }
        if folder.join(".git").exists() {
            return None;
        }
    }
    None
}

fn listed(list: &Path) -> Result<Vec<Recipient>, Failure> {
    let wrong = |message: String| Failure::usage("secrets.recipient", message, "write one age1… a line");
    let content = read(list)?;
    let text = std::str::from_utf8(&content).map_err(|_| wrong(format!("{} is no text", list.display())))?;
    let mut found = Vec::new();
    for (line, text) in text.lines().enumerate() {
        let text = text.split('#').next().unwrap_or_default().trim();
        if !text.is_empty() {
            let at = |why| wrong(format!("{}:{}: {why}", list.display(), line + 1));
            found.push(Recipient::parse(text).map_err(at)?);
        }
    }
    if found.is_empty() {
        return Err(wrong(format!("{} lists nobody", list.display())));
    }
    Ok(found)
}
