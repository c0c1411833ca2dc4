//! CRC-32 (IEEE 802.3, reflected, polynomial 0xEDB88320): the hash of the `openim` ring.
//!
//! Table-driven on purpose. A bitwise CRC makes the kernel's verifier fork at every bit; a load from a constant table
//! is one instruction to it, and faster besides.

/// One byte's worth of division for every byte value.
pub static TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// The register before the first byte.
pub const START: u32 = !0;

/// The register after `byte`.
#[inline(always)]
pub fn step(register: u32, byte: u8) -> u32 {
    // The index is below 256 by its type, so this compiles without a bounds check.
    TABLE[(register as u8 ^ byte) as usize] ^ (register >> 8)
}

/// The checksum a register stands for, and the other way round.
#[inline(always)]
pub const fn finish(register: u32) -> u32 {
    !register
}

/// CRC-32 of `bytes`, as Go's `crc32.ChecksumIEEE`.
pub fn checksum(bytes: &[u8]) -> u32 {
    finish(bytes.iter().fold(START, |register, &byte| step(register, byte)))
}

/// [`checksum`] at compile time.
pub const fn checksum_const(bytes: &[u8]) -> u32 {
    let mut register = START;
    let mut index = 0;
    while index < bytes.len() {
        register = TABLE[(register as u8 ^ bytes[index]) as usize] ^ (register >> 8);
        index += 1;
    }
    !register
}

#[cfg(test)]
mod tests {
    #[test]
    fn agrees_with_the_published_check_value() {
        // "check" of CRC-32/ISO-HDLC in the CRC catalogue.
        assert_eq!(super::checksum(b"123456789"), 0xCBF4_3926);
        assert_eq!(super::checksum(b""), 0);
    }
}
