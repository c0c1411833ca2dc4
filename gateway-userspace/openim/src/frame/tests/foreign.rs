//! Frames of other definitions than ours: other numbers, another order, fields that we do not know, of any type.
//!
//! The writer here shares nothing with the reader; it follows the description of the format.

use proptest::prelude::*;

use super::super::{
    gob::{self, BadGob},
    *,
};

/// A type in gob.
#[derive(Clone, Debug)]
enum Type {
    Bool,
    Int,
    Uint,
    Float,
    Bytes,
    Text,
    Complex,
    Structure(Vec<Type>),
    Slice(Box<Type>),
    Array(Box<Type>, u8),
    Map(Box<Type>, Box<Type>),
    /// Writes itself; 5, 6 or 7 is how.
    Opaque(u8),
}

fn any_type() -> impl Strategy<Value = Type> {
    let basic = prop_oneof![
        Just(Type::Bool),
        Just(Type::Int),
        Just(Type::Uint),
        Just(Type::Float),
        Just(Type::Bytes),
        Just(Type::Text),
        Just(Type::Complex),
        (5_u8..8).prop_map(Type::Opaque),
    ];
    basic.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Type::Structure),
            inner.clone().prop_map(|element| Type::Slice(element.into())),
            (inner.clone(), 0_u8..4).prop_map(|(element, length)| Type::Array(element.into(), length)),
            (inner.clone(), inner).prop_map(|(key, element)| Type::Map(key.into(), element.into())),
        ]
    })
}

/// Writes a stream.
struct Writer {
    stream: Vec<u8>,
    next_type: i64,
    /// Chooses the values.
    seed: u64,
}

fn unsigned(to: &mut Vec<u8>, number: u64) {
    match number {
        0..=127 => to.push(number as u8),
        _ => {
            let bytes: Vec<u8> = number.to_be_bytes().into_iter().skip_while(|&byte| byte == 0).collect();
            to.push(256_u16.wrapping_sub(bytes.len() as u16) as u8);
            to.extend(bytes);
        }
    }
}

fn signed(to: &mut Vec<u8>, number: i64) {
    unsigned(to, if number < 0 { (!number as u64) << 1 | 1 } else { (number as u64) << 1 });
}

fn bytes(to: &mut Vec<u8>, content: &[u8]) {
    unsigned(to, content.len() as u64);
    to.extend(content);
}

impl Writer {
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed >> (self.seed >> 59)
    }

    fn message(&mut self, content: &[u8]) {
        bytes(&mut self.stream, content);
    }

    /// Defines a type if it needs that; its number.
    fn define(&mut self, defined: &Type) -> i64 {
        let (kind, rest) = match defined {
            Type::Bool => return 1,
            Type::Int => return 2,
            Type::Uint => return 3,
            Type::Float => return 4,
            Type::Bytes => return 5,
            Type::Text => return 6,
            Type::Complex => return 7,
            Type::Opaque(kind) => (*kind, vec![]),
            Type::Structure(fields) => {
                let names = (0..).map(|index| format!("Other{index}"));
                let fields: Vec<_> = names.zip(fields).map(|(name, its)| (name, self.define(its))).collect();
                return self.define_structure(&fields);
            }
            Type::Slice(element) => {
                let mut rest = vec![1];
                signed(&mut rest, self.define(element));
                (2, rest)
            }
            Type::Array(element, length) => {
                let mut rest = vec![1];
                signed(&mut rest, self.define(element));
                if *length != 0 {
                    rest.push(1);
                    signed(&mut rest, (*length).into());
                }
                (1, rest)
            }
            Type::Map(key, element) => {
                let mut rest = vec![1];
                signed(&mut rest, self.define(key));
                rest.push(1);
                signed(&mut rest, self.define(element));
                (4, rest)
            }
        };
        self.definition(kind, &rest)
    }

    fn define_structure(&mut self, fields: &[(String, i64)]) -> i64 {
        let mut rest = vec![];
        if !fields.is_empty() {
            rest.push(1);
            unsigned(&mut rest, fields.len() as u64);
            for (name, its_type) in fields {
                rest.push(1);
                bytes(&mut rest, name.as_bytes());
                rest.push(1);
                signed(&mut rest, *its_type);
                rest.push(0);
            }
        }
        self.definition(3, &rest)
    }

    fn definition(&mut self, kind: u8, rest: &[u8]) -> i64 {
        let id = self.next_type;
        self.next_type += 1;
        let mut message = vec![];
        signed(&mut message, -id);
        message.extend([kind, 1, 1]);
        bytes(&mut message, b"Name");
        message.push(1);
        signed(&mut message, id);
        message.push(0);
        message.extend(rest);
        message.extend([0, 0]);
        self.message(&message);
        id
    }

    fn value(&mut self, to: &mut Vec<u8>, its: &Type) {
        match its {
            Type::Bool => unsigned(to, self.random() & 1),
            Type::Int => signed(to, self.random() as i64),
            Type::Uint | Type::Float => unsigned(to, self.random()),
            Type::Complex => {
                unsigned(to, self.random());
                unsigned(to, self.random());
            }
            Type::Bytes | Type::Text | Type::Opaque(_) => {
                let length = self.random() % 200;
                bytes(to, &vec![b'x'; length as usize]);
            }
            Type::Structure(fields) => {
                let mut distance = 0;
                for field in fields {
                    distance += 1;
                    if self.random() & 1 == 0 {
                        unsigned(to, distance);
                        self.value(to, field);
                        distance = 0;
                    }
                }
                to.push(0);
            }
            Type::Slice(element) => {
                let length = self.random() % 4;
                unsigned(to, length);
                (0..length).for_each(|_| self.value(to, element));
            }
            Type::Array(element, length) => {
                unsigned(to, (*length).into());
                (0..*length).for_each(|_| self.value(to, element));
            }
            Type::Map(key, element) => {
                let length = self.random() % 4;
                unsigned(to, length);
                for _ in 0..length {
                    self.value(to, key);
                    self.value(to, element);
                }
            }
        }
    }
}

