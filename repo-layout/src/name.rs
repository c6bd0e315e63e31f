//! Names that are safe as a file name, a Compose project and a label value.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest name that is accepted, in bytes. Compose project names become parts of container names.
const MAX_LEN: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} name {text:?} is not usable: use 1 to {MAX_LEN} of the characters a-z A-Z 0-9 . _ -, beginning with a letter or a digit"
)]
pub struct NameError {
    what: &'static str,
    text: String,
}

fn checked(what: &'static str, text: &str) -> Result<String, NameError> {
    let fits = (1..=MAX_LEN).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && !text.contains("..");
    if fits { Ok(text.to_owned()) } else { Err(NameError { what, text: text.chars().take(80).collect() }) }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks `text` and makes a name of it.
            pub fn new(text: &str) -> Result<Self, NameError> {
                checked($what, text).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }
    };
}

name!(
    /// A stack's name: its folder or file stem.
    StackName,
    "stack"
);
name!(
    /// The name of stacks that move together.
    GroupName,
    "group"
);
name!(
    /// A server's name, as the agent's configuration and the repository's folders have it.
    ServerName,
    "server"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_folders_are_called() {
        for text in ["web", "immich-ml", "Grafana_2", "a", "site.example"] {
            assert_eq!(StackName::new(text).map(String::from), Ok(text.to_owned()));
        }
    }

    #[test]
    fn refuses_what_could_leave_a_folder_or_a_line() {
        for text in ["", ".", "..", "a..b", "-x", "a/b", "a b", "a\n", "é", &"x".repeat(64)] {
            assert!(StackName::new(text).is_err(), "{text:?}");
        }
    }
}
