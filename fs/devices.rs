// SPDX-License-Identifier: GPL-2.0-only

//! The files of a mount: the image and its blobs. Opens them, and finds the file that an address of
//! the image means.
//!
//! An image names blobs by device slots. With `device=` options the slots are the given files, in
//! order, or with `verity=` in any order if the slots have their fs-verity digests. Without, the blobs lie behind the image in the same file, at the addresses that the slots
//! say ("flat").

use crate::erofs;
use crate::options::DeviceOption;
use crate::verity;
use crate::verity::Verity;
use crate::vfs::backing::claim::Claim;
use crate::vfs::backing::file::BackingFile;
use crate::vfs::backing::listeners::Listeners;
use crate::vfs::backing::open::PathTarget;
use crate::vfs::backing::reply::Wait;
use crate::vfs::backing::seal::Seal;
use crate::vfs::backing::verity::VerityDigest;
use crate::vfs::errno::EKEYREJECTED;
use crate::vfs::errno::EOPNOTSUPP;
use crate::vfs::mount::context::Context;
use crate::vfs::object::super_block::MAX_STACK_DEPTH;
use crate::vfs::pages::range::RangeCache;
use crate::vfs::pages::range::RangeMount;
use crate::vfs::task::rest;
use crate::vfs::vec;
use crate::vfs::workers::Workers;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::seq_print;
use kernel::str::CStr;
use kernel::sync::Arc;
use kernel::sync::SetOnce;

/// The file that the image is in.
pub(crate) struct Image {
    pub(crate) file: BackingFile,
    /// Where in it the image begins, in bytes.
    pub(crate) start: u64,
    /// What fs-verity has said of it, and has to say of the blobs.
    pub(crate) verity: Option<Verity>,
}

/// How an image's device slots are read, and its size in bytes.
pub(crate) struct Slots<'a> {
    pub(crate) read: &'a dyn Fn(u16) -> Result<erofs::DeviceSlot>,
    pub(crate) size: u64,
}

/// The image and the blobs of a mount.
pub(crate) struct Devices {
    image: Image,
    blobs: KVec<Blob>,
    /// Whether flat addresses may mean blobs that are files of their own.
    has_flat_blobs: bool,
    /// Listeners of fanotify, if there may be any for one of the files; settled when they were opened.
    listeners: Option<Arc<Listeners>>,
    /// Whether reading what a file does not have is an error.
    refuses_holes: bool,
    /// Those to which nobody may write any more, once that was asked for: all.
    seals: SetOnce<KVec<Seal>>,
}

/// One device slot.
struct Blob {
    /// The blob, or none if it lies behind the image.
    file: Option<BackingFile>,
    /// Where the blob begins in the image's flat addresses, in bytes; 0 if it has no such address.
    flat_start: u64,
    /// Its length in bytes, as the image says.
    len: u64,
    /// The cache of names that lie in it, made when the first are read: hardly any do.
    names: SetOnce<RangeCache>,
}

impl Blob {
    /// The cache of names in the blob's file. None if that is the image's.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, what security modules say to reading the file, for they are not asked later, and listeners to its beginning,
    /// and `EAGAIN` instead of waiting for them if `nowait` is set.
    fn names(&self, ranges: &RangeMount, nowait: bool) -> Result<Option<&RangeCache>> {
        let Some(file) = &self.file else {
            return Ok(None);
        };
        if self.names.as_ref().is_none() {
            if nowait {
                return Err(EAGAIN);
            }
            let size = file.size();
            file.ask(0, size.min(PAGE_SIZE as u64), Wait::NoLock)?;
            // If another reader was faster, it made the same.
            self.names
                .populate(RangeCache::get(ranges, &file.kept(), 0, size)?);
        }
        self.names.as_ref().map(Some).ok_or(EAGAIN)
    }
}

/// Where names are that an address means.
pub(crate) enum Names<'a> {
    /// In the image, at this position, and as many bytes of it.
    Image(u64, u64),
    /// In a file of their own, of which this is the cache.
    Blob(&'a RangeCache, u64, u64),
}

