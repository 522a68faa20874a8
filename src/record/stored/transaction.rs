//! The records of `__transaction_state`.
//!
//! Written by `scripts/record-codecs.py` from the schemas of Apache Kafka 4.3:
//! change that program, not this file.

// A program writes one form for all structs, also where a shorter one would do.
#![allow(clippy::field_reassign_with_default, clippy::derivable_impls)]

use std::ops::RangeInclusive;

use super::{DecodeError, EncodeError, Reader, Stored, TagWriter, Tags, Writer};

/// The key of a record of `__transaction_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    TransactionLog(TransactionLogKey),
}

impl Key {
    /// The number in front of the key, which names the kind of record.
    pub fn kind(&self) -> i16 {
        match self {
            Key::TransactionLog(_) => 0,
        }
    }

    /// The bytes of a record's key: its kind (int16), then the key itself.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut out = Writer::new();
        out.i16(self.kind());
        match self {
            Key::TransactionLog(key) => key.encode_into(&mut out, 0)?,
        }
        Ok(out.into_bytes())
    }

    /// Reads a record's key. An unknown kind is an error of its own, for a reader that has to skip such records.
    pub fn decode(bytes: &[u8]) -> Result<Key, DecodeError> {
        let mut input = Reader::new(bytes);
        let kind = input.i16()?;
        Ok(match kind {
            0 => Key::TransactionLog(TransactionLogKey::decode_from(&mut input, 0)?),
            _ => return Err(DecodeError::UnknownKind(i64::from(kind))),
        })
    }
}

/// The value of a record of `__transaction_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    TransactionLog(TransactionLogValue),
}

impl Value {
    /// Reads the value of a record whose key is of the given kind: its version (int16), then the value.
    pub fn decode(kind: i16, bytes: &[u8]) -> Result<Value, DecodeError> {
        Ok(match kind {
            0 => Value::TransactionLog(TransactionLogValue::decode(bytes)?),
            _ => return Err(DecodeError::UnknownKind(i64::from(kind))),
        })
    }

    /// The bytes of the value: the given version (int16), then the value.
    pub fn encode(&self, version: i16) -> Result<Vec<u8>, EncodeError> {
        match self {
            Value::TransactionLog(value) => value.encode(version),
        }
    }
}

/// `TransactionLogKey`; versions 0 to 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionLogKey {
    pub transactional_id: String,
}

impl Default for TransactionLogKey {
    fn default() -> Self {
        TransactionLogKey { transactional_id: String::new() }
    }
}

impl Stored for TransactionLogKey {
    const NAME: &'static str = "TransactionLogKey";
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn read(input: &mut Reader<'_>, _version: i16) -> Result<Self, DecodeError> {
        let mut record = TransactionLogKey::default();
        record.transactional_id = input.string(false)?.ok_or(DecodeError::Null("TransactionalId"))?;
        Ok(record)
    }

    fn write(&self, out: &mut Writer, _version: i16) -> Result<(), EncodeError> {
        out.string(Some(&self.transactional_id), false)?;
        Ok(())
    }
}

/// `TransactionLogValue`; versions 0 to 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionLogValue {
    pub producer_id: i64,
    /// Tag 0.
    pub previous_producer_id: i64,
    /// Tag 1.
    pub next_producer_id: i64,
    pub producer_epoch: i16,
    /// Tag 3.
    pub next_producer_epoch: i16,
    pub transaction_timeout_ms: i32,
    pub transaction_status: i8,
    pub transaction_partitions: Option<Vec<PartitionsSchema>>,
    pub transaction_last_update_timestamp_ms: i64,
    pub transaction_start_timestamp_ms: i64,
    /// Tag 2.
    pub client_transaction_version: i16,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for TransactionLogValue {
    fn default() -> Self {
        TransactionLogValue {
            producer_id: 0,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: 0,
            next_producer_epoch: -1,
            transaction_timeout_ms: 0,
            transaction_status: 0,
            transaction_partitions: Some(Vec::new()),
            transaction_last_update_timestamp_ms: 0,
            transaction_start_timestamp_ms: 0,
            client_transaction_version: 0,
            unknown_tags: Tags::default(),
        }
    }
}

