use std::process::Command;

use evenkeel_layout::{
    name::StackName,
    set::{Layer, Origin},
};

use super::*;
use crate::process::Runner;

struct Repo(tempfile::TempDir);

impl Repo {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        Self(folder)
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn env(&self, files: &[&str]) -> Vec<PathBuf> {
        files.iter().map(|f| self.root().join(f)).collect()
    }
}

/// These tests need the program, but no engine. Without it they fail: a comparison that is not made proves nothing.
async fn compose() -> Compose {
    let compose = Compose::find(Runner::plain(), None, None).unwrap();
    let version = compose.version().await;
    assert!(version.is_ok(), "run `make test`, which brings `docker compose`: {version:?}");
    compose
}

fn request<'a>(repo: &'a Repo, stack: &'a Stack, env_files: &'a [PathBuf]) -> RenderRequest<'a> {
    RenderRequest { stack, env_files, root: repo.root(), target: Path::new("/srv/live"), lenient: false }
}

/// The stack `web` with these files of its folder.
fn layers(paths: &[&str]) -> Stack {
    let layers = paths.iter().map(|p| Layer::new(format!("stacks/web/{p}"), Origin::Folder)).collect();
    Stack { project: Some("web".to_owned()), ..Stack::new(StackName::new("web").unwrap(), layers) }
}

fn problem(result: Result<Rendered, RenderError>) -> Problem {
    match result {
        Err(RenderError::Refused(problems)) => problems.into_iter().next_back().unwrap(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("rendered"),
    }
}

#[test]
fn the_command_line_names_every_layer_and_environment_file() {
    let mut stack = layers(&["compose.yml", "more.yml"]);
    let env = [PathBuf::from("/r/.env"), PathBuf::from("/etc/evenkeel/env/web.env")];
    let args = |stack: &Stack, env_files: &[PathBuf], project: Option<&str>| {
        let root = Path::new("/r");
        let files: Vec<PathBuf> = stack.paths().map(|path| root.join(path)).collect();
        let request = RenderRequest { stack, env_files, root, target: Path::new("/srv"), lenient: false };
        config_args(&request, project, &files, None).join(" ")
    };
    assert_eq!(
        args(&stack, &env, Some("p")),
        "compose -p p -f /r/stacks/web/compose.yml -f /r/stacks/web/more.yml --project-directory /r/stacks/web \
         --env-file /r/.env --env-file /etc/evenkeel/env/web.env"
    );
    stack.layers.iter_mut().for_each(|layer| layer.directory.clear());
    assert_eq!(
        args(&stack, &[], None),
        "compose -f /r/stacks/web/compose.yml -f /r/stacks/web/more.yml --project-directory /r --env-file /dev/null"
    );
}

#[tokio::test]
async fn is_what_docker_compose_config_says() {
    let compose = compose().await;
    let files = [
        (
            "stacks/web/compose.yml",
            "name: other\ninclude: [../common/x.yml]\nservices:\n  web:\n    image: nginx:${TAG:-1}\n    env_file: a.env\n    volumes: ['./conf:/conf:ro', 'data:/d', '../../top:/t', '/etc/hosts:/h']\n    profiles: [off]\n  db: {image: \"db:${TAG}\", command: 'echo $$HOME', ports: ['80:80'], build: {context: ./db}}\nvolumes: {data: {}}\nconfigs: {c: {file: ./c.conf}}\n",
        ),
        ("stacks/web/more.yml", "services:\n  db: {ports: !override ['81:81'], environment: {A: b}}\n"),
        ("stacks/web/a.env", "X=1\n"),
        ("stacks/common/x.yml", "services: {x: {image: x, volumes: ['./d:/d']}}\n"),
        (".env", "TAG=one\n"),
        ("stacks/web/.env", "TAG=two\nQ=3\n"),
    ];
    let repo = Repo::new(&files);
    for (names, profiles) in [(vec!["compose.yml"], ""), (vec!["compose.yml", "more.yml"], "COMPOSE_PROFILES=off\n")] {
        fs::write(repo.root().join("host.env"), profiles).unwrap();
        let (layers, env) = (layers(&names), repo.env(&[".env", "stacks/web/.env", "host.env"]));
        let mut request = request(&repo, &layers, &env);
        request.target = repo.root();
        let rendered = compose.render(&request).await.map_err(|e| e.to_string()).ok().unwrap();
        let mut oracle = Command::new("docker");
        oracle.args(["compose", "-p", "web"]);
        for name in &names {
            oracle.args(["-f", name]);
        }
        let oracle = oracle
            .args([
                "--env-file",
                "../../.env",
                "--env-file",
                ".env",
                "--env-file",
                "../../host.env",
                "config",
                "--format",
                "json",
            ])
            .current_dir(repo.root().join("stacks/web"))
            .output()
            .unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&oracle.stdout).unwrap();
        assert_eq!(*rendered.model.value(), expected);
        assert_eq!((rendered.project.as_str(), rendered.unset.len()), ("web", 0));
    }
}