impl Devices {
    /// The files for an image's device slots.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the devices given are not as many as the image has slots, or none was given and
    /// the blobs are not in the image; those of [`open_all`] and [`pair`]. What is wrong is told through `context`.
    #[inline(never)]
    pub(crate) fn new(
        context: &Context<'_>,
        name: &CStr,
        format: &erofs::Superblock,
        slots: &Slots<'_>,
        image: KBox<Image>,
        options: KVec<DeviceOption>,
        base: &mut Base,
    ) -> Result<KBox<Self>> {
        let count = format.device_count();
        let flat = options.is_empty();
        if !flat && options.len() != usize::from(count) {
            context.error(fmt!(
                "{}: device slots in the image: {}, but devices given: {}",
                name,
                count,
                options.len(),
            ));
            return Err(EINVAL);
        }
        // What is in the image's file is what the image's digest is of.
        let verity = image.verity.filter(|_| !flat);
        let (mut blobs, wanted) = read_slots(context, name, format, slots, verity, flat)?;
        let mut files = open_all(context, options, verity, base)?;
        if verity.is_some() {
            files = pair(context, name, &wanted, files)?;
        }
        for (index, (blob, given)) in blobs.iter_mut().zip(files).enumerate() {
            let block = u64::from(format.block_size());
            if given.file.size().saturating_add(block) <= blob.len {
                pr_warn!(
                    "{}: device {} has {} bytes, the image expects {}\n",
                    name,
                    index.saturating_add(1),
                    given.file.size(),
                    blob.len,
                );
            }
            blob.file = Some(given.file);
        }
        let has_flat_blobs = blobs
            .iter()
            .any(|blob| blob.file.is_some() && blob.flat_start != 0);
        let this = Self {
            image: KBox::into_inner(image),
            blobs,
            has_flat_blobs,
            listeners: None,
            refuses_holes: base.refuses_holes(),
            seals: SetOnce::new(),
        };
        let mut this = KBox::new(this, GFP_KERNEL)?;
        let of_blobs = || this.blob_files().find_map(BackingFile::listeners);
        let listeners = this.image.file.listeners().or_else(of_blobs).cloned();
        this.listeners = listeners;
        Ok(this)
    }

    /// The file and position that byte `pos` of device `id` means, and how many of the `len` bytes
    /// from there on lie together. None if there is no such device.
    #[inline]
    pub(crate) fn locate(&self, id: u16, pos: u64, len: u64) -> Option<(&BackingFile, u64, u64)> {
        let (blob, pos, len) = self.place(id, pos, len)?;
        match blob.and_then(|blob| blob.file.as_ref()) {
            Some(file) => Some((file, pos, len)),
            None => Some((&self.image.file, self.image.start.checked_add(pos)?, len)),
        }
    }

    /// Whether data of device `id` may be elsewhere than at the same position of the image.
    #[inline]
    pub(crate) fn is_elsewhere(&self, id: u16) -> bool {
        id != 0 || self.has_flat_blobs
    }

