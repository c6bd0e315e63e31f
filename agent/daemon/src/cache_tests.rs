use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

const SMALL: Limits = Limits { bytes: 400, entry: 200, age: Duration::from_secs(1000) };

fn key(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn opened(place: &Path) -> Cache {
    Cache::open(place, "x", SMALL).unwrap()
}

/// The file of a key in a cache below this place.
fn file(place: &Path, name: &str) -> PathBuf {
    place.join("evenkeel/x").join(key(name).as_str())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Makes a file as old as that.
fn used(path: &Path, before: u64) {
    let then = SystemTime::now() - Duration::from_secs(before);
    File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

#[test]
fn what_was_put_is_there_for_the_next_and_for_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("made/on/the/way");
    opened(&place).put(&key("a"), b"one");
    let cache = opened(&place);
    assert_eq!(cache.get(&key("a")).as_deref(), Some(&b"one"[..]));
    assert_eq!(cache.get(&key("b")), None);
    cache.put(&key("a"), b"two");
    assert_eq!(cache.get(&key("a")).as_deref(), Some(&b"two"[..]));
    assert_eq!(mode(&file(&place, "a")), 0o600);
    for path in [place.clone(), place.join("evenkeel"), place.join("evenkeel/x")] {
        assert_eq!(mode(&path), 0o700, "{}", path.display());
    }
    assert_eq!(fs::read_dir(place.join("evenkeel/x")).unwrap().count(), 1, "nothing unfinished stays");
}

#[test]
fn what_is_damaged_cut_short_renamed_or_no_plain_file_is_not_read_and_is_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let cache = opened(folder.path());
    let (a, b) = (file(folder.path(), "a"), file(folder.path(), "b"));
    cache.put(&key("b"), b"of b");
    let whole = fs::read(&b).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let cases: [&dyn Fn(); 9] = [
        &|| fs::write(&a, &flipped).unwrap(),
        &|| fs::write(&a, &whole[..whole.len() - 1]).unwrap(),
        &|| fs::write(&a, b"").unwrap(),
        &|| fs::write(&a, b"no line").unwrap(),
        &|| fs::write(&a, vec![b'\n'; 199]).unwrap(),
        &|| fs::write(&a, vec![b'x'; 10_000]).unwrap(),
        &|| fs::write(&a, &whole).unwrap(),
        &|| symlink(&b, &a).unwrap(),
        &|| fs::create_dir(&a).unwrap(),
    ];
    for (n, damage) in cases.iter().enumerate() {
        damage();
        assert_eq!(cache.get(&key("a")), None, "case {n}");
        cache.put(&key("a"), b"anew");
        if a.is_dir() {
            fs::remove_dir(&a).unwrap();
            continue;
        }
        assert_eq!(cache.get(&key("a")).as_deref(), Some(&b"anew"[..]), "case {n}");
        assert_eq!(fs::read(&b).unwrap(), whole, "case {n}: what a link led to is as it was");
        fs::remove_file(&a).unwrap();
    }
}

#[test]
fn a_folder_that_others_may_write_or_that_leads_elsewhere_is_no_cache() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| Cache::open(&folder.path().join(name), "x", SMALL).map(|_| ()).map_err(|e| e.to_string());
    for (name, at) in [("of-all", "evenkeel"), ("of-all-below", "evenkeel/x")] {
        opened(&folder.path().join(name));
        fs::set_permissions(folder.path().join(name).join(at), fs::Permissions::from_mode(0o777)).unwrap();
        let said = open(name).unwrap_err();
        assert!(said.ends_with(&format!("{name}/{at}: others may write there")), "{said}");
    }
    fs::create_dir_all(folder.path().join("link/evenkeel")).unwrap();
    symlink(folder.path(), folder.path().join("link/evenkeel/x")).unwrap();
    assert!(open("link").is_err());
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(open("file").is_err());
    // What others may only look into is closed to them.
    opened(&folder.path().join("seen"));
    let seen = folder.path().join("seen/evenkeel/x");
    fs::set_permissions(&seen, fs::Permissions::from_mode(0o755)).unwrap();
    opened(&folder.path().join("seen"));
    assert_eq!(mode(&seen), 0o700);
}

