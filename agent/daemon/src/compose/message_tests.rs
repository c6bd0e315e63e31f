use super::*;

fn layer(text: &str) -> [Layer<'static>; 1] {
    [Layer { path: "stacks/web/compose.yml", text: text.to_owned() }]
}

fn at(problem: &Problem) -> (Option<&str>, Option<u32>) {
    (problem.path.as_deref(), problem.line)
}

#[test]
fn sorts_warnings_unset_variables_and_errors_and_shortens_paths() {
    let stderr = br#"time="2026-01-01T00:00:00Z" level=warning msg="The \"TAG\" variable is not set. Defaulting to a blank string."
time="2026-01-01T00:00:00Z" level=warning msg="/tmp/s/stacks/web/compose.yml: the attribute `version` is obsolete"
env file /tmp/s/stacks/web/x.env not found: stat /tmp/s/stacks/web/x.env: no such file or directory
"#;
    let said = sort(stderr, Path::new("/tmp/s"));
    assert_eq!(said.unset, BTreeSet::from(["TAG".to_owned()]));
    assert_eq!(said.warnings, ["stacks/web/compose.yml: the attribute `version` is obsolete"]);
    assert_eq!(said.errors, ["env file stacks/web/x.env not found: stat stacks/web/x.env: no such file or directory"]);
}

#[test]
fn never_repeats_what_an_environment_file_holds() {
    for text in [
        r#"failed to read /s/a.env: line 2: unexpected character "!" in variable name "hunter2""#,
        r#"failed to read /s/a.env: line 2: unterminated quoted value "hunter2"#,
        r#"line 2: unexpected character "+" in variable name near "hunter2\nB=1""#,
        r#"Invalid template: "${hunter2""#,
    ] {
        let said = sort(text.as_bytes(), Path::new("/s"));
        assert!(!said.errors[0].contains("hunter2"), "{:?}", said.errors);
        assert!(said.errors[0].len() > 10, "{:?}", said.errors);
    }
    assert_eq!(redacted("Invalid port: hunter2", &[b"A=1\nPASS='hunter2'\n".to_vec()]), "Invalid port: ***");
}

#[test]
fn finds_the_line_that_a_message_speaks_of() {
    let text = "services:\n  db:\n    image: x\n  web:\n    # note\n    image: [1]\n    depends_on:\n      - zz\n";
    for (message, line) in [
        ("validating stacks/web/compose.yml: services.web.image must be a string", 6),
        ("service \"web\" depends on undefined service \"zz\": invalid compose project", 7),
        ("services.web.nothing is odd", 4),
        ("validating stacks/web/compose.yml: services.web Additional property image is not allowed", 6),
        ("validating stacks/web/compose.yml: (root) Additional property services is not allowed", 1),
        ("validating stacks/web/compose.yml: services Additional property db is not allowed", 2),
        ("validating stacks/web/compose.yml: services must be a mapping", 1),
        ("error decoding 'services[web].depends_on': invalid", 7),
        ("dependency cycle detected: web -> zz -> web", 7),
        ("service web declares mutually exclusive `image` and `depends_on`: invalid compose project", 6),
        ("services must be a mapping", 1),
        ("Invalid containerPort: zz", 8),
        ("Invalid ip address zz: address zz:: too many colons in address", 8),
        ("open stacks/web/zz: no such file or directory", 8),
        ("env file stacks/web/zz not found: stat stacks/web/zz: no such file or directory", 8),
    ] {
        let found = problem(&[message.to_owned()], &layer(text));
        assert_eq!(at(&found), (Some("stacks/web/compose.yml"), Some(line)), "{message}");
    }
}

#[test]
fn finds_the_line_of_broken_yaml_and_of_a_broken_environment_file() {
    let found = problem(
        &["yaml: line 1: did not find expected key".to_owned()],
        &layer("services:\n  a:\n    image: x\n   b: y\n"),
    );
    assert_eq!(at(&found), (Some("stacks/web/compose.yml"), Some(4)));
    let found = problem(&["failed to read stacks/web/.env: line 3: unterminated quoted value".to_owned()], &layer(""));
    assert_eq!(at(&found), (Some("stacks/web/.env"), Some(3)));
}

#[test]
fn names_a_variable_that_a_layer_uses_and_no_other() {
    let text = "services:\n  a:\n    image: x:$TAGS\n    command: $${TAG}\n    user: ${TAG}\n";
    let found = unset_problem("TAG", &layer(text));
    assert_eq!((at(&found).1, found.code.as_str()), (Some(5), "env.unset"));
    assert!(found.message.contains("TAG"));
    assert!(!unset_problem("hunter2", &layer(text)).message.contains("hunter2"));
}

#[test]
fn a_required_variable_is_an_unset_one() {
    let message = "error while interpolating services.a.image: required variable TAG is missing a value: say which";
    let found = problem(&[message.to_owned()], &layer("services:\n  a:\n    image: ${TAG:?say which}\n"));
    assert_eq!((found.code.as_str(), found.line), ("env.unset", Some(3)));
    assert_eq!(found.message, "the variable TAG must be set and is not: say which");
}
