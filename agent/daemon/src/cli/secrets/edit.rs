//! `evenkeel secrets edit`: the plain text is in memory while the editor has it.

use std::{
    env, fs,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use evenkeel_core::outcome::Exit;
use tokio::signal::unix::{SignalKind, signal};

use super::{IdentityArgs, RecipientArgs, SCHEMA, Written, files, opened, read, sealed};
use crate::{
    cli::{
        output::{Failure, Output},
        runtime,
    },
    secrets::{Kind, Plain, age},
};

/// Edit an encrypted file; one that is not there is made
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel secrets edit stacks/web/secrets.env.age -i ~/.config/age.key
  EDITOR=nano evenkeel secrets edit new.env.age --to age1…

The editor is $VISUAL, else $EDITOR, else vi. It gets a file in memory (a
tmpfs) that goes afterwards. If it fails or changes nothing, nothing is
written.")]
pub(super) struct Args {
    /// A file that age encrypted
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    recipients: RecipientArgs,
}

/// Opens, edits, and encrypts again.
pub(super) fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let file = &args.file;
    let recipients = args.recipients.find(file)?;
    let is_new = file.symlink_metadata().is_err();
    let (before, armour) = if is_new {
        (Plain::default(), true)
    } else {
        let (plain, kind) = opened(file, &args.identity.required()?)?;
        if kind != Kind::Age {
            let message = format!("{} is encrypted with {}, not with age", file.display(), kind.name());
            return Err(Failure::failed("secrets.unsupported", message, "use `sops edit` on it"));
        }
        (plain, age::is_armoured(&read(file)?))
    };
    let scratch = Scratch::new(file, &before)?;
    runtime()?.block_on(edited(&scratch.file))?;
    let after = read(&scratch.file)?;
    let changed = *after != *before;
    if changed {
        let content = sealed(&after, &recipients, armour)?;
        if is_new { files::write_new(file, &content, 0o644)? } else { files::replace(file, &content)? }
    }
    let recipients = recipients.iter().map(ToString::to_string).collect();
    out.answer(&Written { schema: SCHEMA, path: file, changed, recipients }, |written| {
        let what = if written.changed { "wrote" } else { "nothing changed, nothing was written:" };
        format!("{what} {}\n", written.path.display())
    });
    Ok(Exit::Fine)
}

/// Runs the editor to its end. What the terminal sends meanwhile is for the editor.
async fn edited(file: &Path) -> Result<(), Failure> {
    let failed = |why: String| {
        Failure::failed("secrets.editor", format!("the editor {why}; nothing was written"), "set EDITOR to another one")
    };
    let chosen = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = chosen("VISUAL").or_else(|| chosen("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let mut words = editor.split_whitespace();
    let mut command = tokio::process::Command::new(words.next().unwrap_or("vi"));
    command.args(words).arg(file);
    let kinds = [SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate(), SignalKind::hangup()];
    let _deaf: Vec<_> = kinds.into_iter().map(signal).collect();
    let status = command.status().await.map_err(|e| failed(format!("{editor:?} cannot be started: {e}")))?;
    if status.success() { Ok(()) } else { Err(failed(format!("{editor:?} failed ({status})"))) }
}

/// A folder in memory with the plain text in it, which goes with this value.
struct Scratch {
    folder: tempfile::TempDir,
    file: PathBuf,
}

impl Scratch {
    fn new(file: &Path, plain: &[u8]) -> Result<Self, Failure> {
        let name = file.file_stem().unwrap_or("secrets".as_ref());
        let failed = |e: std::io::Error| {
            Failure::failed("secrets.memory", format!("cannot keep plain text in memory: {e}"), "look at /dev/shm")
        };
        let places = [env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from), Some("/dev/shm".into()), Some("/run".into())];
        let place = places.into_iter().flatten().find(|place| is_in_memory(place)).ok_or_else(|| {
            let message = "there is no tmpfs to keep the plain text in while the editor has it";
            Failure::failed("secrets.memory", message, "mount one at /dev/shm")
        })?;
        let mut made = fs::DirBuilder::new();
        made.mode(0o700);
        let folder = tempfile::Builder::new().prefix("evenkeel-").tempdir_in(place).map_err(failed)?;
        let inner = folder.path().join("plain");
        made.create(&inner).map_err(failed)?;
        let file = inner.join(name);
        let opened = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file);
        opened.and_then(|mut opened| opened.write_all(plain)).map_err(failed)?;
        Ok(Self { folder, file })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What an editor leaves beside the file as well: its own copies.
        wipe(self.folder.path());
    }
}

fn wipe(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => wipe(&path),
            Ok(meta) if meta.is_file() => {
                let length = usize::try_from(meta.len()).unwrap_or(0);
                // The folder is removed whatever comes of it, and with it the memory.
                let _ = fs::OpenOptions::new().write(true).open(&path).and_then(|mut f| f.write_all(&vec![0; length]));
            }
            _ => {}
        }
    }
}

/// Whether what is written there stays in memory: `TMPFS_MAGIC` or `RAMFS_MAGIC` of statfs(2).
fn is_in_memory(place: &Path) -> bool {
    rustix::fs::statfs(place).is_ok_and(|found| matches!(found.f_type, 0x0102_1994 | 0x8584_58f6))
        && rustix::fs::access(place, rustix::fs::Access::WRITE_OK).is_ok()
}
