//! Two functions of the Java runtime that Kafka's placement rules are built on.

/// `String.hashCode()`: over UTF-16 code units, wrapping at 32 bits.
pub fn string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// `Utils.abs`: the absolute value, with 0 for the smallest integer.
pub fn abs(value: i32) -> i32 {
    value.checked_abs().unwrap_or(0)
}

/// The partition of an internal topic that holds a group or a transactional id
/// (`GroupMetadataManager.partitionFor`). `partitions` is at least 1.
pub fn partition_for(id: &str, partitions: i32) -> i32 {
    abs(string_hash(id)) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_javas() {
        for (text, hash) in [("", 0), ("a", 97), ("order-group", 530669376), ("\u{1F600}", 1772899)] {
            assert_eq!(string_hash(text), hash, "{text}");
        }
        // The well-known string whose hash is the smallest integer.
        assert_eq!(string_hash("polygenelubricants"), i32::MIN);
        assert_eq!(partition_for("polygenelubricants", 50), 0);
    }
}