impl Stored for TransactionLogValue {
    const NAME: &'static str = "TransactionLogValue";
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = TransactionLogValue::default();
        let flexible = version >= 1;
        record.producer_id = input.i64()?;
        record.producer_epoch = input.i16()?;
        record.transaction_timeout_ms = input.i32()?;
        record.transaction_status = input.i8()?;
        record.transaction_partitions = input.list(flexible, |input| PartitionsSchema::read(input, version))?;
        record.transaction_last_update_timestamp_ms = input.i64()?;
        record.transaction_start_timestamp_ms = input.i64()?;
        if flexible {
            input.tags(|tag, input| {
                match tag {
                    0 if version >= 1 => record.previous_producer_id = input.i64()?,
                    1 if version >= 1 => record.next_producer_id = input.i64()?,
                    2 if version >= 1 => record.client_transaction_version = input.i16()?,
                    3 if version >= 1 => record.next_producer_epoch = input.i16()?,
                    _ => record.unknown_tags.push(tag, input.rest()),
                }
                Ok(())
            })?;
        }
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 1;
        if version < 1 && self.previous_producer_id != -1 {
            return Err(EncodeError::NotInVersion { field: "PreviousProducerId", version });
        }
        if version < 1 && self.next_producer_id != -1 {
            return Err(EncodeError::NotInVersion { field: "NextProducerId", version });
        }
        if version < 1 && self.next_producer_epoch != -1 {
            return Err(EncodeError::NotInVersion { field: "NextProducerEpoch", version });
        }
        if version < 1 && self.client_transaction_version != 0 {
            return Err(EncodeError::NotInVersion { field: "ClientTransactionVersion", version });
        }
        out.i64(self.producer_id);
        out.i16(self.producer_epoch);
        out.i32(self.transaction_timeout_ms);
        out.i8(self.transaction_status);
        out.list(self.transaction_partitions.as_deref(), flexible, |out, value| {
            value.write(out, version)?;
            Ok(())
        })?;
        out.i64(self.transaction_last_update_timestamp_ms);
        out.i64(self.transaction_start_timestamp_ms);
        if flexible {
            let mut tags = TagWriter::new(&self.unknown_tags);
            if version >= 1 && self.previous_producer_id != -1 {
                tags.add(0, |out| {
                    out.i64(self.previous_producer_id);
                    Ok(())
                })?;
            }
            if version >= 1 && self.next_producer_id != -1 {
                tags.add(1, |out| {
                    out.i64(self.next_producer_id);
                    Ok(())
                })?;
            }
            if version >= 1 && self.client_transaction_version != 0 {
                tags.add(2, |out| {
                    out.i16(self.client_transaction_version);
                    Ok(())
                })?;
            }
            if version >= 1 && self.next_producer_epoch != -1 {
                tags.add(3, |out| {
                    out.i16(self.next_producer_epoch);
                    Ok(())
                })?;
            }
            out.tags(tags)?;
        } else if !self.unknown_tags.is_empty() {
            return Err(EncodeError::NotInVersion { field: "tagged fields", version });
        }
        Ok(())
    }
}

/// `TransactionLogValue`, part `PartitionsSchema`; versions 0 to 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionsSchema {
    pub topic: String,
    pub partition_ids: Vec<i32>,
    /// Tagged fields this release does not know, kept as they were read.
    pub unknown_tags: Tags,
}

impl Default for PartitionsSchema {
    fn default() -> Self {
        PartitionsSchema { topic: String::new(), partition_ids: Vec::new(), unknown_tags: Tags::default() }
    }
}

impl PartitionsSchema {
    fn read(input: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let mut record = PartitionsSchema::default();
        let flexible = version >= 1;
        record.topic = input.string(flexible)?.ok_or(DecodeError::Null("Topic"))?;
        record.partition_ids = input.list(flexible, Reader::i32)?.ok_or(DecodeError::Null("PartitionIds"))?;
        if flexible {
            input.tags(|tag, input| {
                record.unknown_tags.push(tag, input.rest());
                Ok(())
            })?;
        }
        Ok(record)
    }

    fn write(&self, out: &mut Writer, version: i16) -> Result<(), EncodeError> {
        let flexible = version >= 1;
        out.string(Some(&self.topic), flexible)?;
        out.list(Some(&self.partition_ids[..]), flexible, |out, value| {
            out.i32(*value);
            Ok(())
        })?;
        if flexible {
            out.tags(TagWriter::new(&self.unknown_tags))?;
        } else if !self.unknown_tags.is_empty() {
            return Err(EncodeError::NotInVersion { field: "tagged fields", version });
        }
        Ok(())
    }
}

/// Reads a record by its schema's name and writes it again; `None` for other names.
#[cfg(test)]
pub(crate) fn again(name: &str, version: i16, input: &mut Reader<'_>) -> Option<Result<Vec<u8>, DecodeError>> {
    fn one<T: Stored>(version: i16, input: &mut Reader<'_>) -> Result<Vec<u8>, DecodeError> {
        let mut out = Writer::new();
        let record = T::decode_from(input, version)?;
        record.encode_into(&mut out, version).expect("what was read can be written");
        Ok(out.into_bytes())
    }
    Some(match name {
        TransactionLogKey::NAME => one::<TransactionLogKey>(version, input),
        TransactionLogValue::NAME => one::<TransactionLogValue>(version, input),
        _ => return None,
    })
}
