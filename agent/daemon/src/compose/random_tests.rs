//! The merge oracle on random projects: whatever a shared, a local and a server layer say, the model is the one that
//! `docker compose config` makes of the same files.
//!
//! The one difference is meant (decision 0013): relative paths of a layer are resolved beside its own file. Where a layer says
//! `HERE` it means its own folder: for Evenkeel that is `.`, for the oracle, which resolves beside the first file, the
//! absolute path.
//!
//! And whatever was kept of a rendering is read as it was written.
//!
//! The projects are the same in each run. `EVENKEEL_CASES=500` takes so many others, by chance.

use std::{collections::BTreeMap, fmt::Write as _, fs, process::Command};

use evenkeel_core::references::reads;
use evenkeel_layout::{
    name::StackName,
    set::{Layer, Origin},
    tree::MapTree,
};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
    sample::{select, subsequence},
    test_runner::{Config, TestRng, TestRunner},
};
use semver::Version;
use serde_json::Value;

use super::*;
use crate::{
    cache::{Cache, Limits},
    compose::renders::{Inputs, Renders},
    process::Runner,
};

/// Projects without `EVENKEEL_CASES`. Each starts Compose two or three times.
const CASES: u32 = 40;
/// The layers, lowest first: folder, file, and what the oracle reads in its place.
const PLACES: [(&str, &str, Origin); 3] = [
    ("shared/web", "compose.yml", Origin::Shared),
    ("servers/home/web", "compose.yml", Origin::Local),
    ("servers/home", "compose.yml", Origin::Server),
];
/// Environment files, lowest first.
const ENV: [&str; 3] = [".env", "shared/web/.env", "servers/home/.env"];

#[derive(Debug, Clone)]
struct Project {
    layers: Vec<String>,
    env: Vec<BTreeMap<&'static str, &'static str>>,
}

/// Keys of a service that stand for themselves, each with what may be written there.
const KEYS: &[(&str, &[&str])] = &[
    ("image", &["a", "'b:${TAG:-1}'", "'registry.example:5000/c:${TAG}'"]),
    ("restart", &["always", "'no'", "unless-stopped", "!reset null"]),
    ("command", &["x y", "[x, '${WORD}', '$$HOME']", "''", "!reset null"]),
    ("entrypoint", &["[e]", "e f", "!override [g]"]),
    ("hostname", &["'${WORD:-h}'", "h"]),
    ("init", &["true", "false"]),
    ("working_dir", &["/w", "!reset null"]),
    ("user", &["'1'", "'${NUMBER}:2'"]),
    ("mem_limit", &["64m", "1g"]),
    ("stop_grace_period", &["5s", "1m30s"]),
    (
        "healthcheck",
        &[
            "{test: [CMD, a], interval: 5s}",
            "{test: b, timeout: 3s, retries: 2}",
            "{disable: true}",
            "{start_period: 10s}",
            "!override {test: [NONE]}",
            "!reset null",
        ],
    ),
    ("labels", &["{l: '${WORD}', m: ''}", "[l=2, n=x=y]", "!override {o: '1'}", "!reset null"]),
    (
        "env_file",
        &["HERE/a.env", "[HERE/a.env, {path: HERE/none.env, required: false}]", "!override [HERE/a.env]", "!reset []"],
    ),
    ("extends", &["{file: HERE/base.yml, service: base}"]),
    ("build", &["HERE", "{context: HERE, args: {A: '${WORD}'}}", "{args: [B=2], target: t}"]),
    ("networks", &["[front]", "{back: {aliases: [w]}}", "{front: {priority: 5}}", "!override [back]"]),
    ("depends_on", &["[other]", "{other: {condition: service_healthy}}", "[more]", "!reset []"]),
    ("cap_add", &["[A]", "[A, B]", "!override [C]"]),
    ("dns", &["1.1.1.1", "[8.8.8.8]"]),
    ("tmpfs", &["/t", "[/u, /v]"]),
    ("extra_hosts", &["['a:1.1.1.1']", "{b: 2.2.2.2}"]),
    ("logging", &["{driver: json-file, options: {max-size: 1m}}", "{options: {max-file: '3'}}", "{driver: local}"]),
    ("deploy", &["{resources: {limits: {cpus: '1'}}}", "{replicas: 2, resources: {limits: {memory: 1g}}}"]),
    ("secrets", &["[s]", "[{source: s, target: /t}]"]),
    ("configs", &["[c]", "[{source: c, mode: 0440}]"]),
    ("ulimits", &["{nofile: 10}", "{nofile: {soft: 20, hard: 40}}"]),
    ("profiles", &["[p]"]),
    ("x-own", &["{a: 1}"]),
];

