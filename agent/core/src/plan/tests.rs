use std::collections::{BTreeMap, BTreeSet};

use evenkeel_layout::{
    gate::GateSpec,
    name::GroupName,
    reload::{OnChange, Reload},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    id::{CommitId, Digest},
    model::Model,
    release::{Candidate, FileRecord, Files, Release, SecretEnv},
};

mod groups;

const ROOT: &str = "/srv/live";

fn model(value: &Value) -> Model {
    Model::parse(&value.to_string()).unwrap()
}

fn files(list: &[(&str, &str)]) -> Files {
    let record = |content: &str| FileRecord {
        digest: Digest::of(content.as_bytes()),
        size: content.len() as u64,
        executable: false,
    };
    list.iter().map(|(path, content)| ((*path).to_owned(), record(content))).collect()
}

/// `service: kind(name) …` for each service that something happens to.
fn changes(from: (&Value, &[(&str, &str)]), to: (&Value, &[(&str, &str)])) -> Vec<String> {
    let (a, b) = (model(from.0), model(to.0));
    let (fa, fb) = (files(from.1), files(to.1));
    let none = SecretEnv::default();
    let side = |model, files| Some(Side { model, files, secret_env: &none });
    shown(&diff(ROOT, side(&a, &fa), side(&b, &fb)))
}

fn shown(changes: &[ServiceChange]) -> Vec<String> {
    let word = |value: &dyn erased::Word| value.word();
    let line = |c: &ServiceChange| {
        let whys: Vec<String> = c.why.iter().map(|w| format!("{}({})", word(&w.kind), w.name)).collect();
        format!("{} {} {}", c.service, word(&c.change), whys.join(" ")).trim_end().to_owned()
    };
    changes.iter().filter(|c| c.change != ServiceChangeKind::None).map(line).collect()
}

mod erased {
    pub trait Word {
        fn word(&self) -> String;
    }

    impl<T: serde::Serialize> Word for T {
        fn word(&self) -> String {
            serde_json::to_value(self).unwrap().as_str().unwrap_or_default().to_owned()
        }
    }
}

fn one(service: &Value) -> Value {
    json!({"services": {"a": service}})
}

#[test]
fn a_watched_file_recreates_every_service_although_none_mounts_it() {
    let value = json!({"services": {"a": {"image": "x"}, "b": {"image": "y"}}});
    let watching = model(&value).watching(&[format!("{ROOT}/web/nginx.conf")]);
    let (before, after) =
        ([("web/nginx.conf", "1"), ("web/other", "1")], [("web/nginx.conf", "2"), ("web/other", "2")]);
    let found = changes((watching.value(), &before), (watching.value(), &after));
    assert_eq!(found, ["a recreate file(web/nginx.conf)", "b recreate file(web/nginx.conf)"]);
    assert!(changes((&value, &before), (&value, &after)).is_empty());
}

