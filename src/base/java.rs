//! Functions of the Java runtime that Kafka's placement rules and messages are built on.

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

/// `Double.toString`: at least one digit behind the point, and powers of ten from 10^7 on and below 10^-3.
pub fn double(value: f64) -> String {
    let size = value.abs();
    match () {
        () if value.is_nan() => "NaN".to_string(),
        () if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.to_string(),
        () if size == 0.0 || (1e-3..1e7).contains(&size) => format!("{value:?}"),
        () => {
            let text = format!("{value:E}");
            let (digits, power) = text.split_once('E').expect("it was printed with its power");
            let point = if digits.contains('.') { "" } else { ".0" };
            format!("{digits}{point}E{power}")
        }
    }
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

    #[test]
    fn numbers_are_printed_as_java_does() {
        for (value, text) in [
            (0.0, "0.0"),
            (-3.0, "-3.0"),
            (0.001, "0.001"),
            (0.00025, "2.5E-4"),
            (9_999_999.0, "9999999.0"),
            (10_000_000.0, "1.0E7"),
            (134_217_728.0, "1.34217728E8"),
            (f64::INFINITY, "Infinity"),
        ] {
            assert_eq!(double(value), text);
        }
    }
}
