//! Identifiers and offsets as types of their own, so that an offset cannot be
//! taken for a byte position, nor a core for a broker.

use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

/// A 128-bit id of Kafka (`org.apache.kafka.common.Uuid`): topic ids, cluster
/// ids, directory ids. Text form: URL-safe base64 without padding, 22 characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Uuid(pub [u8; 16]);

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// All zeroes: "no id" on the wire.
    pub const ZERO: Uuid = Uuid([0; 16]);
    /// The fixed topic id of `__cluster_metadata` (`Uuid.METADATA_TOPIC_ID`).
    pub const METADATA_TOPIC: Uuid = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// Makes a version 4 id of 16 random bytes. `None` when the bytes give an id
    /// that Kafka reserves (the first hundred) or one whose text begins with a
    /// dash, which command-line tools would take for an option; draw again then.
    pub fn from_random(mut bytes: [u8; 16]) -> Option<Uuid> {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let id = Uuid(bytes);
        (!id.is_reserved() && !id.to_string().starts_with('-')).then_some(id)
    }

    /// Whether the id is one of the first hundred, which Kafka keeps for itself.
    pub fn is_reserved(self) -> bool {
        u128::from_be_bytes(self.0) < 100
    }

    /// Whether this is the zero id.
    pub fn is_zero(self) -> bool {
        self == Uuid::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; 22];
        let value = u128::from_be_bytes(self.0);
        for (i, c) in text.iter_mut().enumerate() {
            // 21 characters of 6 bits, then the 2 bits that are left, shifted up by 4.
            let six = if i < 21 { (value >> (122 - 6 * i)) & 63 } else { (value << 4) & 63 };
            *c = BASE64[six as usize];
        }
        f.write_str(std::str::from_utf8(&text).expect("base64 is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a [`Uuid`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not an id: 22 characters of URL-safe base64 are expected")]
pub struct UuidParseError(String);

impl FromStr for Uuid {
    type Err = UuidParseError;

    fn from_str(text: &str) -> Result<Uuid, UuidParseError> {
        let wrong = || UuidParseError(text.chars().take(64).collect());
        // Kafka's decoder also takes the two padding characters.
        let digits = text.strip_suffix("==").unwrap_or(text).as_bytes();
        if digits.len() != 22 {
            return Err(wrong());
        }
        let mut value: u128 = 0;
        for (i, c) in digits.iter().enumerate() {
            let six = BASE64.iter().position(|b| b == c).ok_or_else(wrong)? as u128;
            value = if i < 21 { (value << 6) | six } else { (value << 2) | (six >> 4) };
        }
        Ok(Uuid(value.to_be_bytes()))
    }
}

/// The position of a record in its partition (`long offset`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Offset(pub i64);

impl Offset {
    /// The first offset of an empty log.
    pub const ZERO: Offset = Offset(0);

    /// The offset `count` records later.
    pub fn plus(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Counts the leaders of a partition; −1 on the wire is "unknown".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct LeaderEpoch(pub i32);

impl LeaderEpoch {
    /// The wire's "no epoch given".
    pub const UNKNOWN: LeaderEpoch = LeaderEpoch(-1);
}

/// A process: `node.id`. What metadata records name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub i32);

/// What clients are shown as a broker: a node in `advertise=host` mode, one core
/// of a node in `advertise=core` mode. Only the edge knows this type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BrokerId(pub i32);

/// A core of this process, counted from 0 in the order of its CPUs. Core 0 also
/// runs the controller.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CoreIndex(pub u16);

impl fmt::Display for CoreIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One of the directories of `log.dirs`, by its place in the list.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DirIndex(pub u16);

/// A partition by its topic's name; shown as `orders-3`, which is also the name
/// of its directory.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TopicPartition {
    pub topic: Rc<str>,
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_text_is_kafkas() {
        // Pairs printed by Kafka's own Uuid.toString().
        for (hex, text) in [
            ("00000000000000000000000000000000", "AAAAAAAAAAAAAAAAAAAAAA"),
            ("00000000000000000000000000000001", "AAAAAAAAAAAAAAAAAAAAAQ"),
            ("ffffffffffffffffffffffffffffffff", "_____________________w"),
        ] {
            let id = Uuid(u128::from_str_radix(hex, 16).unwrap().to_be_bytes());
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse::<Uuid>().unwrap(), id);
        }
        let cluster = "4L6g3nShT-eMCtK--X86sw";
        assert_eq!(cluster.parse::<Uuid>().unwrap().to_string(), cluster);
    }

    #[test]
    fn uuid_refuses_other_text() {
        for text in ["", "abc", "4L6g3nShT-eMCtK--X86s!", "4L6g3nShT-eMCtK--X86swAA"] {
            assert!(text.parse::<Uuid>().is_err(), "{text}");
        }
    }

    #[test]
    fn random_ids_avoid_reserved_values_and_leading_dashes() {
        // 0xf8 makes the first six bits 62, which is '-'.
        let mut bytes = [7u8; 16];
        bytes[0] = 0xf8;
        assert_eq!(Uuid::from_random(bytes), None);
        bytes[0] = 0x10;
        let id = Uuid::from_random(bytes).unwrap();
        assert_eq!((id.0[6] >> 4, id.0[8] >> 6), (4, 2));
    }
}
