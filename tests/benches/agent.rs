//! `make bench`: the agent beside what people do today, on the real engine, both in one run.
//!
//! Every line is a ratio. The aims are those of `docs/performance.md`; a ratio over its aim is printed as such and fails
//! nothing, since it depends on the machine. The program under test is `EVENKEEL_BIN`, built for release.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{fixture, port, program::Run, wait::wait_until, world::World};

/// The gate's stable window in these runs; it is taken off the agent's time.
const WINDOW: Duration = Duration::from_millis(100);
/// How long polls with nothing to do are measured, in seconds.
const POLLING_S: f64 = 15.0;
/// The kernel's clock ticks in a second, as all Linux systems of today show them.
const TICKS: f64 = 100.0;
/// How long an idle agent is watched, unless `IDLE_S` says otherwise.
const IDLE_S: f64 = 30.0;

/// Seconds of CPU that a process and its ended children have used.
fn cpu(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the agent runs");
    let after_name = stat.rsplit_once(')').expect("a stat line has a name").1;
    let fields: Vec<f64> = after_name.split_whitespace().filter_map(|f| f.parse().ok()).collect();
    // After the name and the state, which is no number: utime, stime, cutime, cstime are fields 14 to 17 of the line.
    fields[10..14].iter().sum::<f64>() / TICKS
}

/// Seconds of CPU of all ended children of this process.
fn cpu_of_children() -> f64 {
    let own = fs::read_to_string("/proc/self/stat").expect("this process runs");
    let fields: Vec<f64> =
        own.rsplit_once(')').expect("a name").1.split_whitespace().filter_map(|f| f.parse().ok()).collect();
    (fields[12] + fields[13]) / TICKS
}

fn resident_mib(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("a process has memory");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).expect("a number of KiB") / 1024.0
}

fn print(name: &str, ours: f64, theirs: f64, unit: &str, aim: f64) {
    let ratio = ours / theirs;
    let verdict = if ratio <= aim { "ok" } else { "OVER" };
    println!("{verdict:<5} {name:<62} ratio {ratio:>7.3} (aim {aim})   {ours:.3} {unit} against {theirs:.3} {unit}");
}

/// A world whose agent gates with the short window of these runs.
fn world() -> World {
    let mut world = World::new();
    world.config.set("gate", "{ min_healthy_time: 100ms, healthy_deadline: 60s, progress_deadline: 300s }");
    world.config.set("log", "{ format: text, level: warn }");
    world
}

/// The same stacks for `docker compose` alone, in a folder of their own with projects of their own.
fn by_hand(world: &World, count: usize, compose: impl Fn(usize) -> String) -> Vec<PathBuf> {
    (0..count)
        .map(|n| {
            let folder = world.folder().join(format!("by-hand/{}", world.stack(&format!("hand{n}"))));
            fs::create_dir_all(&folder).expect("the world's folder is writable");
            fs::write(folder.join("compose.yml"), compose(n)).expect("the same");
            folder
        })
        .collect()
}

fn up(folder: &Path, wait: bool) {
    let mut command = Command::new("docker");
    command.args(["compose", "up", "--detach"]).current_dir(folder);
    if wait {
        command.arg("--wait");
    }
    Run::of(&mut command).exits(0);
}

fn free_ports(count: usize) -> Vec<u16> {
    (0..count).map(|_| port::free()).collect()
}

/// A stack without a network of its own: an engine has room for about thirty networks.
fn alone() -> String {
    fixture::sleeper(1) + "    network_mode: none\n"
}

/// The same with a healthcheck.
fn alone_and_checked() -> String {
    alone() + "    healthcheck: { test: [CMD, 'true'], interval: 500ms, timeout: 2s, retries: 3 }\n"
}

fn push_stacks(world: &World, count: usize) -> String {
    let mut change = world.change("Stacks");
    for n in 0..count {
        change = change.file(&world.path(&format!("s{n}"), "compose.yml"), alone());
    }
    change.push()
}

