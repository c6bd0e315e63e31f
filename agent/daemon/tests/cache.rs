//! What a call keeps for the next one: the answers are the same with and without it, and it holds no more than Git does.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails where it stands")]

mod done;

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use done::Done;

const EVENKEEL: &str = env!("CARGO_BIN_EXE_evenkeel");
/// What nobody would want to find in a cache.
const SECRET: &str = "Xk3vQ9-never-committed";

/// A repository, a cache, and a `docker` that writes down how it is called.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new(files: &[(&str, &str)]) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        for (path, content) in files {
            world.write(path, content);
        }
        let docker = env::split_paths(&env::var("PATH").unwrap()).map(|p| p.join("docker")).find(|p| p.is_file());
        let docker = docker.unwrap_or_else(|| panic!("run `make test`, which brings `docker compose`"));
        let log = world.at("log");
        let version = world.at("version");
        let script = format!(
            "#!/bin/sh\necho \"$*\" >>{log}\ncase \"$*\" in *version*) [ -e {version} ] && exec cat {version} ;; esac\nexec {docker} \"$@\"\n",
            log = log.display(),
            version = version.display(),
            docker = docker.display()
        );
        fs::create_dir(world.at("bin")).unwrap();
        // Written by another process: no child of this one may have it open for writing when it is started.
        fs::write(&log, script).unwrap();
        let installed = Command::new("install").args(["-m", "755"]).args([&log, &world.at("bin/docker")]).status();
        assert!(installed.unwrap().success());
        world
    }

    /// A copy of an example.
    fn of_example(name: &str) -> Self {
        let world = Self::new(&[]);
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name);
        let copied = Command::new("cp").arg("-a").args([&from, &world.repo()]).status();
        assert!(copied.unwrap().success());
        world
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn repo(&self) -> PathBuf {
        self.at("repo")
    }

    fn write(&self, path: &str, content: &str) {
        let file = self.repo().join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    /// Commits everything but what `.gitignore` names.
    fn commit(&self) {
        for args in [
            &["init", "-q", "-b", "main"][..],
            &["add", "-A"],
            &[
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@example.org",
                "-c",
                "commit.gpgsign=false",
                "commit",
                "-qm",
                "x",
            ],
        ] {
            let mut git = Command::new("git");
            let done = git.args(args).current_dir(self.repo()).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
            assert!(done.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&done.stderr));
        }
    }

    fn evenkeel(&self, args: &[&str]) -> Command {
        let (verb, rest) = args.split_first().unwrap();
        let path = format!("{}:{}", self.at("bin").display(), env::var("PATH").unwrap());
        let mut command = Command::new(EVENKEEL);
        command.arg(verb).arg("--repo").arg(self.repo()).args(rest);
        command.env("PATH", path).env("XDG_CACHE_HOME", self.at("cache")).env("RUST_BACKTRACE", "0");
        command
    }

    /// Runs a verb, and says how many renderings that took.
    fn run(&self, args: &[&str]) -> (Done, usize) {
        fs::write(self.at("log"), "").unwrap();
        let done = Done(self.evenkeel(args).output().unwrap());
        let log = fs::read_to_string(self.at("log")).unwrap();
        (done, log.lines().filter(|line| line.contains(" config ")).count())
    }

    /// How many renderings a check takes, which says the same as one without a cache.
    #[track_caller]
    fn check(&self, more: &[&str]) -> usize {
        let args = [&["check", "--format", "json"], more].concat();
        let (with, count) = self.run(&args);
        let (without, _) = self.run(&[&args[..], &["--no-cache"]].concat());
        assert_eq!(with.json(), without.json());
        assert_eq!(with.code(), without.code());
        count
    }

    /// Everything that is kept.
    fn kept(&self) -> Vec<String> {
        let Ok(files) = fs::read_dir(self.at("cache/evenkeel/renders")) else { return Vec::new() };
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect()
    }
}

/// What becomes of a work tree.
type Change<'a> = &'a dyn Fn(&World);

const STACK: &str =
    "name: web\nservices:\n  app:\n    image: 'nginx:${TAG}'\n    env_file: [{path: app.env, required: false}]\n";

