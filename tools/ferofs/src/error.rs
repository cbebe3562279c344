// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! What can go wrong, with the file it is about.
//!
//! An [`Error`] is for people to read, and has the parts of what it says where a program may want them. [`Error::kind`] is
//! for programs that only have to know what to do about it.
//!
//! ```
//! use ferofs::error::Kind;
//! use ferofs::inspect::Image;
//! use std::path::Path;
//!
//! let tar = Image::new(Path::new("text"), Box::new(b"no image".to_vec()));
//! assert_eq!(tar.err().map(|error| error.kind()), Some(Kind::NotAnImage));
//! let missing = Image::open(Path::new("/nonexistent"));
//! assert_eq!(missing.err().map(|error| error.kind()), Some(Kind::Io));
//! ```

use crate::tar;
use crate::text::Quoted;
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
#[non_exhaustive]
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
        source: ImageError,
    },
    /// An image cannot be read.
    Format {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: erofs_format::Error<io::Error>,
    },
    /// A file was taken for an image, but is something else.
    NotAnImage {
        /// Which one.
        path: PathBuf,
        /// What it is.
        found: NoImage,
    },
    /// A file was taken for a blob of an image, but is another one.
    WrongBlob {
        /// The image.
        image: PathBuf,
        /// The number of the device, from 1 on.
        device: usize,
        /// The file.
        path: PathBuf,
        /// How that shows.
        problem: String,
    },
    /// What lies behind an image in the same file is not a blob of it.
    NotBehind {
        /// The image.
        image: PathBuf,
        /// The number of the device, from 1 on.
        device: usize,
        /// Where in the file it should begin.
        at: u64,
        /// How that shows.
        problem: String,
    },
    /// There is nothing with a path in an image.
    NotFound {
        /// The image.
        image: PathBuf,
        /// The path.
        path: Vec<u8>,
        /// What is missing.
        problem: &'static str,
    },
    /// What was asked for makes no sense.
    Request(String),
    /// Something of this kind.
    Other {
        /// Which kind.
        kind: Kind,
        /// What, with the file it is about.
        problem: String,
    },
}

/// What an error is about, and so what can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The system failed to open, read or write something: its own error is the source.
    Io,
    /// An archive is damaged, or none.
    Archive,
    /// An image is damaged: it contradicts the format, or itself.
    Damaged,
    /// The documents of a container image are wrong, or do not fit each other.
    Container,
    /// It is sound, but needs something that is not there: a feature of the format, a decompressor.
    Unsupported,
    /// A file was taken for an image, but is something else.
    NotAnImage,
    /// A tar is not the one that an image was made from.
    WrongBlob,
    /// Something has another sha256 than it should have.
    WrongDigest,
    /// There is nothing with this name or path, or what has the data was not given.
    NotFound,
    /// It does not fit: the format, a device, a limit.
    TooLarge,
    /// It could be done and is not, since something would be lost or cannot be trusted.
    Refused,
    /// A registry cannot be reached, does not allow it, or fails.
    Registry,
    /// The kernel does not mount it.
    Mount,
    /// What was asked for makes no sense.
    Request,
}

/// What somebody may have meant to be an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoImage {
    /// A tar.
    Tar,
    /// Something that is compressed.
    Compressed,
}

/// Why an image cannot be written.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImageError {
    /// Writing failed.
    Io(io::Error),
    /// A file does not fit the format.
    File {
        /// Its path in the tree.
        path: Vec<u8>,
        /// What does not fit.
        problem: String,
    },
    /// The data of a file cannot be read.
    Data {
        /// Its path in the tree.
        path: Vec<u8>,
        /// Why not.
        source: io::Error,
    },
    /// The tree as a whole does not fit the format.
    Image(String),
}

impl From<io::Error> for ImageError {
    fn from(error: io::Error) -> Self {
        ImageError::Io(error)
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::Io(error) => Reason(error).fmt(f),
            ImageError::File { path, problem } => write!(f, "{}: {problem}", Quoted(path)),
            ImageError::Data { path, source } => {
                let path = Quoted(path);
                write!(f, "the data of {path} cannot be read: {}", Reason(source))
            }
            ImageError::Image(problem) => f.write_str(problem),
        }
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ImageError::Io(error) | ImageError::Data { source: error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Result of what can fail in one of these ways.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn of(kind: Kind, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        match kind {
            Kind::Request => Error::Request(problem),
            kind => Error::Other { kind, problem },
        }
    }

    /// What it is about.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Io { .. } => Kind::Io,
            Error::Archive { source, .. } => match source.problem {
                tar::Problem::Io(_) => Kind::Io,
                tar::Problem::Invalid(_) => Kind::Archive,
            },
            Error::Image { source, .. } => match source {
                ImageError::Io(_) | ImageError::Data { .. } => Kind::Io,
                ImageError::File { .. } | ImageError::Image(_) => Kind::TooLarge,
            },
            Error::Format { source, .. } => match source {
                erofs_format::Error::Io(_) => Kind::Io,
                erofs_format::Error::NotErofs => Kind::NotAnImage,
                erofs_format::Error::Corrupt(_) => Kind::Damaged,
                erofs_format::Error::Unsupported(_) => Kind::Unsupported,
            },
            Error::NotAnImage { .. } => Kind::NotAnImage,
            Error::WrongBlob { .. } | Error::NotBehind { .. } => Kind::WrongBlob,
            Error::NotFound { .. } => Kind::NotFound,
            Error::Request(_) => Kind::Request,
            Error::Other { kind, .. } => *kind,
        }
    }

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
                source: ImageError::Data { path, source },
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
    pub fn image(path: &Path) -> impl FnOnce(ImageError) -> Self {
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
            Error::NotAnImage { path, found } => {
                let path = Shown(path);
                match found {
                    NoImage::Tar => write!(
                        f,
                        "{path}: a tar, expected an EROFS image; index it first: ferofs build -o IMAGE {path}"
                    ),
                    NoImage::Compressed => write!(
                        f,
                        "{path}: something compressed, expected an EROFS image; if it is a tar, index it first: \
                         ferofs build -o IMAGE --tar-out TAR {path}"
                    ),
                }
            }
            Error::WrongBlob {
                image,
                device,
                path,
                problem,
            } => {
                let (image, path) = (Shown(image), Shown(path));
                write!(
                    f,
                    "{path} is not the tar that device {device} of {image} was made from: {problem}"
                )
            }
            Error::NotBehind {
                image,
                device,
                at,
                problem,
            } => {
                let image = Shown(image);
                write!(
                    f,
                    "{image}: what is at {at} of this file is not the tar that device {device} was made from: \
                     {problem}; give the tar as a device"
                )
            }
            Error::NotFound {
                image,
                path,
                problem,
            } => write!(f, "{}: {}: {problem}", Shown(image), Quoted(path)),
            Error::Request(problem) | Error::Other { problem, .. } => f.write_str(problem),
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
            _ => None,
        }
    }
}
