//! `make bench`: what something costs, as a ratio to a baseline that runs in the same process, turn by turn.
//!
//! A busy or slow machine slows both sides, so the ratio stays comparable where times do not. Each benchmark has a bound;
//! over it, the run fails. See "Measuring" in CONTRIBUTING.md for how to add one.

use std::{
    fmt::Write as _,
    hint::black_box,
    process::ExitCode,
    time::{Duration, Instant},
};

use evenkeel_layout::{
    name::ServerName,
    stack_set,
    tree::{MapTree, Tree as _},
};

/// Rounds that count; the median of each side is what is printed.
const ROUNDS: usize = 15;

/// A side is repeated within a round until it took this long, so that the clock's grain does not matter.
const ROUND_TIME: Duration = Duration::from_millis(40);

/// One comparison.
struct Bench<'a> {
    /// For the filter, and for people.
    name: &'a str,
    /// What is measured.
    subject: &'a mut dyn FnMut(),
    /// The least work that could do.
    baseline: &'a mut dyn FnMut(),
    /// The largest ratio of the medians that is still fine.
    bound: f64,
}

/// How often `work` fits into a round.
fn repeats(work: &mut dyn FnMut()) -> u32 {
    let mut n = 1;
    loop {
        let took = time(work, n) * n;
        if took >= ROUND_TIME || n >= 1 << 20 {
            return n;
        }
        n *= 2;
    }
}

/// Time of one call, as the mean of `n`.
fn time(work: &mut dyn FnMut(), n: u32) -> Duration {
    let start = Instant::now();
    for _ in 0..n {
        work();
    }
    start.elapsed() / n
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Runs both sides in turn, prints one line, and says whether the ratio is within its bound.
fn run(bench: &mut Bench<'_>) -> bool {
    let (of_subject, of_baseline) = (repeats(bench.subject), repeats(bench.baseline));
    let (mut subject, mut baseline) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        subject.push(time(bench.subject, of_subject));
        baseline.push(time(bench.baseline, of_baseline));
    }
    let (subject, baseline) = (median(subject), median(baseline));
    let ratio = subject.as_secs_f64() / baseline.as_secs_f64();
    let fine = ratio <= bench.bound;
    println!(
        "{:<7} {:<40} ratio {ratio:>6.2} (bound {:.1})   {subject:>10.1?} against {baseline:.1?}",
        if fine { "ok" } else { "OVER" },
        bench.name,
        bench.bound
    );
    fine
}

/// A repository in the layout `stacks`, with `count` stacks that one server runs.
fn stacks_tree(count: usize) -> (MapTree, Vec<String>) {
    let mut files = Vec::new();
    for n in 0..count {
        let mut text = format!("name: stack-{n}\nservices:\n");
        for service in ["web", "worker", "db"] {
            write!(
                text,
                "  {service}:\n    image: registry.example/{service}:{n}\n    restart: unless-stopped\n    environment:\n      \
                 TZ: ${{TZ:-UTC}}\n      NAME: {service}-{n}\n    volumes:\n      - {service}-data:/data\n      - ./{service}.conf:/etc/app.conf:ro\n    \
                 healthcheck:\n      test: [\"CMD\", \"true\"]\n      interval: 5s\n"
            )
            .expect("a String takes all");
        }
        text.push_str("volumes:\n  web-data:\n  worker-data:\n  db-data:\n");
        files.push((format!("stacks/stack-{n}/compose.yml"), text));
    }
    let paths = files.iter().map(|(path, _)| path.clone()).collect();
    (MapTree::new(files), paths)
}

/// Finding 100 stacks against parsing their YAML and nothing else: what the layout adds to what anybody must do.
fn stack_set_of_100(filter: &str) -> Option<bool> {
    let name = "stack_set of 100 stacks / parse their YAML";
    if !name.contains(filter) {
        return None;
    }
    let (tree, paths) = stacks_tree(100);
    let server = ServerName::new("atlas").expect("a good name");
    let set = stack_set(&tree, &server, None);
    assert_eq!(set.stacks.len(), paths.len(), "the benchmark's own tree is not understood: {:?}", set.problems);
    Some(run(&mut Bench {
        name,
        subject: &mut || {
            black_box(stack_set(black_box(&tree), &server, None));
        },
        baseline: &mut || {
            for path in &paths {
                let bytes = tree.read(path).expect("in memory").expect("it is there");
                black_box(serde_yaml::from_slice::<serde_yaml::Value>(&bytes).expect("good YAML"));
            }
        },
        bound: 4.0,
    }))
}

fn main() -> ExitCode {
    // cargo adds --bench.
    let filter = std::env::args().skip(1).find(|a| !a.starts_with("--")).unwrap_or_default();
    let results: Vec<bool> = [stack_set_of_100].iter().filter_map(|bench| bench(&filter)).collect();
    let over = results.iter().filter(|fine| !**fine).count();
    println!("{} measured, {over} over their bound", results.len());
    if over > 0 || results.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
