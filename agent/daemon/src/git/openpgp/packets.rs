//! Packets of OpenPGP, and what is asked of every signature among them.

use pgp::{
    crypto::{hash::HashAlgorithm, public_key::PublicKeyAlgorithm},
    packet::{Packet, PacketHeader, Signature, SignatureConfig, SignatureVersion, SubpacketData},
    types::{EcdsaPublicParams, EddsaLegacyPublicParams, KeyDetails, KeyVersion, PacketLength, PublicParams, Tag},
};
use rsa::traits::PublicKeyParts as _;

/// Shortest RSA modulus that is accepted, in bits.
const MIN_RSA_BITS: usize = 2048;

/// A packet that matters, or one whose signatures do not.
pub(super) enum Piece {
    Packet(Box<Packet>),
    /// Such as a picture.
    UserAttribute,
}

/// Takes packets one after the other. Those of a kind that says nothing about keys are passed over unread.
pub(super) fn all(mut bytes: &[u8]) -> Result<Vec<Piece>, String> {
    let mut packets = Vec::new();
    while !bytes.is_empty() {
        let header = PacketHeader::try_from_reader(&mut bytes).map_err(|_| "a packet has a damaged header")?;
        let PacketLength::Fixed(length) = header.packet_length() else {
            return Err("a packet does not state its length".to_owned());
        };
        let length = usize::try_from(length).map_err(|_| "a packet is too long")?;
        let (mut body, rest) = bytes.split_at_checked(length).ok_or("it ends in the middle of a packet")?;
        bytes = rest;
        match header.tag() {
            Tag::UserAttribute => {
                packets.push(Piece::UserAttribute);
                continue;
            }
            Tag::Trust | Tag::Marker | Tag::Padding | Tag::UnassignedNonCritical(_) | Tag::Experimental(_) => continue,
            Tag::SecretKey | Tag::SecretSubkey => {
                return Err("it holds a secret key; write the public part: gpg --armor --export FINGERPRINT".to_owned());
            }
            Tag::Signature | Tag::PublicKey | Tag::PublicSubkey | Tag::UserId => {}
            tag => return Err(format!("it holds a packet that does not belong there ({tag:?})")),
        }
        let packet = Packet::from_reader(header, &mut body).map_err(|e| {
            format!("a packet cannot be read: {}", super::super::commit::displayable(e.to_string().as_bytes(), 120))
        })?;
        if !body.is_empty() {
            return Err("a packet is longer than its content".to_owned());
        }
        packets.push(Piece::Packet(Box::new(packet)));
    }
    Ok(packets)
}

/// Parts packets where a certificate begins. What cannot be parted is one piece: reading it says why.
pub(super) fn certificates(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut starts, mut rest, mut begun) = (vec![0], bytes, false);
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let Ok(header) = PacketHeader::try_from_reader(&mut rest) else { return vec![bytes] };
        let PacketLength::Fixed(length) = header.packet_length() else { return vec![bytes] };
        let body = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
        let Some((_, after)) = body else { return vec![bytes] };
        rest = after;
        if header.tag() == Tag::PublicKey {
            if begun {
                starts.push(at);
            }
            begun = true;
        }
    }
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().zip(ends).map(|(start, end)| &bytes[*start..end]).collect()
}

/// When a signature was made, in seconds (Unix).
pub(super) fn created(signature: &Signature) -> i64 {
    signature.created().map_or(0, |t| i64::from(t.as_secs()))
}

/// Why a signature is not one that counts, whoever made it: its version, its digest, or something in it that must be
/// understood and is not.
pub(super) fn unacceptable(signature: &Signature) -> Option<&'static str> {
    let Some(config) = signature.config().filter(|_| signature.version() == SignatureVersion::V4) else {
        return Some("is of a version that is not accepted (4 is)");
    };
    if !matches!(config.hash_alg, HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512) {
        return Some("uses a digest that is not accepted (SHA-256, SHA-384 and SHA-512 are)");
    }
    if config.hashed_subpackets().chain(config.unhashed_subpackets()).any(|sub| sub.is_critical && !is_known(&sub.data))
    {
        return Some("asks for something that is not understood (a critical subpacket)");
    }
    let times = config.hashed_subpackets().filter(|sub| matches!(sub.data, SubpacketData::SignatureCreationTime(_)));
    (times.count() != 1).then_some("does not say once when it was made")
}

/// What a signature may insist on.
fn is_known(data: &SubpacketData) -> bool {
    matches!(
        data,
        SubpacketData::SignatureCreationTime(_)
            | SubpacketData::SignatureExpirationTime(_)
            | SubpacketData::KeyExpirationTime(_)
            | SubpacketData::KeyFlags(_)
            | SubpacketData::IssuerKeyId(_)
            | SubpacketData::IssuerFingerprint(_)
            | SubpacketData::IsPrimary(_)
            | SubpacketData::SignersUserID(_)
            | SubpacketData::EmbeddedSignature(_)
    )
}

/// The second (Unix) after which a signature does not count, by itself.
pub(super) fn ends(signature: &Signature) -> Option<i64> {
    let lasts = hashed(signature, |data| match data {
        SubpacketData::SignatureExpirationTime(lasts) => Some(lasts.as_secs()),
        _ => None,
    });
    lasts.filter(|s| *s > 0).map(|s| created(signature) + i64::from(s)).min()
}

/// What the signed part of a signature says of one kind.
pub(super) fn hashed<'s, T>(
    signature: &'s Signature,
    wanted: impl Fn(&'s SubpacketData) -> Option<T>,
) -> impl Iterator<Item = T> {
    signature.config().into_iter().flat_map(SignatureConfig::hashed_subpackets).filter_map(move |sub| wanted(&sub.data))
}

/// Whether a signature names this key and no other one as its maker.
pub(super) fn is_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    let (ids, fingerprints) = (signature.issuer_key_id(), signature.issuer_fingerprint());
    !(ids.is_empty() && fingerprints.is_empty())
        && ids.iter().all(|id| **id == key.legacy_key_id())
        && fingerprints.iter().all(|f| **f == key.fingerprint())
}

/// As Git prints it.
pub(super) fn fingerprint(key: &impl KeyDetails) -> String {
    hex::encode_upper(key.fingerprint().as_bytes())
}

/// Why no signature by a key of this kind is accepted.
pub(super) fn weak(key: &impl KeyDetails) -> Option<String> {
    if key.version() != KeyVersion::V4 {
        return Some("keys of this version are not accepted (4 is)".to_owned());
    }
    match (key.algorithm(), key.public_params()) {
        (PublicKeyAlgorithm::RSA, PublicParams::RSA(rsa)) => {
            let bits = rsa.key.n().bits();
            (bits < MIN_RSA_BITS).then(|| format!("RSA keys of {bits} bits are not accepted ({MIN_RSA_BITS} are)"))
        }
        (PublicKeyAlgorithm::EdDSALegacy, PublicParams::EdDSALegacy(EddsaLegacyPublicParams::Ed25519 { .. }))
        | (
            PublicKeyAlgorithm::ECDSA,
            PublicParams::ECDSA(
                EcdsaPublicParams::P256 { .. } | EcdsaPublicParams::P384 { .. } | EcdsaPublicParams::P521 { .. },
            ),
        ) => None,
        (other, _) => Some(format!("keys of this kind ({other:?}) are not accepted; use Ed25519")),
    }
}