#[tokio::test]
async fn paths_are_those_of_the_target() {
    let compose = compose().await;
    let repo = Repo::new(&[(
        "stacks/web/compose.yml",
        "services: {web: {image: x, volumes: ['./conf:/c', '${PWD}/d:/d', '/etc/hosts:/h']}}",
    )]);
    let layers = layers(&["compose.yml"]);
    let rendered = compose.render(&request(&repo, &layers, &[])).await.ok().unwrap();
    let service = rendered.model.service("web").unwrap();
    let sources: Vec<_> = service.binds().into_iter().map(|(source, _)| source).collect();
    assert_eq!(sources, ["/srv/live/stacks/web/conf", "/srv/live/stacks/web/d", "/etc/hosts"]);
}

#[tokio::test]
async fn an_env_file_that_nobody_named_is_not_read() {
    let compose = compose().await;
    let repo = Repo::new(&[
        ("stacks/web/compose.yml", "services:\n  web:\n    image: x:${TAG}\n"),
        ("stacks/web/.env", "TAG=stray\n"),
    ]);
    let layers = layers(&["compose.yml"]);
    let rendered = compose.render(&request(&repo, &layers, &[])).await.ok().unwrap();
    assert_eq!(rendered.model.service("web").unwrap().image(), Some("x:"));
    let unset = &rendered.unset[0];
    assert_eq!(
        (unset.code.as_str(), unset.path.as_deref(), unset.line),
        ("env.unset", Some("stacks/web/compose.yml"), Some(3))
    );
}

#[tokio::test]
async fn a_required_variable_refuses_the_stack_unless_it_is_a_prediction() {
    let compose = compose().await;
    let repo = Repo::new(&[
        (
            "stacks/web/compose.yml",
            "services:\n  web:\n    image: x:${TAG:?say which}\n    user: ${WHO?}${FREE}\n    environment: {A: \"${SET:?}\"}\n",
        ),
        (".env", "SET=$TAG\n"),
    ]);
    let (layers, env) = (layers(&["compose.yml"]), repo.env(&[".env"]));
    let mut request = request(&repo, &layers, &env);
    let refused = problem(compose.render(&request).await);
    assert_eq!((refused.code.as_str(), refused.line.is_some()), ("env.unset", true));
    request.lenient = true;
    let rendered = compose.render(&request).await.ok().unwrap();
    assert_eq!(rendered.model.service("web").unwrap().image(), Some("x:"));
    // SET, in line 5, is made of TAG: it is told of too if Compose, which goes in no order, meets it before TAG.
    let lines: Vec<_> = rendered.unset.iter().filter_map(|p| p.line).filter(|line| *line != 5).collect();
    assert_eq!(lines, [4, 3, 4], "{:?}", rendered.unset);
}

