//! An SSH signature taken apart and put together again with a change (PROTOCOL.sshsig of OpenSSH), and what a security
//! key would sign.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rsa::signature::Signer as _;
use ssh_key::sha2::{Digest as _, Sha256, Sha512};

use crate::world::World;

const MAGIC: &[u8] = b"SSHSIG";

/// The parts of a signature.
#[derive(Clone)]
pub struct Container {
    pub version: u32,
    pub key: Vec<u8>,
    pub namespace: Vec<u8>,
    pub reserved: Vec<u8>,
    pub hash: Vec<u8>,
    pub signature: Vec<u8>,
    /// What follows.
    pub more: Vec<u8>,
}

impl Container {
    /// The parts of a signature that ssh-keygen made.
    pub fn read(armour: &str) -> Self {
        let base64: String = armour.lines().filter(|line| !line.starts_with("-----")).collect();
        let bytes = STANDARD.decode(base64).unwrap();
        let mut rest = &bytes[MAGIC.len() + 4..];
        let mut next = || {
            let (length, tail) = rest.split_first_chunk::<4>().unwrap();
            let (value, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
            rest = tail;
            value.to_vec()
        };
        let [key, namespace, reserved, hash, signature] = std::array::from_fn(|_| next());
        Self { version: 1, key, namespace, reserved, hash, signature, more: Vec::new() }
    }

    /// A length of 32 bits and the bytes.
    pub fn string(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    /// The same with another name of its algorithm.
    pub fn relabelled(&self, from: &[u8], to: &[u8]) -> Self {
        let from = Self::string(from);
        assert!(self.signature.starts_with(&from));
        let signature = [Self::string(to), self.signature[from.len()..].to_vec()].concat();
        Self { signature, ..self.clone() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let parts = [&self.key, &self.namespace, &self.reserved, &self.hash, &self.signature];
        let strings: Vec<u8> = parts.iter().flat_map(|part| Self::string(part)).collect();
        [MAGIC, &self.version.to_be_bytes(), &strings, &self.more].concat()
    }

    pub fn armour(&self) -> String {
        let base64 = STANDARD.encode(self.bytes());
        format!("-----BEGIN SSH SIGNATURE-----\n{base64}\n-----END SSH SIGNATURE-----\n")
    }
}

/// What a security key puts beside its signature. No such device is needed to make one, only its private key.
pub struct Touch {
    pub flags: u8,
    pub counter: u32,
}

impl Touch {
    /// The public line of a security key with the private half of `me`, and its signature.
    pub fn sign(&self, world: &World, payload: &[u8]) -> (String, String) {
        let string = Container::string;
        let private = ssh_key::PrivateKey::from_openssh(std::fs::read(world.path("me")).unwrap()).unwrap();
        let kind = b"sk-ssh-ed25519@openssh.com";
        let point = private.public_key().key_data().ed25519().unwrap().0;
        let key = [string(kind), string(&point), string(b"ssh:")].concat();
        let digest = string(&Sha512::digest(payload));
        let message = [MAGIC.to_vec(), string(b"git"), string(b""), string(b"sha512"), digest].concat();
        let trailer = [&[self.flags][..], &self.counter.to_be_bytes()].concat();
        let device = [Sha256::digest(b"ssh:").as_slice(), &trailer, &Sha256::digest(&message)].concat();
        let signature = private.try_sign(&device).unwrap();
        let container = Container {
            version: 1,
            namespace: b"git".to_vec(),
            reserved: Vec::new(),
            hash: b"sha512".to_vec(),
            signature: [string(kind), string(signature.as_bytes()), trailer].concat(),
            more: Vec::new(),
            key: key.clone(),
        };
        (format!("{} {}", String::from_utf8_lossy(kind), STANDARD.encode(key)), container.armour())
    }
}
