//! `plan --format markdown`: a comment for a pull request. Every word of the repository is data: it stands in `<code>` with all its
//! punctuation as entities, so that it can neither format, link, mention nor hide anything.

use std::fmt::Write as _;

use evenkeel_core::plan::{Renamed, ServiceChangeKind, StackChange};

use super::{Document, ServerPlan, shown};
use crate::cli::text;

/// By this line a later run finds its comment again.
pub const MARK: &str = "<!-- evenkeel-plan -->";
/// Longest comment, in bytes: GitHub takes 65,536 characters, and the mildest other forge no fewer.
const MAX_BYTES: usize = 60_000;
/// Longest that one name or message is shown, in characters.
const MAX_CHARS: usize = 200;
/// Kept free for what closes the comment.
const RESERVE: usize = 1_000;

/// The whole comment.
pub fn comment(document: &Document) -> String {
    let mut out = format!("{MARK}\n### Evenkeel plan: {}\n\n", title(document));
    if let Some(first) = document.servers.first() {
        let _ = writeln!(out, "{} → {}\n", code(text::short(&first.from)), code(text::short(&first.to)));
    }
    out.push_str(&overview(document));
    let mut left_out = 0;
    for server in document.servers.iter().filter(|server| is_worth_a_section(server)) {
        let room = MAX_BYTES.saturating_sub(RESERVE + out.len());
        match section(server, room) {
            Some(section) => out.push_str(&section),
            None => left_out += 1,
        }
    }
    if left_out > 0 {
        let what = text::plural(left_out, "server");
        let _ =
            writeln!(out, "\n**{what} left out: the comment would be too long.** `evenkeel plan` shows everything.");
    }
    out.push_str("\n<sub>A prediction from the files alone: the server has its own variables and images. ");
    out.push_str("Names of what changed, never values.</sub>\n");
    out
}

fn title(document: &Document) -> String {
    let changed = document.servers.iter().filter(|server| !server.plan.is_empty());
    let stacks: usize = changed.clone().map(|server| server.plan.changes().count()).sum();
    match changed.count() {
        0 => "nothing changes".to_owned(),
        servers => format!("{} on {}", text::plural(stacks, "change"), text::plural(servers, "server")),
    }
}

fn is_worth_a_section(server: &ServerPlan) -> bool {
    !server.plan.is_empty() || !server.plan.renamed.is_empty() || !shown::worth_saying(&server.plan).is_empty()
}

/// A line for each server, as far as people read on.
fn overview(document: &Document) -> String {
    const MOST: usize = 100;
    let mut out = "| server | |\n|---|---|\n".to_owned();
    for server in document.servers.iter().take(MOST) {
        let _ = writeln!(out, "| {} | {} |", code(server.server.as_str()), shown::summary(&server.plan));
    }
    if document.servers.len() > MOST {
        let _ = writeln!(out, "| … | and {} more |", document.servers.len() - MOST);
    }
    out.push('\n');
    out
}

/// One server, folded; `None` if there is not even room for its frame.
fn section(server: &ServerPlan, room: usize) -> Option<String> {
    let plan = &server.plan;
    let begin = format!("<details>\n<summary>{}: {}</summary>\n\n", code(server.server.as_str()), shown::summary(plan));
    let end = "\n</details>\n\n";
    let mut left = room.checked_sub(begin.len() + end.len() + 200)?;
    let mut blocks = Vec::new();
    blocks.extend(plan.renamed.iter().map(|Renamed { from, to }| {
        format!(
            "- **renamed** {} to {}: the same Compose project, taken over as it runs\n",
            code(from.as_str()),
            code(to.as_str())
        )
    }));
    for (n, wave) in plan.waves.iter().enumerate() {
        if plan.waves.len() > 1 {
            blocks.push(format!("Wave {}\n\n", n + 1));
        }
        blocks.extend(wave.iter().map(|change| stack(server, change)));
    }
    blocks.extend(plan.held.iter().map(|held| {
        format!("- **held** {}: waits for {}\n", code(held.stack.as_str()), code(held.waits_for.as_str()))
    }));
    blocks.extend(plan.rejected.iter().map(|s| format!("- **rejected** {}: keeps what it runs\n", code(s.as_str()))));
    for problem in shown::worth_saying(plan) {
        let place = match (&problem.path, problem.line) {
            (Some(path), Some(line)) => format!(" {}", code(&format!("{path}:{line}"))),
            (Some(path), None) => format!(" {}", code(path)),
            (None, _) => String::new(),
        };
        blocks.push(format!("- **{}**{place}: {}\n", prose(&problem.code), code(&problem.message)));
    }
    let mut out = begin;
    let total = blocks.len();
    for (n, block) in blocks.into_iter().enumerate() {
        let Some(rest) = left.checked_sub(block.len()) else {
            let _ = writeln!(out, "\n… and {} more: `evenkeel plan` shows everything.", total - n);
            break;
        };
        left = rest;
        out.push_str(&block);
    }
    out.push_str(end);
    Some(out)
}

fn stack(server: &ServerPlan, change: &StackChange) -> String {
    let (sign, word) = shown::stack_words(change.change);
    let (sign, group) = (prose(&sign.to_string()), prose(&shown::group_words(change)));
    let mut out = format!("#### {sign} {} — {word}{group}\n\n", code(change.stack.as_str()));
    let touched: Vec<_> = change.services.iter().filter(|s| s.change != ServiceChangeKind::None).collect();
    if touched.is_empty() {
        out.push_str("No service is touched.\n\n");
    } else {
        out.push_str("| | service | what | why |\n|---|---|---|---|\n");
        for service in touched {
            let (sign, word) = shown::service_words(service.change);
            let whys: Vec<String> = service.why.iter().map(|why| code(&shown::why_text(why))).collect();
            let _ = writeln!(
                out,
                "| {} | {} | {word} | {} |",
                prose(&sign.to_string()),
                code(&service.service),
                few(&whys)
            );
        }
        out.push('\n');
    }
    for (label, what) in server.effects.get(&change.stack).map(shown::effect_words).unwrap_or_default() {
        let _ = writeln!(out, "- {label} {}", code(&what));
    }
    out.push('\n');
    out
}

/// The first of them; the rest is counted.
fn few(items: &[String]) -> String {
    const MOST: usize = 12;
    let mut out = items.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if items.len() > MOST {
        let _ = write!(out, ", and {} more", items.len() - MOST);
    }
    out
}

/// A word of the repository. In `<code>` no forge looks for mentions, issues or addresses.
fn code(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_CHARS).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        shown.push('…');
    }
    format!("<code>{}</code>", prose(&shown))
}

/// A text in which nothing is markup.
fn prose(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            ' ' => out.push(' '),
            // Direction marks could make a line read otherwise than it is.
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
                out.push('\u{fffd}');
            }
            c if c.is_control() => out.push(' '),
            c if c.is_ascii_punctuation() && !matches!(c, '-' | '.' | '/' | ',') => {
                _ = write!(out, "&#{};", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
#[path = "markdown_tests.rs"]
mod tests;
