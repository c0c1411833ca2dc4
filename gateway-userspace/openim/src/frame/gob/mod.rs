//! Frames as Go's `encoding/gob` writes them: the part of gob that two flat structures need, and enough of the rest to
//! skip what is not ours.
//!
//! | file | subject |
//! |---|---|
//! | `reader` | numbers, strings and bytes |
//! | `types` | type definitions, and skipping values of any type |
//! | `write` | our own frames |
//!
//! # The format
//!
//! A frame is a stream of its own: messages, each with its length before it. First come definitions of the types used,
//! then one value. Types have numbers that depend on what else the writing program has sent, so nothing but the
//! definition tells what a number means. A definition names the fields of a structure in order, each with its type.
//!
//! * Unsigned numbers below 128 are one byte. Others are their bytes, the most significant first, behind a byte that
//!   tells how many: the count, negated.
//! * Signed numbers are unsigned ones with the sign in the lowest bit: 2·n, or 2·(−1−n) + 1 if negative.
//! * Strings and bytes have their length before them.
//! * A structure is its fields, each behind the distance to the field before, and a 0. Fields that are zero are left out.
//!
//! A definition is itself such a value, under its number, negated.
//!
//! As in Go, fields are matched by name; those that we do not have are skipped, whatever their type; those that are not
//! sent are zero; if not one is known, it is not our frame; and a number that does not fit makes the frame bad. Bytes
//! after the value are not looked at.

mod reader;
mod types;
mod write;

use bytes::Bytes;

pub(super) use self::write::{write_request, write_response};
use self::{
    reader::Reader,
    types::{FieldNumbers, TypeId, Types},
};
use super::{Request, Response};

/// Why bytes are not a frame in gob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGob {
    /// They end too early.
    #[error("it ends in the middle of something")]
    Short,
    /// A number of more than eight bytes, or one that does not fit where it stands.
    #[error("a number is too large")]
    Number,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    Text,
    /// A message with something left over.
    #[error("a message is longer than what it holds")]
    Rest,
    /// A type that has not been defined, or has twice, or is defined in a way that makes no sense.
    #[error("a type definition is missing or wrong")]
    Type,
    /// More or deeper types than any frame needs.
    #[error("too many types, or too deep")]
    Limit,
    /// The value is no structure, or one without any field of ours, or one of our fields has another type.
    #[error("it is not the structure of a frame")]
    NotAFrame,
}

/// One of our fields, to be read into.
pub(super) enum Slot<'f> {
    Int32(&'f mut i32),
    Int64(&'f mut i64),
    Text(&'f mut String),
    Data(&'f mut Bytes),
}

/// A frame, as a structure of fields with names.
pub(super) trait Fields: Default {
    /// The field of that name.
    fn slot(&mut self, name: &[u8]) -> Option<Slot<'_>>;
}

/// Reads the first value of a stream.
pub(super) fn read<T: Fields>(stream: &Bytes) -> Result<T, BadGob> {
    let mut stream = Reader::new(stream.clone());
    let mut types = Types::default();
    loop {
        let mut message = stream.message()?;
        let id = TypeId::read(&mut message)?;
        let frame = if id.is_definition() {
            types.define(id, &mut message)?;
            None
        } else {
            Some(read_value(id, &types, &mut message)?)
        };
        if !message.is_empty() {
            return Err(BadGob::Rest);
        }
        if let Some(frame) = frame {
            return Ok(frame);
        }
    }
}

fn read_value<T: Fields>(id: TypeId, types: &Types, message: &mut Reader) -> Result<T, BadGob> {
    let mut frame = T::default();
    let fields = types.fields(id)?;
    let mut known = 0;
    for field in fields {
        if let Some(slot) = frame.slot(&field.name) {
            known += 1;
            if slot.type_id() != field.type_id {
                return Err(BadGob::NotAFrame);
            }
        }
    }
    if known == 0 {
        return Err(BadGob::NotAFrame);
    }
    let mut numbers = FieldNumbers::default();
    while let Some(number) = numbers.next(message)? {
        let field = fields.get(number).ok_or(BadGob::Type)?;
        match frame.slot(&field.name) {
            Some(Slot::Int32(slot)) => *slot = message.signed()?.try_into().map_err(|_| BadGob::Number)?,
            Some(Slot::Int64(slot)) => *slot = message.signed()?,
            Some(Slot::Text(slot)) => *slot = message.text()?,
            Some(Slot::Data(slot)) => *slot = message.bytes()?,
            None => types.skip(field.type_id, message)?,
        }
    }
    Ok(frame)
}

impl Slot<'_> {
    /// The type that it has in gob.
    fn type_id(&self) -> TypeId {
        match self {
            Self::Int32(_) | Self::Int64(_) => TypeId::INT,
            Self::Text(_) => TypeId::STRING,
            Self::Data(_) => TypeId::BYTES,
        }
    }
}

impl Fields for Request {
    fn slot(&mut self, name: &[u8]) -> Option<Slot<'_>> {
        Some(match name {
            b"ReqIdentifier" => Slot::Int32(&mut self.id),
            b"Token" => Slot::Text(&mut self.token),
            b"SendID" => Slot::Text(&mut self.send_id),
            b"OperationID" => Slot::Text(&mut self.operation_id),
            b"MsgIncr" => Slot::Text(&mut self.msg_incr),
            b"Data" => Slot::Data(&mut self.data),
            _ => return None,
        })
    }
}

impl Fields for Response {
    fn slot(&mut self, name: &[u8]) -> Option<Slot<'_>> {
        Some(match name {
            b"ReqIdentifier" => Slot::Int32(&mut self.id),
            b"MsgIncr" => Slot::Text(&mut self.msg_incr),
            b"OperationID" => Slot::Text(&mut self.operation_id),
            b"ErrCode" => Slot::Int64(&mut self.err_code),
            b"ErrMsg" => Slot::Text(&mut self.err_msg),
            b"Data" => Slot::Data(&mut self.data),
            _ => return None,
        })
    }
}
