//! `evenkeel snapshots`.

use anstyle::Style;
use evenkeel_core::{
    answer::{SnapshotSeen, Snapshots},
    outcome::Exit,
    reason::{Class, Reason},
};
use evenkeel_layout::name::StackName;
use jiff::Timestamp;

use super::{
    asked,
    output::{Failure, Output},
    tell,
    text::{BOLD, DIM, table},
    words::{ago, short},
};
use crate::{host, socket, terminal};

/// List the snapshots of this server's data.
///
/// Reads the backup repository, so it works without a running agent and with a store that was lost.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  evenkeel snapshots immich
  evenkeel snapshots --format json | jq '.snapshots[] | [.id, .stack, .time]'")]
pub struct Args {
    /// The stack; without it, all
    #[arg(value_name = "STACK", value_parser = tell::stack)]
    stack: Option<StackName>,
    #[command(flatten)]
    place: tell::Where,
}

/// Runs the verb.
pub fn run(args: &Args, out: &Output) -> Result<Exit, Failure> {
    let stack = args.stack.as_ref().map(StackName::as_str);
    let ask = async |socket: &_| socket::snapshots(socket, stack).await;
    let found = asked::agent_or(&args.place.config, ask, async |settings: &_, _| {
        asked::say(out, "the agent does not run; the backup repository is asked directly");
        host::snapshots::of(settings, stack).await.map_err(failure)
    })?;
    out.answer(&found, |found| text(found, Timestamp::now(), terminal::width(std::io::stdout())));
    Ok(Exit::Fine)
}

fn failure(reason: Reason) -> Failure {
    let exit = if reason.class == Class::Transient { Exit::Transient } else { Exit::Usage };
    Failure::new(exit, reason.code.as_str(), reason.message, "see `backup` in agent.yml")
}

fn text(found: &Snapshots, now: Timestamp, width: Option<usize>) -> String {
    if found.snapshots.is_empty() {
        return "no snapshot yet\n".to_owned();
    }
    let row = |seen: &SnapshotSeen| {
        let plain = |text: String| (text, Style::new());
        [
            (id(seen).to_owned(), BOLD),
            plain(seen.stack.clone().unwrap_or_default()),
            plain(ago(&seen.time, now)),
            plain(size(seen.size_bytes)),
            plain(runs(seen)),
            (holds(seen), DIM),
        ]
    };
    let rows: Vec<_> = found.snapshots.iter().map(row).collect();
    table(["SNAPSHOT", "STACK", "TAKEN", "SIZE", "RAN THEN", "HOLDS"], &rows, width)
}

fn id(seen: &SnapshotSeen) -> &str {
    seen.id.get(..8).unwrap_or(&seen.id)
}

fn runs(seen: &SnapshotSeen) -> String {
    match (&seen.release, &seen.commit) {
        (Some(release), Some(commit)) => format!("release {release}, commit {}", short(commit)),
        (Some(release), None) => format!("release {release}"),
        _ => String::new(),
    }
}

/// Volumes by their names, other paths as they are.
fn holds(seen: &SnapshotSeen) -> String {
    let is_volume = |path: &&String| seen.volumes.iter().any(|volume| path.contains(&format!("/{volume}/")));
    let volumes = seen.volumes.iter().cloned();
    volumes.chain(seen.paths.iter().filter(|path| !is_volume(path)).cloned()).collect::<Vec<_>>().join(", ")
}

fn size(bytes: Option<u64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
    match bytes {
        None => String::new(),
        Some(bytes) if bytes < 1024 => format!("{bytes} B"),
        Some(bytes) if bytes < 1024 * 1024 => format!("{} KiB", bytes / 1024),
        Some(bytes) if bytes < 10 * 1024 * 1024 * 1024 => format!("{} MiB", bytes / (1024 * 1024)),
        Some(bytes) => format!("{:.1} GiB", bytes as f64 / (1024.0 * 1024.0 * 1024.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_one_line_that_says_what_it_holds() {
        let seen = SnapshotSeen {
            id: "1a2b3c4d5e6f7a8b".to_owned(),
            time: "2026-11-20T12:00:00Z".to_owned(),
            stack: Some("immich".to_owned()),
            project: Some("immich".to_owned()),
            release: Some("12".to_owned()),
            commit: Some("4b825dc642cb6eb9a060e54bf8d69288fbee4904".to_owned()),
            volumes: vec!["immich_db".to_owned()],
            paths: vec![
                "/var/lib/docker/volumes/immich_db/_data".to_owned(),
                "/srv/evenkeel/stacks/immich/upload".to_owned(),
            ],
            size_bytes: Some(123_456_789),
        };
        let found = Snapshots { schema: 1, snapshots: vec![seen] };
        let now: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let shown = anstream::adapter::strip_str(&text(&found, now, None)).to_string();
        insta::assert_snapshot!(shown, @r"
        SNAPSHOT  STACK   TAKEN     SIZE     RAN THEN                         HOLDS
        1a2b3c4d  immich  24 h ago  117 MiB  release 12, commit 4b825dc642cb  immich_db, /srv/evenkeel/stacks/immich/upload
        ");
        assert_eq!(text(&Snapshots { schema: 1, snapshots: vec![] }, now, None), "no snapshot yet\n");
        for (bytes, words) in [(5, "5 B"), (2048, "2 KiB"), (20 << 30, "20.0 GiB")] {
            assert_eq!(size(Some(bytes)), words);
        }
    }
}
