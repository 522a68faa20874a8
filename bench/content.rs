//! What records hold: values of sizes drawn from a distribution, keys drawn from
//! a set, and where a key's records go. Everything is drawn from a seeded
//! generator, so that two runs with the same options send the same bytes.

use std::fmt;
use std::str::FromStr;

/// Larger values are no records.
const VALUE_BYTES_MAX: usize = 64 << 20;

/// How many different keys there may be; their table is kept in memory.
pub const KEYS_MAX: u32 = 10_000_000;

/// SplitMix64: small, fast, good enough to draw sizes and keys.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to 1, 1 excluded.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 0 to `count` - 1; `count` is above zero.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    /// From the standard normal distribution (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// Sizes of values, in bytes.
#[derive(Clone, PartialEq, Debug)]
pub enum Sizes {
    /// `100`
    Fixed(usize),
    /// `100..2000`: every size from the first to the second is as likely.
    Even(usize, usize),
    /// `lognormal:300:10000`: half are at most the first, 99 % at most the second. Cut at ten times the second.
    LogNormal { median: usize, p99: usize },
    /// `100x90,10000x10`: sizes with their weights.
    Weighted(Vec<(usize, u32)>),
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Sizes, String> {
        let size = |text: &str| match text.trim().parse::<usize>() {
            Ok(size) if size <= VALUE_BYTES_MAX => Ok(size),
            _ => Err(format!("'{text}' is no size: 0 to {VALUE_BYTES_MAX} bytes are possible")),
        };
        if let Some(rest) = text.strip_prefix("lognormal:") {
            let (median, p99) = rest.split_once(':').ok_or("lognormal:MEDIAN:P99 is expected")?;
            let (median, p99) = (size(median)?, size(p99)?);
            if median == 0 || p99 < median {
                return Err(String::from("the median must be above zero and no larger than the 99th percentile"));
            }
            return Ok(Sizes::LogNormal { median, p99 });
        }
        if let Some((from, to)) = text.split_once("..") {
            let (from, to) = (size(from)?, size(to)?);
            return if from <= to {
                Ok(Sizes::Even(from, to))
            } else {
                Err(String::from("the first size is the larger"))
            };
        }
        if text.contains('x') {
            let weighted = text.split(',').map(|part| {
                let (bytes, weight) = part.split_once('x').ok_or("BYTESxWEIGHT,BYTESxWEIGHT,... is expected")?;
                let weight: u32 = weight.trim().parse().map_err(|_| format!("'{weight}' is no weight"))?;
                Ok((size(bytes)?, weight))
            });
            let weighted = weighted.collect::<Result<Vec<_>, String>>()?;
            if weighted.iter().all(|(_, weight)| *weight == 0) {
                return Err(String::from("one weight at least must be above zero"));
            }
            return Ok(Sizes::Weighted(weighted));
        }
        size(text).map(Sizes::Fixed)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sizes::Fixed(bytes) => write!(f, "{bytes}"),
            Sizes::Even(from, to) => write!(f, "{from}..{to}"),
            Sizes::LogNormal { median, p99 } => write!(f, "lognormal:{median}:{p99}"),
            Sizes::Weighted(weighted) => {
                let parts: Vec<String> = weighted.iter().map(|(bytes, weight)| format!("{bytes}x{weight}")).collect();
                f.write_str(&parts.join(","))
            }
        }
    }
}

impl Sizes {
    pub fn is_fixed(&self) -> bool {
        matches!(self, Sizes::Fixed(_))
    }

    /// The smallest that may be drawn.
    pub fn min(&self) -> usize {
        match self {
            Sizes::Fixed(bytes) => *bytes,
            Sizes::Even(from, _) => *from,
            Sizes::LogNormal { .. } => 1,
            Sizes::Weighted(weighted) => {
                weighted.iter().filter(|(_, weight)| *weight > 0).map(|(bytes, _)| *bytes).min().unwrap_or(0)
            }
        }
    }

    pub fn draw(&self, random: &mut Random) -> usize {
        match self {
            Sizes::Fixed(bytes) => *bytes,
            Sizes::Even(from, to) => from + random.below(to - from + 1),
            Sizes::LogNormal { median, p99 } => {
                // The 99th percentile of the standard normal distribution lies at 2.326.
                let sigma = (*p99 as f64 / *median as f64).ln() / 2.326_347_9;
                let drawn = *median as f64 * (sigma * random.normal()).exp();
                (drawn.round() as usize).clamp(1, (10 * p99).min(VALUE_BYTES_MAX))
            }
            Sizes::Weighted(weighted) => {
                let total: u64 = weighted.iter().map(|(_, weight)| u64::from(*weight)).sum();
                let mut at = random.below(total as usize) as u64;
                for (bytes, weight) in weighted {
                    match at.checked_sub(u64::from(*weight)) {
                        Some(rest) => at = rest,
                        None => return *bytes,
                    }
                }
                unreachable!("the draw lies below the sum of the weights")
            }
        }
    }
}

