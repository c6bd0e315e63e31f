//! `evenkeel secrets`: keys, and files that are encrypted for them by age.

mod edit;
mod files;
mod recipients;

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use evenkeel_core::outcome::Exit;
use serde::Serialize;
use zeroize::Zeroizing;

use super::output::{Failure, Output, SCHEMA};
use crate::secrets::{self, Keys, Kind, MAX_BYTES, Plain, Unreadable, age};
use recipients::RecipientArgs;

/// Make keys, and encrypt, edit and read files that only a server with its key can open.
///
/// Files are in age's format (`age` itself reads them too). `decrypt` also reads what SOPS encrypted for an age key.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel secrets key /etc/evenkeel/age.key     # on the server, once
  evenkeel secrets encrypt secrets.env --to age1…
  evenkeel secrets edit stacks/web/secrets.env.age -i ~/.config/age.key
  evenkeel secrets rekey --all -i ~/.config/age.key

Whom files are for is listed in .evenkeel/recipients, one age1… a line.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Key(KeyArgs),
    Encrypt(EncryptArgs),
    Decrypt(DecryptArgs),
    Edit(edit::Args),
    Rekey(files::RekeyArgs),
}

/// Make a key pair, and print its public key
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel secrets key /etc/evenkeel/age.key
  evenkeel secrets key --show /etc/evenkeel/age.key >> .evenkeel/recipients")]
struct KeyArgs {
    /// The file to make; one that is there stays as it is
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print the public keys of a file that is there
    #[arg(long)]
    show: bool,
}

/// Encrypt a file
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel secrets encrypt stacks/web/secrets.env
  evenkeel secrets encrypt secrets.env --to age1… -R team.txt
  pass show web | evenkeel secrets encrypt - -o secrets.env.age")]
struct EncryptArgs {
    /// The file in plain text; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    recipients: RecipientArgs,
    /// Where to write; default is FILE.age beside it
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace a file that is there
    #[arg(long)]
    force: bool,
    /// Write age's binary form instead of text
    #[arg(long)]
    binary: bool,
}

/// Print a file in plain text
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel secrets decrypt stacks/web/secrets.env.age -i ~/.config/age.key
  evenkeel secrets decrypt secrets.sops.yaml -i age.key   # as NAME=\"value\"")]
struct DecryptArgs {
    /// A file that age or SOPS encrypted
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    identity: IdentityArgs,
}

/// The key to open files with.
#[derive(Debug, Clone, clap::Args)]
pub struct IdentityArgs {
    /// A file of age keys, mode 0600, to open encrypted files with
    #[arg(long, short, value_name = "FILE", env = "EVENKEEL_IDENTITY", hide_env_values = true)]
    identity: Option<PathBuf>,
}

impl IdentityArgs {
    /// The keys, if a file is named.
    pub(super) fn keys(&self) -> Result<Option<Keys>, Failure> {
        self.identity.as_deref().map(Keys::read).transpose().map_err(|e| {
            Failure::usage("secrets.identity", e.to_string(), "name a file of age keys that only you can read")
        })
    }

    /// The file, if one is named; its keys are good.
    pub(super) fn file(&self) -> Result<Option<&Path>, Failure> {
        self.keys().map(|_| self.identity.as_deref())
    }

    fn required(&self) -> Result<Keys, Failure> {
        self.keys()?.ok_or_else(|| {
            let help = "name your key with --identity FILE, or in EVENKEEL_IDENTITY";
            Failure::usage("secrets.no-key", "no key is named to open the file with", help)
        })
    }
}

/// Runs one of the verbs.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    match &args.action {
        Action::Key(args) => key(args, out),
        Action::Encrypt(args) => encrypt(args, out),
        Action::Decrypt(args) => decrypt(args, out),
        Action::Edit(args) => edit::run(args, out),
        Action::Rekey(args) => files::rekey(args, out),
    }
}

#[derive(Serialize)]
struct KeyDocument<'a> {
    schema: u32,
    path: &'a Path,
    recipients: Vec<String>,
}

fn key(args: &KeyArgs, out: &Output) -> Result<Exit, Failure> {
    let keys = if args.show {
        Keys::read(&args.file).map_err(|e| Failure::failed("secrets.identity", e.to_string(), "name a file of keys"))?
    } else {
        let keys = Keys::generate();
        files::write_new(&args.file, keys.text().as_bytes(), 0o600)?;
        out.note(&format!("made {}: keep it on the server, and a copy in a safe place", args.file.display()));
        keys
    };
    let recipients = keys.recipients().iter().map(ToString::to_string).collect();
    out.answer(&KeyDocument { schema: SCHEMA, path: &args.file, recipients }, |document| {
        document.recipients.join("\n") + "\n"
    });
    Ok(Exit::Fine)
}

