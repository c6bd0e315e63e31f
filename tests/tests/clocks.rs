//! A clock that jumps, as on a board without a battery that learns the time after it has started.

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    clock::Clock,
    fixture, port,
    receivers::{discord::Discord, webhook::Webhook},
    wait::{PATIENCE, wait_until},
    world::World,
};

/// An agent that reports to a Discord channel which does not take the first messages at once, and a clock of its own.
fn with_a_clock(name: &str) -> Option<(World, Discord, Clock)> {
    let mut world = World::new();
    let folder = world.folder().to_path_buf();
    let clock = Clock::set_up(name, &mut world, &folder)?;
    let discord = Discord::start();
    let url = world.config.put("discord-url", &format!("{}\n", discord.url()));
    world.report_to(&[format!("discord: {{ url_file: {} }}", url.display())]);
    world.config.source(&world.repository.url(), "300ms");
    Some((world, discord, clock))
}

/// A deployment during which the clock jumps, with a report that does not get away before it.
#[track_caller]
fn jumps(world: &mut World, discord: &Discord, clock: &Clock, by: &str) {
    let file = world.path("web", "compose.yml");
    discord.limit_next(3.0);
    let first = world.change("Begin").file(&file, fixture::sleeper(1)).push();
    world.start_and_wait();
    world.wait_sync(&first, Outcome::Committed);
    wait_until(PATIENCE, "the first try was limited", || {
        if discord.limits_used_up() { Ok(()) } else { Err("no try yet".to_owned()) }
    });
    let second = world.change("Next").file(&file, fixture::slow(2, 2)).push();
    world.wait_container("web", "app", "that gets ready is there", |c| c.health() == "starting");
    discord.limit_next(1.0);
    clock.jump(by);
    world.wait_sync(&second, Outcome::Committed);
    let third = world.change("Last").file(&file, fixture::sleeper(1)).push();
    world.wait_sync(&third, Outcome::Committed);
    let messages = wait_until(PATIENCE, "all three are told", || {
        let messages = discord.messages();
        if messages.len() == 3 { Ok(messages) } else { Err(format!("{} messages", messages.len())) }
    });
    for (message, commit) in messages.iter().zip([&first, &second, &third]) {
        assert!(message.text().contains(&commit[..7]), "in order: {}", message.text());
    }
    let status = world.evenkeel(&["status", "--format", "json"]).json();
    assert_eq!((&status["outbox"]["pending"], &status["outbox"]["undelivered"]), (&0.into(), &0.into()));
    world.evenkeel(&["history"]).exits(0);
}

#[test]
fn a_clock_that_jumps_ahead_costs_no_report_and_no_deployment() {
    let name = "a_clock_that_jumps_ahead_costs_no_report_and_no_deployment";
    let Some((mut world, discord, clock)) = with_a_clock(name) else { return };
    jumps(&mut world, &discord, &clock, "+3650d");
    assert!(world.history().last().is_some_and(|s| !s.started.to_string().contains("202")), "the clock was faked");
}

#[test]
fn a_clock_that_is_set_back_costs_no_report_and_no_deployment() {
    let name = "a_clock_that_is_set_back_costs_no_report_and_no_deployment";
    let Some((mut world, discord, clock)) = with_a_clock(name) else { return };
    jumps(&mut world, &discord, &clock, "-3650d");
    assert!(world.history().last().is_some_and(|s| s.started.to_string().contains("201")), "the clock was faked");
}

#[test]
fn a_sink_that_is_down_for_over_an_hour_gets_everything_once_and_in_order() {
    let name = "a_sink_that_is_down_for_over_an_hour_gets_everything_once_and_in_order";
    let mut world = World::new();
    let folder = world.folder().to_path_buf();
    let Some(clock) = Clock::set_up(name, &mut world, &folder) else { return };
    let (port, key) = (port::free(), "the-key");
    let secret = world.config.put("webhook-secret", key);
    world.report_to(&[format!(
        "webhook: {{ url: http://127.0.0.1:{port}/evenkeel, secret_file: {} }}",
        secret.display()
    )]);
    world.config.source(&world.repository.url(), "300ms");
    clock.jump("-96m");
    world.start();
    let file = world.path("web", "compose.yml");
    let failed = |world: &World| world.logged().matches("a report was not delivered").count();
    let mut commits = Vec::new();
    // No pause between two tries is longer than a quarter of an hour.
    for (minutes, image) in [("-80m", 1), ("-64m", 2), ("-48m", 1), ("-32m", 2), ("-16m", 1)] {
        clock.jump(minutes);
        let before = failed(&world);
        let change = world.change(minutes).file(&file, fixture::sleeper(image));
        commits.push(change.push());
        world.wait_sync(&commits[commits.len() - 1], Outcome::Committed);
        wait_until(PATIENCE, "the oldest report is tried again, in vain", || {
            if failed(&world) > before { Ok(()) } else { Err(format!("{before} times so far")) }
        });
    }
    let outbox = &world.evenkeel(&["status", "--format", "json"]).json()["outbox"];
    assert_eq!((&outbox["pending"], &outbox["undelivered"]), (&5.into(), &0.into()), "{outbox:#}");

    // It is back, and hears of the sixth as well.
    let webhook = Webhook::start_on(port, key);
    clock.jump("-0m");
    commits.push(world.change("Wake").file(&file, fixture::sleeper(2)).push());
    let taken = webhook.wait_taken(6);
    let told: Vec<_> = taken.iter().map(|d| (d.event.as_str(), d.body["commit"]["id"].as_str())).collect();
    let expected: Vec<_> = commits.iter().map(|commit| ("deployed", Some(commit.as_str()))).collect();
    assert_eq!(told, expected);
    assert_eq!((webhook.deliveries().len(), webhook.refused()), (6, Vec::new()));
}