#[test]
fn a_folder_of_somebody_else_is_no_cache_and_gets_none() {
    if !rustix::process::geteuid().is_root() {
        return; // nobody else can make a folder over to somebody
    }
    let folder = tempfile::tempdir().unwrap();
    let give = |path: &Path| std::os::unix::fs::chown(path, Some(12345), Some(12345)).unwrap();
    opened(&folder.path().join("theirs"));
    give(&folder.path().join("theirs/evenkeel/x"));
    let said = Cache::open(&folder.path().join("theirs"), "x", SMALL).unwrap_err().to_string();
    assert!(said.ends_with("x: it belongs to somebody else"), "{said}");
    // A home as `sudo` leaves it to root: nothing of root's is put there.
    fs::create_dir(folder.path().join("home")).unwrap();
    give(&folder.path().join("home"));
    assert!(is_own(folder.path()) && is_own(&folder.path().join("not/there/yet")));
    assert!(!is_own(&folder.path().join("home/.cache")));
    fs::create_dir(folder.path().join("home/.cache")).unwrap();
    give(&folder.path().join("home/.cache"));
    assert!(!is_own(&folder.path().join("home/.cache")));
    // A file of theirs is not read, wherever it is.
    let cache = opened(folder.path());
    cache.put(&key("a"), b"one");
    give(&file(folder.path(), "a"));
    assert_eq!(cache.get(&key("a")), None);
}

#[test]
fn the_oldest_go_first_and_what_is_too_old_goes_anyway() {
    let folder = tempfile::tempdir().unwrap();
    let cache = opened(folder.path());
    let content = [b'x'; 20]; // 102 bytes with its first line: three have room
    for (name, before) in [("old", 900), ("older", 950), ("new", 10), ("ancient", 2000)] {
        cache.put(&key(name), &content);
        used(&file(folder.path(), name), before);
    }
    let beside = folder.path().join("evenkeel/x/README");
    fs::write(&beside, "not ours").unwrap();
    let unfinished = [".new-1-0-x", ".new-2-0-x"].map(|name| folder.path().join("evenkeel/x").join(name));
    for (path, before) in unfinished.iter().zip([4000, 10]) {
        fs::write(path, "").unwrap();
        used(path, before);
    }
    cache.put(&key("newest"), &content);
    drop(cache);
    let there = |name: &str| file(folder.path(), name).exists();
    assert_eq!(["newest", "new", "old", "older", "ancient"].map(there), [true, true, true, false, false]);
    assert!(beside.exists() && !unfinished[0].exists() && unfinished[1].exists());
}

#[test]
fn what_is_used_stays_young_and_what_is_too_large_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { age: Duration::from_secs(3 * 24 * 60 * 60), ..SMALL };
    let cache = Cache::open(folder.path(), "x", limits).unwrap();
    cache.put(&key("a"), b"one");
    used(&file(folder.path(), "a"), 2 * 24 * 60 * 60);
    assert!(cache.get(&key("a")).is_some());
    let written = fs::metadata(file(folder.path(), "a")).unwrap().modified().unwrap();
    assert!(written.elapsed().unwrap_or_default() < USED_WITHIN);
    cache.put(&key("large"), &[b'x'; 200]);
    assert!(!file(folder.path(), "large").exists());
}

#[test]
fn many_at_once_read_what_one_of_them_wrote_whole() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { entry: 1024 * 1024, bytes: 1024 * 1024, ..SMALL };
    let text = |n: u8| vec![n; 100_000];
    std::thread::scope(|scope| {
        for n in 0..4 {
            let folder = &folder;
            scope.spawn(move || {
                for _ in 0..50 {
                    let cache = Cache::open(folder.path(), "x", limits).unwrap();
                    cache.put(&key("a"), &text(n));
                    let read = cache.get(&key("a")).unwrap();
                    assert!(read.len() == 100_000 && read.iter().all(|byte| *byte == read[0]));
                }
            });
        }
    });
    assert_eq!(fs::read_dir(folder.path().join("evenkeel/x")).unwrap().count(), 1);
}

#[test]
fn caches_are_where_the_specification_has_them() {
    let path = |text: &str| Some(PathBuf::from(text));
    assert_eq!(place(Some(Path::new("/c")), Some(Path::new("/home/a"))), path("/c"));
    assert_eq!(place(Some(Path::new("c")), Some(Path::new("/home/a"))), path("/home/a/.cache"));
    assert_eq!(place(None, Some(Path::new("/home/a"))), path("/home/a/.cache"));
    assert_eq!(place(Some(Path::new("")), None), None);
}
