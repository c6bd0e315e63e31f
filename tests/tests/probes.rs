//! Probes and scripts that hang, and scripts with much beside them: none of them piles up.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{fs, process::Command, thread, time::Duration};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{agent, fixture, program::Run, skip::is_root, world::World};

/// A stack whose probe never answers: it sleeps for so long as nothing else on this machine, in the words of `sleep`.
fn hanging(world: &World, fraction: u8) -> String {
    let nap = format!("{}.{fraction}", std::process::id());
    let probe = format!("    x-evenkeel: {{ probes: [{{ command: [sh, -c, 'sleep {nap}; true'], timeout: 1s }}] }}\n");
    let gate = "x-evenkeel: { gate: { min_healthy_time: 1s, healthy_deadline: 9s } }\n";
    let compose = fixture::sleeper(1) + &probe + gate;
    world.change("Hang").file(&world.path("app", "compose.yml"), compose).push();
    nap
}

/// How many processes on this machine sleep for so long.
fn asleep(nap: &str) -> usize {
    let lines = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
    let lines = lines.filter_map(|file| fs::read(file).ok());
    lines.filter(|line| *line == format!("sleep\0{nap}\0").into_bytes()).count()
}

/// Runs a program to its end. Gives the most processes that slept at once, and how many did when it had ended.
fn run(mut command: Command, nap: &str) -> (usize, usize) {
    let running = thread::spawn(move || Run::of(&mut command));
    let mut most = 0;
    while !running.is_finished() {
        most = most.max(asleep(nap));
        thread::sleep(Duration::from_millis(100));
    }
    running.join().unwrap().exits(5);
    (most, asleep(nap))
}

fn said(world: &World) -> String {
    let sync = world.last_sync(Outcome::RolledBack);
    sync.deployment(&world.stack("app")).because(Code::GateDeadline).to_owned()
}

#[test]
fn a_probe_that_hangs_is_ended_and_leaves_nothing_behind() {
    let world = World::new();
    if !is_root("a_probe_that_hangs_is_ended_and_leaves_nothing_behind") {
        return;
    }
    let nap = hanging(&world, 1);
    world.config.write();
    let mut command = world.command(&["agent", "--once", "--config"]);
    command.arg(world.config.file());
    assert_eq!(run(command, &nap), (1, 0), "one at a time, and none in the end");
    let message = said(&world);
    assert!(message.ends_with("whose probe command sh says: no answer within 1s, and was ended"), "{message}");
}

#[test]
fn a_probe_that_hangs_where_the_agent_cannot_end_it_is_not_asked_again_meanwhile() {
    let world = World::new();
    if !is_root("a_probe_that_hangs_where_the_agent_cannot_end_it_is_not_asked_again_meanwhile") {
        return;
    }
    let nap = hanging(&world, 2);
    world.config.write();
    // As in a container: it sees no processes but its own.
    let agent = world.command(&["agent", "--once", "--config"]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(agent.get_program()).args(agent.get_args());
    command.arg(world.config.file()).env(agent::MARK, world.prefix()).current_dir(world.server());
    let (most, left) = run(command, &nap);
    assert_eq!(most, 1, "it is asked once");
    assert_eq!(left, 0, "it went with its container, which did not pass");
    let message = said(&world);
    assert!(message.contains("no answer within 1s; it is still at work and cannot be ended from here"), "{message}");
}

#[test]
fn a_script_is_copied_once_for_all_its_runs_and_with_too_much_beside_it_not_at_all() {
    let world = World::new();
    let asked = world.folder().join("asked");
    let script = format!("echo \"$PWD $(stat -c %Y.%i lib)\" >> {}\n[ $(wc -l < {0}) -ge 3 ]\n", asked.display());
    let hook = "x-evenkeel: { hooks: { health_check: scripts/check.sh }, gate: { min_healthy_time: 1s } }\n";
    let compose = fixture::sleeper(1) + "    volumes: ['./scripts:/scripts:ro']\n" + hook;
    let file = world.path("app", "compose.yml");
    let change = world.change("Begin").file(&file, &compose).file(&world.path("app", "scripts/check.sh"), &script);
    change.file(&world.path("app", "scripts/lib"), "x\n").push();
    world.once().exits(0);
    let words = fs::read_to_string(&asked).unwrap();
    let copies: std::collections::BTreeSet<&str> = words.lines().collect();
    assert!(words.lines().count() >= 3 && copies.len() == 1, "{words}");
    let left = world.server().join("state/scripts").join(world.stack("app"));
    assert_eq!(fs::read_dir(left).unwrap().count(), 0, "the copy goes with the last run");

    let mut change = world.change("Much").file(&file, compose.replace("busybox:1", "busybox:2"));
    for number in 0..1000 {
        change = change.file(&world.path("app", &format!("scripts/data/{number}")), "x");
    }
    change.push();
    world.once().exits(1);
    let sync = world.last_sync(Outcome::Rejected);
    let message = sync.deployment(&world.stack("app")).because(Code::StackInvalid).to_owned();
    assert!(
        message.contains("scripts/check.sh has 1002 files") && message.contains("a folder of its own"),
        "{message}"
    );
    let stays = evenkeel_tests::docker::image_id("evenkeel-test/busybox:1");
    assert_eq!(Some(world.container("app", "app").image()), stays);
}
