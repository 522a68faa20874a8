//! Reading answers from a socket, and the two of them that come in masses:
//! Produce and Fetch, read in place without allocation. Everything comes from the
//! network and is checked; a cut or lying answer is a failure, never a panic.

use std::io::Read;
use std::ops::Range;

use crate::failure;
use crate::failure::{Doing, Outcome, error_name};

/// Bytes of one read, some 20 µs: more would hold up what else the thread has to do, and that would count as the broker's latency.
const READ_BYTES_MAX: usize = 128 << 10;

/// Frames of one connection, received into one buffer that is used again.
pub struct Answers<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Answers<R> {
    pub fn new(source: R) -> Answers<R> {
        Answers { source, buffer: vec![0; 128 << 10], start: 0, end: 0 }
    }

    /// Where the next whole frame lies (without its size), if it has arrived.
    pub fn arrived(&mut self) -> Outcome<Option<Range<usize>>> {
        let Some(size) = self.buffer[self.start..self.end].first_chunk::<4>() else { return Ok(None) };
        let size = u32::from_be_bytes(*size) as usize;
        if !(4..=1 << 30).contains(&size) {
            return Err(failure!("the broker sent a frame of {size} bytes"));
        }
        let whole = self.start + 4..self.start + 4 + size;
        if whole.end <= self.end {
            self.start = whole.end;
            return Ok(Some(whole));
        }
        // Make room for the whole frame at once, so that a large one is not moved again and again.
        if whole.end > self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if 4 + size > self.buffer.len() {
                self.buffer.resize((4 + size).next_power_of_two(), 0);
            }
        }
        Ok(None)
    }

    /// Takes more bytes: waits for them, or says `false` when the socket does not wait (or not any longer).
    pub fn receive(&mut self) -> Outcome<bool> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let room = self.buffer.len().min(self.end + READ_BYTES_MAX);
        let count = match self.source.read(&mut self.buffer[self.end..room]) {
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return Ok(false);
            }
            other => other.doing(|| String::from("receive an answer"))?,
        };
        if count == 0 {
            return Err(failure!("the broker closed the connection"));
        }
        self.end += count;
        Ok(true)
    }

    /// Waits for the next whole frame.
    #[cfg(test)]
    pub fn next(&mut self) -> Outcome<Range<usize>> {
        loop {
            if let Some(frame) = self.arrived()? {
                return Ok(frame);
            }
            if !self.receive()? {
                return Err(failure!("nothing came"));
            }
        }
    }

    /// The bytes of a frame; valid until the next call that receives.
    pub fn bytes(&self, frame: Range<usize>) -> &[u8] {
        &self.buffer[frame]
    }
}

/// The correlation id at the start of an answer, and the rest.
pub fn correlation_id(frame: &[u8]) -> Outcome<(i32, &[u8])> {
    let mut cursor = Cursor(frame);
    Ok((cursor.i32()?, cursor.0))
}

/// Walks an answer's fields.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Outcome<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| failure!("the broker sent a cut answer"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn i16(&mut self) -> Outcome<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into().expect("2 bytes")))
    }

    fn i32(&mut self) -> Outcome<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().expect("4 bytes")))
    }

    fn i64(&mut self) -> Outcome<i64> {
        Ok(i64::from_be_bytes(self.take(8)?.try_into().expect("8 bytes")))
    }

    fn varint(&mut self) -> Outcome<u32> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(failure!("the broker sent a number without end"))
    }

    /// An array's count; a null array counts as empty.
    fn count(&mut self, flexible: bool) -> Outcome<u32> {
        Ok(if flexible { self.varint()?.saturating_sub(1) } else { self.i32()?.max(0) as u32 })
    }

    /// The bytes of a string; null counts as empty.
    fn string(&mut self, flexible: bool) -> Outcome<&'a [u8]> {
        let len = if flexible { self.varint()?.saturating_sub(1) as usize } else { self.i16()?.max(0) as usize };
        self.take(len)
    }

    fn bytes(&mut self, flexible: bool) -> Outcome<&'a [u8]> {
        let len = self.count(flexible)? as usize;
        self.take(len)
    }

    fn tags(&mut self, flexible: bool) -> Outcome<()> {
        if flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let len = self.varint()? as usize;
                self.take(len)?;
            }
        }
        Ok(())
    }
}

