//! `.env.example`: where a repository says which variables somebody has to set.

use evenkeel_core::{
    path::{join, parent},
    slice,
};
use evenkeel_layout::{name::ServerName, problem::Problem, set::Stack, tree::Tree};

/// Its name.
const NAME: &str = ".env.example";

/// The examples that speak of a stack's variables, nearest first: their paths and texts.
pub struct Examples(Vec<(String, String)>);

impl Examples {
    /// Reads those beside the stack's files and in the folders above, and the server's.
    pub fn of(tree: &dyn Tree, stack: &Stack, server: &ServerName) -> Self {
        let above = |path: &str| {
            std::iter::successors(Some(parent(path).to_owned()), |at| (!at.is_empty()).then(|| parent(at).to_owned()))
                .collect::<Vec<_>>()
        };
        let beside = stack.layers.iter().rev().flat_map(|layer| above(&layer.path));
        let of_server = join("servers", server.as_str());
        let mut folders: Vec<String> = Vec::new();
        for folder in beside.chain([of_server]) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        let found = folders.into_iter().filter_map(|folder| {
            let path = join(&folder, NAME);
            // One that cannot be read helps nobody, and is no fault of the stack.
            let (bytes, _) = slice::content(tree, &path).ok()??;
            Some((path, String::from_utf8_lossy(&bytes).into_owned()))
        });
        Self(found.collect())
    }

    /// Says in the remedy of a variable that is set nowhere which example names it.
    pub fn point_out(&self, problem: &mut Problem) {
        let name = problem.message.strip_prefix("the variable ").and_then(|rest| rest.split(' ').next());
        let Some(name) = name.filter(|_| problem.code == "env.unset") else { return };
        let names_it = |line: &str| {
            let line = line.trim_start_matches(['#', ' ']);
            let line = line.strip_prefix("export ").unwrap_or(line);
            line.split_once('=').is_some_and(|(key, _)| key.trim() == name)
        };
        if let Some((path, _)) = self.0.iter().find(|(_, text)| text.lines().any(names_it)) {
            problem.help = format!("{path} says what it is for; {}", problem.help);
        }
    }
}

#[cfg(test)]
mod tests {
    use evenkeel_layout::{
        name::StackName,
        set::{Layer, Origin},
        tree::MapTree,
    };

    use super::*;

    #[test]
    fn the_nearest_example_that_names_a_variable_is_pointed_out() {
        let tree = MapTree::new([
            (".env.example", "# everything\nTZ=Europe/Berlin\nTOKEN=\n"),
            ("stacks/web/.env.example", "# the token of the API\n# TOKEN=abc\n"),
            ("servers/home/.env.example", "DOMAIN=example.org\n"),
        ]);
        let layers = vec![Layer::new("stacks/web/compose.yml", Origin::Folder)];
        let stack = Stack::new(StackName::new("web").unwrap(), layers);
        let examples = Examples::of(&tree, &stack, &ServerName::new("home").unwrap());
        let help = |message: &str| {
            let mut problem = Problem::error("env.unset", message, "set it");
            examples.point_out(&mut problem);
            problem.help
        };
        assert_eq!(
            help("the variable TOKEN is used and set nowhere"),
            "stacks/web/.env.example says what it is for; set it"
        );
        assert_eq!(help("the variable TZ must be set and is not"), ".env.example says what it is for; set it");
        assert_eq!(help("the variable DOMAIN is used"), "servers/home/.env.example says what it is for; set it");
        assert_eq!(help("the variable OTHER is used and set nowhere"), "set it");
        assert_eq!(help("a value in an environment file"), "set it");
    }
}
