//! The rules on histories, each on a real repository made by the real git: lists of signers in the repository,
//! vouching, the forge's merges, branches.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use evenkeel::{
    config::settings::{Introduction, SignersOf, Trust},
    git::verify,
};
use evenkeel_core::{
    id::CommitId,
    trust::{Accepted, Code, Refusal, VerifiedRevision},
};

use crate::world::World;

const LIST: &str = ".evenkeel/allowed_signers";

/// A repository with its own list of signers: ann is an admin, bob is not, mallory and forge are not listed.
struct Town {
    world: World,
    trust: Trust,
    first: CommitId,
}

impl Town {
    fn new() -> Self {
        Self::of(World::new())
    }

    fn of(world: World) -> Self {
        for name in ["ann", "bob", "mallory", "forge"] {
            world.key(name, &["ed25519"]);
        }
        let trust = Trust {
            signers: SignersOf::Repository,
            revoked: None,
            introduction: None,
            forge_keys: None,
            require_deploy_to: false,
            stale_after: Duration::from_secs(86_400),
        };
        let first = CommitId::new(&"0".repeat(40)).unwrap();
        let mut town = Self { world, trust, first };
        town.list(1, &["ann,admin", "bob"]);
        town.first = town.commit("Begin", "ann");
        let signer = town.world.fingerprint("ann");
        town.trust.introduction = Some(Introduction { commit: town.first.clone(), signer });
        town
    }

    /// Switches to the server's own list, with ann and bob.
    fn with_the_servers_list(mut self) -> Self {
        let lines = ["ann", "bob"].map(|name| format!("{name} {}\n", self.world.public(name))).concat();
        self.trust.signers =
            SignersOf::Server { allowed_signers: Some(self.world.write("signers", lines)), openpgp_certificates: None };
        self
    }

    fn with_the_forges_key(mut self) -> Self {
        let line = format!("forge {}\n", self.world.public("forge"));
        self.trust.forge_keys = Some(self.world.write("forge_keys", line));
        self
    }

    fn file(&self, path: &str) -> PathBuf {
        self.world.repo().join(path)
    }

    fn put(&self, path: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.file(path).parent().unwrap()).unwrap();
        fs::write(self.file(path), text).unwrap();
    }

    /// Writes the list: principals, of which the first is the key's name.
    fn list(&self, serial: u32, people: &[&str]) {
        let line = |people: &&str| format!("{people} {}\n", self.world.public(people.split(',').next().unwrap()));
        let lines: String = people.iter().map(line).collect();
        self.put(LIST, format!("# serial: {serial}\n{lines}"));
    }

    fn commit(&self, message: &str, key: &str) -> CommitId {
        self.world.git(["add", "--all"]);
        self.world.commit(message, key)
    }

    /// A commit that changes a file of its own.
    fn work(&self, message: &str, key: &str) -> CommitId {
        self.put(&format!("{message}.txt"), message);
        self.commit(message, key)
    }

    fn unsigned(&self, message: &str) -> CommitId {
        self.put(&format!("{message}.txt"), message);
        self.world.git(["add", "--all"]);
        self.world.commit_unsigned(message)
    }

    fn go(&self, branch: &str, at: &CommitId) {
        self.world.git(["checkout", "-q", "-B", branch, at.as_str()]);
    }

    /// Merges a commit into where we stand, signed; the arguments are `git merge`'s.
    fn merge(&self, other: &CommitId, key: &str, args: &[&str]) -> CommitId {
        let setting = format!("user.signingkey={}", self.world.path(&format!("{key}.pub")).display());
        let before = ["-c", &setting, "merge", "-q", "--no-ff", "-S", "-m", "Merge"];
        self.world.git(before.iter().copied().chain(args.iter().copied()).chain([other.as_str()]));
        self.world.head()
    }

    fn decide(&self, accepted: Option<&Accepted>, tip: &CommitId) -> Result<VerifiedRevision, Box<Refusal>> {
        verify(&self.world.repo(), (&self.trust, "refs/heads/main"), tip, accepted, 2_000_000_000).unwrap()
    }

    #[track_caller]
    fn accepts(&self, tip: &CommitId) -> Accepted {
        let decision = self.decide(None, tip);
        assert!(decision.is_ok(), "{}", decision.unwrap_err());
        decision.unwrap().accepted()
    }

    #[track_caller]
    fn refuses(&self, tip: &CommitId, code: Code, commit: &CommitId) -> Box<Refusal> {
        let refusal = self.decide(None, tip).unwrap_err();
        assert_eq!((refusal.code, &refusal.commit), (code, commit), "{refusal}");
        refusal
    }
}

