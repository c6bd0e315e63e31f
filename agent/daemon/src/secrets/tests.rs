use std::{collections::BTreeMap, io::Write as _};

use proptest::prelude::*;

use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/", $name)).as_slice()
    };
}

fn key() -> Keys {
    Keys::parse(include_str!("fixtures/key")).unwrap()
}

fn other_key() -> Keys {
    Keys::parse(include_str!("fixtures/other-key")).unwrap()
}

#[track_caller]
fn env(name: &str, content: &[u8]) -> String {
    text(decrypt_env(name, content, Some(&key())))
}

#[track_caller]
fn text(plain: Result<Plain, Unreadable>) -> String {
    String::from_utf8(plain.unwrap().to_vec()).unwrap()
}

#[track_caller]
fn fault(name: &str, content: &[u8]) -> Unreadable {
    decrypt_env(name, content, Some(&key())).map(|plain| String::from_utf8_lossy(&plain).into_owned()).unwrap_err()
}

/// A copy with one text put for another, which must be there.
#[track_caller]
fn changed(content: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(content).unwrap();
    assert!(text.contains(from), "{from} is not there");
    text.replacen(from, to, 1).into_bytes()
}

#[test]
fn reads_what_age_wrote() {
    assert_eq!(env("x.env.age", fixture!("age.binary")), "A=one\nB=two\n");
    assert_eq!(env("x.env.age", fixture!("age.armour")), "A=one\nB=two\n");
    assert_eq!(text(decrypt_env("x", fixture!("age.armour"), Some(&other_key()))), "A=one\nB=two\n");
}

#[test]
fn reads_what_sops_wrote_as_sops_itself_does() {
    let dotenv = "DB_PASSWORD=correct horse=battery $taple\nEMPTY=\nQUOTED=\"two words\"\nMULTI=a\\nb\nPORT_unencrypted=8080\nPIN=0042\n";
    assert_eq!(env("sops.env", fixture!("sops.env")), dotenv);
    assert_eq!(env("sops.env", fixture!("sops.binary")), format!("# for the fixture\n{dotenv}"));
    assert_eq!(
        env("sops-mac-only.env", fixture!("sops-mac-only.env")),
        "DB_PASSWORD=correct horse\nPORT=8080\nDB_NAME=app\n"
    );
    let yaml = r#"DB_PASSWORD="correct horse=battery \$taple's \"best\" \\ #1"
PIN="42"
RATIO="1.5"
ON="true"
NOTHING=""
EMPTY=""
MULTI="a
b
"
PLAIN_unencrypted="7"
FLAG_unencrypted="false"
WORDS_unencrypted="left readable"
SINCE="2024-01-02T00:00:00Z"
"#;
    assert_eq!(env("sops.yaml", fixture!("sops.yaml")), yaml);
    let json = "DB_PASSWORD=\"correct horse\"\nN=\"1\"\nF=\"1.5\"\nBIG=\"12345678901234\"\nB=\"false\"\nZ=\"\"\nN_unencrypted=\"3\"\nF_unencrypted=\"0.1\"\n";
    assert_eq!(env("sops.json", fixture!("sops.json")), json);
}

#[test]
fn reads_files_of_which_only_some_values_are_encrypted() {
    let found = env("x.yaml", fixture!("sops-regex.yaml"));
    assert!(
        found.contains("PIN=\"42\"\nRATIO=\"1.5\"\n") && found.contains("SINCE=\"2024-01-02T00:00:00Z\""),
        "{found}"
    );
    let error = fault("x.yaml", &changed(fixture!("sops-regex.yaml"), "RATIO: 1.5", "RATIO: 1.6"));
    assert_eq!(error.code(), "secrets.damaged");
    // Here the MAC leaves out what is readable, as the file's owner chose, but not the encrypted ones.
    let content = changed(fixture!("sops-mac-only.env"), "PORT=8080", "PORT=8081");
    assert!(env("x.env", &content).contains("PORT=8081\n"));
    let text = String::from_utf8(content).unwrap();
    let gone: Vec<&str> = text.lines().filter(|line| !line.starts_with("DB_NAME")).collect();
    assert_eq!(fault("x.env", gone.join("\n").as_bytes()).code(), "secrets.damaged");
}

