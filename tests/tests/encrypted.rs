//! What is encrypted in Git reaches the containers, and nobody else.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use evenkeel_core::{outcome::Outcome, reason::Code};
use evenkeel_tests::{
    encrypted::{BAD, ROTATED, SECRET, age, nothing_leaks, offline, with_key},
    program::{self, Run},
    world::World,
};

/// A service that has the secret and is well unless it is the bad one, and one that does not have it.
const COMPOSE: &str = "services:
  app:
    image: evenkeel-test/busybox:1
    init: true
    command: [sleep, '100000']
    env_file: secrets.env.age
    healthcheck:
      test: [CMD-SHELL, 'case $$PASSWORD in unfit*) exit 1;; esac']
      interval: 500ms
      timeout: 2s
      retries: 1
  other:
    image: evenkeel-test/busybox:1
    init: true
    command: [sleep, '100000']
";

fn password(value: &str) -> String {
    format!("# of the database\nPASSWORD={value}\n")
}

#[test]
fn a_secret_reaches_its_container_changes_it_alone_and_comes_back() {
    let mut world = World::new();
    let recipient = with_key(&mut world, "age.key");
    let (compose, secrets) = (world.path("db", "compose.yml"), world.path("db", "secrets.env.age"));
    let first = age(&recipient, &password(SECRET));
    world.change("Begin").file(&compose, COMPOSE).file(&secrets, &first).push();
    world.once().exits(0);
    let ids = |world: &World| ["app", "other"].map(|service| world.container("db", service).id());
    let began = ids(&world);
    assert_eq!(world.container("db", "app").variable("PASSWORD").as_deref(), Some(SECRET));
    assert_eq!(world.container("db", "other").variable("PASSWORD"), None);
    assert_eq!(fs::read_to_string(world.live(&secrets)).unwrap(), first, "the live tree has what Git has");
    nothing_leaks(&world, &[SECRET, ROTATED, BAD]);

    // The same text in another ciphertext, for one recipient more.
    world.change("Encrypt it anew").file(&secrets, age(&recipient, &password(SECRET))).push();
    world.once().exits(0);
    assert_eq!(ids(&world), began, "nothing changed for the containers");

    world.change("Rotate").file(&secrets, age(&recipient, &password(ROTATED))).push();
    world.once().exits(0);
    let rotated = ids(&world);
    assert!(rotated[0] != began[0] && rotated[1] == began[1], "only the one that has the secret is made anew");
    assert_eq!(world.container("db", "app").variable("PASSWORD").as_deref(), Some(ROTATED));

    // A new value with which the service is not well: the former one comes back from the store.
    world.change("Rotate badly").file(&secrets, age(&recipient, &password(BAD))).push();
    world.once().exits(5);
    world.last_sync(Outcome::RolledBack);
    assert_eq!(world.container("db", "app").variable("PASSWORD").as_deref(), Some(ROTATED));
    assert_eq!(world.container("db", "other").id(), began[1]);
    nothing_leaks(&world, &[SECRET, ROTATED, BAD]);
}

#[test]
fn without_the_right_key_the_stack_keeps_what_it_runs() {
    let mut world = World::new();
    let recipient = with_key(&mut world, "age.key");
    let secrets = world.path("db", "secrets.env.age");
    let begin = world.change("Begin").file(&world.path("db", "compose.yml"), COMPOSE);
    begin.file(&secrets, age(&recipient, &password(SECRET))).push();
    world.once().exits(0);
    let before = world.container("db", "app").id();
    let other = offline(&world, &["secrets", "key", world.server().join("other.key").to_str().unwrap()]).ok();
    world.change("For another server").file(&secrets, age(&other, &password(ROTATED))).push();
    let run = world.once();
    let said = run.exits(1).said();
    for word in ["secrets.env.age", "is encrypted with age for other keys", &recipient, "evenkeel secrets rekey"] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    assert_eq!(world.container("db", "app").id(), before);
    let sync = world.history();
    let sync = sync.last().unwrap();
    sync.deployment(&world.stack("db")).ended(Outcome::Rejected).because(Code::SecretsUnreadable);

    world.config.unset("secrets");
    assert!(world.once().exits(1).said().contains("there is no key to open it"));
    assert_eq!(world.container("db", "app").id(), before);

    // The key is all that was wrong: no new commit is needed.
    world.config.set("secrets", &format!("{{ age_identities: {}/other.key }}", world.server().display()));
    world.once().exits(0);
    assert_eq!(world.container("db", "app").variable("PASSWORD").as_deref(), Some(ROTATED));
    nothing_leaks(&world, &[SECRET, ROTATED, BAD]);
}

