//! A certificate: a primary key, whose it is, and the keys that sign for it. What it says of each key at a moment.

use std::collections::BTreeSet;

use pgp::{
    packet::{Packet, PublicKey, PublicSubkey, Signature, SignatureType, SubpacketData, UserId},
    types::{KeyDetails, Tag},
};

use super::packets::{self, Piece, created, ends, fingerprint, hashed, is_by, unacceptable, weak};

/// How far another clock may be ahead of ours, in seconds.
pub(super) const SKEW_SECONDS: i64 = 300;

/// How a key stands at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Counts,
    /// It did, or will, but does not now.
    Lapsed(String),
    /// Its owner took it back.
    Revoked(String),
    /// It cannot sign commits at all.
    Unfit(String),
}

impl Standing {
    /// Of several keys the one that stands best speaks for the certificate.
    fn rank(&self) -> u8 {
        match self {
            Self::Counts => 0,
            Self::Lapsed(_) => 1,
            Self::Revoked(_) => 2,
            Self::Unfit(_) => 3,
        }
    }
}

/// A certificate as its packets are, nothing checked.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    /// Its packets, as they were read.
    pub packets: Vec<u8>,
    pub primary: PublicKey,
    direct: Vec<Signature>,
    users: Vec<(UserId, Vec<Signature>)>,
    pub subkeys: Vec<(PublicSubkey, Vec<Signature>)>,
}

