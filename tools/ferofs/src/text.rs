// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How bytes and numbers of others are shown to people.
//!
//! Names in archives and images are bytes. Messages show them in quotes, as UTF-8 where they are,
//! with everything escaped that could disturb a terminal.

use std::fmt;
use std::fmt::Write as _;

/// Shows bytes in double quotes, safe for a terminal and unambiguous.
pub struct Quoted<'a>(pub &'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write!(f, "{}", Escaped(self.0))?;
        f.write_char('"')
    }
}

/// Shows bytes as [`Quoted`] does, without the quotes around them.
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.utf8_chunks() {
            for c in part.valid().chars() {
                match c {
                    '"' | '\\' => write!(f, "\\{c}")?,
                    '\n' => f.write_str("\\n")?,
                    '\t' => f.write_str("\\t")?,
                    c if c.is_control() => {
                        let mut utf8 = [0; 4];
                        for byte in c.encode_utf8(&mut utf8).bytes() {
                            write!(f, "\\x{byte:02x}")?;
                        }
                    }
                    c => f.write_char(c)?,
                }
            }
            for byte in part.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Shows bytes in lowercase hexadecimal.
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_escaped() {
        let cases: [(&[u8], &str); 5] = [
            (b"plain", "\"plain\""),
            ("h\u{fc}lle".as_bytes(), "\"h\u{fc}lle\""),
            (b"bad\xff\xfe", "\"bad\\xff\\xfe\""),
            (b"a\"b\\c\nd", "\"a\\\"b\\\\c\\nd\""),
            (b"\x1b[31m", "\"\\x1b[31m\""),
        ];
        for (bytes, shown) in cases {
            assert_eq!(Quoted(bytes).to_string(), shown);
        }
    }
}