#[test]
fn what_sops_encrypted_is_read_and_its_mac_is_verified() {
    let mut world = World::new();
    let fixtures = program::root().join("agent/daemon/src/secrets/fixtures");
    let fixture = |name: &str| fs::read_to_string(fixtures.join(name)).unwrap();
    let key = world.config.put("age.key", &fixture("key"));
    world.config.set("secrets", &format!("{{ age_identities: {} }}", key.display()));
    let compose = "services:
  app:
    image: evenkeel-test/busybox:1
    init: true
    command: [sleep, '100000']
    env_file: secrets.enc.yaml
    environment: { OF_DOTENV: '${DB_PASSWORD}', PIN_OF_DOTENV: '${PIN}' }
";
    world
        .change("Begin")
        .file(&world.path("db", "compose.yml"), compose)
        .file(&world.path("db", ".env"), fixture("sops-mac-only.env") + "PIN=1\n")
        .file(&world.path("db", "secrets.enc.yaml"), fixture("sops.yaml"))
        .push();
    world.once().exits(0);
    let container = world.container("db", "app");
    let has = |name: &str| container.variable(name).unwrap_or_default();
    assert_eq!(has("DB_PASSWORD"), "correct horse=battery $taple's \"best\" \\ #1");
    assert_eq!((has("PIN"), has("ON"), has("OF_DOTENV")), ("42".into(), "true".into(), "correct horse".into()));
    let yaml = fixture("sops.yaml").replace("PLAIN_unencrypted: 7", "PLAIN_unencrypted: 8");
    world.change("Tamper").file(&world.path("db", "secrets.enc.yaml"), yaml).push();
    let run = world.once();
    assert!(run.exits(1).said().contains("its values are not those that its MAC stands for"), "{}", run.report());
    assert_eq!(world.container("db", "app").id(), container.id());
}

/// A work tree with a secret for `recipient`, outside of any world's server.
fn work_tree(world: &World, recipient: &str) -> PathBuf {
    let folder = world.folder().join("tree");
    let put = |path: &str, content: &str| {
        let file = folder.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    };
    put(".evenkeel/recipients", &format!("# the server\n{recipient}\n"));
    put("stacks/db/compose.yml", &COMPOSE.replace("env_file: secrets", "env_file: &e secrets"));
    put("stacks/db/.env.age", &age(recipient, "TAG=one\n"));
    put("stacks/db/secrets.env.age", &age(recipient, &password(SECRET)));
    folder
}

#[test]
fn without_a_key_check_and_render_say_what_they_could_not_look_into() {
    let mut world = World::new();
    let recipient = with_key(&mut world, "age.key");
    let tree = work_tree(&world, &recipient);
    let compose = tree.join("stacks/db/compose.yml");
    fs::write(
        &compose,
        COMPOSE.replace(
            "busybox:1\n    init: true\n    command: [sleep, '100000']\n    env_file",
            "busybox:${TAG}\n    env_file",
        ),
    )
    .unwrap();
    let (repo, key) = (tree.display().to_string(), world.server().join("age.key").display().to_string());
    let run = offline(&world, &["check", "--repo", &repo, "--format", "json"]);
    // Whatever else there is to say of the stack.
    let of_secrets = |run: &Run| -> Vec<String> {
        let problems = run.exits(0).json()["problems"].clone();
        let codes = problems.as_array().unwrap().iter().map(|p| p["code"].as_str().unwrap().to_owned());
        codes.filter(|code| code.starts_with("secrets.") || code.starts_with("env.")).collect()
    };
    assert_eq!(of_secrets(&run), ["secrets.no-key", "secrets.no-key"], "{}", run.report());
    let run = offline(&world, &["check", "--repo", &repo, "--identity", &key, "--format", "json"]);
    assert!(of_secrets(&run).is_empty(), "{}", run.report());
    let run = offline(&world, &["render", "--repo", &repo, "db", "--identity", &key]);
    let model = run.exits(0).json();
    assert_eq!(model["services"]["app"]["environment"]["PASSWORD"], SECRET);
    assert_eq!(model["services"]["app"]["image"], "evenkeel-test/busybox:one");
    let other = offline(&world, &["secrets", "key", world.server().join("other.key").to_str().unwrap()]).ok();
    fs::write(tree.join("stacks/db/.env.age"), age(&other, "TAG=one\n")).unwrap();
    let run = offline(&world, &["check", "--repo", &repo, "--identity", &key]);
    assert!(run.exits(1).said().contains("is encrypted with age for other keys"), "{}", run.report());
    assert!(fs::read_to_string(tree.join("stacks/db/secrets.env.age")).unwrap().starts_with("-----BEGIN AGE"));
}

