//! How the demo speaks: for a terminal of 80 columns, with colours only on a terminal.

use std::{
    io::{IsTerminal as _, stdout},
    time::Duration,
};

const WIDTH: usize = 78;

/// Prints.
#[derive(Debug)]
pub struct Narrator {
    colored: bool,
}

#[derive(Debug, Clone, Copy)]
enum Ink {
    Bold,
    Dim,
    Green,
    Red,
    Cyan,
}

impl Narrator {
    /// Colours, if standard output is a terminal that wants them.
    pub fn new() -> Self {
        let wants = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        let dumb = std::env::var("TERM").is_ok_and(|t| t == "dumb");
        Self { colored: stdout().is_terminal() && wants && !dumb }
    }

    fn ink(&self, ink: Ink, text: &str) -> String {
        let code = match ink {
            Ink::Bold => "1",
            Ink::Dim => "2",
            Ink::Green => "32",
            Ink::Red => "31",
            Ink::Cyan => "36",
        };
        if self.colored { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A heading with a line under it, and what it is about.
    pub fn title(&self, text: &str, about: &str) {
        tell!("\n{}\n{}", self.ink(Ink::Bold, text), self.ink(Ink::Dim, &"-".repeat(text.chars().count().min(WIDTH))));
        say(about);
    }

    /// A command as a person would type it.
    pub fn command(&self, line: &str) {
        tell!("  {} {}", self.ink(Ink::Dim, "$"), self.ink(Ink::Bold, line));
    }

    /// A diff, with each file's name above its lines.
    pub fn diff(&self, text: &str) {
        for line in text.lines() {
            if let Some(file) = line.strip_prefix("+++ b/") {
                tell!("    {}", self.ink(Ink::Dim, file));
                continue;
            }
            let ink = match line.as_bytes().first() {
                Some(b'+') => Ink::Green,
                Some(b'-') => Ink::Red,
                _ => continue,
            };
            let characters: Vec<char> = line.chars().collect();
            for (n, piece) in characters.chunks(WIDTH - 8).enumerate() {
                let indent = if n == 0 { "    " } else { "        " };
                tell!("{indent}{}", self.ink(ink, &piece.iter().collect::<String>()));
            }
        }
    }

    /// What someone else said, each line under its name.
    pub fn heard(&self, who: &str, text: &str) {
        for line in text.lines().flat_map(|l| wrapped(l, WIDTH - who.len() - 5)) {
            tell!("  {} {line}", self.ink(Ink::Cyan, &format!("{who} |")));
        }
    }

    /// Something that was looked at and is as it should be.
    pub fn checked(&self, what: &str) {
        let lines = wrapped(what, WIDTH - 6);
        for (n, line) in lines.iter().enumerate() {
            let mark = if n == 0 { self.ink(Ink::Green, "ok") } else { "  ".to_owned() };
            tell!("  {mark}  {line}");
        }
    }

    /// How long something took.
    pub fn time(&self, what: &str, took: Duration) {
        tell!("\n{}", self.ink(Ink::Dim, &format!("{what}: {:.1} s", took.as_secs_f32())));
    }
}

/// A paragraph.
pub fn say(text: &str) {
    for line in wrapped(text, WIDTH) {
        tell!("{line}");
    }
    tell!();
}

/// What a command printed. Lines that fit keep their spaces.
pub fn output(text: &str) {
    for line in text.lines() {
        if line.chars().count() <= WIDTH - 4 {
            tell!("    {line}");
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        for piece in wrapped(line, WIDTH - 4 - indent) {
            tell!("    {:indent$}{piece}", "");
        }
    }
}

/// Lines of at most `width` characters, broken at spaces. A word that is longer stays whole.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    lines
}
