use evenkeel_layout::config::LayoutConfig;

use super::*;

fn finding(code: &str, path: &str, line: u32) -> Problem {
    Problem::warning(code, "found", "help").in_stack("web").on_server("home").at(path, Some(line))
}

fn judged(problems: &[Problem], config: &str, files: &[(&str, &str)]) -> Judged {
    let (config, wrong) = LayoutConfig::parse(CONFIG_FILE, config.as_bytes());
    assert_eq!(wrong, []);
    let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    judge(problems.to_vec(), &config.policy, &files, true)
}

fn codes(judged: &Judged) -> Vec<(&str, Option<u32>)> {
    judged.problems.iter().map(|p| (p.code.as_str(), p.line)).collect()
}

const FILE: &str = "\
services:
  # evenkeel: allow image.latest it is a demonstration
  web:
    image: nginx
    ports:
    - 80:80 # evenkeel: allow port.all-interfaces the intranet reads it
    - 81:81
  db:
    image: postgres
";

#[test]
fn a_comment_covers_its_line_or_the_block_below_it() {
    let problems = [
        finding("image.latest", "f", 4),
        finding("image.latest", "f", 9),
        finding("port.all-interfaces", "f", 6),
        finding("port.all-interfaces", "f", 7),
    ];
    let judged = judged(&problems, "", &[("f", FILE)]);
    assert_eq!(codes(&judged), [("image.latest", Some(9)), ("port.all-interfaces", Some(7))]);
    let reasons: Vec<&str> = judged.allowed.iter().map(|a| a.reason.as_str()).collect();
    assert_eq!(reasons, ["it is a demonstration", "the intranet reads it"]);
}

#[test]
fn a_comment_before_everything_covers_the_file() {
    let text = format!("# evenkeel: allow image.latest all of it\n---\n{FILE}");
    let judged = judged(&[finding("image.latest", "f", 11), finding("image.latest", "g", 1)], "", &[("f", &text)]);
    assert!(judged.problems.iter().any(|p| p.path.as_deref() == Some("g")));
    assert_eq!(judged.allowed.len(), 1);
}

#[test]
fn a_list_as_far_left_as_its_key_belongs_to_it() {
    let text = "a: 1\n# evenkeel: allow port.all-interfaces x\nports:\n- 1\n- 2\nother: 1\n";
    let problems = [finding("port.all-interfaces", "f", 5), finding("port.all-interfaces", "f", 6)];
    assert_eq!(codes(&judged(&problems, "", &[("f", text)])), [("port.all-interfaces", Some(6))]);
}

#[test]
fn an_exception_without_reason_or_with_a_wrong_code_does_not_count() {
    let text = "a: 1 # evenkeel: allow image.latest\nb: 1 # evenkeel: allow image.latests why\nc: 1 # evenkeel: allow compose.invalid why\n";
    let judged = judged(&[finding("image.latest", "f", 1)], "", &[("f", text)]);
    assert_eq!(
        codes(&judged),
        [
            ("image.latest", Some(1)),
            ("policy.exception", Some(1)),
            ("policy.exception", Some(3)),
            ("policy.unknown-code", Some(2))
        ]
    );
    assert_eq!(judged.problems[3].help, "did you mean `image.latest`?");
}

#[test]
fn an_exception_that_matches_nothing_is_told() {
    let text = "a: 1\nb: 1 # evenkeel: allow image.latest why\n";
    let config = "policy:\n  exceptions:\n    - { code: port.conflict, stack: web, reason: why }\n";
    let judged = judged(&[], config, &[("f", text)]);
    assert_eq!(codes(&judged), [("policy.unused", Some(3)), ("policy.unused", Some(2))]);
    assert!(judged.problems.iter().all(|p| p.severity == Severity::Info));
}

#[test]
fn the_repositorys_policy_sets_severities_and_allows() {
    let config = "\
policy:
  rules: { image.latest: error, service.no-restart: off, compose.invalid: off, image.lates: error }
  exceptions:
    - { code: port.conflict, server: home, path: 'stacks/*/compose.yml', reason: never at once }
";
    let mut broken = finding("compose.invalid", "f", 1);
    broken.severity = Severity::Error;
    let problems = [
        finding("image.latest", "f", 1),
        finding("service.no-restart", "f", 1),
        finding("port.conflict", "stacks/a/compose.yml", 1),
        finding("port.conflict", "other.yml", 1),
        broken,
    ];
    let judged = judged(&problems, config, &[]);
    let shown: Vec<_> = judged.problems.iter().map(|p| (p.severity, p.code.as_str())).collect();
    assert_eq!(
        shown,
        [
            (Severity::Error, "compose.invalid"),
            (Severity::Error, "image.latest"),
            (Severity::Warning, "policy.exception"),
            (Severity::Warning, "policy.unknown-code"),
            (Severity::Warning, "port.conflict"),
        ]
    );
    assert_eq!(judged.allowed.len(), 1);
}

#[test]
fn a_hash_in_a_value_is_no_comment() {
    assert_eq!(comment("a: b#evenkeel: allow x y"), None);
    assert_eq!(comment("a: b # evenkeel: allows x y"), None);
    assert_eq!(comment("# evenkeel: allow image.latest why"), Some(("", "image.latest why")));
}