#[test]
fn every_key_has_its_word() {
    let cases = [
        (json!({"image": "x:1"}), json!({"image": "x:2"}), "image(image)"),
        (
            json!({"environment": {"A": "1", "B": null, "C": "3"}}),
            json!({"environment": {"A": "2", "C": "3"}}),
            "env(A) env(B)",
        ),
        (
            json!({"command": ["a"]}),
            json!({"command": ["b"], "entrypoint": ["c"]}),
            "command(command) command(entrypoint)",
        ),
        (
            json!({"ports": [{"target": 80, "published": "8080", "protocol": "tcp"}]}),
            json!({"ports": [{"target": 80, "published": "8081", "protocol": "tcp"}, {"target": 53, "protocol": "udp"}]}),
            "port(53/udp) port(8080:80/tcp) port(8081:80/tcp)",
        ),
        (json!({"networks": {"default": null}}), json!({"networks": {"x": null}}), "network(default) network(x)"),
        (
            json!({"volumes": [{"type": "volume", "source": "v", "target": "/d"}]}),
            json!({"volumes": [{"type": "volume", "source": "w", "target": "/d"}]}),
            "volume(/d)",
        ),
        (json!({"labels": {"l": "1"}}), json!({"labels": {"l": "2"}}), "label(l)"),
        (json!({"healthcheck": {"test": ["a"]}}), json!({}), "healthcheck(healthcheck)"),
        (json!({"build": {"context": "/x"}}), json!({"build": {"context": "/y"}}), "build(build)"),
        (json!({"secrets": [{"source": "s"}]}), json!({"configs": [{"source": "c"}]}), "file(c) secret(s)"),
        (json!({}), json!({"depends_on": {"b": {"condition": "service_started"}}}), "dependency(b)"),
        (json!({"restart": "no"}), json!({"restart": "always"}), "other(restart)"),
    ];
    for (a, b, expected) in cases {
        assert_eq!(changes((&one(&a), &[]), (&one(&b), &[])), [format!("a recreate {expected}")]);
    }
    for key in ["profiles", "pull_policy", "develop", "x-note"] {
        let changed = one(&json!({key: "other"}));
        assert!(changes((&one(&json!({})), &[]), (&changed, &[])).is_empty(), "{key}");
    }
}

#[test]
fn a_changed_file_recreates_exactly_the_services_that_use_it() {
    let value = json!({
        "services": {
            "web": {"volumes": [{"type": "bind", "source": "/srv/live/s/conf", "target": "/c"}]},
            "cfg": {"configs": [{"source": "c"}], "secrets": [{"source": "t"}]},
            "built": {"build": {"context": "/srv/live/s/src"}},
            "other": {"volumes": [{"type": "bind", "source": "/srv/live/s/config", "target": "/c"}]}
        },
        "configs": {"c": {"file": "/srv/live/s/c.conf"}},
        "secrets": {"t": {"file": "/srv/live/s/t"}}
    });
    let before = [("s/conf/a", "1"), ("s/c.conf", "1"), ("s/t", "1"), ("s/src/main", "1"), ("s/compose.yml", "1")];
    let after = [
        ("s/conf/a", "2"),
        ("s/conf/b", "1"),
        ("s/c.conf", "2"),
        ("s/t", "2"),
        ("s/src/main", "2"),
        ("s/compose.yml", "2"),
    ];
    assert_eq!(
        changes((&value, &before), (&value, &after)),
        [
            "built recreate build(s/src/main)",
            "cfg recreate file(s/c.conf) secret(t)",
            "web recreate file(s/conf/a) file(s/conf/b)"
        ]
    );
}

