//! How much memory processes filled.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// Does something, and says besides how much memory (in MiB) the largest descendant of the process `ancestor` with `text`
/// in its command line filled meanwhile. The kernel keeps each process's mark, so that only what it filled in its last
/// moments is missed.
pub fn filled_by<T>(ancestor: u32, text: &str, work: impl FnOnce() -> T) -> (T, u64) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(largest(ancestor, text));
                thread::sleep(Duration::from_millis(2));
            }
            most
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        (done, watch.join().expect("it only reads") / 1024)
    })
}

/// What is known of a process.
struct Process {
    parent: u32,
    /// In KiB; none of one that has ended.
    mark: u64,
    fits: bool,
}

/// In KiB.
fn largest(ancestor: u32, text: &str) -> u64 {
    let all = processes(text);
    let descends = |mut pid: u32| {
        while let Some(process) = all.get(&pid) {
            if process.parent == ancestor {
                return true;
            }
            pid = process.parent;
        }
        false
    };
    all.iter().filter(|(pid, process)| process.fits && descends(**pid)).map(|(_, p)| p.mark).max().unwrap_or(0)
}

fn processes(text: &str) -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let folder = entry.path();
        let line = fs::read(folder.join("cmdline")).ok()?;
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let fits = line.windows(text.len()).any(|w| w == text.as_bytes());
        let parent = u32::try_from(number("PPid:")?).ok()?;
        Some((pid, Process { parent, mark: number("VmHWM:").unwrap_or(0), fits }))
    });
    found.collect()
}
