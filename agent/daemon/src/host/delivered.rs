//! Files of `secrets:` and `configs:` that are encrypted in Git.
//!
//! Compose would mount their path, so their plain text would have to lie on the host for as long as the container lives. Instead
//! it becomes the value of a variable (`environment:` in the model), which Compose copies into each container that it makes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use evenkeel_core::{
    model::{Model, Service},
    path::{below, is_within},
    slice,
};
use evenkeel_layout::{problem::Problem, tree::Tree};

use super::encrypted::{Encrypted, Opened};
use crate::secrets;

/// Largest plain text of one file, in bytes: Linux passes a process no longer variable than 128 KiB.
const MAX_FILE_BYTES: usize = 120 * 1024;
/// Most that all of one stack may come to, in bytes: what a process is handed has a limit too.
const MAX_STACK_BYTES: usize = 1024 * 1024;

/// A model whose encrypted files have become variables.
pub struct Delivered {
    /// The model.
    pub model: Model,
    /// The variables.
    pub values: BTreeMap<String, String>,
    /// The encrypted files, which stay in the live tree for people.
    pub files: BTreeSet<String>,
    /// Whether one of them is of `configs:`.
    pub configs: bool,
    /// What is wrong with them, or with the services that use them.
    pub problems: Vec<Problem>,
}

/// Opens the encrypted files of a model. `target` is where it has the repository's root.
pub fn deliver(model: &Model, tree: &dyn Tree, target: &str, encrypted: &Encrypted) -> Delivered {
    let (values, files, problems) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    let mut out = Delivered { model: model.clone(), values, files, configs: false, problems };
    for section in ["configs", "secrets"] {
        for (key, definition) in model.section(section) {
            let Some(path) = definition["file"].as_str().and_then(|file| below(target, file)) else { continue };
            // A tree that cannot be read is told of when the slice is.
            let Some((content, _)) = slice::content(tree, path).ok().flatten() else { continue };
            let Some(opened) = encrypted.file(path, &content) else { continue };
            let variable = variable(section, key);
            out.model = out.model.handed(section, key, &variable);
            out.files.insert(path.to_owned());
            out.configs |= section == "configs";
            out.problems.extend(unseen(model, section, key));
            match opened {
                Opened::Plain(plain) => match text(&plain) {
                    Ok(text) => _ = out.values.insert(variable, text),
                    Err(problem) => out.problems.push(problem.at(path, None)),
                },
                Opened::Sealed(problem) => {
                    out.values.insert(variable, secrets::mark(&content));
                    out.problems.push(*problem);
                }
                Opened::Failed(problem) => out.problems.push(*problem),
            }
        }
    }
    if out.values.values().map(String::len).sum::<usize>() > MAX_STACK_BYTES {
        let message = "the encrypted files of secrets and configs hold more than 1 MiB together";
        let first = out.files.first().cloned().unwrap_or_default();
        out.problems.push(Problem::error("secrets.content", message, TOO_LARGE).at(first, None));
    }
    out
}

const TOO_LARGE: &str = "keep only what is secret in them, and the rest in a file that is not encrypted";

/// The variable that stands for a file. No two keys have the same.
fn variable(section: &str, key: &str) -> String {
    let mut name = format!("EVENKEEL_{section}_");
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() {
            name.push(char::from(byte));
        } else {
            let _ = write!(name, "_{byte:02x}");
        }
    }
    name
}

fn text(plain: &[u8]) -> Result<String, Box<Problem>> {
    let refused = |message: &str, help: &str| Err(Box::new(Problem::error("secrets.content", message, help)));
    if plain.len() > MAX_FILE_BYTES {
        return refused("the file holds more than 120 KiB, which is more than can be handed to a container", TOO_LARGE);
    }
    match std::str::from_utf8(plain) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => refused(
            "the file holds bytes that are no text, which cannot be handed to a container",
            "encrypt it in a text form (PEM, Base64) that the service takes, or keep it on the server and bind-mount it",
        ),
    }
}

/// Why what a service uses would not reach it: Compose copies it into the container's own file system, before the container
/// starts.
fn unseen(model: &Model, section: &str, key: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    for (name, service) in model.services() {
        for target in targets(service, section, key) {
            let place = format!("services.{name}.{section}");
            if service.value()["read_only"].as_bool() == Some(true) {
                let message = format!(
                    "{place} has {key}, which is encrypted in Git, and nothing can be copied into a container that is read_only"
                );
                let help = "take `read_only:` away, or hand the value over in an encrypted env_file";
                found.push(Problem::error("secrets.undeliverable", message, help));
            } else if let Some(mount) = mounts(service).into_iter().find(|mount| is_within(&target, mount)) {
                let message = format!(
                    "{place} has {key}, which is encrypted in Git and is copied to {target}, where {mount} is mounted over it"
                );
                let help = "give it a `target:` outside of that mount";
                found.push(Problem::error("secrets.undeliverable", message, help));
            }
        }
    }
    found
}

/// Where a service has a secret or config.
fn targets(service: Service<'_>, section: &str, key: &str) -> Vec<String> {
    let uses = service.value()[section].as_array().into_iter().flatten();
    let of_key = uses.filter(|item| item["source"].as_str().or_else(|| item.as_str()) == Some(key));
    let folder = if section == "secrets" { "/run/secrets" } else { "" };
    let target = |item: &serde_json::Value| match item["target"].as_str() {
        Some(target) if target.starts_with('/') => target.to_owned(),
        Some(target) => format!("{folder}/{target}"),
        None => format!("{folder}/{key}"),
    };
    of_key.map(target).collect()
}

