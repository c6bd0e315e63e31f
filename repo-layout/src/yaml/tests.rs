use super::*;

fn error(text: &str) -> (Option<u32>, String) {
    let error = parse(text).expect_err("a fault");
    (error.line, error.message)
}

#[test]
fn understands_what_compose_files_hold() {
    let text = "a: &x {k: 1}\nb: *x\nc:\n  <<: *x\n  l: [1, yes, ~, 1.5]\nd: !override [1]\ne: !reset null\n8080: p\n";
    let nodes = parse(text).expect("valid");
    let root = &nodes[0];
    assert_eq!(root.get("b").and_then(|b| b.get("k")), Some(&Node::Scalar("1".to_owned())));
    assert_eq!(root.get("c").map(|c| c.get("l").map_or(0, |l| l.items().len())), Some(4));
    assert_eq!(root.get("d").map(|d| d.items().len()), Some(1));
    assert_eq!(root.get("e"), Some(&Node::Reset));
    assert_eq!(root.get("8080").and_then(Node::as_str), Some("p"));
}

#[test]
fn reads_every_document_of_a_file() {
    assert_eq!(parse("a: 1\n---\nb: 2\n").map(|d| d.len()), Ok(2));
    assert!(parse("# nothing\n").is_ok_and(|d| d.iter().all(|n| *n == Node::Null)));
}

#[test]
fn takes_a_byte_order_mark_and_windows_line_ends_as_compose_does() {
    let text = decode(b"\xef\xbb\xbfa: 1\r\nb:\r\n  c: 2\r\n").expect("UTF-8");
    assert!(parse(text).is_ok());
    assert_eq!(line_of(text, &[Step::Key("b"), Step::Key("c")]), Some(3));
}

#[test]
fn says_the_line_of_what_is_not_yaml() {
    assert_eq!(decode(b"a: 1\nb: \xff\n").expect_err("not UTF-8").line, Some(2));
    assert_eq!(error("a: 1\nb:\n\t- c\n").0, Some(3));
    assert_eq!(error("a: 1\nb: [1\nc: 2\n").0, Some(3));
    assert_eq!(
        error("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n"),
        (Some(5), "not valid YAML: b: the key \"c\" is given twice".into())
    );
}

#[test]
fn survives_files_made_to_hang_it() {
    let laughs: String = std::iter::once("l0: &l0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned())
        .chain((1..12).map(|i| format!("l{i}: &l{i} [{}]\n", vec![format!("*l{}", i - 1); 10].join(","))))
        .collect();
    assert_eq!(error(&laughs).1, TOO_MANY);
    let quadratic = format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(100_000), "*a,".repeat(100_000));
    assert_eq!(error(&quadratic).1, TOO_MANY);
    assert_eq!(error("a: &a [*a]\n").1, "nested too deeply");
    assert_eq!(error(&"- ".repeat(100_000)).1, "nested too deeply");
    assert!(error(&"[".repeat(1_000_000)).1.contains("brackets"));
    assert!(error(&"{a: ".repeat(200)).0.is_some());
    assert!(error(&"x".repeat(MAX_YAML_BYTES + 1)).1.contains("are read"));
    assert!(parse(&"? ".repeat(300_000)).is_err());
}

#[test]
fn finds_the_line_of_any_key_or_item() {
    let text = "# top\nservices:\n  web: {image: x,\n    ports: [a,\n      b]}\n  \"api\":\n    <<: {k: v}\n    image: y\nlist:\n  - one\n  - two: 2\n";
    for (path, line) in [
        (&[Step::Key("services")][..], Some(2)),
        (&[Step::Key("services"), Step::Key("web")], Some(3)),
        (&[Step::Key("services"), Step::Key("web"), Step::Key("ports")], Some(4)),
        (&[Step::Key("services"), Step::Key("web"), Step::Key("ports"), Step::Index(1)], Some(5)),
        (&[Step::Key("services"), Step::Key("api"), Step::Key("image")], Some(8)),
        (&[Step::Key("list"), Step::Index(1)], Some(11)),
        (&[Step::Key("list"), Step::Index(1), Step::Key("two")], Some(11)),
        (&[Step::Key("list"), Step::Index(7)], None),
        (&[Step::Key("nowhere")], None),
        (&[], None),
    ] {
        assert_eq!(line_of(text, path), line, "{path:?}");
    }
    assert_eq!(line_of("a: 1\n---\nb: 2\n", &[Step::Key("b")]), Some(3));
}

#[test]
fn finds_where_a_value_begins() {
    let text = "é: [a, {b: 'x'}]\r\nc: &n\n  - !t  y\nd: *n\ne: {<<: {f: \"z\"}}\n";
    let at = |path: &[Step<'_>]| value_offset(text, path).map(|at| &text[at..at + 4]);
    assert_eq!(at(&[Step::Key("é"), Step::Index(0)]), Some("a, {"));
    assert_eq!(at(&[Step::Key("é"), Step::Index(1), Step::Key("b")]), Some("'x'}"));
    assert_eq!(at(&[Step::Key("c"), Step::Index(0)]), Some("!t  "));
    assert_eq!(at(&[Step::Key("d"), Step::Index(0)]), Some("!t  "));
    assert_eq!(at(&[Step::Key("e"), Step::Key("<<"), Step::Key("f")]), Some("\"z\"}"));
    assert_eq!(at(&[Step::Key("e"), Step::Key("g")]), None);
}