#[test]
fn a_change_of_files_alone_is_taken_up_as_the_service_asks() {
    let bind = |path: &str| json!({"type": "bind", "source": format!("{ROOT}/{path}"), "target": format!("/{path}")});
    let plain = json!({
        "services": {
            "told": {"volumes": [bind("s/conf"), bind("s/alone")], "configs": [{"source": "c"}]},
            "named": {"volumes": [bind("s/conf"), bind("s/alone")]},
            "other": {"volumes": [bind("s/conf")]},
            "beside": {"network_mode": "service:other"}
        },
        "configs": {"c": {"file": format!("{ROOT}/s/c.conf")}}
    });
    let reload = |on: &[&str]| Reload {
        signal: "SIGHUP".to_owned(),
        on: on.iter().map(|path| format!("{ROOT}/{path}")).collect(),
    };
    let reloads = BTreeMap::from([("told".to_owned(), reload(&[])), ("named".to_owned(), reload(&["s/conf/sub"]))]);
    let asking = model(&plain).taking_up(OnChange::Restart, &reloads);
    let before = [("s/conf/a", "1"), ("s/conf/sub/b", "1"), ("s/alone", "1"), ("s/c.conf", "1")];
    let with = |path: &'static str| before.map(|(file, content)| (file, if file == path { "2" } else { content }));
    let found = |after: &[(&str, &str)]| changes((asking.value(), &before), (asking.value(), after));
    assert_eq!(
        found(&with("s/conf/sub/b")),
        [
            "beside recreate dependency(other)",
            "named signal file(s/conf/sub/b)",
            "other restart file(s/conf/sub/b)",
            "told signal file(s/conf/sub/b)"
        ]
    );
    assert_eq!(found(&with("s/alone")), ["named restart file(s/alone)", "told signal file(s/alone)"]);
    assert_eq!(found(&with("s/c.conf")), ["told signal file(s/c.conf)"]);
    // A file that is mounted by itself and goes is not seen by a container that stands.
    let gone = [before[0], before[1], before[3]];
    assert_eq!(found(&gone), ["named recreate file(s/alone)", "told recreate file(s/alone)"]);
    assert_eq!(found(&before[1..]).len(), 4, "one that goes from a folder is seen");
    assert!(!found(&before[1..]).iter().any(|line| line.starts_with("told recreate")));
    // Whatever else changes makes it anew, and nothing is taken up where nobody asks.
    let mut louder = asking.value().clone();
    louder["services"]["told"]["image"] = json!("x:2");
    let found = changes((asking.value(), &before), (&louder, &with("s/alone")));
    assert_eq!(found[1], "told recreate image(image) file(s/alone)");
    let quiet = changes((asking.value(), &before), (&plain, &with("s/alone")));
    assert_eq!(quiet, ["named recreate file(s/alone)", "told recreate file(s/alone)"]);
    // To ask for something is no change of a container.
    assert!(changes((&plain, &before), (asking.value(), &before)).is_empty());
}

#[test]
fn inline_contents_secret_values_and_networks_are_seen_too() {
    let value = |content: &str, driver: &str| {
        json!({
            "services": {"a": {"configs": [{"source": "c"}], "networks": {"n": null}}, "b": {}},
            "configs": {"c": {"content": content}}, "networks": {"n": {"driver": driver}}
        })
    };
    let found = changes((&value("1", "bridge"), &[]), (&value("2", "macvlan"), &[]));
    assert_eq!(found, ["a recreate network(n) file(c)"]);

    let secret =
        model(&json!({"services": {"a": {"secrets": [{"source": "s"}]}}, "secrets": {"s": {"environment": "TOKEN"}}}));
    let env = |value: &str| SecretEnv(BTreeMap::from([("TOKEN".to_owned(), value.to_owned())]));
    let (old, new, none) = (env("1"), env("2"), Files::new());
    let side = |secret_env| Some(Side { model: &secret, files: &none, secret_env });
    assert_eq!(shown(&diff(ROOT, side(&old), side(&new))), ["a recreate secret(s)"]);
}

#[test]
fn what_shares_a_namespace_goes_along_and_a_plain_dependent_does_not() {
    let value = |image: &str| {
        json!({"services": {
            "vpn": {"image": image},
            "app": {"network_mode": "service:vpn"},
            "log": {"volumes_from": ["app"]},
            "web": {"depends_on": {"vpn": {"condition": "service_started"}}}
        }})
    };
    assert_eq!(
        changes((&value("x:1"), &[]), (&value("x:2"), &[])),
        ["app recreate dependency(vpn)", "log recreate dependency(app)", "vpn recreate image(image)"]
    );
}

#[test]
fn changed_volume_options_are_told() {
    let value =
        |device: &str| json!({"services": {}, "volumes": {"v": {"name": "p_v", "driver_opts": {"device": device}}}});
    let (a, b, none, secrets) = (model(&value("/a")), model(&value("/b")), Files::new(), SecretEnv::default());
    let side = |model| Side { model, files: &none, secret_env: &secrets };
    assert_eq!(notes(side(&a), side(&b))[0].code, "volume.options");
    assert!(notes(side(&a), side(&a)).is_empty());
}

// ---------------------------------------------------------------- whole plans

fn name(text: &str) -> StackName {
    StackName::new(text).unwrap()
}