/// Where a service has something mounted.
fn mounts(service: Service<'_>) -> Vec<String> {
    let value = service.value();
    let volumes = value["volumes"].as_array().into_iter().flatten().filter_map(|volume| volume["target"].as_str());
    let one = value["tmpfs"].as_str().into_iter();
    let several = value["tmpfs"].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
    let tmpfs = one.chain(several).map(|text| text.split(':').next().unwrap_or(text));
    volumes.chain(tmpfs).map(|path| path.trim_end_matches('/').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, path::Path};

    use evenkeel_layout::{
        set::{LayoutKind, StackSet},
        tree::MapTree,
    };

    use super::*;
    use crate::{
        host::{candidates::Place, encrypted::Source},
        secrets::{age, age::Keys},
    };

    const PLAIN: &str = "first line\n$NOT_A_VARIABLE \"quoted\"\n";

    fn world(plain: &[u8]) -> (tempfile::TempDir, MapTree) {
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::generate();
        let file = folder.path().join("key");
        std::fs::write(&file, keys.text().as_bytes()).unwrap();
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let content = age::encrypt(plain, &keys.recipients(), true).unwrap().unwrap();
        (folder, MapTree::new([("web/x.age", content), ("web/plain", b"plain".to_vec())]))
    }

    fn found(service: &str, plain: &[u8], key: Option<&Path>) -> Delivered {
        let (folder, tree) = world(plain);
        let own = folder.path().join("key");
        let model = format!(
            r#"{{"services":{{"a":{service},"b":{{}}}},"secrets":{{"s-1":{{"name":"p_s","file":"/live/web/x.age"}},"p":{{"file":"/live/web/plain"}}}},"configs":{{"s-1":{{"file":"/live/web/x.age"}}}}}}"#
        );
        let set = StackSet { layout: LayoutKind::Stacks, stacks: Vec::new(), problems: Vec::new() };
        let encrypted = Encrypted::open(Source {
            tree: &tree,
            set: &set,
            root: folder.path(),
            identities: Some(key.unwrap_or(own.as_path())).filter(|path| path.exists()),
            place: Place::Elsewhere,
        });
        deliver(&Model::parse(&model).unwrap(), &tree, "/live", &encrypted)
    }

    const USES: &str =
        r#"{"secrets":[{"source":"s-1"},{"source":"p"}],"configs":[{"source":"s-1","target":"/etc/x"}]}"#;

    #[test]
    fn an_encrypted_file_becomes_a_variable_and_any_other_stays_a_file() {
        let found = found(USES, PLAIN.as_bytes(), None);
        assert_eq!(found.problems, []);
        assert_eq!(
            (found.model.value()["secrets"].to_string(), found.model.value()["configs"].to_string()),
            (
                r#"{"p":{"file":"/live/web/plain"},"s-1":{"environment":"EVENKEEL_secrets_s_2d1","name":"p_s"}}"#
                    .to_owned(),
                r#"{"s-1":{"environment":"EVENKEEL_configs_s_2d1"}}"#.to_owned()
            )
        );
        let values: Vec<(&str, &str)> = found.values.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(values, [("EVENKEEL_configs_s_2d1", PLAIN), ("EVENKEEL_secrets_s_2d1", PLAIN)]);
        assert_eq!((found.files.into_iter().collect::<Vec<_>>(), found.configs), (vec!["web/x.age".to_owned()], true));
    }

    #[test]
    fn without_a_key_a_change_of_the_ciphertext_is_seen() {
        let nowhere = Path::new("/nowhere");
        let (one, other) = (found(USES, b"one", Some(nowhere)), found(USES, b"other", Some(nowhere)));
        assert_eq!(one.problems.iter().map(|p| p.code.as_str()).collect::<Vec<_>>(), ["secrets.no-key"; 2]);
        assert_ne!(one.values, other.values);
    }

    #[test]
    fn what_no_container_could_see_is_refused() {
        let codes = |service: &str, plain: &[u8]| {
            let found = found(service, plain, None);
            found.problems.into_iter().map(|p| (p.code, p.message)).collect::<Vec<_>>()
        };
        let refused = |service: &str| {
            let found = codes(service, b"x").into_iter().map(|(code, message)| [code, message].join(" "));
            found.collect::<Vec<_>>().join("\n")
        };
        insta::assert_snapshot!([
                refused(r#"{"read_only":true,"secrets":[{"source":"s-1"}]}"#),
                refused(r#"{"tmpfs":["/run:size=1m"],"secrets":["s-1"]}"#),
                refused(r#"{"volumes":[{"type":"volume","source":"d","target":"/etc/"}],"configs":[{"source":"s-1","target":"/etc/x"}]}"#),
            ]
            .join("\n"));
        assert_eq!(
            refused(
                r#"{"tmpfs":["/running"],"volumes":[{"type":"bind","target":"/run/secrets/s"}],"secrets":["s-1"]}"#
            ),
            ""
        );
        assert_eq!(refused(r#"{"read_only":true,"secrets":["p"]}"#), "");
        for plain in [&b"a\0b"[..], b"\xff\xfe", &vec![b'x'; MAX_FILE_BYTES + 1]] {
            let codes: Vec<String> = codes(USES, plain).into_iter().map(|(code, _)| code).collect();
            assert_eq!(codes, ["secrets.content"; 2]);
        }
    }
}
