// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! An archive that somebody names, opened once: all that is done with it is done with the same file. The `ferofs
//! build` command reads tars through this.
//!
//! ```
//! use ferofs::opened::Data;
//! use ferofs::opened::Opened;
//! use ferofs::opened::Reading;
//! use ferofs::tree::Tree;
//!
//! # let path = std::env::temp_dir().join(format!("opened-{}.tar", std::process::id()));
//! # std::fs::write(&path, [0; 1024])?;
//! let tar = Opened::open(&path)?;
//! let reading = Reading::new(Data::Stays, &path).with_digest(true);
//! let mut tree = Tree::new();
//! let (archive, _plain) = tar.read(reading, &mut tree, &mut ())?;
//! assert_eq!(archive.totals.size, 1024);
//! assert!(archive.totals.digest.is_some());
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use crate::build::Archive;
use crate::build::Plain;
use crate::build::Progress;
use crate::build::Snapshot;
use crate::build::Through;
use crate::build::apply_entries;
use crate::build::read_through;
use crate::compression::Compression;
use crate::compression::Looked;
use crate::compression::Window;
use crate::compression::look;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::image::Store;
use crate::output::Output;
#[cfg(feature = "points")]
use crate::points::Maker;
use crate::setters::setters;
use crate::tar::FileInput;
use crate::tar::Names;
use crate::tar::Reader;
use crate::text::Shown;
use crate::tree::Tree;
use std::fs::File;
use std::fs::Metadata;
use std::io;
use std::io::BufReader;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::path::PathBuf;

/// How much a pipe should hold: what everybody may ask for.
const PIPE: usize = 1 << 20;

/// Where the data of an archive's files goes.
#[non_exhaustive]
pub enum Data<'a, 's> {
    /// It stays in the plain tar, for an index. What an index cannot refer to is copied later.
    Stays,
    /// It is copied when all of the archive is known.
    Later,
    /// It is written on the way.
    Now(&'a mut Store<'s>),
    /// Nobody wants it.
    Nowhere,
}

/// How an archive is read.
#[non_exhaustive]
pub struct Reading<'a, 's> {
    /// Whether its sha256 is wanted even if it has to be read for it.
    pub digest: bool,
    /// Whether its fs-verity digest is wanted, for which it has to be read.
    pub verity: bool,
    /// Whether it has only headers, without the data of files.
    pub headers_only: bool,
    /// Where the plain tar is written to.
    pub copy: Option<&'a Output>,
    /// Where the data goes.
    pub data: Data<'a, 's>,
    /// What is made of it: on the same filesystem is room for what is needed meanwhile.
    pub beside: &'a Path,
    /// Whether an index can do without a copy of the plain tar, if that has to be unpacked.
    pub no_copy: bool,
    /// What makes access points of it.
    #[cfg(feature = "points")]
    pub points: Option<&'a mut Maker>,
}

impl<'a, 's> Reading<'a, 's> {
    /// The least that can be wanted: what becomes of the data, and beside which file there is room.
    pub fn new(data: Data<'a, 's>, beside: &'a Path) -> Self {
        Reading {
            digest: false,
            verity: false,
            headers_only: false,
            copy: None,
            data,
            beside,
            no_copy: false,
            #[cfg(feature = "points")]
            points: None,
        }
    }

    #[cfg(feature = "points")]
    setters! {
        /// Makes access points of it.
        with_points sets points: Option<&'a mut Maker>,
    }

    setters! {
        /// Says whether an index can do without a copy of the plain tar.
        with_no_copy sets no_copy: bool,
        /// Says whether the sha256 is wanted even if all has to be read for it.
        with_digest sets digest: bool,
        /// Says whether the fs-verity digest is wanted.
        with_verity sets verity: bool,
        /// Says whether the archive has only headers.
        with_headers_only sets headers_only: bool,
        /// Writes the plain tar there.
        with_copy sets copy: Option<&'a Output>,
    }
}

/// An archive that was opened.
pub struct Opened {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    /// Whether any part of it can be read at any time.
    seekable: bool,
    compression: Option<Compression>,
    /// From its start on.
    reader: Looked<File>,
}

