//! The records of the metadata log and their frame.
//!
//! A record's key is null; its value is: frame version (unsigned varint, 1),
//! kind (unsigned varint, the schema's `apiKey`), version (unsigned varint), then
//! the fields (`MetadataRecordSerde`). Any other frame, kind or version, and
//! bytes after the fields, are errors: a reader that guessed would hold another
//! truth than the rest of the cluster.

mod generated;

pub use generated::*;

use crate::record::stored::{DecodeError, EncodeError, Reader, Writer};

const FRAME_VERSION: u32 = 1;

impl MetadataRecord {
    /// The value of a record: frame and fields in the given version.
    pub fn encode(&self, version: i16) -> Result<Vec<u8>, EncodeError> {
        let mut out = Writer::new();
        out.unsigned_varint(FRAME_VERSION);
        out.unsigned_varint(self.api_key());
        out.unsigned_varint(u32::from(version as u16));
        self.write_body(&mut out, version)?;
        Ok(out.into_bytes())
    }

    /// The version in which a cluster at a level of `metadata.version` writes this
    /// record (`MetadataVersion.registerBrokerRecordVersion` and its neighbours):
    /// brokers of that level have to read it.
    pub fn version_at(&self, level: i16) -> i16 {
        const MIGRATION: i16 = 8; // 3.4-IV0
        const DIRECTORIES: i16 = 17; // 3.7-IV2
        const ELR: i16 = 23; // 4.0-IV1
        const CORDONED: i16 = 30; // 4.3-IV0
        match self {
            MetadataRecord::RegisterBroker(_) => match level {
                CORDONED.. => 4,
                DIRECTORIES.. => 3,
                MIGRATION.. => 2,
                _ => 1,
            },
            MetadataRecord::Partition(_) | MetadataRecord::PartitionChange(_) => match level {
                ELR.. => 2,
                DIRECTORIES.. => 1,
                _ => 0,
            },
            // The oldest that has the fields which are set.
            MetadataRecord::BrokerRegistrationChange(record) => match record {
                record if record.cordoned_log_dirs.is_some() => 3,
                record if !record.log_dirs.is_empty() => 2,
                record if record.in_controlled_shutdown != 0 => 1,
                _ => 0,
            },
            other => other.newest_version(),
        }
    }

    /// Reads the value of a record; also gives the version it was written in.
    pub fn decode(value: &[u8]) -> Result<(MetadataRecord, i16), DecodeError> {
        let mut input = Reader::new(value);
        let frame = input.unsigned_varint()?;
        if frame != FRAME_VERSION {
            return Err(DecodeError::Frame(frame));
        }
        let api_key = input.unsigned_varint()?;
        let version = input.unsigned_varint()?;
        let version = i16::try_from(version).map_err(|_| DecodeError::Length(i64::from(version)))?;
        let record = MetadataRecord::read_body(api_key, &mut input, version)?;
        input.finish()?;
        Ok((record, version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Uuid;
    use proptest::prelude::*;

    const SCHEMAS: &str = include_str!("../../../tests/golden/records/schemas-4.3.1.txt");
    const LOGS: &str = include_str!("../../../tests/golden/records/logs-4.3.1.txt");

    fn unhex(text: &str) -> Vec<u8> {
        let digits = |i| u8::from_str_radix(&text[i..i + 2], 16).expect("hexadecimal digits");
        (0..text.len()).step_by(2).map(digits).collect()
    }

    #[test]
    fn every_record_and_version_reads_and_writes_kafkas_bytes() {
        let mut kinds = std::collections::BTreeSet::new();
        let mut versions = std::collections::BTreeSet::new();
        for line in SCHEMAS.lines() {
            let [name, version, hex] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let bytes = unhex(hex);
            if again(name, version.parse().unwrap(), &mut Reader::new(&bytes)).is_none() {
                continue; // a coordinator's or control record
            }
            let (record, read_version) = MetadataRecord::decode(&bytes).unwrap_or_else(|e| panic!("{e}: {line}"));
            assert_eq!((record.name(), read_version), (name, version.parse().unwrap()));
            assert_eq!(record.encode(read_version).unwrap(), bytes, "{line}");
            kinds.insert(record.api_key());
            versions.insert((record.api_key(), read_version));
        }
        let expected: Vec<u32> = (0..=28).filter(|kind| ![6, 13, 16].contains(kind)).collect();
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(versions.len(), 37);
    }

    #[test]
    fn a_brokers_metadata_log_is_read_and_written_alike() {
        let mut records = 0;
        for line in LOGS.lines().filter(|line| line.starts_with("__cluster_metadata ")) {
            let value = unhex(line.rsplit(' ').next().unwrap());
            let (record, version) = MetadataRecord::decode(&value).unwrap();
            assert_eq!(record.encode(version).unwrap(), value, "{record:?}");
            // A broker at the newest level writes the newest version of almost everything.
            assert!(version == record.newest_version() || record.api_key() == 17, "{record:?}");
            records += 1;
        }
        assert_eq!(records, 348);
    }

    #[test]
    fn a_topic_record_has_kafkas_layout() {
        let record = TopicRecord { name: "t".to_string(), topic_id: Uuid([7; 16]), ..Default::default() };
        let bytes = MetadataRecord::from(record).encode(0).unwrap();
        assert_eq!(bytes, [&[1, 2, 0, 2, b't'][..], &[7; 16], &[0]].concat());
    }

    #[test]
    fn other_frames_are_refused() {
        let value = MetadataRecord::from(NoOpRecord::default()).encode(0).unwrap();
        assert_eq!(value, [1, 20, 0, 0]);
        for (bytes, error) in [
            (&[0u8, 20, 0, 0][..], DecodeError::Frame(0)),
            (&[1, 6, 0, 0], DecodeError::UnknownKind(6)),
            (&[1, 99, 0, 0], DecodeError::UnknownKind(99)),
            (&[1, 20, 1, 0], DecodeError::Version { name: "NoOpRecord", version: 1 }),
            (&[1, 20, 0, 0, 0], DecodeError::Trailing(1)),
            (&[1, 20], DecodeError::End),
            (&[], DecodeError::End),
        ] {
            assert_eq!(MetadataRecord::decode(bytes), Err(error), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(kind in 0u8..30, version in 0u8..5, rest in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = MetadataRecord::decode(&rest);
            let bytes = [&[1, kind, version], &rest[..]].concat();
            if let Ok((record, version)) = MetadataRecord::decode(&bytes) {
                let written = record.encode(version).unwrap();
                // Compared as bytes: a float may be NaN.
                prop_assert_eq!(MetadataRecord::decode(&written).unwrap().0.encode(version).unwrap(), written);
            }
        }

        #[test]
        fn kafkas_bytes_with_one_byte_changed_are_read_or_refused(line in 0usize..374, at in any::<usize>(), byte in any::<u8>()) {
            let mut bytes = unhex(SCHEMAS.lines().nth(line).unwrap().rsplit(' ').next().unwrap());
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = MetadataRecord::decode(&bytes);
        }
    }
}
