//! What a rendered stack may not do, whatever Compose makes of it, and what a policy says of it.

pub mod catalogue;
pub mod exceptions;
mod facts;
mod images;
mod secrets;
mod server;
mod services;
mod source;

use std::collections::BTreeSet;

use evenkeel_layout::problem::Problem;

use crate::{
    model::Model,
    path::{Place, below, is_within, resolve},
    probe, quiesce,
    references::Reference,
    update,
};

const HELP: &str = "keep the file in the repository, or bind-mount it; or allow the host's path on the server, with engine.allow_host_paths";

pub use facts::StackFacts;
pub use source::Sources;

/// What the policy of every repository finds in the stacks of one server. `complete` says that these are all stacks of the server.
pub fn policy(stacks: &[StackFacts<'_>], complete: bool) -> Vec<Problem> {
    let mut found: Vec<Problem> = stacks.iter().flat_map(services::findings).collect();
    found.extend(server::findings(stacks, complete));
    found.sort();
    found.dedup();
    found
}

/// What no server deploys. Everything that Compose reads must be in the repository: what a commit's signature covers is what is deployed. Bind mounts
/// may name any path of the host, the rest those below a path of `allowed`. `root` is where the model has the repository's root.
pub fn check(model: &Model, root: &str, references: &BTreeSet<Reference>, allowed: &[String]) -> Vec<Problem> {
    let allows = |path: &str| allowed.iter().any(|folder| is_plain(path) && below(folder, path).is_some());
    let below =
        |root: &str, path: &str| if allows(path) { Some(String::new()) } else { below(root, path).map(str::to_owned) };
    let leaves = |path: &str, root: &str| path.starts_with('/') && below(root, path).is_none();
    let mut problems = probe::problems(model);
    problems.extend(quiesce::problems(model));
    problems.extend(update::problems(model));
    problems.extend(references.iter().filter(|r| r.outside && !allows(&r.written)).map(outside));
    for section in ["configs", "secrets"] {
        for (name, value) in model.section(section) {
            if value["file"].as_str().is_some_and(|file| below(root, file).is_none()) {
                problems.push(refused(&format!("{section}.{name}.file")));
            }
        }
    }
    for (name, service) in model.services() {
        let Some(build) = service.build() else { continue };
        let context = build["context"].as_str().unwrap_or_default();
        if leaves(context, root) {
            problems.push(refused(&format!("services.{name}.build.context")));
        } else if let (Some(dir), Some(file)) = (below(root, context), build["dockerfile"].as_str())
            && resolve(&dir, file) == Place::Outside
            && below(root, file).is_none()
        {
            problems.push(refused(&format!("services.{name}.build.dockerfile")));
        }
        for (key, path) in build["additional_contexts"].as_object().into_iter().flatten() {
            if path.as_str().is_some_and(|path| leaves(path, root)) {
                problems.push(refused(&format!("services.{name}.build.additional_contexts.{key}")));
            }
        }
    }
    problems
}

/// Signals that nobody will ever get: a service that asks for one on a change of files of which it mounts none.
pub fn reloads(model: &Model, root: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    for (name, service) in model.services() {
        let Some(reload) = model.reload(name) else { continue };
        let contents = ["configs", "secrets"].into_iter().flat_map(|section| {
            let all = model.section(section);
            let files = service.uses(section).into_iter().filter_map(move |key| all.get(key)?["file"].as_str());
            files.collect::<Vec<_>>()
        });
        let binds = service.binds().into_iter().map(|(source, _)| source);
        let all = binds.chain(contents).chain(model.watched());
        let mounted: BTreeSet<&str> = all.filter_map(|file| below(root, file)).collect();
        let is_mounted = |path: &str| mounted.iter().any(|m| is_within(path, m) || is_within(m, path));
        let place = format!("services.{name}.x-evenkeel.reload");
        let help = "mount the file, or correct the path; a changed variable always makes a container anew";
        for path in reload.on.iter().filter_map(|path| below(root, path)).filter(|path| !is_mounted(path)) {
            let message = format!("{place}.on names {path}, which {name} does not mount");
            found.push(Problem::warning("reload.unused", message, help));
        }
        if mounted.is_empty() && reload.on.is_empty() {
            let message = format!("{place} is for files, and {name} mounts none of the repository");
            found.push(Problem::warning("reload.unused", message, help));
        }
    }
    found
}

/// An absolute path that leads where it seems to.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && path.split('/').all(|part| part != "." && part != "..")
}

