//! Trust, asked: may the fetched tip run? What is accepted or refused is in the store when this returns.

use evenkeel_core::{
    outcome::Outcome,
    reason::{Code, Reason},
    trust::{self, Accepted},
};

use super::Fault;
use crate::{
    config::settings::Event,
    git::{
        self, Repo,
        apart::{Question, Revision},
    },
    host::{
        Host,
        messages::{self, Happening},
        now_ms,
    },
    run::Run,
    store::RefusedTip,
};

/// Judges the tip. What is accepted is durable at once, whatever the deployments then do.
pub(super) async fn judge(
    host: &Host,
    run: &Run<'_>,
    fetched: git::Fetched,
) -> Result<Result<Revision, Fault>, Reason> {
    let (mirror, settings) = (host.mirror(), host.settings.clone());
    let accepted = host.store.accepted().map_err(|e| e.reason())?;
    let accepted = accepted.map(|(commit, payload)| Accepted { commit, payload });
    let known = accepted.clone();
    let traces = traces(host, known.as_ref()).await?;
    let tip = fetched.tip.clone();
    let question = Question {
        mirror,
        trust: settings.trust.clone(),
        reference: settings.source.reference.clone(),
        tip,
        accepted,
        beside: None,
        now_unix: now_ms() / 1000,
    };
    // Of the accepted tip nothing is read but what was read before: that needs no process of its own.
    let is_accepted = question.accepted.as_ref().is_some_and(|accepted| accepted.commit == question.tip);
    let apart = if is_accepted { None } else { Some(question.decide_apart().await.map_err(|e| e.reason())?) };
    let judged = tokio::task::spawn_blocking(move || {
        let verdict = match apart.map_or_else(|| question.decide(), Ok)? {
            // Only what may run otherwise is worth a person's look.
            Ok(revision) => {
                let (policy, _) = git::policy(&question.trust, &question.reference, question.now_unix)?;
                trust::may_begin(&policy, &question.tip, &traces).map(|()| revision)
            }
            refused => refused,
        };
        let repo = Repo::open(&question.mirror)?;
        let commit = messages::commit(Some(&repo), &question.tip, verdict.as_ref().ok());
        Ok::<_, git::GitError>((verdict, commit))
    })
    .await
    .map_err(|_| Reason::new(Code::Internal, "judging the commits panicked; please report this"))?;
    let (verdict, commit) = judged.map_err(|e| e.reason())?;
    run.set_commit(commit).map_err(|e| e.reason())?;
    match verdict {
        Ok(revision) => {
            let was_refused = host.store.source_state().map_err(|e| e.reason())?.refused.is_some();
            if was_refused || known.as_ref() != Some(&revision.accepted()) {
                remember(host, known.as_ref(), &revision)?;
            }
            if was_refused {
                run.tell_whole(Event::Recovered, Outcome::Committed, None)?;
            }
            Ok(Ok(revision))
        }
        Err(refusal) => {
            let reason = refusal.to_reason();
            let refused = RefusedTip {
                tip: fetched.tip.to_string(),
                commit: refusal.commit.to_string(),
                code: refusal.code.as_str().to_owned(),
                message: reason.message.clone(),
            };
            if host.store.refuse(&refused).map_err(|e| e.reason())? {
                run.tell_whole(Event::Refused, Outcome::Refused, Some(&reason))?;
            }
            Ok(Err(Fault { outcome: Outcome::Refused, reason }))
        }
    }
}

/// Makes the revision the accepted one, unless a person chose another one since it was judged.
fn remember(host: &Host, known: Option<&Accepted>, revision: &Revision) -> Result<(), Reason> {
    let (from, new) = (known.map(|k| &k.commit), (revision.tip(), revision.payload_digest()));
    if host.store.accept(from, new, now_ms()).map_err(|e| e.reason())? {
        return Ok(());
    }
    let what = "a person accepted another commit meanwhile; the next sync goes on from there";
    Err(Reason::new(Code::Interrupted, what))
}

/// What an agent whose state is gone had deployed here. One that has accepted a commit has its state.
async fn traces(host: &Host, accepted: Option<&Accepted>) -> Result<Vec<String>, Reason> {
    if accepted.is_some() {
        return Ok(Vec::new());
    }
    let found = host.engine.deployed_from(&host.models(), &host.settings.paths.live).await;
    let projects = found.map_err(|e| e.reason(Code::EngineUnreachable))?;
    Ok(projects.into_iter().map(|project| format!("the Compose project {project}")).collect())
}

impl Run<'_> {
    /// Tells of something that concerns the whole commit.
    fn tell_whole(&self, event: Event, outcome: Outcome, reason: Option<&Reason>) -> Result<(), Reason> {
        let happened = Happening { commit: self.commit(), ..Happening::of_the_whole(event, outcome, reason) };
        let messages = self.host.tell(&happened);
        self.host.store.enqueue(&messages, now_ms()).map_err(|e| e.reason())?;
        self.host.outbox.notify_one();
        Ok(())
    }
}
