// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Goes through the entries of an archive.
//!
//! Where dialects leave a choice, the answer is GNU tar's: the first zero block ends the archive,
//! a regular file whose name ends in a slash is a directory, unknown types are regular files.

use super::Data;
use super::Entry;
use super::Error;
use super::Input;
use super::Kind;
use super::Names;
use super::Segment;
use super::SharedXattrs;
use super::Time;
use super::Totals;
use super::file_hash::FileHash;
use super::header::BLOCK;
use super::header::BadField;
use super::header::Checksum;
use super::header::Header;
use super::header::until_nul;
use super::pax::Attributes;
use super::pax::keep_last;
use super::sparse;
use crate::acl::Acl;
use crate::digest::Digest;
use crate::text::Quoted;
use erofs_format::ondisk::SUPER_MAGIC;
use erofs_format::ondisk::SUPER_OFFSET;
use std::sync::Arc;

/// Extended headers with more data than this are refused, not read.
const MAX_EXTENDED: u64 = 16 << 20;
/// The same for global ones: all entries behind them have what they say.
const MAX_GLOBAL: u64 = 1 << 20;
/// What entries may have copies of from global headers, in bytes, in an archive of nothing else: they must not
/// make a small archive a large tree. A longer one may have more.
const MAX_COPIED: u64 = 16 << 20;

/// Holes of so many bytes are hashed in an archive at the most: they take time, and no room in it.
const MAX_HOLES: u64 = 16 << 30;

/// What tar fills up with zeros behind an archive's end.
const RECORD: usize = 20 * BLOCK;

/// More notes than this about one archive help nobody.
const MAX_NOTES: u32 = 20;

/// Goes through the entries of an archive.
pub struct Reader<I> {
    input: I,
    names: Names,
    /// Where the next header is.
    pos: u64,
    ended: bool,
    /// Whether the archive is without the data of its files.
    headers_only: bool,
    /// Position and size of the data that was skipped last.
    skipped: (u64, u64),
    /// Records of global headers; they apply to all that follows.
    global: Attributes,
    /// What entries without attributes of their own have from there: directories, and all others.
    inherited: [Option<Inherited>; 2],
    /// How much was copied from there, in bytes.
    copied: u64,
    /// Records of the extended header in front of the current entry.
    local: Attributes,
    path: Vec<u8>,
    link: Vec<u8>,
    notes: Vec<String>,
    note_count: u32,
    /// The last entry's file, if it is being hashed.
    hash: Option<FileHash>,
    /// How many bytes of holes may still be hashed.
    left_of_holes: u64,
}

/// Attributes that follow from global headers alone.
struct Inherited {
    xattrs: SharedXattrs,
    /// The ACL that the mode follows from.
    access: Option<Acl>,
}

/// What the extended headers in front of an entry said besides PAX records.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// Adds where the header is to what is wrong with a field of it.
fn bad_field(header: u64, field: &BadField) -> Error {
    let BadField { name, at, bytes } = field;
    let problem = format!(
        "{name} is {}, expected an octal or base-256 number",
        Quoted(bytes)
    );
    Error::invalid(header.saturating_add(*at as u64), problem)
}

impl<I: Input> Reader<I> {
    /// Reads an archive from its beginning. Users and groups that ACLs name without a number are
    /// looked up in `names`.
    pub fn new(input: I, names: Names) -> Self {
        Reader {
            input,
            names,
            pos: 0,
            ended: false,
            headers_only: false,
            skipped: (0, 0),
            global: Attributes::default(),
            inherited: [None, None],
            copied: 0,
            local: Attributes::default(),
            path: Vec::new(),
            link: Vec::new(),
            notes: Vec::new(),
            note_count: 0,
            hash: None,
            left_of_holes: MAX_HOLES,
        }
    }

    /// Says that the archive is without the data of its files: the next header follows directly.
    #[must_use]
    pub fn headers_only(mut self, yes: bool) -> Self {
        self.headers_only = yes;
        self
    }

