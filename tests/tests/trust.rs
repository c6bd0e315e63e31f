//! Only commits that authorised people signed, in a history that only moves forward, reach the server.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    docker::docker,
    fixture, http,
    keys::Key,
    port,
    receivers::webhook::Webhook,
    wait::{PATIENCE, wait_until},
    world::{World, page_at},
};

/// A page that runs and is recorded with its container, to see whether anything touches it.
struct Served {
    world: World,
    port: u16,
    id: String,
    head: String,
}

impl Served {
    fn new() -> Self {
        let world = World::new();
        let port = world.serve("good");
        let (id, head) = (world.container("web", "app").id(), world.repository.head());
        Self { world, port, id, head }
    }

    /// One sync, which must refuse for this rule, say what a person needs, and touch nothing.
    #[track_caller]
    fn refuses(&self, rule: &str, words: &[&str]) {
        let run = self.world.once().exits(4).said();
        for word in [rule].iter().chain(words) {
            assert!(run.contains(word), "the refusal should say {word:?}:\n{run}");
        }
        let sync = self.world.last_sync(Outcome::Refused);
        assert!(sync.deployments.is_empty(), "{sync:#?}");
        let status = self.world.status();
        assert_eq!(status.source.accepted.as_deref(), Some(self.head.as_str()));
        assert!(status.source.refused.is_some(), "status should tell of the refusal");
        self.is_untouched();
    }

    #[track_caller]
    fn is_untouched(&self) {
        assert_eq!(self.world.container("web", "app").id(), self.id);
        let live = fs::read_to_string(self.world.live(&self.world.path("web", "index.html"))).unwrap();
        assert_eq!(live, "good\n");
        assert_eq!(http::text(&page_at(self.port)), Ok("good".to_owned()));
    }

    fn page(&self) -> String {
        self.world.path("web", "index.html")
    }
}

#[test]
fn refuses_an_unsigned_commit() {
    let served = Served::new();
    let commit = served.world.change("Mine crypto").file(&served.page(), "bad\n").unsigned().push();
    served.refuses("E-UNSIGNED", &[&commit[..12], "Mine crypto"]);
}

#[test]
fn refuses_a_commit_signed_by_a_key_that_nobody_allowed() {
    let served = Served::new();
    let mallory = Key::make(&served.world.folder().join("keys"), "mallory");
    served.world.change("By another").file(&served.page(), "bad\n").signed_by(&mallory).push();
    served.refuses("E-UNKNOWN-KEY", &[&mallory.fingerprint()]);
}

#[test]
fn refuses_a_signed_tip_above_an_unsigned_commit() {
    let served = Served::new();
    let hidden = served.world.change("Hidden").file(&served.page(), "bad\n").unsigned().commit();
    served.world.change("Signed").file("README.md", "words\n").push();
    served.refuses("E-UNSIGNED", &[&hidden[..12]]);
}

#[test]
fn refuses_to_go_back_to_an_older_commit() {
    let mut served = Served::new();
    served.world.change("Newer").file(&served.page(), "good\n").file("README.md", "words\n").push();
    served.world.once().exits(0);
    served.head = served.world.repository.head();
    served.world.repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    served.world.repository.force_push();
    served.refuses("E-ROLLBACK", &[]);
}

#[test]
fn refuses_a_history_that_left_the_accepted_commit_out() {
    let mut served = Served::new();
    served.world.change("Accepted").file("README.md", "words\n").push();
    served.world.once().exits(0);
    served.head = served.world.repository.head();
    served.world.repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    served.world.change("Another line").file("OTHER.md", "words\n").commit();
    served.world.repository.force_push();
    served.refuses("E-DIVERGED", &[]);
}

#[test]
fn refuses_a_key_that_was_revoked() {
    let mut served = Served::new();
    let revoked = served.world.config.put("revoked", &format!("{}\n", served.world.repository.key.public()));
    let signers = served.world.server().join("allowed_signers");
    let trust = format!("{{ allowed_signers: {}, revoked: {} }}", signers.display(), revoked.display());
    served.world.config.set("trust", &trust);
    served.world.change("After the theft").file(&served.page(), "bad\n").push();
    let run = served.world.once().exits(4).said();
    assert!(run.contains("revoked"), "{run}");
    served.is_untouched();
}

