use std::collections::BTreeMap;

use evenkeel_core::change::WhyKind;
use evenkeel_core::plan::{Down, Effects, Plan, ServiceChange, StackChangeKind, Why};
use evenkeel_layout::name::{ServerName, StackName};
use proptest::prelude::*;

use super::*;
use crate::cli::output::SCHEMA;

fn document(servers: usize, stacks: usize, services: usize, name: &str) -> Document {
    let plan = |_| {
        let changes = (0..stacks).map(|n| StackChange {
            stack: StackName::new(&format!("stack-{n}")).expect("a name"),
            change: StackChangeKind::Update,
            group: None,
            services: (0..services)
                .map(|n| ServiceChange {
                    service: format!("{name}{n}"),
                    change: ServiceChangeKind::Recreate,
                    why: vec![Why { kind: WhyKind::Env, name: name.to_owned() }],
                })
                .collect(),
        });
        let down = vec![Down { service: name.to_owned(), stop_secs: 10 }];
        let effects = Effects { pulls: vec![name.to_owned()], down, ..Effects::default() };
        let waves: Vec<Vec<StackChange>> = vec![changes.collect()];
        let effects: BTreeMap<_, _> = waves[0].iter().map(|c| (c.stack.clone(), effects.clone())).collect();
        (Plan { waves, ..Plan::default() }, effects)
    };
    let servers = (0..servers).map(|n| {
        let (plan, effects) = plan(n);
        let server = ServerName::new(&format!("server-{n}")).expect("a name");
        ServerPlan { server, from: "a".repeat(40), to: "worktree".to_owned(), plan, effects }
    });
    Document { schema: SCHEMA, servers: servers.collect() }
}

#[test]
fn the_comment_is_what_a_reviewer_needs() {
    insta::assert_snapshot!(comment(&document(1, 1, 2, "web")));
}

#[test]
fn a_comment_is_never_too_long_for_a_forge_and_always_whole() {
    for (servers, stacks, services) in [(300, 1, 1), (1, 500, 5), (1, 1, 3000), (40, 40, 4)] {
        let text = comment(&document(servers, stacks, services, &"`|<&@".repeat(50)));
        assert!(text.len() <= 65_000, "{} bytes", text.len());
        assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
        assert!(text.ends_with("</sub>\n"));
    }
}

proptest! {
    #[test]
    fn nothing_that_a_repository_says_is_markup(name in ".*") {
        let shown = prose(&name);
        prop_assert!(!shown.contains(['<', '>', '`', '|', '*', '_', '[', ']', '@', '!', '\\', '\n', '\r', '~', ':', '$']));
        // What is left of `&` and `#` are entities, each closed.
        for (at, _) in shown.match_indices('&') {
            let entity = &shown[at..shown[at..].find(';').map_or(at, |end| at + end + 1)];
            prop_assert!(entity.starts_with("&#") && entity[2..entity.len() - 1].bytes().all(|b| b.is_ascii_digit()));
        }
    }
}
