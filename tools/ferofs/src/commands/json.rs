// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! How names and paths, which are bytes, are written in JSON: as everywhere else in the output,
//! escaped with backslashes where they are no printable UTF-8. A backslash of the name itself is
//! doubled, so that the bytes can be had back.

use ferofs::text::Escaped;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A name, or a path in an image.
pub fn text(bytes: &[u8]) -> String {
    Escaped(bytes).to_string()
}

/// A path of this machine.
pub fn path(path: &Path) -> String {
    text(path.as_os_str().as_bytes())
}