    /// The same as [`Self::locate`], for names that are read through a cache.
    ///
    /// # Errors
    ///
    /// Those of making the cache; with `nowait` set it has to be there.
    pub(crate) fn locate_names(
        &self,
        ranges: &RangeMount,
        id: u16,
        pos: u64,
        nowait: bool,
    ) -> Result<Option<Names<'_>>> {
        let Some((blob, pos, len)) = self.place(id, pos, u64::MAX) else {
            return Ok(None);
        };
        let cache = match blob {
            Some(blob) => blob.names(ranges, nowait)?,
            None => None,
        };
        Ok(Some(match cache {
            Some(cache) => Names::Blob(cache, pos, len),
            None => Names::Image(pos, len),
        }))
    }

    /// The blob whose file an address means, or none if that is the image, the position there, and how many of the
    /// `len` bytes lie together.
    #[inline]
    fn place(&self, id: u16, pos: u64, len: u64) -> Option<(Option<&Blob>, u64, u64)> {
        if let Some(index) = usize::from(id).checked_sub(1) {
            let blob = self.blobs.get(index)?;
            return match &blob.file {
                Some(_) => Some((Some(blob), pos, len)),
                None => Some((None, blob.flat_start.checked_add(pos)?, len)),
            };
        }
        if !self.has_flat_blobs {
            return Some((None, pos, len));
        }
        // A flat address may mean a blob that was given as a file of its own.
        let mut len = len;
        for blob in &self.blobs {
            if blob.file.is_none() || blob.flat_start == 0 {
                continue;
            }
            match pos.checked_sub(blob.flat_start) {
                Some(offset) if offset < blob.len => {
                    return Some((Some(blob), offset, len.min(blob.len.saturating_sub(offset))));
                }
                Some(_) => {}
                None => len = len.min(blob.flat_start.saturating_sub(pos)),
            }
        }
        Some((None, pos, len))
    }

    /// The blocks of all blobs, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.blobs
            .iter()
            .fold(0, |sum: u64, blob| sum.saturating_add(blob.len))
    }

    /// The number of the block device that the image is, if it is one.
    pub(crate) fn image_device_number(&self) -> Option<u64> {
        self.image.file.device_number()
    }

    /// Whether a file is the image.
    pub(crate) fn is_image(&self, file: &BackingFile) -> bool {
        self.image.file.is_same(file)
    }

    /// Whether the image is what a path leads to, for the current task.
    pub(crate) fn is_image_at(&self, path: &CStr) -> bool {
        let image = &self.image.file;
        image.is_target(&PathTarget::new(path)) || image.is_shown_as(path)
    }

    /// Where in its file the image begins, in bytes.
    pub(crate) fn image_start(&self) -> u64 {
        self.image.start
    }

    /// Whether reading what a file does not have is an error.
    pub(crate) fn refuses_holes(&self) -> bool {
        self.refuses_holes
    }

    /// Whether any of the files may not have all of its parts, and that is an error, or listeners bring them.
    pub(crate) fn may_lack_parts(&self) -> bool {
        (self.refuses_holes || self.listeners.is_some())
            && (self.image.file.may_lack_parts()
                || self.blob_files().any(BackingFile::may_lack_parts))
    }

    /// What was asked for with `verity=`.
    pub(crate) fn verity(&self) -> Option<Verity> {
        self.image.verity
    }

    /// The first of `options` that is none of the blobs. (Their number and order cannot be judged:
    /// mount(8) passes old and new options together, and leaves out what is equal.)
    pub(crate) fn first_other<'a>(&self, options: &'a [DeviceOption]) -> Option<&'a DeviceOption> {
        // They mostly come in the order of the blobs, so each is looked for behind the last one.
        let mut next = 0;
        options.iter().find(|option| {
            let found = match option {
                DeviceOption::File(file) => self.index_of(next, |blob| blob.is_same(file)),
                DeviceOption::Path(path) => {
                    let wanted = PathTarget::new(path);
                    self.index_of(next, |blob| blob.is_target(&wanted))
                        .or_else(|| self.index_of(next, |blob| blob.is_shown_as(path)))
                }
            };
            next = found.map_or(next, |index| index.saturating_add(1));
            found.is_none()
        })
    }

    /// The first blob at `next` or behind it, and then from the first on, of whose file something is true.
    fn index_of(&self, next: usize, is_it: impl Fn(&BackingFile) -> bool) -> Option<usize> {
        rotated(self.blobs.len(), next).find(|index| {
            let blob = self.blobs.get(*index);
            blob.and_then(|blob| blob.file.as_ref()).is_some_and(&is_it)
        })
    }

    /// A number that changes when any of the files does. Not zero.
    pub(crate) fn version(&self) -> u64 {
        let image = self.image.file.identity().version();
        self.blob_files().fold(image, |sum, file| {
            sum.rotate_left(7) ^ file.identity().version()
        }) | 1
    }

    /// Listeners of fanotify, if there may be some who have to allow reads of any of the files.
    #[inline]
    pub(crate) fn listeners(&self) -> Option<&Listeners> {
        self.listeners.as_deref()
    }

    /// Has nobody write to any of the files, as long as they are mounted.
    ///
    /// # Errors
    ///
    /// `ETXTBSY` if someone has one open for writing, and `ENOMEM`.
    pub(crate) fn seal(&self) -> Result {
        if self.seals.as_ref().is_none() {
            let mut seals = KVec::with_capacity(self.blobs.len().saturating_add(1), GFP_KERNEL)?;
            vec::push(&mut seals, Seal::new(&self.image.file)?)?;
            for file in self.blob_files() {
                vec::push(&mut seals, Seal::new(file)?)?;
            }
            // If another task was faster, it did the same.
            self.seals.populate(seals);
        }
        Ok(())
    }

    fn blob_files(&self) -> impl Iterator<Item = &BackingFile> {
        self.blobs.iter().filter_map(|blob| blob.file.as_ref())
    }

    /// Writes what was asked of the files, where the image begins, if that is not at the start of its file, and a `device=`
    /// for each blob that has a file.
    pub(crate) fn show(&self, seq: &SeqFile) {
        if let Some(verity) = &self.image.verity {
            seq_print!(seq, ",verity={}", verity);
        }
        if self.refuses_holes {
            seq_print!(seq, ",holes=error");
        }
        if self.image.start != 0 {
            seq_print!(seq, ",fsoffset={}", self.image.start);
        }
        for file in self.blob_files() {
            seq_print!(seq, ",device=");
            if !file.show_path(seq) {
                return;
            }
        }
    }
}

