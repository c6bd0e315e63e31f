//! Files of these verbs: written whole or not at all, and encrypted anew for other recipients.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use evenkeel_core::outcome::Exit;
use evenkeel_layout::tree::{EntryKind, Tree};
use serde::Serialize;

use super::{IdentityArgs, RecipientArgs, opened, read, sealed};
use crate::{
    cli::{
        output::{Failure, Output, SCHEMA},
        text,
    },
    secrets::{Kind, age, recognise},
    tree::worktree::DirTree,
};

/// Most folders and files that are looked at for encrypted ones.
const MAX_ENTRIES: usize = 100_000;

/// Encrypt files anew, for the recipients that are listed now
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel secrets rekey --all -i ~/.config/age.key
  evenkeel secrets rekey stacks/web/secrets.env.age -i ~/.config/age.key

Who could read a file before still reads it in Git's history: if somebody
must not, change the secrets themselves.")]
pub(super) struct RekeyArgs {
    /// Files that age encrypted
    #[arg(value_name = "FILE", required_unless_present = "all")]
    files: Vec<PathBuf>,
    /// Every file that age encrypted, in this folder and below
    #[arg(long, conflicts_with = "files")]
    all: bool,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    recipients: RecipientArgs,
}

#[derive(Serialize)]
struct Document {
    schema: u32,
    files: Vec<PathBuf>,
}

/// Encrypts all of them, or changes none.
pub(super) fn rekey(args: &RekeyArgs, out: &Output) -> Result<Exit, Failure> {
    let keys = args.identity.required()?;
    let files = if args.all { encrypted_below(Path::new("."))? } else { args.files.clone() };
    let mut made = Vec::new();
    for file in &files {
        let recipients = args.recipients.find(file)?;
        let (plain, kind) = opened(file, &keys)?;
        if kind != Kind::Age {
            let message = format!("{} is encrypted with {}, not with age", file.display(), kind.name());
            return Err(Failure::failed("secrets.unsupported", message, "use `sops updatekeys` on it"));
        }
        let armour = age::is_armoured(&read(file)?);
        made.push((file, sealed(&plain, &recipients, armour)?));
    }
    for (file, content) in made {
        replace(file, &content)?;
    }
    out.answer(&Document { schema: SCHEMA, files }, |document| {
        let mut said: Vec<String> = document.files.iter().map(|file| file.display().to_string()).collect();
        said.push(format!("encrypted anew: {}\n", text::plural(document.files.len(), "file")));
        said.join("\n")
    });
    Ok(Exit::Fine)
}

fn encrypted_below(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let unreadable = |e: evenkeel_layout::tree::TreeError| {
        Failure::failed("repo.unreadable", e.to_string(), "name the files themselves")
    };
    let tree = DirTree::open(folder).map_err(unreadable)?;
    let (mut open, mut found, mut seen) = (vec![String::new()], Vec::new(), 0);
    while let Some(dir) = open.pop() {
        for entry in tree.list(&dir).map_err(unreadable)? {
            seen += 1;
            if seen > MAX_ENTRIES {
                let message = format!("there are more than {MAX_ENTRIES} files below this folder");
                return Err(Failure::failed("repo.unreadable", message, "name the files themselves"));
            }
            let path = evenkeel_core::path::join(&dir, &entry.name);
            match entry.kind {
                EntryKind::Directory => open.push(path),
                EntryKind::File { .. } if is_named_age(&path) && is_age(&folder.join(&path))? => {
                    found.push(PathBuf::from(path));
                }
                _ => {}
            }
        }
    }
    found.sort();
    if found.is_empty() {
        let help = "go to the repository's root, or name the files";
        return Err(Failure::failed("secrets.none", "no file *.age below this folder is encrypted with age", help));
    }
    Ok(found)
}

fn is_named_age(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "age")
}

fn is_age(file: &Path) -> Result<bool, Failure> {
    Ok(recognise(&read(file)?) == Some(Kind::Age))
}

/// Makes a file that is not there yet.
pub(super) fn write_new(file: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    let created = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(file);
    let written = created.and_then(|mut created| {
        created.write_all(content)?;
        created.sync_all()
    });
    written.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            let message = format!("{} is there already and stays as it is", file.display());
            Failure::failed("secrets.exists", message, "name another file, or remove it first if nothing needs it")
        }
        _ => unwritable(file, &e),
    })
}

/// Puts new content in the place of a file, whole or not at all. Its mode stays.
pub(super) fn replace(file: &Path, content: &[u8]) -> Result<(), Failure> {
    // Through a symlink, as an editor would.
    let file = &file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let mode = file.metadata().map_or(0o644, |meta| meta.permissions().mode() & 0o777);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || -> std::io::Result<()> {
        let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
        temporary.write_all(content)?;
        temporary.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        temporary.as_file().sync_all()?;
        temporary.persist(file)?;
        Ok(())
    };
    written().map_err(|e| unwritable(file, &e))
}

fn unwritable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::failed("secrets.write", format!("cannot write {}: {error}", file.display()), "nothing was changed")
}
