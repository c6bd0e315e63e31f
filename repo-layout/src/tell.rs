//! What is wrong between stacks: names and projects that two of them have.

use std::collections::BTreeMap;

use crate::{join::Ready, name::ServerName, problem::Problem, project::Project, repo::Repo};

/// Two stacks of one name: nobody can say which one is meant, so neither is taken. `ready` is sorted by name.
pub(crate) fn names(repo: &Repo<'_>, server: &ServerName, ready: &mut Vec<Ready>) {
    for pair in ready.windows(2).filter(|pair| pair[0].name == pair[1].name) {
        let message = format!("{} and {} are both the stack {}", pair[0].path(), pair[1].path(), pair[1].name);
        let help = "rename one of them, or remove one";
        let problem = Problem::error("stack.duplicate", message, help).on_server(server);
        repo.note(problem.in_stack(&pair[1].name).at(pair[1].path(), None));
    }
    ready.dedup_by(|a, b| a.name == b.name);
}

/// Projects that no name can be made of, that nobody knows, or that two stacks have.
pub(crate) fn projects(repo: &Repo<'_>, server: &ServerName, ready: &[Ready]) {
    let mut owners: BTreeMap<&Project, &Ready> = BTreeMap::new();
    for one in ready {
        if let Project::Bad { why, line } = &one.project {
            let help = "set a top-level `name:` of a-z, 0-9, _ and -, beginning with a letter or a digit";
            let path = if line.is_some() { named_in(one) } else { one.path() };
            repo.note(Problem::error("project.invalid", why, help).in_stack(&one.name).at(path, *line));
            continue;
        }
        if one.project == Project::Checkout {
            let message = "the project is named after the folder that the repository lies in";
            let help = "state it with a top-level `name:`, so that it is the same everywhere";
            let path = one.draft.layers.first().map_or("", |l| l.path.as_str());
            repo.note(Problem::warning("project.unnamed", message, help).in_stack(&one.name).at(path, None));
        }
        let Some(other) = owners.insert(&one.project, one) else { continue };
        let Some(shown) = one.project.shown() else { continue };
        for (this, that) in [(one, other), (other, one)] {
            let message = format!("the stacks {} and {} have the same project, {shown}", this.name, that.name);
            let help = "give one of them another top-level `name:`; one would take the other's containers down";
            let problem = Problem::error("project.duplicate", message, help).on_server(server);
            repo.note(problem.in_stack(&this.name).at(this.path(), None));
        }
    }
}

/// The layer whose `name:` counts.
fn named_in(one: &Ready) -> &str {
    let pairs = one.draft.layers.iter().zip(&one.files);
    pairs.rev().find(|(_, file)| file.name.is_some()).map_or("", |(layer, _)| layer.path.as_str())
}