#[test]
fn a_nested_document_is_verified_and_is_no_environment() {
    let error = fault("x.yaml", fixture!("sops-nested.yaml"));
    assert_eq!((error.code(), error.to_string().as_str()), ("secrets.content", "holds more than a value at outer"));
    let error = fault("x.yaml", &changed(fixture!("sops-nested.yaml"), "deep:", "deeq:"));
    assert_eq!(error.code(), "secrets.damaged");
}

#[test]
fn a_file_that_is_used_as_it_is_keeps_its_form() {
    let file = |name: &str, content: &[u8]| text(decrypt_file(name, content, Some(&key())));
    assert_eq!(file("x.age", fixture!("age.armour")), "A=one\nB=two\n");
    assert_eq!(file("x.env", fixture!("sops.env")), env("x.env", fixture!("sops.env")));
    assert_eq!(file("tls.key", fixture!("sops.binary")), env("tls.key", fixture!("sops.binary")));
    insta::assert_snapshot!(
        [
            file("x.yaml", fixture!("sops-nested.yaml")),
            file("x.yaml", fixture!("sops.yaml")),
            file("x.json", fixture!("sops.json")),
        ]
        .join("---\n")
    );
    let error = decrypt_file("x.yaml", &changed(fixture!("sops-nested.yaml"), "deep:", "deeq:"), Some(&key()));
    assert_eq!(error.unwrap_err().code(), "secrets.damaged");
}

#[test]
fn whatever_is_changed_in_a_sops_file_is_noticed() {
    let original = String::from_utf8(fixture!("sops.env").to_vec()).unwrap();
    let lines: Vec<&str> = original.lines().collect();
    let swapped = [&[lines[0], lines[6], lines[2], lines[3], lines[4], lines[5], lines[1]], &lines[7..]].concat();
    let gone: Vec<&str> = lines.iter().filter(|line| !line.starts_with("PIN=")).copied().collect();
    for (what, content) in [
        ("a readable value", changed(fixture!("sops.env"), "8080", "8081")),
        ("a name", changed(fixture!("sops.env"), "PIN=", "PIM=")),
        ("a value that was taken out", gone.join("\n").into_bytes()),
        ("the order", swapped.join("\n").into_bytes()),
        ("a value that was added", changed(fixture!("sops.env"), "PIN=", "EXTRA=1\nPIN=")),
        ("the time of the change", changed(fixture!("sops.env"), "sops_lastmodified=2026", "sops_lastmodified=2027")),
        ("the MAC, which is gone", changed(fixture!("sops.env"), "sops_mac=", "sops_mad=")),
        (
            "the way of the MAC",
            changed(fixture!("sops.env"), "sops_version", "sops_mac_only_encrypted=true\nsops_version"),
        ),
        ("the data", changed(fixture!("sops.env"), "PIN=ENC[AES256_GCM,data:", "PIN=ENC[AES256_GCM,data:AAAA")),
        ("the form", changed(fixture!("sops.env"), "PIN=ENC[AES256_GCM,", "PIN=ENC[AES256_GCX,")),
    ] {
        let error = fault("x.env", &content);
        assert_eq!(error.code(), "secrets.damaged", "{what}: {error}");
    }
}

#[test]
fn whatever_is_changed_in_an_age_file_is_noticed() {
    let content = fixture!("age.binary");
    for at in 0..content.len() {
        let mut content = content.to_vec();
        content[at] ^= 1;
        assert!(decrypt_env("x", &content, Some(&key())).is_err(), "byte {at}");
        assert!(decrypt_env("x", &content[..at], Some(&key())).is_err(), "cut at {at}");
    }
}