/// Bytes of values.
#[derive(Clone, Copy, PartialEq, Debug, clap::ValueEnum)]
pub enum Filling {
    /// Printable bytes without a pattern: hardly compressible
    Random,
    /// Words of a small vocabulary: compressible to about a third
    Text,
}

/// Words of log lines and orders, each with the space behind it.
const WORDS: [&str; 32] = [
    "order ",
    "trade ",
    "price ",
    "volume ",
    "buy ",
    "sell ",
    "limit ",
    "market ",
    "info ",
    "warn ",
    "error ",
    "request ",
    "answer ",
    "customer ",
    "account ",
    "balance ",
    "timeout ",
    "retry ",
    "accepted ",
    "rejected ",
    "{\"id\": ",
    "\"side\": ",
    "\"qty\": ",
    "\"venue\": ",
    "1000 ",
    "250 ",
    "99.75 ",
    "EUR ",
    "USD ",
    "2026-11-21 ",
    "12:00:00 ",
    "true ",
];

impl Filling {
    /// Appends exactly `count` bytes.
    pub fn append(self, count: usize, random: &mut Random, to: &mut Vec<u8>) {
        let end = to.len() + count;
        match self {
            Filling::Random => {
                while to.len() < end {
                    let word = random.next();
                    let left = end - to.len();
                    to.extend((0..8.min(left)).map(|index| b'!' + ((word >> (8 * index)) & 0xff) as u8 % 94));
                }
            }
            Filling::Text => {
                while to.len() < end {
                    to.extend_from_slice(WORDS[random.below(WORDS.len())].as_bytes());
                }
                to.truncate(end);
            }
        }
    }
}

/// Which keys records carry.
#[derive(Clone, Copy, PartialEq, Debug, clap::ValueEnum)]
pub enum Keys {
    /// No keys: batches go to the partitions in turn
    None,
    /// Every key is as likely as any other
    Random,
    /// By Zipf's law (exponent 0.99): the second key is half as likely as the first, the third a third, ...
    Skewed,
}

/// The exponent that YCSB made customary.
const SKEW: f64 = 0.99;

/// A key's bytes: 16 hexadecimal digits that follow no order, so that the frequent ones lie anywhere.
pub fn key(index: u32) -> [u8; 16] {
    let hash = Random::new(u64::from(index)).next();
    std::array::from_fn(|digit| b"0123456789abcdef"[(hash >> (60 - 4 * digit)) as usize & 15])
}

/// The partition of a key, as the default partitioner of Kafka's clients has it
/// (`BuiltInPartitioner.partitionForKey`).
pub fn partition_of(key: &[u8], partitions: usize) -> usize {
    (murmur2(key) & 0x7fff_ffff) as usize % partitions
}

/// `Utils.murmur2` of Kafka's clients.
fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The keys that belong to some of a topic's partitions, with how likely each is.
pub struct KeyPool {
    keys: Vec<u32>,
    /// For skewed keys: the sum of the weights up to and with each key.
    sums: Vec<f64>,
    /// The part of all records that carries one of these keys, 0 to 1.
    pub share: f64,
}

impl KeyPool {
    /// Of `count` keys those that fall into `mine` of `partitions`.
    pub fn new(kind: Keys, count: u32, partitions: usize, mine: impl Fn(usize) -> bool) -> KeyPool {
        let (mut keys, mut sums, mut sum, mut total) = (Vec::new(), Vec::new(), 0.0, 0.0);
        for index in 0..count {
            let weight = if kind == Keys::Skewed { f64::from(index + 1).powf(-SKEW) } else { 1.0 };
            total += weight;
            if mine(partition_of(&key(index), partitions)) {
                sum += weight;
                keys.push(index);
                if kind == Keys::Skewed {
                    sums.push(sum);
                }
            }
        }
        KeyPool { keys, sums, share: if total > 0.0 { sum / total } else { 0.0 } }
    }