#[derive(Serialize)]
struct Written<'a> {
    schema: u32,
    path: &'a Path,
    changed: bool,
    recipients: Vec<String>,
}

fn encrypt(args: &EncryptArgs, out: &Output) -> Result<Exit, Failure> {
    let is_stdin = args.file.as_os_str() == "-";
    let output = match (&args.output, is_stdin) {
        (Some(output), _) => output.clone(),
        (None, false) => {
            let mut output = args.file.clone().into_os_string();
            output.push(".age");
            output.into()
        }
        (None, true) => {
            return Err(Failure::usage("usage", "no file is named to write to", "name it with --output"));
        }
    };
    let recipients = args.recipients.find(&output)?;
    let plain = if is_stdin { read_some(&mut std::io::stdin().lock(), &args.file)? } else { read(&args.file)? };
    if let Some(kind) = secrets::recognise(&plain) {
        let message = format!("{} is encrypted with {} already", args.file.display(), kind.name());
        return Err(Failure::failed("secrets.encrypted", message, "see `evenkeel secrets rekey` for other recipients"));
    }
    let content = sealed(&plain, &recipients, !args.binary)?;
    if args.force {
        files::replace(&output, &content)?;
    } else {
        files::write_new(&output, &content, 0o644)?;
    }
    let recipients = recipients.iter().map(ToString::to_string).collect();
    out.answer(&Written { schema: SCHEMA, path: &output, changed: true, recipients }, |written| {
        let whom = super::text::plural(written.recipients.len(), "recipient");
        format!("wrote {} for {whom}\n", written.path.display())
    });
    if !is_stdin {
        out.note(&format!(
            "note: {0} is still there in plain text: keep it out of Git, or delete it",
            args.file.display()
        ));
    }
    Ok(Exit::Fine)
}

fn decrypt(args: &DecryptArgs, out: &Output) -> Result<Exit, Failure> {
    let keys = args.identity.required()?;
    let (plain, _) = opened(&args.file, &keys)?;
    if out.is_json() {
        let content = std::str::from_utf8(&plain).map_err(|_| {
            let message = format!("{} holds bytes that are no text", args.file.display());
            Failure::failed("secrets.content", message, "leave --format away to print it as it is")
        })?;
        out.json(&serde_json::json!({"schema": SCHEMA, "path": args.file, "content": content}));
    } else {
        // As it is: what is piped on must be what was encrypted.
        std::io::stdout().lock().write_all(&plain).map_err(|e| {
            Failure::failed("output.failed", format!("cannot write to standard output: {e}"), "look at the reader")
        })?;
    }
    Ok(Exit::Fine)
}

/// Opens a file, and tells how it was encrypted.
fn opened(file: &Path, keys: &Keys) -> Result<(Plain, Kind), Failure> {
    let content = read(file)?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let kind = secrets::recognise(&content).ok_or_else(|| {
        let message = format!("{} is not encrypted with age or SOPS", file.display());
        Failure::failed("secrets.plain", message, "encrypt it with `evenkeel secrets encrypt`")
    })?;
    let plain = secrets::decrypt_env(&name, &content, Some(keys)).map_err(|e| unreadable(file, &e))?;
    Ok((plain, kind))
}

fn unreadable(file: &Path, error: &Unreadable) -> Failure {
    Failure::failed(error.code(), format!("{} {error}", file.display()), error.help())
}

fn sealed(plain: &[u8], recipients: &[age::Recipient], armour: bool) -> Result<Vec<u8>, Failure> {
    let failed =
        |why: &str| Failure::failed("secrets.encrypt", format!("cannot encrypt: {why}"), "nothing was written");
    let made = age::encrypt(plain, recipients, armour).map_err(|e| failed(&e.to_string()))?;
    made.ok_or_else(|| failed("there is no recipient"))
}

fn read(file: &Path) -> Result<Plain, Failure> {
    let mut opened = std::fs::File::open(file).map_err(|e| unreadable_file(file, &e))?;
    read_some(&mut opened, file)
}

fn read_some(from: &mut dyn std::io::Read, file: &Path) -> Result<Plain, Failure> {
    let mut bytes = Zeroizing::new(Vec::new());
    from.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|e| unreadable_file(file, &e))?;
    if bytes.len() > MAX_BYTES {
        let message = format!("{} is larger than 1 MiB", file.display());
        return Err(Failure::usage("secrets.size", message, "keep large files out of environment files"));
    }
    Ok(bytes)
}

fn unreadable_file(file: &Path, error: &std::io::Error) -> Failure {
    Failure::usage("secrets.file", format!("cannot read {}: {error}", file.display()), "name a file that is there")
}
