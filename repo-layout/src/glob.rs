//! Patterns of paths, for `ignore`.

/// Whether `path` matches `pattern`: `*` and `?` stay within a part, `**` spans parts. A pattern that matches a folder
/// matches what is below it.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    let parts = |text: &str| text.trim_matches('/').split('/').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, path) = (parts(pattern), parts(path));
    // reachable[i]: the first i parts of the pattern match the path so far.
    let mut reachable = vec![false; pattern.len() + 1];
    reachable[0] = true;
    spread(&pattern, &mut reachable);
    for part in &path {
        if reachable[pattern.len()] {
            return true;
        }
        let mut next = vec![false; pattern.len() + 1];
        for (i, wanted) in pattern.iter().enumerate() {
            if reachable[i] {
                if wanted == "**" {
                    next[i] = true;
                } else if part_matches(wanted.as_bytes(), part.as_bytes()) {
                    next[i + 1] = true;
                }
            }
        }
        spread(&pattern, &mut next);
        reachable = next;
    }
    reachable[pattern.len()]
}

/// `**` also matches nothing, but only before another part: `a/**` does not match `a` itself.
fn spread(pattern: &[String], reachable: &mut [bool]) {
    for i in 0..pattern.len() {
        if reachable[i] && pattern[i] == "**" {
            reachable[i + 1] = true;
        }
    }
}

fn part_matches(pattern: &[u8], text: &[u8]) -> bool {
    let mut reachable = vec![false; pattern.len() + 1];
    reachable[0] = true;
    let star = |reachable: &mut [bool]| {
        for i in 0..pattern.len() {
            if reachable[i] && pattern[i] == b'*' {
                reachable[i + 1] = true;
            }
        }
    };
    star(&mut reachable);
    for byte in text {
        let mut next = vec![false; pattern.len() + 1];
        for i in (0..pattern.len()).filter(|i| reachable[*i]) {
            match pattern[i] {
                b'*' => next[i] = true,
                b'?' => next[i + 1] = true,
                wanted => next[i + 1] |= wanted == *byte,
            }
        }
        star(&mut next);
        reachable = next;
    }
    reachable[pattern.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_people_expect() {
        for (pattern, path, want) in [
            ("examples/**", "examples/a/compose.yml", true),
            ("examples", "examples/a/compose.yml", true),
            ("examples/", "examples/a", true),
            ("examples/**", "stacks/examples", false),
            ("**/old", "a/b/old/compose.yml", true),
            ("**/old", "old", true),
            ("*.yml", "a.yml", true),
            ("*.yml", "a/b.yml", false),
            ("stacks/*/x", "stacks/y/x", true),
            ("stacks/?", "stacks/ab", false),
            ("a*b*c", "aXbYc", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, path), want, "{pattern} on {path}");
        }
    }
}
