//! How answers look for people.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use evenkeel_layout::problem::{Problem, Severity};

/// Something that is there now.
pub const GREEN: Style = AnsiColor::Green.on_default();
/// Something that differs.
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
/// Something that is gone, or wrong.
pub const RED: Style = AnsiColor::Red.on_default();
/// Names.
pub const BOLD: Style = Style::new().bold();
/// What explains.
pub const DIM: Style = Style::new().dimmed();

/// Problems, one paragraph each: severity and code, where, what, and what to do. Several in a row with the same remedy
/// have it once, after the last.
pub fn problems(problems: &[Problem]) -> String {
    let mut out = String::new();
    for (n, problem) in problems.iter().enumerate() {
        out.push_str(&problem_line(problem, problem.server.as_slice()));
        let next = problems.get(n + 1);
        if !problem.help.is_empty()
            && next.is_none_or(|next| (&next.code, &next.help) != (&problem.code, &problem.help))
        {
            let _ = writeln!(out, "  {DIM}help: {}{DIM:#}", shown(&problem.help));
        }
    }
    out
}

/// A text of a repository as it may stand on a terminal: what controls one, or turns letters round, is spelled out.
pub fn shown(text: &str) -> String {
    let is_unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    text.chars().flat_map(|c| if is_unseen(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

/// One problem without its remedy, and the servers that it concerns.
pub fn problem_line(problem: &Problem, servers: &[String]) -> String {
    let (word, style) = match problem.severity {
        Severity::Error => ("error", RED),
        Severity::Warning => ("warning", YELLOW),
        Severity::Info => ("info", DIM),
    };
    let servers = (!servers.is_empty()).then(|| servers.join(","));
    let place = [&servers, &problem.stack].into_iter().flatten().cloned().collect::<Vec<_>>().join("/");
    let mut out = format!("{style}{word}[{}]{style:#}", problem.code);
    if !place.is_empty() {
        let _ = write!(out, " {BOLD}{}{BOLD:#}", shown(&place));
    }
    match (problem.path.as_deref().map(shown), problem.line) {
        (Some(path), Some(line)) => _ = write!(out, " {path}:{line}"),
        (Some(path), None) => _ = write!(out, " {path}"),
        (None, _) => {}
    }
    let message = problem.message.split('\n').map(shown).collect::<Vec<_>>().join("\n  ");
    let _ = writeln!(out, ": {message}");
    out
}

/// `1 error, 2 warnings`, or `no problems`.
pub fn count(severities: &[Severity]) -> String {
    let parts: Vec<String> = [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Info, "note")]
        .into_iter()
        .filter_map(|(severity, word)| {
            let n = severities.iter().filter(|found| **found == severity).count();
            (n > 0).then(|| plural(n, word))
        })
        .collect();
    if parts.is_empty() { "no problems".to_owned() } else { parts.join(", ") }
}

/// `1 stack`, `2 stacks`.
pub fn plural(n: usize, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") }
}

/// What is in a table's cell, and its colour.
pub type Cell = (String, Style);

/// Narrowest that a column is made to fit a terminal, in characters.
const NARROWEST: usize = 6;

/// A table without frames. With a `width` its widest columns are cut, with `…`, until it fits; the words that tell a
/// reader most are short.
pub fn table<const N: usize>(header: [&str; N], rows: &[[Cell; N]], width: Option<usize>) -> String {
    let rows: Vec<[Cell; N]> = rows.iter().map(|row| row.clone().map(|(text, style)| (shown(&text), style))).collect();
    let mut widths = header.map(|h| h.chars().count());
    for row in &rows {
        for (width, (text, _)) in widths.iter_mut().zip(row) {
            *width = text.chars().count().max(*width);
        }
    }
    let total = |widths: &[usize; N]| widths.iter().sum::<usize>() + 2 * N.saturating_sub(1);
    while let Some(limit) = width
        && total(&widths) > limit
        && let Some(widest) = widths.iter_mut().max()
        && *widest > NARROWEST
    {
        *widest -= 1;
    }
    let header = header.map(|h| (h.to_owned(), DIM));
    [&header].into_iter().chain(&rows).map(|row| line(row, widths)).collect()
}

fn line<const N: usize>(row: &[Cell; N], widths: [usize; N]) -> String {
    let mut out = String::new();
    for (at, ((text, style), width)) in row.iter().zip(widths).enumerate() {
        let long = text.chars().count();
        let shown: String = if long > width {
            text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
        } else {
            text.clone()
        };
        let _ = write!(out, "{style}{shown}{style:#}");
        if at + 1 < N {
            out.push_str(&" ".repeat(width.saturating_sub(long) + 2));
        }
    }
    out.push('\n');
    out
}

/// A revision as people know it: the first digits of a commit.
pub fn short(revision: &str) -> &str {
    let is_id = revision.len() >= 40 && revision.bytes().all(|b| b.is_ascii_hexdigit());
    if is_id { &revision[..12] } else { revision }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controls_a_terminal_is_spelled_out() {
        assert_eq!(shown("caf\u{e9} a\nb\u{1b}[31m\u{202e}x"), "caf\u{e9} a\\nb\\u{1b}[31m\\u{202e}x");
        let problem = Problem::error("a.b", "one\ntwo\r", "").at("x\ny", Some(1));
        assert!(problem_line(&problem, &[]).ends_with(" x\\ny:1: one\n  two\\r\n"));
    }

    #[test]
    fn a_table_fits_the_terminal_and_loses_only_the_ends_of_long_words() {
        let cell = |text: &str| (text.to_owned(), Style::new());
        let rows = [[cell("a-stack-with-a-very-long-name"), cell("steady")], [cell("web"), cell("rolled back")]];
        let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
        let wide = plain(table(["STACK", "STATE"], &rows, None));
        assert_eq!(
            wide,
            "STACK                          STATE\n\
             a-stack-with-a-very-long-name  steady\n\
             web                            rolled back\n"
        );
        let narrow = plain(table(["STACK", "STATE"], &rows, Some(30)));
        assert_eq!(
            narrow,
            "STACK              STATE\n\
             a-stack-with-a-v…  steady\n\
             web                rolled back\n"
        );
        assert!(narrow.lines().all(|l| l.chars().count() <= 30));
        plain(table(["STACK", "STATE"], &rows, Some(1)));
    }
}