fn outside(reference: &Reference) -> Problem {
    let message = format!("{} {:?} leads out of the repository", reference.kind.key(), reference.written);
    Problem::error("path.outside", message, HELP).at(reference.file.clone(), reference.line)
}

fn refused(place: &str) -> Problem {
    Problem::error("path.outside", format!("{place} leads out of the repository"), HELP)
}

/// Whether a text is the output of an encryption tool where a value or a file in plain text is expected.
pub fn is_ciphertext(text: &str) -> bool {
    let text = text.trim().trim_matches(['"', '\'']);
    text.starts_with("ENC[AES256_GCM,")
        || text.starts_with("-----BEGIN AGE ENCRYPTED FILE-----")
        || text.starts_with("age-encryption.org/v1")
        || text.starts_with("Salted__")
        || text.starts_with("U2FsdGVkX1")
        || text.starts_with("$ANSIBLE_VAULT;")
}

/// The first line of an environment file that holds ciphertext, from 1.
pub fn ciphertext_line(content: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(content);
    let found = text.lines().position(|line| {
        let value = line.split_once('=').map_or(line, |(_, value)| value);
        is_ciphertext(line) || is_ciphertext(value)
    });
    found.and_then(|index| u32::try_from(index + 1).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_leads_out_of_the_repository_but_for_bind_mounts() {
        let model = Model::parse(
            r#"{"services":{"a":{"build":{"context":"/r/a","dockerfile":"../../x"},"volumes":[{"type":"bind","source":"/etc"}]},
                "b":{"build":{"context":"/other"}},"c":{"build":{"context":"https://example.org/x.git"}}},
                "configs":{"ok":{"file":"/r/c"},"no":{"file":"/etc/x"}}}"#,
        )
        .unwrap();
        let messages: Vec<_> = check(&model, "/r", &BTreeSet::new(), &[]).into_iter().map(|p| p.message).collect();
        assert_eq!(
            messages,
            [
                "configs.no.file leads out of the repository",
                "services.a.build.dockerfile leads out of the repository",
                "services.b.build.context leads out of the repository"
            ]
        );
    }

    #[test]
    fn what_the_operator_allows_may_be_read() {
        let model = Model::parse(
            r#"{"services":{"b":{"build":{"context":"/opt/src"}}},
                "secrets":{"a":{"file":"/etc/keys/a"},"b":{"file":"/etc/keys/../shadow"},"c":{"file":"/etc/keys2/a"}}}"#,
        )
        .unwrap();
        let allowed = ["/etc/keys".to_owned(), "/opt/src".to_owned()];
        let messages: Vec<_> = check(&model, "/r", &BTreeSet::new(), &allowed).into_iter().map(|p| p.message).collect();
        assert_eq!(
            messages,
            ["secrets.b.file leads out of the repository", "secrets.c.file leads out of the repository"]
        );
    }

    #[test]
    fn a_signal_for_files_that_a_service_does_not_mount_is_told_of() {
        let model = Model::parse(
            r#"{"services":{"a":{"volumes":[{"type":"bind","source":"/r/web/conf"}],"secrets":[{"source":"s"}]},"b":{}},
                "secrets":{"s":{"file":"/r/web/key"}},
                "x-evenkeel-reload":{"a":{"signal":"SIGHUP","on":["/r/web/conf/x","/r/web","/r/web/key","/r/other"]},
                                     "b":{"signal":"SIGHUP","on":[]}}}"#,
        )
        .unwrap();
        let messages: Vec<_> = reloads(&model, "/r").into_iter().map(|p| p.message).collect();
        assert_eq!(
            messages,
            [
                "services.a.x-evenkeel.reload.on names other, which a does not mount",
                "services.b.x-evenkeel.reload is for files, and b mounts none of the repository"
            ]
        );
    }

    #[test]
    fn knows_ciphertext_from_values() {
        assert_eq!(ciphertext_line(b"A=1\nB=ENC[AES256_GCM,data:x]\n"), Some(2));
        assert_eq!(ciphertext_line(b"A=1\nB='U2FsdGVkX19abc'\n"), Some(2));
        assert_eq!(ciphertext_line(b"Salted__\x00\xff"), Some(1));
        assert_eq!(ciphertext_line(b"# Salted__ is not plain\nA=ENC\n"), None);
    }
}