impl Opened {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// When it cannot be opened or read, or is compressed in a way that is not understood.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        Self::new(path.to_path_buf(), file, true)
    }

    /// Takes standard input.
    ///
    /// # Errors
    ///
    /// As for [`Self::open`].
    pub fn stdin() -> Result<Self> {
        let path = PathBuf::from("standard input");
        let stdin = io::stdin().as_fd().try_clone_to_owned();
        let stdin = stdin.map_err(Error::io("read", &path))?;
        Self::new(path, File::from(stdin), false)
    }

    fn new(path: PathBuf, file: File, from_start: bool) -> Result<Self> {
        let failed = || Error::io("read", &path);
        let metadata = file.metadata().map_err(failed())?;
        let kind = metadata.file_type();
        let seekable = from_start && (kind.is_file() || kind.is_block_device());
        if kind.is_fifo() {
            // The more fits into it, the less often each side waits. The system may set a limit.
            let _ = rustix::pipe::fcntl_setpipe_size(&file, PIPE);
        }
        let same = file.try_clone().map_err(failed())?;
        let (compression, reader) = look(same).map_err(failed())?;
        Ok(Opened {
            path,
            file,
            metadata,
            seekable,
            compression,
            reader,
        })
    }

    /// What to call it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// How large the plain tar is, or at least what it is compressed to, if that is known.
    pub fn least(&self) -> Option<u64> {
        self.metadata.is_file().then_some(self.metadata.len())
    }

    /// How large the plain tar is, if that is known.
    pub fn size(&self) -> Option<u64> {
        self.least().filter(|_| self.compression.is_none())
    }

    /// Reads it into a tree by the shortest way there is. Returns the plain tar, too.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no archive, or a copy cannot be written.
    pub fn read(
        self,
        reading: Reading<'_, '_>,
        tree: &mut Tree,
        progress: &mut impl Progress,
    ) -> Result<(Archive, Plain)> {
        let Reading {
            digest,
            verity,
            headers_only,
            copy,
            data,
            beside,
            no_copy,
            #[cfg(feature = "points")]
            points,
        } = reading;
        let through = digest || verity || copy.is_some() || matches!(data, Data::Now(_));
        #[cfg(feature = "points")]
        let through = through || points.is_some();
        if self.compression.is_none() && self.seekable && !through {
            let archive = self.read_headers(headers_only, tree, progress)?;
            return Ok((archive, Plain::File(self.file)));
        }
        let stays = matches!(data, Data::Stays);
        let needs_copy = stays && copy.is_none() && !no_copy;
        if let Some(compression) = self.compression.filter(|_| needs_copy) {
            let path = Shown(&self.path);
            return Err(Error::of(
                Kind::Unsupported,
                format!(
                    "{path} is compressed ({compression}), and an index needs the plain tar: say where \
                 to write it with --tar-out"
                ),
            ));
        }
        // Data that is copied when all headers are known has to be somewhere until then.
        let spool = match data {
            Data::Later if copy.is_none() => Some(Output::create_unnamed(beside)?),
            _ => None,
        };
        let copy = copy.or(spool.as_ref());
        let through = Through {
            compression: self.compression,
            window: Window::Largest,
            // Nobody asks for the digest of a tar that goes into the image.
            digest: digest || stays,
            verity,
            headers_only,
            least: self.least(),
            most: None,
            copy,
            data: match data {
                Data::Now(store) => Some((store, beside)),
                _ => None,
            },
            #[cfg(feature = "points")]
            points,
        };
        let stored = BufReader::with_capacity(256 << 10, self.reader);
        let archive = read_through(stored, &self.path, through, tree, progress)?;
        let plain = match (copy, archive.totals.digest) {
            (Some(copy), _) => Plain::File(
                copy.file()
                    .try_clone()
                    .map_err(Error::io("open", copy.target()))?,
            ),
            (None, Some(digest)) if self.seekable && self.compression.is_none() => {
                Plain::Known(Snapshot::new(self.file, digest, beside).into())
            }
            _ => Plain::Gone,
        };
        Ok((archive, plain))
    }

    /// Reads only the headers of a plain tar.
    fn read_headers(
        &self,
        headers_only: bool,
        tree: &mut Tree,
        progress: &mut impl Progress,
    ) -> Result<Archive> {
        // For a block device, its metadata has no size.
        let size = (&self.file)
            .seek(SeekFrom::End(0))
            .map_err(Error::io("seek in", &self.path))?;
        let file = self.file.try_clone();
        let input = FileInput::new(file.map_err(Error::io("open", &self.path))?, size);
        let reader = Reader::new(input, Names::of_this_machine()).headers_only(headers_only);
        apply_entries(reader, tree, 0, progress).map_err(Error::archive(&self.path))
    }
}
