//! Large files, each made to be slow to read, have an answer soon: work that grew with the square of their lines
//! would make this test take minutes.

use super::*;
use crate::yaml::MAX_YAML_BYTES;

/// An eighth of what is read at most, so that the test itself is quick.
const SIZE: usize = MAX_YAML_BYTES / 8;

/// `line` for as many numbers as fit, after `head`.
fn filled(head: &str, line: impl Fn(usize) -> String) -> String {
    let mut text = head.to_owned();
    for i in 0.. {
        let next = line(i);
        if text.len() + next.len() > SIZE {
            break;
        }
        text.push_str(&next);
    }
    text
}

#[test]
fn no_compose_file_takes_long() {
    for text in [
        filled("services:\n", |i| format!("  s{i}: {{}}\n")),
        filled("services:\n", |i| format!("  s{i}: {{x-evenkeel: {{a: 1}}}}\n")),
        filled("x-evenkeel:\n", |i| format!("  k{i}: 1\n")),
        filled("x-evenkeel:\n  depends_on:\n", |i| format!("  - s{i}\n")),
        filled("services: {}\n", |i| format!("---\nname: n{i}\n")),
        filled("services: {}\ninclude:\n", |i| format!("- f{i}.yml\n")),
        filled("a: &a ", |_| "x".to_owned()),
        filled("", |i| format!("k{i}: &a{i} [1]\n")),
    ] {
        let tree = MapTree::new([("stacks/web/compose.yml", text.as_str())]);
        let set = set_of(&tree, "any");
        assert!(set.problems.len() < 2000);
        unclaimed(&tree, &[set], None);
    }
}

#[test]
fn no_list_of_ours_takes_long() {
    for text in [
        filled("stacks:\n", |i| format!("  s{i}: {{}}\n")),
        filled("stacks:\n", |i| format!("  s{i}: {{files: [a/{i}.yml]}}\n")),
        filled("servers:\n", |i| format!("  s{i}: {{stacks: [x]}}\n")),
        filled("servers:\n  home:\n    stacks:\n", |i| format!("    - w{i}\n")),
        filled("ignore:\n", |i| format!("- '{}{i}'\n", "*a".repeat(30))),
        filled("", |i| format!("k{i}: 1\n")),
    ] {
        set(&[("evenkeel.yml", &text), ("stacks/web/compose.yml", PLAIN)]);
    }
    for text in [
        filled("{\"stacks\": [", |i| format!("\"w{i}\",")) + "\"web\"]}",
        filled("{\"stacks\": [\"web\"]", |i| format!(",\"k{i}\":1")) + "}",
        filled("", |_| "[".to_owned()),
    ] {
        set(&[("servers/home/config.json", &text), ("stacks/web/compose.yml", PLAIN)]);
    }
}
