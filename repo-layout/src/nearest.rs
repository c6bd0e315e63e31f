//! The nearest known name, for "did you mean".

/// Texts longer than this, in characters, are not compared: nobody mistypes them.
const MAX_CHARS: usize = 64;

/// The candidate that `given` most likely stands for, or `None` if none is close.
///
/// Close means at most a third of the characters (at least one, at most three) inserted, dropped, replaced or
/// swapped with their neighbour, upper and lower case being the same. The first of equally near candidates wins.
pub fn nearest<'a>(candidates: impl IntoIterator<Item = &'a str>, given: &str) -> Option<&'a str> {
    let given = folded(given)?;
    let limit = (given.len() / 3).clamp(1, 3);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let Some(text) = folded(candidate) else { continue };
        let distance = distance(&text, &given);
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

fn folded(text: &str) -> Option<Vec<char>> {
    let chars: Vec<char> = text.chars().take(MAX_CHARS + 1).flat_map(char::to_lowercase).collect();
    (1..=MAX_CHARS).contains(&chars.len()).then_some(chars)
}

/// Optimal string alignment distance.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = previous[j] + usize::from(x != y);
            let mut least = replaced.min(previous[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_mistyped() {
        let known = ["depends_on", "gate", "stacks", "traefik"];
        for (given, want) in [
            ("depend_on", Some("depends_on")),
            ("dependson", Some("depends_on")),
            ("gaet", Some("gate")),
            ("Stacks", Some("stacks")),
            ("traefick", Some("traefik")),
            ("immich", None),
            ("", None),
        ] {
            assert_eq!(nearest(known, given), want, "{given:?}");
        }
    }

    #[test]
    fn does_not_compare_what_nobody_mistypes() {
        assert_eq!(nearest(["a"], &"a".repeat(100_000)), None);
    }
}
