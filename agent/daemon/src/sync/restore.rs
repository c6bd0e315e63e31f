//! A person wants data back from a snapshot: a deployment of the release that runs, with other data.

use evenkeel_core::{
    change::{ServiceChange, ServiceChangeKind, Why, WhyKind},
    journal::{Purpose, Restore},
    outcome::Outcome,
    people::{Stated, Told},
    reason::{Code, Reason},
    release::Release,
};
use evenkeel_layout::name::StackName;

use super::{Fault, deploy, put_back::refuse_to_observe};
use crate::{
    git::Repo,
    host::{Host, messages},
    run::{Deployment, Intent, Run, SyncEnd},
    steps::restore::plan,
    store::{Store, Words},
};

/// What a person wants back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreOrder {
    /// The stack.
    pub stack: StackName,
    /// The beginning of the snapshot's id; `None` for the newest of the stack.
    pub snapshot: Option<String>,
    /// Who, and why.
    pub stated: Stated,
}

/// Brings it back, with a record of who wanted it and how it ended.
pub async fn restore(host: &Host, order: &RestoreOrder) -> SyncEnd {
    let detail =
        order.snapshot.as_deref().map_or_else(|| "the newest snapshot".to_owned(), |id| format!("snapshot {id}"));
    let stack = Some(order.stack.as_str());
    let words = Words { told: Told::Restore, stack, stated: &order.stated, detail: Some(&detail) };
    let run = match Run::begin_told(host, "restore", words) {
        Ok(run) => run,
        Err(error) => return SyncEnd::failed(None, Outcome::Halted, error.reason()),
    };
    let id = run.id;
    let end = match line(host, &run, order).await {
        Ok(()) => run.conclude(),
        Err(fault) => run.fail(fault.outcome, fault.reason),
    };
    end.unwrap_or_else(|error| SyncEnd::failed(Some(id), Outcome::Halted, error.reason()))
}

async fn line(host: &Host, run: &Run<'_>, order: &RestoreOrder) -> Result<(), Fault> {
    refuse_to_observe(host)?;
    let release = running(&host.store, &order.stack)?;
    if let Some(reason) = host.own_stack(&order.stack, &release.project, &release.model) {
        return Err(Fault { outcome: Outcome::Held, reason });
    }
    let repo = Repo::open(&host.mirror()).ok();
    run.set_commit(messages::commit(repo.as_ref(), &release.commit, None))?;
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let wanted = plan(host, &release, order.snapshot.as_deref(), &stamp).await?;
    exchange(run, &release, wanted).await.map_err(Fault::of)
}

/// Runs the release on with data of a snapshot: the way of any deployment, back included.
async fn exchange(run: &Run<'_>, release: &Release, wanted: Restore) -> Result<(), Reason> {
    let why = Why { kind: WhyKind::Other, name: format!("data of snapshot {}", wanted.snapshot) };
    let change = |service: &str| ServiceChange {
        service: service.to_owned(),
        change: ServiceChangeKind::Recreate,
        why: vec![why.clone()],
    };
    let changes: Vec<ServiceChange> = release.model.services().into_keys().map(change).collect();
    let intent = Intent {
        sync: run.id,
        stack: &release.stack,
        digest: Some(release.digest.clone()),
        from: Some(release),
        commit: run.commit(),
        changes: &changes,
        purpose: Purpose::Restore(wanted),
        group: None,
    };
    let deployment = Deployment::intend(run.host, &intent).map_err(|e| e.reason())?;
    deploy::drive(run, deployment, None).await
}

/// The release that the data is for.
pub fn running(store: &Store, stack: &StackName) -> Result<Release, Reason> {
    let found = store.current_releases().map_err(|e| e.reason())?.remove(stack);
    found.ok_or_else(|| {
        let what = format!("{stack} has no release that the data would be for; deploy it first, then restore");
        Reason::new(Code::ReleaseGone, what)
    })
}