#[test]
fn every_example_answers_the_same_with_and_without_it() {
    for name in ["hosts", "quickstart", "root", "servers", "sites"] {
        let world = World::of_example(name);
        world.commit();
        for verb in [&["check", "--format", "json"][..], &["plan", "--from", "empty", "--format", "json"]] {
            for rev in [&[][..], &[if verb[0] == "plan" { "--to" } else { "--rev" }, "HEAD"]] {
                let (without, _) = world.run(&[verb, rev, &["--no-cache"]].concat());
                let (cold, _) = world.run(&[verb, rev].concat());
                let (warm, count) = world.run(&[verb, rev].concat());
                assert_eq!(count, 0, "{name} {verb:?} {rev:?}");
                assert_eq!(without.stdout(), cold.stdout(), "{name} {verb:?} {rev:?}");
                assert_eq!(without.stdout(), warm.stdout(), "{name} {verb:?} {rev:?}");
            }
        }
    }
}

#[test]
fn what_changed_is_rendered_again_whatever_it_is() {
    let db = STACK.replace("name: web", "name: db");
    let world = World::new(&[("stacks/web/compose.yml", STACK), (".env", "TAG=1\n"), ("stacks/db/compose.yml", &db)]);
    world.commit();
    assert_eq!(world.check(&[]), 2);
    assert_eq!(world.check(&[]), 0);
    assert_eq!(world.check(&["--rev", "HEAD"]), 0, "a revision has the same files");
    world.write("stacks/web/compose.yml", &STACK.replace("nginx", "httpd"));
    assert_eq!((world.check(&[]), world.check(&[])), (1, 1), "what no commit has is not kept");
    world.commit();
    assert_eq!((world.check(&[]), world.check(&[])), (1, 0));
    world.write("stacks/web/compose.yml", &STACK.replace("image", "imgae"));
    world.commit();
    assert_eq!((world.check(&[]), world.check(&[])), (1, 0), "a refusal is an answer");
    world.write("stacks/web/compose.yml", STACK);
    world.commit();
    assert_eq!(world.check(&[]), 0, "as it was");
    world.write("stacks/web/app.env", "A=1\n");
    world.commit();
    assert_eq!((world.check(&[]), world.check(&[])), (1, 0), "a file that was not there");
    fs::remove_file(world.repo().join("stacks/web/app.env")).unwrap();
    assert_eq!(world.check(&[]), 0, "and is not there again");
    fs::write(world.at("version"), "2.40.0\n").unwrap();
    assert_eq!((world.check(&[]), world.check(&[])), (2, 0), "another Compose");
}

#[test]
fn render_takes_part_and_a_file_that_is_named_does_not() {
    let world = World::new(&[("stacks/web/compose.yml", STACK), (".env", "TAG=1\n")]);
    world.commit();
    let (first, count) = world.run(&["render", "web"]);
    assert_eq!((first.code(), count), (0, 1), "{}", first.stderr());
    let (second, count) = world.run(&["render", "web"]);
    assert_eq!((second.stdout(), count), (first.stdout(), 0));
    fs::write(world.at("more.env"), format!("TAG={SECRET}\n")).unwrap();
    let named = world.at("more.env").display().to_string();
    for _ in 0..2 {
        let (third, count) = world.run(&["render", "web", "--env-file", &named]);
        assert_eq!((third.json()["services"]["app"]["image"].as_str(), count), (Some(&*format!("nginx:{SECRET}")), 1));
    }
    assert_eq!(world.kept().len(), 1);
}

