//! Paths in a repository: `/` between parts, no leading slash, no `.` or `..`; the root is the empty path.

use evenkeel_layout::tree::{EntryKind, Tree, TreeError};

/// Most symlinks that may lead to one another; as Linux has it.
const MAX_LINKS: usize = 40;

/// What a path in a Compose file means, seen from the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the repository, at this path.
    Inside(String),
    /// Not in the repository: absolute, in somebody's home, or `..` beyond the root.
    Outside,
}

/// Resolves `path` as it is written in a file, beside the folder `base` of the repository.
pub fn resolve(base: &str, path: &str) -> Place {
    if path.starts_with('/') || path.starts_with('~') {
        return Place::Outside;
    }
    let mut parts: Vec<&str> = base.split('/').filter(|p| !p.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Place::Outside;
                }
            }
            part => parts.push(part),
        }
    }
    Place::Inside(parts.join("/"))
}

/// Where a path leads to when every symlink on the way is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// To this path, without symlinks. Whether there is anything is another question.
    To(String),
    /// Out of the repository.
    Outside,
    /// Round in a circle.
    Circle,
}

/// Follows the symlinks of a path part by part, as the kernel would: `..` after a link is the parent of its target.
pub fn follow(tree: &dyn Tree, path: &str) -> Result<Followed, TreeError> {
    let mut waiting: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let (mut at, mut links) = (String::new(), 0);
    while let Some(part) = waiting.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." if at.is_empty() => return Ok(Followed::Outside),
            ".." => {
                at.truncate(parent(&at).len());
                continue;
            }
            _ => {}
        }
        let next = join(&at, &part);
        if tree.kind(&next)? != Some(EntryKind::Symlink) {
            at = next;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Ok(Followed::Circle);
        }
        let target = tree.read(&next)?.unwrap_or_default();
        let target = String::from_utf8_lossy(&target);
        if target.starts_with('/') {
            return Ok(Followed::Outside);
        }
        waiting.extend(target.split('/').rev().map(str::to_owned));
    }
    Ok(Followed::To(at))
}

/// The part of an absolute path below `root`: `Some("")` for the root itself, `None` if it lies elsewhere.
pub fn below<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix('/').map(|r| r.trim_matches('/')) }
}

/// The folder that a file is in.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

/// Joins a folder and what is below it.
pub fn join(dir: &str, rest: &str) -> String {
    match (dir, rest) {
        ("", rest) => rest.to_owned(),
        (dir, "") => dir.to_owned(),
        (dir, rest) => format!("{dir}/{rest}"),
    }
}

/// Whether `path` is `dir` or lies below it.
pub fn is_within(path: &str, dir: &str) -> bool {
    dir.is_empty() || path == dir || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_inside_or_is_outside() {
        let inside = |path: &str| Place::Inside(path.to_owned());
        assert_eq!(resolve("a/b", "./c"), inside("a/b/c"));
        assert_eq!(resolve("a/b", "../../x"), inside("x"));
        assert_eq!(resolve("a", ".."), inside(""));
        for path in ["../../x", "/etc/passwd", "~/x", "a/../../../x"] {
            assert_eq!(resolve("a", path), Place::Outside, "{path}");
        }
    }

    #[test]
    fn below_ends_at_a_path_boundary() {
        assert_eq!(below("/srv/live", "/srv/live/a/b"), Some("a/b"));
        assert_eq!(below("/srv/live/", "/srv/live"), Some(""));
        assert_eq!(below("/srv/live", "/srv/live2/a"), None);
        assert_eq!(below("/", "/a"), Some("a"));
    }
}
