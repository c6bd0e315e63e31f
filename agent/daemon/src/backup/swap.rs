//! Exchanging data by renames alone: what is there goes aside, what came out of a snapshot takes its place. Each step can
//! be repeated after an interruption at any point, and none overwrites or deletes anything: what a stack ran on stays.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use evenkeel_core::journal::Swap;
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

/// The folders of ours that data comes out of a snapshot into begin so. Nothing else is ever removed, and nothing that
/// was in place ever goes into one.
pub const RESTORING: &str = ".evenkeel-restoring-";

/// How many things of others may have come in between before a person has to look.
const MOST_BETWEEN: u32 = 100;

/// A disk that does not answer is not the same as nothing there.
fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io::Error::new(e.kind(), format!("cannot look at {}: {e}", path.display()))),
    }
}

fn lost(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} is gone", path.display()))
}

/// Whether the exchange is still to be made.
pub fn is_to_do(swap: &Swap) -> io::Result<bool> {
    Ok(is_there(Path::new(&swap.restored))? || !is_there(Path::new(&swap.aside))?)
}

/// Whether there is something to take back. Where neither what was there before nor what took its place is, that is an
/// error.
pub fn is_to_undo(swap: &Swap) -> io::Result<bool> {
    let is_aside = is_there(Path::new(&swap.aside))?;
    if !is_aside && !is_there(Path::new(&swap.path))? {
        return Err(lost(Path::new(&swap.aside)));
    }
    Ok(is_aside)
}

/// Puts what was restored in place.
pub fn put(swap: &Swap) -> io::Result<()> {
    let (path, restored, aside) = (Path::new(&swap.path), Path::new(&swap.restored), Path::new(&swap.aside));
    if !is_there(restored)? {
        return if is_there(aside)? && is_there(path)? { Ok(()) } else { Err(lost(restored)) };
    }
    if is_there(aside)? {
        step_aside(swap)?;
    } else {
        rename(path, aside)?;
    }
    rename(restored, path)?;
    to_disk(path)?;
    to_disk(restored)
}

/// Puts back what was there before. What was in its place is kept too: the stack may have written to it.
pub fn take_back(swap: &Swap) -> io::Result<()> {
    let (path, restored, aside) = (Path::new(&swap.path), Path::new(&swap.restored), Path::new(&swap.aside));
    if !is_to_undo(swap)? {
        return Ok(());
    }
    let failed = swap.failed();
    let failed = Path::new(&failed);
    if is_there(restored)? || is_there(failed)? {
        step_aside(swap)?;
    } else if is_there(path)? {
        rename(path, failed)?;
        to_disk(failed)?;
    }
    rename(aside, path)?;
    to_disk(path)
}

/// Between the two renames the path is free, and an engine that starts then may make a folder there; after an interruption
/// once more.
fn step_aside(swap: &Swap) -> io::Result<()> {
    let path = Path::new(&swap.path);
    if !is_there(path)? {
        return Ok(());
    }
    let first = format!("{}.between", swap.aside);
    for number in 1..=MOST_BETWEEN {
        let name = if number == 1 { first.clone() } else { format!("{first}-{number}") };
        if !is_there(Path::new(&name))? {
            tracing::warn!(path = swap.path, kept = name, "somebody made this meanwhile; it is put aside");
            return rename(path, Path::new(&name));
        }
    }
    let what = format!("{first} and {MOST_BETWEEN} such names are there already; look at them, and move them away");
    Err(io::Error::new(io::ErrorKind::AlreadyExists, what))
}

