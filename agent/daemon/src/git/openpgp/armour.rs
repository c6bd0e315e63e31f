//! ASCII armour (RFC 9580, section 6), read strictly: what follows or precedes a block, or hides in it, is an error.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Armour headers that GnuPG knows.
const HEADERS: [&str; 5] = ["Version", "Comment", "MessageID", "Hash", "Charset"];

/// The bytes of the one block that the text is. `kind` is what stands after BEGIN.
pub(super) fn one(text: &[u8], kind: &str) -> Result<Vec<u8>, &'static str> {
    let (bytes, rest) = first(text, kind)?;
    if rest.trim_ascii().is_empty() { Ok(bytes) } else { Err("something follows its last line") }
}

/// The bytes of the first block, and the text after it.
pub(super) fn first<'t>(text: &'t [u8], kind: &str) -> Result<(Vec<u8>, &'t [u8]), &'static str> {
    let mut lines = text.split_inclusive(|&b| b == b'\n');
    let mut read = 0;
    let mut next = || {
        let line = lines.next().ok_or("its last line is missing")?;
        read += line.len();
        Ok::<_, &'static str>((line.strip_suffix(b"\n").unwrap_or(line), read))
    };
    if next()?.0 != format!("-----BEGIN PGP {kind}-----").as_bytes() {
        return Err("it does not begin as one");
    }
    loop {
        let (line, _) = next()?;
        if line.is_empty() {
            break;
        }
        let text = std::str::from_utf8(line).map_err(|_| "an armour header is not UTF-8")?;
        if !text.split_once(": ").is_some_and(|(name, _)| HEADERS.contains(&name)) {
            return Err("no empty line ends its armour headers, or one of them is unknown");
        }
    }
    let end = format!("-----END PGP {kind}-----");
    let mut base64 = Vec::new();
    let mut sum = None;
    loop {
        let (line, after) = next()?;
        if line == end.as_bytes() {
            let bytes = STANDARD.decode(&base64).map_err(|_| "it is not base64")?;
            let fits = sum.is_none_or(|sum| sum == crc24(&bytes));
            return if fits { Ok((bytes, &text[after..])) } else { Err("its checksum does not fit") };
        }
        match line.strip_prefix(b"=") {
            _ if sum.is_some() => return Err("something follows its checksum"),
            Some(line) => sum = Some(checksum(line).ok_or("its checksum cannot be read")?),
            // Also refuses an empty line; what is no base64 is found when it is decoded.
            None if line.first().is_none_or(u8::is_ascii_whitespace) => return Err("a line of it is empty"),
            None => base64.extend_from_slice(line),
        }
    }
}

/// Bytes as a block.
pub(super) fn write(bytes: &[u8], kind: &str) -> String {
    let base64 = STANDARD.encode(bytes);
    let mut text = format!("-----BEGIN PGP {kind}-----\n\n");
    for line in base64.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    let sum = STANDARD.encode(&crc24(bytes).to_be_bytes()[1..]);
    text + &format!("={sum}\n-----END PGP {kind}-----\n")
}

fn checksum(base64: &[u8]) -> Option<u32> {
    let bytes: [u8; 3] = STANDARD.decode(base64).ok()?.try_into().ok()?;
    Some(u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]))
}

/// The checksum of RFC 9580, section 6.1.1.
fn crc24(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 0x80_0000 == 0 { crc << 1 } else { (crc << 1) ^ 0x186_4cfb };
    bytes.iter().fold(0xb7_04ce, |crc, &byte| (0..8).fold(crc ^ (u32::from(byte) << 16), |crc, _| step(crc)))
        & 0xff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armour(middle: &str) -> Vec<u8> {
        format!("-----BEGIN PGP SIGNATURE-----\n{middle}\n-----END PGP SIGNATURE-----\n").into_bytes()
    }

    #[test]
    fn a_block_is_read_with_its_checksum() {
        // The checksum of `hello` by another implementation.
        assert_eq!(one(&armour("\naGVsbG8=\n=Vegn"), "SIGNATURE"), Err("its checksum does not fit"));
        let right = format!("={}", STANDARD.encode(&crc24(b"hello").to_be_bytes()[1..]));
        assert_eq!(one(&armour(&format!("Comment: x\n\naGVs\nbG8=\n{right}")), "SIGNATURE"), Ok(b"hello".to_vec()));
        assert_eq!(one(&armour("\naGVsbG8="), "SIGNATURE"), Ok(b"hello".to_vec()));
        assert_eq!(crc24(b""), 0xb7_04ce);
        let long: Vec<u8> = (0..200).collect();
        assert_eq!(one(write(&long, "SIGNATURE").as_bytes(), "SIGNATURE"), Ok(long));
    }

    #[test]
    fn nothing_hides_beside_or_inside_a_block() {
        for middle in [
            "aGVsbG8=",
            "Odd: x\n\naGVsbG8=",
            "\naGVs bG8=",
            "\n\naGVsbG8=",
            "\naGVsbG8=\n=AAAA\naGVs",
            "\n!!!!",
            "\n=A",
        ] {
            assert!(one(&armour(middle), "SIGNATURE").is_err(), "{middle:?}");
        }
        let good = armour("\naGVsbG8=");
        assert!(one(&[good.as_slice(), b"\n \n"].concat(), "SIGNATURE").is_ok());
        assert!(one(&[good.as_slice(), b"x"].concat(), "SIGNATURE").is_err());
        assert!(one(&[b"x\n", good.as_slice()].concat(), "SIGNATURE").is_err());
        assert!(one(&good, "MESSAGE").is_err());
        assert_eq!(first(&[good.as_slice(), &good].concat(), "SIGNATURE").unwrap().1, good);
    }
}
