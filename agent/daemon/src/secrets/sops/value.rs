//! One value that SOPS encrypted: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`.

use aes_gcm::{
    AesGcm, KeyInit as _,
    aead::{AeadInPlace as _, consts::U32, generic_array::GenericArray},
    aes::Aes256,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// SOPS takes nonces of 32 bytes.
type Cipher = AesGcm<Aes256, U32>;

/// The key of one file's values.
pub(super) struct DataKey(Cipher);

impl DataKey {
    /// `None` unless it has 32 bytes.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        Cipher::new_from_slice(bytes).ok().map(Self)
    }
}

/// A value in its encrypted form.
pub(super) struct Encrypted<'a> {
    data: &'a str,
    iv: &'a str,
    tag: &'a str,
    /// `str`, `int`, `float`, `bool`, `bytes`, `time` or `comment`.
    pub kind: &'a str,
}

impl<'a> Encrypted<'a> {
    /// Takes it apart; `None` if it is a value of any other form.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let inner = text.trim_end().strip_prefix("ENC[AES256_GCM,data:")?.strip_suffix(']')?;
        let (data, rest) = inner.split_once(",iv:")?;
        let (iv, rest) = rest.split_once(",tag:")?;
        let (tag, kind) = rest.split_once(",type:")?;
        Some(Self { data, iv, tag, kind })
    }

    /// Decrypts it. `place` is where it stands in the document, which is authenticated. `None` if anything of it was changed.
    pub(super) fn open(&self, key: &DataKey, place: &str) -> Option<Zeroizing<Vec<u8>>> {
        let mut bytes = Zeroizing::new(STANDARD.decode(self.data).ok()?);
        let iv: [u8; 32] = STANDARD.decode(self.iv).ok()?.try_into().ok()?;
        let tag: [u8; 16] = STANDARD.decode(self.tag).ok()?.try_into().ok()?;
        let (iv, tag) = (GenericArray::from(iv), GenericArray::from(tag));
        key.0.decrypt_in_place_detached(&iv, place.as_bytes(), &mut bytes, &tag).ok()?;
        Some(bytes)
    }
}