/// What both take for wrong.
const WRONG: &[&str] = &["ports: [{target: x}]", "unknown: 1", "depends_on: [nobody]", "image: '${NEVER:?}'"];

fn tagged(value: &str, tag: &str) -> String {
    format!("{tag}{value}")
}

fn tag() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 1 => Just("!override ")]
}

/// `environment` in one of its two forms.
fn environment() -> impl Strategy<Value = String> {
    let value = select(vec!["1", "x y", "", "${WORD}", "${WORD:-d}", "${TAG-}", "$$x ${NUMBER}", "a=b#c", "${UNSET}"]);
    let entries = btree_map(select(vec!["A", "B", "C", "D"]), option::weighted(0.9, value), 1..4);
    (entries, any::<bool>(), tag()).prop_map(|(entries, is_list, tag)| {
        let shown = entries.iter().map(|(name, value)| match (is_list, value) {
            (true, Some(value)) => format!("'{name}={value}'"),
            (true, None) => format!("'{name}'"),
            (false, Some(value)) => format!("{name}: '{value}'"),
            (false, None) => format!("{name}: null"),
        });
        let shown = shown.collect::<Vec<_>>().join(", ");
        tagged(&if is_list { format!("[{shown}]") } else { format!("{{{shown}}}") }, tag)
    })
}

fn ports() -> impl Strategy<Value = String> {
    let port = || select(vec!["80", "81", "8080", "9000-9002"]);
    let short = (option::of(select(vec!["127.0.0.1:", "[::1]:"])), port(), select(vec!["", "/udp"]));
    let short = short.prop_map(|(ip, port, protocol)| format!("'{}{port}:{port}{protocol}'", ip.unwrap_or_default()));
    let other = select(vec!["'80'", "'8080:80'", "{target: 80, published: '${NUMBER}', mode: host}", "'${NUMBER}:82'"]);
    list(prop_oneof![short, other.prop_map(str::to_owned)])
}

fn volumes() -> impl Strategy<Value = String> {
    let target = select(vec!["/x", "/y", "/z"]);
    let source = select(vec!["HERE/d", "HERE/e.txt", "data", "/abs"]);
    let short = (source, target, select(vec!["", ":ro"])).prop_map(|(s, t, mode)| format!("'{s}:{t}{mode}'"));
    let other = select(vec![
        "{type: bind, source: HERE/f, target: /x, read_only: true}",
        "{type: volume, source: data, target: /y, volume: {nocopy: true}}",
        "{type: tmpfs, target: /z}",
        "/anonymous",
    ]);
    list(prop_oneof![short, other.prop_map(str::to_owned)])
}

fn list(item: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    (vec(item, 1..4), tag()).prop_map(|(items, tag)| tagged(&format!("[{}]", items.join(", ")), tag))
}