fn candidate(stack: &str, image: &str, needs: &[&str]) -> Candidate {
    Candidate {
        stack: name(stack),
        project: stack.to_owned(),
        directory: format!("stacks/{stack}"),
        commit: CommitId::new(&"0".repeat(40)).unwrap(),
        depends_on: needs.iter().map(|n| name(n)).collect(),
        gate: GateSpec::default(),
        window: None,
        drift: None,
        group: None,
        model: model(&json!({"name": stack, "services": {"a": {"image": image}, "b": {"image": "y"}}})),
        files: Files::new(),
        passive: vec![],
        secret_env: SecretEnv::default(),
    }
}

fn releases(of: &[Candidate]) -> BTreeMap<StackName, Release> {
    of.iter().map(|c| (c.stack.clone(), Release::of(c, BTreeMap::new()))).collect()
}

/// `shop-db` and `shop-web` move together.
fn groups() -> BTreeMap<StackName, GroupName> {
    let shop = GroupName::new("shop").unwrap();
    ["shop-db", "shop-web"].map(|stack| (name(stack), shop.clone())).into()
}

fn planned(
    accepted: &[Candidate],
    rejected: &[&str],
    releases: &BTreeMap<StackName, Release>,
    observed: Option<&Containers>,
) -> Plan {
    let rejected: Vec<StackName> = rejected.iter().map(|n| name(n)).collect();
    build(
        Desired {
            accepted,
            rejected: &rejected,
            problems: &[],
            root: ROOT,
            complete: true,
            put_back: PutBack::Everything,
            found: &BTreeMap::new(),
            groups: &groups(),
            halted: &[],
        },
        releases,
        observed,
    )
}

fn waves_of(plan: &Plan) -> Vec<Vec<String>> {
    let word = |c: &StackChange| format!("{} {}", erased::Word::word(&c.change), c.stack);
    plan.waves.iter().map(|wave| wave.iter().map(word).collect()).collect()
}

#[test]
fn waves_follow_dependencies_through_stacks_that_do_not_change() {
    let old = [candidate("db", "x:1", &[]), candidate("mid", "x:1", &["db"]), candidate("web", "x:1", &["mid"])];
    let new = [
        candidate("db", "x:2", &[]),
        candidate("mid", "x:1", &["db"]),
        candidate("web", "x:2", &["mid"]),
        candidate("new", "x", &[]),
    ];
    let plan = planned(&new, &[], &releases(&old), None);
    assert_eq!(waves_of(&plan), [vec!["update db", "create new"], vec!["update web"]]);
    assert!(planned(&old, &[], &releases(&old), None).is_empty());
}

#[test]
fn removals_come_last_and_in_reverse() {
    let old = [candidate("db", "x", &[]), candidate("web", "x", &["db"]), candidate("keep", "x", &[])];
    let plan = planned(&[candidate("keep", "x:2", &[])], &[], &releases(&old), None);
    assert_eq!(waves_of(&plan), [vec!["update keep"], vec!["remove web"], vec!["remove db"]]);
    let services = shown(&plan.waves[1][0].services);
    assert_eq!(services, ["a remove", "b remove"]);
}

#[test]
fn a_rejected_stack_keeps_its_release_and_holds_its_dependents() {
    let old = [
        candidate("db", "x:1", &[]),
        candidate("web", "x:1", &["db"]),
        candidate("top", "x:1", &["web"]),
        candidate("same", "x", &["db"]),
    ];
    let new = [candidate("web", "x:2", &["db"]), candidate("top", "x:2", &["web"]), candidate("same", "x", &["db"])];
    let plan = planned(&new, &["db"], &releases(&old), None);
    assert!(plan.is_empty());
    assert_eq!(plan.rejected, [name("db")]);
    let held: Vec<_> = plan.held.iter().map(|held| (held.stack.as_str(), held.waits_for.as_str())).collect();
    assert_eq!(held, [("top", "web"), ("web", "db")]);
}