/// Removes the folder that the data came out into, with what is left in it: what never was in place.
pub fn tidy(swap: &Swap) -> io::Result<()> {
    let folder = folder(swap);
    let is_ours = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(RESTORING));
    if !is_ours {
        return Ok(());
    }
    match fs::remove_dir_all(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The folder that the data of a swap comes out into.
pub fn folder(swap: &Swap) -> PathBuf {
    Path::new(&swap.restored).parent().unwrap_or(Path::new("/")).to_owned()
}

/// Writes everything on the file system of `path` to its disk.
pub fn all_to_disk(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

/// Writes the entry itself to disk, which is its folder's content.
fn to_disk(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    if folder.is_dir() { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Never over something that is there.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{} to {}: {e}", from.display(), to.display()));
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that does not know the flag.
        Err(Errno::INVAL | Errno::NOSYS) if !is_there(to)? => fs::rename(from, to).map_err(named),
        done => done.map_err(|e| named(e.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use evenkeel_core::journal::Restore;

    use super::*;

    const NOTHING: &str = "nothing";

    struct Place {
        dir: tempfile::TempDir,
        swap: Swap,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name).display().to_string();
            let restored = at(&format!("{RESTORING}1/data"));
            let swap = Swap { path: at("data"), saved: at("data"), restored, aside: at("data.before") };
            fs::create_dir_all(&swap.path).unwrap();
            fs::create_dir_all(&swap.restored).unwrap();
            fs::write(Path::new(&swap.path).join("file"), "present").unwrap();
            fs::write(Path::new(&swap.restored).join("file"), "saved").unwrap();
            Self { dir, swap }
        }

        fn content(path: &str) -> String {
            fs::read_to_string(Path::new(path).join("file")).unwrap_or_else(|_| NOTHING.to_owned())
        }

        /// What is in place, and what is aside.
        fn seen(&self) -> [String; 2] {
            [Self::content(&self.swap.path), Self::content(&self.swap.aside)]
        }
    }

    /// The server as an interruption after so many renames leaves it.
    fn cut_after(renames: usize) -> Place {
        let place = Place::new();
        let swap = &place.swap;
        let steps = [(&swap.path, &swap.aside), (&swap.restored, &swap.path)];
        steps.iter().take(renames).for_each(|(from, to)| fs::rename(from, to).unwrap());
        place
    }

    #[test]
    fn from_wherever_it_was_cut_off_it_goes_on_and_back() {
        for renames in 0..=2 {
            let place = cut_after(renames);
            put(&place.swap).unwrap();
            put(&place.swap).unwrap();
            assert!(!is_to_do(&place.swap).unwrap());
            assert_eq!(place.seen(), ["saved", "present"], "after {renames}");
            take_back(&place.swap).unwrap();
            take_back(&place.swap).unwrap();
            tidy(&place.swap).unwrap();
            take_back(&place.swap).unwrap();
            assert_eq!(place.seen(), ["present", NOTHING], "after {renames}");
            assert_eq!(Place::content(&place.swap.failed()), "saved", "what ran is kept");
            let place = cut_after(renames);
            take_back(&place.swap).unwrap();
            assert_eq!(place.seen(), ["present", NOTHING], "straight back after {renames}");
        }
    }

    #[test]
    fn what_ran_is_kept_wherever_the_way_back_was_cut_off() {
        // Tidied, and killed before the journal said that the restore had passed.
        let place = cut_after(2);
        tidy(&place.swap).unwrap();
        take_back(&place.swap).unwrap();
        assert_eq!(
            (place.seen(), Place::content(&place.swap.failed())),
            (["present", NOTHING].map(str::to_owned), "saved".to_owned())
        );
        // Half-way back; then the engine made a folder where nothing was.
        for is_made in [false, true] {
            let place = cut_after(2);
            fs::rename(&place.swap.path, place.swap.failed()).unwrap();
            if is_made {
                fs::create_dir(&place.swap.path).unwrap();
            }
            assert!(is_to_undo(&place.swap).unwrap());
            take_back(&place.swap).unwrap();
            assert_eq!(place.seen(), ["present", NOTHING]);
            assert_eq!(Place::content(&place.swap.failed()), "saved");
        }
    }

    #[test]
    fn what_cannot_be_looked_at_and_what_is_nowhere_is_an_error_on_the_way_back() {
        let place = cut_after(2);
        let below_a_file = format!("{}/file/aside", place.swap.path);
        let unreadable = Swap { aside: below_a_file, ..place.swap.clone() };
        for done in [is_to_undo(&unreadable).map(drop), take_back(&unreadable), is_to_do(&unreadable).map(drop)] {
            assert!(done.unwrap_err().to_string().starts_with("cannot look at"));
        }
        assert_eq!(place.seen(), ["saved", "present"]);
        for name in [&place.swap.path, &place.swap.aside] {
            fs::remove_dir_all(name).unwrap();
        }
        for done in [is_to_undo(&place.swap).map(drop), take_back(&place.swap)] {
            assert!(done.unwrap_err().to_string().contains("data.before is gone"));
        }
    }

    #[test]
    fn what_appeared_in_between_is_kept_too() {
        for back in [false, true] {
            let place = cut_after(1);
            fs::create_dir(&place.swap.path).unwrap();
            fs::write(Path::new(&place.swap.path).join("file"), "made by the engine").unwrap();
            let exchange = if back { take_back } else { put };
            exchange(&place.swap).unwrap();
            let between = format!("{}.between", place.swap.aside);
            assert_eq!(Place::content(&between), "made by the engine");
            let now = if back { ["present", NOTHING] } else { ["saved", "present"] };
            assert_eq!(place.seen(), now);
        }
    }

    #[test]
    fn what_appears_in_between_again_and_again_is_kept_each_time_up_to_a_point() {
        for back in [false, true] {
            let place = cut_after(1);
            let between = |n: u32| match n {
                1 => format!("{}.between", place.swap.aside),
                n => format!("{}.between-{n}", place.swap.aside),
            };
            let exchange = if back { take_back } else { put };
            let make = |path: &str| {
                fs::create_dir(path).unwrap();
                fs::write(Path::new(path).join("file"), path).unwrap();
            };
            make(&place.swap.path);
            (1..=MOST_BETWEEN).for_each(|n| make(&between(n)));
            let error = exchange(&place.swap).unwrap_err().to_string();
            assert!(error.contains(&between(1)) && error.contains("move them away"), "{error}");
            fs::remove_dir_all(between(2)).unwrap();
            exchange(&place.swap).unwrap();
            assert_eq!(Place::content(&between(1)), between(1));
            assert_eq!(Place::content(&between(2)), place.swap.path);
            let now = if back { ["present", NOTHING] } else { ["saved", "present"] };
            assert_eq!(place.seen(), now);
        }
    }

    #[test]
    fn nothing_is_overwritten_and_what_is_lost_is_said() {
        let place = Place::new();
        fs::remove_dir_all(&place.swap.restored).unwrap();
        let error = put(&place.swap).unwrap_err().to_string();
        assert!(error.contains("data is gone"), "{error}");
        assert_eq!(place.seen(), ["present", NOTHING]);
        assert!(rename(Path::new(&place.swap.path), place.dir.path()).is_err());
        assert_eq!(place.seen(), ["present", NOTHING]);
    }

    #[test]
    fn only_a_folder_of_ours_is_removed() {
        let place = Place::new();
        let foreign = Swap { restored: format!("{}/file", place.swap.path), ..place.swap.clone() };
        tidy(&foreign).unwrap();
        assert_eq!(place.seen(), ["present", NOTHING]);
        tidy(&place.swap).unwrap();
        tidy(&place.swap).unwrap();
        assert!(!folder(&place.swap).exists());
    }

    fn of_paths(paths: &[String]) -> Restore {
        let swap = |path: &String| Swap {
            path: path.clone(),
            saved: path.clone(),
            restored: format!("{path}.restored"),
            aside: format!("{path}.before"),
        };
        let swaps = paths.iter().map(swap).collect();
        Restore { stack: "db".to_owned(), project: "db".to_owned(), snapshot: "1".to_owned(), swaps }
    }

    /// Runs the commands as a person would, with a `docker` and an `evenkeel` that do nothing but say that they ran. Gives
    /// whether all of them ran.
    fn pasted(restore: &Restore) -> bool {
        let script = format!("docker() {{ :; }}\nevenkeel() {{ echo ran; }}\n{}\n", restore.by_hand());
        let done = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(done.status.success(), done.stdout == b"ran\n", "{done:?}");
        done.status.success()
    }

    #[test]
    fn the_commands_can_be_pasted_whatever_the_paths_are_and_wherever_it_was_cut_off() {
        // Of two paths, each with what is at `path`, aside and failed; and the same afterwards, or that it stops.
        let cases: [([&str; 3], Option<[&str; 3]>); 6] = [
            (["new", "old", ""], Some(["old", "", "new"])),
            (["", "old", "new"], Some(["old", "", "new"])),
            (["old", "", "new"], Some(["old", "", "new"])),
            (["old", "", ""], Some(["old", "", ""])),
            (["made", "old", "new"], None),
            (["", "", ""], None),
        ];
        for (before, after) in cases {
            let folder = tempfile::tempdir().unwrap();
            let paths = ["data", "it's $HOME `here`"].map(|name| folder.path().join(name).display().to_string());
            let restore = of_paths(&paths);
            for swap in &restore.swaps {
                for (name, text) in [&swap.path, &swap.aside, &swap.failed()].into_iter().zip(before) {
                    if !text.is_empty() {
                        fs::create_dir(name).unwrap();
                        fs::write(Path::new(name).join("file"), text).unwrap();
                    }
                }
            }
            for _ in 0..2 {
                assert_eq!(pasted(&restore), after.is_some(), "{before:?}");
            }
            for swap in &restore.swaps {
                let now = [&swap.path, &swap.aside, &swap.failed()].map(|name| Place::content(name));
                let want = after.unwrap_or(before).map(|text| if text.is_empty() { NOTHING } else { text });
                assert_eq!(now, want, "{before:?}");
            }
        }
    }
}
