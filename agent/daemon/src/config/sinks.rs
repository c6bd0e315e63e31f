//! `reports:`: who is told of what.

use std::collections::BTreeSet;

use super::{
    read::url_of,
    section::{Found, Read, Recorded, Section},
    settings::{Event, Sink, SinkKind},
    value,
};

/// Every event and its word.
const EVENTS: [(&str, Event); 9] = [
    ("deployed", Event::Deployed),
    ("rolled_back", Event::RolledBack),
    ("refused", Event::Refused),
    ("held", Event::Held),
    ("halted", Event::Halted),
    ("drift", Event::Drift),
    ("recovered", Event::Recovered),
    ("stale", Event::Stale),
    ("backup", Event::Backup),
];

/// More sinks than anyone has; each costs a delivery for each event.
const MAX_SINKS: usize = 50;

/// Reads the list.
pub(super) fn sinks(list: &Found<'_, '_>) -> Read<Vec<Sink>> {
    let items = list.items()?;
    if items.len() > MAX_SINKS {
        return list.wrong(format!("has more than {MAX_SINKS} entries"), "remove some");
    }
    let mut numbers = [0_usize; 3];
    // Every item is read, so that the problems of all are told; the first bad one then spoils the list.
    let sinks: Vec<Read<Sink>> =
        items.into_iter().map(|item| item.section().and_then(|item| sink(item, &mut numbers))).collect();
    sinks.into_iter().collect()
}

/// Reads one item. `numbers` counts the sinks of each kind so far: a name must not change when another kind is added.
fn sink(item: Section<'_, '_>, numbers: &mut [usize; 3]) -> Read<Sink> {
    let on = item.find("on").map_or_else(|| Ok(default_events()), |list| events(&list));
    let (webhook, discord, ntfy) = (item.find("webhook"), item.find("discord"), item.find("ntfy"));
    let kinds = [webhook.is_some(), discord.is_some(), ntfy.is_some()];
    if kinds.iter().filter(|given| **given).count() != 1 {
        item.wrong_here("must name exactly one sink", "write one of webhook, discord, ntfy in each item of the list");
    }
    let webhook = webhook.map(|found| self::webhook(found.section()?));
    let discord = discord.map(|found| self::discord(found.section()?));
    let ntfy = ntfy.map(|found| self::ntfy(found.section()?));
    item.finish();
    let kind = webhook.or(discord).or(ntfy).ok_or(Recorded)??;
    let (word, number) = match kind {
        SinkKind::Webhook { .. } => ("webhook", &mut numbers[0]),
        SinkKind::Discord { .. } => ("discord", &mut numbers[1]),
        SinkKind::Ntfy { .. } => ("ntfy", &mut numbers[2]),
    };
    *number += 1;
    Ok(Sink { name: format!("{word}-{number}"), on: on?, kind })
}

/// All but `held`, which says only that another stack's trouble has consequences.
fn default_events() -> BTreeSet<Event> {
    EVENTS.into_iter().map(|(_, event)| event).filter(|event| *event != Event::Held).collect()
}

fn events(list: &Found<'_, '_>) -> Read<BTreeSet<Event>> {
    let items = list.items()?;
    if items.is_empty() {
        return list.wrong("is empty, so nobody would ever be told", "name an event, or remove the whole sink");
    }
    let events: Vec<Read<Event>> = items.iter().map(|item| item.choice(&EVENTS)).collect();
    events.into_iter().collect()
}

fn webhook(webhook: Section<'_, '_>) -> Read<SinkKind> {
    let url = webhook
        .require("url", "write the URL that takes the reports")
        .and_then(|found| url_of(&found, &["https", "http"]));
    let secret_file = webhook.required_secret("secret_file", "name the file that holds the key of the signature");
    webhook.finish();
    Ok(SinkKind::Webhook { url: url?, secret_file: secret_file? })
}

fn discord(discord: Section<'_, '_>) -> Read<SinkKind> {
    let help = "write the webhook's URL into a file of mode 0600 and name that file: the URL is itself a secret";
    let url_file = discord.required_secret("url_file", help);
    discord.finish();
    Ok(SinkKind::Discord { url_file: url_file? })
}

fn ntfy(ntfy: Section<'_, '_>) -> Read<SinkKind> {
    let help = "write the topic's URL, such as https://ntfy.sh/your-topic";
    let url = ntfy.require("url", help).and_then(|found| {
        let url = url_of(&found, &["https", "http"])?;
        if topic_of(&url).is_some() { Ok(url) } else { found.wrong("does not end in a topic", help) }
    });
    let token_file = ntfy.secret_file("token_file");
    ntfy.finish();
    Ok(SinkKind::Ntfy { url: url?, token_file: token_file? })
}

/// The server's URL and the topic of an ntfy topic's URL.
pub(crate) fn topic_of(url: &str) -> Option<(reqwest::Url, String)> {
    let mut url = value::checked_url(url, &["https", "http"]).ok()?;
    let topic = url.path_segments()?.next_back()?.to_owned();
    // ntfy's own rule for topics.
    let good = (1..=64).contains(&topic.len())
        && topic.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        && url.query().is_none();
    url.path_segments_mut().ok()?.pop().push("");
    good.then_some((url, topic))
}
