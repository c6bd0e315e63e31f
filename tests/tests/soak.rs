//! Pushes of all kinds, good and bad, while the agent is killed now and then: what runs is always what a model of six lines
//! says.
//!
//! `SOAK=300 make test SUITE=scenarios FILTER=soak` goes on for 300 pushes instead of a few; `SOAK_SEED=…` repeats a run as
//! far as its choices go.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    collections::BTreeMap,
    env, fs,
    hash::{BuildHasher as _, RandomState},
    net::TcpListener,
    thread::sleep,
    time::Duration,
};

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    docker::{Container, image_id},
    fixture, http,
    keys::Key,
    range::Range,
    wait::{PATIENCE, seconds, wait_until},
    world::page_at,
};

/// How many pushes there are unless `SOAK` says otherwise: each kind has its turn.
const SHORT: usize = 14;
/// The agent may hold so many more kibibytes at the end than when it was warm.
const GROWTH_KIB: u64 = 24 * 1024;

/// What a push does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Good,
    /// What ran before comes back.
    Reverted,
    NoYaml,
    UnknownKey,
    UnknownKeyOfOurs,
    NoVariable,
    NoImage,
    InTheWay,
    Unhealthy,
    Crashing,
    NoPort,
    NoProgram,
    Unsigned,
    /// Signed by somebody who may not.
    Stranger,
    /// A history that does not hold what was accepted.
    ForcePushed,
}

use Kind as K;

/// In the order of the first pushes; later ones are chosen among them, good ones more often.
const KINDS: [Kind; 15] = [
    K::Good,
    K::Unhealthy,
    K::Reverted,
    K::NoYaml,
    K::Unsigned,
    K::Crashing,
    K::NoImage,
    K::ForcePushed,
    K::NoPort,
    K::NoVariable,
    K::Stranger,
    K::InTheWay,
    K::NoProgram,
    K::UnknownKey,
    K::UnknownKeyOfOurs,
];

/// What a commit comes to, and whether what it holds runs then: the model.
fn outcome(kind: Kind) -> (Outcome, bool) {
    match kind {
        K::Good | K::Reverted => (Outcome::Committed, true),
        K::NoYaml | K::UnknownKey | K::UnknownKeyOfOurs | K::NoVariable => (Outcome::Rejected, false),
        K::NoImage | K::InTheWay => (Outcome::Aborted, false),
        K::Unhealthy | K::Crashing | K::NoPort | K::NoProgram => (Outcome::RolledBack, false),
        K::Unsigned | K::Stranger | K::ForcePushed => (Outcome::Refused, false),
    }
}

/// The same numbers from the same seed: splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// A Compose file with its page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    image: u8,
    compose: String,
    page: String,
}

struct Soak {
    range: Range,
    dice: Dice,
    port: u16,
    taken: TcpListener,
    stranger: Key,
    /// What should run, and what ran before.
    runs: Content,
    former: Content,
    number: u32,
    kills: u32,
    pushed: BTreeMap<Kind, u32>,
}

impl Soak {
    fn new(seed: u64) -> Self {
        let mut range = Range::new();
        let port = range.world.serve("0");
        range.world.config.source(&range.world.repository.url(), "200ms");
        let runs = Content { image: 1, compose: fixture::web(1, port), page: "0".to_owned() };
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let stranger = Key::make(&range.world.folder().join("strangers"), "mallory");
        fs::write(range.world.live(&range.world.path("web", "notes.txt")), "mine\n").unwrap();
        let (dice, former, pushed) = (Dice(seed), runs.clone(), BTreeMap::new());
        Self { range, dice, port, taken, stranger, runs, former, number: 0, kills: 0, pushed }
    }

    /// What a push of this kind holds. No two are the same but for what is reverted: the same bytes would stay out.
    fn content(&self, kind: Kind) -> Content {
        if kind == K::Reverted {
            return self.former.clone();
        }
        let image = 3 - self.runs.image.min(2);
        let number = self.number;
        let good = fixture::web(image, self.port).replace("interval: 500ms", "interval: 200ms")
            + &format!("    environment: {{ N: 'number {number}' }}\n");
        let taken = self.taken.local_addr().unwrap().port();
        let compose = match kind {
            K::NoYaml => good.replace("    image: ", "   image: ["),
            K::UnknownKey => good.replace("    command:", "    comand:"),
            K::UnknownKeyOfOurs => good + "x-evenkeel: { gait: {} }\n",
            K::NoVariable => good.replace("number ", "${NOBODY_SET_THIS} "),
            K::NoImage => good.replace("busybox:", "nothing-like-it:") + "    pull_policy: never\n",
            K::InTheWay => good.replace("volumes: [", "volumes: ['./notes.txt:/notes.txt:ro', "),
            K::Unhealthy => good
                .replace("[CMD, wget, -q, -O, /dev/null, 'http://127.0.0.1/']", "[CMD, 'false']")
                .replace("start_period: 5s", "start_period: 0s"),
            K::Crashing => good.replace("[httpd, -f, -p, '80', -h, /www]", "[sh, -c, 'exit 3']"),
            K::NoPort => good.replace(&format!(":{}:", self.port), &format!(":{taken}:")),
            K::NoProgram => good.replace("[httpd, ", "[no-such-program, "),
            _ => good,
        };
        Content { image, compose, page: number.to_string() }
    }