/// The device slots of an image, none of which has a file yet, and with `verity` the digest that the file of each has to
/// have. `name` is the image's; if it is `flat` the blobs lie in it.
///
/// # Errors
///
/// `EINVAL` if the blobs of a flat image are not in it, and those of reading the slots and of [`Verity::wanted`].
#[inline(never)]
fn read_slots(
    context: &Context<'_>,
    name: &CStr,
    format: &erofs::Superblock,
    slots: &Slots<'_>,
    verity: Option<Verity>,
    flat: bool,
) -> Result<(KVec<Blob>, KVec<Option<VerityDigest>>)> {
    let block = u64::from(format.block_size());
    let mut wanted = KVec::new();
    let mut blobs = KVec::new();
    for index in 0..format.device_count() {
        let slot = (slots.read)(index)?;
        // Device 0 is the image itself.
        let number = u32::from(index).saturating_add(1);
        if let Some(verity) = verity {
            let digest = verity.wanted(context, name, &slot, number)?;
            vec::push(&mut wanted, digest)?;
        }
        let flat_start = slot.uniaddr.saturating_mul(block);
        if flat && (flat_start == 0 || flat_start >= slots.size) {
            context.error(fmt!(
                "{}: the data of device {} of {} is not in the image: give each its file with \
                 device=",
                name,
                number,
                format.device_count(),
            ));
            return Err(EINVAL);
        }
        let blob = Blob {
            file: None,
            flat_start,
            len: slot.blocks.saturating_mul(block),
            names: SetOnce::new(),
        };
        vec::push(&mut blobs, blob)?;
    }
    Ok((blobs, wanted))
}

/// A file that was given by `device=`.
struct Given {
    file: BackingFile,
    /// Its fs-verity digest, if that is wanted.
    digest: Option<VerityDigest>,
}

/// Opens what was given by `device=`, in its order; says so if one cannot be opened, or does not have the fs-verity that
/// is wanted.
///
/// # Errors
///
/// Those of [`open_path`], [`Base::admit`] and [`verity::digest_of`].
#[inline(never)]
fn open_all(
    context: &Context<'_>,
    options: KVec<DeviceOption>,
    verity: Option<Verity>,
    base: &mut Base,
) -> Result<KVec<Given>> {
    let mut files = KVec::new();
    for device in options {
        let (name, file) = match device {
            DeviceOption::Path(path) => {
                let file = open_path(context, &path)?;
                (path, file)
            }
            DeviceOption::File(file) => (file.path()?, file),
        };
        let file = base.admit(context, &name, file)?;
        let digest = match verity {
            Some(_) => Some(verity::digest_of(context, &name, &file)?),
            None => None,
        };
        vec::push(&mut files, Given { file, digest })?;
    }
    Ok(files)
}

/// Puts files into the order of the slots, whose digests are known where they are `wanted`: those slots have the files
/// with these, wherever they were given, and the others what is left, in its order. There are as many of both.
///
/// # Errors
///
/// `EKEYREJECTED` if a slot's file is not among them, and `EINTR` for a task that was killed.
#[inline(never)]
fn pair(
    context: &Context<'_>,
    name: &CStr,
    wanted: &[Option<VerityDigest>],
    files: KVec<Given>,
) -> Result<KVec<Given>> {
    let mut given = KVec::new();
    for file in files {
        vec::push(&mut given, Some(file))?;
    }
    let mut found = KVec::new();
    for (index, digest) in wanted.iter().enumerate() {
        rest()?;
        // They mostly come in the order of the slots.
        let is_it = |file: &Option<Given>| {
            digest.is_some() && file.as_ref().is_some_and(|file| file.digest == *digest)
        };
        let place = rotated(given.len(), index).find(|at| given.get(*at).is_some_and(is_it));
        let file = place
            .and_then(|at| given.get_mut(at))
            .and_then(Option::take);
        vec::push(&mut found, file)?;
    }
    let mut rest = given.into_iter().flatten();
    let mut ordered = KVec::new();
    for (index, (digest, file)) in wanted.iter().zip(found).enumerate() {
        let file = match file {
            Some(file) => file,
            None => rest.next().ok_or(EINVAL)?,
        };
        if let (Some(wanted), Some(digest)) = (digest, file.digest) {
            if *wanted != digest {
                context.error(fmt!(
                    "{}: its fs-verity digest is {}, and {} wants {} of device {}",
                    &*file.file.path()?,
                    digest,
                    name,
                    wanted,
                    index.saturating_add(1),
                ));
                return Err(EKEYREJECTED);
            }
        }
        vec::push(&mut ordered, file)?;
    }
    Ok(ordered)
}

