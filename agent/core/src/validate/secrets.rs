//! What looks like a secret in plain text. Values are looked at and never repeated.

/// Words that end the name of a variable whose value is a secret.
const WORDS: &[&str] =
    &["PASSWORD", "PASSWD", "PASSPHRASE", "PASS", "PASSWORT", "SECRET", "TOKEN", "APIKEY", "CREDENTIALS"];
/// Words before a final `KEY` that make it a secret.
const KEYS: &[&str] =
    &["API", "ACCESS", "SECRET", "PRIVATE", "ENCRYPTION", "AUTH", "SIGNING", "MASTER", "APP", "AUTHKEY"];
/// Values that are settings, not secrets.
const SETTINGS: &[&str] =
    &["true", "false", "yes", "no", "on", "off", "none", "null", "enabled", "disabled", "required", "optional", "file"];
/// Beginnings of values that nobody took for a secret: still to be filled in, a hash, or encrypted.
const NOT_YET: &[&str] = &["<", "your", "xxx", "***", "$2y$", "$2a$", "$2b$", "$argon2", "$apr1$", "{SHA}", "ENC["];

/// Whether a variable's value is a secret that is written out.
pub fn is_plain_secret(name: &str, value: &str) -> bool {
    has_credentials(value) || (is_secret_name(name) && is_written_out(value))
}

/// Whether the name says that the value is a secret.
fn is_secret_name(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let parts: Vec<&str> = upper.split(['_', '-', '.']).filter(|p| !p.is_empty()).collect();
    let Some((last, before)) = parts.split_last() else { return false };
    if parts.contains(&"PUBLIC") || parts.contains(&"SITE") {
        return false;
    }
    let ends = WORDS.iter().any(|word| last.ends_with(word)) && !["BYPASS", "COMPASS", "ENCOMPASS"].contains(last);
    // SECRET_KEY_BASE is Rails'.
    let base = parts.ends_with(&["SECRET", "KEY", "BASE"]);
    let key = *last == "KEY" && before.last().is_some_and(|word| KEYS.contains(word));
    ends || base || key
}

/// Whether a value is there, and is itself what is secret.
fn is_written_out(value: &str) -> bool {
    let value = value.trim();
    let lower = value.to_ascii_lowercase();
    let is_reference = value.contains("${") || value.starts_with(['$', '/', '.', '~']) || value.contains("{{");
    let is_setting = SETTINGS.contains(&lower.as_str()) || lower.starts_with("file:") || value.chars().count() < 3;
    let is_open = NOT_YET.iter().any(|begin| value.starts_with(begin) || lower.starts_with(begin));
    let is_number = value.len() < 4 && value.bytes().all(|b| b.is_ascii_digit());
    !(is_reference || is_setting || is_open || is_number || super::is_ciphertext(value))
}

/// `scheme://user:password@host`, with the password written out.
fn has_credentials(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    let host_part = rest.split(['/', '?', ' ']).next().unwrap_or(rest);
    let Some((user, _)) = host_part.rsplit_once('@') else { return false };
    user.split_once(':').is_some_and(|(_, password)| is_written_out(password))
}

/// Whether an argument of a command hands over a password that is written out.
pub fn is_plain_argument(argument: &str, next: Option<&str>) -> bool {
    let flags = ["--requirepass", "--password", "--pass", "--secret", "--token", "--api-key", "--masterauth"];
    flags.iter().any(|flag| match argument.strip_prefix(flag) {
        Some("") => next.is_some_and(|value| !value.starts_with('-') && is_written_out(value)),
        Some(rest) => rest.strip_prefix('=').is_some_and(is_written_out),
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_a_secret_from_a_setting() {
        for (name, value) in [
            ("POSTGRES_PASSWORD", "example"),
            ("DB_PASS", "hunter22"),
            ("app.jwt.secret", "aGVsbG8"),
            ("API_KEY", "0123456789"),
            ("SECRET_KEY_BASE", "abcdef"),
            ("DATABASE_URL", "postgres://app:hunter2@db/app"),
            ("RABBITMQ_DEFAULT_PASS", "guest"),
        ] {
            assert!(is_plain_secret(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("POSTGRES_PASSWORD", "${PASSWORD}"),
            ("POSTGRES_PASSWORD", ""),
            ("POSTGRES_PASSWORD_FILE", "/run/secrets/db"),
            ("DB_PASSWORD", "/run/secrets/db"),
            ("MYSQL_ALLOW_EMPTY_PASSWORD", "yes"),
            ("PASSWORD_MIN_LENGTH", "12"),
            ("TOKEN_TTL", "3600s"),
            ("PUBLIC_KEY", "abcdefgh"),
            ("SSH_KEY", "abcdefgh"),
            ("DATABASE_URL", "postgres://app:${PASSWORD}@db/app"),
            ("DATABASE_URL", "postgres://db/app"),
            ("HTTP_PROXY", "http://proxy:3128"),
            ("API_TOKEN", "<your token>"),
            ("BASIC_AUTH_PASSWORD", "$2y$05$abcdefgh"),
            ("ADMIN_TOKEN", "ENC[AES256_GCM,data:x]"),
            ("PWD", "somewhere"),
        ] {
            assert!(!is_plain_secret(name, value), "{name}={value}");
        }
    }

    #[test]
    fn a_password_in_a_command_is_one_too() {
        assert!(is_plain_argument("--requirepass", Some("hunter2")));
        assert!(is_plain_argument("--password=hunter2", None));
        assert!(!is_plain_argument("--requirepass", Some("${PASSWORD}")));
        assert!(!is_plain_argument("--password-file=/run/x", None));
    }
}
