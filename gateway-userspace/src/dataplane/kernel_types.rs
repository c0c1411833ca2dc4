//! Looking up the running kernel's types in its BTF (`/sys/kernel/btf/vmlinux`).
//!
//! Two things in the programs depend on the kernel they run on: the type id of the function they call, and where one
//! field stands in one struct. Format: `Documentation/bpf/btf.rst`, "BTF Type and String Encoding".

use std::path::Path;

/// Where the kernel shows its types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why a type could not be found.
#[derive(Debug, thiserror::Error)]
pub enum KernelTypesError {
    /// The kernel shows no BTF.
    #[error("cannot read {KERNEL_BTF}: {0}. ringsteer needs a kernel built with CONFIG_DEBUG_INFO_BTF=y")]
    Unreadable(#[from] std::io::Error),
    /// What it shows is not BTF as we know it.
    #[error("{KERNEL_BTF} is not BTF this version understands: {0}")]
    Malformed(&'static str),
    /// The kernel does not have it.
    #[error("this kernel has no {what} `{name}`. ringsteer needs Linux 6.8 or newer")]
    Missing {
        /// Function or field.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

/// The kinds of type that are looked at, and the lengths of the others.
mod kind {
    pub const INT: u32 = 1;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const ENUM64: u32 = 19;
}

/// One type, by its place in the data.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    info: u32,
    /// Size, or the type it refers to.
    size_or_type: u32,
    /// Where its members start.
    body: usize,
}

impl Type {
    fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }

    fn count(self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// Bytes that follow the common part.
    fn body_length(self) -> usize {
        match self.kind() {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * self.count(),
            kind::ENUM | kind::FUNC_PROTO => 8 * self.count(),
            _ => 0,
        }
    }
}

/// The kernel's types.
pub struct KernelTypes {
    data: Vec<u8>,
    strings: usize,
    /// Type ids count from 1: id n is at n − 1.
    types: Vec<Type>,
}

impl KernelTypes {
    /// Reads those of the running kernel.
    pub fn of_running_kernel() -> Result<Self, KernelTypesError> {
        Self::parse(std::fs::read(Path::new(KERNEL_BTF))?)
    }

    /// Reads raw BTF of this machine's byte order.
    fn parse(data: Vec<u8>) -> Result<Self, KernelTypesError> {
        let word = |at: usize| -> Result<u32, KernelTypesError> {
            let bytes = data.get(at..at + 4).ok_or(KernelTypesError::Malformed("it ends early"))?;
            Ok(u32::from_ne_bytes(bytes.try_into().expect("four bytes")))
        };
        const MAGIC: u32 = 0xeb9f;
        if word(0)? & 0xffff != MAGIC {
            return Err(KernelTypesError::Malformed("the magic number is missing"));
        }
        let header = word(4)? as usize;
        let (types_at, types_length, strings) =
            (header + word(8)? as usize, word(12)? as usize, header + word(16)? as usize);
        let mut types = Vec::new();
        let mut at = types_at;
        while at < types_at + types_length {
            let one = Type { name: word(at)?, info: word(at + 4)?, size_or_type: word(at + 8)?, body: at + 12 };
            at += 12 + one.body_length();
            types.push(one);
        }
        Ok(Self { data, strings, types })
    }

    fn word(&self, at: usize) -> u32 {
        self.data.get(at..at + 4).map_or(0, |bytes| u32::from_ne_bytes(bytes.try_into().expect("four bytes")))
    }

    fn name_is(&self, offset: u32, name: &str) -> bool {
        let at = self.strings + offset as usize;
        self.data
            .get(at..at + name.len() + 1)
            .is_some_and(|bytes| bytes.ends_with(&[0]) && bytes.starts_with(name.as_bytes()))
    }

    fn find(&self, kind: u32, name: &str) -> Option<(u32, Type)> {
        let index = self.types.iter().position(|one| one.kind() == kind && self.name_is(one.name, name))?;
        Some((index as u32 + 1, self.types[index]))
    }

    /// The type id of a function.
    pub fn function(&self, name: &str) -> Result<u32, KernelTypesError> {
        let found = self.find(kind::FUNC, name);
        found.map(|(id, _)| id).ok_or_else(|| KernelTypesError::Missing { what: "function", name: name.into() })
    }

    /// Where a field stands in a struct, in bytes. Fields of structs and unions within it are found too.
    pub fn field_offset(&self, of: &str, field: &str) -> Result<u32, KernelTypesError> {
        self.find(kind::STRUCT, of)
            .and_then(|(_, one)| self.offset_within(one, field, 4))
            .map(|bits| bits / 8)
            .ok_or_else(|| KernelTypesError::Missing { what: "field", name: format!("{of}.{field}") })
    }

    /// In bits; `depth` bounds how deep structs are searched.
    fn offset_within(&self, one: Type, field: &str, depth: u32) -> Option<u32> {
        if depth == 0 {
            return None;
        }
        let members = (0..one.count()).map(|index| one.body + 12 * index);
        members.into_iter().find_map(|at| {
            // With the kind flag set, the offset's high byte is a bit field's width.
            let offset = self.word(at + 8) & if one.info >> 31 == 1 { 0xff_ffff } else { u32::MAX };
            if self.name_is(self.word(at), field) {
                return Some(offset);
            }
            let inner = self.resolve(self.word(at + 4))?;
            let nested = matches!(inner.kind(), kind::STRUCT | kind::UNION);
            nested.then(|| self.offset_within(inner, field, depth - 1)).flatten().map(|within| offset + within)
        })
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type> {
        loop {
            let one = *self.types.get(id.checked_sub(1)? as usize)?;
            match one.kind() {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST => id = one.size_or_type,
                _ => return Some(one),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_the_programs_need_in_this_kernel() {
        let types = KernelTypes::of_running_kernel().unwrap();
        assert!(types.function(ringsteer_ebpf::kfunc::ASSIGN_REQSK_NAME).unwrap() > 0);
        let offset = types.field_offset("tcp_timewait_sock", "skc_tw_rcv_nxt").unwrap();
        assert!(offset > 0 && offset < 256 && offset.is_multiple_of(4), "{offset}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let types = KernelTypes::of_running_kernel().unwrap();
        let message = types.function("bpf_no_such_function").unwrap_err().to_string();
        assert!(message.contains("bpf_no_such_function") && message.contains("6.8"), "{message}");
    }

    #[test]
    fn garbage_is_refused() {
        assert!(KernelTypes::parse(vec![]).is_err());
        assert!(KernelTypes::parse(vec![0; 64]).is_err());
    }
}