/// The numbers below `len` from `first` on, and then those before it.
fn rotated(len: usize, first: usize) -> impl Iterator<Item = usize> {
    Iterator::chain(first..len, 0..first.min(len))
}

/// Opens a path, and says so if that fails.
///
/// # Errors
///
/// Those of [`BackingFile::open`].
pub(crate) fn open_path(context: &Context<'_>, path: &CStr) -> Result<BackingFile> {
    BackingFile::open(path).inspect_err(|error| {
        if *error == EINVAL || *error == EISDIR {
            context.error(fmt!(
                "{}: neither a regular file nor a block device that can be read",
                path,
            ));
        } else {
            context.error(fmt!("{}: cannot be opened: {:?}", path, error));
        }
    })
}

/// What a mount takes of what its files lie on: it claims block devices, and counts how many filesystems it is stacked on.
pub(crate) struct Base {
    claims: KVec<Claim>,
    depth: u32,
    /// Who asks for holes in files, if they are errors.
    hole_finders: Option<Arc<Workers>>,
    /// Who asks listeners.
    listeners: Arc<Listeners>,
}

impl Base {
    /// That of a mount without files. With workers to look for holes, these are errors.
    pub(crate) fn new(hole_finders: Option<Arc<Workers>>, listeners: Arc<Listeners>) -> Self {
        Self {
            claims: KVec::new(),
            depth: 0,
            hole_finders,
            listeners,
        }
    }

    /// Whether reading what a file does not have is an error.
    fn refuses_holes(&self) -> bool {
        self.hole_finders.is_some()
    }

    /// How many filesystems are below the mount, as the kernel counts.
    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    /// Checks that a file may be the base of a mount, accounts for the filesystems below it, and claims it if it is a
    /// block device. The file as it is to be read.
    ///
    /// Reading from ferofs reads from the file's filesystem in the same call, and so on down, which must
    /// have an end. So no file may lie on another mount of this kind, and a file on a stacked filesystem
    /// makes ferofs a stacked filesystem, too. A mount over an ordinary filesystem counts as depth 0, so
    /// that two layers of overlayfs fit on top.
    ///
    /// # Errors
    ///
    /// `EINVAL` if the file lies too deep, and those of [`BackingFile::claim`] and [`BackingFile::refusing_holes`].
    pub(crate) fn admit(
        &mut self,
        context: &Context<'_>,
        name: &CStr,
        file: BackingFile,
    ) -> Result<BackingFile> {
        for fs_name in [c"ferofs", c"erofs"] {
            if file.is_on_deviceless(fs_name) {
                context.error(fmt!(
                    "{}: lies on a mount of type {} over a file; such mounts cannot be nested",
                    name,
                    fs_name,
                ));
                return Err(EINVAL);
            }
        }
        let below = file.stack_depth();
        if below > 0 {
            let needed = below.saturating_add(1);
            if needed > MAX_STACK_DEPTH {
                context.error(fmt!(
                    "{}: lies on a filesystem that is stacked {} deep already",
                    name,
                    below,
                ));
                return Err(EINVAL);
            }
            self.depth = needed.max(self.depth);
        }
        let claim = file.claim().inspect_err(|error| {
            if *error == EBUSY {
                context.error(fmt!(
                    "{}: the block device is in use: mounted with another type of filesystem, part of another \
                     device, or open for a program alone",
                    name,
                ));
            } else {
                context.error(fmt!(
                    "{}: the block device cannot be claimed: {:?}",
                    name,
                    error
                ));
            }
        })?;
        if let Some(claim) = claim {
            vec::push(&mut self.claims, claim)?;
        }
        let file = file.asking(&self.listeners);
        let Some(workers) = &self.hole_finders else {
            return Ok(file);
        };
        file.refusing_holes(workers).inspect_err(|error| {
            if *error == EOPNOTSUPP {
                context.error(fmt!(
                    "{}: its filesystem does not say which parts of a file are holes, which holes=error wants to know",
                    name,
                ));
            } else {
                context.error(fmt!("{}: cannot be opened once more: {:?}", name, error));
            }
        })
    }
}
