use super::*;

#[test]
fn what_moves_together_is_in_one_wave_and_waits_together() {
    let of = |tag: &str| {
        let image = format!("x:{tag}");
        [
            candidate("base", &image, &[]),
            candidate("shop-db", &image, &["base"]),
            candidate("shop-web", &image, &["shop-db"]),
            candidate("top", &image, &["shop-db"]),
        ]
    };
    let (old, new) = (releases(&of("1")), of("2"));
    let plan = planned(&new, &[], &old, None);
    let waves = [vec!["update base"], vec!["update shop-db", "update shop-web"], vec!["update top"]];
    assert_eq!(waves_of(&plan), waves);
    let groups: Vec<_> = plan.changes().map(|c| c.group.as_ref().map_or("", GroupName::as_str)).collect();
    assert_eq!(groups, ["", "shop", "shop", ""]);

    let plan = planned(&new[..2], &["shop-web", "top"], &old, None);
    assert_eq!(waves_of(&plan), [["update base"]]);
    let held: Vec<String> = plan.held.iter().map(ToString::to_string).collect();
    let why = "shop-db waits: it moves together with shop-web, which cannot be deployed as this commit has it";
    assert_eq!(held, [why]);
    assert!(plan.problems.iter().any(|p| p.code == "held.group" && p.message == why), "{:?}", plan.problems);
}

#[test]
fn a_file_that_cannot_be_read_holds_what_its_release_moved_with() {
    let of =
        |tag: &str| [candidate("shop-db", &format!("x:{tag}"), &[]), candidate("unread", &format!("x:{tag}"), &[])];
    let mut old = releases(&of("1"));
    old.get_mut(&name("unread")).unwrap().group = groups().get(&name("shop-db")).cloned();
    let plan = planned(&of("2")[..1], &["unread"], &old, None);
    assert_eq!((waves_of(&plan).len(), plan.held.len()), (0, 1), "{:?}", plan.waves);
}

#[test]
fn what_is_merely_put_back_moves_with_nobody() {
    let old = [candidate("shop-db", "x:1", &[]), candidate("shop-web", "x:1", &[])];
    let new = [candidate("shop-db", "x:1", &[]), candidate("shop-web", "x:2", &[])];
    let plan = planned(&new, &[], &releases(&old), Some(&Containers::new()));
    let found: Vec<_> = plan.changes().map(|c| (c.stack.as_str(), c.group.is_some())).collect();
    assert_eq!(found, [("shop-db", false), ("shop-web", true)]);
}
