//! What nobody should have in a repository: `evenkeel check` says what is wrong and where, and never hangs, eats the machine
//! or falls over.

use std::{fmt::Write as _, fs, iter, os::unix::fs::symlink, path::Path, process::Command};

use insta::assert_snapshot;

use super::{Done, World};

/// Address space of each process, in KiB: a Go program maps more than a gigabyte to begin with.
const MAX_KIB: u32 = 4_000_000;
/// Processor time of each process, in seconds: far more than is needed, far less than for ever.
const MAX_CPU_S: u32 = 60;

const WEB: &str = "stacks/web/compose.yml";
const GOOD: &str =
    "name: web\nservices: {app: {image: 'x:1', restart: always, mem_limit: 1m, healthcheck: {test: x}}}\n";

type Files = Vec<(&'static str, Vec<u8>)>;

/// A name for people, what is in the repository, and whether check says yes to it.
struct Case {
    name: &'static str,
    files: Files,
    /// More than files: symlinks, folders with odd names.
    more: fn(&Path),
    is_fine: bool,
}

fn text(content: impl Into<String>) -> Vec<u8> {
    content.into().into_bytes()
}

/// One Compose file that is refused.
fn web(name: &'static str, content: impl Into<Vec<u8>>) -> Case {
    Case { name, files: vec![(WEB, content.into())], more: |_| {}, is_fine: false }
}

/// Several files that are refused.
fn refused(name: &'static str, files: &[(&'static str, &str)]) -> Case {
    let files = files.iter().map(|(path, content)| (*path, text(*content))).collect();
    Case { name, files, more: |_| {}, is_fine: false }
}

impl Case {
    fn fine(self) -> Self {
        Self { is_fine: true, ..self }
    }

    fn and(self, more: fn(&Path)) -> Self {
        Self { more, ..self }
    }
}

