//! Type definitions, and skipping values of any type.

use bytes::Bytes;

use super::{BadGob, reader::Reader};

/// Most types in one frame. Ours need one.
const MAX_TYPES: usize = 64;

/// Most fields in one structure.
const MAX_FIELDS: usize = 256;

/// How deep values that are skipped may be nested.
const MAX_DEPTH: u8 = 32;

/// The number of a type. Below 64 are those that every program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TypeId(i64);

/// The definitions that a stream has had so far.
#[derive(Default)]
pub(super) struct Types {
    defined: Vec<(TypeId, Type)>,
}

enum Type {
    Structure(Vec<Field>),
    /// An array or a slice.
    Sequence(TypeId),
    Map(TypeId, TypeId),
    /// A type that writes itself: bytes, to us.
    Opaque,
}

/// A field of a structure.
pub(super) struct Field {
    pub(super) name: Bytes,
    pub(super) type_id: TypeId,
}

// === impl TypeId ===

impl TypeId {
    pub(super) const BOOL: Self = Self(1);
    pub(super) const INT: Self = Self(2);
    pub(super) const UINT: Self = Self(3);
    pub(super) const FLOAT: Self = Self(4);
    pub(super) const BYTES: Self = Self(5);
    pub(super) const STRING: Self = Self(6);
    pub(super) const COMPLEX: Self = Self(7);
    pub(super) const INTERFACE: Self = Self(8);

    /// The first number of a message: what follows is a value of that type or, if it is negative, its definition.
    pub(super) fn read(reader: &mut Reader) -> Result<Self, BadGob> {
        reader.signed().map(Self)
    }

    pub(super) fn is_definition(self) -> bool {
        self.0 < 0
    }
}

// === impl Types ===

impl Types {
    /// Reads a definition, which a negative number announced.
    pub(super) fn define(&mut self, announced: TypeId, reader: &mut Reader) -> Result<(), BadGob> {
        let id = TypeId(announced.0.checked_neg().ok_or(BadGob::Type)?);
        if self.get(id).is_some() {
            return Err(BadGob::Type);
        }
        if self.defined.len() == MAX_TYPES {
            return Err(BadGob::Limit);
        }
        let mut defined = None;
        // A definition is a structure of which one field is set, the kind of type. The first field of each kind is what
        // all types have in common: a name and the number once more.
        let mut kinds = FieldNumbers::default();
        while let Some(kind) = kinds.next(reader)? {
            let mut parts = FieldNumbers::default();
            let (mut element, mut key, mut fields) = (None, None, Vec::new());
            while let Some(part) = parts.next(reader)? {
                match (kind, part) {
                    (_, 0) => skip_common(reader)?,
                    (ARRAY | SLICE, 1) => element = Some(TypeId::read(reader)?),
                    (ARRAY, 2) => drop(reader.signed()?),
                    (STRUCTURE, 1) => fields = read_fields(reader)?,
                    (MAP, 1) => key = Some(TypeId::read(reader)?),
                    (MAP, 2) => element = Some(TypeId::read(reader)?),
                    _ => return Err(BadGob::Type),
                }
            }
            let one = match kind {
                ARRAY | SLICE => Type::Sequence(element.ok_or(BadGob::Type)?),
                STRUCTURE => Type::Structure(fields),
                MAP => Type::Map(key.ok_or(BadGob::Type)?, element.ok_or(BadGob::Type)?),
                GOB_ENCODER | BINARY_MARSHALER | TEXT_MARSHALER => Type::Opaque,
                _ => return Err(BadGob::Type),
            };
            if defined.replace(one).is_some() {
                return Err(BadGob::Type);
            }
        }
        self.defined.push((id, defined.ok_or(BadGob::Type)?));
        Ok(())
    }

    /// The fields of a structure.
    pub(super) fn fields(&self, id: TypeId) -> Result<&[Field], BadGob> {
        match self.get(id) {
            Some(Type::Structure(fields)) => Ok(fields),
            Some(_) => Err(BadGob::NotAFrame),
            None => Err(BadGob::Type),
        }
    }

    /// Reads over a value, whatever it is.
    pub(super) fn skip(&self, id: TypeId, reader: &mut Reader) -> Result<(), BadGob> {
        self.skip_below(MAX_DEPTH, id, reader)
    }

