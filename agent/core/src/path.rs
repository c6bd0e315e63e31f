//! Paths in a repository: `/` between parts, no leading slash, no `.` or `..`; the root is the empty path.

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