#[test]
fn a_broken_set_removes_nothing() {
    let old = [candidate("db", "x", &[])];
    let desired = Desired {
        accepted: &[],
        rejected: &[],
        problems: &[],
        root: ROOT,
        complete: false,
        put_back: PutBack::Everything,
        found: &BTreeMap::new(),
        groups: &BTreeMap::new(),
        halted: &[],
    };
    assert!(build(desired, &releases(&old), None).is_empty());
}

#[test]
fn a_renamed_stack_goes_before_it_comes_again() {
    let old = [candidate("old", "x", &[])];
    let renamed = Candidate { project: "old".to_owned(), ..candidate("new", "x", &[]) };
    assert_eq!(waves_of(&planned(&[renamed], &[], &releases(&old), None)), [vec!["remove old"], vec!["create new"]]);
}

#[test]
fn a_halted_stack_is_deployed_also_with_the_bytes_of_its_release() {
    let web = [candidate("web", "x:1", &[])];
    let desired = Desired {
        accepted: &web,
        rejected: &[],
        problems: &[],
        root: ROOT,
        complete: true,
        put_back: PutBack::Everything,
        found: &BTreeMap::new(),
        groups: &BTreeMap::new(),
        halted: &[name("web")],
    };
    let plan = build(desired, &releases(&web), None);
    let services: Vec<_> = plan.changes().flat_map(|c| &c.services).map(|s| s.change).collect();
    assert!(services.iter().all(|change| *change == ServiceChangeKind::Recreate), "{services:?}");
}

#[test]
fn a_missing_container_is_made_again() {
    let same = [candidate("web", "x", &[])];
    let all = Containers::from([("web".to_owned(), BTreeSet::from(["a".to_owned(), "b".to_owned()]))]);
    assert!(planned(&same, &[], &releases(&same), Some(&all)).is_empty());
    let fewer = Containers::from([("web".to_owned(), BTreeSet::from(["a".to_owned()]))]);
    let plan = planned(&same, &[], &releases(&same), Some(&fewer));
    assert_eq!(waves_of(&plan), [["update web"]]);
    assert_eq!(shown(&plan.waves[0][0].services), ["b create other(missing)"]);
}

fn any_service() -> impl Strategy<Value = Value> {
    let image = prop_oneof![Just("x:1"), Just("x:2")];
    let env = proptest::collection::btree_map("[AB]", "[01]", 0..3);
    let bind = proptest::option::of(prop_oneof![Just("/srv/live/s/conf"), Just("/srv/live/s/f")]);
    let share = proptest::option::of(prop_oneof![Just("service:a"), Just("service:b")]);
    (image, env, bind, share).prop_map(|(image, env, bind, share)| {
        let volumes: Vec<Value> =
            bind.into_iter().map(|b| json!({"type": "bind", "source": b, "target": "/t"})).collect();
        let mut service = json!({"image": image, "environment": env, "volumes": volumes});
        if let Some(share) = share {
            service["network_mode"] = json!(share);
        }
        service
    })
}

fn any_state() -> impl Strategy<Value = (Value, Vec<(&'static str, &'static str)>)> {
    let services = proptest::collection::btree_map("[abc]", any_service(), 0..4);
    let files = proptest::sample::subsequence(vec![("s/conf/a", "1"), ("s/f", "1"), ("s/f", "2"), ("s/x", "1")], 0..4);
    (services.prop_map(|services| json!({"services": services})), files)
}

