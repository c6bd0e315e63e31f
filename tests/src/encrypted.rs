//! Secrets in a world: a key as a person makes it, files that are encrypted for it, and that nobody else has them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{program::Run, world::World};

/// What nobody but the containers may see.
pub const SECRET: &str = "hunter2-Correct-Horse-Battery";
/// What comes after it.
pub const ROTATED: &str = "hunter3-Correct-Horse-Staple";
/// What the stacks of these tests are not well with.
pub const BAD: &str = "unfit-Correct-Horse-Staple";

/// Runs a verb that needs no configuration, agent or engine.
#[track_caller]
pub fn offline(world: &World, args: &[&str]) -> Run {
    Run::of(world.command(args).env("DOCKER_HOST", "unix:///nowhere.sock"))
}

/// Makes a key as a person does, names it in `agent.yml`, and returns its public key.
#[track_caller]
pub fn with_key(world: &mut World, name: &str) -> String {
    let file = world.server().join(name);
    let recipient = offline(world, &["secrets", "key", &file.to_string_lossy()]).ok();
    assert_eq!(mode(&file), 0o600);
    world.config.set("secrets", &format!("{{ age_identities: {} }}", file.display()));
    recipient
}

/// The permissions of a file.
#[track_caller]
pub fn mode(path: &Path) -> u32 {
    let meta = fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    meta.permissions().mode() & 0o777
}

/// Encrypts with the real program.
#[track_caller]
pub fn age(recipient: &str, plain: &str) -> String {
    Run::with_input(Command::new("age").args(["-a", "-r", recipient]), plain.as_bytes()).ok() + "\n"
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&path)),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
    found
}

/// No file of the world has one of the secrets but those that only root may read, and nothing that was said has it.
#[track_caller]
pub fn nothing_leaks(world: &World, secrets: &[&str]) {
    for secret in secrets {
        for file in files(world.folder()) {
            let has = fs::read(&file).is_ok_and(|bytes| bytes.windows(secret.len()).any(|w| w == secret.as_bytes()));
            let kept = file.starts_with(world.server().join("state")) && mode(&file) == 0o600;
            assert!(!has || kept, "{} has the secret", file.display());
        }
        let verbs: [&[&str]; 3] = [&["status", "--format", "json"], &["history", "--format", "json"], &["history"]];
        let said: String = verbs.iter().map(|verb| world.evenkeel(verb).said()).collect();
        assert!(!said.contains(secret) && !world.logged().contains(secret), "a secret was said");
    }
}