#[test]
fn a_list_in_the_repository_counts_for_the_children_of_who_changed_it() {
    let town = Town::new();
    town.accepts(&town.work("by bob", "bob"));
    town.list(2, &["ann,admin", "bob", "mallory"]);
    town.put("smuggled", "x");
    let own = town.commit("Authorise myself", "mallory");
    let refusal = town.refuses(&own, Code::UnknownKey, &own);
    assert!(refusal.remedy.contains(LIST), "{refusal}");

    town.world.git(["reset", "-q", "--hard", "HEAD~1"]);
    town.list(2, &["ann,admin", "bob,admin"]);
    let edit = town.commit("Make myself admin", "bob");
    town.refuses(&edit, Code::Authz, &edit);

    town.world.git(["reset", "-q", "--hard", "HEAD~1"]);
    town.list(2, &["ann", "bob,admin", "mallory"]);
    let rotated = town.commit("Hand over", "ann");
    town.accepts(&rotated);
    let accepted = town.accepts(&town.work("by the new one", "mallory"));
    town.list(3, &["bob,admin"]);
    let removed = town.commit("Remove ann and mallory", "bob");
    assert_eq!(town.decide(Some(&accepted), &removed).unwrap().verified(), 1);
    let late = town.work("too late", "ann");
    town.refuses(&late, Code::UnknownKey, &late);
}

#[test]
fn a_key_that_was_removed_does_not_come_back_by_an_old_branch() {
    let town = Town::new();
    let old = town.work("old work", "bob");
    town.go("main", &town.first);
    town.list(2, &["ann,admin"]);
    let main = town.commit("Remove bob", "ann");
    town.go("old", &old);
    let back = town.merge(&main, "bob", &[]);
    town.refuses(&back, Code::UnknownKey, &back);

    town.go("main", &main);
    town.accepts(&town.merge(&old, "ann", &[]));

    // The same merge with the list of the old side.
    town.go("main", &main);
    let restored = town.merge(&old, "ann", &["-s", "ours"]);
    town.accepts(&restored);
    town.go("old", &old);
    let restored = town.merge(&main, "ann", &["-s", "ours"]);
    town.refuses(&restored, Code::Authz, &restored);
}

#[test]
fn two_changes_of_one_serial_are_settled_by_an_admin_only() {
    let town = Town::new();
    town.list(2, &["ann,admin"]);
    let one = town.commit("Remove bob", "ann");
    town.go("other", &town.first);
    town.list(2, &["ann,admin", "bob", "mallory"]);
    let other = town.commit("Add mallory", "ann");
    town.go("main", &one);
    let silent = town.merge(&other, "ann", &["-s", "ours"]);
    town.refuses(&silent, Code::Authz, &silent);
    town.list(3, &["ann,admin", "mallory"]);
    town.world.git(["add", "--all"]);
    let setting = format!("user.signingkey={}", town.world.path("ann.pub").display());
    town.world.git(["-c", &setting, "commit", "-q", "--amend", "-S", "--no-edit"]);
    town.accepts(&town.world.head());
}

#[test]
fn a_list_that_nobody_can_rely_on_is_refused() {
    let town = Town::new();
    let lines = fs::read_to_string(town.file(LIST)).unwrap();
    let with = |serial: &str| lines.replacen("# serial: 1", serial, 1);
    let keys = lines.lines().skip(1).collect::<Vec<_>>().join("\n");
    let cases: [(&str, &dyn Fn()); 10] = [
        ("removed", &|| fs::remove_file(town.file(LIST)).unwrap()),
        ("a link", &|| {
            town.put("elsewhere", with("# serial: 2"));
            fs::remove_file(town.file(LIST)).unwrap();
            std::os::unix::fs::symlink("../elsewhere", town.file(LIST)).unwrap();
        }),
        ("the folder a link", &|| {
            town.put("elsewhere/allowed_signers", with("# serial: 2"));
            fs::remove_dir_all(town.file(".evenkeel")).unwrap();
            std::os::unix::fs::symlink("elsewhere", town.file(".evenkeel")).unwrap();
        }),
        ("executable", &|| {
            town.put(LIST, with("# serial: 2"));
            fs::set_permissions(town.file(LIST), fs::Permissions::from_mode(0o755)).unwrap();
        }),
        ("too large", &|| town.put(LIST, format!("{}\n#{}\n", with("# serial: 2"), "x".repeat(64 * 1024)))),
        ("without an admin", &|| town.put(LIST, with("# serial: 2").replace("ann,admin", "ann"))),
        ("with any name for an admin", &|| town.put(LIST, with("# serial: 2").replace("ann,admin", "*"))),
        ("without a serial", &|| town.put(LIST, &keys)),
        ("with the same serial", &|| town.put(LIST, format!("{lines}# more\n"))),
        ("with a line that is none", &|| town.put(LIST, format!("{}odd\n", with("# serial: 2")))),
    ];
    for (what, make) in cases {
        make();
        let id = town.commit(what, "ann");
        let refusal = town.decide(None, &id).unwrap_err();
        assert_eq!((refusal.code, &refusal.commit), (Code::Authz, &id), "{what}: {refusal}");
        town.world.git(["reset", "-q", "--hard", town.first.as_str()]);
    }
    town.accepts(&town.first);
}