    fn push(&mut self, kind: Kind) {
        self.number += 1;
        *self.pushed.entry(kind).or_default() += 1;
        let (next, (outcome, runs)) = (self.content(kind), outcome(kind));
        let world = &self.range.world;
        let tip = world.repository.head();
        if kind == K::ForcePushed {
            world.repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
        }
        let mut change = world
            .change(&format!("{kind:?} {}", self.number))
            .file(&world.path("web", "compose.yml"), &next.compose)
            .file(&world.path("web", "index.html"), format!("{}\n", next.page));
        if kind == K::InTheWay {
            change = change.file(&world.path("web", "notes.txt"), "ours\n");
        }
        let commit = match kind {
            K::Unsigned => change.unsigned().commit(),
            K::Stranger => change.signed_by(&self.stranger).commit(),
            _ => change.commit(),
        };
        world.repository.force_push();
        self.kill_sometimes();
        if outcome == Outcome::Refused {
            self.wait_refused(&commit);
            // The owner notices, and puts the branch back.
            self.range.world.repository.git(&["reset", "-q", "--hard", &tip]);
            self.range.world.repository.force_push();
            self.kill_sometimes();
            self.wait_count("the branch is back", &format!("SELECT count(*) FROM source WHERE tip = '{tip}'"), 1);
        } else {
            let ended = format!(
                "SELECT count(*) > 0 FROM deployments WHERE commit_id = '{commit}' AND outcome = '{}'",
                outcome.as_str()
            );
            self.wait_count(&format!("{kind:?} ends {}", outcome.as_str()), &ended, 1);
        }
        if runs && next != self.runs {
            self.former = std::mem::replace(&mut self.runs, next);
        }
        self.check(&format!("push {} of {kind:?}", self.number));
    }

    fn kill_sometimes(&mut self) {
        if self.dice.roll(3) == 0 {
            let delay = self.dice.roll(2_500);
            sleep(Duration::from_millis(delay));
            self.range.world.take_agent().kill();
            self.range.start();
            self.kills += 1;
        }
    }

    fn wait_refused(&self, commit: &str) {
        let refused = format!("SELECT count(*) FROM source WHERE refused ->> 'tip' = '{commit}'");
        self.wait_count("the commit is refused", &refused, 1);
    }

    fn wait_count(&self, what: &str, query: &str, count: i64) {
        self.range.wait_still(&format!("{what} (push {})", self.number), || {
            let found = self.range.count(query);
            if found == count { Ok(()) } else { Err(format!("{query}: {found}")) }
        });
    }

    /// What runs is all that should run, in every respect.
    fn check(&self, told: &str) {
        let world = &self.range.world;
        let image = image_id(&format!("evenkeel-test/busybox:{}", self.runs.image)).unwrap();
        wait_until(PATIENCE, &format!("what should run runs after {told}"), || {
            let all = world.containers("web");
            let shown: Vec<String> = all.iter().map(Container::shown).collect();
            let [one] = &all[..] else { return Err(format!("{shown:?}")) };
            let is_right = one.state() == "running" && one.image() == image;
            let page = http::text(&page_at(self.port));
            if is_right && page.as_deref() == Ok(&self.runs.page) { Ok(()) } else { Err(format!("{shown:?} {page:?}")) }
        });
        let file = |name: &str| fs::read_to_string(world.live(&world.path("web", name))).unwrap();
        assert_eq!(file("compose.yml"), self.runs.compose, "{told}");
        assert_eq!(file("index.html"), format!("{}\n", self.runs.page), "{told}");
        assert_eq!(file("notes.txt"), "mine\n", "{told}");
    }

    /// What the agent holds in memory, in kibibytes.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.range.world.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap()
    }
}

#[test]
fn a_soak_of_pushes_and_kills_always_ends_as_the_model_says() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SOAK_SEED").unwrap_or_else(|| RandomState::new().hash_one(()));
    let pushes = number("SOAK").map_or(SHORT, |pushes| usize::try_from(pushes).unwrap());
    println!("soak of {pushes} pushes, SOAK_SEED={seed}");
    let mut soak = Soak::new(seed);
    soak.range.start();
    for n in 0..pushes {
        let kind = match KINDS.get(n) {
            Some(kind) => *kind,
            None if soak.dice.roll(2) == 0 => K::Good,
            None => KINDS[usize::try_from(soak.dice.roll(15)).unwrap()],
        };
        soak.push(kind);
    }
    soak.push(K::Good);
    soak.range.check_kept_images("web");
    // One process, warm, and then as many syncs as a poll of 200 ms makes beside some good pushes.
    soak.range.settle();
    let warm = soak.memory();
    for _ in 0..pushes.div_ceil(10) {
        let (kills, dice) = (soak.kills, soak.dice.0);
        soak.dice.0 = dice.wrapping_add(1);
        soak.push(K::Good);
        assert!(soak.kills >= kills);
    }
    let end = soak.memory();
    let syncs = soak.range.count("SELECT count(*) FROM syncs");
    let (code, _) = soak.range.world.take_agent().terminate(seconds(20));
    assert_eq!(code, Some(0));
    println!(
        "soak: {} pushes {:?}, {} kills, {syncs} syncs, no difference; memory {warm} KiB warm, {end} KiB at the end; {:?}",
        soak.number,
        soak.pushed,
        soak.kills,
        soak.range.age()
    );
    assert!(end <= warm + GROWTH_KIB, "the agent grew from {warm} to {end} KiB");
}
