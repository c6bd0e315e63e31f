//! The command line as a user calls it: answers, diagnostics, exit codes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails where it stands")]

mod done;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use done::Done;
use insta::assert_snapshot;
use serde_json::{Value, json};

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new(files: &[(&str, &str)]) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        world.write(files);
        world
    }

    fn repo(&self) -> PathBuf {
        self.folder.path().join("repo")
    }

    fn write(&self, files: &[(&str, &str)]) {
        for (path, content) in files {
            let file = self.repo().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
    }

    fn git(&self, args: &[&str]) -> String {
        let done = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"])
            .args(args)
            .current_dir(self.repo())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// Commits everything and returns the commit.
    fn commit(&self) -> String {
        if !self.repo().join(".git").exists() {
            self.git(&["init", "-q", "-b", "main"]);
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "state"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs `evenkeel VERB --repo REPO …`.
    fn run(&self, args: &[&str]) -> Done {
        let (verb, rest) = args.split_first().unwrap();
        run(self.evenkeel().arg(verb).arg("--repo").arg(self.repo()).args(rest))
    }

    /// The program, with a cache of this world's own.
    fn evenkeel(&self) -> Command {
        let mut command = Command::new(EVENKEEL);
        command.env("XDG_CACHE_HOME", self.folder.path().join("cache"));
        command
    }
}

const EVENKEEL: &str = env!("CARGO_BIN_EXE_evenkeel");

fn run(command: &mut Command) -> Done {
    Done(command.env_remove("NO_COLOR").output().unwrap())
}

const DB: (&str, &str) = (
    "stacks/db/compose.yml",
    "services:\n  db:\n    image: pg:${PG_VERSION:-16}\n    environment:\n      PASSWORD: ${DB_PASSWORD:?}\n",
);
const WEB: (&str, &str) = (
    "stacks/web/compose.yml",
    "x-evenkeel: {depends_on: [db]}\nservices:\n  web:\n    image: nginx:${TAG}\n    volumes: ['./conf:/etc/conf:ro']\n  side:\n    image: side\n    network_mode: service:web\n",
);

#[test]
fn stacks_answers_as_the_contract_says() {
    let world = World::new(&[DB, WEB, (".env", "TAG=1\n")]);
    let done = world.run(&["stacks", "--server", "home", "--format", "json"]);
    assert_eq!(done.code(), 0);
    let stack = |name: &str, needs: &[&str]| {
        json!({
            "name": name, "project": name, "env_files": [".env"], "depends_on": needs,
            "layers": [{"path": format!("stacks/{name}/compose.yml"), "origin": "folder"}]
        })
    };
    let expected = json!({
        "schema": 1, "server": "home", "layout": "stacks", "problems": [],
        "stacks": [stack("db", &[]), stack("web", &["db"])]
    });
    assert_eq!(done.json(), expected);
    assert_snapshot!(world.run(&["stacks", "--server", "home"]).stdout(), @r"
    home: 2 stacks (layout stacks)

    db
      ├─ stacks/db/compose.yml folder
      └─ variables from .env

    web
      ├─ stacks/web/compose.yml folder
      ├─ variables from .env
      └─ after db
    ");
}

#[test]
fn one_json_document_comes_with_every_failure() {
    let world = World::new(&[DB]);
    let missing = world.run(&["render", "--format", "json"]).json()["error"]["message"].clone();
    assert_eq!(missing, json!("the following required arguments were not provided: <STACK>"));
    let cases: [(&[&str], i32, &str); 5] = [
        (&["stacks", "--wrong", "--format=json"], 2, "usage"),
        (&["render", "--format", "json"], 2, "usage"),
        (&["stacks", "--rev", "main", "--format", "json"], 2, "repo.unreadable"),
        (&["stacks", "--server", "a/b", "--format", "json"], 2, "usage"),
        (&["render", "--server", "home", "dbs", "--format", "json"], 2, "stack.unknown"),
    ];
    for (args, code, name) in cases {
        let done = world.run(args);
        assert_eq!((done.code(), done.json()["error"]["code"].as_str()), (code, Some(name)), "{args:?}");
        assert_eq!(done.json()["schema"], 1);
        assert!(!done.stderr().is_empty());
    }
    assert!(world.run(&["render", "dbs"]).stderr().contains("did you mean `db`?"));
    let world = World::new(&[("servers/home/web/compose.yml", "services: {a: {image: x}}\n")]);
    let done = world.run(&["render", "--server", "hom", "web", "--format", "json"]);
    assert_eq!((done.code(), done.json()["error"]["code"].clone()), (2, json!("server.unknown")));
}

#[test]
fn check_finds_what_is_wrong_and_where() {
    let bad = ("stacks/bad/compose.yml", "services:\n  a:\n    image: [1]\n");
    let out = (
        "stacks/out/compose.yml",
        "services:\n  a:\n    image: x\n    configs: [c]\nconfigs:\n  c:\n    file: /etc/hosts\n",
    );
    let env = ("stacks/env/compose.yml", "services:\n  a:\n    image: x\n    env_file: secret.env\n");
    // What the policy finds has tests of its own.
    let policy = (
        "evenkeel.yml",
        "policy: {rules: {image.latest: off, service.no-healthcheck: off, service.no-memory-limit: off, service.no-restart: off}}\n",
    );
    let up = ("stacks/up/compose.yml", "services:\n  a: {image: x, configs: [c]}\nconfigs:\n  c: {file: ../../../x}\n");
    let world = World::new(&[DB, WEB, bad, out, up, env, policy]);
    assert_snapshot!(world.run(&["check"]).stdout(), @r#"
    error[compose.invalid] default/bad stacks/bad/compose.yml:3: validating stacks/bad/compose.yml: services.a.image must be a string
      why: no server can deploy the stack; it keeps what it runs
      help: correct the file; `docker compose config` in its folder says the same
    error[path.outside] default/up stacks/up/compose.yml:4: configs.c.file leads out of the repository
      why: what is deployed must be what was signed, and that ends where the repository ends
      help: keep the file in the repository, or bind-mount it; or allow the host's path on the server, with engine.allow_host_paths
    warning[env.file] default/env stacks/env/compose.yml:4: env_file stacks/env/secret.env is not in the repository
      why: it has to be on the server before the stack can be deployed
      help: put it into the live tree on the server, at this path; here its variables are taken for unset
    warning[env.unset] default/db stacks/db/compose.yml:5: the variable DB_PASSWORD is used and set nowhere
    warning[env.unset] default/web stacks/web/compose.yml:4: the variable TAG is used and set nowhere
      why: Compose would put nothing in its place, silently
      help: set it in an environment file beside the stack or on the server (_server.env or <stack>.env), or give it a default: ${NAME:-…}
    warning[path.outside] default/out stacks/out/compose.yml:7: configs.c.file leads out of the repository
      why: what is deployed must be what was signed, and that ends where the repository ends
      help: keep the file in the repository, or bind-mount it; or allow the host's path on the server, with engine.allow_host_paths
    1 server, 6 stacks: 2 errors, 4 warnings
    "#);
    assert_eq!(world.run(&["check"]).code(), 1);
    let codes = |done: &Done| -> Vec<String> {
        done.json()["problems"].as_array().unwrap().iter().map(|p| p["code"].as_str().unwrap().to_owned()).collect()
    };
    let done = world.run(&["check", "--server", "home", "--format", "json"]);
    assert_eq!(codes(&done), ["compose.invalid", "path.outside", "env.file", "env.unset", "env.unset", "path.outside"]);
    assert_eq!(done.json()["servers"], json!(["home"]));
    assert!(!world.repo().join("stacks/env/secret.env").exists(), "it wrote into the work tree");

    let fine = World::new(&[("stacks/a/compose.yml", "services: {a: {image: x}}\n")]);
    assert_eq!(fine.run(&["check"]).code(), 0);
}

#[test]
fn without_compose_check_reports_the_rest_and_render_and_plan_are_worth_trying_again() {
    let world = World::new(&[
        DB,
        ("stacks/needy/compose.yml", "x-evenkeel: {depends_on: [nobody]}\nservices: {a: {image: x}}\n"),
    ]);
    world.commit();
    let without = |args: &[&str]| {
        let (verb, rest) = args.split_first().unwrap();
        run(Command::new(EVENKEEL).arg(verb).arg("--repo").arg(world.repo()).args(rest).env("PATH", "/nowhere"))
    };
    let done = without(&["check", "--format", "json"]);
    let codes: Vec<Value> = done.json()["problems"].as_array().unwrap().iter().map(|p| p["code"].clone()).collect();
    assert!(codes.len() == 2 && codes.contains(&json!("compose.missing")), "{codes:?}");
    assert_eq!(done.code(), 1);
    for args in [vec!["render", "db"], vec!["plan", "--from", "empty", "--to", "HEAD"]] {
        let done = without(&[args.as_slice(), &["--format", "json"]].concat());
        assert_eq!((done.code(), done.json()["error"]["code"].clone()), (7, json!("compose.missing")), "{args:?}");
    }
}

#[test]
fn render_names_the_variables_that_are_set_nowhere() {
    let world = World::new(&[DB, WEB]);
    let done = world.run(&["render", "web", "--format", "json"]);
    assert_eq!((done.code(), done.json()["error"]["code"].clone()), (1, json!("env.unset")));
    assert!(done.stderr().contains("stacks/web/compose.yml:4: the variable TAG"), "{}", done.stderr());

    let done = world.run(&["render", "web", "--allow-unset", "--format", "json"]);
    assert_eq!((done.code(), done.json()["services"]["web"]["image"].clone()), (0, json!("nginx:")));

    fs::write(world.folder.path().join("given.env"), "TAG=7\n").unwrap();
    let given = world.folder.path().join("given.env");
    let done = world.run(&["render", "web", "--env-file", given.to_str().unwrap(), "--live-root", "/srv/live"]);
    assert_eq!(done.json()["services"]["web"]["image"], "nginx:7");
    assert_eq!(done.json()["services"]["web"]["volumes"][0]["source"], "/srv/live/stacks/web/conf");
}

#[test]
fn where_keys_come_from_is_told_without_the_values_of_variables() {
    let needy =
        ("stacks/web/compose.yml", "services:\n  web:\n    image: nginx:${TAG:?which one}\n    user: ${OWNER}\n");
    let world = World::new(&[needy, ("stacks/web/.env.example", "# the version that runs\nTAG=1.27\n")]);
    let refused = world.run(&["render", "web"]);
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr().contains("stacks/web/.env.example says what it is for"), "{}", refused.stderr());
    let done = world.run(&["render", "web", "--explain"]);
    assert_eq!(done.code(), 0, "{}", done.stderr());
    assert!(done.stdout().contains("services.web.image"), "{}", done.stdout());
    assert!(done.stderr().contains("warning[env.unset] stacks/web/compose.yml:3"), "{}", done.stderr());
}

#[test]
fn render_has_paths_as_if_the_revision_were_checked_out() {
    let world = World::new(&[DB, WEB, (".env", "TAG=1\n")]);
    let commit = world.commit();
    fs::remove_dir_all(world.repo().join("stacks")).unwrap();
    let source = |repo: &Path| format!("{}/stacks/web/conf", repo.display());
    let done = world.run(&["render", "--rev", &commit, "web"]);
    assert_eq!(done.json()["services"]["web"]["volumes"][0]["source"], source(&world.repo()), "{}", done.stderr());
    let bare = world.folder.path().join("bare.git");
    world.git(&["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let done = run(world.evenkeel().args(["render", "web", "--repo"]).arg(&bare));
    assert_eq!(done.json()["services"]["web"]["volumes"][0]["source"], source(&bare), "{}", done.stderr());
    assert_eq!(done.json()["services"]["web"]["image"], "nginx:1");
}

#[test]
fn plan_shows_what_changes_and_why() {
    let world = World::new(&[
        DB,
        WEB,
        (".env", "TAG=1\n"),
        ("stacks/web/conf/site", "a"),
        ("stacks/old/compose.yml", "services: {o: {image: o}}\n"),
    ]);
    let from = world.commit();
    world.write(&[
        ("stacks/web/conf/site", "b"),
        (DB.0, &DB.1.replace("16", "17")),
        ("stacks/new/compose.yml", "services: {n: {image: n}}\n"),
    ]);
    fs::remove_dir_all(world.repo().join("stacks/old")).unwrap();
    let to = world.commit();
    let done = world.run(&["plan", "--from", &from, "--to", &to]);
    let shown = done.stdout().replace(&from[..12], "FROM").replace(&to[..12], "TO");
    assert_snapshot!(shown, @r#"
    default  FROM -> TO
      wave 1
      ~ db  update
          ~ db  recreate: image
          pulls pg:17
          down: db while made anew (up to 10 s to stop, then the start)
      + new  create
          + n  create
          pulls n
      wave 2
      ~ web  update
          ~ side  recreate: dependency web
          ~ web   recreate: file stacks/web/conf/site
          down: side, web while made anew (up to 10 s to stop, then the start)
      wave 3
      - old  remove: its volumes stay
          - o  remove
      stacks: 1 to create, 2 to update, 1 to remove
    "#);

    let done = world.run(&["plan", "--from", &from, "--to", &to, "--exit-code", "--format", "json"]);
    assert_eq!(done.code(), 3);
    let server = &done.json()["servers"][0];
    assert_eq!((&server["from"], &server["to"], &server["rejected"]), (&json!(from), &json!(to), &json!([])));
    assert_eq!(
        server["waves"][1],
        json!([{"stack": "web", "change": "update", "services": [
            {"service": "side", "change": "recreate", "why": [{"kind": "dependency", "name": "web"}]},
            {"service": "web", "change": "recreate", "why": [{"kind": "file", "name": "stacks/web/conf/site"}]}
        ]}])
    );
    assert_eq!(world.run(&["plan", "--from", &to, "--to", &to, "--exit-code"]).code(), 0);
    assert_eq!(world.run(&["plan", "--from", "empty", "--to", &to]).code(), 0);
    assert_eq!(world.run(&["plan", "--from", "nowhere", "--to", &to]).code(), 2);
}

#[test]
fn plan_keeps_a_stack_that_cannot_be_deployed_and_holds_what_needs_it() {
    let world = World::new(&[DB, WEB, (".env", "TAG=1\n")]);
    let from = world.commit();
    world.write(&[(DB.0, "services:\n  db:\n    image: [1]\n"), (".env", "TAG=2\n")]);
    let to = world.commit();
    let done = world.run(&["plan", "--from", &from, "--to", &to]);
    let shown = done.stdout().replace(&from[..12], "FROM").replace(&to[..12], "TO");
    assert_snapshot!(shown, @r#"
    default  FROM -> TO
      = web  held: waits for db
      ! db  rejected: keeps what it runs
      stacks: 1 held, 1 rejected
    error[compose.invalid] default/db stacks/db/compose.yml:3: validating stacks/db/compose.yml: services.db.image must be a string
      help: correct the file; `docker compose config` in its folder says the same
    "#);
    assert_eq!(done.code(), 0);
}

#[test]
fn plan_knows_a_server_that_one_of_the_revisions_does_not_name() {
    let world = World::new(&[("stacks/db/compose.yml", "services: {db: {image: pg}}\n")]);
    let from = world.commit();
    world.write(&[("servers/home/config.json", r#"{"stacks": ["db"]}"#)]);
    let to = world.commit();
    let done = world.run(&["plan", "--from", &from, "--to", &to, "--format", "json"]);
    let servers = done.json()["servers"].clone();
    assert_eq!((servers.as_array().unwrap().len(), &servers[0]["server"]), (1, &json!("home")));
    assert_eq!((done.code(), &servers[0]["waves"], &servers[0]["problems"]), (0, &json!([]), &json!([])));
}

#[test]
fn a_folder_of_a_repository_is_told_from_a_repository() {
    let world = World::new(&[DB, WEB]);
    let commit = world.commit();
    let inside = world.repo().join("stacks/db");
    let at = |args: &[&str]| run(Command::new(EVENKEEL).args(args).arg("--repo").arg(&inside));
    let top = world.repo().canonicalize().unwrap();
    assert!(at(&["stacks"]).stderr().contains(&format!("lies in the repository {}", top.display())));
    let done = at(&["stacks", "--rev", &commit, "--format", "json"]);
    let message = done.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(done.code() == 2 && message.contains(&top.display().to_string()), "{message}");
    assert!(world.run(&["stacks"]).stderr().is_empty());

    let nowhere = world.folder.path().join("plain");
    fs::create_dir(&nowhere).unwrap();
    let done = run(Command::new(EVENKEEL).args(["plan", "--repo"]).arg(&nowhere));
    assert!(done.code() == 2 && done.stderr().contains("it is not a Git repository"), "{}", done.stderr());
}

#[test]
fn an_answer_that_cannot_be_written_is_a_failure() {
    let world = World::new(&[DB]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(EVENKEEL);
    command.args(["stacks", "--repo"]).arg(world.repo()).stdout(full);
    let done = command.stderr(std::process::Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("cannot write to standard output"));
}

#[test]
fn colours_only_where_they_are_wanted() {
    let world = World::new(&[DB]);
    assert!(!world.run(&["stacks"]).stdout().contains('\u{1b}'));
    assert!(world.run(&["stacks", "--color", "always"]).stdout().contains('\u{1b}'));
    assert!(!world.run(&["stacks", "--color", "never"]).stdout().contains('\u{1b}'));
}

#[test]
fn every_verb_explains_itself() {
    let plain = ["agent", "plan", "sync", "status", "history", "verify", "stacks", "render", "check", "completions"];
    let of_trust = ["trust", "trust init", "trust status", "trust accept"];
    for verb in plain.into_iter().chain(of_trust) {
        let done = run(Command::new(EVENKEEL).args(verb.split(' ')).arg("--help"));
        assert_eq!(done.code(), 0, "{verb}");
        assert!(done.stdout().contains("Examples:"), "{verb}");
    }
    assert!(run(Command::new(EVENKEEL).args(["completions", "bash"])).stdout().contains("_evenkeel"));
}
