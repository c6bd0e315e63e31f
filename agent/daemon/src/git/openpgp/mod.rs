//! OpenPGP signatures, checked against the certificates in a folder of the server.
//!
//! Packets are read by the `pgp` crate (rPGP), which also checks that a signature fits a key. Everything else is decided
//! here, because that crate asks no more: which kinds count, that a key may sign, is bound, lives and is not revoked.
//! What is accepted is a subset of what GnuPG accepts: where its reading is the more lenient one, ours is not.

mod armour;
mod certificate;
mod packets;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use evenkeel_core::trust::Signature;
use pgp::{
    packet::{Packet, Signature as Packed, SignatureType},
    types::{KeyDetails, VerifyingKey},
};

use super::certificates::{BLOCK, Listed, State};
use certificate::{Certificate, SKEW_SECONDS, Standing};
use packets::{Piece, created, ends, fingerprint, is_by, unacceptable};

/// Largest file of certificates that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// Most files that are read.
const MAX_FILES: usize = 256;
/// Most certificates that are kept.
const MAX_CERTIFICATES: usize = 1000;

/// The certificates whose signatures count, as they stand at a moment.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    certificates: Vec<Certificate>,
    /// Fingerprints of primary keys and subkeys that never count, whatever their certificates say.
    revoked: BTreeSet<String>,
    now: i64,
}

impl Keyring {
    /// No certificate, at a moment.
    pub fn empty(now_unix: i64) -> Self {
        Self { now: now_unix, ..Self::default() }
    }

    /// Reads every file of a folder. A file that cannot be read is an error, and so is a folder without certificates.
    pub fn read(folder: &Path, now_unix: i64) -> Result<Self, String> {
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(folder).map_err(|e| e.to_string())? {
            let entry = entry.map_err(|e| e.to_string())?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                files.push(entry.path());
            }
        }
        if files.len() > MAX_FILES {
            return Err(format!("it holds {} files, more than the {MAX_FILES} that are read", files.len()));
        }
        files.sort();
        let mut keyring = Self::empty(now_unix);
        for file in files {
            let name = file.file_name().unwrap_or_default().display().to_string();
            content(&file).and_then(|bytes| keyring.add(&bytes)).map_err(|why| format!("{name:?}: {why}"))?;
        }
        if keyring.certificates.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(keyring) }
    }

    /// Reads certificates, armoured or not.
    pub fn parse(bytes: &[u8], now_unix: i64) -> Result<Self, String> {
        Self::empty(now_unix).with(bytes)
    }

    /// Adds certificates, armoured or not. One that is there already is an error.
    pub fn with(mut self, bytes: &[u8]) -> Result<Self, String> {
        self.add(bytes)?;
        Ok(self)
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        for certificate in read(bytes)? {
            let name = fingerprint(&certificate.primary);
            if self.certificates.iter().any(|known| fingerprint(&known.primary) == name) {
                return Err(format!("the certificate {name} is there twice; keep the newer one"));
            }
            if self.certificates.len() == MAX_CERTIFICATES {
                return Err(format!("there are more than {MAX_CERTIFICATES} certificates"));
            }
            self.certificates.push(certificate);
        }
        Ok(())
    }

    /// Takes away keys and subkeys for good, by their fingerprints.
    #[must_use]
    pub fn without(mut self, revoked: &BTreeSet<String>) -> Self {
        self.revoked.clone_from(revoked);
        self
    }

    /// The primary user id of each certificate, by its primary fingerprint.
    pub fn principals(&self) -> BTreeMap<String, String> {
        self.certificates.iter().map(|c| (fingerprint(&c.primary), named(c))).collect()
    }

    /// The certificates, in the order in which they were read.
    pub fn listed(&self) -> Vec<Listed> {
        let listed = |certificate: &Certificate| {
            let (standing, ends) = certificate.best(&self.revoked, self.now);
            let state = match standing {
                Standing::Counts => State::Counts,
                Standing::Lapsed(why) => State::Lapsed(why),
                Standing::Revoked(why) => State::Revoked(why),
                Standing::Unfit(why) => State::Unfit(why),
            };
            Listed {
                fingerprint: fingerprint(&certificate.primary),
                principal: named(certificate),
                state,
                ends,
                armour: armour::write(&certificate.packets, BLOCK),
            }
        };
        self.certificates.iter().map(listed).collect()
    }

    /// Checks an armoured signature against a payload.
    pub fn check(&self, armour: &[u8], payload: &[u8]) -> Signature {
        self.checked(armour, payload).unwrap_or_else(|fault| fault)
    }

    fn checked(&self, armour: &[u8], payload: &[u8]) -> Result<Signature, Signature> {
        let malformed = |why: &str| Signature::Malformed(format!("its OpenPGP signature is malformed: {why}"));
        let bytes = armour::one(armour, "SIGNATURE").map_err(malformed)?;
        let mut packets = packets::all(&bytes).map_err(|why| malformed(&why))?.into_iter();
        let signature = match (packets.next(), packets.next()) {
            (Some(Piece::Packet(packet)), None) => *packet,
            _ => return Err(malformed("it is not one signature")),
        };
        let Packet::Signature(signature) = signature else { return Err(malformed("it is not a signature")) };
        let (certificate, signer, standing) = self.maker(&signature)?;
        let fingerprint = fingerprint(&certificate.primary);
        let unfit = |reason: String| Signature::Unsupported { fingerprint: Some(fingerprint.clone()), reason };
        // Said first: a signature by a kind of key that is not accepted is not even tried.
        if let Standing::Unfit(reason) = &standing {
            return Err(unfit(reason.clone()));
        }
        let invalid = |why: String| Signature::Invalid { fingerprint: fingerprint.clone(), reason: why };
        if let Some(why) = unacceptable(&signature) {
            return Err(invalid(format!("its signature {why}")));
        }
        match signature.typ() {
            Some(SignatureType::Binary) => {}
            Some(SignatureType::Text) => return Err(invalid("it is signed as text, not byte by byte".to_owned())),
            _ => return Err(invalid("its signature is not one over a document".to_owned())),
        }
        if !signer.fits(&signature, payload) {
            return Err(invalid(
                "the signature does not fit the commit: the commit was changed after it was signed".to_owned(),
            ));
        }
        if created(&signature) > self.now + SKEW_SECONDS {
            return Err(invalid("its signature is dated in the future".to_owned()));
        }
        if created(&signature) < signer.made() {
            return Err(invalid("its signature is older than the key that made it".to_owned()));
        }
        Ok(match standing {
            Standing::Revoked(reason) => Signature::Revoked { fingerprint, reason },
            Standing::Lapsed(reason) => Signature::Lapsed { fingerprint, reason },
            Standing::Unfit(reason) => unfit(reason),
            Standing::Counts if ends(&signature).is_some_and(|end| self.now >= end) => {
                Signature::Lapsed { fingerprint, reason: "its signature has expired".to_owned() }
            }
            Standing::Counts => Signature::Valid { fingerprint },
        })
    }

    /// The one key that a signature names as its maker, its certificate, and how the key stands.
    fn maker(&self, signature: &Packed) -> Result<(&Certificate, Signer<'_>, Standing), Signature> {
        let mut found = Vec::new();
        for certificate in &self.certificates {
            if is_by(signature, &certificate.primary) {
                found.push((certificate, Signer::Primary(certificate), certificate.primary(self.now)));
            }
            for (key, signatures) in &certificate.subkeys {
                if is_by(signature, key) {
                    found.push((certificate, Signer::Subkey(key), certificate.subkey(key, signatures, self.now)));
                }
            }
        }
        let unsupported = |fingerprint, reason: &str| Signature::Unsupported { fingerprint, reason: reason.to_owned() };
        let named = || signature.issuer_fingerprint().first().map(|f| hex::encode_upper(f.as_bytes()));
        let (certificate, signer, standing) = match (found.pop(), found.pop()) {
            (None, _) if self.certificates.is_empty() => {
                let reason = "it is signed with OpenPGP, and no OpenPGP certificates are configured; \
                     name their folder (trust.openpgp_certificates), or sign with an SSH key: git config gpg.format ssh";
                return Err(unsupported(named(), reason));
            }
            (None, _) => return Err(unsupported(named(), "its key is in none of the OpenPGP certificates")),
            (Some(_), Some(_)) => {
                return Err(unsupported(
                    named(),
                    "its key stands in two OpenPGP certificates, so nobody can tell whose it is",
                ));
            }
            (Some(one), None) => one,
        };
        let keys = [signer.fingerprint(), fingerprint(&certificate.primary)];
        let standing = if keys.iter().any(|key| self.revoked.contains(key)) {
            Standing::Revoked("its key is revoked".to_owned())
        } else {
            standing
        };
        Ok((certificate, signer, standing))
    }
}

