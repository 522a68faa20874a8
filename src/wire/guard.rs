//! Walks a request by its schema before the `kafka-protocol` crate decodes it.
//!
//! The crate reserves room for as many elements as a count claims: eight bytes
//! that claim 2³¹ elements make it reserve hundreds of gigabytes. Measured for
//! each array of each request (161 cases): with the system's allocator the first
//! one aborts the process; with mimalloc, which reserves lazily, none does, at up to
//! 240 GiB of reserved addresses and 18 ms apiece. After this walk every
//! claimed element, and all that lies before it, is known to be in the frame, so
//! that what the crate allocates is a small multiple of the frame.
//!
//! The shapes come from Kafka's schemas (`scripts/request-shapes.py`). Nothing is allocated here.

use kafka_protocol::messages::ApiKey;

use super::WireError;
use super::cursor::Cursor;
use super::shapes::shape;
use super::versions::served;

/// One field of a request or of a struct within.
#[derive(Debug)]
pub(super) struct Field {
    /// The first and the last version that has it.
    pub(super) from: i16,
    pub(super) to: i16,
    pub(super) array: bool,
    pub(super) kind: Kind,
}

/// What a field, or each element of an array, is.
#[derive(Debug)]
pub(super) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A length and UTF-8.
    Text,
    /// A length and bytes.
    Bytes,
    Struct(&'static [Field]),
    /// A byte that says whether there is one, and a struct.
    Maybe(&'static [Field]),
}

/// "And all later versions."
pub(super) const LAST: i16 = i16::MAX;

/// Checks that all fields of a request are there, with everything that they claim.
pub(super) fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<(), WireError> {
    let fields = shape(api).ok_or(WireError::Version { api, version })?;
    let flexible = served(api as i16).is_some_and(|api| api.is_flexible(version));
    check_struct(fields, version, flexible, &mut Cursor::new(body))
}

fn check_struct(fields: &[Field], version: i16, flexible: bool, cursor: &mut Cursor) -> Result<(), WireError> {
    for field in fields.iter().filter(|field| (field.from..=field.to).contains(&version)) {
        if !field.array {
            check_one(&field.kind, version, flexible, cursor)?;
            continue;
        }
        let least = match field.kind {
            Kind::Fixed(len) => len,
            _ => 1,
        };
        let count = cursor.count(flexible, least, "array")?.unwrap_or(0);
        for _ in 0..count {
            check_one(&field.kind, version, flexible, cursor)?;
        }
    }
    if flexible { cursor.skip_tags() } else { Ok(()) }
}

fn check_one(kind: &Kind, version: i16, flexible: bool, cursor: &mut Cursor) -> Result<(), WireError> {
    let len = match kind {
        Kind::Fixed(len) => *len,
        Kind::Text => cursor.text_len(flexible, "text")?.unwrap_or(0),
        Kind::Bytes => cursor.count(flexible, 1, "bytes")?.unwrap_or(0),
        Kind::Struct(fields) => return check_struct(fields, version, flexible, cursor),
        Kind::Maybe(fields) => match cursor.i8("presence of a struct")? {
            1 => return check_struct(fields, version, flexible, cursor),
            // As the crate has it.
            _ => 0,
        },
    };
    cursor.take(len, "field").map(|_| ())
}
