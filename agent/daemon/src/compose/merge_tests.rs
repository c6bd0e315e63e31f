//! The merge oracle: layers through [`Compose::render`] are what `docker compose` itself makes of them.
//!
//! Each case is a low and a high layer in different folders. Where the high layer says `HERE` it means its own folder: for
//! Evenkeel that is `.`, for the oracle, which resolves beside the first file, the absolute path.

use std::{fs, process::Command};

use evenkeel_layout::{
    name::StackName,
    set::{Layer, Origin},
};
use futures_util::{StreamExt as _, stream};
use serde_json::Value;

use super::*;
use crate::process::Runner;

/// Bodies of the service `web` in both layers.
const SERVICE: &[(&str, &str)] = &[
    // Single values: the higher one counts.
    ("image: a", "image: b"),
    ("image: a", "restart: always"),
    ("image: a, hostname: x, user: '1'", "user: '2'"),
    ("image: a, mem_limit: 64m", "mem_limit: 128m"),
    ("image: a, mode: 0755", "image: b"),
    ("image: a, working_dir: /a", "working_dir: !reset null"),
    ("image: a, container_name: x", "container_name: y"),
    ("image: a, init: true, tty: true", "init: false"),
    ("image: a, stop_grace_period: 5s", "stop_grace_period: 1m30s"),
    ("image: a, pull_policy: always", "pull_policy: never"),
    // Command, entrypoint and the healthcheck's test are replaced.
    ("image: a, command: [x, y]", "command: [z]"),
    ("image: a, command: x y", "command: ''"),
    ("image: a, entrypoint: [x]", "entrypoint: y z"),
    ("image: a, command: x", "command: !reset null"),
    ("image: a, healthcheck: {test: [CMD, a], interval: 5s}", "healthcheck: {test: [CMD, b]}"),
    ("image: a, healthcheck: {test: a, interval: 5s}", "healthcheck: {timeout: 3s, retries: 2}"),
    ("image: a, healthcheck: {test: a}", "healthcheck: {disable: true}"),
    ("image: a, healthcheck: {test: a, interval: 5s}", "healthcheck: !override {test: b}"),
    // Mappings, in both of their forms.
    ("image: a, environment: {A: 1, B: 2}", "environment: {B: 3, C: 4}"),
    ("image: a, environment: [A=1, B=2]", "environment: {B: 3}"),
    ("image: a, environment: {A: 1}", "environment: [A=2, 'C=x=y']"),
    ("image: a, environment: {A: 1}", "environment: {A: null}"),
    ("image: a, environment: {A: 1, B: 2}", "environment: {A: !reset null}"),
    ("image: a, environment: {A: 1}", "environment: !override {B: 2}"),
    ("image: a, environment: {A: 1}", "environment: !reset null"),
    ("image: a, labels: [x=1, y=2]", "labels: {y: 3, z: ''}"),
    ("image: a, labels: {x: '1'}", "labels: !override {y: '2'}"),
    ("image: a, extra_hosts: ['a:1.1.1.1']", "extra_hosts: {b: 2.2.2.2}"),
    ("image: a, sysctls: {net.core.somaxconn: 1}", "sysctls: [net.core.somaxconn=2]"),
    ("image: a, ulimits: {nofile: 10}", "ulimits: {nofile: {soft: 20, hard: 40}}"),
    ("image: a, logging: {driver: json-file, options: {max-size: 1m}}", "logging: {options: {max-file: '3'}}"),
    ("image: a, logging: {driver: json-file, options: {max-size: 1m}}", "logging: {driver: local}"),
    (
        "image: a, deploy: {replicas: 2, resources: {limits: {cpus: '1'}}}",
        "deploy: {resources: {limits: {memory: 1g}}}",
    ),
    ("image: a, storage_opt: {size: 1G}", "storage_opt: {size: 2G}"),
    ("image: a, annotations: {a: b}", "annotations: [c=d]"),
    // Sequences grow, each item once where something makes it unique.
    ("image: a, dns: 1.1.1.1", "dns: [8.8.8.8]"),
    ("image: a, cap_add: [A]", "cap_add: [A, B]"),
    ("image: a, security_opt: [x]", "security_opt: [y]"),
    ("image: a, expose: ['80']", "expose: ['80', '81']"),
    ("image: a, tmpfs: /a", "tmpfs: [/b]"),
    ("image: a, devices: ['/dev/a:/dev/a']", "devices: ['/dev/b:/dev/a']"),
    ("image: a, group_add: [a]", "group_add: [b]"),
    ("image: a, ports: ['80:80']", "ports: ['80:80', '81:81']"),
    ("image: a, ports: ['80:80']", "ports: ['8080:80']"),
    ("image: a, ports: ['80:80']", "ports: !override ['8080:80']"),
    ("image: a, ports: ['80:80']", "ports: !reset []"),
    ("image: a, ports: ['80:80/udp']", "ports: [{target: 80, published: '80', protocol: tcp}]"),
    ("image: a, ports: ['127.0.0.1:80:80']", "ports: ['80:80']"),
    ("image: a, volumes: ['/a:/x']", "volumes: ['/b:/x:ro', '/c:/y']"),
    ("image: a, volumes: ['/a:/x']", "volumes: [{type: bind, source: HERE/d, target: /x}]"),
    ("image: a, volumes: ['./a:/a']", "volumes: ['HERE/b:/b', 'HERE/c:/c:ro']"),
    ("image: a, volumes: ['./a:/a']", "volumes: !override ['HERE/b:/b']"),
    ("image: a, env_file: a.env", "env_file: HERE/b.env"),
    ("image: a, env_file: [a.env]", "env_file: [HERE/b.env, {path: HERE/none.env, required: false}]"),
    ("image: a, env_file: [a.env]", "env_file: !override [HERE/b.env]"),
    ("image: a, build: .", "build: {args: {A: 1}}"),
    ("image: a, build: {context: ., args: {A: 1, B: 2}}", "build: {context: HERE, args: [B=3], target: t}"),
    ("image: a, build: .", "build: HERE"),
    ("image: a, build: {context: ., additional_contexts: {x: .}}", "build: {additional_contexts: {y: HERE}}"),
    ("image: a, networks: [front]", "networks: {back: {aliases: [w]}}"),
    ("image: a, networks: {front: {aliases: [a]}}", "networks: {front: {aliases: [b], priority: 5}}"),
    ("image: a, networks: [front]", "networks: !override [back]"),
    ("image: a, network_mode: host", "network_mode: none"),
    ("image: a, depends_on: [other]", "depends_on: {other: {condition: service_healthy}}"),
    ("image: a, depends_on: [other]", "depends_on: [more]"),
    ("image: a, depends_on: [other]", "depends_on: !reset []"),
    ("image: a, secrets: [s]", "secrets: [{source: s, target: /t}]"),
    ("image: a, configs: [c]", "configs: [{source: c, mode: 0440}]"),
    ("image: a, extends: {file: base.yml, service: base}", "environment: {B: 2}"),
    ("image: a", "extends: {file: HERE/base.yml, service: base}"),
    ("image: a, profiles: [p]", "profiles: [q]"),
    ("image: a, x-own: {a: 1}", "x-own: {b: 2}"),
    ("image: 'a:${TAG:-1}'", "image: 'b:${TAG-2}', environment: {V: '$$x ${V:-y}'}"),
    ("image: a, develop: {watch: [{path: ., action: rebuild}]}", "develop: {watch: [{path: HERE/w, action: rebuild}]}"),
];

