//! The backup repository is kept: old snapshots go by the rule, what is there is checked, and nobody waits for that.

use std::fs;

use evenkeel_tests::{
    clock::Clock,
    receivers::discord::{Discord, Message},
    restic::Restic,
    wait::{PATIENCE, wait_until},
    world::World,
};
use serde_json::Value;

const COMPOSE: &str = "services:
  app:
    image: evenkeel-test/busybox:IMAGE
    init: true
    command: [sh, -c, 'echo x > /data/file; sleep 100000']
    volumes: ['data:/data']
volumes: { data: {} }
";

fn backup(world: &World) -> Value {
    world.evenkeel(&["status", "--format", "json"]).exits(0).json()["backup"].clone()
}

#[test]
fn the_rule_forgets_only_our_own_snapshots_and_none_that_a_release_names_and_trouble_is_told_once() {
    let name = "the_rule_forgets_only_our_own_snapshots_and_none_that_a_release_names_and_trouble_is_told_once";
    let mut world = World::new();
    let folder = world.folder().to_path_buf();
    let Some(clock) = Clock::set_up(name, &mut world, &folder) else { return };
    let restic = Restic::init(&world.config, &folder.join("backups"));
    world.config.set("backup", &restic.yaml(", keep: { last: 1 }"));
    let discord = Discord::start();
    let url = world.config.put("discord-url", &format!("{}\n", discord.url()));
    world.report_to(&[format!("discord: {{ url_file: {} }}\n    on: [backup, recovered]", url.display())]);
    for image in ["1", "2"] {
        world.change(image).file(&world.path("db", "compose.yml"), COMPOSE.replace("IMAGE", image)).push();
        world.once().exits(0);
    }
    let [named] = &restic.ids()[..] else { panic!("{:?}", restic.ids()) };
    // Later ones, as of deployments of which no release is left; and others in the same repository.
    let stack = world.stack("db");
    let old = [0, 1].map(|n| {
        fs::write(folder.join("data"), n.to_string()).unwrap();
        restic.back_up(&stack, "x", &folder.join("data"))
    });
    let newest = restic.back_up(&stack, "x", &world.config.file());
    let other = restic.back_up("other", "x", &folder.join("data"));
    let before = restic.ids();
    restic.run(&["backup", "--host", "home", "--tag", "mine", &folder.join("data").to_string_lossy()]);
    let foreign = restic.ids().into_iter().find(|id| !before.contains(id)).unwrap();

    world.start_and_wait();
    wait_until(PATIENCE, "the repository is tidied and checked", || {
        let backup = backup(&world);
        let is_done = |task: &str| backup[task]["at"].is_string() && backup[task]["error"].is_null();
        if is_done("forgotten") && is_done("checked") { Ok(()) } else { Err(format!("{backup:#}")) }
    });
    let left = restic.ids();
    assert!(old.iter().all(|id| !left.contains(id)), "{left:?}");
    for stays in [named, &newest, &other, &foreign] {
        assert!(left.contains(stays), "{stays} should stay: {left:?}");
    }

    // A file of the repository is lost, and a week goes by.
    let data = restic.repository.join("data");
    let away = folder.join("away");
    fs::rename(&data, &away).unwrap();
    fs::create_dir(&data).unwrap();
    clock.jump("+8d");
    let told = |count: usize| {
        wait_until(PATIENCE, &format!("{count} messages"), || {
            let texts: Vec<String> = discord.messages().iter().map(Message::text).collect();
            texts.get(count - 1).cloned().ok_or_else(|| format!("{texts:?}"))
        })
    };
    let alarm = told(1);
    assert!(alarm.contains("backups of home need a look") && alarm.contains("restic"), "{alarm}");
    let status = world.evenkeel(&["status"]);
    assert!(status.exits(0).stdout.contains("restic"), "{}", status.report());
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&away, &data).unwrap();
    clock.jump("+9d");
    let over = told(2);
    assert!(over.contains("home recovered"), "{over}");
    assert_eq!(discord.messages().len(), 2, "each is told once");
}
