// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! From an archive to its index in one step, as `ferofs build` does it without options: for
//! programs that use this crate, and for the mounting of bare tars.

use crate::build::Archive;
use crate::build::apply_archive;
use crate::image;
use crate::image::Source;
use crate::tar;
use crate::tar::Input;
use crate::tar::Totals;
use crate::text::Shown;
use crate::tree::Tree;
use crate::tree::whiteouts;
use crate::tree::whiteouts::Form;
use std::fmt;
use std::io::Seek;
use std::io::Write;
use std::path::Path;

/// What an index was made of, and what it came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Index {
    /// What was read.
    pub archive: Archive,
    /// What was written.
    pub image: image::Summary,
}

/// Why there is no index.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The archive cannot be read.
    Archive(tar::Error),
    /// Its whiteouts cannot have the form that overlayfs knows.
    Whiteouts(whiteouts::Problem),
    /// The image cannot be written.
    Image(image::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Archive(error) => error.fmt(f),
            Error::Whiteouts(problem) => problem.fmt(f),
            Error::Image(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Archive(error) => error.source(),
            Error::Whiteouts(problem) => problem.source(),
            Error::Image(error) => error.source(),
        }
    }
}

impl From<tar::Error> for Error {
    fn from(error: tar::Error) -> Self {
        Error::Archive(error)
    }
}

impl From<whiteouts::Problem> for Error {
    fn from(problem: whiteouts::Problem) -> Self {
        Error::Whiteouts(problem)
    }
}

impl From<image::Error> for Error {
    fn from(error: image::Error) -> Self {
        Error::Image(error)
    }
}

/// Reads a plain tar and writes its index to `out`: an image with everything but the data of the
/// files, which stays where it is in the tar. Whiteouts get the form that overlayfs knows.
///
/// A tar that comes through any [`Read`](std::io::Read) is read once and hashed on the way: wrap it
/// in a [`StreamInput`](crate::tar::StreamInput). From one that can be read at any position, only
/// headers are read: [`FileInput`](crate::tar::FileInput).
///
/// # Errors
///
/// When the archive cannot be read, or is none, or what is in it has no place in an image, or
/// writing fails, or [`write_over`] is needed. What was written until then is of no use.
///
/// # Examples
///
/// ```
/// use ferofs::index;
/// use ferofs::tar::StreamInput;
/// use std::io::Cursor;
///
/// let tar = [0; 1024];
/// let mut image = Cursor::new(Vec::new());
/// let index = index::write(StreamInput::new(&tar[..]), &mut image)?;
/// assert_eq!(index.archive.entries, 0);
/// assert_eq!(index.image.size, image.into_inner().len() as u64);
/// # Ok::<(), index::Error>(())
/// ```
pub fn write<I: Input, W: Write + Seek>(archive: I, out: W) -> Result<Index, Error> {
    write_over(archive, &image::source::Nothing, out)
}

/// The same with another way to the tar, as `source`: for files with holes whose data is not at
/// multiples of 512 bytes, and so has to be in the index. GNU tar writes none, others may.
///
/// # Errors
///
/// Those of [`write()`].
pub fn write_over<I: Input, W: Write + Seek>(
    archive: I,
    source: &dyn Source,
    out: W,
) -> Result<Index, Error> {
    let mut tree = Tree::new();
    let mut archive = apply_archive(archive, &mut tree, 0, &mut ())?;
    let (image, mut notes) = write_tree(tree, archive.totals, source, out)?;
    archive.notes.append(&mut notes);
    Ok(Index { archive, image })
}

/// Writes the index of a plain tar that was read into a tree already, and came to `totals`. What was left
/// out for an overlay's sake comes back as notes.
///
/// # Errors
///
/// Those of [`write()`], but for reading.
pub fn write_tree<W: Write + Seek>(
    mut tree: Tree,
    totals: Totals,
    source: &dyn Source,
    out: W,
) -> Result<(image::Summary, Vec<String>), Error> {
    let notes = whiteouts::convert(&mut tree, Form::Overlay)?;
    let options = image::Options {
        devices: vec![totals.into()],
        ..image::Options::default()
    };
    Ok((image::write(&tree, &options, source, out)?, notes))
}

impl Error {
    /// Says which archive it is about, and which image.
    pub fn about(self, archive: &Path, image: &Path) -> crate::error::Error {
        match self {
            Error::Archive(error) => crate::error::Error::archive(archive)(error),
            Error::Whiteouts(problem) => crate::error::Error::of(
                crate::error::Kind::Archive,
                format!("{}: {problem}", Shown(archive)),
            ),
            Error::Image(error) => crate::error::Error::image(image)(error),
        }
    }
}
