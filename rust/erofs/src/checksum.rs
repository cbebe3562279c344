// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The two hashes of the format: crc32c for the superblock, xxh32 for attribute name filters.
//!
//! Both take data in one piece or in several; the superblock reader, the attribute reader and the
//! builder call them. Data is at most a block, so a table of 256 entries is fast enough.

/// The reversed polynomial of crc32c (Castagnoli).
const CRC32C_POLYNOMIAL: u32 = 0x82f6_3b78;

/// Seed of the superblock's checksum: crc32c's state after the magic and a checksum of zero, so
/// that the sum starts behind the checksum field.
pub const SUPERBLOCK_SEED: u32 = 0x5045_b54a;

const CRC32C_TABLE: [u32; 256] = crc32c_table();

const fn crc32c_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (CRC32C_POLYNOMIAL & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

/// Continues the crc32c `crc` over `data`. Neither the start value nor the result is inverted.
pub fn crc32c(crc: u32, data: &[u8]) -> u32 {
    data.iter().fold(crc, |crc, &byte| {
        let [low, ..] = crc.to_le_bytes();
        // An index of eight bits is always within the table, which the compiler sees.
        (crc >> 8) ^ CRC32C_TABLE[usize::from(low ^ byte)]
    })
}

const XXH32_PRIME_1: u32 = 0x9e37_79b1;
const XXH32_PRIME_2: u32 = 0x85eb_ca77;
const XXH32_PRIME_3: u32 = 0xc2b2_ae3d;
const XXH32_PRIME_4: u32 = 0x27d4_eb2f;
const XXH32_PRIME_5: u32 = 0x1656_67b1;

/// The 32-bit xxHash of `data`.
pub fn xxh32(data: &[u8], seed: u32) -> u32 {
    let mut hash;
    let mut rest = data;
    if data.len() >= 16 {
        let mut lanes = [
            seed.wrapping_add(XXH32_PRIME_1).wrapping_add(XXH32_PRIME_2),
            seed.wrapping_add(XXH32_PRIME_2),
            seed,
            seed.wrapping_sub(XXH32_PRIME_1),
        ];
        while let Some((stripe, behind)) = rest.split_first_chunk::<16>() {
            let mut words = stripe.as_slice();
            for lane in &mut lanes {
                let Some((word, next)) = words.split_first_chunk::<4>() else {
                    break;
                };
                *lane = lane
                    .wrapping_add(u32::from_le_bytes(*word).wrapping_mul(XXH32_PRIME_2))
                    .rotate_left(13)
                    .wrapping_mul(XXH32_PRIME_1);
                words = next;
            }
            rest = behind;
        }
        let [a, b, c, d] = lanes;
        hash = a
            .rotate_left(1)
            .wrapping_add(b.rotate_left(7))
            .wrapping_add(c.rotate_left(12))
            .wrapping_add(d.rotate_left(18));
    } else {
        hash = seed.wrapping_add(XXH32_PRIME_5);
    }
    // The length is part of the hash modulo 2^32.
    hash = hash.wrapping_add(data.len() as u32);
    while let Some((word, behind)) = rest.split_first_chunk::<4>() {
        hash = hash
            .wrapping_add(u32::from_le_bytes(*word).wrapping_mul(XXH32_PRIME_3))
            .rotate_left(17)
            .wrapping_mul(XXH32_PRIME_4);
        rest = behind;
    }
    for &byte in rest {
        hash = hash
            .wrapping_add(u32::from(byte).wrapping_mul(XXH32_PRIME_5))
            .rotate_left(11)
            .wrapping_mul(XXH32_PRIME_1);
    }
    hash ^= hash >> 15;
    hash = hash.wrapping_mul(XXH32_PRIME_2);
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(XXH32_PRIME_3);
    hash ^ (hash >> 16)
}

#[cfg(all(test, not(MODULE)))]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_the_check_string() {
        assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(
            crc32c(crc32c(!0, b"1234"), b"56789"),
            crc32c(!0, b"123456789")
        );
    }

    #[test]
    fn superblock_seed_is_the_state_behind_magic_and_checksum() {
        let magic = super::super::ondisk::SUPER_MAGIC.to_le_bytes();
        assert_eq!(crc32c(crc32c(!0, &magic), &[0; 4]), SUPERBLOCK_SEED);
    }

    #[test]
    fn xxh32_of_known_strings() {
        for (data, seed, hash) in [
            (&b""[..], 0, 0x02cc_5d05),
            (b"a", 0, 0x550d_7456),
            (b"abc", 0, 0x32d1_53ff),
            (b"Nobody inspects the spammish repetition", 0, 0xe229_3b2f),
        ] {
            assert_eq!(xxh32(data, seed), hash, "{data:?}");
        }
    }
}