/// A frame with our fields in the order of `order` and the unknown ones between them.
fn write(request: &Request, order: &[usize], unknown: &[(usize, Type)], first_type: i64, seed: u64) -> Vec<u8> {
    let mut writer = Writer { stream: vec![], next_type: first_type, seed };
    let ours = ["ReqIdentifier", "Token", "SendID", "OperationID", "MsgIncr", "Data"];
    // (name, type's number, ours or the unknown type)
    let mut fields: Vec<(String, i64, Result<usize, Type>)> = vec![];
    for &index in order {
        let number = [2, 6, 6, 6, 6, 5][index];
        fields.push((ours[index].into(), number, Ok(index)));
    }
    for (at, its) in unknown {
        let number = writer.define(its);
        let name = format!("Unknown{}", fields.len());
        fields.insert(at % (fields.len() + 1), (name, number, Err(its.clone())));
    }
    let definition: Vec<_> = fields.iter().map(|(name, number, _)| (name.clone(), *number)).collect();
    let id = writer.define_structure(&definition);

    let mut value = vec![];
    signed(&mut value, id);
    let mut distance = 0;
    for (_, _, its) in &fields {
        distance += 1;
        let mut content = vec![];
        match its {
            Ok(0) if request.id != 0 => signed(&mut content, request.id.into()),
            Ok(0) => {}
            Ok(index) => {
                let field: &[u8] = match index {
                    1 => request.token.as_bytes(),
                    2 => request.send_id.as_bytes(),
                    3 => request.operation_id.as_bytes(),
                    4 => request.msg_incr.as_bytes(),
                    _ => &request.data,
                };
                if !field.is_empty() {
                    bytes(&mut content, field);
                }
            }
            Err(unknown) => writer.value(&mut content, unknown),
        }
        if !content.is_empty() {
            unsigned(&mut value, distance);
            value.extend(content);
            distance = 0;
        }
    }
    value.push(0);
    writer.message(&value);
    writer.stream
}

proptest! {
    #[test]
    fn whatever_the_definition_our_fields_are_found(
        request in super::any_request(),
        order in Just(vec![0_usize, 1, 2, 3, 4, 5]).prop_shuffle(),
        unknown in prop::collection::vec((any::<usize>(), any_type()), 0..5),
        first_type in 64_i64..1000,
        seed: u64,
    ) {
        let frame = write(&request, &order, &unknown, first_type, seed);
        prop_assert_eq!(gob::read(&frame.into()), Ok(request));
    }
}

fn read(stream: Vec<u8>) -> Result<Request, BadGob> {
    gob::read(&stream.into())
}

