//! `/metrics`: Prometheus' text format 0.0.4, which every scraper reads.
//!
//! Written by hand: the official client library for Rust writes OpenMetrics alone, whose types older scrapers and
//! `promtool check metrics` do not know.

use std::fmt::Write as _;

use evenkeel_core::outcome::{StackState, Status};
use jiff::Timestamp;

use crate::metrics::{BOUNDS_SECONDS, Counts, Durations};

/// The type of the answer.
pub(super) const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

const STATES: [(StackState, &str); 7] = [
    (StackState::Steady, "steady"),
    (StackState::Deploying, "deploying"),
    (StackState::RolledBack, "rolled_back"),
    (StackState::Held, "held"),
    (StackState::Rejected, "rejected"),
    (StackState::Aborted, "aborted"),
    (StackState::Halted, "halted"),
];
const HEALTHS: [&str; 5] = ["healthy", "unhealthy", "starting", "stopped", "unknown"];

/// What the metrics are made of.
pub(super) struct MetricsInput<'a> {
    pub status: &'a Status,
    pub counts: &'a Counts,
    /// When a sync last ended well, in milliseconds since 1970.
    pub last_success_ms: Option<i64>,
    /// Candidates that are kept out.
    pub quarantined: i64,
    /// When the oldest report that waits was queued, in milliseconds since 1970.
    pub oldest_report_ms: Option<i64>,
    /// Whether the configuration on disk is the one in force.
    pub is_config_valid: bool,
    /// `source.interval`, in seconds.
    pub interval_seconds: f64,
    /// Now, in milliseconds since 1970.
    pub now_ms: i64,
}

/// The whole text.
pub(super) fn metrics(input: &MetricsInput<'_>) -> String {
    let mut out = Text(String::new());
    let status = input.status;
    out.gauge("evenkeel_build_info", "Always 1; the version is a label.");
    out.sample("evenkeel_build_info", &[("version", &status.agent.version)], 1.0);
    source(&mut out, input);
    out.one(
        "evenkeel_engine_reachable",
        "Whether the container engine answers: 1 or 0.",
        flag(status.engine.reachable),
    );
    let help = "Whether the configuration on disk is the one in force: 1, or 0 if it was rejected.";
    out.one("evenkeel_config_valid", help, flag(input.is_config_valid));
    for (name, help, ended) in [
        ("evenkeel_syncs_total", "Syncs since the agent started, by how they ended.", &input.counts.syncs),
        (
            "evenkeel_deployments_total",
            "Stacks' parts in syncs since the agent started, by how they ended.",
            &input.counts.deployments,
        ),
    ] {
        out.family(name, "counter", help);
        for (outcome, count) in ended {
            out.sample(name, &[("outcome", outcome.as_str())], float(*count));
        }
    }
    backups(&mut out, status);
    phases(&mut out, input.counts);
    stacks(&mut out, status);
    let help = "Candidates that failed and are kept out until their bytes change.";
    out.one("evenkeel_quarantined_candidates", help, signed(input.quarantined));
    out.gauge("evenkeel_outbox_messages", "Reports that were not delivered, by whether they are still tried.");
    out.sample("evenkeel_outbox_messages", &[("state", "pending")], signed(status.outbox.pending));
    out.sample("evenkeel_outbox_messages", &[("state", "undelivered")], signed(status.outbox.undelivered));
    let age = input.oldest_report_ms.map_or(0, |ms| (input.now_ms - ms).max(0));
    out.one("evenkeel_outbox_oldest_age_seconds", "Age of the oldest report that waits; 0 if none does.", seconds(age));
    out.0
}

fn source(out: &mut Text, input: &MetricsInput<'_>) {
    let source = &input.status.source;
    out.one("evenkeel_source_interval_seconds", "How often the repository is looked at.", input.interval_seconds);
    let contact = source.contact.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
    for (name, help, ms) in [
        (
            "evenkeel_last_contact_timestamp_seconds",
            "When the repository last answered; absent before that.",
            contact.map(Timestamp::as_millisecond),
        ),
        (
            "evenkeel_last_successful_sync_timestamp_seconds",
            "When the server last was as the newest commit wants; absent before that.",
            input.last_success_ms,
        ),
    ] {
        out.gauge(name, help);
        if let Some(ms) = ms {
            out.sample(name, &[], seconds(ms));
        }
    }
    let help = "Whether trust refuses the newest commit: 1 or 0.";
    out.one("evenkeel_source_refused", help, flag(source.refused.is_some()));
    let help = "Whether the repository has been silent for longer than trust.stale_after: 1 or 0.";
    out.one("evenkeel_source_stale", help, flag(source.stale));
}