    fn skip_below(&self, depth: u8, id: TypeId, reader: &mut Reader) -> Result<(), BadGob> {
        let depth = depth.checked_sub(1).ok_or(BadGob::Limit)?;
        match id {
            TypeId::BOOL | TypeId::INT | TypeId::UINT | TypeId::FLOAT => drop(reader.unsigned()?),
            TypeId::BYTES | TypeId::STRING => drop(reader.bytes()?),
            TypeId::COMPLEX => {
                reader.unsigned()?;
                reader.unsigned()?;
            }
            TypeId::INTERFACE => {
                // The name of what is in it, its type, its length, and it; just an empty name if nothing is in it.
                if !reader.bytes()?.is_empty() {
                    if TypeId::read(reader)?.is_definition() {
                        // A definition in the middle of a value, of a type that only stands in what is skipped.
                        return Err(BadGob::Type);
                    }
                    reader.bytes()?;
                }
            }
            _ => match self.get(id).ok_or(BadGob::Type)? {
                Type::Structure(fields) => {
                    let mut numbers = FieldNumbers::default();
                    while let Some(number) = numbers.next(reader)? {
                        let field = fields.get(number).ok_or(BadGob::Type)?;
                        self.skip_below(depth, field.type_id, reader)?;
                    }
                }
                Type::Sequence(element) => {
                    // Every value takes at least a byte, so this ends with the frame at the latest.
                    for _ in 0..reader.count()? {
                        self.skip_below(depth, *element, reader)?;
                    }
                }
                Type::Map(key, element) => {
                    for _ in 0..reader.count()? {
                        self.skip_below(depth, *key, reader)?;
                        self.skip_below(depth, *element, reader)?;
                    }
                }
                Type::Opaque => drop(reader.bytes()?),
            },
        }
        Ok(())
    }

    fn get(&self, id: TypeId) -> Option<&Type> {
        self.defined.iter().find_map(|(defined, its_type)| (*defined == id).then_some(its_type))
    }
}

/// The kinds of types, by their place in a definition.
const ARRAY: usize = 0;
const SLICE: usize = 1;
const STRUCTURE: usize = 2;
const MAP: usize = 3;
const GOB_ENCODER: usize = 4;
const BINARY_MARSHALER: usize = 5;
const TEXT_MARSHALER: usize = 6;

/// Name and number of a type, which we need neither of.
fn skip_common(reader: &mut Reader) -> Result<(), BadGob> {
    let mut numbers = FieldNumbers::default();
    while let Some(number) = numbers.next(reader)? {
        match number {
            0 => drop(reader.bytes()?),
            1 => drop(reader.signed()?),
            _ => return Err(BadGob::Type),
        }
    }
    Ok(())
}

/// The fields of a structure's definition.
fn read_fields(reader: &mut Reader) -> Result<Vec<Field>, BadGob> {
    let count = reader.count()?;
    if count > MAX_FIELDS {
        return Err(BadGob::Limit);
    }
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        let (mut name, mut type_id) = (Bytes::new(), None);
        let mut numbers = FieldNumbers::default();
        while let Some(number) = numbers.next(reader)? {
            match number {
                0 => name = reader.bytes()?,
                1 => type_id = Some(TypeId::read(reader)?),
                _ => return Err(BadGob::Type),
            }
        }
        fields.push(Field { name, type_id: type_id.ok_or(BadGob::Type)? });
    }
    Ok(fields)
}

/// The numbers of the fields that a structure's value has, in order.
#[derive(Default)]
pub(super) struct FieldNumbers {
    /// One more than the last; 0 at the start.
    next: usize,
}

impl FieldNumbers {
    /// The number of the next field, from 0, whose value then follows. `None` at the end.
    pub(super) fn next(&mut self, reader: &mut Reader) -> Result<Option<usize>, BadGob> {
        let distance = reader.unsigned()?;
        if distance == 0 {
            return Ok(None);
        }
        // Nothing has as many fields as would overflow it; whatever is counted wrongly has no field.
        let distance = usize::try_from(distance).map_err(|_| BadGob::Type)?;
        self.next = self.next.checked_add(distance).ok_or(BadGob::Type)?;
        Ok(Some(self.next - 1))
    }
}
