// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What can go wrong, with the file it is about.

use crate::image;
use crate::tar;
use crate::text::Reason;
use crate::text::Shown;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::path::PathBuf;

/// A failure, said so that a person can act on it.
#[derive(Debug)]
pub enum Error {
    /// Something cannot be done with a file.
    Io {
        /// What: "open", "read".
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An archive cannot be read.
    Archive {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: tar::Error,
    },
    /// An image cannot be written.
    Image {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: image::Error,
    },
    /// An image cannot be read.
    Format {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: erofs_format::Error<io::Error>,
    },
    /// What was asked for makes no sense.
    Request(String),
}

/// Result of what can fail in one of these ways.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Adds to an I/O error what failed.
    pub fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Error::Io {
            doing,
            path,
            source,
        }
    }

    /// The same error, of the file called `path`.
    #[must_use]
    pub fn about(mut self, file: &Path) -> Self {
        if let Error::Io { path, .. } = &mut self {
            *path = file.to_path_buf();
        }
        self
    }

    /// The same error, of a file itself if it is that of reading a file's data from the directory `root`.
    #[must_use]
    pub fn below(self, root: &Path) -> Self {
        match self {
            Error::Image {
                source: image::Error::Data { path, source },
                ..
            } => {
                let path = path.strip_prefix(b"/").unwrap_or(&path);
                Error::io("read", &root.join(OsStr::from_bytes(path)))(source)
            }
            other => other,
        }
    }

    /// Adds to an archive's error which archive it is.
    pub fn archive(path: &Path) -> impl Fn(tar::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Error::Archive {
            path: path.clone(),
            source,
        }
    }

    /// Adds to the error of writing an image which image it is.
    pub fn image(path: &Path) -> impl FnOnce(image::Error) -> Self {
        let path = path.to_path_buf();
        |source| Error::Image { path, source }
    }

    /// Adds to an image's error which image it is.
    pub fn format(path: &Path) -> impl Fn(erofs_format::Error<io::Error>) -> Self {
        let path = path.to_path_buf();
        move |source| Error::Format {
            path: path.clone(),
            source,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io {
                doing,
                path,
                source,
            } => {
                write!(f, "cannot {doing} {}: {}", Shown(path), Reason(source))
            }
            Error::Archive { path, source } => write!(f, "{}: {source}", Shown(path)),
            Error::Image { path, source } => {
                write!(f, "cannot write {}: {source}", Shown(path))
            }
            Error::Format { path, source } => match source {
                erofs_format::Error::Io(source) => {
                    write!(f, "{}: {}", Shown(path), Reason(source))
                }
                source => write!(f, "{}: {source}", Shown(path)),
            },
            Error::Request(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            Error::Archive { source, .. } => Some(source),
            Error::Image { source, .. } => Some(source),
            Error::Format { source, .. } => Some(source),
            Error::Request(_) => None,
        }
    }
}
