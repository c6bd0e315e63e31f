use std::collections::BTreeMap;

use evenkeel_layout::{gate::GateSpec, name::StackName};
use serde_json::{Value, json};

use super::*;
use crate::{
    id::{CommitId, Digest, ReleaseId},
    model::Model,
    release::{ReleaseImage, SecretEnv},
};

const MODEL_FILE: &str = "/state/models/web.json";

fn release(services: &Value) -> Release {
    let image = |name: &str| ReleaseImage {
        reference: format!("{name}:1"),
        id: ImageId(format!("sha256:{name}")),
        pinned: None,
    };
    let names = services.as_object().unwrap().keys();
    Release {
        id: ReleaseId(1),
        stack: StackName::new("web").unwrap(),
        project: "web".to_owned(),
        directory: String::new(),
        commit: CommitId::new(&"a".repeat(40)).unwrap(),
        digest: Digest::of(b""),
        depends_on: Vec::new(),
        gate: GateSpec::default(),
        images: names.map(|name| (name.clone(), image(name))).collect(),
        model: Model::parse(&json!({ "services": services }).to_string()).unwrap(),
        files: BTreeMap::new(),
        passive: Vec::new(),
        secret_env: SecretEnv::default(),
        snapshot: None,
        again: None,
        kept_as: None,
        adopted: None,
        group: None,
        window: None,
        drift: None,
    }
}

fn standing(service: &str, activity: Activity) -> Standing {
    Standing {
        service: service.to_owned(),
        id: format!("id-{service}"),
        name: format!("web-{service}-1"),
        activity,
        image: ImageId(format!("sha256:{service}")),
        made_from: Some(MODEL_FILE.to_owned()),
        stopped_by_person: false,
    }
}

fn seen(containers: &[Standing]) -> Seen<'_> {
    const NONE: &BTreeSet<String> = &BTreeSet::new();
    Seen { containers, networks_gone: NONE, files: &[], model_file: MODEL_FILE }
}

/// `kind name`, with `!` if a person did it.
fn short(found: &[Finding]) -> Vec<String> {
    let kind = |f: &Finding| serde_json::to_value(f.kind).unwrap().as_str().unwrap().to_owned();
    found.iter().map(|f| format!("{} {}{}", kind(f), f.name, if f.by_person { "!" } else { "" })).collect()
}

fn of_one(restart: &str, container: &Standing) -> Vec<String> {
    let release = release(&json!({"app": {"restart": restart}}));
    short(&find(&release, &seen(std::slice::from_ref(container))))
}

#[test]
fn what_runs_as_its_release_has_it_does_not_drift() {
    assert!(of_one("always", &standing("app", Activity::Running)).is_empty());
    assert!(of_one("always", &standing("app", Activity::Restarting)).is_empty(), "sick is not drifted");
}

#[test]
fn a_service_without_its_containers_is_missing() {
    let release = release(&json!({"app": {"deploy": {"replicas": 2}}, "off": {"scale": 0}}));
    assert_eq!(short(&find(&release, &seen(&[]))), ["missing app"]);
    let found = find(&release, &seen(&[standing("app", Activity::Running)]));
    assert_eq!(found[0].what, "app has 1 of 2 containers");
}

#[test]
fn a_finished_one_shot_that_was_tidied_away_is_not_missing() {
    let waits = json!({"db": {"condition": "service_completed_successfully"}});
    let release = release(&json!({"db": {}, "app": {"depends_on": waits}}));
    assert_eq!(short(&find(&release, &seen(&[standing("app", Activity::Running)]))), Vec::<String>::new());
}

#[test]
fn what_ended_by_itself_is_put_back_and_what_a_person_stopped_is_not() {
    assert_eq!(of_one("no", &standing("app", Activity::Exited(1))), ["stopped app"]);
    assert_eq!(of_one("on-failure:3", &standing("app", Activity::Exited(1))), ["stopped app"]);
    assert!(of_one("no", &standing("app", Activity::Exited(0))).is_empty(), "it may end");
    // The engine itself would have started it again.
    assert_eq!(of_one("always", &standing("app", Activity::Exited(1))), ["stopped app!"]);
    assert_eq!(of_one("unless-stopped", &standing("app", Activity::Exited(0))), ["stopped app!"]);
    let by_person = |code| Standing { stopped_by_person: true, ..standing("app", Activity::Exited(code)) };
    assert_eq!(of_one("no", &by_person(143)), ["stopped app!"]);
    assert_eq!(of_one("no", &by_person(0)), ["stopped app!"]);
    assert_eq!(of_one("no", &standing("app", Activity::Paused)), ["stopped app!"]);
    assert_eq!(of_one("no", &standing("app", Activity::Created)), ["stopped app"]);
}

