//! A stack's Compose project, by Compose's own rules.

use crate::{
    compose::ComposeFile,
    env::{Env, interpolate},
};

/// What is known of a project's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Project {
    /// Its name.
    Known(String),
    /// A text with variables that the repository's env files do not set.
    Literal(String),
    /// Named after the folder that the repository lies in, which a commit does not know.
    Checkout,
    /// A file that may name it could not be read.
    Unread,
    /// No usable name can come of it; why, and the line in the last layer that says so.
    Bad { why: String, line: Option<u32> },
}

impl Project {
    /// For a message; `None` if it is not one that stacks could share.
    pub fn shown(&self) -> Option<String> {
        match self {
            Self::Known(text) | Self::Literal(text) => Some(format!("{text:?}")),
            Self::Checkout => Some("that of the repository's folder".to_owned()),
            Self::Unread | Self::Bad { .. } => None,
        }
    }
}

/// The variable that names the project, over the files' own `name`.
pub(crate) const VARIABLE: &str = "COMPOSE_PROJECT_NAME";

/// The project of layers, lowest first, in `folder` (its last part; empty at the root).
///
/// In Compose's order (seen with 2.26): `COMPOSE_PROJECT_NAME` of the folder's `.env` (`own`), which must be a good name
/// as it is; `name:` of the last layer that has one (variables from `env`), normalised; the folder's name, normalised.
pub(crate) fn of(layers: &[ComposeFile], folder: &str, own: &Env, env: &Env) -> Project {
    if let Some(name) = own.get(VARIABLE).filter(|n| !n.is_empty()) {
        return exact(name.clone(), None);
    }
    let named = |file: &ComposeFile| file.name.clone().filter(|(name, _)| !name.is_empty());
    if let Some((text, line)) = layers.iter().rev().find_map(named) {
        let Some(name) = interpolate(&text, env) else { return Project::Literal(text) };
        let why = || format!("no project name can be made of {:?}", name.chars().take(80).collect::<String>());
        return match normalised(&name) {
            name if name.is_empty() => Project::Bad { why: why(), line },
            name => Project::Known(name),
        };
    }
    match normalised(folder) {
        _ if folder.is_empty() => Project::Checkout,
        name if name.is_empty() => {
            Project::Bad { why: format!("no project name can be made of the folder's name, {folder:?}"), line: None }
        }
        name => Project::Known(name),
    }
}

/// A project that something besides the files states (`deployAs`).
pub(crate) fn stated(name: &str) -> Project {
    exact(name.to_owned(), None)
}

/// A name from the environment, which Compose does not normalise but refuses.
fn exact(name: String, line: Option<u32>) -> Project {
    if normalised(&name) == name {
        Project::Known(name)
    } else {
        let shown: String = name.chars().take(80).collect();
        Project::Bad { why: format!("the project name {shown:?} is refused by Compose"), line }
    }
}

/// As Compose makes a project's name of any text: lower case, `a-z 0-9 _ -` only, none of `_ -` in front.
fn normalised(folder: &str) -> String {
    let kept: String = folder
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
        .collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_folders_as_compose_does() {
        for (folder, want) in [("Web.Site", "website"), ("_-x_y-", "x_y-"), ("9a", "9a"), ("É b", "b"), ("...", "")] {
            assert_eq!(normalised(folder), want, "{folder}");
        }
    }

    #[test]
    fn the_env_file_wins_over_the_name_and_the_name_over_the_folder() {
        let file = |name: &str| ComposeFile { name: Some((name.to_owned(), Some(1))), ..ComposeFile::default() };
        let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (none, own): (Env, Env) = (Env::new(), env(&[("COMPOSE_PROJECT_NAME", "own")]));
        let known = |name: &str| Project::Known(name.to_owned());
        assert_eq!(of(&[file("named")], "folder", &own, &none), known("own"));
        assert_eq!(of(&[file("low"), file("high"), ComposeFile::default()], "folder", &none, &none), known("high"));
        assert_eq!(of(&[ComposeFile::default()], "Folder", &none, &none), known("folder"));
        assert_eq!(of(&[file("${P}-x")], "f", &none, &env(&[("P", "home")])), known("home-x"));
        assert_eq!(of(&[file("${P}-x")], "f", &none, &none), Project::Literal("${P}-x".to_owned()));
        assert_eq!(of(&[file("-Not OK$$")], "f", &none, &none), known("notok"));
        assert_eq!(of(&[file("")], "f", &none, &none), known("f"));
        for name in ["-", "${E}"] {
            assert!(matches!(of(&[file(name)], "f", &none, &env(&[("E", "")])), Project::Bad { line: Some(1), .. }));
        }
        let upper = env(&[("COMPOSE_PROJECT_NAME", "Upper")]);
        assert!(matches!(of(&[file("x")], "f", &upper, &none), Project::Bad { line: None, .. }));
        assert_eq!(of(&[ComposeFile::default()], "", &none, &none), Project::Checkout);
        assert!(matches!(of(&[ComposeFile::default()], "-_", &none, &none), Project::Bad { line: None, .. }));
    }
}