/// Nothing, if no backup is configured.
fn backups(out: &mut Text, status: &Status) {
    let Some(backup) = &status.backup else { return };
    let at = |time: Option<&str>| time.and_then(|time| time.parse::<Timestamp>().ok()).map(Timestamp::as_millisecond);
    let name = "evenkeel_backup_last_snapshot_timestamp_seconds";
    out.gauge(name, "When a deployment last took a snapshot; absent before that.");
    if let Some(ms) = at(backup.last_snapshot.as_deref()) {
        out.sample(name, &[], seconds(ms));
    }
    let tasks = [("forget", &backup.forgotten), ("check", &backup.checked)];
    let done = tasks.into_iter().filter_map(|(name, task)| Some((name, task.as_ref()?)));
    let (last, failing) = ("evenkeel_backup_task_timestamp_seconds", "evenkeel_backup_task_failing");
    out.gauge(last, "When snapshots were last forgotten by the rule, and the repository last checked.");
    for (name, task) in done.clone() {
        if let Some(ms) = at(Some(&task.at)) {
            out.sample(last, &[("task", name)], seconds(ms));
        }
    }
    out.gauge(failing, "Whether that failed: 1 or 0.");
    for (name, task) in done {
        out.sample(failing, &[("task", name)], flag(task.error.is_some()));
    }
}

fn phases(out: &mut Text, counts: &Counts) {
    const NAME: &str = "evenkeel_phase_duration_seconds";
    out.family(NAME, "histogram", "How long the phases of syncs and deployments take.");
    for (phase, Durations { at_most, count, sum_seconds }) in &counts.phases {
        for (bound, bucket) in BOUNDS_SECONDS.iter().zip(at_most) {
            out.sample(&format!("{NAME}_bucket"), &[("phase", phase), ("le", &bound.to_string())], float(*bucket));
        }
        out.sample(&format!("{NAME}_bucket"), &[("phase", phase), ("le", "+Inf")], float(*count));
        out.sample(&format!("{NAME}_sum"), &[("phase", phase)], *sum_seconds);
        out.sample(&format!("{NAME}_count"), &[("phase", phase)], float(*count));
    }
}

fn stacks(out: &mut Text, status: &Status) {
    let count =
        |is: &dyn Fn(&evenkeel_core::outcome::StackStatus) -> bool| status.stacks.iter().filter(|s| is(s)).count();
    out.gauge("evenkeel_stacks", "Stacks by state.");
    for (state, word) in STATES {
        let of_state = count(&|s| s.state == state);
        out.sample("evenkeel_stacks", &[("state", word)], float(of_state as u64));
    }
    out.gauge("evenkeel_stacks_by_health", "Stacks by the worst health of their containers.");
    for word in HEALTHS {
        let of_health = count(&|s| s.health == word);
        out.sample("evenkeel_stacks_by_health", &[("health", word)], float(of_health as u64));
    }
    out.gauge("evenkeel_stack_steady", "Whether a stack runs what the accepted commit wants: 1 or 0.");
    for stack in &status.stacks {
        let steady = flag(stack.state == StackState::Steady);
        out.sample("evenkeel_stack_steady", &[("stack", &stack.name)], steady);
    }
    let help = "Whether every stack is left alone, as a person wants it: 1 or 0.";
    out.one("evenkeel_suspended", help, flag(status.suspended.is_some()));
    out.gauge("evenkeel_stack_suspended", "Whether a stack is left alone, by itself or with all: 1 or 0.");
    for stack in &status.stacks {
        let is_suspended = stack.suspended.is_some() || status.suspended.is_some();
        out.sample("evenkeel_stack_suspended", &[("stack", &stack.name)], flag(is_suspended));
    }
    out.gauge("evenkeel_stack_drift", "In how many things the server differs from the stack's release.");
    for stack in &status.stacks {
        out.sample("evenkeel_stack_drift", &[("stack", &stack.name)], float(stack.drift.len() as u64));
    }
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// A count beyond 32 bits would take an agent centuries.
fn float(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

fn signed(count: i64) -> f64 {
    float(u64::try_from(count).unwrap_or_default())
}

/// Milliseconds as seconds.
fn seconds(ms: i64) -> f64 {
    std::time::Duration::from_millis(u64::try_from(ms).unwrap_or_default()).as_secs_f64()
}

/// The text as it grows.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // A `String` takes whatever is written.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.family(name, "gauge", help);
    }

    fn one(&mut self, name: &str, help: &str, value: f64) {
        self.gauge(name, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (position, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if position == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_values_are_as_the_format_has_them() {
        let mut text = Text(String::new());
        text.one("a_seconds", "Help.", seconds(1_763_719_723_250));
        text.sample("b", &[("x", "q\"u\\o\nte"), ("y", "z")], float(3));
        assert_eq!(
            text.0,
            "# HELP a_seconds Help.\n# TYPE a_seconds gauge\na_seconds 1763719723.25\nb{x=\"q\\\"u\\\\o\\nte\",y=\"z\"} 3\n"
        );
    }
}
