//! Variable-length integers of Kafka (`ByteUtils`): seven bits per byte, lowest
//! first; signed values in zigzag form. Records use the signed ones, flexible
//! messages the unsigned.
//!
//! Reading accepts what Kafka accepts: encodings that are longer than needed
//! are valid up to 5 (10) bytes, and bits beyond the width are dropped.

/// Most bytes of a 32-bit varint.
pub const VARINT_BYTES_MAX: usize = 5;
/// Most bytes of a 64-bit varint.
pub const VARLONG_BYTES_MAX: usize = 10;

/// Reads an unsigned varint; gives it with its length. `None`: the bytes end
/// within it, or it is longer than 5 bytes.
#[inline(always)]
pub fn read_unsigned(bytes: &[u8]) -> Option<(u32, usize)> {
    // Nearly all varints of a batch are of one or two bytes.
    match *bytes {
        [first, ..] if first < 0x80 => Some((u32::from(first), 1)),
        [first, second, ..] if second < 0x80 => Some((u32::from(first & 0x7f) | u32::from(second) << 7, 2)),
        _ => read_longer(bytes, VARINT_BYTES_MAX).map(|(value, len)| (value as u32, len)),
    }
}

/// Reads an unsigned 64-bit varint, see [`read_unsigned`].
#[inline(always)]
pub fn read_unsigned_long(bytes: &[u8]) -> Option<(u64, usize)> {
    match *bytes {
        [first, ..] if first < 0x80 => Some((u64::from(first), 1)),
        [first, second, ..] if second < 0x80 => Some((u64::from(first & 0x7f) | u64::from(second) << 7, 2)),
        _ => read_longer(bytes, VARLONG_BYTES_MAX),
    }
}

#[inline(never)]
fn read_longer(bytes: &[u8], len_max: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for (i, &byte) in bytes.iter().enumerate().take(len_max) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Some((value, i + 1));
        }
    }
    None
}

/// Reads a zigzag varint (`readVarint`).
#[inline(always)]
pub fn read(bytes: &[u8]) -> Option<(i32, usize)> {
    read_unsigned(bytes).map(|(value, len)| (unzigzag(value), len))
}

/// Reads a zigzag 64-bit varint (`readVarlong`).
#[inline(always)]
pub fn read_long(bytes: &[u8]) -> Option<(i64, usize)> {
    read_unsigned_long(bytes).map(|(value, len)| (unzigzag_long(value), len))
}

/// Appends an unsigned varint.
pub fn write_unsigned(mut value: u32, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Appends an unsigned 64-bit varint.
pub fn write_unsigned_long(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// Appends a zigzag varint (`writeVarint`).
pub fn write(value: i32, to: &mut Vec<u8>) {
    write_unsigned(zigzag(value), to);
}

/// Appends a zigzag 64-bit varint (`writeVarlong`).
pub fn write_long(value: i64, to: &mut Vec<u8>) {
    write_unsigned_long(zigzag_long(value), to);
}

/// Bytes of an unsigned varint.
pub fn size_unsigned(value: u32) -> usize {
    (38 - value.leading_zeros() as usize) / 7 + usize::from(value == 0)
}

/// Bytes of a zigzag varint.
pub fn size(value: i32) -> usize {
    size_unsigned(zigzag(value))
}

/// Bytes of a zigzag 64-bit varint.
pub fn size_long(value: i64) -> usize {
    let bits = 64 - zigzag_long(value).leading_zeros() as usize;
    bits.div_ceil(7).max(1)
}

fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

fn zigzag_long(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline(always)]
pub(super) fn unzigzag(value: u32) -> i32 {
    (value >> 1) as i32 ^ -((value & 1) as i32)
}

#[inline(always)]
fn unzigzag_long(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(value: i32, expected: &[u8]) {
        let mut bytes = Vec::new();
        write(value, &mut bytes);
        assert_eq!(bytes, expected, "{value}");
        assert_eq!(read(&bytes), Some((value, bytes.len())));
        assert_eq!(size(value), bytes.len());
    }

    #[test]
    fn zigzag_varints_are_kafkas() {
        // From ByteUtilsTest.testVarintSerde.
        check(0, &[0x00]);
        check(-1, &[0x01]);
        check(1, &[0x02]);
        check(63, &[0x7e]);
        check(-64, &[0x7f]);
        check(64, &[0x80, 0x01]);
        check(8191, &[0xfe, 0x7f]);
        check(-8192, &[0xff, 0x7f]);
        check(i32::MAX, &[0xfe, 0xff, 0xff, 0xff, 0x0f]);
        check(i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
    }

    #[test]
    fn too_long_or_cut_varints_are_refused() {
        assert_eq!(read(&[0x80; 5]), None);
        assert_eq!(read(&[0x80; 4]), None);
        assert_eq!(read(&[]), None);
        assert_eq!(read_long(&[0xff; 10]), None);
        // Longer than needed is accepted, as Kafka does.
        assert_eq!(read(&[0x80, 0x80, 0x80, 0x80, 0x00]), Some((0, 5)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(int: i32, long: i64, shift in 0u32..64) {
            let (int, long) = (int >> (shift % 32), long >> shift);
            let mut bytes = Vec::new();
            write(int, &mut bytes);
            prop_assert_eq!(bytes.len(), size(int));
            prop_assert_eq!(read(&bytes), Some((int, size(int))));
            write_long(long, &mut bytes);
            prop_assert_eq!(bytes.len(), size(int) + size_long(long));
            prop_assert_eq!(read_long(&bytes[size(int)..]), Some((long, size_long(long))));
            bytes.clear();
            write_unsigned(int as u32, &mut bytes);
            prop_assert_eq!(bytes.len(), size_unsigned(int as u32));
            prop_assert_eq!(read_unsigned(&bytes), Some((int as u32, bytes.len())));
        }
    }
}