#[test]
fn refuses_a_tip_whose_key_has_expired_by_now() {
    let served = Served::new();
    let key = &served.world.repository.key;
    let expired = key.allowed().replace("namespaces=", "valid-before=\"20240101Z\",namespaces=");
    served.world.config.put("allowed_signers", &expired);
    served.world.change("Too late").file(&served.page(), "bad\n").push();
    let run = served.world.once().exits(4).said();
    assert!(run.contains("expired"), "{run}");
    served.is_untouched();
}

#[test]
fn accepts_an_ecdsa_and_an_rsa_key_as_well() {
    let world = World::new();
    let keys = world.folder().join("keys");
    let ecdsa = Key::of_kind(&keys, "erin", &["-t", "ecdsa", "-b", "384"]);
    let rsa = Key::of_kind(&keys, "rob", &["-t", "rsa", "-b", "2048"]);
    world.config.put("allowed_signers", &(ecdsa.allowed() + &rsa.allowed()));
    world.change("By erin").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).signed_by(&ecdsa).push();
    let commit = world.change("By rob").file("README.md", "words\n").signed_by(&rsa).push();
    world.once().exits(0);
    assert_eq!(world.status().source.accepted, Some(commit));
}

#[test]
fn begins_at_the_introduction_and_never_before_it() {
    let mut world = World::new();
    world.change("Years of unsigned history").file("README.md", "old\n").unsigned().push();
    world.change("A stack").file(&world.path("web", "compose.yml"), fixture::sleeper(1)).push();
    let without = world.once().exits(4).said();
    assert!(without.contains("E-UNSIGNED") && world.containers("web").is_empty(), "{without}");

    let signers = world.server().join("allowed_signers");
    let (commit, signer) = (world.repository.head(), world.repository.key.fingerprint());
    let trust = format!(
        "{{ allowed_signers: {}, introduction: {{ commit: {commit}, signer: \"{signer}\" }} }}",
        signers.display()
    );
    world.config.set("trust", &trust);
    world.once().exits(0);
    assert_eq!(world.container("web", "app").state(), "running");
}

#[test]
fn judges_both_sides_of_a_merge() {
    let served = Served::new();
    let git = |args: &[&str]| served.world.repository.git(args);
    let merge = |branch: &str| {
        git(&["merge", "-q", "--no-ff", "-S", "-m", "Merge", branch]);
        git(&["push", "-q", "origin", "HEAD:refs/heads/main"]);
    };
    git(&["checkout", "-q", "-b", "signed"]);
    served.world.change("On a branch").file("a.md", "a\n").commit();
    git(&["checkout", "-q", "main"]);
    served.world.change("On main").file("b.md", "b\n").commit();
    merge("signed");
    served.world.once().exits(0);
    let accepted = served.world.repository.head();

    git(&["checkout", "-q", "-b", "unsigned"]);
    let hidden = served.world.change("Smuggled").file(&served.page(), "bad\n").unsigned().commit();
    git(&["checkout", "-q", "main"]);
    served.world.change("On main again").file("b.md", "c\n").commit();
    merge("unsigned");
    let run = served.world.once().exits(4).said();
    assert!(run.contains(&hidden[..12]), "{run}");
    assert_eq!(served.world.status().source.accepted, Some(accepted));
    served.is_untouched();
}

#[test]
fn goes_on_when_the_unsigned_commit_is_gone() {
    let served = Served::new();
    served.world.change("Mine crypto").file(&served.page(), "bad\n").unsigned().push();
    served.world.once().exits(4);
    served.world.repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let commit = served.world.change("Signed instead").file(&served.page(), "new\n").commit();
    served.world.repository.force_push();
    served.world.once().exits(0);
    assert_eq!(http::text(&page_at(served.port)), Ok("new".to_owned()));
    let source = served.world.status().source;
    assert_eq!((source.accepted, source.refused), (Some(commit), None));
}