    /// One of the keys; `None` when there are none.
    pub fn draw(&self, random: &mut Random) -> Option<u32> {
        let at = match self.sums.last() {
            Some(total) => {
                let drawn = random.unit() * total;
                self.sums.partition_point(|sum| *sum <= drawn).min(self.keys.len() - 1)
            }
            None if self.keys.is_empty() => return None,
            None => random.below(self.keys.len()),
        };
        Some(self.keys[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for text in ["0", "100", "100..2000", "lognormal:300:10000", "100x90,10000x10"] {
            assert_eq!(text.parse::<Sizes>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "-1",
            "x",
            "5..4",
            "lognormal:5",
            "lognormal:0:5",
            "lognormal:9:5",
            "1x",
            "5x0",
            "999999999999",
            "1..2..3",
        ] {
            assert!(wrong.parse::<Sizes>().is_err(), "{wrong}");
        }
    }

    /// Draws 20,000 sizes and returns them in order.
    fn drawn(text: &str) -> Vec<usize> {
        let (sizes, mut random): (Sizes, _) = (text.parse().unwrap(), Random::new(1));
        let mut drawn: Vec<usize> = (0..20_000).map(|_| sizes.draw(&mut random)).collect();
        drawn.sort_unstable();
        assert!(drawn[0] >= sizes.min());
        drawn
    }

    #[test]
    fn sizes_follow_their_distribution() {
        assert!(drawn("7").iter().all(|size| *size == 7));
        let even = drawn("10..19");
        for size in 10..20 {
            let count = even.iter().filter(|other| **other == size).count();
            assert!((1800..2200).contains(&count), "{size}: {count}");
        }
        let lognormal = drawn("lognormal:300:3000");
        let (median, p99) = (lognormal[10_000], lognormal[19_800]);
        assert!((285..315).contains(&median) && (2700..3300).contains(&p99), "{median} {p99}");
        let weighted = drawn("100x90,5000x10,7x0");
        assert!(weighted.iter().all(|size| [100, 5000].contains(size)));
        let large = weighted.iter().filter(|size| **size == 5000).count();
        assert!((1800..2200).contains(&large), "{large}");
    }

    #[test]
    fn fillings_have_the_length_asked_for_and_compress_as_they_say() {
        for filling in [Filling::Random, Filling::Text] {
            for count in [0, 1, 7, 8, 9, 1000] {
                let mut bytes = vec![b'>'];
                filling.append(count, &mut Random::new(5), &mut bytes);
                assert_eq!(bytes.len(), 1 + count);
                assert!(bytes.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' '));
            }
        }
        let compressed = |filling: Filling| {
            let mut bytes = Vec::new();
            filling.append(50_000, &mut Random::new(5), &mut bytes);
            zstd::bulk::compress(&bytes, 3).unwrap().len()
        };
        assert!(compressed(Filling::Random) > 38_000);
        assert!((5_000..20_000).contains(&compressed(Filling::Text)), "{}", compressed(Filling::Text));
    }

    #[test]
    fn keys_go_where_kafkas_partitioner_sends_them() {
        // From UtilsTest of Kafka's clients.
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
        assert_eq!(partition_of(b"abc", 7), 479_470_107 % 7);
        assert_ne!(key(0), key(1));
    }

    #[test]
    fn pools_share_out_all_keys_and_skewed_ones_lean_to_the_first() {
        for kind in [Keys::Random, Keys::Skewed] {
            let pools: Vec<KeyPool> = (0..3).map(|mine| KeyPool::new(kind, 1000, 3, |at| at == mine)).collect();
            assert!((pools.iter().map(|pool| pool.share).sum::<f64>() - 1.0).abs() < 1e-9);
            let mut random = Random::new(3);
            for (mine, pool) in pools.iter().enumerate() {
                for _ in 0..1000 {
                    assert_eq!(partition_of(&key(pool.draw(&mut random).unwrap()), 3), mine);
                }
            }
        }
        let all = |kind| {
            let (pool, mut random) = (KeyPool::new(kind, 1000, 3, |_| true), Random::new(9));
            (0..10_000).filter(|_| pool.draw(&mut random) == Some(0)).count()
        };
        // The first of 1,000 keys: 1 in 1,000, or 1 in the sum of the inverses (about 7.7).
        assert!(all(Keys::Random) < 40 && (1000..1600).contains(&all(Keys::Skewed)), "{}", all(Keys::Skewed));
        assert_eq!(KeyPool::new(Keys::Random, 0, 3, |_| true).draw(&mut Random::new(1)), None);
        assert_eq!(KeyPool::new(Keys::Skewed, 10, 3, |_| false).draw(&mut Random::new(1)), None);
    }
}
