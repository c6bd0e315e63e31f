//! Taking over what somebody else started: containers that are what a stack wants already stay as they run.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_core::{
    adopt::{self, Wanted},
    health::{Activity, Expectations, expectations},
    id::ImageId,
    journal::ApplyPermit,
    reason::{Code, Reason},
    release::Release,
};

use crate::{
    engine::{Container, EngineError},
    host::{Host, adoption},
};

/// Finds the services of a first release whose containers stay, and notes on the release which containers these are: what
/// this deployment made itself is not among them.
pub async fn take_over(
    host: &Host,
    permit: &ApplyPermit,
    to: &Release,
    other: Option<&Release>,
) -> Result<BTreeSet<String>, Reason> {
    if other.is_some() || permit.is_back() || permit.before().is_empty() {
        return Ok(BTreeSet::new());
    }
    let found = host.engine.found(&to.project).await.map_err(|e| e.reason(Code::ApplyFailed))?;
    let images: BTreeMap<String, ImageId> =
        to.images.iter().map(|(service, image)| (service.clone(), image.id.clone())).collect();
    let changed = adoption::changed(host.live.root(), &to.files);
    let wanted = Wanted { model: &to.model, project: &to.project, images: &images, changed: &changed };
    let stays: Vec<_> = adopt::judge(&wanted, &found).into_iter().filter(adopt::Judged::stays).collect();
    let containers = stays.iter().flat_map(|judged| &judged.containers);
    let adopted: BTreeSet<String> = containers.filter(|id| permit.before().contains(id)).cloned().collect();
    let services: BTreeSet<String> = stays.iter().map(|judged| judged.service.clone()).collect();
    if to.adopted.as_ref() != Some(&adopted) {
        tracing::info!(stack = %to.stack, ?services, containers = adopted.len(), "taking over what runs already");
        let noted = Release { adopted: Some(adopted), ..to.clone() };
        host.store.amend(&noted).map_err(|e| e.reason())?;
    }
    Ok(services)
}

/// Puts back what stood before a first release, as far as it can be: of all that is there only what this deployment made
/// goes. What stood runs on, and what this deployment stopped is started again.
pub async fn leave(host: &Host, permit: &ApplyPermit, release: &Release) -> Result<(), Reason> {
    let failed = |e: EngineError| e.reason(Code::ApplyFailed);
    let standing = host.engine.project(&release.project).await.map_err(failed)?;
    let before = Before { stood: permit.stood(), ailing: permit.ailing() };
    let back = way_back(&expectations(&release.model), before, &standing);
    if back.lost > 0 {
        let services: BTreeSet<&str> = back.remove.iter().map(|c| c.service.as_str()).collect();
        let lost = back.lost;
        tracing::warn!(stack = %release.stack, lost, ?services, "containers that stood before were replaced already and cannot be put back");
    }
    for container in back.remove {
        tracing::info!(stack = %release.stack, container = container.name, "removing: this deployment made it");
        host.engine.retire(&container.id).await.map_err(failed)?;
    }
    for container in back.start {
        tracing::info!(stack = %release.stack, container = container.name, "starting again: it ran before");
        host.engine.start(&container.id).await.map_err(failed)?;
    }
    tracing::warn!(stack = %release.stack, "what stood before this deployment runs on, and the files stay");
    Ok(())
}

/// The containers of a project before the deployment.
#[derive(Clone, Copy)]
struct Before<'a> {
    stood: &'a [String],
    /// Those of them that were not well.
    ailing: &'a [String],
}

/// What is to be done to have again what stood.
struct WayBack<'a> {
    remove: Vec<&'a Container>,
    start: Vec<&'a Container>,
    /// How many of those that stood are gone.
    lost: usize,
}

fn way_back<'a>(services: &Expectations, before: Before<'_>, standing: &'a [Container]) -> WayBack<'a> {
    let (old, new): (Vec<&Container>, Vec<&Container>) = standing.iter().partition(|c| before.stood.contains(&c.id));
    let lost = before.stood.iter().filter(|id| !old.iter().any(|c| c.id == **id)).count();
    let was_stopped = |c: &&Container| {
        let expected = services.get(&c.service);
        let ended = |code| code == 0 && expected.is_some_and(|expected| expected.may_end);
        let is_down = matches!(c.activity, Activity::Exited(code) if !ended(code));
        expected.is_some() && is_down && !before.ailing.contains(&c.id)
    };
    WayBack {
        remove: new.into_iter().filter(|c| services.contains_key(&c.service)).collect(),
        start: old.into_iter().filter(was_stopped).collect(),
        lost,
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_core::{health::Health, model::Model};

    use super::*;

    fn container(id: &str, service: &str, activity: Activity) -> Container {
        let (id, service) = (id.to_owned(), service.to_owned());
        Container { name: format!("p-{id}"), id, project: "p".to_owned(), service, activity, health: Health::None }
    }

    #[test]
    fn on_the_way_back_only_what_the_deployment_made_goes_and_what_it_stopped_is_started() {
        let model = r#"{"services": {"app": {"image": "x"}, "new": {"image": "x"}, "sick": {"image": "x"}}}"#;
        let services = expectations(&Model::parse(model).unwrap());
        let stood = ["running", "stopped", "sick", "replaced", "other"].map(str::to_owned);
        let ailing = ["sick".to_owned()];
        let standing = [
            container("running", "app", Activity::Running),
            container("stopped", "app", Activity::Exited(137)),
            container("sick", "sick", Activity::Exited(1)),
            container("other", "of-somebody", Activity::Exited(1)),
            container("replacement", "app", Activity::Created),
            container("new", "new", Activity::Running),
            container("by-hand", "of-somebody", Activity::Running),
        ];
        let back = way_back(&services, Before { stood: &stood, ailing: &ailing }, &standing);
        let ids = |containers: &[&Container]| containers.iter().map(|c| c.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&back.remove), ["replacement", "new"]);
        assert_eq!(ids(&back.start), ["stopped"]);
        assert_eq!(back.lost, 1);
    }
}
