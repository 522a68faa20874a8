//! A hash for keys that we chose ourselves: ids that were drawn at random, small numbers.
//!
//! Not for what a client chooses: it could choose keys that all fall into one place. The
//! standard library's hash is proof against that, and costs several times as much.

use std::hash::{BuildHasherDefault, Hasher};

/// For maps whose keys we chose.
pub type OwnKeys = BuildHasherDefault<OwnKeyHasher>;

/// Multiplies and folds.
#[derive(Clone, Copy, Default)]
pub struct OwnKeyHasher(u64);

impl OwnKeyHasher {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for OwnKeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_i32(&mut self, word: i32) {
        self.mix(u64::from(word as u32));
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Uuid;
    use std::collections::{BTreeSet, HashMap};
    use std::hash::BuildHasher;

    #[test]
    fn keys_as_we_have_them_are_spread() {
        let hasher = OwnKeys::default();
        let mut hashes = BTreeSet::new();
        // Kafka's tools may give ids that differ in few bits, too.
        for topic in 0..50u128 {
            for partition in 0..200i32 {
                hashes.insert(hasher.hash_one((Uuid((topic << 60).to_be_bytes()), partition)));
            }
        }
        assert_eq!(hashes.len(), 50 * 200);
        // The map takes its place from the low bits and a mark from the high ones.
        for shift in [0, 48] {
            let places: BTreeSet<u64> = hashes.iter().map(|hash| hash >> shift & 0x3fff).collect();
            assert!(places.len() > 6000, "{} of 16384 places for 10000 keys", places.len());
        }
        let mut map: HashMap<i32, i32, OwnKeys> = HashMap::default();
        map.extend((0..1000).map(|key| (key, key)));
        assert!((0..1000).all(|key| map.get(&key) == Some(&key)));
    }
}