impl Certificate {
    /// Reads the packets of one or more certificates.
    pub fn all(packets: &[u8]) -> Result<Vec<Self>, String> {
        let all = packets::certificates(packets).into_iter().map(Self::one);
        let all: Vec<Self> = all.collect::<Result<_, _>>()?;
        if all.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(all) }
    }

    fn one(packets: &[u8]) -> Result<Self, String> {
        let mut found: Option<Self> = None;
        let mut of_an_attribute = false;
        for piece in packets::all(packets)? {
            let Piece::Packet(packet) = piece else {
                of_an_attribute = true;
                continue;
            };
            of_an_attribute &= matches!(*packet, Packet::Signature(_));
            match (*packet, found.as_mut()) {
                (Packet::PublicKey(primary), None) => {
                    let packets = packets.to_vec();
                    let (direct, users, subkeys) = (Vec::new(), Vec::new(), Vec::new());
                    found = Some(Self { packets, primary, direct, users, subkeys });
                }
                (_, None) => return Err("it does not begin with a public key".to_owned()),
                (Packet::UserId(user), Some(last)) => last.users.push((user, Vec::new())),
                (Packet::PublicSubkey(key), Some(last)) => last.subkeys.push((key, Vec::new())),
                (Packet::Signature(_), Some(_)) if of_an_attribute => {}
                (Packet::Signature(signature), Some(last)) => last.place(signature),
                _ => return Err("it holds a packet that does not belong there".to_owned()),
            }
        }
        found.ok_or_else(|| "it holds no certificate".to_owned())
    }

    /// A signature belongs to what stands before it; the revocation of the whole to the whole.
    fn place(&mut self, signature: Signature) {
        if signature.typ() == Some(SignatureType::KeyRevocation) {
            return self.direct.push(signature);
        }
        let place = match (self.subkeys.last_mut(), self.users.last_mut()) {
            (Some((_, signatures)), _) | (None, Some((_, signatures))) => signatures,
            (None, None) => &mut self.direct,
        };
        place.push(signature);
    }

    /// The primary user id: the one that says so, else the one that was confirmed last.
    pub fn principal(&self) -> Option<String> {
        let confirmed = self.users.iter().filter_map(|(user, signatures)| {
            let newest = self.confirmed(user, signatures)?;
            let says_so = hashed(newest, |data| match data {
                SubpacketData::IsPrimary(primary) => Some(*primary),
                _ => None,
            });
            Some((says_so.last().unwrap_or(false), created(newest), user))
        });
        let (.., user) = confirmed.max_by_key(|(says_so, time, _)| (*says_so, *time))?;
        Some(super::super::commit::displayable(user.id(), 200))
    }

    /// How the certificate as a whole stands, by the best of its keys, and the second (Unix) at which that one ends.
    /// `revoked` are fingerprints that never count.
    pub fn best(&self, revoked: &BTreeSet<String>, now: i64) -> (Standing, Option<i64>) {
        let is_revoked = |key: &str| revoked.contains(&fingerprint(&self.primary)) || revoked.contains(key);
        let held = |key: String, standing: Standing, end: Option<i64>| {
            let taken = || Standing::Revoked("its key is revoked".to_owned());
            (if is_revoked(&key) { taken() } else { standing }, end)
        };
        let ends = end(&self.primary, self.own());
        let primary = held(fingerprint(&self.primary), self.primary(now), ends);
        let subkeys = self.subkeys.iter().map(|(key, signatures)| {
            let own = self.binding(signatures).and_then(|binding| end(key, [binding]));
            held(fingerprint(key), self.subkey(key, signatures, now), ends.into_iter().chain(own).min())
        });
        let later = |end: Option<i64>| std::cmp::Reverse(end.unwrap_or(i64::MAX));
        let keys = std::iter::once(primary).chain(subkeys);
        keys.min_by_key(|(standing, end)| (standing.rank(), later(*end))).unwrap_or((Standing::Counts, None))
    }

    /// How the primary key stands.
    pub fn primary(&self, now: i64) -> Standing {
        if let Some(why) = self.of_all_keys(now) {
            return why;
        }
        let said: Vec<bool> = self.own().filter_map(may_sign).collect();
        if said.is_empty() || said.contains(&false) {
            return Standing::Unfit("its certificate does not let the primary key sign".to_owned());
        }
        Standing::Counts
    }

    /// How a subkey stands.
    pub fn subkey(&self, key: &PublicSubkey, signatures: &[Signature], now: i64) -> Standing {
        let whole = self.of_all_keys(now);
        if let Some(revoked @ Standing::Revoked(_)) = whole {
            return revoked;
        }
        if signatures.iter().any(|s| s.typ() == Some(SignatureType::SubkeyRevocation)) {
            return Standing::Revoked(format!("the subkey {} is revoked by its owner", fingerprint(key)));
        }
        if let Some(why) = whole {
            return why;
        }
        let unfit = |why: String| Standing::Unfit(format!("the subkey {}: {why}", fingerprint(key)));
        if let Some(why) = weak(key) {
            return unfit(why);
        }
        let Some(binding) = self.binding(signatures) else {
            return unfit("the primary key does not vouch for it".to_owned());
        };
        if let Some(why) = unacceptable(binding) {
            return unfit(format!("its binding {why}"));
        }
        if binding.verify_subkey_binding(&self.primary, key).is_err() {
            return unfit("the primary key does not vouch for it".to_owned());
        }
        if may_sign(binding) != Some(true) {
            return unfit("it may not sign".to_owned());
        }
        match binding.embedded_signature() {
            Some(back)
                if unacceptable(back).is_none() && back.verify_primary_key_binding(key, &self.primary).is_ok() => {}
            _ => return unfit("it does not vouch for the primary key in turn".to_owned()),
        }
        alive(key, [binding], now)
    }

    /// The newest word of the primary key on a subkey.
    fn binding<'s>(&self, signatures: &'s [Signature]) -> Option<&'s Signature> {
        let bindings = signatures.iter().filter(|s| s.typ() == Some(SignatureType::SubkeyBinding));
        bindings.filter(|s| self.claims(s)).max_by_key(|s| created(s))
    }

    /// What is asked of the certificate as a whole: `None` if its keys may count.
    fn of_all_keys(&self, now: i64) -> Option<Standing> {
        // Also one that cannot be checked, such as that of a revoker named by the owner: the file is the operator's.
        if self.direct.iter().any(|s| s.typ() == Some(SignatureType::KeyRevocation)) {
            return Some(Standing::Revoked("its OpenPGP certificate is revoked by its owner".to_owned()));
        }
        if self.direct.iter().any(|s| s.typ().is_none()) {
            return Some(Standing::Unfit("its certificate holds a signature that is not understood".to_owned()));
        }
        if let Some(why) = weak(&self.primary) {
            return Some(Standing::Unfit(why));
        }
        if !self.users.iter().any(|(user, signatures)| self.confirmed(user, signatures).is_some()) {
            let why = "its certificate has no user id that its own key confirms with an accepted digest";
            return Some(Standing::Unfit(why.to_owned()));
        }
        Some(alive(&self.primary, self.own(), now)).filter(|s| *s != Standing::Counts)
    }

    /// The newest word of the primary key on each user id that is not revoked, and on itself.
    fn own(&self) -> impl Iterator<Item = &Signature> {
        let direct = self.direct.iter().filter(|s| s.typ() == Some(SignatureType::Key) && self.claims(s));
        let users = self.users.iter().filter_map(|(_, signatures)| self.newest(signatures));
        direct.max_by_key(|s| created(s)).into_iter().chain(users)
    }

    /// The newest certification of a user id by its own key, unless a revocation came after it.
    fn newest<'s>(&self, signatures: &'s [Signature]) -> Option<&'s Signature> {
        let own = || signatures.iter().filter(|s| self.claims(s));
        let newest = own().filter(|s| is_certification(s)).max_by_key(|s| created(s))?;
        let revoked =
            own().filter(|s| s.typ() == Some(SignatureType::CertRevocation)).any(|s| created(s) >= created(newest));
        (!revoked).then_some(newest)
    }

    /// As [`Self::newest`], if that one is good.
    fn confirmed<'s>(&self, user: &UserId, signatures: &'s [Signature]) -> Option<&'s Signature> {
        let newest = self.newest(signatures)?;
        let good =
            unacceptable(newest).is_none() && newest.verify_certification(&self.primary, Tag::UserId, user).is_ok();
        good.then_some(newest)
    }

    /// Whether a signature says that the primary key made it. Only then can it take something from a key.
    fn claims(&self, signature: &Signature) -> bool {
        is_by(signature, &self.primary)
    }
}

