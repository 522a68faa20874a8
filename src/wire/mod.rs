//! Framing, versions served, request and response codecs.
//!
//! Relies on `base` and `record`'s varints. Never touches a socket, and never
//! trusts a byte: counts and lengths of a frame may claim anything, decoding
//! neither panics nor allocates by what they claim.
//!
//! The codecs of Produce and Fetch are written by hand ([`produce`], [`fetch`]): they
//! carry the records, which stay where they lie. All other messages are those of
//! the `kafka-protocol` crate, behind [`decode`] and [`encode`], which guard it; a few versions that it does not know
//! are read and written by hand ([`Body`]).
//!
//! # The bytes
//!
//! A request on a connection: int32 size of what follows; header: int16 api key,
//! int16 version, int32 correlation id, client id (int16 length or −1, UTF-8), and if the
//! version is flexible tagged fields; then the body. A response: int32 size;
//! int32 correlation id, and tagged fields if flexible (never for ApiVersions); then the body.

mod body;
mod cursor;
pub mod fetch;
mod guard;
mod offsets;
pub mod produce;
mod scratch;
mod shapes;
pub mod versions;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::{BufMut, Bytes, BytesMut};
pub use kafka_protocol::messages::ApiKey;
pub use kafka_protocol::protocol::StrBytes;
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::base::{Rope, Uuid};
pub use body::Body;
use cursor::Cursor;
pub use scratch::Scratch;
pub use versions::{Served, served};

/// Bytes of a frame's size field.
pub const SIZE_BYTES: usize = 4;

