// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Bytes as one printable word, the way manifests and messages show paths.

use std::fmt::Write;

/// Every byte that is not a visible ASCII character, and the backslash itself, becomes `\xNN`.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'\\' {
            out.push(byte as char);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word() {
        assert_eq!(escape(b"a b\\c\n\xff"), "a\\x20b\\x5cc\\x0a\\xff");
        assert_eq!(hex(&[0, 0xab]), "00ab");
    }
}
