//! Questions to a person at a terminal.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal as _, Read as _},
};

use crate::cli::output::{Failure, Output};

/// Longest answer, in bytes.
const MAX_ANSWER: u64 = 4096;

/// A person who sees standard error and can type.
pub struct Person<'o> {
    out: &'o Output,
    typed: Box<dyn BufRead>,
}

impl<'o> Person<'o> {
    /// The person at this terminal, if there is one. If standard input is a pipe that was read already, the terminal
    /// itself is asked.
    pub fn at_terminal(out: &'o Output, stdin_is_read: bool) -> Option<Self> {
        if out.is_json() || !io::stderr().is_terminal() {
            return None;
        }
        let typed: Box<dyn BufRead> = if stdin_is_read {
            Box::new(BufReader::new(File::open("/dev/tty").ok()?))
        } else if io::stdin().is_terminal() {
            Box::new(io::stdin().lock())
        } else {
            return None;
        };
        Some(Self { out, typed })
    }

    /// Says something before a question.
    pub fn tell(&self, line: &str) {
        self.out.note(line);
    }

    /// Asks until `read` takes the answer; what it says instead is shown. An empty answer is `default`.
    pub fn ask<T>(
        &mut self,
        question: &str,
        default: &str,
        mut read: impl FnMut(&str) -> Result<T, String>,
    ) -> Result<T, Failure> {
        loop {
            let hint = if default.is_empty() { String::new() } else { format!(" [{default}]") };
            self.out.note_text(&format!("{question}{hint}: "));
            let answer = self.line()?;
            match read(if answer.is_empty() { default } else { &answer }) {
                Ok(value) => return Ok(value),
                Err(why) => self.out.note(&format!("  {why}")),
            }
        }
    }

    /// Asks for a yes or a no.
    pub fn agrees(&mut self, question: &str, default: bool) -> Result<bool, Failure> {
        self.ask(question, if default { "Y/n" } else { "y/N" }, |answer| match answer.to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(true),
            "n" | "no" => Ok(false),
            "y/n" => Ok(default),
            _ => Err("answer y or n".to_owned()),
        })
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        let read = self.typed.by_ref().take(MAX_ANSWER).read_line(&mut line);
        if matches!(read, Ok(1..)) {
            return Ok(line.trim().to_owned());
        }
        self.out.note("");
        Err(Failure::usage("trust.unconfirmed", "there was no answer; nothing was written", "run it again"))
    }
}