fn nothing_to_do(count: usize) {
    let mut world = world();
    let hand = by_hand(&world, count, |_| alone());
    push_stacks(&world, count);
    world.once().exits(0);
    for folder in &hand {
        up(folder, false);
    }
    world.config.source(&world.repository.url(), "200ms");
    world.start_and_wait();
    let newest = |world: &World| world.history().last().map_or(0, |s| i32::try_from(s.id).expect("few syncs"));
    sleep(Duration::from_secs(5)); // the first sync renders; what comes after is what is measured
    let (before, from) = (cpu(world.pid()), newest(&world));
    sleep(Duration::from_secs_f64(POLLING_S));
    let used = cpu(world.pid()) - before;
    let syncs = f64::from(newest(&world) - from);
    assert!(syncs > 5.0, "the agent polls");
    world.last_sync(Outcome::Unchanged);
    let (cpu_before, wall_before) = (cpu_of_children(), Instant::now());
    for folder in &hand {
        up(folder, false);
    }
    let (hand_cpu, hand_wall) = (cpu_of_children() - cpu_before, wall_before.elapsed());
    print(
        &format!("nothing to do, {count} stacks: CPU / loop of `docker compose up -d`"),
        used / syncs,
        hand_cpu,
        "s",
        0.02,
    );
    println!(
        "      {count} stacks: a sync with its pause of 0.2 s took {:.3} s, the loop {:.3} s",
        POLLING_S / syncs,
        hand_wall.as_secs_f64()
    );
    world.take_agent().terminate(Duration::from_secs(20));
    for folder in hand {
        Run::of(Command::new("docker").args(["compose", "down", "--timeout", "0"]).current_dir(folder)).exits(0);
    }
}

fn first_deployment(count: usize) {
    let mut world = world();
    world.config.set("engine", &engine(4));
    let hand = by_hand(&world, count, |_| alone_and_checked());
    let mut change = world.change("Stacks");
    for n in 0..count {
        change = change.file(&world.path(&format!("s{n}"), "compose.yml"), alone_and_checked());
    }
    change.push();
    let began = Instant::now();
    world.once().exits(0);
    let ours = began.elapsed();
    let began = Instant::now();
    for folder in &hand {
        up(folder, true);
    }
    let theirs = began.elapsed();
    print(
        &format!("first deployment of {count} stacks / loop of `docker compose up -d --wait`"),
        ours.as_secs_f64(),
        theirs.as_secs_f64(),
        "s",
        0.7,
    );
    for folder in hand {
        Run::of(Command::new("docker").args(["compose", "down", "--timeout", "0"]).current_dir(folder)).exits(0);
    }
}

fn engine(parallel: usize) -> String {
    let socket = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    format!("{{ socket: \"{socket}\", parallel: {parallel} }}")
}

fn one_changed_stack() {
    const ROUNDS: u32 = 5;
    let mut world = world();
    let ports = free_ports(2);
    let hand = by_hand(&world, 1, |_| fixture::web(1, ports[1])).remove(0);
    fs::write(hand.join("index.html"), "x").expect("writable");
    up(&hand, true);
    let compose = fixture::web(1, ports[0]);
    let file = world.path("web", "compose.yml");
    world.change("One").file(&file, &compose).file(&world.path("web", "index.html"), "x").push();
    world.start_and_wait();
    let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
    for round in 0..ROUNDS {
        let with = |text: &str| text.replace("init: true", &format!("init: true\n    labels: {{ round: '{round}' }}"));
        let commit = world.change("Change").file(&file, with(&compose)).push();
        let began = Instant::now();
        world.evenkeel(&["sync"]).exits(0);
        ours += began.elapsed().saturating_sub(WINDOW);
        assert_eq!(world.status().source.accepted, Some(commit));
        // The same change by hand: pull the commit, then up.
        let clone = world.folder().join("by-hand/clone");
        if round == 0 {
            Run::of(Command::new("git").args(["clone", "--quiet", &world.repository.url()]).arg(&clone)).exits(0);
        }
        fs::write(hand.join("compose.yml"), with(&fixture::web(1, ports[1]))).expect("writable");
        let began = Instant::now();
        Run::of(Command::new("git").args(["pull", "--quiet"]).current_dir(&clone)).exits(0);
        up(&hand, true);
        theirs += began.elapsed();
    }
    print(
        "push to healthy of one stack / `git pull && docker compose up -d --wait`",
        ours.as_secs_f64() / f64::from(ROUNDS),
        theirs.as_secs_f64() / f64::from(ROUNDS),
        "s",
        1.15,
    );
    world.take_agent().terminate(Duration::from_secs(20));
    Run::of(Command::new("docker").args(["compose", "down", "--timeout", "0"]).current_dir(hand)).exits(0);
}

/// Checking everything beside rendering everything and looking at nothing.
fn check_all(count: usize) {
    const ROUNDS: u32 = 3;
    let world = world();
    push_stacks(&world, count);
    let repo = world.repository.work.to_string_lossy().into_owned();
    let folders = by_hand(&world, count, |_| alone());
    let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        Run::of(&mut world.command(&["check", "--no-cache", "--repo", &repo])).exits(0);
        ours += began.elapsed();
        let began = Instant::now();
        for folder in &folders {
            Run::of(Command::new("docker").args(["compose", "config", "--format", "json"]).current_dir(folder))
                .exits(0);
        }
        theirs += began.elapsed();
    }
    print(
        &format!("check of {count} stacks / a loop of `docker compose config`"),
        ours.as_secs_f64() / f64::from(ROUNDS),
        theirs.as_secs_f64() / f64::from(ROUNDS),
        "s",
        1.0,
    );
}