    /// How far in the archive the reader is.
    pub fn position(&self) -> u64 {
        self.pos
    }

    /// Bytes of the last entry's data, which are at `pos` in the archive: at least one, and at most
    /// `most`. `pos` must not be below that of an earlier call.
    ///
    /// # Errors
    ///
    /// Those of reading; when the archive ends there.
    pub fn data(&mut self, pos: u64, most: usize) -> Result<&[u8], Error> {
        let failed = |error| Error::io(pos, error);
        let found = self.input.some_bytes(pos, most).map_err(failed)?.len();
        if found == 0 {
            let (data, size) = self.skipped;
            return Err(self.truncated(data, size).of(&self.path));
        }
        // It is at hand now.
        let bytes = self.input.some_bytes(pos, most).map_err(failed)?;
        if let Some(hash) = &mut self.hash {
            hash.pass(pos, bytes);
        }
        Ok(bytes)
    }

    /// Has the data of the last entry hashed while it is asked for: a file of `size` bytes.
    pub fn start_hashing(&mut self, size: u64, data: &Data) {
        let segments = match data {
            Data::Contiguous(pos) => vec![Segment {
                start: 0,
                len: size,
                pos: *pos,
            }],
            Data::Sparse(segments) => segments.clone(),
        };
        let hash = FileHash::new(size, segments);
        self.hash = match self.left_of_holes.checked_sub(hash.holes()) {
            Some(left) => {
                self.left_of_holes = left;
                Some(hash)
            }
            None => {
                let what = "a file has too large holes to be hashed, so it gets no fingerprint";
                self.note(self.skipped.0, what);
                None
            }
        };
    }

    /// The sha256 of that file, whose data is read as far as nobody asked for it. None if its holes are too large.
    ///
    /// # Errors
    ///
    /// Those of [`Self::data`].
    pub fn finish_hashing(&mut self) -> Result<Option<Digest>, Error> {
        while let Some((pos, len)) = self.hash.as_ref().and_then(FileHash::wants) {
            if len == 0 {
                // Nothing has to be read for it.
                if let Some(hash) = &mut self.hash {
                    hash.pass(pos, &[]);
                }
                continue;
            }
            self.data(pos, usize::try_from(len).unwrap_or(usize::MAX))?;
        }
        Ok(self.hash.take().map(FileHash::finish))
    }

    /// What was skipped or read in a way its author may not have meant, since the last call.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Reads what is left of the input and says what it all came to.
    ///
    /// # Errors
    ///
    /// Those of reading.
    pub fn finish(&mut self) -> Result<Totals, Error> {
        self.input
            .finish()
            .map_err(|error| Error::io(self.pos, error))
    }

    fn note(&mut self, at: u64, what: &str) {
        self.note_count = self.note_count.saturating_add(1);
        if self.note_count > MAX_NOTES {
            if self.note_count == MAX_NOTES + 1 {
                self.notes
                    .push(format!("at offset {at}: more of the kind, not listed"));
            }
            return;
        }
        self.notes.push(format!("at offset {at}: {what}"));
    }

