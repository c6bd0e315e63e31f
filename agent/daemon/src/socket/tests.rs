use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use evenkeel_core::{
    answer::{Explanation, Releases},
    outcome::{History, Outcome, Status},
};
use futures_util::future::BoxFuture;

use super::*;
use crate::host::acceptance::{AcceptEnd, AcceptRequest};

struct Canned;

impl Answers for Canned {
    fn snapshots(&self, _: Option<String>) -> BoxFuture<'_, Result<evenkeel_core::answer::Snapshots, Refusal>> {
        Box::pin(async { Ok(evenkeel_core::answer::Snapshots { schema: 1, snapshots: Vec::new() }) })
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, String>> {
        Box::pin(async { Err("the store cannot be read".to_owned()) })
    }

    fn activity(&self) -> ActivityAnswer {
        ActivityAnswer { schema: 1, activity: None }
    }

    fn history(&self, limit: usize) -> Result<History, String> {
        assert_eq!(limit, 7);
        Ok(History { schema: 1, syncs: vec![], interventions: vec![] })
    }

    fn sync(&self) -> BoxFuture<'_, Result<SyncAnswer, String>> {
        let answer = SyncAnswer { schema: 1, outcome: Outcome::Committed, reason: None, exit: 0, sync: None };
        Box::pin(async { Ok(answer) })
    }

    fn releases(&self, stack: Option<&str>) -> Result<Releases, Refusal> {
        assert_eq!(stack, Some("web"));
        Ok(Releases { schema: 1, releases: vec![] })
    }

    fn explain(&self, _: Option<String>) -> BoxFuture<'_, Result<Explanation, Refusal>> {
        let refusal = Refusal::new(Exit::Usage, "stack.unknown", "this server knows no stack", "look at the status");
        Box::pin(async { Err(refusal) })
    }

    fn tell(&self, by: Person, tell: Tell) -> BoxFuture<'_, Result<TellAnswer, Refusal>> {
        let said = tell.reason().to_owned();
        Box::pin(async {
            Ok(TellAnswer { schema: 1, told: Told::Override, stack: None, by, said, until: None, sync: None })
        })
    }

    fn accept_commit(&self, by: Person, request: AcceptRequest) -> BoxFuture<'_, Result<AcceptEnd, Refusal>> {
        assert_eq!((request.why.as_str(), by), ("a reset", myself()));
        Box::pin(async { Ok(AcceptEnd::Moved) })
    }
}

#[tokio::test]
async fn the_command_line_gets_the_agents_answers_and_its_refusals() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/agent.sock");
    let listener = bind(&path).unwrap();
    let server = tokio::spawn(serve(listener, Arc::new(Canned), std::future::pending()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(history(&path, 7).await.unwrap().syncs, []);
    assert_eq!(sync(&path).await.unwrap().outcome, Outcome::Committed);
    assert_eq!(releases(&path, Some("web")).await.unwrap().releases, []);
    let declined = explain(&path, None).await.unwrap_err();
    assert!(matches!(&declined, ClientError::Declined(why) if why.exit == 2 && !why.help.is_empty()), "{declined}");
    let commit = evenkeel_core::id::CommitId::new(&"ab".repeat(20)).unwrap();
    let request = AcceptRequest { commit, from: None, why: "a reset".to_owned() };
    assert_eq!(accept_commit(&path, &request).await.unwrap(), AcceptEnd::Moved);
    let refused = status(&path).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused(why) if why.contains("the store")), "{refused}");
    server.abort();
}

#[tokio::test]
async fn the_agent_learns_from_the_kernel_who_tells_it_something() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let server = tokio::spawn(serve(bind(&path).unwrap(), Arc::new(Canned), std::future::pending()));
    let answer = tell(&path, &Tell::Override { reason: "it cannot wait".to_owned() }).await.unwrap();
    assert_eq!(answer.by, myself());
    assert_eq!(answer.said, "it cannot wait");
    server.abort();
}

#[tokio::test]
async fn a_second_agent_does_not_take_a_socket_that_is_answered_and_does_take_a_dead_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let first = bind(&path).unwrap();
    assert!(matches!(bind(&path), Err(BindError::InUse(_))));
    drop(first);
    assert!(path.exists());
    bind(&path).unwrap();
}

#[tokio::test]
async fn without_an_agent_the_error_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    assert!(matches!(status(&path).await, Err(ClientError::NotRunning(p)) if p == path));
}
