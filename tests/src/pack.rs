//! Packs that no honest server sends (gitformat-pack(5)): small to send, huge to unpack.

use sha1::{Digest as _, Sha1};

/// What the largest object of a pack is, or claims to be, in bytes.
const HUGE: u64 = 4 << 30;
/// What the stream of zeros unpacks to, in bytes: more than a fetch may fill.
const ZEROS: u64 = 1 << 30;
/// What one byte of a delta copies at most.
const COPIED: u64 = 64 << 10;

const BLOB: u8 = 3;
const DELTA: u8 = 6;

/// How a pack overwhelms its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bomb {
    /// An object says that it has 4 GiB, and has a few bytes.
    Claim,
    /// An object has 1 GiB of zeros in a stream of 7 MB.
    Zeros,
    /// An object says that it has ten bytes, and has that same stream.
    Overflow,
    /// A difference of 64 KB makes 4 GiB of 64 KB.
    Delta,
}

impl Bomb {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Claim, Self::Zeros, Self::Overflow, Self::Delta];

    /// The pack, with a checksum that fits.
    pub fn pack(self) -> Vec<u8> {
        match self {
            Self::Claim => pack(&[[head(BLOB, HUGE), stored(b"few")].concat()]),
            Self::Zeros => pack(&[[head(BLOB, ZEROS), zeros(ZEROS)].concat()]),
            Self::Overflow => pack(&[[head(BLOB, 10), zeros(ZEROS)].concat()]),
            Self::Delta => {
                let base = [head(BLOB, COPIED), zeros(COPIED)].concat();
                // 0x80: copy from the beginning; a length that is not given is 64 KiB.
                let copies = vec![0x80; usize::try_from(HUGE / COPIED).expect("65,536")];
                let delta = [number(COPIED), number(HUGE), copies].concat();
                let back = distance(base.len() as u64);
                pack(&[base, [head(DELTA, delta.len() as u64), back, stored(&delta)].concat()])
            }
        }
    }
}

fn pack(objects: &[Vec<u8>]) -> Vec<u8> {
    let count = u32::try_from(objects.len()).expect("a few");
    let mut all = [b"PACK".as_slice(), &2_u32.to_be_bytes(), &count.to_be_bytes(), &objects.concat()].concat();
    let sum = Sha1::digest(&all);
    all.extend_from_slice(&sum);
    all
}

/// An object's kind and length.
fn head(kind: u8, length: u64) -> Vec<u8> {
    let low = |bits: u64| u8::try_from(bits).expect("four bits");
    let mut bytes = vec![kind << 4 | low(length & 15)];
    if length > 15 {
        bytes[0] |= 0x80;
        bytes.extend(number(length >> 4));
    }
    bytes
}

/// Seven bits a byte, the lowest first.
fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value & 127).expect("seven bits");
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// How far back a delta's base is: seven bits a byte, the highest first, each but the last one less.
fn distance(mut value: u64) -> Vec<u8> {
    let low = |value: u64| u8::try_from(value & 127).expect("seven bits");
    let mut bytes = vec![low(value)];
    while value > 127 {
        value = (value >> 7) - 1;
        bytes.insert(0, low(value) | 0x80);
    }
    bytes
}

/// A zlib stream (RFC 1950) that holds these bytes as they are.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let parts: Vec<&[u8]> = bytes.chunks(0xffff).collect();
    for (n, part) in parts.iter().enumerate() {
        let length = u16::try_from(part.len()).expect("at most 0xffff");
        out.push(u8::from(n + 1 == parts.len()));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend_from_slice(part);
    }
    let (a, b) = bytes.iter().fold((1, 0), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    out.extend((b << 16 | a).to_be_bytes());
    out
}

/// A zlib stream of so many zeros, at least one: one zero, then copies of it, 258 for each 13 bits (RFC 1951, 3.2.6).
fn zeros(count: u64) -> Vec<u8> {
    let mut bits = Bits { out: vec![0x78, 0x01], filled: 0, last: 0 };
    bits.put(0b011, 3); // the last block, with the fixed codes
    bits.code(0x30, 8); // a zero
    for _ in 0..(count - 1) / 258 {
        bits.code(0b1100_0101, 8); // 258 bytes
        bits.code(0, 5); // from the one before
    }
    for _ in 0..(count - 1) % 258 {
        bits.code(0x30, 8);
    }
    bits.code(0, 7); // the end
    let mut out = bits.end();
    // Of zeros, the first half of the sum stays 1 and the second counts.
    let sum = u32::try_from(count % 65_521).expect("less than 65,521") << 16 | 1;
    out.extend(sum.to_be_bytes());
    out
}

/// Bits, the lowest of a byte first.
struct Bits {
    out: Vec<u8>,
    last: u8,
    filled: u8,
}

impl Bits {
    fn put(&mut self, value: u16, count: u8) {
        for bit in 0..count {
            self.last |= u8::from(value >> bit & 1 == 1) << self.filled;
            self.filled += 1;
            if self.filled == 8 {
                self.out.push(self.last);
                (self.last, self.filled) = (0, 0);
            }
        }
    }

    /// A code of Huffman's: its highest bit first.
    fn code(&mut self, value: u16, count: u8) {
        self.put(value.reverse_bits() >> (16 - u16::from(count)), count);
    }

    fn end(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.out.push(self.last);
        }
        self.out
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn but_for_its_lies_git_reads_such_a_pack() {
        let folder = tempfile::tempdir().expect("the temporary folder is writable");
        let git = |args: &[&str]| {
            let mut command = Command::new("git");
            command.args(args).current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
            command
        };
        assert!(git(&["init", "-q", "--bare", "."]).status().expect("git runs").success());
        let base = [head(BLOB, 70_000), zeros(70_000)].concat();
        let delta = [number(70_000), number(3 * COPIED), vec![0x80; 3]].concat();
        let far = [head(BLOB, 20_000), stored(&vec![7; 20_000])].concat();
        let back = distance((base.len() + far.len()) as u64);
        let difference = [head(DELTA, delta.len() as u64), back, stored(&delta)].concat();
        let mut child = git(&["index-pack", "--stdin", "--strict"]).spawn().expect("git runs");
        child.stdin.take().expect("it is piped").write_all(&pack(&[base, far, difference])).expect("git reads it all");
        assert!(child.wait().expect("it ends").success());
        let sizes =
            git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectsize)"]).output().expect("git runs");
        let mut sizes: Vec<u64> =
            String::from_utf8_lossy(&sizes.stdout).lines().filter_map(|line| line.parse().ok()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [20_000, 70_000, 3 * COPIED]);
    }
}