/// Checking what was checked before beside checking it for the first time.
fn check_again(count: usize) {
    const ROUNDS: u32 = 3;
    let world = world();
    push_stacks(&world, count);
    let repo = world.repository.work.to_string_lossy().into_owned();
    let (mut first, mut second) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..ROUNDS {
        // Nobody has one in the first round.
        let _ = fs::remove_dir_all(world.folder().join("cache"));
        for time in [&mut first, &mut second] {
            let began = Instant::now();
            Run::of(&mut world.command(&["check", "--repo", &repo])).exits(0);
            *time += began.elapsed();
        }
    }
    print(
        &format!("a second check of {count} stacks / the first"),
        second.as_secs_f64() / f64::from(ROUNDS),
        first.as_secs_f64() / f64::from(ROUNDS),
        "s",
        0.2,
    );
}

/// How large a repository [`large_repository`] makes: stacks, and files beside each Compose file.
fn large() -> (usize, usize) {
    let number = |name: &str, default: usize| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    (number("BENCH_STACKS", 100), number("BENCH_FILES", 99))
}

/// Finding and rendering the stacks of a large repository for the first time, and again when a commit touches none of them.
fn large_repository() {
    let (stacks, files) = large();
    let mut world = world();
    world.config.set("observe", "true");
    world.config.source(&world.repository.url(), "200ms");
    let folders = by_hand(&world, stacks, |_| alone());
    let mut change = world.change("A large repository");
    for n in 0..stacks {
        let stack = format!("s{n}");
        change = change.file(&world.path(&stack, "compose.yml"), alone());
        for file in 0..files {
            change = change.file(&world.path(&stack, &format!("data/{file}.conf")), format!("number = {file}\n"));
        }
    }
    let first = change.push();
    let looked_at = |world: &World, commit: &str| {
        wait_until(Duration::from_secs(300), "the commit was looked at", || {
            let history = world.try_history()?;
            let ended = history.syncs.iter().any(|s| s.commit.as_deref() == Some(commit) && s.outcome.is_some());
            if ended { Ok(()) } else { Err(format!("{} syncs", history.syncs.len())) }
        });
    };
    world.start();
    let pid = world.pid();
    looked_at(&world, &first);
    let cold = cpu(pid);
    let second = world.change("No stack reads it").file("README.md", "Read me.\n").push();
    looked_at(&world, &second);
    let unchanged = cpu(pid) - cold;
    let before = cpu_of_children();
    for folder in &folders {
        Run::of(Command::new("docker").args(["compose", "config", "--format", "json"]).current_dir(folder)).exits(0);
    }
    let loop_of_config = cpu_of_children() - before;
    let what = format!("{stacks} stacks, {} files", stacks * (files + 1));
    print(&format!("{what}: first look, CPU / a loop of `config`"), cold, loop_of_config, "s", 1.5);
    print(&format!("{what}: a commit beside them, CPU / the same"), unchanged, loop_of_config, "s", 0.25);
    world.take_agent().terminate(Duration::from_secs(20));
}

fn idle() {
    let seconds = std::env::var("IDLE_S").ok().and_then(|s| s.parse().ok()).unwrap_or(IDLE_S);
    let mut world = world();
    push_stacks(&world, 5);
    world.config.source(&world.repository.url(), "1m");
    world.start_and_wait();
    world.wait_sync(&world.repository.head(), Outcome::Committed);
    sleep(Duration::from_secs(3));
    let before = cpu(world.pid());
    sleep(Duration::from_secs_f64(seconds));
    let share = (cpu(world.pid()) - before) / seconds * 100.0;
    let mib = resident_mib(world.pid());
    print("idle memory / 20 MiB", mib, 20.0, "MiB", 1.0);
    print(&format!("idle CPU over {seconds} s, a poll a minute / 0.1 % of a core"), share, 0.1, "%", 1.0);
    world.take_agent().terminate(Duration::from_secs(20));
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_default();
    let benches: [(&str, fn()); 8] = [
        ("check of all stacks", || check_all(20)),
        ("check again", || check_again(100)),
        ("large repository", large_repository),
        ("one changed stack", one_changed_stack),
        ("nothing to do 20", || nothing_to_do(20)),
        ("nothing to do 100", || nothing_to_do(100)),
        ("first deployment", || first_deployment(20)),
        ("idle", idle),
    ];
    for (_, bench) in benches.iter().filter(|(name, _)| name.contains(&filter)) {
        bench();
    }
}