#[tokio::test]
async fn a_value_of_an_environment_file_is_in_no_message() {
    let compose = compose().await;
    let repo = Repo::new(&[
        ("stacks/web/compose.yml", "services:\n  web:\n    image: x\n    ports: ['${PASSWORD}']\n"),
        ("good.env", "PASSWORD=hunter2-hunter2\n"),
        ("quote.env", "PASSWORD=\"hunter2-hunter2\n"),
        ("name.env", "hunter2 hunter2=1\n"),
        ("dollar.env", "PASSWORD=80$hunter2\n"),
    ]);
    let layers = layers(&["compose.yml"]);
    for file in ["good.env", "quote.env", "name.env", "dollar.env"] {
        let env = repo.env(&[file]);
        let text = match compose.render(&request(&repo, &layers, &env)).await {
            Ok(rendered) => format!("{:?} {:?}", rendered.unset, rendered.warnings),
            Err(RenderError::Refused(problems)) => format!("{problems:?}"),
            Err(other) => panic!("{other}"),
        };
        assert!(!text.contains("hunter2"), "{file}: {text}");
        assert!(text.contains("stacks/web") || text.contains(file), "{file}: {text}");
    }
}

#[tokio::test]
async fn a_project_without_a_name_takes_that_of_the_folder_where_it_will_be() {
    let compose = compose().await;
    let repo = Repo::new(&[("compose.yml", "services: {web: {image: x}}")]);
    let stack = Stack::new(StackName::new("root").unwrap(), vec![Layer::new("compose.yml", Origin::Root)]);
    let request = RenderRequest { target: Path::new("/srv/My Server"), ..request(&repo, &stack, &[]) };
    let rendered = compose.render(&request).await.ok().unwrap();
    assert_eq!(rendered.project, "myserver");
    assert_eq!(rendered.model.section("networks")["default"]["name"], "myserver_default");
}

