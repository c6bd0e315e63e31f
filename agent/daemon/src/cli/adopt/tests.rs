use evenkeel_core::change::{Why, WhyKind};
use insta::assert_snapshot;

use super::*;

fn service(name: &str, change: ServiceChangeKind, containers: &[&str], why: Vec<Difference>) -> AdoptedService {
    let containers = containers.iter().map(ToString::to_string).collect();
    AdoptedService { service: name.to_owned(), change, why, containers }
}

fn difference(kind: WhyKind, name: &str, between: Option<(&str, &str)>) -> Difference {
    let (found, wanted) = between.map(|(a, b)| (a.to_owned(), b.to_owned())).unzip();
    Difference { why: Why { kind, name: name.to_owned() }, found, wanted }
}

fn stack(name: &str, folder: Option<&str>, services: Vec<AdoptedService>) -> AdoptedStack {
    AdoptedStack {
        name: StackName::new(name).unwrap(),
        project: Some(name.to_owned()),
        runs: folder.is_some(),
        started_from: folder.map(str::to_owned).into_iter().collect(),
        files: Vec::new(),
        runs_as: Vec::new(),
        services,
        left_alone: Vec::new(),
        in_the_way: Vec::new(),
        problems: Vec::new(),
    }
}

fn document() -> Document {
    use ServiceChangeKind as Kind;
    let image = difference(WhyKind::Image, "image", Some(("redis:7 (aaaaaaaaaaaa)", "redis:8 (bbbbbbbbbbbb)")));
    let whys = vec![image, difference(WhyKind::Env, "PASSWORD", None), difference(WhyKind::Other, "privileged", None)];
    let mut immich = stack(
        "immich",
        Some("/opt/infra/stacks/immich"),
        vec![
            service("cache", Kind::Recreate, &["immich-cache-1"], whys),
            service("server", Kind::None, &["immich-server-1"], vec![]),
        ],
    );
    immich.left_alone.push("old".to_owned());
    immich.in_the_way.push("/opt/infra/stacks/immich/compose.yml".to_owned());
    let mut broken = stack("broken", None, vec![]);
    let problem = Problem::error("env.unset", "the variable TAG is used and set nowhere", "set it in .env");
    broken.problems.push(problem.in_stack(&broken.name));
    let mut named = stack("named", None, vec![]);
    named.runs_as.push("infra".to_owned());
    let new = stack("new", None, vec![service("app", Kind::Create, &[], vec![])]);
    let stacks = vec![broken, immich, named, new];
    let configured = AtRoot { path: "/srv/evenkeel".to_owned(), taken_over: 0, recreated: 2, missing: 1, rejected: 1 };
    Document {
        schema: 1,
        server: ServerName::new("home").unwrap(),
        commit: CommitId::new("0123456789abcdef0123456789abcdef01234567").unwrap(),
        live: Live {
            configured: "/srv/evenkeel".to_owned(),
            best: "/opt/infra".to_owned(),
            line: Some("paths: { live: /opt/infra }".to_owned()),
        },
        roots: vec![configured, AtRoot::of("/opt/infra", &stacks)],
        stacks,
        others: vec![Other { container: "portainer".to_owned(), project: None, service: None, started_from: None }],
    }
}

#[test]
fn tells_what_stays_what_does_not_and_why_and_what_to_do() {
    assert_snapshot!(anstream::adapter::strip_str(&shown::as_text(&document())).to_string());
}

#[test]
fn the_document_has_what_the_reference_says() {
    let said = serde_json::to_value(document()).unwrap();
    let why = &said["stacks"][1]["services"][0]["why"];
    assert_eq!(
        why[0],
        serde_json::json!({"kind": "image", "name": "image", "found": "redis:7 (aaaaaaaaaaaa)", "wanted": "redis:8 (bbbbbbbbbbbb)"})
    );
    assert_eq!(why[1], serde_json::json!({"kind": "env", "name": "PASSWORD"}));
    assert_eq!(
        said["roots"][1],
        serde_json::json!({"path": "/opt/infra", "taken_over": 1, "recreated": 1, "missing": 1, "rejected": 1})
    );
}