/// A stream of one structure with these fields, and the value after its number.
fn structure(fields: &[(&str, i64)], value: &[u8]) -> Vec<u8> {
    let mut writer = Writer { stream: vec![], next_type: 70, seed: 1 };
    let fields: Vec<_> = fields.iter().map(|&(name, its)| (name.to_owned(), its)).collect();
    let id = writer.define_structure(&fields);
    let mut message = vec![];
    signed(&mut message, id);
    message.extend(value);
    writer.message(&message);
    writer.stream
}

#[test]
fn numbers_that_do_not_fit_are_errors() {
    let of_id = |number: i64| {
        let mut value = vec![1];
        signed(&mut value, number);
        value.push(0);
        structure(&[("ReqIdentifier", 2)], &value)
    };
    assert_eq!(read(of_id(i32::MAX.into())).unwrap().id, i32::MAX);
    assert_eq!(read(of_id(i32::MIN.into())).unwrap().id, i32::MIN);
    assert_eq!(read(of_id(i64::from(i32::MAX) + 1)), Err(BadGob::Number));
    assert_eq!(read(of_id(i64::MIN)), Err(BadGob::Number));
    let nine_bytes = structure(&[("ReqIdentifier", 2)], &[1, 0xf7, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0]);
    assert_eq!(read(nine_bytes), Err(BadGob::Number));
    // More bytes than are needed are fine.
    let padded = structure(&[("ReqIdentifier", 2)], &[1, 0xf8, 0, 0, 0, 0, 0, 0, 0, 6, 0]);
    assert_eq!(read(padded).unwrap().id, 3);
}

#[test]
fn what_is_not_our_frame_is_an_error() {
    let none: [(&str, i64); 0] = [];
    let cases = [
        (structure(&none, &[0]), BadGob::NotAFrame),
        (structure(&[("Other", 2)], &[1, 2, 0]), BadGob::NotAFrame),
        (structure(&[("ReqIdentifier", 3)], &[0]), BadGob::NotAFrame),
        (structure(&[("ReqIdentifier", 2), ("Data", 6)], &[0]), BadGob::NotAFrame),
        (structure(&[("SendID", 6)], &[1, 1, 0xff, 0]), BadGob::Text),
        (structure(&[("SendID", 6)], &[1, 2, b'u', 0]), BadGob::Short),
        (structure(&[("SendID", 6)], &[2, 1, b'u', 0]), BadGob::Type),
        (structure(&[("SendID", 6)], &[1, 1, b'u', 0, 0]), BadGob::Rest),
        (structure(&[("SendID", 6), ("Other", 999)], &[2, 1, 0]), BadGob::Type),
        // A value of a type that nobody defined, of a plain type, and nothing at all.
        (vec![3, 0xff, 0x82, 0], BadGob::Type),
        (vec![3, 4, 0, 2], BadGob::Type),
        (vec![], BadGob::Short),
    ];
    for (stream, expected) in cases {
        assert_eq!(read(stream.clone()), Err(expected), "{stream:x?}");
    }
}

#[test]
fn definitions_have_limits() {
    // Twice the same number.
    let mut writer = Writer { stream: vec![], next_type: 70, seed: 1 };
    writer.define_structure(&[]);
    writer.next_type = 70;
    writer.define_structure(&[]);
    assert_eq!(read(writer.stream), Err(BadGob::Type));

    // More than anybody needs.
    let mut writer = Writer { stream: vec![], next_type: 70, seed: 1 };
    for _ in 0..65 {
        writer.define_structure(&[]);
    }
    assert_eq!(read(writer.stream), Err(BadGob::Limit));

    // A structure in itself, deeper than the stack would take.
    let mut value = vec![1];
    value.resize(10_000, 1);
    let itself = structure(&[("Other", 70), ("SendID", 6)], &value);
    assert_eq!(read(itself), Err(BadGob::Limit));
}

#[test]
fn what_follows_the_value_is_not_looked_at() {
    let mut stream = gob::write_request(&super::request());
    stream.extend([0xff; 9]);
    assert_eq!(read(stream), Ok(super::request()));
}

#[test]
fn an_interface_is_skipped_whatever_is_in_it() {
    let fields = [("Other", 8), ("SendID", 6)];
    assert_eq!(read(structure(&fields, &[1, 0, 1, 1, b'u', 0])).unwrap().send_id, "u");
    // Its name, the type int, two bytes: a 0 before what is no structure, and the number.
    assert_eq!(read(structure(&fields, &[1, 3, b'i', b'n', b't', 4, 2, 0, 14, 1, 1, b'u', 0])).unwrap().send_id, "u");
}
