//! The house rules that no compiler checks: modules import from lower layers only, and the pure crates stay pure.
//!
//! The layers are read from `ARCHITECTURE.md`, so that the document and the code agree. This file needs nothing but
//! the standard library: `make lint` compiles it alone.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a house rule that cannot be checked is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Crates that decide: no I/O, no async runtime, no clock.
const PURE: [&str; 2] = ["evenkeel-layout", "evenkeel-core"];

/// What a pure crate may not pull in, not even through another crate. A trailing `*` stands for any rest.
const IMPURE: &[&str] =
    &["axum", "bollard*", "gix*", "git2", "hyper", "hyper-util", "mio", "notify", "reqwest", "rusqlite", "tokio*"];

fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("tests"), PathBuf::from);
    here.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

// ---------------------------------------------------------------- the table

/// Module name to layer; an import must go from a higher number to a lower one.
type Layers = BTreeMap<String, u32>;

/// Reads the tables of the section `## Layers`: crate folder to its layers.
fn layers(markdown: &str) -> Result<BTreeMap<String, Layers>, String> {
    let mut crates: BTreeMap<String, Layers> = BTreeMap::new();
    let (mut inside, mut folder) = (false, None);
    for (n, line) in markdown.lines().enumerate() {
        if let Some(title) = line.strip_prefix("## ") {
            inside = title.trim() == "Layers";
        } else if let Some(title) = line.strip_prefix("### ") {
            folder = ticked(title).into_iter().next();
        } else if inside && let (Some(folder), Some(row)) = (&folder, line.strip_prefix('|')) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let Some(layer) = cells.first().and_then(|c| c.parse().ok()) else { continue };
            let modules = cells.get(1).map(|c| ticked(c)).unwrap_or_default();
            if modules.is_empty() {
                return Err(format!("ARCHITECTURE.md:{}: no module in backticks in the second column", n + 1));
            }
            for module in modules {
                if crates.entry(folder.clone()).or_default().insert(module.clone(), layer).is_some() {
                    return Err(format!("ARCHITECTURE.md:{}: `{module}` has two rows", n + 1));
                }
            }
        }
    }
    Ok(crates)
}

/// The words in backticks.
fn ticked(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(|w| w.trim_end_matches('/').to_owned()).collect()
}

// ---------------------------------------------------------------- the source

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    word: String,
}

