//! From bytes to a text that is safe to give to the parser.

use super::{MAX_YAML_BYTES, YamlError};

/// Most brackets and braces open at once. The parser's own limit on nesting comes after its scanner, whose work
/// grows with the square of the open ones.
const MAX_OPEN: usize = 256;

/// UTF-8 with or without a byte order mark, as Compose takes it.
pub fn decode(bytes: &[u8]) -> Result<&str, YamlError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.split(|b| *b == b'\n').count();
        YamlError::new(u32::try_from(line).ok(), "not a UTF-8 text", "save the file as UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Refuses what would make the parser slow.
pub(super) fn check(text: &str) -> Result<(), YamlError> {
    if text.len() > MAX_YAML_BYTES {
        let message = format!("{} bytes are more than the {MAX_YAML_BYTES} that are read", text.len());
        return Err(YamlError::new(None, message, "split the file; data belongs into files that are mounted"));
    }
    let (mut open, mut line) = (0_usize, 1_u32);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            b'\n' => line += 1,
            _ => {}
        }
        if open > MAX_OPEN {
            let message = format!("more than {MAX_OPEN} brackets are open at once");
            return Err(YamlError::new(Some(line), message, "close them; keep the nesting below 128 levels"));
        }
    }
    Ok(())
}