proptest! {
    #[test]
    fn nothing_changes_between_a_state_and_itself((value, files) in any_state()) {
        prop_assert!(changes((&value, &files), (&value, &files)).is_empty());
    }

    #[test]
    fn what_one_way_creates_the_other_removes((a, fa) in any_state(), (b, fb) in any_state()) {
        let pick = |lines: &[String], word: &str| -> Vec<String> {
            lines.iter().filter(|l| l.contains(word)).map(|l| l[..1].to_owned()).collect()
        };
        let (there, back) = (changes((&a, &fa), (&b, &fb)), changes((&b, &fb), (&a, &fa)));
        prop_assert_eq!(pick(&there, " create"), pick(&back, " remove"));
        prop_assert_eq!(pick(&there, " remove"), pick(&back, " create"));
    }

    #[test]
    fn every_service_is_named_once_in_order((a, fa) in any_state(), (b, fb) in any_state()) {
        let none = SecretEnv::default();
        let (a, b, fa, fb) = (model(&a), model(&b), files(&fa), files(&fb));
        let found = diff(ROOT, Some(Side { model: &a, files: &fa, secret_env: &none }), Some(Side { model: &b, files: &fb, secret_env: &none }));
        let names: Vec<&str> = found.iter().map(|c| c.service.as_str()).collect();
        let expected: BTreeSet<&str> = a.services().into_keys().chain(b.services().into_keys()).collect();
        prop_assert_eq!(names, expected.into_iter().collect::<Vec<_>>());
        for change in found.iter().filter(|c| c.change == ServiceChangeKind::Recreate) {
            prop_assert!(!change.why.is_empty());
        }
    }
}

#[test]
fn what_asks_to_be_started_first_is_if_it_can_be() {
    let asks = |more: &Value| {
        let mut service =
            json!({"image": "x:1", "x-evenkeel": {"update": "start-first"}, "networks": {"default": null}});
        service.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service
    };
    let networks = json!({"default": {"name": "p_default"}});
    let both = |old: &Value, new: &Value| {
        let stack = |service: &Value| json!({"services": {"a": service}, "networks": networks});
        changes((&stack(old), &[]), (&stack(new), &[]))
    };
    let (old, new) = (asks(&json!({})), asks(&json!({"image": "x:2"})));
    assert_eq!(both(&old, &new), ["a start-first image(image)"]);
    // What ran may have published a port: two of them never do.
    let published = json!({"image": "x:2", "ports": [{"target": 80, "published": "80", "protocol": "tcp"}]});
    assert_eq!(both(&asks(&published), &new), ["a start-first port(80:80/tcp)"]);
    assert_eq!(both(&new, &asks(&published)), ["a recreate port(80:80/tcp)"]);
    let says_no = json!({"image": "x:2", "x-evenkeel": {"update": "recreate"}, "networks": {"default": null}});
    assert_eq!(both(&old, &says_no), ["a recreate image(image)"]);
    let other = json!({"services": {"a": new}, "networks": {"default": {"name": "p_default", "driver": "macvlan"}}});
    let before = json!({"services": {"a": old}, "networks": networks});
    assert_eq!(changes((&before, &[]), (&other, &[])), ["a recreate image(image) network(default)"]);
    assert_eq!(changes((&json!({"services": {}}), &[]), (&before, &[])), ["a create"]);
}

#[test]
fn what_loses_a_file_that_it_mounts_by_itself_is_not_started_first() {
    let mounts = |source: &str, image: &str| {
        let volume = json!({"type": "bind", "source": format!("{ROOT}/{source}"), "target": "/f"});
        one(&json!({"image": image, "x-evenkeel": {"update": "start-first"}, "volumes": [volume]}))
    };
    let (a, b) = (mounts("w/a", "x:1"), mounts("w/b", "x:1"));
    let (files_a, files_b) = ([("w/a", "1")], [("w/b", "1")]);
    let found = changes((&a, &files_a), (&b, &files_b));
    assert!(found.len() == 1 && found[0].starts_with("a recreate "), "{found:?}");
    let both = [("w/a", "1"), ("w/b", "1")];
    let found = changes((&a, &both), (&b, &both));
    assert!(found.len() == 1 && found[0].starts_with("a start-first "), "{found:?}");
    assert_eq!(changes((&a, &files_a), (&a, &[("w/a", "2")])), ["a start-first file(w/a)"]);
    // In a folder it is found by its name.
    let (folder, next) = (mounts("w", "x:1"), mounts("w", "x:2"));
    assert_eq!(changes((&folder, &files_a), (&next, &files_b)), ["a start-first image(image) file(w/a) file(w/b)"]);
}
