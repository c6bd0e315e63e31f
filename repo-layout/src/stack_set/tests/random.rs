//! No tree and no bytes make it panic, and every answer is in order.

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

const PARTS: &[&str] = &[
    "",
    "home",
    "web",
    "stacks",
    "servers",
    "sharedStacks",
    "localStacks",
    "hosts",
    "sites",
    "compose.yml",
    "my app",
    "docker-compose.yml",
    "compose.override.yml",
    "config.json",
    "evenkeel.yml",
    ".env",
    "web.yml",
    "é",
    "..",
    "a..b",
];

const TEXTS: &[&str] = &[
    "",
    "services:\n  a: {image: x}\n",
    "name: ${P:-web}\nservices: {a: }\n",
    "name: ${P\nservices: []\nx-evenkeel: {depends_on: [web, home], gate: {min_healthy_time: 1s, x: 1}}\n",
    "x-evenkeel: [1]\nservices: {a: {x-evenkeel: 1, extends: {file: ../a}}}\ninclude: [compose.yml, {path: ../x}]\n",
    "a: &a [*a]\n",
    "a: &a {<<: *a}\nservices: *a\n",
    "!x y: !z {? [a] : b}\n--- !reset\n...\n",
    "{\"sharedStacks\": [\"web\", \"../x\", 1], \"localStacks\": [\"./web\"], \"stacks\": [{\"name\": \"web\"}, {}]}",
    "layout: stacks\nservers: {home: {stacks: [web]}, x: 1}\nstacks: {web: {files: [a/compose.yml, .], depends_on: [web]}}",
    "layout: hosts\nignore: ['**', '*', '']\n",
    "P=web\nCOMPOSE_PROJECT_NAME=$P\n",
    "COMPOSE_FILE=compose.yml:../web.yml:web/compose.yml\n",
    "COMPOSE_FILE=../../../etc/passwd,/etc/passwd\nCOMPOSE_PATH_SEPARATOR=,\n",
    "name: ${P}\nservices: {b: {image: x}, a: {image: y}}\n",
    "project: server\npaths: root\ndefaults: {gate: {min_healthy_time: 1s}}\nservers: {home: {profiles: [x]}}\n",
    "{\"localStacks\": [\"./web\"], \"stacks\": [{\"name\": \"web\", \"envs\": {\"A\": 1}, \"watchFilesAndRestartIfChanged\": [\"../x\", \"compose.yml\"]}]}",
    "\u{feff}name: a\r\nservices:\r\n\tb: c\r\n",
];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => select(TEXTS).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..60),
        1 => "[-a-z:{}\\[\\]&*!|>'\"#%@,? \n\t$]{0,80}".prop_map(String::into_bytes),
        // A known text with a byte changed.
        2 => (select(TEXTS), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(text, at, byte)| {
            let mut bytes = text.as_bytes().to_vec();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        }),
    ]
}

fn tree() -> impl Strategy<Value = MapTree> {
    let path = vec(select(PARTS), 1..5).prop_map(|parts| parts.join("/").trim_matches('/').to_owned());
    let link = (path.clone(), path.clone());
    (vec((path, bytes()), 0..12), vec(link, 0..2)).prop_map(|(files, links)| {
        links.into_iter().fold(MapTree::new(files), |tree, (path, to)| tree.with_symlink(&path, &to))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_has_an_answer_in_order(tree in tree()) {
        let names = servers(&tree, None);
        let mut sets = Vec::new();
        for name in names.into_iter().chain([server("home")]) {
            let set = stack_set(&tree, &name, None);
            prop_assert_eq!(&set, &stack_set(&tree, &name, None));
            prop_assert!(set.problems.is_sorted());
            prop_assert!(set.stacks.is_sorted_by(|a, b| a.name < b.name));
            for Stack { layers, env_files, .. } in &set.stacks {
                prop_assert!(!layers.is_empty());
                for path in layers.iter().map(|Layer { path, .. }| path).chain(env_files) {
                    prop_assert!(tree.read(path).is_ok_and(|file| file.is_some()), "{} is no file", path);
                }
            }
            for problem in &set.problems {
                prop_assert!(!problem.message.is_empty() && !problem.help.is_empty());
            }
            waves(&set.stacks);
            sets.push(set);
        }
        unclaimed(&tree, &sets, None);
    }

    #[test]
    fn any_bytes_are_yaml_or_an_error(bytes in bytes()) {
        if let Ok(text) = crate::yaml::decode(&bytes) {
            let _ = crate::yaml::parse(text);
            let _ = crate::yaml::line_of(text, &[crate::yaml::Step::Key("a"), crate::yaml::Step::Index(0)]);
        }
        LayoutConfig::parse("evenkeel.yml", &bytes);
    }
}