/// Versions of Produce spoken here.
pub const PRODUCE_VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;
/// Versions of Fetch spoken here.
pub const FETCH_VERSIONS: std::ops::RangeInclusive<i16> = 7..=17;

/// Checks that no partition of a Produce answer (its bytes after the correlation
/// id) reports an error; returns how many partitions answered.
pub fn check_produced(body: &[u8], version: i16) -> Outcome<u32> {
    let flexible = version >= 9;
    let mut cursor = Cursor(body);
    cursor.tags(flexible)?;
    let mut answered = 0;
    for _ in 0..cursor.count(flexible)? {
        if version >= 13 {
            cursor.take(16)?;
        } else {
            cursor.string(flexible)?;
        }
        for _ in 0..cursor.count(flexible)? {
            let (partition, code) = (cursor.i32()?, cursor.i16()?);
            // Base offset, append time, log start offset.
            cursor.take(if version >= 5 { 24 } else { 16 })?;
            let mut message: &[u8] = &[];
            if version >= 8 {
                for _ in 0..cursor.count(flexible)? {
                    cursor.i32()?;
                    cursor.string(flexible)?;
                    cursor.tags(flexible)?;
                }
                message = cursor.string(flexible)?;
            }
            cursor.tags(flexible)?;
            if code != 0 {
                let message = String::from_utf8_lossy(message);
                return Err(failure!("produce to partition {partition}: {} {message}", error_name(code)));
            }
            answered += 1;
        }
        cursor.tags(flexible)?;
    }
    Ok(answered)
}

