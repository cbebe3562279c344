// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What can go wrong, with the file it is about.

use crate::image;
use crate::tar;
use crate::text::Reason;
use std::fmt;
use std::io;
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
                write!(f, "cannot {doing} {}: {}", path.display(), Reason(source))
            }
            Error::Archive { path, source } => write!(f, "{}: {source}", path.display()),
            Error::Image { path, source } => {
                write!(f, "cannot write {}: {source}", path.display())
            }
            Error::Format { path, source } => match source {
                erofs_format::Error::Io(source) => {
                    write!(f, "{}: {}", path.display(), Reason(source))
                }
                source => write!(f, "{}: {source}", path.display()),
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
