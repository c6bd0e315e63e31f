//! A terminal: how wide it is, and one line at its bottom that shows what is going on.

use std::{
    io::{self, IsTerminal as _, Write},
    os::fd::AsFd,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// How many columns the terminal behind a descriptor has; `None` if it is none, or does not tell.
pub fn width(of: impl AsFd) -> Option<usize> {
    let columns = usize::from(rustix::termios::tcgetwinsize(of).ok()?.ws_col);
    (columns > 0).then_some(columns)
}

/// Whether a person looks at standard error.
pub fn is_watched() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The line that shows now.
static SHOWN: Mutex<String> = Mutex::new(String::new());

/// Back to the first column, and everything right of it erased.
const ERASE: &str = "\r\x1b[K";

fn shown() -> MutexGuard<'static, String> {
    // A panic elsewhere leaves a whole text: it is set by one call.
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows a line in place of the one that shows now; an empty one takes it away. Only for a terminal ([`is_watched`]).
pub fn show(line: &str) {
    let mut shown = shown();
    let line = fitting(line, width(io::stderr()).unwrap_or(80));
    if *shown != line {
        // A terminal that went away is no fault of what is shown.
        let _ = write!(io::stderr(), "{ERASE}{line}");
        *shown = line;
    }
}

/// A line without control characters that leaves the last column free, so that the terminal does not wrap it.
fn fitting(line: &str, width: usize) -> String {
    let clean: Vec<char> = line.chars().filter(|c| !c.is_control()).collect();
    if clean.len() < width {
        return clean.into_iter().collect();
    }
    clean.into_iter().take(width.saturating_sub(2)).chain(['…']).collect()
}

/// Standard error for whole lines of log: the line at the bottom stays at the bottom.
#[derive(Debug, Clone, Copy, Default)]
pub struct Above;

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let shown = shown();
        let mut stderr = io::stderr().lock();
        if shown.is_empty() {
            return stderr.write_all(bytes);
        }
        stderr.write_all(ERASE.as_bytes())?;
        stderr.write_all(bytes)?;
        stderr.write_all(shown.as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_before_the_terminal_would_wrap_it() {
        assert_eq!(fitting("short", 10), "short");
        assert_eq!(fitting("exactly te", 10), "exactly …");
        assert_eq!(fitting("evil\x1b[2J\n", 20), "evil[2J");
        assert_eq!(fitting("x", 0), "…");
    }
}