#[tokio::test]
async fn values_are_those_that_interpolation_would_use() {
    let compose = compose().await;
    let repo =
        Repo::new(&[("1.env", "A=one\nB='p$$w$x'\n"), ("2.env", "A=\"t w o\"\nE=\n"), ("stacks/web/compose.yml", "")]);
    let env = repo.env(&["1.env", "2.env"]);
    let values =
        compose.values(&request(&repo, &layers(&[]), &env), &BTreeSet::from(["A", "B", "C", "E"])).await.ok().unwrap();
    let expected = [("A", "t w o"), ("B", "p$$w$x"), ("E", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(values, BTreeMap::from(expected));
}

#[tokio::test]
async fn remote_files_are_not_fetched() {
    let compose = compose().await;
    let repo =
        Repo::new(&[("stacks/web/compose.yml", "include: ['https://127.0.0.1:1/x.git']\nservices: {a: {image: x}}")]);
    let layers = layers(&["compose.yml"]);
    let refused = problem(compose.render(&request(&repo, &layers, &[])).await);
    assert!(refused.help.contains("signed commit"), "{refused:?}");
}

#[tokio::test]
async fn what_fails_for_want_of_a_variable_is_said_so() {
    let compose = compose().await;
    let text = "services:\n  web:\n    image: x\n    volumes: ['${DATA}:/data', '${MORE}/sub:/more:ro']\n    ports: ['${WEB_PORT}:80', '${OTHER}:81']\n";
    let repo = Repo::new(&[("stacks/web/compose.yml", text)]);
    let layers = layers(&["compose.yml"]);
    let mut request = request(&repo, &layers, &[]);
    let Err(RenderError::Refused(problems)) = compose.render(&request).await else { panic!("rendered") };
    let codes: Vec<_> = problems.iter().map(|p| (p.code.as_str(), p.line)).collect();
    assert_eq!(codes, [("env.unset", Some(4)), ("env.unset", Some(4)), ("env.unset", Some(5)), ("env.unset", Some(5))]);
    request.lenient = true;
    let rendered = compose.render(&request).await.map_err(|e| e.to_string()).ok().unwrap();
    assert_eq!(rendered.unset.len(), 4);
    let sources: Vec<_> =
        rendered.model.service("web").unwrap().binds().into_iter().map(|(source, _)| source.to_owned()).collect();
    assert_eq!(sources, ["", "/sub"]);
}

#[tokio::test]
async fn a_fault_is_no_warning_only_because_a_variable_is_unset_too() {
    let compose = compose().await;
    let repo =
        Repo::new(&[("stacks/web/compose.yml", "services:\n  web:\n    image: x:${TAG}\n    depends_on: [nobody]\n")]);
    let layers = layers(&["compose.yml"]);
    let request = RenderRequest { lenient: true, ..request(&repo, &layers, &[]) };
    let fault = problem(compose.render(&request).await);
    assert_eq!((fault.code.as_str(), fault.severity, fault.line), ("compose.invalid", Severity::Error, Some(4)));
}

/// Layers of three folders: what a shared stack, a server's own and the server's file make.
fn three_layers() -> (Repo, Stack) {
    let shared = "name: web\nservices:\n  web:\n    image: x\n    volumes: [./site:/site]\n    env_file: [a.env]\n";
    let local = "services:\n  web:\n    volumes: ['./extra:/extra', '${DATA}/web:/data']\n    env_file: [b.env]\n";
    let own = "name: other\nservices:\n  web: {env_file: !override [c.env]}\n  notes: {image: y, volumes: [./n:/n]}\n";
    let repo = Repo::new(&[
        ("shared/web/compose.yml", shared),
        ("shared/web/a.env", "A=1\n"),
        ("servers/home/web/compose.yml", local),
        ("servers/home/web/b.env", "B=2\n"),
        ("servers/home/compose.yml", own),
        ("servers/home/c.env", "C=3\n"),
        ("servers/home/.env", "DATA=./data\n"),
    ]);
    let layers = vec![
        Layer::new("shared/web/compose.yml", Origin::Shared),
        Layer::new("servers/home/web/compose.yml", Origin::Local),
        Layer::new("servers/home/compose.yml", Origin::Server),
    ];
    let without = BTreeSet::from(["notes".to_owned()]);
    let stack = Stack::new(StackName::new("web").unwrap(), layers);
    (repo, Stack { project: Some("web".to_owned()), without, ..stack })
}

#[tokio::test]
async fn each_layers_relative_paths_are_resolved_beside_its_own_file() {
    let compose = compose().await;
    let (repo, stack) = three_layers();
    let env = repo.env(&["servers/home/.env"]);
    let rendered = compose.render(&request(&repo, &stack, &env)).await.map_err(|e| e.to_string()).ok().unwrap();
    let web = rendered.model.service("web").unwrap();
    let sources: Vec<_> = web.binds().into_iter().map(|(source, _)| source.to_owned()).collect();
    assert_eq!(
        sources,
        ["/srv/live/shared/web/site", "/srv/live/servers/home/web/extra", "/srv/live/servers/home/web/data/web"]
    );
    assert_eq!(web.value()["environment"], serde_json::json!({"C": "3"}));
    assert_eq!(rendered.project, "web");
    assert_eq!(rendered.model.services().len(), 1, "the server's other service is not this stack's");
}

#[tokio::test]
async fn a_fault_in_a_layer_above_is_told_of_that_layer() {
    let compose = compose().await;
    let (repo, stack) = three_layers();
    fs::write(repo.root().join("servers/home/web/compose.yml"), "services:\n  web:\n    volums: [./x:/x]\n").unwrap();
    let fault = problem(compose.render(&request(&repo, &stack, &[])).await);
    assert!(fault.message.contains("servers/home/web/compose.yml"), "{fault:?}");
    assert!(!fault.message.contains("/tmp"), "{fault:?}");
}

#[tokio::test]
async fn what_a_list_says_of_a_stack_is_below_every_environment_file() {
    let compose = compose().await;
    let repo = Repo::new(&[
        ("stacks/web/compose.yml", "services: {web: {image: 'x:${A}-${B}', environment: {C: '${C}'}}}"),
        ("a.env", "A=file\n"),
    ]);
    let values = [("A", "list"), ("B", "list"), ("C", "it's $5 \"x\" \\ y")];
    let mut stack = layers(&["compose.yml"]);
    stack.defaults = values.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let env = repo.env(&["a.env"]);
    let rendered = compose.render(&request(&repo, &stack, &env)).await.map_err(|e| e.to_string()).ok().unwrap();
    let web = rendered.model.service("web").unwrap();
    assert_eq!(web.image(), Some("x:file-list"));
    assert_eq!(web.value()["environment"]["C"], "it's $$5 \"x\" \\ y");
}

#[tokio::test]
async fn a_servers_profiles_are_active() {
    let compose = compose().await;
    let text = "services:\n  a: {image: x}\n  b: {image: x, profiles: [gpu]}\n  c: {image: x, profiles: [debug]}\n";
    let repo = Repo::new(&[("stacks/web/compose.yml", text)]);
    let mut stack = layers(&["compose.yml"]);
    stack.profiles = vec!["gpu".to_owned()];
    let rendered = compose.render(&request(&repo, &stack, &[])).await.map_err(|e| e.to_string()).ok().unwrap();
    assert_eq!(rendered.model.services().into_keys().collect::<Vec<_>>(), ["a", "b"]);
}

#[tokio::test]
async fn what_services_say_of_themselves_is_merged_and_kept() {
    let repo = Repo::new(&[
        (
            "stacks/web/compose.yml",
            "services:\n  app:\n    image: x\n    x-evenkeel: {probes: [{tcp: {port: \"${PORT}\"}}]}\n  side: {image: y}\n",
        ),
        (
            "stacks/web/compose.override.yml",
            "services:\n  app:\n    x-evenkeel: {probes: [{command: [test, \"$$A\"]}]}\n",
        ),
        (".env", "PORT=81\n"),
    ]);
    let stack = layers(&["compose.yml", "compose.override.yml"]);
    let env = repo.env(&[".env"]);
    let model = compose().await.render(&request(&repo, &stack, &env)).await.unwrap().model;
    let probes = evenkeel_core::probe::probes(model.service("app").unwrap());
    let command = evenkeel_core::probe::Ask::Command(vec!["test".to_owned(), "$A".to_owned()]);
    assert!(probes.iter().any(|probe| probe.ask == command), "{probes:?}");
    assert!(model.service("side").unwrap().said("probes").is_null());
}

#[tokio::test]
async fn a_key_of_our_own_is_refused_however_it_came_there() {
    let compose = compose().await;
    for (text, line) in [
        ("x-evenkeel-health-check: /bin/sh\nservices: {a: {image: x}}\n", Some(1)),
        ("x-a: &a {x-evenkeel-watched: [/etc/shadow]}\n<<: *a\nservices: {a: {image: x}}\n", None),
    ] {
        let repo =
            Repo::new(&[("stacks/web/compose.yml", text), ("stacks/web/more.yml", "services: {a: {init: true}}\n")]);
        let stack = layers(&["compose.yml", "more.yml"]);
        let refused = problem(compose.render(&request(&repo, &stack, &[])).await);
        assert_eq!(refused.code, "x-evenkeel.reserved", "{refused:?}");
        assert_eq!(
            line,
            refused.line.filter(|_| refused.path.as_deref() == Some("stacks/web/compose.yml")),
            "{refused:?}"
        );
    }
    // What an included file says so stays with it, and a service's own are not in the model.
    let repo = Repo::new(&[
        ("stacks/web/compose.yml", "include: [more.yml]\nservices: {a: {image: x, x-evenkeel-reload: {}}}\n"),
        ("stacks/web/more.yml", "x-evenkeel-watched: [/etc/shadow]\nservices: {b: {image: x}}\n"),
    ]);
    let rendered = compose.render(&request(&repo, &layers(&["compose.yml"]), &[])).await.ok().unwrap();
    assert!(!rendered.model.value().to_string().contains("x-evenkeel-"), "{}", rendered.model.value());
}
