//! A Git server that sends what is small on the way and huge when it is unpacked: it costs one sync.

use std::fs;

use evenkeel_core::outcome::Outcome;
use evenkeel_tests::{
    http,
    memory::filled_by,
    pack::Bomb,
    receivers::git_http::{GitHttp, Mood},
    world::{World, page_at},
};

/// What the process that fetches may fill (MiB): its limit of 512, and the program and maps of files, which do not count.
const LIMIT_MIB: u64 = 600;

#[test]
fn a_pack_that_unpacks_to_gigabytes_costs_one_sync() {
    let mut world = World::new();
    let server = GitHttp::start(world.folder().to_path_buf());
    world.config.set("source", &format!("{{ url: '{}', interval: 1h, timeout: 60s }}", server.url("infra.git")));
    let port = world.serve("good");
    world.start_and_wait();
    let (pid, mut accepted) = (world.pid(), world.repository.head());
    world.evenkeel(&["sync"]).exits(0);
    for (n, bomb) in Bomb::ALL.into_iter().enumerate() {
        let before = world.history().syncs.len();
        let commit = world.change("New").file(&world.path("web", "index.html"), format!("{n}\n")).push();
        server.set(Mood::Hostile(bomb.pack().into()));
        let (run, mib) = filled_by(pid, "__fetch", || world.evenkeel(&["sync", "--format", "json"]));
        let reason = run.exits(1).json()["reason"].clone();
        println!("{bomb:?}: {mib} MiB: {}", reason["message"]);
        assert_eq!(reason["code"], "source.invalid", "{bomb:?}: {}", run.report());
        assert!((1..LIMIT_MIB).contains(&mib), "{bomb:?} filled {mib} MiB");

        let sync = world.last_sync(Outcome::Aborted);
        assert_eq!((world.history().syncs.len(), sync.deployments.len()), (before + 1, 0), "{bomb:?}");
        let status = world.status();
        assert_eq!(status.source.accepted.as_ref(), Some(&accepted), "{bomb:?}");
        assert_eq!(world.pid(), pid);

        server.set(Mood::Well);
        world.evenkeel(&["sync"]).exits(0);
        assert_eq!(http::text(&page_at(port)), Ok(n.to_string()), "{bomb:?}: it follows again");
        accepted = commit;
        let left = fs::read_dir(world.server().join("state/mirror.git/objects/pack")).expect("the mirror is there");
        let size = |entry: fs::DirEntry| entry.metadata().map_or(0, |m| m.len());
        let left: u64 = left.flatten().map(size).sum();
        assert!(left < 1 << 20, "{bomb:?} left {left} bytes in the mirror");
    }
}