#[test]
fn a_running_agent_takes_a_key_that_is_added_on_the_server() {
    let Served { mut world, port, .. } = Served::new();
    let bob = Key::make(&world.folder().join("keys"), "bob");
    let commit = world.change("By bob").file(&world.path("web", "index.html"), "bob\n").signed_by(&bob).push();
    world.start_and_wait();
    world.wait_sync(&commit, Outcome::Refused);
    world.config.put("allowed_signers", &(world.repository.key.allowed() + &bob.allowed()));
    world.wait_sync(&commit, Outcome::Committed);
    wait_until(PATIENCE, "the page is bob's", || match http::text(&page_at(port)) {
        Ok(page) if page == "bob" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn follows_the_signers_that_the_repository_lists() {
    let mut world = World::new();
    let bob = Key::make(&world.folder().join("keys"), "bob");
    let alice = world.repository.key.allowed().replace("alice@", "admin,alice@");
    let list = |serial: u32, keys: &str| format!("# serial: {serial}\n{keys}");
    world
        .change("Begin")
        .file(".evenkeel/allowed_signers", list(1, &alice))
        .file(&world.path("web", "compose.yml"), fixture::sleeper(1))
        .push();
    let (first, signer) = (world.repository.head(), world.repository.key.fingerprint());
    let trust = format!("{{ signers: repository, introduction: {{ commit: {first}, signer: \"{signer}\" }} }}");
    world.config.set("trust", &trust);
    world.once().exits(0);
    assert_eq!(world.container("web", "app").state(), "running");

    let both = list(2, &(alice + &bob.allowed()));
    world.change("Let me in").file(".evenkeel/allowed_signers", &both).signed_by(&bob).commit();
    world.repository.force_push();
    let refused = world.once().exits(4).said();
    assert!(refused.contains("E-UNKNOWN-KEY") && refused.contains(&bob.fingerprint()), "{refused}");

    world.repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    world.change("Let bob in").file(".evenkeel/allowed_signers", &both).commit();
    let commit = world.change("By bob").file("README.md", "words\n").signed_by(&bob).commit();
    world.repository.force_push();
    world.once().exits(0);
    assert_eq!(world.status().source.accepted, Some(commit));
}

#[test]
fn does_not_begin_anew_where_its_state_is_gone_and_something_is_deployed() {
    let served = Served::new();
    for file in ["evenkeel.db", "evenkeel.db-wal", "evenkeel.db-shm"] {
        let path = served.world.server().join("state").join(file);
        if path.exists() {
            fs::remove_file(path).unwrap();
        }
    }
    let run = served.world.once().exits(4).said();
    let accept = format!("evenkeel trust accept {}", served.head);
    assert!(run.contains("E-STATE") && run.contains(&served.world.stack("web")) && run.contains(&accept), "{run}");
    served.is_untouched();
    assert_eq!(served.world.status().source.accepted, None);
}

#[test]
fn throws_a_mirror_away_whose_history_is_cut_off() {
    let served = Served::new();
    fs::write(served.world.server().join("state/mirror.git/shallow"), format!("{}\n", served.head)).unwrap();
    served.world.change("Go on").file(&served.page(), "new\n").push();
    served.world.once().exits(0);
    assert_eq!(http::text(&page_at(served.port)), Ok("new".to_owned()));
}

#[test]
fn a_refusal_keeps_nothing_else_from_working_and_is_told_once_until_a_good_tip_comes() {
    let Served { mut world, port, .. } = Served::new();
    let (stack, address) = (world.stack("web"), format!("127.0.0.1:{}", port::free()));
    let second = world.change("Second").file(&world.path("web", "index.html"), "second\n").push();
    world.once().exits(0);
    let webhook = Webhook::start("the-key-of-the-webhook");
    world.report_to(&[webhook.sink(&world.config)]);
    world.config.set("listen", &format!("{{ page: '{address}' }}"));
    world.config.source(&world.repository.url(), "300ms");
    world.start_and_wait();
    let bad = world.change("Mine crypto").file(&world.path("web", "index.html"), "bad\n").unsigned().push();
    world.wait_sync(&bad, Outcome::Refused);
    let events = |count| {
        let taken = webhook.wait_taken(count);
        let told: Vec<String> = taken.iter().map(|d| d.event.clone()).collect();
        (told, taken)
    };
    let (told, taken) = events(1);
    let message = taken[0].body["reason"]["message"].as_str().unwrap();
    assert_eq!(told, ["refused"]);
    for word in ["E-UNSIGNED", &bad[..12], "Mine crypto", "git commit --amend -S", &second[..12]] {
        assert!(message.contains(word), "the refusal should say {word:?}: {message}");
    }

    // Everything else goes on.
    let refused = world.status().source.refused.unwrap();
    assert_eq!(refused["code"], "E-UNSIGNED");
    for verb in [&["status"][..], &["trust", "status"]] {
        let run = world.evenkeel(verb);
        assert!(run.exits(0).stdout.contains("git commit --amend -S"), "{}", run.report());
    }
    let page = || http::text(&format!("http://{address}/")).unwrap();
    let all_is_well = "runs as the newest commit wants";
    assert!(page().contains("E-UNSIGNED") && page().contains("git commit --amend -S"), "{}", page());
    assert!(!page().contains(all_is_well), "{}", page());
    world.evenkeel(&["rollback", &stack, "--reason", "the second is slow"]).exits(0);
    assert_eq!(http::text(&page_at(port)), Ok("good".to_owned()));
    docker(&["rm", "-f", &world.container("web", "app").id()]);
    let (told, _) = events(4);
    assert_eq!(told, ["refused", "deployed", "drift", "recovered"]);
    world.wait_container("web", "app", "runs again", |c| c.state() == "running");
    assert_eq!(world.status().source.refused.unwrap()["commit"], *bad);

    world.repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    let good = world.change("Signed instead").file(&world.path("web", "index.html"), "third\n").commit();
    world.repository.force_push();
    world.wait_sync(&good, Outcome::Committed);
    let (told, _) = events(6);
    assert_eq!(told[4..], ["recovered", "deployed"]);
    assert_eq!(world.status().source.refused, None);
    assert!(page().contains(all_is_well), "{}", page());
}

#[test]
fn tells_once_that_the_repository_is_silent_and_once_that_it_is_back() {
    let mut world = World::new();
    let webhook = Webhook::start("the-key-of-the-webhook");
    world.report_to(&[webhook.sink(&world.config)]);
    world.change("Begin").file("README.md", "words\n").push();
    let url = world.repository.url();
    world.config.source(&url, "200ms");
    let signers = world.server().join("allowed_signers");
    world.config.set("trust", &format!("{{ allowed_signers: {}, stale_after: 1s }}", signers.display()));
    let away = world.folder().join("away.git");
    fs::rename(&world.repository.bare, &away).unwrap();
    world.start_and_wait();
    wait_until(PATIENCE, "the status tells of the silence", || {
        let status = world.status();
        if status.source.stale { Ok(()) } else { Err(format!("{:?}", status.source)) }
    });
    let alarms = |world: &World| world.history().syncs.iter().filter(|s| s.trigger == "stale").count();
    wait_until(PATIENCE, "the history tells of it", || match alarms(&world) {
        1 => Ok(()),
        n => Err(format!("{n} alarms")),
    });
    let told = || webhook.taken().iter().map(|d| d.event.clone()).filter(|e| e != "refused").collect::<Vec<_>>();
    wait_until(PATIENCE, "the alarm is delivered", || if told() == ["stale"] { Ok(()) } else { Err(told().join(" ")) });
    // On a busy machine a poll may take a second; what follows is about the end of this silence.
    world.config.set("trust", &format!("{{ allowed_signers: {}, stale_after: 1h }}", signers.display()));
    world.config.write();
    wait_until(PATIENCE, "the agent has the longer time", || {
        let status = world.status();
        if status.source.stale { Err(format!("{:?}", status.source)) } else { Ok(()) }
    });
    assert_eq!((alarms(&world), told()), (1, vec!["stale".to_owned()]));
    fs::rename(&away, &world.repository.bare).unwrap();
    // It ends as it may: there is no stack in the repository.
    world.evenkeel(&["sync"]);
    let source = world.status().source;
    assert!(source.accepted.is_some(), "{source:?}");
    assert!(world.logged().contains("the repository answers again"), "{}", world.logged());
    wait_until(PATIENCE, "its end is delivered", || {
        if told() == ["stale", "recovered"] { Ok(()) } else { Err(told().join(" ")) }
    });
    // Each of these finds the repository.
    for _ in 0..3 {
        world.evenkeel(&["sync"]);
    }
    assert_eq!((alarms(&world), told()), (1, vec!["stale".to_owned(), "recovered".to_owned()]));
}
