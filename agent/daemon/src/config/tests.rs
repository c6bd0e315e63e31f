use std::{
    collections::BTreeSet, fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    settings::{Event, SinkKind},
    *,
};

const REFERENCE: &str = include_str!("../../../../docs/reference/agent.yml.md");
const PACKAGED: &str = include_str!("../../../../docker/debian/agent.yml");
const SCHEMA: &str = include_str!("../../../../docs/reference/agent.schema.json");

/// A folder that stands for `/etc/evenkeel`, with every file that the examples name.
struct Etc(TempDir);

impl Etc {
    fn new() -> Self {
        let etc = Self(tempfile::tempdir().unwrap());
        for name in
            ["token", "restic-password", "webhook-secret", "discord-url", "hook-secret", "page-token", "age.key"]
        {
            etc.put(name, 0o600);
        }
        etc.put("allowed_signers", 0o644);
        etc.put("revoked", 0o644);
        etc
    }

    fn put(&self, name: &str, mode: u32) {
        let path = self.path(name);
        fs::write(&path, "hunter2\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, text: &str) -> String {
        text.replace("/etc/evenkeel", self.0.path().to_str().unwrap())
    }

    fn parse(&self, text: &str) -> Result<Settings, ConfigErrors> {
        parse(Reader::new(&self.text(text), None, true), Path::new("agent.yml"), "box")
    }

    /// What a person reads, with the folder's name made stable.
    fn errors(&self, text: &str) -> String {
        self.parse(text).unwrap_err().to_string().replace(self.0.path().to_str().unwrap(), "/etc/evenkeel")
    }
}

/// The complete example of the reference.
fn example() -> &'static str {
    let (_, rest) = REFERENCE.split_once("```yaml\n").unwrap();
    rest.split_once("```").unwrap().0
}

/// The file that the package installs, with every setting that it suggests taken over: `#key` and `#  key`, not `# Words`
/// and `#     command`.
fn packaged() -> String {
    let is_prose = |line: &str| line.starts_with("# ") && (!line.starts_with("#  ") || line.starts_with("#     "));
    let settings = PACKAGED.lines().filter(|line| !is_prose(line)).filter_map(|line| line.strip_prefix('#'));
    settings.collect::<Vec<_>>().join("\n")
}

const MINIMAL: &str =
    "source: { url: 'file:///srv/git/infra.git' }\ntrust: { allowed_signers: /etc/evenkeel/allowed_signers }\n";

#[test]
fn what_the_packaged_file_suggests_is_valid_and_what_it_sets_is_nothing() {
    let settings = Etc::new().parse(&packaged()).unwrap();
    assert!(settings.observe && settings.backup.is_some() && settings.reports.len() == 1);
    assert!(PACKAGED.lines().all(|line| line.is_empty() || line.starts_with('#')));
    let untouched = Etc::new().errors(PACKAGED);
    assert!(untouched.contains("source.url: is missing"), "{untouched}");
}

#[test]
fn the_documented_example_is_valid() {
    let settings = Etc::new().parse(example()).unwrap();
    assert_eq!(settings.server.as_str(), "home");
    assert_eq!(settings.source.interval, Duration::from_secs(60));
    assert_eq!(
        settings.reports.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>(),
        ["webhook-1", "discord-1", "ntfy-1"]
    );
    assert!(!settings.reports[1].on.contains(&Event::Held) && settings.reports[0].on.contains(&Event::Held));
    assert!(matches!(&settings.reports[2].kind, SinkKind::Ntfy { token_file: None, .. }));
    assert_eq!(settings.listen.hooks.as_ref().unwrap().address, SocketAddr::from(([0, 0, 0, 0], 8421)));
    let page = settings.listen.page.unwrap();
    assert_eq!((page.address, page.token_file.is_some()), (SocketAddr::from(([127, 0, 0, 1], 8420)), true));
    assert!(settings.trust.introduction.is_some() && settings.backup.unwrap().required);
}

#[test]
fn two_keys_are_enough() {
    let etc = Etc::new();
    let settings = etc.parse(MINIMAL).unwrap();
    assert_eq!(settings.server.as_str(), "box");
    assert_eq!(settings.source.reference, "refs/heads/main");
    assert_eq!(settings.gate.healthy_deadline, Duration::from_secs(300));
    assert!(settings.backup.is_none() && settings.reports.is_empty() && settings.listen.hooks.is_none());
    let watched = watched(&settings, Path::new("/etc/agent.yml"));
    assert_eq!(watched, [PathBuf::from("/etc/agent.yml"), "/etc/evenkeel/env".into(), etc.path("allowed_signers")]);
}