#[test]
fn history_has_one_beginning() {
    let town = Town::new();
    let before = town.world.commit_unsigned("nothing");
    town.world.git(["reset", "-q", "--hard", "HEAD~1"]);
    assert_ne!(before, town.first);

    town.world.git(["checkout", "-q", "--orphan", "island"]);
    let island = town.work("island", "ann");
    town.refuses(&island, Code::PreIntro, &island);
    town.go("main", &town.first);
    let merged = town.merge(&island, "ann", &["--allow-unrelated-histories", "-s", "ours"]);
    town.refuses(&merged, Code::Root, &island);
}

#[test]
fn nothing_forks_off_before_the_introduction() {
    let mut town = Town::new();
    let early = town.first.clone();
    let second = town.work("second", "ann");
    town.trust.introduction.as_mut().unwrap().commit = second.clone();
    town.go("early", &early);
    let fork = town.work("fork", "ann");
    town.go("main", &second);
    let merged = town.merge(&fork, "ann", &[]);
    town.refuses(&merged, Code::PreIntro, &fork);
}

#[test]
fn the_forge_may_merge_and_do_nothing_else() {
    for town in [Town::new(), Town::new().with_the_servers_list()] {
        let side = town.work("side", "bob");
        town.go("main", &town.first);
        let main = town.work("main", "ann");
        let merged = town.merge(&side, "forge", &[]);
        town.refuses(&merged, Code::UnknownKey, &merged);

        let town = town.with_the_forges_key();
        town.accepts(&merged);
        town.put("evil", "x");
        town.world.git(["add", "--all"]);
        let setting = format!("user.signingkey={}", town.world.path("forge.pub").display());
        town.world.git(["-c", &setting, "commit", "-q", "--amend", "-S", "--no-edit"]);
        let evil = town.world.head();
        town.refuses(&evil, Code::Merge, &evil);

        town.go("main", &main);
        town.world.git(["merge", "-q", "--squash", side.as_str()]);
        let squash = town.commit("Squash", "forge");
        town.refuses(&squash, Code::Merge, &squash);

        town.go("side", &side);
        town.put("main.txt", "another");
        let conflict = town.commit("conflict", "bob");
        town.go("main", &main);
        let decided = town.merge(&conflict, "forge", &["-X", "theirs"]);
        town.refuses(&decided, Code::Merge, &decided);
    }
}

#[test]
fn the_forge_cannot_change_the_list_even_by_a_clean_merge() {
    let town = Town::new().with_the_forges_key();
    // Far apart, so that Git merges both changes into a third list.
    let padding = "#\n".repeat(12);
    town.put(
        LIST,
        format!(
            "# serial: 2\n{padding}ann,admin {}\n{padding}bob {}\n",
            town.world.public("ann"),
            town.world.public("bob")
        ),
    );
    let base = town.commit("Spread out", "ann");
    let text = fs::read_to_string(town.file(LIST)).unwrap();
    town.put(LIST, format!("{text}mallory {}\n", town.world.public("mallory")).replacen("serial: 2", "serial: 3", 1));
    let one = town.commit("Add mallory", "ann");
    town.go("side", &base);
    town.put(LIST, text.replacen("ann,admin", "ann,carol,admin", 1).replacen("serial: 2", "serial: 3", 1));
    let side = town.commit("Rename ann", "ann");
    town.go("main", &one);
    let merged = town.merge(&side, "forge", &[]);
    town.refuses(&merged, Code::Authz, &merged);
}

#[test]
fn an_allowed_signer_may_answer_for_an_unsigned_commit() {
    let town = Town::new().with_the_servers_list();
    let bad = town.unsigned("forgotten");
    let refusal = town.refuses(&bad, Code::Unsigned, &bad);
    let trailer = format!("Evenkeel-Vouch: {bad}");
    assert!(refusal.remedy.contains(&trailer), "{refusal}");
    let above = town.work("above", "ann");
    town.refuses(&above, Code::Unsigned, &bad);
    let by_mallory = town.commit(&format!("I vouch\n\n{trailer}"), "mallory");
    town.refuses(&by_mallory, Code::Unsigned, &bad);
    town.go("main", &above);
    let in_text = town.commit(&format!("{trailer}\n\nis what one would write"), "bob");
    town.refuses(&in_text, Code::Unsigned, &bad);
    town.accepts(&town.commit(&format!("I vouch\n\n{trailer}"), "bob"));
}

