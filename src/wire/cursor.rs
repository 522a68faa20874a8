//! Takes fields off the front of a message's bytes, in classic and in flexible
//! form, and writes them. Nothing is copied and nothing is allocated by a claim.

use bytes::{BufMut, BytesMut};

use super::{NodeEndpoint, WireError};
use crate::base::Uuid;
use crate::record::varint;

#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, position: 0 }
    }

    /// Goes on where another cursor over the same bytes stood.
    pub(super) fn at(bytes: &'a [u8], position: usize) -> Cursor<'a> {
        Cursor { bytes, position }
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Nothing may be left: the value of a tagged field is as long as the field says.
    /// A later version adds a tag of its own; it never makes a field longer.
    pub(super) fn all_taken(&self) -> Result<(), WireError> {
        if self.remaining() == 0 { Ok(()) } else { Err(WireError::TagSize(self.remaining())) }
    }

    #[inline]
    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let array = self.bytes[self.position..].first_chunk().ok_or(WireError::End(what))?;
        self.position += N;
        Ok(*array)
    }

    #[inline]
    pub(super) fn i8(&mut self, what: &'static str) -> Result<i8, WireError> {
        self.array(what).map(i8::from_be_bytes)
    }

    #[inline]
    pub(super) fn i16(&mut self, what: &'static str) -> Result<i16, WireError> {
        self.array(what).map(i16::from_be_bytes)
    }

    #[inline]
    pub(super) fn i32(&mut self, what: &'static str) -> Result<i32, WireError> {
        self.array(what).map(i32::from_be_bytes)
    }

    #[inline]
    pub(super) fn i64(&mut self, what: &'static str) -> Result<i64, WireError> {
        self.array(what).map(i64::from_be_bytes)
    }

    pub(super) fn uuid(&mut self, what: &'static str) -> Result<Uuid, WireError> {
        self.array(what).map(Uuid)
    }

    #[inline]
    pub(super) fn unsigned_varint(&mut self, what: &'static str) -> Result<u32, WireError> {
        let rest = &self.bytes[self.position..];
        match varint::read_unsigned(rest) {
            Some((value, len)) => {
                self.position += len;
                Ok(value)
            }
            None if rest.len() < varint::VARINT_BYTES_MAX => Err(WireError::End(what)),
            None => Err(WireError::Varint),
        }
    }

    #[inline]
    pub(super) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let taken = self.bytes[self.position..].get(..len).ok_or(WireError::Length {
            what,
            claimed: len as i64,
            remaining: self.remaining(),
        })?;
        self.position += len;
        Ok(taken)
    }

    /// The length of text; `None` is null.
    pub(super) fn text_len(&mut self, flexible: bool, what: &'static str) -> Result<Option<usize>, WireError> {
        let len = if flexible { i64::from(self.unsigned_varint(what)?) - 1 } else { i64::from(self.i16(what)?) };
        if len > i64::from(i16::MAX) {
            return Err(WireError::TextLength { what, len });
        }
        self.claim(len, 1, what)
    }

    /// The length of bytes, or the count of an array whose elements take `each` bytes at least; `None` is null.
    pub(super) fn count(
        &mut self,
        flexible: bool,
        each: usize,
        what: &'static str,
    ) -> Result<Option<usize>, WireError> {
        let count = if flexible { i64::from(self.unsigned_varint(what)?) - 1 } else { i64::from(self.i32(what)?) };
        self.claim(count, each, what)
    }

    #[inline]
    fn claim(&self, claimed: i64, each: usize, what: &'static str) -> Result<Option<usize>, WireError> {
        match usize::try_from(claimed) {
            Err(_) if claimed == -1 => Ok(None),
            Ok(count) if count <= self.remaining() / each => Ok(Some(count)),
            _ => Err(WireError::Length { what, claimed, remaining: self.remaining() }),
        }
    }

    /// Text that may be null.
    pub(super) fn nullable_text(&mut self, flexible: bool, what: &'static str) -> Result<Option<&'a str>, WireError> {
        let Some(len) = self.text_len(flexible, what)? else { return Ok(None) };
        std::str::from_utf8(self.take(len, what)?).map(Some).map_err(|_| WireError::Text(what))
    }

    pub(super) fn text(&mut self, flexible: bool, what: &'static str) -> Result<&'a str, WireError> {
        self.nullable_text(flexible, what)?.ok_or(WireError::Null(what))
    }

    /// Walks over tagged fields; the function gets each tag with a cursor over exactly its bytes.
    pub(super) fn tags(
        &mut self,
        mut one: impl FnMut(u32, &mut Cursor<'a>) -> Result<(), WireError>,
    ) -> Result<(), WireError> {
        for _ in 0..self.unsigned_varint("tagged fields")? {
            let tag = self.unsigned_varint("tag")?;
            let size = self.unsigned_varint("tagged field")? as usize;
            one(tag, &mut Cursor::new(self.take(size, "tagged field")?))?;
        }
        Ok(())
    }

    pub(super) fn skip_tags(&mut self) -> Result<(), WireError> {
        self.tags(|_, _| Ok(()))
    }
}

/// Fields appended to a message, in classic or in flexible form.
pub(super) trait Put: BufMut {
    fn put_unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.put_u8(value as u8);
    }

    /// The length of bytes or the count of an array.
    ///
    /// # Panics
    /// When it is 2 GiB or more: answers are bounded far below.
    fn put_count(&mut self, count: Option<usize>, flexible: bool) {
        let count = count.map_or(-1, |count| i32::try_from(count).expect("a count below 2 GiB"));
        match flexible {
            true => self.put_unsigned_varint(count.wrapping_add(1) as u32),
            false => self.put_i32(count),
        }
    }

    /// Text; what does not fit an int16 length is cut (only messages of ours could be so long).
    fn put_text(&mut self, text: Option<&str>, flexible: bool) {
        let text = text.map(|text| &text[..text.floor_char_boundary(i16::MAX as usize)]);
        match (text, flexible) {
            (None, true) => self.put_u8(0),
            (None, false) => self.put_i16(-1),
            (Some(text), true) => self.put_unsigned_varint(text.len() as u32 + 1),
            (Some(text), false) => self.put_i16(text.len() as i16),
        }
        self.put_slice(text.unwrap_or_default().as_bytes());
    }
}

impl Put for BytesMut {}
impl Put for Vec<u8> {}

/// The tagged field 0 with node endpoints, and the count of tagged fields before it.
pub(super) fn put_node_endpoints(endpoints: &[NodeEndpoint], known: bool, to: &mut BytesMut) {
    if endpoints.is_empty() || !known {
        to.put_u8(0);
        return;
    }
    let mut field = Vec::with_capacity(endpoints.len() * 64);
    field.put_count(Some(endpoints.len()), true);
    for endpoint in endpoints {
        field.put_i32(endpoint.node_id);
        field.put_text(Some(&endpoint.host), true);
        field.put_i32(endpoint.port);
        field.put_text(endpoint.rack.as_deref(), true);
        field.put_u8(0);
    }
    to.put_u8(1);
    put_tag(0, &field, to);
}

/// One tagged field.
pub(super) fn put_tag(tag: u32, field: &[u8], to: &mut BytesMut) {
    to.put_unsigned_varint(tag);
    to.put_unsigned_varint(field.len() as u32);
    to.put_slice(field);
}
