//! The latest offset of each key, in memory of a fixed size (`SkimpyOffsetMap`).
//!
//! A slot holds a hash of the key and an offset, 24 bytes, as Kafka's does. Two keys with
//! the same hash would be one key, and the older record of the two be lost. The hash is
//! SipHash-2-4 of 128 bits, under a secret that is drawn for each map: by chance two of a billion
//! keys meet with a probability below 2⁻⁶⁸, and nobody can choose keys that do.
//!
//! The memory comes in pieces, and goes in pieces: giving 64 MiB back to the system at once would
//! hold the core up for milliseconds.

use crate::base::Offset;

/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 24;
/// Slots of one piece of memory: 256 KiB less some.
const PIECE_SLOTS: usize = (256 << 10) / SLOT_BYTES;

/// Hash and offset + 1; an offset of 0 marks a free slot.
type Slot = [u64; 3];

/// See the module.
pub(super) struct KeyMap {
    pieces: Vec<Box<[Slot]>>,
    slots: usize,
    /// How many keys it takes.
    keys_max: usize,
    keys: usize,
    secret: [u64; 2],
    /// All offsets up to here have been looked at.
    latest: Offset,
}

impl KeyMap {
    /// Of at most `bytes`, for at most `keys` keys: one that is to hold few takes little. Of its slots
    /// at most the share `load` is used (`log.cleaner.io.buffer.load.factor`). Takes no memory yet.
    pub fn new(bytes: usize, load: f64, keys: u64, secret: [u8; 16]) -> KeyMap {
        let slots_max = (bytes / SLOT_BYTES).max(2);
        // Half full it needs few looks for a key.
        let wanted = usize::try_from(keys.saturating_mul(2)).unwrap_or(usize::MAX);
        let slots = wanted.clamp(2, slots_max);
        // The same share of the same memory as Kafka's would take, and one slot is always free.
        let keys_max = ((slots_max as f64 * load) as usize).clamp(1, slots_max - 1).min(slots - 1);
        let half = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| secret[at + i]));
        KeyMap { pieces: Vec::new(), slots, keys_max, keys: 0, secret: [half(0), half(8)], latest: Offset(-1) }
    }

    /// Takes one more piece of its memory; false when it has all. To be called until then.
    pub fn grow(&mut self) -> bool {
        let have = self.pieces.len() * PIECE_SLOTS;
        if have >= self.slots {
            return false;
        }
        self.pieces.push(vec![[0; 3]; PIECE_SLOTS.min(self.slots - have)].into_boxed_slice());
        true
    }

    /// Gives one piece of its memory back; false when none is left.
    pub fn shrink(&mut self) -> bool {
        self.keys = 0;
        self.pieces.pop().is_some()
    }

    /// Bytes of memory that it takes when it has grown.
    pub fn memory(&self) -> usize {
        self.slots * SLOT_BYTES
    }

    /// Distinct keys.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// All offsets up to here have been looked at; −1 at first.
    pub fn latest(&self) -> Offset {
        self.latest
    }

    /// All offsets up to `offset` have been looked at.
    pub fn looked_at(&mut self, offset: Offset) {
        self.latest = self.latest.max(offset);
    }

    /// Whether one more key may not fit. Kafka asks so before each record, also of a
    /// key that is there already.
    pub fn is_full(&self) -> bool {
        self.keys >= self.keys_max
    }

    /// Says that `offset` is the latest of `key`; offsets come in order.
    ///
    /// # Panics
    /// When it is full and the key is new, or has not grown.
    pub fn put(&mut self, key: &[u8], offset: Offset) {
        let hash = hash(self.secret, key);
        let (at, found) = self.find(hash);
        if !found {
            assert!(!self.is_full(), "the caller asks before");
            self.keys += 1;
        }
        *self.slot_mut(at) = [hash[0], hash[1], offset.0 as u64 + 1];
    }

    /// The latest offset of `key`, if it is known.
    pub fn get(&self, key: &[u8]) -> Option<Offset> {
        let (at, found) = self.find(hash(self.secret, key));
        found.then(|| Offset((self.slot(at)[2] - 1) as i64))
    }

    /// The slot that holds `hash`, or else the one where it belongs.
    fn find(&self, hash: [u64; 2]) -> (usize, bool) {
        // The high bits of a product: a slot for every hash, without a division.
        let mut at = ((u128::from(hash[0]) * self.slots as u128) >> 64) as usize;
        loop {
            let slot = self.slot(at);
            if slot[2] == 0 {
                return (at, false);
            }
            if slot[0] == hash[0] && slot[1] == hash[1] {
                return (at, true);
            }
            at += 1;
            if at == self.slots {
                at = 0;
            }
        }
    }

    fn slot(&self, at: usize) -> &Slot {
        &self.pieces[at / PIECE_SLOTS][at % PIECE_SLOTS]
    }

    fn slot_mut(&mut self, at: usize) -> &mut Slot {
        &mut self.pieces[at / PIECE_SLOTS][at % PIECE_SLOTS]
    }
}

/// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein).
fn hash(secret: [u64; 2], bytes: &[u8]) -> [u64; 2] {
    let [k0, k1] = secret;
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        absorb(&mut v, u64::from_le_bytes(std::array::from_fn(|i| word[i])));
    }
    let mut last = (bytes.len() as u64) << 56;
    for (at, byte) in words.remainder().iter().enumerate() {
        last |= u64::from(*byte) << (8 * at);
    }
    absorb(&mut v, last);
    v[2] ^= 0xee;
    (0..4).for_each(|_| round(&mut v));
    let first = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    (0..4).for_each(|_| round(&mut v));
    [first, v[0] ^ v[1] ^ v[2] ^ v[3]]
}

#[inline(always)]
fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    round(v);
    v[0] ^= word;
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn grown(bytes: usize, load: f64, keys: u64) -> KeyMap {
        let mut map = KeyMap::new(bytes, load, keys, [3; 16]);
        while map.grow() {}
        map
    }

    #[test]
    fn the_hash_is_siphash() {
        // Of the reference implementation's `vectors_sip128`: secret 00 01 02 .. 0f, input 00 01 02 ...
        let secret = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let input: Vec<u8> = (0..64).collect();
        let bytes = |len: usize| {
            let [first, second] = hash(secret, &input[..len]);
            [first.to_le_bytes(), second.to_le_bytes()].concat()
        };
        assert_eq!(
            bytes(0),
            [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93]
        );
        assert_eq!(
            bytes(1),
            [0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44, 0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45]
        );
        let distinct: std::collections::HashSet<Vec<u8>> = (0..=64).map(bytes).collect();
        assert_eq!(distinct.len(), 65);
    }

    #[test]
    fn it_takes_the_share_of_the_memory_that_kafka_would_and_no_more_than_it_needs() {
        // 1000 slots, of which nine in ten may be used.
        let mut map = grown(24_000, 0.9, u64::MAX);
        assert_eq!(map.memory(), 24_000);
        for key in 0..900_i64 {
            assert!(!map.is_full(), "{key}");
            map.put(&key.to_be_bytes(), Offset(key));
        }
        assert!(map.is_full());
        // A key that is there needs no room.
        map.put(&7_i64.to_be_bytes(), Offset(1000));
        assert_eq!((map.len(), map.get(&7_i64.to_be_bytes())), (900, Some(Offset(1000))));
        // Few keys take little memory, whatever may be taken.
        let mut map = grown(64 << 20, 0.9, 100);
        assert_eq!(map.memory(), 200 * SLOT_BYTES);
        for key in 0..100_i64 {
            assert!(!map.is_full(), "{key}");
            map.put(&key.to_be_bytes(), Offset(key));
        }
        // One slot stays free whatever the factor says: a search has to end.
        let mut map = grown(0, 1.0, 5);
        map.put(b"a", Offset(0));
        assert!(map.is_full() && map.get(b"b").is_none());
        while map.shrink() {}
        assert_eq!(map.len(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn it_is_a_map(
            puts in proptest::collection::vec(proptest::collection::vec(0..4_u8, 0..6), 0..20_000),
            load in 0.1..1.0_f64,
        ) {
            let mut map = grown(30_000 * SLOT_BYTES, load, puts.len() as u64);
            let mut model: HashMap<&[u8], Offset> = HashMap::new();
            for (at, key) in puts.iter().enumerate() {
                if map.is_full() {
                    break;
                }
                map.put(key, Offset(at as i64));
                model.insert(key, Offset(at as i64));
            }
            prop_assert_eq!(map.len(), model.len());
            for key in &puts {
                prop_assert_eq!(map.get(key), model.get(&key[..]).copied());
            }
            prop_assert_eq!(map.get(b"another"), None);
        }
    }
}
