//! Where the clone is from which stacks were started.

use std::collections::BTreeMap;

/// A folder that may be the root of the clone from which stacks were started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The folder, absolute.
    pub path: String,
    /// How many stacks were started from their folder in it.
    pub stacks: usize,
}

/// The roots that the folders of running stacks point at, that of the most stacks first. Each stack comes with the folder
/// that it has in the repository (`""` for the root) and those from which its containers were started.
pub fn roots<'a>(started: impl IntoIterator<Item = (&'a str, &'a [String])>) -> Vec<Root> {
    let mut votes: BTreeMap<String, usize> = BTreeMap::new();
    for (directory, folders) in started {
        let mut of_stack: Vec<&str> = folders.iter().filter_map(|folder| root(folder, directory)).collect();
        of_stack.sort_unstable();
        of_stack.dedup();
        for root in of_stack {
            *votes.entry(root.to_owned()).or_default() += 1;
        }
    }
    let mut roots: Vec<Root> = votes.into_iter().map(|(path, stacks)| Root { path, stacks }).collect();
    roots.sort_by(|a, b| b.stacks.cmp(&a.stacks).then_with(|| a.path.cmp(&b.path)));
    roots
}

/// `folder` without the repository's path at its end. A root of the file system is no place for a live tree.
fn root<'f>(folder: &'f str, directory: &str) -> Option<&'f str> {
    let folder = folder.trim_end_matches('/');
    let root = match directory {
        "" => folder,
        directory => folder.strip_suffix(directory)?.strip_suffix('/')?,
    };
    (root.starts_with('/') && root.len() > 1).then_some(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_the_most_stacks_comes_first() {
        let at = |folder: &str| vec![folder.to_owned()];
        let (web, db, old, other) =
            (at("/opt/infra/stacks/web"), at("/opt/infra/stacks/db"), at("/home/x/stacks/old"), at("/srv/elsewhere"));
        let found = roots([
            ("stacks/web", web.as_slice()),
            ("stacks/db", db.as_slice()),
            ("stacks/old", old.as_slice()),
            ("stacks/other", other.as_slice()),
        ]);
        let found: Vec<_> = found.iter().map(|root| (root.path.as_str(), root.stacks)).collect();
        assert_eq!(found, [("/opt/infra", 2), ("/home/x", 1)]);
    }

    #[test]
    fn a_folder_name_that_only_ends_alike_is_no_match_and_the_file_systems_root_is_none() {
        assert_eq!(root("/opt/mystacks/web", "stacks/web"), None);
        assert_eq!(root("/stacks/web", "stacks/web"), None);
        assert_eq!(root("/opt/infra/", ""), Some("/opt/infra"));
        assert_eq!(root("", ""), None);
    }
}
