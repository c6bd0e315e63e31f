use std::fs;

use evenkeel_layout::stack_set;

use super::*;
use crate::{process::Runner, tree::worktree::DirTree};

struct World {
    folder: tempfile::TempDir,
    compose: Compose,
}

impl World {
    /// Fails without Compose, which `make test` brings. `repo/` is the tree, `env/` the server's own files, `live/` the live tree.
    async fn new(files: &[(&str, &str)]) -> Self {
        let compose = Compose::find(Runner::plain(), None, None).unwrap();
        let version = compose.version().await;
        assert!(version.is_ok(), "run `make test`, which brings `docker compose`: {version:?}");
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, content).unwrap();
        }
        Self { folder, compose }
    }

    async fn candidates(&self, place: Place) -> Candidates {
        let at = |name: &str| self.folder.path().join(name);
        let tree = DirTree::open(&at("repo")).unwrap();
        let server = ServerName::new("home").unwrap();
        let set = stack_set(&tree, &server, None);
        let root = at("staged");
        if root.exists() {
            fs::remove_dir_all(&root).unwrap();
        }
        stage::stage(&tree, &root, stage::Limits::default()).unwrap();
        candidates(CandidateInput {
            compose: &self.compose,
            renders: &Renders::default(),
            tree: &tree,
            set: &set,
            server: &server,
            commit: &CommitId::new(&"0".repeat(40)).unwrap(),
            root: &root,
            target: Path::new("/srv/live"),
            env_dir: Some(&at("env")),
            live: Some(&at("live")),
            allowed: &[],
            identities: None,
            place,
            committed: None,
        })
        .await
    }
}

fn codes(candidates: &Candidates) -> Vec<(Option<&str>, &str, Severity)> {
    candidates.problems.iter().map(|p| (p.stack.as_deref(), p.code.as_str(), p.severity)).collect()
}

#[tokio::test]
async fn a_fault_of_one_stack_rejects_that_stack_only() {
    let files = [
        ("repo/stacks/good/compose.yml", "services: {a: {image: x, volumes: ['./conf:/c']}}\n"),
        ("repo/stacks/good/conf/f", "1"),
        ("repo/stacks/bad/compose.yml", "services: {a: {image: [1]}}\n"),
        ("repo/stacks/out/compose.yml", "services: {a: {image: x, env_file: /etc/os-release}}\n"),
        ("repo/stacks/secret/compose.yml", "services: {a: {image: x, env_file: s.env}}\n"),
        ("repo/stacks/secret/s.env", "A=ENC[AES256_GCM,data:x]\n"),
    ];
    let world = World::new(&files).await;
    let found = world.candidates(Place::Server).await;
    let accepted: Vec<_> = found.accepted.iter().map(|c| c.stack.as_str()).collect();
    assert_eq!(accepted, ["good"]);
    let rejected: Vec<_> = found.rejected.iter().map(|(name, why)| (name.as_str(), why[0].code.as_str())).collect();
    assert_eq!(rejected, [("bad", "compose.invalid"), ("out", "path.outside"), ("secret", "env.ciphertext")]);
    let good = &found.accepted[0];
    assert_eq!(good.files.keys().collect::<Vec<_>>(), ["stacks/good/compose.yml", "stacks/good/conf/f"]);
    assert_eq!(
        (good.passive.as_slice(), good.directory.as_str()),
        (["stacks/good/compose.yml".to_owned()].as_slice(), "stacks/good")
    );
    assert_eq!(good.model.service("a").unwrap().binds(), [("/srv/live/stacks/good/conf", false)]);
}

#[tokio::test]
async fn later_environment_files_win_and_the_servers_own_come_last() {
    let files = [
        ("repo/stacks/web/compose.yml", "services: {a: {image: \"$R-$S-$H-$W-$L\", env_file: live.env}}\n"),
        ("repo/.env", "R=root\nS=root\nH=root\nW=root\nL=root\n"),
        ("repo/stacks/web/.env", "S=stack\nH=stack\nW=stack\n"),
        ("env/_server.env", "H=server\nW=server\n"),
        ("env/web.env", "W=web\n"),
        ("live/servers/home/.env", "L=live\nH=live\n"),
        ("live/stacks/web/live.env", "X=untracked\n"),
        ("live/stacks/web/.env", "S=never\n"),
    ];
    let world = World::new(&files).await;
    let found = world.candidates(Place::Server).await;
    assert_eq!(found.problems, []);
    let service = found.accepted[0].model.service("a").unwrap();
    assert_eq!(service.image(), Some("root-stack-server-web-live"));
    assert_eq!(service.value()["environment"]["X"], "untracked");
}

#[tokio::test]
async fn an_unset_variable_rejects_on_the_server_and_warns_elsewhere() {
    let files = [(
        "repo/stacks/web/compose.yml",
        "services:\n  a:\n    image: x:${TAG}\n    user: ${WHO:?}\n    secrets: [s]\nsecrets:\n  s: {environment: TOKEN}\n",
    )];
    let world = World::new(&files).await;
    let found = world.candidates(Place::Server).await;
    assert!(found.accepted.is_empty());
    assert!(
        codes(&found)
            .iter()
            .all(|(stack, code, severity)| (*stack, *code, *severity) == (Some("web"), "env.unset", Severity::Error))
    );
    let found = world.candidates(Place::Elsewhere).await;
    assert_eq!(found.accepted.len(), 1, "{:?}", found.problems);
    assert_eq!(codes(&found), [(Some("web"), "env.unset", Severity::Warning); 3]);
    fs::create_dir_all(world.folder.path().join("env")).unwrap();
    fs::write(world.folder.path().join("env/web.env"), "TAG=1\nWHO=me\nTOKEN='a$b'\n").unwrap();
    let found = world.candidates(Place::Server).await;
    assert_eq!(found.accepted[0].secret_env.0, BTreeMap::from([("TOKEN".to_owned(), "a$b".to_owned())]));
}

#[tokio::test]
async fn stacks_with_one_project_are_both_refused() {
    let files = [
        ("repo/stacks/a/compose.yml", "services: {a: {image: x}}\n"),
        ("repo/stacks/b/compose.yml", "name: ${P}\nservices: {a: {image: x}}\n"),
        ("env/b.env", "P=a\n"),
    ];
    let world = World::new(&files).await;
    let found = world.candidates(Place::Server).await;
    assert_eq!(found.rejected.len(), 2, "{:?}", found.problems);
}