fn named(certificate: &Certificate) -> String {
    certificate.principal().unwrap_or_else(|| "no user id".to_owned())
}

/// The key that made a signature.
enum Signer<'k> {
    Primary(&'k Certificate),
    Subkey(&'k pgp::packet::PublicSubkey),
}

impl Signer<'_> {
    fn fingerprint(&self) -> String {
        match self {
            Self::Primary(certificate) => fingerprint(&certificate.primary),
            Self::Subkey(key) => fingerprint(*key),
        }
    }

    /// When the key was made, in seconds (Unix).
    fn made(&self) -> i64 {
        let made = match self {
            Self::Primary(certificate) => certificate.primary.created_at(),
            Self::Subkey(key) => key.created_at(),
        };
        i64::from(made.as_secs())
    }

    fn fits(&self, signature: &Packed, payload: &[u8]) -> bool {
        match self {
            Self::Primary(certificate) => fits(&certificate.primary, signature, payload),
            Self::Subkey(key) => fits(*key, signature, payload),
        }
    }
}

fn fits(key: &impl VerifyingKey, signature: &Packed, payload: &[u8]) -> bool {
    signature.config().is_some_and(|c| c.pub_alg == key.algorithm()) && signature.verify(key, payload).is_ok()
}

/// The certificates in a file: armoured blocks one after the other, or packets.
fn read(bytes: &[u8]) -> Result<Vec<Certificate>, String> {
    if !bytes.trim_ascii_start().starts_with(b"-----BEGIN ") {
        return Certificate::all(bytes);
    }
    // Files of people, who may have edited them elsewhere; a signature is read without this kindness.
    let text: Vec<u8> = bytes.iter().copied().filter(|b| *b != b'\r').collect();
    let mut rest = text.trim_ascii();
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (packets, more) = armour::first(rest, BLOCK).map_err(|why| format!("the armour ({BLOCK}): {why}"))?;
        all.extend(Certificate::all(&packets)?);
        rest = more.trim_ascii();
    }
    Ok(all)
}

fn content(file: &Path) -> Result<Vec<u8>, String> {
    let opened = fs::File::open(file).map_err(|e| e.to_string())?;
    let metadata = opened.metadata().map_err(|e| e.to_string())?;
    if !metadata.is_file() {
        return Err("it is not a file; the folder must hold nothing but certificates".to_owned());
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        return Err("others can change it; run: chmod 644 on it".to_owned());
    }
    let mut bytes = Vec::new();
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES { Err("it is larger than 1 MiB".to_owned()) } else { Ok(bytes) }
}
