//! The one stack that the agent does not manage: the one that it runs in itself.

use evenkeel_core::{
    model::Model,
    reason::{Code, Reason},
};
use evenkeel_layout::name::StackName;

use super::Host;

impl Host {
    /// Why this stack is left alone, if the agent itself runs in it.
    pub fn own_stack(&self, stack: &StackName, project: &str, model: &Model) -> Option<Reason> {
        let own = self.own.as_ref()?;
        let services = model.services();
        let is_named_so = services.values().any(|s| s.value()["container_name"].as_str() == Some(own.name.as_str()));
        if own.project.as_deref() != Some(project) && !is_named_so {
            return None;
        }
        let files = own.files().map(|files| format!("bring {files} up to date, then ")).unwrap_or_default();
        let what = format!(
            "{stack} is what this agent runs in itself (the container {}): it would end itself in the middle of its work, so \
             it leaves this stack alone. To update it, on the server: {files}{}",
            own.name,
            own.update()
        );
        Some(Reason::new(Code::HeldAsOwn, what))
    }
}