/// Whole files.
const FILES: &[(&str, &str)] = &[
    ("services: {web: {image: a}}", "services: {more: {image: b, volumes: ['HERE:/x']}}"),
    ("services: {web: {image: a}, more: {image: b}}", "services: {more: !reset null}"),
    ("name: low\nservices: {web: {image: a}}", "name: high\nservices: {web: {}}"),
    ("services: {web: {image: a, volumes: ['v:/v']}}\nvolumes: {v: {}}", "volumes: {v: {external: true, name: w}}"),
    (
        "services: {web: {image: a, networks: [n]}}\nnetworks: {n: {}}",
        "networks: {n: {driver_opts: {a: b}, internal: true}}",
    ),
    ("services: {web: {image: a, secrets: [s]}}\nsecrets: {s: {file: ./a.env}}", "secrets: {s: {file: HERE/b.env}}"),
    (
        "services: {web: {image: a, configs: [c]}}\nconfigs: {c: {content: x}}",
        "configs: {c: !override {file: HERE/b.env}}",
    ),
    ("include: [base.yml]\nservices: {web: {image: a}}", "services: {base: {image: z, volumes: ['HERE/x:/x']}}"),
    ("services: {web: {image: a}}", "include: [HERE/base.yml]\nservices: {web: {image: b}}"),
    ("services: {web: {image: a}}", "include: [{path: HERE/base.yml, project_directory: HERE, env_file: HERE/b.env}]"),
    (
        "x-a: &a {restart: always}\nservices: {web: {image: a, <<: *a}}",
        "x-b: &b {env_file: [HERE/b.env]}\nservices: {web: {<<: *b}}",
    ),
    (
        "services: {web: {image: a, volumes: ['d:/d']}}\nvolumes: {d: {}}",
        "volumes: {d: {driver_opts: {type: none, o: bind, device: HERE/d}}}",
    ),
    ("services: {web: {image: a}}", ""),
    ("services: {web: {image: a}}", "services: {web: {ports: [{target: x}]}}"),
    ("services: {web: {image: a}}", "services: {web: {unknown: 1}}"),
    ("services: {web: {image: a}}", "services: {web: {depends_on: [nobody]}}"),
];

