// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How bytes and numbers of others are shown to people.
//!
//! Names in archives and images are bytes. Messages show them in quotes, as UTF-8 where they are,
//! with everything escaped that could disturb a terminal.

use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
                    c => printable(c, f)?,
                }
            }
            for byte in part.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Shows text as it is, but for characters that a terminal does not print.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| printable(c, f))
    }
}

fn printable(c: char, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !c.is_control() {
        return f.write_char(c);
    }
    let mut utf8 = [0; 4];
    let mut bytes = c.encode_utf8(&mut utf8).bytes();
    bytes.try_for_each(|byte| write!(f, "\\x{byte:02x}"))
}

/// Shows the path of a file of this machine as [`Escaped`] does, for it is from whoever named the file, but for
/// quotation marks, as there are none around it.
pub struct Shown<'a>(pub &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.as_os_str().as_bytes();
        for (index, part) in bytes.split(|byte| *byte == b'"').enumerate() {
            if index > 0 {
                f.write_char('"')?;
            }
            Escaped(part).fmt(f)?;
        }
        Ok(())
    }
}

/// Shows the system's reason for an error without its number, which says nothing to people.
pub struct Reason<'a>(pub &'a io::Error);

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let number = self.0.raw_os_error();
        let number = number.map(|number| format!(" (os error {number})"));
        let reason = number.and_then(|number| text.strip_suffix(&number));
        f.write_str(reason.unwrap_or(&text))
    }
}

/// Shows a time as date and time of day in UTC; nanoseconds only if there are some.
pub struct Utc(pub i64, pub u32);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Utc(seconds, nanoseconds) = *self;
        let seconds = i128::from(seconds);
        let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (year, month, day) = date(day);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
        )?;
        if nanoseconds != 0 {
            write!(f, ".{nanoseconds:09}")?;
        }
        Ok(())
    }
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years are
/// taken to start in March here, so that a leap day is the last of its year.
fn date(day: i128) -> (i128, i128, i128) {
    // From 0000-03-01, and within cycles of 400 years.
    let day = day + 719_468;
    let (cycle, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on have 30.6 days on average, in a pattern that repeats.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + i128::from(month <= 2), month, day)
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

    #[test]
    fn paths_have_their_own_quotation_marks() {
        for (path, shown) in [
            ("layer.tar", "layer.tar"),
            ("docker.tar: \"a.tar\"", "docker.tar: \"a.tar\""),
            ("a\\b\n\"", "a\\\\b\\n\""),
            ("\"", "\""),
        ] {
            assert_eq!(Shown(Path::new(path)).to_string(), shown);
        }
    }

    #[test]
    fn reasons_are_without_the_numbers_of_errors() {
        let missing = io::Error::from_raw_os_error(2);
        assert_eq!(Reason(&missing).to_string(), "No such file or directory");
        let other = io::Error::other("it says (os error 2)");
        assert_eq!(Reason(&other).to_string(), "it says (os error 2)");
    }

    #[test]
    fn times_are_shown_in_utc() {
        let cases: [(i64, u32, &str); 7] = [
            (0, 0, "1970-01-01 00:00:00"),
            (951_782_400, 0, "2000-02-29 00:00:00"),
            (951_868_799, 5, "2000-02-29 23:59:59.000000005"),
            (951_868_800, 0, "2000-03-01 00:00:00"),
            (-1, 0, "1969-12-31 23:59:59"),
            (4_107_542_400, 0, "2100-03-01 00:00:00"),
            (-2_208_988_800, 0, "1900-01-01 00:00:00"),
        ];
        for (seconds, nanoseconds, shown) in cases {
            assert_eq!(Utc(seconds, nanoseconds).to_string(), shown);
        }
        // No time is too far away.
        assert!(!Utc(i64::MAX, 0).to_string().is_empty());
        assert!(!Utc(i64::MIN, 0).to_string().is_empty());
    }
}
