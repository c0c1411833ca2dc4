//! A check that what the linker wrote is what loaders and `bpftool` need.

use anyhow::{Context as _, Result, bail};
use object::{Architecture, Object as _, ObjectSection as _, read::elf::ElfFile64};

/// Checks that `object` is made for BPF and that each of `sections` is there and not empty.
pub fn check(object: &[u8], sections: &[&str]) -> Result<()> {
    let file = ElfFile64::<object::Endianness>::parse(object).context("not a 64-bit ELF object")?;
    if file.architecture() != Architecture::Bpf {
        bail!("made for {:?}, not for BPF", file.architecture());
    }
    for &section in sections {
        if file.section_by_name(section).is_none_or(|found| found.size() == 0) {
            bail!("it has no section {section}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest object with one section of one byte, `.BTF`, for the machine with number `machine`.
    fn object_with_btf(machine: u16) -> Vec<u8> {
        const HEADER: usize = 64;
        let names = b"\0.BTF\0.shstrtab\0";
        let sections_at = HEADER + 1 + names.len();
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        elf.extend(1u16.to_le_bytes()); // relocatable
        elf.extend(machine.to_le_bytes());
        elf.extend(1u32.to_le_bytes());
        elf.extend([0; 16]); // no entry point, no program headers
        elf.extend((sections_at as u64).to_le_bytes());
        elf.extend([0; 4]);
        for half in [HEADER as u16, 0, 0, 64, 3, 2] {
            elf.extend(half.to_le_bytes());
        }
        elf.push(1);
        elf.extend(names);
        for (name, kind, offset, size) in [(0u32, 0u32, 0, 0), (1, 1, HEADER, 1), (6, 3, HEADER + 1, names.len())] {
            elf.extend(name.to_le_bytes());
            elf.extend(kind.to_le_bytes());
            elf.extend([0; 16]);
            elf.extend((offset as u64).to_le_bytes());
            elf.extend((size as u64).to_le_bytes());
            elf.extend([0; 8]);
            elf.extend(1u64.to_le_bytes());
            elf.extend([0; 8]);
        }
        elf
    }

    const BPF: u16 = 247;
    const X86_64: u16 = 62;

    #[test]
    fn an_object_with_its_sections_passes() {
        check(&object_with_btf(BPF), &[".BTF"]).unwrap();
    }

    #[test]
    fn a_missing_section_is_named() {
        let error = check(&object_with_btf(BPF), &[".BTF", ".maps"]).unwrap_err();
        assert!(error.to_string().contains(".maps"), "{error}");
    }

    #[test]
    fn another_machines_object_is_refused() {
        let error = check(&object_with_btf(X86_64), &[".BTF"]).unwrap_err();
        assert!(error.to_string().contains("not for BPF"), "{error}");
    }

    #[test]
    fn bitcode_is_refused() {
        check(b"BC\xc0\xde", &[]).unwrap_err();
    }
}
