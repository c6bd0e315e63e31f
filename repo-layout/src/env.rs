//! Environment files and variables in a text, as far as a project's name needs them.

use std::collections::BTreeMap;

/// Deepest nesting of defaults within defaults.
const MAX_DEPTH: u8 = 8;

/// Variables by name.
pub(crate) type Env = BTreeMap<String, String>;

/// An environment file and the one beside it that age encrypted, which is above it.
pub(crate) fn with_encrypted(path: String) -> [String; 2] {
    let encrypted = format!("{path}.age");
    [path, encrypted]
}

/// Whether a file's name says that age encrypted it, so that nothing can be read of it here.
pub(crate) fn is_encrypted(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, extension)| extension == "age")
}

/// Reads an env file over `env`: `KEY=value`, `export KEY=value`, comments, quotes. A value may use what is known
/// above it; in single quotes it is literal. A value that cannot be resolved, or that SOPS encrypted, is left out.
pub(crate) fn read_over(env: &mut Env, text: &str) {
    for line in text.lines().map(str::trim) {
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let Some((key, value)) = line.split_once('=') else { continue };
        let key = key.trim_end();
        if !is_name(key) {
            continue;
        }
        let value = value.trim_start();
        let value = if let Some(rest) = value.strip_prefix('\'') {
            rest.split_once('\'').map(|(literal, _)| literal.to_owned())
        } else if let Some(rest) = value.strip_prefix('"') {
            rest.split_once('"').and_then(|(inner, _)| interpolate(inner, env))
        } else {
            let bare = if value.starts_with('#') { "" } else { value.split(" #").next().unwrap_or(value) };
            interpolate(bare.trim_end(), env)
        };
        match value.filter(|value| !value.starts_with("ENC[")) {
            Some(value) => env.insert(key.to_owned(), value),
            None => env.remove(key),
        };
    }
}

/// Replaces `$X`, `${X}`, `${X-d}`, `${X:-d}`, `${X+r}`, `${X:+r}`, `${X?}`, `${X:?}` and `$$`.
/// `None` if a variable is not known and has no default, or if the text is malformed.
pub(crate) fn interpolate(text: &str, env: &Env) -> Option<String> {
    expand(text, env, MAX_DEPTH)
}

fn expand(text: &str, env: &Env, depth: u8) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            after
        } else if let Some(after) = after.strip_prefix('{') {
            let end = closing(after)?;
            out.push_str(&braced(&after[..end], env, depth)?);
            &after[end + 1..]
        } else {
            let end = after.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
            let (name, after) = after.split_at(end);
            out.push_str(env.get(name)?);
            after
        };
    }
    out.push_str(rest);
    Some(out)
}

/// Where the brace closes that is open at the beginning.
fn closing(text: &str) -> Option<usize> {
    let mut open = 1_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

fn braced(inner: &str, env: &Env, depth: u8) -> Option<String> {
    let end = inner.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    let (name, operation) = inner.split_at(end);
    if !is_name(name) {
        return None;
    }
    let (filled, operation) = match operation.strip_prefix(':') {
        Some(operation) => (env.get(name).filter(|v| !v.is_empty()), operation),
        None => (env.get(name), operation),
    };
    match operation.split_at_checked(1) {
        Some(("-", default)) => filled.cloned().or_else(|| expand(default, env, depth)),
        Some(("+", replacement)) if filled.is_some() => expand(replacement, env, depth),
        Some(("+", _)) => Some(String::new()),
        Some(("?", _)) => filled.cloned(),
        None if operation.is_empty() => filled.cloned(),
        _ => None,
    }
}

/// Whether a text can be a variable's name.
pub(crate) fn is_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(text: &str) -> Env {
        let mut env = Env::new();
        read_over(&mut env, text);
        env
    }

    #[test]
    fn reads_what_env_files_hold() {
        let env =
            env("# c\nA=1\nexport B = two words # c\nC='$A'\nD=\"x-${A}\"\nE=\nF=$NOWHERE\nnonsense\n1X=2\nA_2=#c\n");
        let shown: Vec<String> = env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(shown, ["A=1", "A_2=", "B=two words", "C=$A", "D=x-1", "E="]);
    }

    #[test]
    fn takes_nothing_from_what_is_encrypted() {
        let env = env("A=1\nA=ENC[AES256_GCM,data:x]\nB='ENC[AES256_GCM,data:x]'\n");
        assert!(env.is_empty(), "{env:?}");
    }

    #[test]
    fn resolves_variables_as_compose_does() {
        let env = env("X=x\nEMPTY=\n");
        for (text, want) in [
            ("plain", Some("plain")),
            ("$X-${X}", Some("x-x")),
            ("${N:-d}", Some("d")),
            ("${N:-${X}y}", Some("xy")),
            ("${EMPTY:-d}", Some("d")),
            ("${EMPTY-d}", Some("")),
            ("${X:+r}${N+r}", Some("r")),
            ("${X:?needed}", Some("x")),
            ("a$$b", Some("a$b")),
            ("$N", None),
            ("${N}", None),
            ("${N:?needed}", None),
            ("${X", None),
            ("${}", None),
            ("${X!}", None),
            ("$", None),
            ("${é}", None),
        ] {
            assert_eq!(interpolate(text, &env).as_deref(), want, "{text}");
        }
        assert_eq!(interpolate(&"${N:-".repeat(10_000), &env), None);
    }
}