#[test]
fn where_the_repository_lists_the_keys_only_an_admin_vouches_and_never_for_the_list() {
    let town = Town::new();
    let bad = town.unsigned("forgotten");
    let trailer = |id: &CommitId| format!("I vouch\n\nEvenkeel-Vouch: {id}");
    let by_bob = town.commit(&trailer(&bad), "bob");
    town.refuses(&by_bob, Code::Unsigned, &bad);
    town.accepts(&town.commit(&trailer(&bad), "ann"));

    town.go("main", &town.first);
    town.list(2, &["ann,admin", "mallory,admin"]);
    town.world.git(["add", "--all"]);
    let list = town.world.commit_unsigned("New list");
    for who in ["ann", "mallory"] {
        town.go("main", &list);
        let vouched = town.commit(&trailer(&list), who);
        town.refuses(&vouched, Code::Authz, &list);
    }
}

#[test]
fn a_tip_of_another_branch_is_not_this_ones() {
    let mut town = Town::new().with_the_servers_list();
    town.trust.require_deploy_to = true;
    let silent = town.work("silent", "ann");
    let refusal = town.refuses(&silent, Code::DeployTo, &silent);
    assert!(refusal.remedy.contains("Deploy-To: refs/heads/main"), "{refusal}");
    let other = town.commit("Test\n\nDeploy-To: refs/heads/testing", "ann");
    let refusal = town.refuses(&other, Code::DeployTo, &other);
    assert!(refusal.reason.contains("refs/heads/testing"), "{refusal}");
    let accepted = town.accepts(&town.commit("Go\n\nDeploy-To: refs/heads/main", "ann"));
    assert_eq!(town.decide(Some(&accepted), &accepted.commit).unwrap().verified(), 0);

    let side = town.work("side", "bob");
    town.go("main", &accepted.commit);
    town.work("main", "ann");
    let town = town.with_the_forges_key();
    let merged = town.merge(&side, "forge", &["-m", "Merge\n\nDeploy-To: refs/heads/main"]);
    town.refuses(&merged, Code::DeployTo, &merged);
}

#[test]
fn a_history_that_is_cut_off_or_replaced_is_not_judged() {
    let town = Town::new();
    let second = town.work("second", "ann");
    let third = town.work("third", "mallory");
    town.world.git(["replace", third.as_str(), second.as_str()]);
    town.refuses(&third, Code::Shallow, &third);
    town.world.git(["replace", "-d", third.as_str()]);
    town.refuses(&third, Code::UnknownKey, &third);
    let url = format!("file://{}", town.world.repo().display());
    let mirror = town.world.path("shallow.git");
    town.world.git(["clone", "-q", "--bare", "--depth", "1", &url, mirror.to_str().unwrap()]);
    let refusal = verify(&mirror, (&town.trust, "refs/heads/main"), &third, None, 0).unwrap().unwrap_err();
    assert_eq!(refusal.code, Code::Shallow);
}

#[test]
fn a_repository_with_sha256_ids_is_judged_by_the_same_rules() {
    let world = World::new();
    fs::remove_dir_all(world.repo()).unwrap();
    world.git(["init", "-q", "-b", "main", "--object-format=sha256", "repo"]);
    let town = Town::of(world).with_the_forges_key();
    assert_eq!(town.first.as_str().len(), 64);
    let bad = town.unsigned("forgotten");
    let side = town.commit(&format!("I vouch\n\nEvenkeel-Vouch: {bad}"), "ann");
    town.go("main", &town.first);
    town.list(2, &["ann,admin"]);
    let main = town.commit("Remove bob", "ann");
    let merged = town.merge(&side, "forge", &[]);
    town.accepts(&merged);
    town.go("main", &main);
    let late = town.work("late", "bob");
    town.refuses(&late, Code::UnknownKey, &late);
}

#[test]
fn the_date_that_a_commit_states_proves_nothing() {
    let town = Town::new().with_the_servers_list();
    let line = format!("ann valid-before=\"20300101Z\" {}\n", town.world.public("ann"));
    town.world.write("signers", line);
    town.work("new", "ann");
    let setting = format!("user.signingkey={}", town.world.path("ann.pub").display());
    town.world.git(["-c", &setting, "commit", "-q", "--amend", "-S", "--no-edit", "--date=1990-01-01T00:00:00Z"]);
    let backdated = town.world.head();
    town.refuses(&backdated, Code::Expired, &backdated);
}
