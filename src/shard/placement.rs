//! Which core owns a partition: a pure function, so that every core (and later
//! every node) computes the same answer and nothing is stored.
//!
//! Another number of cores after a restart only changes who opens which directory.

use crate::base::{CoreIndex, Uuid};

/// The cores of one process and how partitions are spread over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    cores: u16,
}

impl Placement {
    /// # Panics
    /// With no core at all.
    pub fn new(cores: u16) -> Placement {
        assert!(cores > 0, "a process has at least one core");
        Placement { cores }
    }

    /// How many cores there are.
    pub fn cores(self) -> u16 {
        self.cores
    }

    /// All cores, from core 0.
    pub fn all(self) -> impl Iterator<Item = CoreIndex> {
        (0..self.cores).map(CoreIndex)
    }

    /// The core that owns a partition: neighbours of a topic go to neighbouring
    /// cores, so that a topic is spread evenly; topics begin at different cores.
    pub fn core_of(self, topic_id: Uuid, partition: i32) -> CoreIndex {
        // Random bytes already; folding them is a hash. Version and variant bits
        // are the same in every id and do no harm.
        let id = u128::from_be_bytes(topic_id.0);
        let start = (id >> 64) as u64 ^ id as u64;
        let core = (u128::from(start) + partition.max(0) as u128) % u128::from(self.cores);
        CoreIndex(core as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_spread_evenly() {
        for cores in 1..=64u16 {
            let placement = Placement::new(cores);
            let mut count = vec![0; usize::from(cores)];
            for partition in 0..i32::from(cores) * 3 {
                count[usize::from(placement.core_of(Uuid([7; 16]), partition).0)] += 1;
            }
            assert!(count.iter().all(|c| *c == 3), "{cores} cores: {count:?}");
        }
    }

    #[test]
    fn topics_of_one_partition_are_spread_too() {
        let placement = Placement::new(8);
        let mut count = [0; 8];
        for i in 0..8000u32 {
            // Ids differ in many bytes, as random ones do.
            let id = Uuid::from_random(
                (0..16u8)
                    .map(|b| (i.wrapping_mul(2654435761) >> (b % 25)) as u8 ^ b)
                    .collect::<Vec<_>>()
                    .try_into()
                    .unwrap(),
            );
            if let Some(id) = id {
                count[usize::from(placement.core_of(id, 0).0)] += 1;
            }
        }
        assert!(count.iter().all(|c| *c > 500), "{count:?}");
    }
}