/// Why bytes from a peer are not what they should be, or an answer cannot be written.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    #[error("the bytes end within {0}")]
    End(&'static str),
    #[error("a variable-length integer is longer than 5 bytes")]
    Varint,
    #[error("{what} claims {claimed} with {remaining} bytes left")]
    Length { what: &'static str, claimed: i64, remaining: usize },
    /// Kafka's strings are at most 32767 bytes long, also where the length is a varint.
    #[error("{what} is {len} bytes long, more than a string may be")]
    TextLength { what: &'static str, len: i64 },
    #[error("{0} is null where it must not be")]
    Null(&'static str),
    #[error("{0} is not UTF-8")]
    Text(&'static str),
    #[error("{0} is not a tagged field of this version")]
    Tag(&'static str),
    #[error("{0} bytes of a tagged field are not part of its value")]
    TagSize(usize),
    /// An API that is not served: Kafka closes the connection.
    #[error("api key {0} is not served")]
    UnknownApi(i16),
    /// Kafka closes the connection, save for ApiVersions.
    #[error("version {version} of {api:?} is not served")]
    Version { api: ApiKey, version: i16 },
    #[error("{api:?} version {version} cannot be decoded: {reason}")]
    Decode { api: ApiKey, version: i16, reason: String },
    #[error("an answer of version {version} cannot be encoded: {reason}")]
    Encode { version: i16, reason: String },
}

/// What precedes a request's body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    pub api: &'static Served,
    /// Not checked: ApiVersions of an unknown version has to be answered. See [`Served::serves`].
    pub api_version: i16,
    pub correlation_id: i32,
    /// A slice of the frame, which it keeps alive: copy it to keep it.
    pub client_id: Option<StrBytes>,
}

/// Takes the header off a frame (without its size field); what stays is the body.
pub fn read_header(frame: &mut Bytes) -> Result<RequestHeader, WireError> {
    let mut cursor = Cursor::new(frame);
    let key = cursor.i16("api key")?;
    let api_version = cursor.i16("api version")?;
    let correlation_id = cursor.i32("correlation id")?;
    let api = served(key).ok_or(WireError::UnknownApi(key))?;
    // Stays an int16 string in flexible headers, so that its place never depends on the version.
    let client_id = match cursor.i16("client id")? {
        len if len < 0 => None,
        len => {
            let bytes = cursor.take(len as usize, "client id")?;
            Some(match std::str::from_utf8(bytes) {
                Ok(_) => StrBytes::from_utf8(frame.slice_ref(bytes)).map_err(|_| WireError::Text("client id"))?,
                // Kafka replaces what is not UTF-8.
                Err(_) => StrBytes::from_string(String::from_utf8_lossy(bytes).into_owned()),
            })
        }
    };
    if api.is_flexible(api_version) {
        cursor.skip_tags()?;
    }
    let position = cursor.position();
    bytes::Buf::advance(frame, position);
    Ok(RequestHeader { api, api_version, correlation_id, client_id })
}

/// The header of an answer.
pub fn response_header(correlation_id: i32, api: &Served, version: i16) -> ResponseHeader {
    // KIP-511: a client that asked in a version that we do not know has to be able to read the answer.
    let flexible = api.key != ApiKey::ApiVersions && api.is_flexible(version);
    ResponseHeader { correlation_id, flexible }
}

/// See [`response_header`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResponseHeader {
    correlation_id: i32,
    flexible: bool,
}

/// Writes what goes before an answer's body on the connection: size and header.
///
/// # Panics
/// When the body is 2 GiB or larger.
pub fn put_frame_head(header: ResponseHeader, body_bytes: usize, to: &mut Scratch) {
    let header_len = 4 + usize::from(header.flexible);
    to.make_room(SIZE_BYTES + header_len);
    to.put_i32(i32::try_from(header_len + body_bytes).expect("an answer is smaller than 2 GiB"));
    to.put_i32(header.correlation_id);
    if header.flexible {
        to.put_u8(0);
    }
}

/// Writes a whole answer whose body is written by `body`, behind what is there.
///
/// # Panics
/// When the body is 2 GiB or larger.
pub fn put_frame(header: ResponseHeader, to: &mut Scratch, body: impl FnOnce(&mut Scratch)) {
    let start = to.len();
    put_frame_head(header, 0, to);
    body(to);
    let size = i32::try_from(to.len() - start - SIZE_BYTES).expect("an answer is smaller than 2 GiB");
    to[start..start + SIZE_BYTES].copy_from_slice(&size.to_be_bytes());
}

/// A whole answer as it goes on the connection: size, header, body.
pub fn frame(header: ResponseHeader, body: Rope) -> Rope {
    let mut scratch = Scratch::take();
    put_frame_head(header, body.len(), &mut scratch);
    let mut rope = Rope::from(scratch.cut());
    rope.append(body);
    rope
}

/// The size that a frame's first four bytes claim: of all that follows. `None`:
/// the bytes are not there yet. Whether the size is allowed is the caller's question.
pub fn frame_size(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk().map(|size| i32::from_be_bytes(*size))
}

/// Decodes a request's body. Bytes behind it are ignored, as Kafka does.
///
/// The crate believes counts (it reserves room for all the elements that are
/// claimed), so the body is walked by its schema first: after that each claimed
/// element is known to be there. A panic of the crate would become an error too.
pub fn decode<Q: Body>(body: Bytes, version: i16) -> Result<Q, WireError> {
    let api = served(Q::KEY).ok_or(WireError::UnknownApi(Q::KEY))?;
    if !api.serves(version) {
        return Err(WireError::Version { api: api.key, version });
    }
    guard::check(api.key, version, &body)?;
    match Q::read(&body, version) {
        Some(read) => read,
        None => decode_by_crate(api.key, version, body, Q::crate_version(version)),
    }
}

/// Decodes an answer to a request of our own: what another core said.
pub fn decode_answer<Q: Body>(body: Bytes, version: i16) -> Result<Q::Response, WireError> {
    let api = served(Q::KEY).ok_or(WireError::UnknownApi(Q::KEY))?;
    decode_by_crate(api.key, version, body, Q::crate_version(version))
}

fn decode_by_crate<T: Decodable>(
    api: ApiKey,
    version: i16,
    mut body: Bytes,
    crate_version: i16,
) -> Result<T, WireError> {
    let fail = |reason| WireError::Decode { api, version, reason };
    match catch_unwind(AssertUnwindSafe(|| T::decode(&mut body, crate_version))) {
        Ok(Ok(message)) => Ok(message),
        Ok(Err(error)) => Err(fail(error.to_string())),
        Err(_) => Err(fail("the decoder panicked".to_owned())),
    }
}

/// Encodes the body of an answer. An error is a mistake of ours (a field set that the version does not have);
/// the peer has to get an error answer then.
pub fn encode<Q: Body>(answer: &Q::Response, version: i16) -> Result<Bytes, WireError> {
    encode_by_crate(answer, Q::crate_version(version))
}

/// Encodes the body of a request.
///
/// # Errors
/// A field is set that the version does not have.
pub fn encode_request<Q: Body>(request: &Q, version: i16) -> Result<Bytes, WireError> {
    match request.write(version) {
        Some(body) => Ok(body),
        None => encode_by_crate(request, Q::crate_version(version)),
    }
}

fn encode_by_crate<T: Encodable>(message: &T, version: i16) -> Result<Bytes, WireError> {
    let fail = |reason: String| WireError::Encode { version, reason };
    let size = message.compute_size(version).map_err(|error| fail(error.to_string()))?;
    let mut bytes = BytesMut::with_capacity(size);
    message.encode(&mut bytes, version).map_err(|error| fail(error.to_string()))?;
    Ok(bytes.freeze())
}

/// A topic id as the crate's messages hold it. (The type itself belongs to a crate that we do not depend on;
/// what the caller assigns it to says which it is. The way back is `Uuid(*theirs.as_bytes())`.)
pub fn crate_uuid<U: TryFrom<Vec<u8>> + Default>(id: Uuid) -> U {
    U::try_from(id.0.to_vec()).unwrap_or_default()
}

/// A topic as a message names it: by name, or by id in later versions.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    /// A slice of the frame, which it keeps alive: copy it to keep it.
    Name(StrBytes),
    Id(Uuid),
}

impl Topic {
    /// A name of its own bytes.
    pub fn named(name: &str) -> Topic {
        Topic::Name(StrBytes::from_string(name.to_owned()))
    }

    pub fn name(&self) -> Option<&str> {
        match self {
            Topic::Name(name) => Some(name),
            Topic::Id(_) => None,
        }
    }

    pub fn id(&self) -> Option<Uuid> {
        match self {
            Topic::Name(_) => None,
            Topic::Id(id) => Some(*id),
        }
    }
}

/// The leader that a client should turn to instead (KIP-951); broker ids as clients are shown them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CurrentLeader {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

/// Where a broker named as a leader is reached (KIP-951).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

#[cfg(test)]
mod tests;
