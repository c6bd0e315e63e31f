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