#[test]
fn all_problems_are_told_at_once_with_line_and_remedy() {
    let etc = Etc::new();
    etc.put("webhook-secret", 0o644);
    let text = "\
serverr: home
observe: yes please
source:
  url: https://you:hunter2@example.org/infra.git
  ref: main
  intervall: 1m
  timeout: 90
trust: { allowed_signers: /etc/evenkeel/allowed_signers, revoked: /etc/evenkeel/nowhere }
gate: { min_healthy_time: 5m,
        healthy_deadline: 5m }
reports:
  - webhook: { url: 'https://example.org', secret_file: /etc/evenkeel/webhook-secret }
  - ntfy: { url: 'https://ntfy.sh/' }
    discord: { url_file: hunter2 }
    on: [deploied]
observe: false
";
    insta::assert_snapshot!(etc.errors(text));
}

#[test]
fn no_message_repeats_what_may_be_a_secret() {
    let etc = Etc::new();
    for text in [
        "source: { url: 'https://x:hunter2@h/', auth: { token_file: hunter2 } }",
        "source: { url: 'hunter2' }",
        "backup: { repository: 'rest:https://u:hunter2@h/', password_file: hunter2 }",
        "backup: { repository: /b, password: hunter2 }",
        "backup: { repository: /b, password_file: hunter2, keep: { last: 0 } }",
        "listen: { hooks: '1.2.3.4:5', hook_secret_file: hunter2 }",
        "reports: [{ webhook: { url: 'https://u:hunter2@h/', secret_file: hunter2 } }, { discord: { url: hunter2 } }]",
        "reports: hunter2",
    ] {
        let errors = etc.errors(text);
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}

#[test]
fn a_file_that_is_not_there_or_open_to_others_is_a_problem() {
    let etc = Etc::new();
    etc.put("token", 0o640);
    etc.put("allowed_signers", 0o666);
    let text = "source: { url: 'https://h/x', auth: { token_file: /etc/evenkeel/token } }\n\
                trust: { allowed_signers: /etc/evenkeel/allowed_signers }\n\
                backup: { repository: /b, password_file: /etc/evenkeel/none }\n";
    let errors = etc.errors(text);
    for wanted in
        ["chmod 600 /etc/evenkeel/token", "chmod 644 /etc/evenkeel/allowed_signers", "create it, or correct the path"]
    {
        assert!(errors.contains(wanted), "{errors}");
    }
}

#[test]
fn certificates_stand_beside_or_in_place_of_the_file_of_ssh_keys() {
    let etc = Etc::new();
    let folder = etc.0.path().join("openpgp");
    std::fs::create_dir(&folder).unwrap();
    let with = |trust: &str| format!("source: {{ url: 'file:///srv/git/infra.git' }}\ntrust: {{ {trust} }}\n");
    let certificates = "openpgp_certificates: /etc/evenkeel/openpgp";
    let trust = |text: &str| etc.parse(&with(text)).unwrap().trust;
    let alone = trust(certificates);
    assert_eq!((alone.allowed_signers(), alone.openpgp_certificates()), (None, Some(folder.as_path())));
    let both = trust(&format!("allowed_signers: /etc/evenkeel/allowed_signers, {certificates}"));
    assert!(both.allowed_signers().is_some() && both.openpgp_certificates().is_some());
    let of_repository = etc.errors(&with(&format!("signers: repository, {certificates}")));
    assert!(of_repository.contains("trust.openpgp_certificates: contradicts"), "{of_repository}");
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    assert!(etc.errors(&with(certificates)).contains("chmod 755"));
    let file = etc.errors(&with("openpgp_certificates: /etc/evenkeel/allowed_signers"));
    assert!(file.contains("is not a folder"), "{file}");
}

#[test]
fn a_systemd_credential_becomes_its_path() {
    let etc = Etc::new();
    let text = etc
        .text(MINIMAL)
        .replace("file:///srv/git", "https://h")
        .replace(" }\ntrust", ", auth: { token_file: 'credential:token' } }\ntrust");
    let settings =
        parse(Reader::new(&text, Some(etc.0.path().to_owned()), true), Path::new("agent.yml"), "box").unwrap();
    assert_eq!(settings.source.token_file, Some(etc.path("token")));
    let asking = parse(Reader::new(&text, Some("/run/credentials/x".into()), false), Path::new("agent.yml"), "box");
    assert_eq!(asking.unwrap().source.token_file, Some("/run/credentials/x/token".into()), "nobody looks at it");
    let errors = parse(Reader::new(&text, None, true), Path::new("agent.yml"), "box").unwrap_err().to_string();
    assert!(errors.contains("LoadCredential=token:"), "{errors}");
}

#[test]
fn refuses_state_where_a_commit_could_overwrite_it() {
    let errors = Etc::new().errors(&format!("{MINIMAL}paths: {{ live: /srv, state: /srv/state, env: /srv }}\n"));
    assert!(
        errors.contains("paths.state: is inside the live tree") && errors.contains("paths.env: is inside"),
        "{errors}"
    );
}

#[test]
fn refuses_a_token_over_plain_http_but_to_this_machine() {
    let etc = Etc::new();
    let with = |url: &str| {
        format!(
            "source: {{ url: '{url}', auth: {{ token_file: /etc/evenkeel/token }} }}\ntrust: {{ allowed_signers: /etc/evenkeel/allowed_signers }}\n"
        )
    };
    assert!(etc.errors(&with("http://git.example/x.git")).contains("unencrypted"));
    assert!(etc.parse(&with("http://127.0.0.1:3000/x.git")).is_ok());
}

/// The blocks that a repository over SSH needs, with these lines in `auth`.
fn over_ssh(url: &str, auth: &str) -> String {
    format!(
        "source:\n  url: {url}\n  auth: {{ {auth} }}\ntrust: {{ allowed_signers: /etc/evenkeel/allowed_signers }}\n"
    )
}

#[test]
fn ssh_needs_a_private_key_and_pinned_host_keys() {
    const BOTH: &str = "ssh_key: /etc/evenkeel/deploy_key, known_hosts: /etc/evenkeel/known_hosts";
    let etc = Etc::new();
    etc.put("deploy_key", 0o600);
    etc.put("known_hosts", 0o644);
    for url in ["git@example.org:you/infra.git", "ssh://git@example.org:2222/you/infra.git"] {
        let settings = etc.parse(&over_ssh(url, BOTH)).unwrap();
        let ssh = settings.source.ssh.as_ref().unwrap();
        assert_eq!((ssh.remote.user.as_deref(), ssh.remote.host.as_str()), (Some("git"), "example.org"));
        let watched = watched(&settings, Path::new("/etc/agent.yml"));
        assert!(watched.contains(&etc.path("deploy_key")) && watched.contains(&etc.path("known_hosts")));
        let errors = etc.errors(&over_ssh(url, ""));
        assert!(errors.contains("source.auth.ssh_key: is missing"), "{errors}");
        assert!(errors.contains("source.auth.known_hosts: is missing"), "{errors}");
    }
    let named = etc.parse(&over_ssh("example.org:x", &format!("{BOTH}, username: deploy"))).unwrap();
    assert_eq!(named.source.ssh.unwrap().remote.user.as_deref(), Some("deploy"));
    let errors = etc.errors(&over_ssh("example.org:x", &format!("{BOTH}, username: -oProxyCommand=x")));
    assert!(errors.contains("cannot be a user's name"), "{errors}");
    let errors = etc.errors(&over_ssh("https://example.org/x", BOTH));
    assert_eq!(errors.matches("has no effect").count(), 2, "{errors}");
    let errors = etc.errors(&over_ssh("git@-oProxyCommand=x:y", BOTH));
    assert!(errors.contains("source.url: has no host") && !errors.contains("no effect"), "{errors}");
    etc.put("deploy_key", 0o640);
    etc.put("known_hosts", 0o666);
    let errors = etc.errors(&over_ssh("git@example.org:x", BOTH));
    for wanted in ["chmod 600 /etc/evenkeel/deploy_key", "chmod 644 /etc/evenkeel/known_hosts"] {
        assert!(errors.contains(wanted), "{errors}");
    }
}

#[test]
fn a_page_that_others_can_reach_needs_a_token() {
    let etc = Etc::new();
    let with = |listen: &str| format!("{MINIMAL}listen: {listen}\n");
    for open in ["0.0.0.0:8420", "[::]:8420", "192.0.2.1:8420"] {
        let errors = etc.errors(&with(&format!("{{ page: '{open}' }}")));
        assert!(errors.contains("listen.page_token_file: is missing") && errors.contains("openssl rand"), "{errors}");
    }
    for closed in ["127.0.0.1:8420", "127.0.0.9:1", "[::1]:8420", "[::ffff:127.0.0.1]:8420"] {
        let settings = etc.parse(&with(&format!("{{ page: '{closed}' }}"))).unwrap();
        assert_eq!(settings.listen.page.unwrap().token_file, None);
    }
    let settings = etc.parse(&with("{ page: '0.0.0.0:8420', page_token_file: /etc/evenkeel/page-token }")).unwrap();
    assert!(watched(&settings, Path::new("/agent.yml")).contains(&etc.path("page-token")));
    assert!(etc.parse(MINIMAL).unwrap().listen.page.is_none(), "off unless asked for");
    let both = "{ page: '127.0.0.1:1', hooks: '127.0.0.1:1', hook_secret_file: /etc/evenkeel/hook-secret }";
    assert!(etc.errors(&with(both)).contains("listen.page: is the address of `hooks`"));
}

#[test]
fn a_broken_or_foreign_file_is_one_clear_problem() {
    let etc = Etc::new();
    for (text, wanted) in [
        ("- a\n- b\n", "must be a block of keys"),
        ("a: [\n", "is not valid YAML"),
        ("a: 1\n---\nb: 2\n", "is not valid YAML"),
        ("source: !secret x\n", "tagged value"),
    ] {
        assert!(etc.errors(text).contains(wanted), "{text}: {}", etc.errors(text));
    }
    let path = etc.path("agent.yml");
    assert!(load(&path).unwrap_err().to_string().contains("create it"));
    fs::write(&path, vec![b'#'; 1024 * 1024 + 1]).unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("larger than 1 MiB"));
    fs::write(&path, b"server: \xff").unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn a_flood_of_problems_is_cut() {
    let text: String = (0..5000).map(|n| format!("key{n}: 1")).collect::<Vec<_>>().join("\n");
    assert_eq!(Etc::new().parse(&text).unwrap_err().problems.len(), 50);
}

#[test]
fn a_server_may_say_how_a_repository_is_read() {
    let etc = Etc::new();
    let with = |layout: &str| format!("{MINIMAL}layout: {layout}\n");
    let settings = etc.parse(&with("{ layout: stacks, stacks: { web: { files: [deploy/web.yml] } } }")).unwrap();
    assert_eq!(settings.layout.map(|layout| layout.stacks.len()), Some(1));
    for nothing in ["", "{}"] {
        assert_eq!(etc.parse(&with(nothing)).unwrap().layout, None);
    }
    let errors = etc.errors(&with("\n  layuot: stacks\n  paths: files\n  policy: {}"));
    for (line, words) in
        [(4, "did you mean `layout`?"), (5, "did you mean `file`?"), (6, "unknown key `layout.policy`")]
    {
        assert!(errors.contains(&format!("agent.yml:{line}: layout:")) && errors.contains(words), "{errors}");
    }
}

/// Every key that the schema has, written as the code names it.
fn schema_keys(schema: &Value, prefix: &str, keys: &mut BTreeSet<String>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        schema_keys(inner, &key, keys);
        schema_keys(&inner["items"], &format!("{key}[]"), keys);
        keys.insert(key);
    }
}

