//! Gives the program `EVENKEEL_BUILD`: a number of the sources that it is made from, the same wherever they are compiled.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
};

/// What decides how a stack is rendered, seen from this crate's folder.
const SOURCES: [&str; 4] = ["src", "../core/src", "../../repo-layout/src", "../../Cargo.lock"];

fn main() -> io::Result<()> {
    let here = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    env::var("CARGO_PKG_VERSION").unwrap_or_default().hash(&mut hasher);
    for source in SOURCES {
        let path = here.join(source);
        println!("cargo::rerun-if-changed={}", path.display());
        // A package of this crate alone has no lock file above it.
        if path.exists() {
            source.hash(&mut hasher);
            add(&path, &mut hasher)?;
        }
    }
    println!("cargo::rustc-env=EVENKEEL_BUILD={:016x}", hasher.finish());
    Ok(())
}

/// Adds a file, or every file of a folder in the order of their names.
fn add(path: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    if path.is_dir() {
        let mut entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            entry.file_name().hash(hasher);
            add(&entry.path(), hasher)?;
        }
        return Ok(());
    }
    fs::read(path)?.hash(hasher);
    Ok(())
}