/// The body of a service: its lines.
fn service(keys: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let plain = subsequence(KEYS, keys).prop_flat_map(|keys| {
        let line = |(key, values): (&'static str, &'static [&'static str])| {
            select(values).prop_map(move |value| format!("    {key}: {value}\n"))
        };
        keys.into_iter().map(line).collect::<Vec<_>>()
    });
    let of = |key: &'static str, value: BoxedStrategy<String>| {
        option::weighted(0.4, value).prop_map(move |v| v.map_or_else(String::new, |v| format!("    {key}: {v}\n")))
    };
    let wrong = option::weighted(0.02, select(WRONG));
    (
        plain,
        of("environment", environment().boxed()),
        of("ports", ports().boxed()),
        of("volumes", volumes().boxed()),
        wrong,
    )
        .prop_map(|(plain, environment, ports, volumes, wrong)| match wrong {
            Some(wrong) => format!("    {wrong}\n"),
            None => format!("{}{environment}{ports}{volumes}", plain.concat()),
        })
        .prop_map(|body| if body.is_empty() { "    labels: {empty: '1'}\n".to_owned() } else { body })
}

/// The first layer: everything that the higher ones refer to.
fn lowest() -> impl Strategy<Value = String> {
    (service(2..8), any::<bool>()).prop_map(|(body, includes)| {
        // What every service must have, once.
        let image = if body.contains("    image:") { "" } else { "    image: i\n" };
        let include = if includes { "include: [inc.yml]\n" } else { "" };
        format!(
            "{include}services:\n  web:\n{image}{body}  other: {{image: o, healthcheck: {{test: x}}}}\n  more: {{image: m}}\n\
             networks: {{front: {{}}, back: {{driver_opts: {{a: '1'}}}}}}\nvolumes: {{data: {{}}}}\n\
             secrets: {{s: {{file: ./s.txt}}}}\nconfigs: {{c: {{content: x}}}}\n"
        )
    })
}

fn higher() -> impl Strategy<Value = String> {
    let top = select(vec![
        "",
        "volumes: {data: {external: true, name: w}}\n",
        "networks: {front: {internal: true}}\n",
        "secrets: {s: {file: HERE/s.txt}}\n",
        "configs: {c: !override {file: HERE/s.txt}}\n",
        "name: high\n",
        "include: [HERE/inc.yml]\n",
    ]);
    let name = prop_oneof![4 => Just("web"), 1 => Just("other"), 1 => Just("new")];
    (service(1..6), name, top, any::<bool>()).prop_map(|(body, name, top, drops)| {
        let image = if name == "new" && !body.contains("    image:") { "    image: n\n" } else { "" };
        let drops = if drops && name != "other" { "  more: !reset null\n" } else { "" };
        format!("{top}services:\n  {name}:\n{image}{body}{drops}")
    })
}

fn project() -> impl Strategy<Value = Project> {
    let values = select(vec!["1", "22", "x", "'x y'", "\"a${TAG}b\"", "", "'l$t'"]);
    let words = btree_map(select(vec!["TAG", "WORD"]), values, 0..3);
    let numbers = option::of(select(vec!["7000", "7001"]));
    let env = (words, numbers).prop_map(|(mut env, number)| {
        env.extend(number.map(|number| ("NUMBER", number)));
        env
    });
    (lowest(), vec(higher(), 1..3), vec(env, ENV.len())).prop_map(|(low, high, env)| {
        let layers = std::iter::once(low).chain(high).collect();
        Project { layers, env }
    })
}

impl Project {
    /// Writes everything: the layers, what they refer to, and the oracle's copies of the higher ones.
    fn write(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        for ((at, (dir, file, _)), text) in PLACES.iter().enumerate().zip(&self.layers) {
            let here = folder.path().join(dir).display().to_string();
            write(&format!("{dir}/{file}"), &text.replace("HERE", "."));
            write(&format!("oracle{at}.yml"), &text.replace("HERE", &here));
            write(&format!("{dir}/a.env"), &format!("FROM=file{at}\nA=file\n"));
            write(&format!("{dir}/s.txt"), "s");
            let more =
                |name: &str| format!("services: {{{name}: {{image: z{at}, env_file: a.env, volumes: ['./y:/b']}}}}\n");
            write(&format!("{dir}/base.yml"), &more("base"));
            write(&format!("{dir}/inc.yml"), &more(&format!("inc{at}")));
        }
        for (path, values) in ENV.iter().zip(&self.env) {
            let mut text = String::new();
            for (name, value) in values {
                writeln!(text, "{name}={value}").unwrap();
            }
            write(path, &text);
        }
        folder
    }