struct Place(tempfile::TempDir);

impl Place {
    fn new((low, high): &(String, String)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let here = folder.path().join("servers/home/web").display().to_string();
        write("shared/web/compose.yml", low);
        write("servers/home/web/compose.yml", &high.replace("HERE", "."));
        write("oracle.yml", &high.replace("HERE", &here));
        for (dir, letter) in [("shared/web", "a"), ("servers/home/web", "b")] {
            write(&format!("{dir}/{letter}.env"), &format!("FILE={letter}\n"));
            let base =
                format!("services: {{base: {{image: {letter}, env_file: {letter}.env, volumes: ['./y:/y']}}}}\n");
            write(&format!("{dir}/base.yml"), &base);
            write(&format!("{dir}/w/x"), "");
        }
        Self(folder)
    }

    async fn ours(&self, compose: &Compose) -> Option<Value> {
        let layers = vec![
            Layer::new("shared/web/compose.yml", Origin::Shared),
            Layer::new("servers/home/web/compose.yml", Origin::Local),
        ];
        let stack = Stack { project: Some("p".to_owned()), ..Stack::new(StackName::new("web").unwrap(), layers) };
        let root = self.0.path();
        let request = RenderRequest { stack: &stack, env_files: &[], root, target: root, lenient: false };
        compose.render(&request).await.ok().map(|rendered| without_anchors(rendered.model.value().clone()))
    }

    /// What Compose makes of both files beside the first. Profiles and variables are as in the rendering: none.
    fn theirs(&self) -> Option<Value> {
        let root = self.0.path();
        let done = Command::new("docker")
            .args(["compose", "-p", "p", "-f", "shared/web/compose.yml", "-f", "oracle.yml"])
            .args(["--project-directory", "shared/web", "--env-file", "/dev/null", "config", "--format", "json"])
            .current_dir(root)
            .env_remove("COMPOSE_PROFILES")
            .output()
            .unwrap();
        done.status.success().then(|| without_anchors(serde_json::from_slice(&done.stdout).unwrap()))
    }
}

/// Without what only holds anchors: there the oracle's text is another.
fn without_anchors(mut model: Value) -> Value {
    if let Value::Object(map) = &mut model {
        map.retain(|key, _| !key.starts_with("x-"));
    }
    model
}

fn cases() -> Vec<(String, String)> {
    let rest = ", other: {image: o}, more: {image: m}}\nnetworks: {front: {}, back: {}}\nsecrets: {s: {file: ./a.env}}\nconfigs: {c: {content: x}}\n";
    let service = SERVICE
        .iter()
        .map(|(low, high)| (format!("services: {{web: {{{low}}}{rest}"), format!("services: {{web: {{{high}}}}}\n")));
    let files = FILES.iter().map(|(low, high)| ((*low).to_owned(), (*high).to_owned()));
    service.chain(files).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_merge_as_compose_merges_them() {
    let compose = Compose::find(Runner::plain(), None, None).unwrap();
    let all = cases();
    assert!(all.len() >= 60);
    let compared = stream::iter(&all).map(|case| {
        let compose = &compose;
        async move {
            let place = Place::new(case);
            let ours = place.ours(compose).await;
            (case, ours, tokio::task::block_in_place(|| place.theirs()))
        }
    });
    let compared: Vec<_> = compared.buffered(4).collect().await;
    let shown = |value: &Option<Value>| value.as_ref().map_or_else(|| "refused".to_owned(), ToString::to_string);
    let wrong = compared.iter().filter(|(_, ours, theirs)| ours != theirs);
    let wrong: Vec<_> =
        wrong.map(|((_, high), ours, theirs)| format!("{high}{}\n{}\n", shown(ours), shown(theirs))).collect();
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    let refused = compared.iter().filter(|(_, ours, _)| ours.is_none()).count();
    assert!((3..15).contains(&refused), "{refused} cases are refused by both, which proves little");
}