fn is_certification(signature: &Signature) -> bool {
    matches!(
        signature.typ(),
        Some(
            SignatureType::CertGeneric
                | SignatureType::CertPersona
                | SignatureType::CertCasual
                | SignatureType::CertPositive
        )
    )
}

/// Whether a signature lets a key sign; `None` if it says nothing.
fn may_sign(signature: &Signature) -> Option<bool> {
    let flags = hashed(signature, |data| match data {
        SubpacketData::KeyFlags(flags) => Some(flags.sign()),
        _ => None,
    });
    flags.reduce(|a, b| a && b)
}

/// Whether a key counts at `now`, by its own time and by what these signatures say.
fn alive<'s>(key: &impl KeyDetails, says: impl IntoIterator<Item = &'s Signature>, now: i64) -> Standing {
    let says: Vec<&Signature> = says.into_iter().collect();
    if says.iter().any(|signature| created(signature) > now + SKEW_SECONDS) {
        return Standing::Lapsed("its OpenPGP certificate is dated in the future".to_owned());
    }
    match end(key, says) {
        _ if made(key) > now + SKEW_SECONDS => Standing::Lapsed("its OpenPGP key is dated in the future".to_owned()),
        Some(end) if now >= end => Standing::Lapsed(format!("its OpenPGP key expired {}", day(end))),
        _ => Standing::Counts,
    }
}

fn made(key: &impl KeyDetails) -> i64 {
    i64::from(key.created_at().as_secs())
}

/// The second (Unix) at which a key ends, by what these signatures say.
fn end<'s>(key: &impl KeyDetails, says: impl IntoIterator<Item = &'s Signature>) -> Option<i64> {
    let of_one = |signature: &'s Signature| {
        let key_ends = hashed(signature, |data| match data {
            SubpacketData::KeyExpirationTime(lasts) => Some(lasts.as_secs()),
            _ => None,
        });
        let key_ends = key_ends.filter(|s| *s > 0).map(|s| made(key) + i64::from(s)).min();
        key_ends.into_iter().chain(ends(signature)).min()
    };
    says.into_iter().filter_map(of_one).min()
}

fn day(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| "long ago".to_owned(), |t| t.strftime("on %Y-%m-%d").to_string())
}