/// Identifiers, `::`, and single signs; without comments, strings and characters.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut out, mut i, mut line) = (Vec::new(), 0, 1);
    while i < chars.len() {
        let start = i;
        match at(i) {
            '/' if at(i + 1) == '/' => i = skip_while(&chars, i, |c| c != '\n'),
            '/' if at(i + 1) == '*' => i = skip_comment(&chars, i),
            '"' => i = skip_string(&chars, i),
            '\'' => i = skip_quote(&chars, i),
            c if c.is_alphabetic() || c == '_' => {
                i = skip_while(&chars, i, |c| c.is_alphanumeric() || c == '_');
                let word: String = chars[start..i].iter().collect();
                match (word.as_str(), at(i), at(i + 1)) {
                    ("r" | "br" | "cr", '"', _) | ("r" | "br" | "cr", '#', '"' | '#') => i = skip_raw(&chars, i),
                    ("r", '#', _) => i += 1,
                    _ => out.push(Token { line, word }),
                }
            }
            ':' if at(i + 1) == ':' => {
                i += 2;
                out.push(Token { line, word: "::".to_owned() });
            }
            c => {
                i += 1;
                if !c.is_whitespace() {
                    out.push(Token { line, word: c.to_string() });
                }
            }
        }
        line += chars[start..i.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    out
}

fn skip_while(chars: &[char], mut i: usize, go_on: impl Fn(char) -> bool) -> usize {
    while i < chars.len() && go_on(chars[i]) {
        i += 1;
    }
    i
}

/// Block comments nest.
fn skip_comment(chars: &[char], mut i: usize) -> usize {
    let mut depth = 0;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn skip_string(chars: &[char], mut i: usize) -> usize {
    i += 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// `i` is at the first `#` or quote after `r`.
fn skip_raw(chars: &[char], i: usize) -> usize {
    let quote = skip_while(chars, i, |c| c == '#');
    let hashes = quote - i;
    let mut end = quote + 1;
    while end < chars.len() {
        if chars[end] == '"' && chars[end + 1..].iter().take_while(|c| **c == '#').count() >= hashes {
            return end + 1 + hashes;
        }
        end += 1;
    }
    end
}

/// A character (`'x'`, `'\n'`) or a lifetime (`'a`).
fn skip_quote(chars: &[char], i: usize) -> usize {
    if chars.get(i + 1) == Some(&'\\') {
        return skip_while(chars, i + 3, |c| c != '\'') + 1;
    }
    if chars.get(i + 2) == Some(&'\'') { i + 3 } else { i + 1 }
}

// ---------------------------------------------------------------- imports

/// Names of modules at the crate's root that a file refers to, with the line: `crate::x`, `crate::{x, y::z}`, and as many
/// `super::` as reach the root. `depth` is how deep the file's own module lies: 1 for `git.rs`, 2 for `git/signature.rs`.
fn references(source: &str, depth: usize, layers: &Layers) -> Vec<(usize, String)> {
    let tokens = tokens(source);
    let word = |i: usize| tokens.get(i).map_or("", |t| t.word.as_str());
    let (mut found, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        let (mut end, supers) = match word(i) {
            "crate" => (i + 1, None),
            "super" | "self" => {
                let mut end = i + 1;
                let mut count = usize::from(word(i) == "super");
                while word(end) == "::" && word(end + 1) == "super" {
                    (end, count) = (end + 2, count + 1);
                }
                (end, Some(count))
            }
            _ => {
                i += 1;
                continue;
            }
        };
        let reaches_root = supers.is_none_or(|count| count >= depth && count > 0);
        if word(end) == "::" && reaches_root {
            end += 1;
            for name in first_names(&tokens[end..]) {
                // A module inside the file has supers of its own that do not reach the root: only a known name counts.
                if supers.is_none() || layers.contains_key(&name) {
                    found.push((tokens[i].line, name));
                }
            }
        }
        i = end;
    }
    found
}

/// The first part of each path after `crate::`: one name, or the names of a `{…}` group.
fn first_names(rest: &[Token]) -> Vec<String> {
    if rest.first().is_none_or(|t| t.word != "{") {
        return rest.first().map(|t| t.word.clone()).into_iter().collect();
    }
    let (mut names, mut depth, mut at_start) = (Vec::new(), 0, true);
    for token in rest {
        match token.word.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 1 => at_start = true,
            name if depth == 1 && at_start => {
                names.push(name.to_owned());
                at_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// What is wrong with one file. `path` is relative to the crate's `src`.
fn check_file(path: &str, source: &str, layers: &Layers) -> Vec<String> {
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').filter(|p| *p != "mod").collect();
    if parts[0] == "lib" {
        return Vec::new();
    }
    // `slice_tests.rs` is a module inside `slice`, put beside it with #[path].
    let inner = parts[0].strip_suffix("_tests").filter(|m| layers.contains_key(*m));
    let (module, depth) = (inner.unwrap_or(parts[0]), parts.len() + usize::from(inner.is_some()));
    let Some(&layer) = layers.get(module) else {
        return vec![format!("{path}: module `{module}` has no row in ARCHITECTURE.md, section Layers")];
    };
    let mut wrong = Vec::new();
    for (line, name) in references(source, depth, layers) {
        match layers.get(&name) {
            _ if name == module => {}
            Some(&other) if other < layer => {}
            Some(&other) => wrong.push(format!(
                "{path}:{line}: `{module}` (layer {layer}) imports `{name}` (layer {other}): only lower layers may be imported"
            )),
            // Types and macros that the root itself offers would hide where they come from.
            None => wrong.push(format!(
                "{path}:{line}: `crate::{name}` is no module of ARCHITECTURE.md, section Layers: name the module it comes from"
            )),
        }
    }
    wrong
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.flatten().map(|e| e.path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

// ---------------------------------------------------------------- purity

/// The forbidden crates in the output of `cargo tree --prefix none`.
fn impure(tree: &str) -> BTreeSet<String> {
    let forbidden = |name: &str| IMPURE.iter().any(|f| f.strip_suffix('*').map_or(name == *f, |p| name.starts_with(p)));
    tree.lines().filter_map(|l| l.split_whitespace().next()).filter(|n| forbidden(n)).map(str::to_owned).collect()
}

// ---------------------------------------------------------------- the rules, on this repository

#[test]
fn modules_import_from_lower_layers_only() {
    let root = root();
    let crates = layers(&text(&root.join("ARCHITECTURE.md"))).unwrap();
    for folder in ["agent/core", "agent/daemon"] {
        assert!(crates.contains_key(folder), "ARCHITECTURE.md, section Layers, has no table for {folder}");
    }
    let mut wrong = Vec::new();
    for (folder, layers) in &crates {
        let src = root.join(folder).join("src");
        let files = rust_files(&src);
        assert!(!files.is_empty(), "ARCHITECTURE.md names {folder}, and there is no Rust in {}", src.display());
        for file in files {
            let path = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
            wrong.extend(check_file(&path, &text(&file), layers).into_iter().map(|w| format!("{folder}/src/{w}")));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn pure_crates_depend_on_nothing_that_touches_the_world() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    for name in PURE {
        let args = ["tree", "--package", name, "--edges", "normal", "--prefix", "none", "--format", "{p}"];
        let out = Command::new(&cargo).args(args).current_dir(root()).output().unwrap();
        let tree = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&out.stderr));
        assert!(tree.starts_with(name), "cargo tree says nothing of {name}: {tree}");
        let found = impure(&tree);
        assert!(found.is_empty(), "{name} is pure and depends on {found:?}; see: cargo {}", args.join(" "));
    }
}

/// The codes that a file gives to problems: `Problem::warning("area.name", …)`.
fn codes(source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for kind in ["Problem::error(", "Problem::warning(", "Problem::info("] {
        for (at, _) in source.match_indices(kind) {
            let rest = source[at + kind.len()..].trim_start();
            let code = rest.strip_prefix('"').and_then(|rest| rest.split('"').next());
            found.extend(code.filter(|code| code.contains('.')).map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_code_of_a_problem_is_in_the_reference() {
    let root = root();
    let page = text(&root.join("docs/reference/check.md"));
    let mut missing = Vec::new();
    for folder in ["repo-layout/src", "agent/core/src", "agent/daemon/src"] {
        for file in rust_files(&root.join(folder)).into_iter().filter(|f| !f.to_string_lossy().contains("tests")) {
            let source = text(&file);
            // What stands in a file's own tests is made up.
            let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let unknown = codes(source).into_iter().filter(|code| !page.contains(&format!("### {code}\n")));
            missing.extend(unknown.map(|code| format!("{}: {code}", file.display())));
        }
    }
    assert!(
        missing.is_empty(),
        "add these to agent/core/src/validate/catalogue.rs, then write docs/reference/check.md with\n\
         EVENKEEL_UPDATE=1 cargo test -p evenkeel --test check the_reference\n{}",
        missing.join("\n")
    );
}

// ---------------------------------------------------------------- the checker itself can fail

fn made_up() -> Layers {
    let table = "# A\n| 9 | `ghost` | not in the section |\n## Layers\n### `x/y`\n| layer | modules | purpose |\n|---|---|---|\n\
                 | 1 | `config`, `store` | |\n| 2 | `git` | |\n| 2 | `engine/` | |\n| 3 | `host` | |\n## Other\n| 1 | `none` | |\n";
    layers(table).unwrap().remove("x/y").unwrap()
}

/// Lines that are wrong in a file of `git`.
fn wrong_lines(path: &str, source: &str) -> Vec<usize> {
    let of = |message: &String| message.split(':').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    check_file(path, source, &made_up()).iter().map(of).collect()
}

#[test]
fn reads_the_table_of_its_section_only() {
    let names: Vec<(String, u32)> = made_up().into_iter().collect();
    let expected = [("config", 1), ("engine", 2), ("git", 2), ("host", 3), ("store", 1)];
    assert_eq!(names, expected.map(|(n, l)| (n.to_owned(), l)));
}

#[test]
fn refuses_two_rows_for_a_module_and_a_row_without_one() {
    assert!(layers("## Layers\n### `a`\n| 1 | `m` | |\n| 2 | `m` | |\n").unwrap_err().contains(":4:"));
    assert!(layers("## Layers\n### `a`\n| 1 | m | |\n").unwrap_err().contains(":3:"));
}

#[test]
fn accepts_imports_from_below_and_from_itself() {
    let source = "use crate::config::Agent;\nuse crate::{store::{Store, host}, git::signature as engine};\nuse super::signature;\n";
    assert_eq!(wrong_lines("git.rs", source), Vec::<usize>::new());
    assert_eq!(wrong_lines("lib.rs", "pub use crate::host::Host;"), Vec::<usize>::new());
}

#[test]
fn refuses_an_import_from_a_higher_layer() {
    assert_eq!(wrong_lines("git.rs", "\nuse crate::host::Host;\n"), [2]);
    assert_eq!(wrong_lines("git/fetch.rs", "fn f() {\n    let h = crate::host::Host::new();\n}\n"), [2]);
}

#[test]
fn refuses_an_import_between_neighbours() {
    assert_eq!(wrong_lines("git.rs", "use crate::engine::Engine;"), [1]);
    assert_eq!(wrong_lines("config.rs", "use crate::store::Store;"), [1]);
}

#[test]
fn counts_tests_beside_a_module_as_part_of_it() {
    assert_eq!(wrong_lines("git_tests.rs", "use super::host;\nuse crate::git;\nuse crate::host;\n"), [3]);
    assert!(check_file("ghost_tests.rs", "", &made_up())[0].contains("no row"));
}

#[test]
fn looks_into_groups_over_several_lines() {
    assert_eq!(wrong_lines("git.rs", "use crate::{\n    config::{self, Agent},\n    host,\n};\n"), [1]);
    assert_eq!(wrong_lines("git.rs", "use crate ::\n{ host as lower, engine };\n"), [1, 1]);
}

#[test]
fn is_not_evaded_through_super() {
    assert_eq!(wrong_lines("git.rs", "use super::host::Host;"), [1]);
    assert_eq!(wrong_lines("git/signature.rs", "use super::super::host::Host;"), [1]);
    assert_eq!(wrong_lines("git/signature.rs", "use self::super::super::{config, engine};"), [1]);
    assert_eq!(wrong_lines("git/mod.rs", "use super::host::Host;"), [1]);
    assert_eq!(wrong_lines("git/signature.rs", "use super::host;"), Vec::<usize>::new());
}

#[test]
fn reads_code_and_nothing_else() {
    let source = "// use crate::host;\n/* /* */ crate::host::x */\nconst A: &str = \"crate::host\\\"crate::host\";\n\
                  const B: &str = r#\"\"crate::host\"#;\nfn f<'a>(c: &'a char) -> bool { *c == '\"' || *c == '\\'' }\n\
                  pub(crate) mod x;\nuse crate::engine;\n";
    assert_eq!(wrong_lines("git.rs", source), [7]);
}

#[test]
fn refuses_a_module_without_a_row_and_names_from_the_root() {
    assert!(check_file("helpers.rs", "", &made_up())[0].contains("`helpers` has no row"));
    assert!(check_file("git.rs", "use crate::Thing;", &made_up())[0].contains("name the module"));
}

#[test]
fn names_the_crates_that_are_not_pure() {
    let tree = "evenkeel-core v0.1.0 (/x)\nserde v1.0.0\n\ntokio v1.0.0\ngix-hash v0.1.0 (*)\nhex v0.4.3\nmiow v1\n";
    assert_eq!(impure(tree).into_iter().collect::<Vec<_>>(), ["gix-hash", "tokio"]);
}
