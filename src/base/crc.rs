//! CRC-32C (Castagnoli), the checksum of record batches and snapshots.

use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Goes on with a checksum over further bytes.
pub fn crc32c_append(crc: u32, bytes: &[u8]) -> u32 {
    // What a checksum begins with, and what it ends with, is all ones.
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c_append(crc32c(b"1234"), b"56789"), 0xe306_9283);
    }

    /// Each length has a way of its own through the wide instructions.
    #[test]
    fn agrees_with_another_implementation() {
        let bytes: Vec<u8> = (0..40_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let lengths = (0..1_100).chain((1_100..9_000).step_by(61)).chain([32_768, 40_000 - 7]);
        for (at, len) in lengths.enumerate() {
            let bytes = &bytes[at % 7..at % 7 + len];
            let expected = ::crc32c::crc32c(bytes);
            assert_eq!(crc32c(bytes), expected, "{len} bytes");
            let (first, second) = bytes.split_at(len / 3);
            assert_eq!(crc32c_append(crc32c(first), second), expected, "{len} bytes in two parts");
        }
    }
}