    async fn ours(&self, compose: &Compose, root: &Path) -> Option<Value> {
        let layers = PLACES
            .iter()
            .zip(&self.layers)
            .map(|((dir, file, origin), _)| Layer::new(format!("{dir}/{file}"), *origin));
        let stack =
            Stack { project: Some("p".to_owned()), ..Stack::new(StackName::new("web").unwrap(), layers.collect()) };
        let env_files: Vec<PathBuf> = ENV.iter().map(|path| root.join(path)).collect();
        let request = RenderRequest { stack: &stack, env_files: &env_files, root, target: root, lenient: false };
        let paths =
            PLACES.iter().flat_map(|(dir, file, _)| [file, "base.yml", "inc.yml"].map(|f| format!("{dir}/{f}")));
        let tree = MapTree::new(paths.filter_map(|path| Some((path.clone(), fs::read(root.join(&path)).ok()?))));
        let files = reads(&tree, &stack.layers).unwrap().inputs;
        let inputs = files.as_ref().map(|files| Inputs { files, may_last: true });
        let mut answers = Vec::new();
        // The second one reads what the first one kept.
        for _ in 0..2 {
            let cache = Cache::open(&root.join("cache"), "x", Limits::default()).unwrap();
            let renders = Renders::lasting(cache, compose, &Version::new(2, 26, 1));
            answers.push(match renders.render(compose, &request, inputs).await {
                Ok(rendered) => Ok(rendered),
                Err(RenderError::Refused(problems)) => Err(problems),
                Err(other) => panic!("{other}"),
            });
        }
        let same = answers[0] == answers[1];
        assert!(same, "what was kept is not what was rendered");
        let rendered = answers.remove(0).ok()?;
        Some(rendered.model.value().clone())
    }

    /// What Compose makes of the same files, the first of which says where it runs.
    fn theirs(&self, root: &Path, profiles: &[&str]) -> Option<Value> {
        let mut command = Command::new("docker");
        command.args(["compose", "-p", "p"]).args(profiles).args(["-f", "shared/web/compose.yml"]);
        for at in 1..self.layers.len() {
            command.args(["-f", &format!("oracle{at}.yml")]);
        }
        command.args(["--project-directory", "shared/web"]);
        for path in ENV {
            command.args(["--env-file", path]);
        }
        let done =
            command.args(["config", "--format", "json"]).current_dir(root).env_remove("COMPOSE_PROFILES").output();
        let done = done.unwrap();
        done.status.success().then(|| serde_json::from_slice(&done.stdout).unwrap())
    }
}

#[test]
fn random_layers_are_what_docker_compose_config_makes_of_them() {
    let compose = Compose::find(Runner::plain(), None, None).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let asked: Option<u32> = std::env::var("EVENKEEL_CASES").ok().map(|cases| cases.parse().unwrap());
    let config =
        Config { cases: asked.unwrap_or(CASES), failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = if asked.is_some() { TestRunner::new(config) } else { TestRunner::new_with_rng(config, rng) };
    let (rendered, refused) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let done = runner.run(&project(), |project| {
        let folder = project.write();
        let ours = runtime.block_on(project.ours(&compose, folder.path()));
        let mut theirs = project.theirs(folder.path(), &[]);
        // A fault of a service whose profile is not active is a fault all the same (decision 0029).
        if ours.is_none() && theirs.is_some() {
            theirs = project.theirs(folder.path(), &["--profile", "*"]);
        }
        let count = if theirs.is_some() { &rendered } else { &refused };
        count.set(count.get() + 1);
        prop_assert_eq!(ours, theirs);
        Ok(())
    });
    if let Err(error) = done {
        panic!("{error}");
    }
    assert!(rendered.get() > 2 * refused.get(), "{} of {} refused by both prove little", refused.get(), rendered.get());
}