    /// The header at the reader's position; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, Error> {
        let pos = self.pos;
        let bytes = self
            .input
            .bytes(pos, BLOCK)
            .map_err(|error| Error::io(pos, error))?;
        let block: Result<[u8; BLOCK], _> = bytes.try_into();
        let found = bytes.len();
        let Ok(block) = block else {
            if found > 0 {
                let problem = format!("a header of {found} bytes, expected {BLOCK}");
                return Err(Error::invalid(pos, problem));
            }
            if let Some(all) = self.input.size().filter(|all| pos > *all) {
                let (data, size) = self.skipped;
                if data.saturating_add(size) > all {
                    return Err(self.truncated(data, size).of(&self.path));
                }
                // umoci writes layers so, and runtimes take them.
                let path = Quoted(&self.path);
                let what = format!("the archive ends with the data of {path}, without an end");
                self.note(all, &what);
            }
            return Ok(None);
        };
        let header = Header::new(block);
        match header.checksum() {
            Checksum::Right => Ok(Some(header)),
            Checksum::Empty if pos == 0 => self.nothing(),
            Checksum::Empty => Ok(None),
            Checksum::Wrong { found, expected } => {
                let found = match found {
                    Some(found) => format!("the header's checksum is {found:o}"),
                    None => "the header's checksum is no number".to_string(),
                };
                let hint = if pos == 0 {
                    ": is this a tar archive?"
                } else {
                    ""
                };
                let problem = format!("{found}, expected {expected:o} (octal){hint}");
                Err(Error::invalid(pos.saturating_add(148), problem))
            }
        }
    }

    /// The end of an archive that ends where it begins. So does every filesystem whose superblock is at 1024.
    fn nothing(&mut self) -> Result<Option<Header>, Error> {
        let record = self.input.bytes(0, RECORD);
        let record = record.map_err(|error| Error::io(0, error))?;
        let magic = SUPER_MAGIC.to_le_bytes();
        let erofs = record.get(SUPER_OFFSET as usize..);
        if erofs.is_some_and(|superblock| superblock.starts_with(&magic)) {
            let problem = "an EROFS image, expected a tar archive".to_string();
            return Err(Error::invalid(SUPER_OFFSET, problem));
        }
        if record.iter().any(|byte| *byte != 0) {
            let what = "the archive ends here, but there is more behind it: is this a tar archive?";
            self.note(0, what);
        }
        Ok(None)
    }

    /// Moves behind `size` bytes of data at `data`, which must be there, and their padding.
    fn skip(&mut self, data: u64, size: u64) -> Result<(), Error> {
        let padded = size.checked_next_multiple_of(BLOCK as u64);
        let end = padded.and_then(|padded| data.checked_add(padded));
        let Some(end) = end.filter(|end| i64::try_from(*end).is_ok()) else {
            let problem = format!("{size} bytes of data, more than any archive can have");
            return Err(Error::invalid(data, problem));
        };
        // Of what comes last the padding may be missing.
        let behind = data.saturating_add(size);
        if self.input.size().is_some_and(|all| behind > all) {
            return Err(self.truncated(data, size));
        }
        self.skipped = (data, size);
        self.pos = end;
        Ok(())
    }

    fn truncated(&self, data: u64, size: u64) -> Error {
        let all = self.input.size().unwrap_or(data);
        let left = all.saturating_sub(data);
        let problem = format!("the archive ends after {left} of the entry's {size} bytes of data");
        Error::invalid(data, problem)
    }

    /// The data of an extended header, whose own header is at the reader's position; the reader
    /// moves behind it.
    fn extended(&mut self, header: &Header) -> Result<Vec<u8>, Error> {
        let at = self.pos;
        let size = header.size().map_err(|field| bad_field(at, &field))?;
        let most = match header.kind() {
            b'g' => MAX_GLOBAL,
            _ => MAX_EXTENDED,
        };
        if size > most {
            let problem = format!("an extended header of {size} bytes, at most {most} are read");
            return Err(Error::invalid(at, problem));
        }
        let data = at.saturating_add(BLOCK as u64);
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        let bytes = self
            .input
            .bytes(data, len)
            .map_err(|error| Error::io(data, error))?;
        let bytes = bytes.to_vec();
        if bytes.len() < len {
            return Err(self.truncated(data, size));
        }
        self.skip(data, size)?;
        Ok(bytes)
    }

    fn records(&mut self, header: &Header, global: bool) -> Result<(), Error> {
        let data = self.pos.saturating_add(BLOCK as u64);
        let bytes = self.extended(header)?;
        let attributes = if global {
            self.inherited = [None, None];
            &mut self.global
        } else {
            // Of several in front of one entry the last counts.
            self.local.clear();
            &mut self.local
        };
        attributes
            .apply(&bytes)
            .map_err(|bad| Error::invalid(data.saturating_add(bad.at as u64), bad.problem))?;
        // All that came before was looked at again.
        self.copy_global(if global { self.global.xattrs_size() } else { 0 })
    }

    /// The next entry; `None` at the end of the archive.
    ///
    /// # Errors
    ///
    /// Those of reading, and everything that is no tar archive. After an error there are no
    /// more entries.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>, Error> {
        if self.ended {
            return Ok(None);
        }
        self.ended = true;
        let offset = self.pos;
        self.input.keep(false);
        let mut extended = Extended::default();
        self.local.clear();
        // Whether one of the headers so far is about the entry.
        let mut for_entry = false;
        let header = loop {
            let at = self.pos;
            let Some(header) = self.header()? else {
                if for_entry {
                    self.without_entry(at)?;
                }
                return Ok(None);
            };
            for_entry |= matches!(header.kind(), b'x' | b'X' | b'L' | b'K');
            match header.kind() {
                b'x' | b'X' => self.records(&header, false)?,
                b'g' => self.records(&header, true)?,
                b'L' => extended.path = Some(until_nul(&self.extended(&header)?).to_vec()),
                b'K' => extended.link = Some(until_nul(&self.extended(&header)?).to_vec()),
                b'V' | b'A' | b'E' | b'I' => self.skip_foreign(&header)?,
                b'M' => {
                    let problem = "the archive continues a file of an earlier volume; \
                                   join the volumes first";
                    return Err(Error::invalid(at, problem).of(header.name()));
                }
                _ => break header,
            }
        };
        self.names(&header, extended)?;
        let (body, mut common) = self.body(&header).map_err(|error| error.of(&self.path))?;
        let directory = matches!(body, Body::Plain(Kind::Directory));
        let (xattrs, mode) = self.extended_attributes(offset, common.mode, directory)?;
        common.mode = mode;
        self.ended = false;
        let kind = match body {
            Body::Plain(kind) => kind,
            Body::HardLink => Kind::HardLink(&self.link),
            Body::Symlink => Kind::Symlink(&self.link),
        };
        let Common {
            mode,
            uid,
            gid,
            mtime,
        } = common;
        Ok(Some(Entry {
            offset,
            path: &self.path,
            kind,
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        }))
    }

    /// The archive ends at `at`, where the entry of an extended header should be: an error unless
    /// its writer ended it there.
    fn without_entry(&mut self, at: u64) -> Result<(), Error> {
        let bytes = self
            .input
            .bytes(at, BLOCK)
            .map_err(|error| Error::io(at, error))?;
        if bytes.is_empty() {
            let problem = "the archive ends after an extended header, expected its entry";
            return Err(Error::invalid(at, problem));
        }
        self.note(at, "the extended header at the end is without an entry");
        Ok(())
    }

    /// Skips a header that is about something a tree does not have.
    fn skip_foreign(&mut self, header: &Header) -> Result<(), Error> {
        let at = self.pos;
        let what = match header.kind() {
            b'V' => format!("volume label {} skipped", Quoted(header.name())),
            b'A' => "Solaris ACLs skipped".to_string(),
            kind => format!("header of type {:?} skipped", char::from(kind)),
        };
        let size = header.size().map_err(|field| bad_field(at, &field))?;
        self.note(at, &what);
        self.skip(at.saturating_add(BLOCK as u64), size)
    }

    /// Puts together path and link: PAX records before GNU's long names before the header.
    fn names(&mut self, header: &Header, extended: Extended) -> Result<(), Error> {
        let mut copied = 0;
        let mut said =
            |local: &Option<Option<Vec<u8>>>, global: &Option<Option<Vec<u8>>>| match local {
                Some(said) => said.clone(),
                None => {
                    copied += global.as_ref().and_then(Option::as_ref).map_or(0, Vec::len);
                    global.clone().flatten()
                }
            };
        let path = self.local.sparse.name.take();
        let path = path
            .or_else(|| said(&self.local.path, &self.global.path))
            .or(extended.path);
        match path {
            Some(path) => self.path = path,
            None => {
                self.path.clear();
                if !header.prefix().is_empty() {
                    self.path.extend_from_slice(header.prefix());
                    self.path.push(b'/');
                }
                self.path.extend_from_slice(header.name());
            }
        }
        match said(&self.local.link, &self.global.link).or(extended.link) {
            Some(link) => self.link = link,
            None => {
                self.link.clear();
                self.link.extend_from_slice(header.link());
            }
        }
        self.copy_global(copied)
    }

    /// Takes note of so many bytes that an entry has from a global header.
    fn copy_global(&mut self, bytes: usize) -> Result<(), Error> {
        self.copied = self.copied.saturating_add(bytes as u64);
        if self.copied > MAX_COPIED + self.pos / 4 {
            let problem = "the global header in front has too much for so many entries";
            return Err(Error::invalid(self.pos, problem).of(&self.path));
        }
        Ok(())
    }

    /// Reads what the header at the reader's position says, and moves behind the entry.
    fn body(&mut self, header: &Header) -> Result<(Body, Common), Error> {
        let at = self.pos;
        let bad = |field: BadField| bad_field(at, &field);
        // A record replaces the field; a field that is replaced may be anything.
        macro_rules! said {
            ($name:ident, $field:expr) => {
                match self.local.$name.or(self.global.$name).flatten() {
                    Some(value) => value,
                    None => $field.map_err(bad)?,
                }
            };
        }
        let uid = said!(uid, header.uid());
        let gid = said!(gid, header.gid());
        let mtime = said!(mtime, header.mtime().map(|sec| Time { sec, nsec: 0 }));
        let mode = header.mode().map_err(bad)?;
        let size = said!(size, header.size());
        let data = at.saturating_add(BLOCK as u64);
        let directory_name = self.path.ends_with(b"/");
        let file_type = match &self.local.file_type {
            Some(said) => said.as_deref(),
            None => self.global.file_type.as_ref().and_then(Option::as_deref),
        };
        let socket = file_type == Some(b"socket");
        let body = match header.kind() {
            b'1' => {
                self.skip_if_there(data, size)?;
                Body::HardLink
            }
            b'2' => {
                self.skip(data, 0)?;
                Body::Symlink
            }
            kind @ (b'3' | b'4') => {
                let ustar = header.is_ustar();
                let major = said!(major, if ustar { header.major() } else { Ok(0) });
                let minor = said!(minor, if ustar { header.minor() } else { Ok(0) });
                self.skip(data, 0)?;
                Body::Plain(match kind {
                    b'3' => Kind::CharDevice(major, minor),
                    _ => Kind::BlockDevice(major, minor),
                })
            }
            b'5' => {
                self.skip(data, 0)?;
                Body::Plain(Kind::Directory)
            }
            b'6' => {
                self.skip(data, 0)?;
                Body::Plain(if socket { Kind::Socket } else { Kind::Fifo })
            }
            // A directory of an incremental GNU archive; its data lists the names in it.
            b'D' => {
                self.skip(data, size)?;
                Body::Plain(Kind::Directory)
            }
            b'S' => Body::Plain(self.gnu_sparse(header, data, size)?),
            kind => {
                let known = matches!(kind, b'0' | 0 | b'7' | b's');
                if !known {
                    let what = format!("type {:?} of {}", char::from(kind), Quoted(&self.path));
                    self.note(at, &format!("unknown {what}, read as a regular file"));
                }
                if socket && size == 0 {
                    self.skip(data, 0)?;
                    Body::Plain(Kind::Socket)
                } else if directory_name && known {
                    self.skip_if_there(data, size)?;
                    Body::Plain(Kind::Directory)
                } else if self.local.sparse.is_sparse() {
                    Body::Plain(self.pax_sparse(data, size)?)
                } else {
                    self.skip(data, if self.headers_only { 0 } else { size })?;
                    Body::Plain(Kind::File {
                        size,
                        data: Data::Contiguous(data),
                    })
                }
            }
        };
        Ok((
            body,
            Common {
                mode,
                uid,
                gid,
                mtime,
            },
        ))
    }

    /// All extended attributes of the entry, ACLs as the kernel has them; and its mode, which an ACL may
    /// change.
    fn extended_attributes(
        &mut self,
        at: u64,
        mode: u16,
        directory: bool,
    ) -> Result<(SharedXattrs, u16), Error> {
        let own = !self.local.xattrs.is_empty()
            || self.local.acl_access.is_some()
            || self.local.acl_default.is_some();
        let [others, directories] = &self.inherited;
        let known = if directory { directories } else { others };
        let Inherited { xattrs, access } = match known {
            Some(known) if !own => {
                let mode = known.access.as_ref().map_or(mode, |acl| acl.mode(mode));
                return Ok((Arc::clone(&known.xattrs), mode));
            }
            _ => self.gather(at, directory)?,
        };
        let mode = access.as_ref().map_or(mode, |acl| acl.mode(mode));
        if !own {
            let [others, directories] = &mut self.inherited;
            let place = if directory { directories } else { others };
            let xattrs = Arc::clone(&xattrs);
            *place = Some(Inherited { xattrs, access });
        }
        Ok((xattrs, mode))
    }

    /// Puts the attributes of an entry together from all headers. What makes no sense is left out, as tar does.
    fn gather(&mut self, at: u64, directory: bool) -> Result<Inherited, Error> {
        let mut xattrs = std::mem::take(&mut self.local.xattrs);
        if !self.global.xattrs.is_empty() {
            let mut all = self.global.xattrs.clone();
            self.copy_global(self.global.xattrs_size())?;
            all.append(&mut xattrs);
            keep_last(&mut all);
            xattrs = all;
        }
        let mut left_out = Vec::new();
        let mut copied = 0;
        let mut said =
            |local: &mut Option<Option<Vec<u8>>>, global: &Option<Option<Vec<u8>>>| match local
                .take()
            {
                Some(said) => said,
                None => {
                    copied += global.as_ref().and_then(Option::as_ref).map_or(0, Vec::len);
                    global.clone().flatten()
                }
            };
        let access = said(&mut self.local.acl_access, &self.global.acl_access);
        let default = said(&mut self.local.acl_default, &self.global.acl_default);
        self.copy_global(copied)?;
        let mut parsed = |text: &[u8]| {
            Acl::parse(text, &self.names)
                .map_err(|problem| left_out.push(problem))
                .ok()
        };
        let mut put = |name: &[u8], acl: &Acl| {
            xattrs.retain(|(other, _)| other != name);
            if !acl.is_empty() {
                xattrs.push((name.to_vec(), acl.bytes()));
            }
        };
        let access = access.and_then(|text| parsed(&text));
        if let Some(acl) = access.as_ref().filter(|acl| !acl.is_minimal()) {
            put(b"system.posix_acl_access", acl);
        }
        // Only directories can have one.
        let default = default.filter(|_| directory);
        if let Some(acl) = default.and_then(|text| parsed(&text)) {
            put(b"system.posix_acl_default", &acl);
        }
        for problem in left_out {
            let path = Quoted(&self.path);
            self.note(at, &format!("the ACL of {path} is left out: {problem}"));
        }
        Ok(Inherited {
            xattrs: xattrs.into(),
            access: access.filter(|acl| !acl.is_empty()),
        })
    }

    /// Moves behind an entry that needs no data: a hard link, or a directory by its name. Some
    /// writers give it a size without the data, others give it the data as well: then what follows
    /// is no header.
    fn skip_if_there(&mut self, data: u64, size: u64) -> Result<(), Error> {
        self.skip(data, 0)?;
        if size > 0 && self.header().is_err() {
            self.skip(data, size)?;
        }
        Ok(())
    }

    fn gnu_sparse(
        &mut self,
        header: &Header,
        data: u64,
        stored: u64,
    ) -> Result<Kind<'static>, Error> {
        let at = self.pos;
        let size = sparse::gnu_size(header.bytes())
            .ok_or_else(|| Error::invalid(at.saturating_add(483), "realsize is no octal number"))?;
        let mut numbers = Vec::new();
        let mut more = sparse::gnu_map(header.bytes(), true, &mut numbers)
            .map_err(|problem| Error::invalid(at, problem))?;
        let mut data = data;
        while more {
            let bytes = self
                .input
                .bytes(data, BLOCK)
                .map_err(|error| Error::io(data, error))?;
            let Ok(block) = <&[u8; BLOCK]>::try_from(bytes) else {
                return Err(Error::invalid(data, "the archive ends within a sparse map"));
            };
            more = sparse::gnu_map(block, false, &mut numbers)
                .map_err(|problem| Error::invalid(data, problem))?;
            data = data.saturating_add(BLOCK as u64);
        }
        self.sparse_file(&numbers, data, size, stored)
    }

    fn pax_sparse(&mut self, data: u64, stored: u64) -> Result<Kind<'static>, Error> {
        let map = std::mem::take(&mut self.local.sparse);
        let Some(size) = map.size else {
            return Err(Error::invalid(
                self.pos,
                "a sparse file without GNU.sparse.size or realsize",
            ));
        };
        if !map.is_in_data() {
            let numbers = map.numbers.unwrap_or_default();
            return self.sparse_file(&numbers, data, size, stored);
        }
        let mut map = sparse::MapInData::default();
        let mut pos = data;
        loop {
            let used = pos.saturating_sub(data);
            if used >= stored {
                return Err(Error::invalid(
                    pos,
                    "the data ends within the sparse map before it",
                ));
            }
            let bytes = self
                .input
                .bytes(pos, BLOCK)
                .map_err(|error| Error::io(pos, error))?;
            if bytes.len() < BLOCK {
                return Err(Error::invalid(pos, "the archive ends within a sparse map"));
            }
            let complete = map
                .push(bytes)
                .map_err(|problem| Error::invalid(pos, problem))?;
            pos = pos.saturating_add(BLOCK as u64);
            if complete {
                break;
            }
        }
        let stored = stored.saturating_sub(pos.saturating_sub(data));
        self.sparse_file(&map.into_numbers(), pos, size, stored)
    }

    fn sparse_file(
        &mut self,
        numbers: &[u64],
        data: u64,
        size: u64,
        stored: u64,
    ) -> Result<Kind<'static>, Error> {
        if i64::try_from(size).is_err() {
            let problem = format!("a sparse file of {size} bytes, more than any file can have");
            return Err(Error::invalid(self.pos, problem));
        }
        let at = self.pos;
        let mut pieces = sparse::Pieces::Packed;
        self.skip(data, stored)?;
        let padded = sparse::padded(numbers);
        if padded > stored && padded > stored.next_multiple_of(BLOCK as u64) {
            // GNU tar fills every piece up to a block, others none but the last, and the size says
            // nothing about that. What comes behind does.
            self.input.keep(true);
            if self.header().is_err() {
                self.skip(data, padded)?;
                pieces = sparse::Pieces::Padded;
            }
        } else if padded == stored {
            pieces = sparse::Pieces::Padded;
        }
        let segments = sparse::segments(numbers, data, size, stored, pieces)
            .map_err(|problem| Error::invalid(at, problem))?;
        Ok(Kind::File {
            size,
            data: Data::Sparse(segments),
        })
    }
}

/// What entries of every kind have.
struct Common {
    mode: u16,
    uid: u32,
    gid: u32,
    mtime: Time,
}

/// What an entry is, before its link is borrowed.
enum Body {
    Plain(Kind<'static>),
    HardLink,
    Symlink,
}