#[test]
fn another_image_or_other_files_are_told_of() {
    let image = Standing { image: ImageId("sha256:other".to_owned()), ..standing("app", Activity::Running) };
    assert_eq!(of_one("no", &image), ["image app!"]);
    let by_hand = Standing { made_from: Some("/srv/x.yml".to_owned()), ..standing("app", Activity::Running) };
    assert_eq!(of_one("no", &by_hand), ["config app!"]);
    let silent = Standing { made_from: None, ..standing("app", Activity::Running) };
    assert!(of_one("no", &silent).is_empty(), "an old Compose does not say");
}

#[test]
fn networks_and_files_are_named() {
    let release = release(&json!({"app": {}}));
    let containers = [standing("app", Activity::Running)];
    let gone = BTreeSet::from(["proxy".to_owned()]);
    let files = [("stacks/web/conf".to_owned(), "was changed by hand".to_owned())];
    let found = find(&release, &Seen { networks_gone: &gone, files: &files, ..seen(&containers) });
    assert_eq!(short(&found), ["network proxy", "file stacks/web/conf!"]);
    assert_eq!(found[1].what, "stacks/web/conf was changed by hand");
}

#[test]
fn only_what_nobody_did_on_purpose_is_healed_and_only_if_asked() {
    let finding = |kind, by_person| Finding { kind, name: "a".to_owned(), by_person, what: String::new() };
    for kind in [Kind::Missing, Kind::Stopped, Kind::Network] {
        assert!(finding(kind, false).is_healed(Mode::Heal));
        assert!(!finding(kind, true).is_healed(Mode::Heal));
        assert!(!finding(kind, false).is_healed(Mode::Report));
    }
    for kind in [Kind::Image, Kind::Config, Kind::File] {
        assert!(!finding(kind, false).is_healed(Mode::Heal), "{kind:?}");
    }
}

#[test]
fn a_difference_is_news_once_however_it_is_worded() {
    let finding = |name: &str, what: &str| Finding {
        kind: Kind::Stopped,
        name: name.to_owned(),
        by_person: false,
        what: what.to_owned(),
    };
    let known = [finding("a", "exit code 1")];
    let found = [finding("a", "exit code 2"), finding("b", "exit code 1")];
    assert_eq!(news(&known, &found), [&found[1]]);
}

#[test]
fn the_pause_doubles_from_a_minute_to_an_hour() {
    let minutes: Vec<u64> = [1, 2, 3, 6, 7, 99].map(|tries| pause(tries).as_secs() / 60).to_vec();
    assert_eq!(minutes, [1, 2, 4, 32, 60, 60]);
}

#[test]
fn what_shares_something_is_put_back_together_but_never_what_a_person_stopped() {
    let services = json!({
        "vpn": {}, "app": {"network_mode": "service:vpn"}, "hand": {"network_mode": "service:vpn"},
        "web": {"networks": {"proxy": null}}, "other": {}
    });
    let model = Model::parse(&json!({ "services": services }).to_string()).unwrap();
    let finding = |kind, name: &str, by_person| Finding { kind, name: name.to_owned(), by_person, what: String::new() };
    let of = |findings: &[Finding]| services_to_heal(&model, findings, Mode::Heal).into_iter().collect::<Vec<_>>();
    let by_hand = finding(Kind::Stopped, "hand", true);
    assert_eq!(of(&[finding(Kind::Missing, "vpn", false), by_hand.clone()]), ["app", "vpn"]);
    assert_eq!(of(&[finding(Kind::Network, "proxy", false)]), ["web"]);
    assert!(of(&[by_hand]).is_empty());
}

#[test]
fn what_is_told_says_what_happens_next() {
    let finding = |kind, by_person| Finding { kind, name: "a".to_owned(), by_person, what: "a is odd".to_owned() };
    let said = |kind, by_person, mode| words(&[&finding(kind, by_person)], mode);
    assert_eq!(said(Kind::Missing, false, Mode::Heal), "a is odd; the agent puts it back");
    assert!(said(Kind::Missing, false, Mode::Report).contains("`evenkeel sync`"));
    assert!(said(Kind::Stopped, true, Mode::Heal).contains("`docker start`"));
    assert!(said(Kind::File, true, Mode::Heal).contains("will not overwrite it"));
}
