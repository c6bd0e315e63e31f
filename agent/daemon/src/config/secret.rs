//! Files on which security rests: secrets, and the lists of keys that are trusted.

use std::{
    env, fs, io,
    io::Read as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use secrecy::SecretString;

/// Largest secret that is read, in bytes. Tokens, passwords and URLs are far below it.
const MAX_BYTES: u64 = 64 * 1024;

/// Where systemd puts the credentials of a unit (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// A secret could not be had. No message holds any of its content.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is not there, or may not be read.
    #[error("cannot read {path}: {source}; {help}", path = path.display(), help = self.help())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a directory, a pipe or a device.
    #[error("{path} is not a regular file; {help}", path = path.display(), help = self.help())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It is no folder.
    #[error("{path} is not a folder; {help}", path = path.display(), help = self.help())]
    NotAFolder {
        /// Where a folder should be.
        path: PathBuf,
    },
    /// Others than its owner can read or write it.
    #[error("{path} has mode {mode:04o}, so others can {what} it; {help}", path = path.display(), help = self.help())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// `read` or `change`.
        what: &'static str,
        /// The `chmod` that puts it right.
        wanted: &'static str,
    },
    /// Too large for a secret.
    #[error("{path} is larger than 64 KiB; {help}", path = path.display(), help = self.help())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Nothing in it, or nothing but line ends.
    #[error("{path} is empty; {help}", path = path.display(), help = self.help())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Not UTF-8, or several lines.
    #[error("{path} does not hold one line of text; {help}", path = path.display(), help = self.help())]
    NotOneLine {
        /// The file.
        path: PathBuf,
    },
    /// `credential:NAME` without systemd, or with a name that is none.
    #[error("there is no systemd credential {name:?}; {help}", help = self.help())]
    NoCredential {
        /// The name that was asked for.
        name: String,
    },
}

impl SecretError {
    /// What happened, without the remedy.
    pub(super) fn what(&self) -> String {
        let text = self.to_string();
        text.strip_suffix(&format!("; {}", self.help())).map_or_else(|| text.clone(), str::to_owned)
    }

    /// The next thing to do.
    pub fn help(&self) -> String {
        match self {
            Self::Unreadable { path, source } if source.kind() == io::ErrorKind::NotFound => {
                format!("create it, or correct the path: {}", path.display())
            }
            Self::Unreadable { .. } => "let the agent's user read it".to_owned(),
            Self::NotAFile { .. } | Self::TooLarge { .. } => "name the file itself".to_owned(),
            Self::NotAFolder { .. } => "name the folder that holds the files".to_owned(),
            Self::Exposed { path, wanted, .. } => format!("run: chmod {wanted} {}", path.display()),
            Self::Empty { .. } => "write it into the file, on one line".to_owned(),
            Self::NotOneLine { .. } => "write it as one line of text".to_owned(),
            Self::NoCredential { name } => {
                format!("add LoadCredential={name}:/path/of/the/file to the agent's unit, or name a file")
            }
        }
    }
}

/// Reads a secret of one line, without the line end.
///
/// The file may be a symlink, must be regular, at most 64 KiB, and private to its owner. `credential:NAME` is the
/// systemd credential of that name.
pub fn read_secret(path: &Path) -> Result<SecretString, SecretError> {
    let path = &resolve(path, credentials_directory().as_deref())?;
    let file = open_private(path)?;
    let mut text = String::new();
    match file.take(MAX_BYTES).read_to_string(&mut text) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(SecretError::NotOneLine { path: path.clone() }),
        Err(source) => Err(SecretError::Unreadable { path: path.clone(), source }),
        Ok(_) => {
            let line = text.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                Err(SecretError::Empty { path: path.clone() })
            } else if line.contains(['\n', '\r', '\0']) {
                Err(SecretError::NotOneLine { path: path.clone() })
            } else {
                Ok(SecretString::from(line))
            }
        }
    }
}

/// Reads a secret of several lines, such as a file of keys: like [`read_secret`], but with any line ends in it.
pub fn read_secret_text(path: &Path) -> Result<SecretString, SecretError> {
    let path = &resolve(path, credentials_directory().as_deref())?;
    let mut text = String::new();
    open_private(path)?
        .take(MAX_BYTES)
        .read_to_string(&mut text)
        .map_err(|source| SecretError::Unreadable { path: path.clone(), source })?;
    Ok(SecretString::from(text))
}

/// Opens a secret file after the checks of [`read_secret`] that need no content. Files of several lines pass.
pub(super) fn open_private(path: &Path) -> Result<fs::File, SecretError> {
    let (file, mode) = open_regular(path)?;
    // systemd gives a unit's user access by an ACL, whose mask shows as the group's bits.
    let of_systemd = credentials_directory().is_some_and(|directory| path.starts_with(directory));
    let forbidden = if of_systemd { 0o007 } else { 0o077 };
    if mode & forbidden != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode, what: "read", wanted: "600" });
    }
    Ok(file)
}