/// Hands every partition of a Fetch answer (its bytes after the correlation id)
/// with its record bytes to `visit`; returns the fetch session's id.
pub fn read_fetched(body: &[u8], version: i16, mut visit: impl FnMut(i32, &[u8]) -> Outcome<()>) -> Outcome<i32> {
    let flexible = version >= 12;
    let mut cursor = Cursor(body);
    cursor.tags(flexible)?;
    cursor.i32()?;
    let (code, session) = (cursor.i16()?, cursor.i32()?);
    if code != 0 {
        return Err(failure!("fetch: {}", error_name(code)));
    }
    for _ in 0..cursor.count(flexible)? {
        if version >= 13 {
            cursor.take(16)?;
        } else {
            cursor.string(flexible)?;
        }
        for _ in 0..cursor.count(flexible)? {
            let (partition, code) = (cursor.i32()?, cursor.i16()?);
            // High watermark, last stable offset, log start offset.
            for _ in 0..3 {
                cursor.i64()?;
            }
            for _ in 0..cursor.count(flexible)? {
                cursor.take(16)?;
                cursor.tags(flexible)?;
            }
            if version >= 11 {
                cursor.i32()?;
            }
            let records = cursor.bytes(flexible)?;
            cursor.tags(flexible)?;
            if code != 0 {
                return Err(failure!("fetch from partition {partition}: {}", error_name(code)));
            }
            visit(partition, records)?;
        }
        cursor.tags(flexible)?;
    }
    Ok(session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
    use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
    use kafka_protocol::messages::{FetchResponse, ProduceResponse, TopicName};
    use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};

    /// The answer as a broker sends it, from the header's tags on.
    fn encoded<M: Encodable + HeaderVersion>(message: &M, version: i16) -> BytesMut {
        let mut bytes = BytesMut::new();
        if M::header_version(version) >= 1 {
            bytes.extend_from_slice(&[0]);
        }
        message.encode(&mut bytes, version).unwrap();
        bytes
    }

    fn name() -> TopicName {
        TopicName(StrBytes::from_static_str("orders"))
    }

    fn produced(code: i16, version: i16) -> BytesMut {
        let partition = |index, code| {
            let partition = PartitionProduceResponse::default().with_index(index).with_error_code(code);
            let partition = partition.with_base_offset(1 << 40).with_log_append_time_ms(-1);
            if version >= 8 && code != 0 {
                return partition.with_error_message(Some(StrBytes::from_static_str("because")));
            }
            partition
        };
        let topic = TopicProduceResponse::default().with_partition_responses(vec![partition(0, 0), partition(5, code)]);
        let topic = if version >= 13 { topic } else { topic.with_name(name()) };
        encoded(&ProduceResponse::default().with_responses(vec![topic]), version)
    }

    #[test]
    fn produce_answers_of_every_version() {
        for version in PRODUCE_VERSIONS {
            assert_eq!(check_produced(&produced(0, version), version).unwrap(), 2, "version {version}");
            let error = check_produced(&produced(6, version), version).unwrap_err().0;
            assert!(error.contains("partition 5") && error.contains("NotLeader"), "version {version}: {error}");
            assert_eq!(error.contains("because"), version >= 8, "{error}");
        }
    }

    fn fetched(code: i16, version: i16) -> BytesMut {
        let aborted = AbortedTransaction::default().with_producer_id(1.into()).with_first_offset(2);
        let partition = PartitionData::default()
            .with_partition_index(3)
            .with_error_code(code)
            .with_high_watermark(9)
            .with_aborted_transactions(Some(vec![aborted]))
            .with_records(Some(Bytes::from_static(b"some records")));
        let empty = PartitionData::default().with_partition_index(4).with_aborted_transactions(None);
        let topic = FetchableTopicResponse::default().with_partitions(vec![partition, empty]);
        let topic = if version >= 13 { topic } else { topic.with_topic(name()) };
        encoded(&FetchResponse::default().with_session_id(77).with_responses(vec![topic]), version)
    }

    #[test]
    fn fetch_answers_of_every_version() {
        for version in FETCH_VERSIONS {
            let mut seen = Vec::new();
            let session = read_fetched(&fetched(0, version), version, |partition, records| {
                seen.push((partition, records.to_vec()));
                Ok(())
            });
            assert_eq!(session.unwrap(), 77, "version {version}");
            assert_eq!(seen, [(3, b"some records".to_vec()), (4, Vec::new())], "version {version}");
            let error = read_fetched(&fetched(1, version), version, |_, _| Ok(())).unwrap_err().0;
            assert!(error.contains("partition 3") && error.contains("OffsetOutOfRange"), "{error}");
        }
    }

    #[test]
    fn cut_answers_fail_without_panic() {
        for version in [7, 12, 17] {
            let whole = fetched(0, version);
            // The last bytes are tags that a cut may leave complete only when nothing is missing.
            for len in 0..whole.len() - 1 {
                let _ = read_fetched(&whole[..len], version, |_, _| Ok(()));
            }
            assert!(read_fetched(&whole[..20], version, |_, _| Ok(())).is_err());
        }
        for len in 0..40 {
            let _ = check_produced(&produced(0, 13)[..len], 13);
            let _ = check_produced(&vec![0xff; len], 13);
        }
    }

    #[test]
    fn frames_are_found_however_they_arrive() {
        struct Dribble(Vec<u8>, usize);
        impl Read for Dribble {
            fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
                let count = self.1.min(self.0.len()).min(into.len());
                into[..count].copy_from_slice(&self.0[..count]);
                self.0.drain(..count);
                Ok(count)
            }
        }
        let sizes = [4usize, 5, 100, 70_000, 4, 300_000, 10];
        let mut stream = Vec::new();
        for (index, size) in sizes.iter().enumerate() {
            stream.extend((*size as u32).to_be_bytes());
            stream.extend(vec![index as u8; *size]);
        }
        for step in [1000, 4096, 65_536, 1 << 20] {
            let mut answers = Answers::new(Dribble(stream.clone(), step));
            for (index, size) in sizes.iter().enumerate() {
                let frame = answers.next().unwrap();
                assert_eq!(answers.bytes(frame), vec![index as u8; *size], "step {step}");
            }
            assert!(answers.next().is_err(), "the end is a failure");
        }
    }
}