/// An editor that does `script` to the file.
fn editor(world: &World, script: &str) -> PathBuf {
    let file = world.folder().join("editor.sh");
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

#[test]
fn a_file_is_edited_in_memory_and_written_only_if_it_changed() {
    let mut world = World::new();
    let recipient = with_key(&mut world, "age.key");
    let tree = work_tree(&world, &recipient);
    let (file, key) = (tree.join("stacks/db/secrets.env.age"), world.server().join("age.key"));
    let edit = |script: &str, file: &Path| {
        let mut command = world.command(&["secrets", "edit", file.to_str().unwrap(), "-i", key.to_str().unwrap()]);
        Run::of(command.env_remove("VISUAL").env("EDITOR", editor(&world, script)))
    };
    let read = |file: &Path| Run::of(Command::new("age").args(["-d", "-i"]).args([&key, &file.to_path_buf()])).ok();
    let place = world.folder().join("place");
    let note = format!("echo \"$1\" > {0}; stat -c %a \"$1\" >> {0}; stat -f -c %T \"$1\" >> {0}", place.display());
    edit(&format!("{note}; sed -i s/{SECRET}/{ROTATED}/ \"$1\"; cp \"$1\" \"$1~\""), &file).exits(0);
    assert_eq!(read(&file), password(ROTATED).trim_end());
    let noted = fs::read_to_string(&place).unwrap();
    let noted: Vec<&str> = noted.lines().collect();
    assert!(noted[0].ends_with("/secrets.env") && noted[1..] == ["600", "tmpfs"], "{noted:?}");
    assert!(!Path::new(noted[0]).parent().unwrap().exists(), "what the editor had is still there");

    let before = fs::read(&file).unwrap();
    assert!(edit("true", &file).exits(0).said().contains("nothing changed"));
    let failed = edit(&format!("echo {BAD} > \"$1\"; exit 3"), &file);
    assert!(failed.exits(1).said().contains("nothing was written"), "{}", failed.report());
    assert_eq!(fs::read(&file).unwrap(), before);

    let new = tree.join("stacks/db/new.env.age");
    edit("echo A=1 > \"$1\"", &new).exits(0);
    assert_eq!(read(&new), "A=1");
}

#[test]
fn files_are_encrypted_and_rekeyed_for_those_who_are_listed() {
    let mut world = World::new();
    let recipient = with_key(&mut world, "age.key");
    let tree = work_tree(&world, &recipient);
    let key = |name: &str| world.server().join(name).display().to_string();
    let other = offline(&world, &["secrets", "key", &key("other.key")]).ok();
    let opens = |key: &str, file: &Path| {
        let run = Run::of(Command::new("age").args(["-d", "-i", key]).arg(file));
        (run.code == Some(0)).then_some(run.stdout)
    };
    let plain = tree.join("plain.env");
    fs::write(&plain, password(SECRET)).unwrap();
    let encrypt = ["secrets", "encrypt", plain.to_str().unwrap(), "--format", "json"];
    let run = offline(&world, &encrypt);
    assert_eq!(run.exits(0).json()["recipients"], serde_json::json!([recipient]));
    let file = tree.join("plain.env.age");
    assert_eq!(opens(&key("age.key"), &file), Some(password(SECRET)));
    assert!(offline(&world, &encrypt).exits(1).said().contains("is there already"), "a file was overwritten");
    assert!(offline(&world, &["secrets", "key", &key("age.key")]).exits(1).said().contains("stays as it is"));

    fs::write(tree.join(".evenkeel/recipients"), format!("{recipient}\n{other} # the new server\n")).unwrap();
    let mut rekey = world.command(&["secrets", "rekey", "--all", "-i", &key("age.key"), "--format", "json"]);
    let run = Run::of(rekey.current_dir(&tree));
    assert_eq!(run.exits(0).json()["files"].as_array().unwrap().len(), 3, "{}", run.report());
    assert_eq!(opens(&key("other.key"), &file), Some(password(SECRET)));
    assert_eq!(opens(&key("age.key"), &file), Some(password(SECRET)));
    let shown = offline(&world, &["secrets", "decrypt", file.to_str().unwrap(), "-i", &key("other.key")]);
    assert_eq!(shown.exits(0).stdout, password(SECRET));

    // One that cannot be opened: none is changed.
    fs::write(tree.join("a.env.age"), age(&other, "A=1\n")).unwrap();
    let before = fs::read(&file).unwrap();
    let mut rekey = world.command(&["secrets", "rekey", "--all", "-i", &key("age.key")]);
    assert!(
        Run::of(rekey.current_dir(&tree)).exits(1).said().contains("a.env.age is encrypted with age for other keys")
    );
    assert_eq!(fs::read(&file).unwrap(), before);
}