/// Checks a file that need not be secret but must not be changed by others: lists of keys.
pub(super) fn check_guarded(path: &Path) -> Result<(), SecretError> {
    let (_, mode) = open_regular(path)?;
    if mode & 0o022 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode, what: "change", wanted: "644" });
    }
    Ok(())
}

/// As [`check_guarded`], of a folder. What lies in it is checked when it is read.
pub(super) fn check_guarded_folder(path: &Path) -> Result<(), SecretError> {
    let metadata = fs::metadata(path).map_err(|source| SecretError::Unreadable { path: path.to_owned(), source })?;
    if !metadata.is_dir() {
        return Err(SecretError::NotAFolder { path: path.to_owned() });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode, what: "change", wanted: "755" });
    }
    Ok(())
}

/// Checks that a file of whatever size cannot be changed by others.
pub(super) fn check_unwritable(path: &Path) -> Result<(), SecretError> {
    let metadata = fs::metadata(path).map_err(|source| SecretError::Unreadable { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode, what: "change", wanted: "644" });
    }
    Ok(())
}

/// Checks that a file is there, regular and readable, whatever its size.
pub(super) fn check_readable(path: &Path) -> Result<(), SecretError> {
    match open_regular(path) {
        Err(SecretError::TooLarge { .. }) | Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

fn open_regular(path: &Path) -> Result<(fs::File, u32), SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    // Without O_NONBLOCK, opening a pipe would wait for a writer for ever.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(SecretError::NotAFile { path: path.to_owned() });
    }
    if metadata.len() > MAX_BYTES {
        return Err(SecretError::TooLarge { path: path.to_owned() });
    }
    Ok((file, metadata.permissions().mode() & 0o777))
}

/// The file behind `credential:NAME`; any other path stays as it is.
pub(super) fn resolve(path: &Path, credentials: Option<&Path>) -> Result<PathBuf, SecretError> {
    let Some(name) = path.to_str().and_then(|text| text.strip_prefix("credential:")) else {
        return Ok(path.to_owned());
    };
    let usable = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
    match credentials {
        Some(directory) if usable => Ok(directory.join(name)),
        _ => Err(SecretError::NoCredential { name: name.chars().take(80).collect() }),
    }
}

pub(super) fn credentials_directory() -> Option<PathBuf> {
    env::var_os(CREDENTIALS_DIRECTORY).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn reads_one_line_without_its_end() {
        let (_folder, path) = file(b"hunter2 \r\n", 0o600);
        assert_eq!(read_secret(&path).unwrap().expose_secret(), "hunter2 ");
    }

    #[test]
    fn refuses_a_secret_that_others_can_read() {
        for mode in [0o640, 0o604, 0o660] {
            let (_folder, path) = file(b"hunter2", mode);
            let error = read_secret(&path).unwrap_err().to_string();
            assert!(error.contains("run: chmod 600") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn refuses_what_is_no_line_of_text() {
        for content in [&b""[..], b"\n\n", b"a\nb\n", b"\xff", b"a\0b"] {
            let (_folder, path) = file(content, 0o600);
            assert!(read_secret(&path).is_err(), "{content:?}");
        }
        let (_folder, path) = file(&vec![b'x'; 65 * 1024], 0o600);
        assert!(matches!(read_secret(&path), Err(SecretError::TooLarge { .. })));
        assert!(matches!(read_secret(Path::new("/dev/zero")), Err(SecretError::NotAFile { .. })));
        assert!(read_secret(Path::new("/nowhere/at/all")).unwrap_err().to_string().contains("create it"));
    }

    #[test]
    fn a_credential_is_a_file_in_systemds_folder() {
        let at = |text: &str, folder: Option<&str>| resolve(Path::new(text), folder.map(Path::new)).ok();
        assert_eq!(at("credential:token", Some("/run/c")), Some("/run/c/token".into()));
        assert_eq!(at("/etc/token", None), Some("/etc/token".into()));
        for (text, folder) in [("credential:token", None), ("credential:../x", Some("/c")), ("credential:", Some("/c"))]
        {
            assert_eq!(at(text, folder), None, "{text}");
        }
    }

    #[test]
    fn a_list_of_keys_must_not_be_writable_by_others() {
        let (_folder, path) = file(b"x", 0o664);
        assert!(check_guarded(&path).unwrap_err().to_string().ends_with(&format!("chmod 644 {}", path.display())));
        let (_folder, path) = file(b"x", 0o644);
        assert!(check_guarded(&path).is_ok());
    }
}