/// Anchors of which each doubles the one before, ten times over.
fn laughs() -> String {
    iter::once("x-0: &l0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned())
        .chain((1..12).map(|i| format!("x-{i}: &l{i} [{}]\n", vec![format!("*l{}", i - 1); 10].join(","))))
        .chain([GOOD.to_owned()])
        .collect()
}

/// Ten megabytes of what is called so in YAML.
fn large() -> String {
    format!("{GOOD}x-data: [\n{}]\n", "  some words of no use,\n".repeat(450_000))
}

fn bombs() -> Vec<Case> {
    let deep = |open: &str, count: usize| format!("{GOOD}x-deep: {}\n", open.repeat(count));
    vec![
        web("aliases of aliases", laughs()),
        web(
            "one alias many times",
            format!("x-a: &a [{}]\nx-b: [{}]\n{GOOD}", "x,".repeat(90_000), "*a,".repeat(90_000)),
        ),
        refused(
            "aliases of aliases in a file that is taken in",
            &[
                (WEB, "name: web\ninclude: [more.yml]\nservices: {app: {image: x}}\n"),
                ("stacks/web/more.yml", laughs().as_str()),
            ],
        ),
        refused(
            "aliases of aliases in a file that is extended",
            &[
                (WEB, "name: web\nservices: {app: {extends: {file: more.yml, service: app}}}\n"),
                ("stacks/web/more.yml", laughs().as_str()),
            ],
        ),
        refused("aliases of aliases in evenkeel.yml", &[(WEB, GOOD), ("evenkeel.yml", laughs().as_str())]),
        web("ten megabytes", large()),
        refused("ten megabytes of evenkeel.yml", &[(WEB, GOOD), ("evenkeel.yml", large().as_str())]),
        refused("ten megabytes of .env", &[(WEB, GOOD), (".env", "SOME_NAME=some value\n".repeat(480_000).as_str())])
            .fine(),
        web("brackets without end", deep("[", 200_000)),
        web("braces without end", deep("{a: ", 200_000)),
        web("dashes without end", format!("{GOOD}x-deep:\n  {}\n", "- ".repeat(100_000))),
        web("questions without end", format!("{GOOD}x-deep:\n  {}\n", "? ".repeat(100_000))),
        web("a mapping in a mapping, a thousand times", {
            (0..1000).fold(GOOD.to_owned() + "x-deep:\n", |text, n| text + &" ".repeat(n + 1) + "a:\n")
        }),
        refused(
            "a list of stacks without end",
            &[(WEB, GOOD), ("servers/home/config.json", format!("{{\"stacks\": {}", "[".repeat(200_000)).as_str())],
        ),
    ]
}

fn cycles() -> Vec<Case> {
    vec![
        refused(
            "a file that takes itself in",
            &[(WEB, "name: web\ninclude: [compose.yml]\nservices: {app: {image: x}}\n")],
        ),
        refused(
            "files that take each other in",
            &[
                (WEB, "name: web\ninclude: [b.yml]\nservices: {app: {image: x}}\n"),
                ("stacks/web/b.yml", "include: [compose.yml]\nservices: {b: {image: x}}\n"),
            ],
        ),
        // Of two services Compose begins with either.
        web("a service that extends itself", "name: web\nservices:\n  a:\n    extends: a\n"),
        refused(
            "files that extend each other",
            &[
                (WEB, "name: web\nservices:\n  a:\n    extends: {file: b.yml, service: b}\n"),
                ("stacks/web/b.yml", "services:\n  b:\n    extends: {file: compose.yml, service: a}\n"),
            ],
        ),
        web("a service that depends on itself", "name: web\nservices:\n  a:\n    image: x\n    depends_on: [a]\n"),
        refused(
            "stacks that depend on each other",
            &[
                (WEB, "name: web\nx-evenkeel: {depends_on: [db]}\nservices: {a: {image: x}}\n"),
                ("stacks/db/compose.yml", "name: db\nx-evenkeel: {depends_on: [web]}\nservices: {a: {image: x}}\n"),
            ],
        ),
        web("an anchor within itself", format!("x-a: &a [*a]\n{GOOD}")),
    ]
}

fn texts() -> Vec<Case> {
    let with_mark = [&b"\xef\xbb\xbf"[..], GOOD.as_bytes()].concat();
    let wide: Vec<u8> = GOOD.encode_utf16().flat_map(u16::to_le_bytes).collect();
    vec![
        web("Latin-1", [GOOD.as_bytes(), &b"# caf\xe9\n"[..]].concat()),
        web("UTF-16", [&b"\xff\xfe"[..], &wide].concat()),
        web("a NUL", format!("{GOOD}x-a: \"a\0b\"\n")),
        web("a control character", format!("{GOOD}x-a: a\u{7}b\n")),
        web("Windows' line ends", GOOD.replace('\n', "\r\n")).fine(),
        web("a byte order mark", with_mark).fine(),
        web("no line end at the end", GOOD.trim_end()).fine(),
        web("a key twice", "name: web\nservices:\n  app:\n    image: x\n    restart: always\n    image: y\n"),
        web("a service twice", "name: web\nservices:\n  app:\n    image: x\n  app:\n    image: y\n"),
        web("a tab", "name: web\nservices:\n  app:\n\timage: x\n"),
        web("an open quote", "name: web\nservices:\n  app:\n    image: \"x\n"),
        web("an alias of nothing", "name: web\nservices:\n  app: *nobody\n"),
        web("nothing", ""),
        web("comments only", "# to do\n"),
        web("a word", "hello\n"),
        web("a list", "- services\n"),
        web("no services", "name: web\nservices:\n"),
        web("a service of nothing", "name: web\nservices:\n  app:\n"),
        web("not YAML at all", b"\x7fELF\x02\x01\x01\0\0\0\0".to_vec()),
        refused("an open quote in .env", &[(WEB, GOOD), (".env", "A=1\nB=\"open\n")]),
        refused("no name in .env", &[(WEB, GOOD), (".env", "A=1\n=2\n")]),
    ]
}

fn names() -> Vec<Case> {
    let long = "n".repeat(200);
    let stack = |name: &str| format!("stacks/{name}/compose.yml");
    let named = |name: &'static str, folder: &str| {
        let path: &'static str = Box::leak(stack(folder).into_boxed_str());
        Case {
            name,
            files: vec![(WEB, text(GOOD)), (path, text(GOOD.replace("web", "other")))],
            more: |_| {},
            is_fine: false,
        }
    };
    vec![
        named("a folder with a space", "my stack"),
        named("a folder with a line end", "my\nstack"),
        named("a folder with an escape", "my\u{1b}[31mstack"),
        named("a folder that begins with a dash", "-stack"),
        named("a folder that turns its name around", "my\u{202e}kcats"),
        named("a folder with a very long name", &long),
        named("folders that differ in case", "WEB").fine(),
        refused(
            "folders and projects that differ in case",
            &[
                ("stacks/web/compose.yml", "services: {a: {image: x}}\n"),
                ("stacks/WEB/compose.yml", "services: {a: {image: x}}\n"),
            ],
        ),
        web("a service with a space", "name: web\nservices:\n  my app: {image: x}\n"),
        web("a service with an escape", "name: web\nservices:\n  \"my\\e[31mapp\": {image: x}\n"),
        web("a project with a space", "name: my web\nservices: {a: {image: x}}\n").fine(),
    ]
}