#[test]
fn says_which_key_would_be_needed() {
    insta::assert_snapshot!(
        [
            fault("x", fixture!("age.other")),
            fault("x", fixture!("age.ssh")),
            fault("x", fixture!("age.passphrase")),
            fault("x", fixture!("sops-other.env")),
            fault("x", fixture!("sops-groups.env")),
            fault("x", fixture!("sops-groups.yaml")),
            fault("x", fixture!("sops-pgp.env")),
            decrypt_env("x", fixture!("age.binary"), None).map(|_| ()).unwrap_err(),
            decrypt_env("x", fixture!("sops.yaml"), None).map(|_| ()).unwrap_err(),
        ]
        .map(|error| format!("{}: it {error}\n    {}\n", error.code(), error.help()))
        .concat()
    );
}

#[test]
fn tells_the_names_of_variables_without_a_key() {
    let found = |content| names(content).map(|names| names.into_iter().collect::<Vec<_>>().join(" "));
    assert_eq!(found(fixture!("sops.env")).unwrap(), "DB_PASSWORD EMPTY MULTI PIN PORT_unencrypted QUOTED");
    assert_eq!(found(fixture!("sops.json")).unwrap(), "B BIG DB_PASSWORD F F_unencrypted N N_unencrypted Z");
    assert_eq!(found(fixture!("sops.binary")), None);
    assert_eq!(found(fixture!("age.binary")), None);
}

#[test]
fn other_files_are_not_taken_for_encrypted_ones() {
    for content in [
        &b"A=1\n"[..],
        b"",
        b"\xff\xfe",
        b"# sops_mac=\nA=ENC[AES256_GCM,data:x]\n",
        b"{\"sops\": 1}",
        b"sops: yes\n",
        b"age-encryption.org/v2\n",
    ] {
        assert_eq!(recognise(content), None, "{}", String::from_utf8_lossy(content));
    }
}

#[test]
fn a_file_of_keys_says_what_is_wrong_with_it_and_where() {
    let own = include_str!("fixtures/key");
    assert_eq!(Keys::parse(&format!("\n# x\r\n{own}\r\n{own}")).map_err(|e| e.1).unwrap().recipients().len(), 2);
    for (text, line, word) in [
        ("", 1, "no key"),
        ("# only a comment\n", 1, "no key"),
        ("\nage1z80gr7j8z5h3c37m2250xt6yxxa59p287t8x0fnnzljja8q35c9qm55q4w\n", 2, "public key"),
        ("AGE-PLUGIN-YUBIKEY-1QQQ", 1, "plugin"),
        ("-----BEGIN AGE ENCRYPTED FILE-----", 1, "itself encrypted"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----", 1, "SSH"),
        ("AGE-SECRET-KEY-1ABC", 1, "no age key"),
    ] {
        let Err((at, why)) = Keys::parse(text) else { panic!("{text}") };
        assert!(at == line && why.contains(word), "{text}: {at}: {why}");
    }
}

#[test]
fn a_file_of_keys_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(include_bytes!("fixtures/key")).unwrap();
    assert_eq!(Keys::read(file.path()).unwrap().recipients().len(), 1);
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = Keys::read(file.path()).err().unwrap().to_string();
    assert!(error.contains("chmod 600") && !error.contains("SECRET-KEY"), "{error}");
}

#[test]
fn what_is_encrypted_here_opens_here() {
    let keys = Keys::generate();
    for armour in [true, false] {
        let content = age::encrypt(b"A=1\n", &keys.recipients(), armour).unwrap().unwrap();
        assert_eq!(age::is_armoured(&content), armour);
        assert_eq!(text(decrypt_env("x", &content, Some(&keys))), "A=1\n");
    }
    assert!(age::encrypt(b"", &[], true).unwrap().is_none());
    let again = Keys::parse(&keys.text()).map_err(|e| e.1).unwrap();
    assert_eq!(again.recipients()[0].to_string(), keys.recipients()[0].to_string());
}