#[test]
fn schema_and_reference_have_exactly_the_keys_that_the_code_reads() {
    let etc = Etc::new();
    let text = etc.text(example());
    let node = document::parse(&text).unwrap();
    let reader = Reader::new(&text, None, true);
    assert!(read::settings(Found::root(&reader, &node), "box").is_ok());
    let (problems, asked) = reader.finish();
    assert_eq!(problems, []);

    let mut keys = BTreeSet::new();
    schema_keys(&serde_json::from_str(SCHEMA).unwrap(), "", &mut keys);
    assert_eq!(keys, asked, "schema and code");

    let leaves = asked.iter().filter(|key| {
        !asked.iter().any(|other| other.strip_prefix(key.as_str()).is_some_and(|rest| rest.starts_with(['.', '['])))
    });
    for key in leaves {
        assert!(REFERENCE.contains(&format!("| `{key}` |")), "the reference says nothing of `{key}`");
    }
}

#[test]
fn refuses_a_configuration_that_others_can_change() {
    let etc = Etc::new();
    let file = etc.path("agent.yml");
    fs::write(&file, etc.text(MINIMAL)).unwrap();
    for (mode, is_fine) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        let result = load(&file).map_err(|errors| errors.to_string());
        assert_eq!(result.is_ok(), is_fine, "{mode:o}: {result:?}");
        assert!(is_fine || result.unwrap_err().contains("chmod 644"));
    }
}

#[test]
fn finds_the_agent_of_a_configuration_that_broke() {
    let etc = Etc::new();
    let file = etc.path("agent.yml");
    let default = Some(PathBuf::from("/run/evenkeel/agent.sock"));
    let cases = [
        ("server: '?'\npaths: { socket: /run/x.sock }\n", Some("/run/x.sock".into())),
        ("server: '?'\n", default),
        ("paths: { socket: [] }\n", None),
        ("server: [\n", None),
    ];
    for (text, socket) in cases {
        fs::write(&file, text).unwrap();
        assert_eq!(socket_of_invalid(&file), socket, "{text}");
    }
    assert_eq!(socket_of_invalid(&etc.path("none.yml")), None);
}