fn links() -> Vec<Case> {
    vec![
        refused("a Compose file that is a link out of the repository", &[("stacks/other/compose.yml", GOOD)]).and(
            |repo| {
                fs::create_dir_all(repo.join("stacks/web")).unwrap();
                symlink("/etc/hostname", repo.join(WEB)).unwrap();
            },
        ),
        refused(
            "an environment file that is a link out of the repository",
            &[(WEB, "name: web\nservices:\n  app:\n    image: x\n    env_file: [a.env]\n")],
        )
        .and(|repo| symlink("/etc/passwd", repo.join("stacks/web/a.env")).unwrap()),
        refused("a folder of stacks that is a link out of the repository", &[("stacks/other/compose.yml", GOOD)])
            .and(|repo| symlink("/usr", repo.join("stacks/usr")).unwrap()),
        refused("a link to itself", &[("stacks/other/compose.yml", GOOD)]).and(|repo| {
            fs::create_dir_all(repo.join("stacks/web")).unwrap();
            symlink("compose.yml", repo.join(WEB)).unwrap();
        }),
        refused(
            "a path that climbs out of the repository",
            &[(WEB, "name: web\nservices:\n  app:\n    image: x\n    env_file: [../../../a.env]\n")],
        ),
        refused(
            "a Compose file that is a folder",
            &[("stacks/web/compose.yml/x.txt", ""), ("stacks/b/compose.yml", GOOD)],
        )
        .fine(),
    ]
}

/// `evenkeel check` within its limits.
fn check(world: &World) -> Done {
    let mut command = Command::new("sh");
    let limited = format!("ulimit -v {MAX_KIB} && ulimit -t {MAX_CPU_S} && exec \"$@\"");
    command.args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_evenkeel"), "check", "--repo"]).arg(world.repo());
    command.env("XDG_CACHE_HOME", world.folder.path().join("cache"));
    let done = command.env("RUST_BACKTRACE", "0").output().unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    let code = done.status.code().unwrap_or_else(|| panic!("{} ended it: {stderr}", done.status));
    Done { code, stdout: String::from_utf8(done.stdout).unwrap() + &stderr }
}

/// What a person sees of a group of cases.
fn said(cases: Vec<Case>) -> String {
    let mut all = String::new();
    for case in cases {
        let world = World::new(&case.files);
        (case.more)(&world.repo());
        let done = check(&world);
        let said = done.stdout.replace(&world.repo().display().to_string(), "REPO");
        assert_eq!(done.code, i32::from(!case.is_fine), "{}: {said}", case.name);
        assert!(!said.contains(|c: char| c.is_control() && c != '\n'), "{}: {said:?}", case.name);
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error[")).collect();
        assert_eq!(errors.is_empty(), case.is_fine, "{}: {said}", case.name);
        assert!(said.len() < 20_000, "{}: {} bytes are more than anybody reads", case.name, said.len());
        writeln!(all, "==== {}\n{said}", case.name).unwrap();
    }
    all
}

#[test]
fn bombs_are_refused_before_they_go_off() {
    assert_snapshot!(said(bombs()));
}

#[test]
fn cycles_are_told_of_and_not_followed() {
    assert_snapshot!(said(cycles()));
}

#[test]
fn texts_that_are_none_say_where_they_are_not() {
    assert_snapshot!(said(texts()));
}

#[test]
fn names_that_no_stack_can_have_are_told_of() {
    assert_snapshot!(said(names()));
}

#[test]
fn links_lead_nowhere_out_of_the_repository() {
    assert_snapshot!(said(links()));
}