#[test]
fn large_texts_are_refused_before_and_after_they_are_opened() {
    let keys = Keys::generate();
    let content = age::encrypt(&vec![b'x'; MAX_BYTES + 1], &keys.recipients(), false).unwrap().unwrap();
    assert_eq!(decrypt_env("x", &content, Some(&keys)).unwrap_err().code(), "secrets.content");
    let content = age::encrypt(&vec![b'x'; MAX_BYTES - 1000], &keys.recipients(), true).unwrap().unwrap();
    assert_eq!(decrypt_env("x", &content, Some(&keys)).unwrap_err().code(), "secrets.content");
}

fn any_fixture() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        fixture!("sops.env"),
        fixture!("sops.yaml"),
        fixture!("sops.json"),
        fixture!("sops-nested.yaml"),
        fixture!("age.armour"),
        fixture!("age.binary"),
    ])
}

proptest! {
    #[test]
    fn no_content_makes_it_panic(content in prop::collection::vec(any::<u8>(), 0..400), name in ".{0,12}") {
        for start in [&b""[..], b"age-encryption.org/v1\n", b"sops_mac=x\nsops_lastmodified=\n", b"sops:\n mac: x\n", b"{\"sops\":{\"lastmodified\":1},"] {
            let content = [start, &content].concat();
            let _ = decrypt_env(&name, &content, Some(&key()));
            let _ = names(&content);
        }
    }

    /// SOPS leaves open how the values that it does not encrypt are called, and whether there is an empty one.
    #[test]
    fn no_change_of_a_file_makes_it_panic_or_yield_another_value(content in any_fixture(), cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let values = |plain: Plain| {
            let text = String::from_utf8_lossy(&plain).into_owned();
            let values = text.lines().map(|line| line.split_once('=').map_or(line, |(_, value)| value).to_owned());
            values.filter(|value| !value.is_empty() && value != "\"\"").collect::<Vec<_>>()
        };
        let whole = decrypt_env("x", content, Some(&key())).ok().map(values);
        let mut other = content.to_vec();
        for (at, byte) in cuts {
            let at = at.index(other.len());
            other[at] = byte;
        }
        if let Ok(plain) = decrypt_env("x", &other, Some(&key())) {
            prop_assert_eq!(Some(values(plain)), whole);
        }
    }
}

/// Needs `docker compose`, but no engine, as the tests of rendering do.
#[test]
fn compose_reads_every_value_as_it_was() {
    let values = [
        "plain",
        " spaces ",
        "a'b",
        "a\"b",
        "$HOME ${X:-y} $$",
        "back\\slash\\",
        "\\n",
        "two\nlines\n",
        "#x",
        "a #b",
        "=",
        "",
        "é✓",
        "'q'",
        "`x`",
        "tab\t!",
        "\\$x",
        "\"",
        "\\\\\"",
        "$",
        "{{ .x }}",
        "%s",
    ];
    let (mut env, mut wanted) = (Vec::new(), BTreeMap::new());
    for (n, value) in values.into_iter().enumerate() {
        sops::quoted(&mut env, &format!("V{n}"), value);
        wanted.insert(format!("V{n}"), value);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x.env"), env).unwrap();
    std::fs::write(folder.path().join("compose.yml"), "services: { x: { image: x, env_file: x.env } }\n").unwrap();
    let mut compose = std::process::Command::new("docker");
    compose.current_dir(&folder).args(["compose", "-p", "x", "config", "--format", "json"]);
    let done = compose.output().expect("run `make test`, which brings `docker compose`");
    let model: serde_json::Value = serde_json::from_slice(&done.stdout).expect("a model");
    for (name, value) in wanted {
        let shown = model["services"]["x"]["environment"][&name].as_str().map(|text| text.replace("$$", "$"));
        assert_eq!(shown.as_deref(), Some(value), "{name}");
    }
}