#[test]
fn no_environment_file_that_is_not_committed_as_it_stands_leaves_a_trace() {
    let secret = format!("TAG={SECRET}\n");
    let cases: [(&str, Change<'_>); 8] = [
        ("ignored", &|w| w.write(".env", &secret)),
        ("changed", &|w| w.write("stacks/web/app.env", &secret.replace("TAG", "APP"))),
        ("beside the stack", &|w| w.write("stacks/web/.env", &secret)),
        ("linked", &|w| {
            fs::write(w.at("outside"), &secret).unwrap();
            symlink(w.at("outside"), w.repo().join(".env")).unwrap();
        }),
        ("an ignored Compose file", &|w| {
            w.write(".gitignore", "compose.override.yml\n");
            w.write("stacks/web/compose.override.yml", &format!("services: {{app: {{command: '{SECRET}'}}}}\n"));
        }),
        ("a Compose file that was changed", &|w| {
            w.write("stacks/web/compose.yml", &STACK.replace("nginx:", &format!("{SECRET}:")));
        }),
        ("in another repository", &|w| {
            w.write("sub/.git/HEAD", "ref: refs/heads/main\n");
            w.write("sub/x.env", &secret);
            w.write("stacks/web/compose.yml", &STACK.replace("{path: app.env, required: false}", "../../sub/x.env"));
        }),
        ("a Compose file in another repository", &|w| {
            w.write("sub/.git/HEAD", "ref: refs/heads/main\n");
            w.write("sub/x.yml", &format!("services: {{x: {{image: '{SECRET}'}}}}\n"));
            w.write("stacks/web/compose.yml", &format!("include: [../../sub/x.yml]\n{STACK}"));
        }),
    ];
    for (name, change) in cases {
        let world = World::new(&[
            ("stacks/web/compose.yml", STACK),
            ("stacks/web/app.env", "APP=1\n"),
            (".gitignore", ".env\n"),
        ]);
        world.commit();
        change(&world);
        for verb in ["check", "check", "render web", "plan --from empty"] {
            world.run(&verb.split(' ').collect::<Vec<_>>());
        }
        let found = world.kept().iter().any(|text| text.contains(SECRET));
        assert!(!found, "{name}");
    }
    // Of a folder without Git nobody knows what is a secret; of its Compose files all of it is seen.
    let world =
        World::new(&[("stacks/web/compose.yml", STACK), ("stacks/db/compose.yml", "services: {a: {image: x}}\n")]);
    world.write("stacks/web/.env", &secret);
    assert_eq!(world.check(&[]), 2);
    assert_eq!(world.check(&[]), 1);
    assert!(!world.kept().concat().contains(SECRET) && world.kept().len() == 1);
}

#[test]
fn what_a_key_opened_leaves_no_trace_and_what_is_sealed_may_be_kept() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/secrets/fixtures");
    let world = World::new(&[("stacks/web/compose.yml", &STACK.replace("app.env", "app.env.age"))]);
    fs::copy(fixtures.join("age.armour"), world.repo().join("stacks/web/app.env.age")).unwrap();
    world.commit();
    fs::copy(fixtures.join("key"), world.at("key")).unwrap();
    fs::set_permissions(world.at("key"), fs::Permissions::from_mode(0o600)).unwrap();
    let key = world.at("key").display().to_string();
    let (opened, _) = world.run(&["render", "web", "--allow-unset", "--identity", &key]);
    assert_eq!(opened.json()["services"]["app"]["environment"]["A"], "one", "{}", opened.stderr());
    assert_eq!(world.check(&["--identity", &key]), 1);
    assert_eq!(world.check(&["--identity", &key]), 1);
    assert_eq!(world.kept().len(), 0);
    assert_eq!((world.check(&[]), world.check(&[])), (1, 0));
    assert!(!world.kept().concat().contains("\"one\""));
}

#[test]
fn without_a_place_for_it_everything_works_and_a_place_that_was_named_is_told_of() {
    let world = World::new(&[("stacks/web/compose.yml", STACK), (".env", "TAG=1\n")]);
    world.commit();
    fs::write(world.at("file"), "").unwrap();
    let run = |cache: Option<&Path>, home: &Path| {
        let mut command = world.evenkeel(&["check", "--format", "json"]);
        match cache {
            Some(cache) => command.env("XDG_CACHE_HOME", cache),
            None => command.env_remove("XDG_CACHE_HOME"),
        };
        let done = Done(command.env("HOME", home).output().unwrap());
        assert_eq!(done.code(), 0, "{}", done.stderr());
        done.stderr()
    };
    assert_eq!(run(Some(&world.at("cache")), Path::new("/")), "");
    let said = run(Some(&world.at("file")), Path::new("/"));
    assert!(said.starts_with("note: without a cache: ") && said.lines().count() == 1, "{said}");
    assert_eq!(run(None, &world.at("file")), "");
    fs::create_dir(world.at("home")).unwrap();
    assert_eq!(run(None, &world.at("home")), "");
    assert!(world.at("home/.cache/evenkeel/renders").is_dir());
    if rustix::process::geteuid().is_root() {
        // As `sudo` may leave it: a home of somebody else gets nothing of root's.
        fs::create_dir_all(world.at("theirs/.cache")).unwrap();
        for path in ["theirs", "theirs/.cache"] {
            std::os::unix::fs::chown(world.at(path), Some(12345), None).unwrap();
        }
        assert_eq!(run(None, &world.at("theirs")), "");
        assert_eq!(fs::read_dir(world.at("theirs/.cache")).unwrap().count(), 0);
    }
    // Others may write there: what lies there counts for nothing.
    fs::set_permissions(world.at("cache/evenkeel/renders"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(run(Some(&world.at("cache")), Path::new("/")).contains("others may write there"));
}
