//! How a stack's problems are told: with the line that they are about, as severe as the place has it.

use evenkeel_core::reason::Code;
use evenkeel_layout::{
    problem::{Problem, Severity},
    set::Origin,
    yaml::{self, Step},
};

use super::{Place, Work};
use crate::compose::render::RenderError;

impl Work<'_> {
    pub(super) fn unset(&self, mut problem: Problem) -> Problem {
        if self.input.place == Place::Elsewhere {
            problem.severity = Severity::Warning;
        }
        problem
    }

    /// Which paths of the host may be read is the server's to say; one that climbs out of the repository is wrong anywhere.
    pub(super) fn host_path(&self, mut problem: Problem) -> Problem {
        let line = problem.path.as_deref().zip(problem.line).and_then(|(path, line)| {
            let bytes = self.input.tree.read(path).ok()??;
            String::from_utf8_lossy(&bytes).lines().nth(line as usize - 1).map(str::to_owned)
        });
        let climbs = line.is_none_or(|line| line.contains(".."));
        if self.input.place == Place::Elsewhere && problem.code == "path.outside" && !climbs {
            problem.severity = Severity::Warning;
        }
        problem
    }

    /// Of a stack that is merged from what lies at the root, a part may not be meant for this place.
    fn of_part(&self, mut problem: Problem) -> Problem {
        let layers = self.stack.layers.iter().skip(1);
        let part = layers.filter(|l| l.origin == Origin::Root).find(|l| problem.path.as_deref() == Some(&l.path));
        if part.is_some() {
            problem.help.push_str("; if this part is for another place, list it under `ignore:` in evenkeel.yml");
        }
        problem
    }

    pub(super) fn render_failed(&mut self, error: RenderError) {
        let problem = match error {
            RenderError::Refused(problems) => {
                let problems =
                    problems.into_iter().map(|p| if p.code == "env.unset" { self.unset(p) } else { self.of_part(p) });
                self.problems.extend(problems.collect::<Vec<_>>());
                return;
            }
            RenderError::Compose(e) => {
                let code = e.code().map_or("compose.failed", Code::as_str);
                Problem::error(code, e.to_string(), "try again; if it stays, run `docker compose config` by hand")
            }
            RenderError::Prepare(e) => {
                let message = RenderError::Prepare(e).to_string();
                Problem::error("compose.failed", message, "make room in the temporary folder")
            }
        };
        self.problems.push(problem);
    }

    /// Adds problems, each with the line of what it speaks of.
    pub(super) fn note(&mut self, found: Vec<Problem>) {
        let found: Vec<Problem> = found.into_iter().map(|problem| self.located(problem)).collect();
        self.problems.extend(found);
    }

    /// Finds the line of what a problem speaks of: its message begins with the keys.
    pub(super) fn located(&self, problem: Problem) -> Problem {
        if problem.path.is_some() {
            return problem;
        }
        let keys: Vec<Step<'_>> =
            problem.message.split(' ').next().unwrap_or_default().split('.').map(Step::Key).collect();
        let found = self.stack.layers.iter().rev().find_map(|layer| {
            let bytes = self.input.tree.read(&layer.path).ok()??;
            Some((layer.path.clone(), yaml::line_of(yaml::decode(&bytes).ok()?, &keys)?))
        });
        match found {
            Some((path, line)) => problem.at(path, Some(line)),
            None => problem,
        }
    }
}
