// SPDX-License-Identifier: GPL-2.0-only

//! A mounted image: the data of a superblock.

use crate::decoders;
use crate::decompress::Decoders;
use crate::devices;
use crate::devices::Base;
use crate::devices::Devices;
use crate::devices::Image;
use crate::devices::Slots;
use crate::domain::Domain;
use crate::erofs;
use crate::filesystem::Ferofs;
use crate::metadata::Metadata;
use crate::metadata::Reader;
use crate::options::Holes;
use crate::options::Options;
use crate::report;
use crate::settings::Settings;
use crate::vfs::backing::reply::Wait;
use crate::vfs::mount::context::Context;
use crate::vfs::mount::mountable::Statfs;
use crate::vfs::node::xattr::Namespace;
use crate::vfs::object::super_block::NewSuperBlock;
use crate::vfs::object::super_block::SuperBlock;
use crate::vfs::pages::range::RangeCache;
use crate::vfs::pages::range::RangeMount;
use crate::vfs::pages::tails::Tails;
use crate::vfs::workers::Workers;
use core::mem;
use kernel::page::PAGE_SHIFT;
use kernel::page::PAGE_SIZE;
use kernel::prelude::*;
use kernel::seq_file::SeqFile;
use kernel::str::CStr;
use kernel::str::CString;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Relaxed;

/// The number that statfs gives as the type, that of every EROFS.
const MAGIC: u32 = erofs::ondisk::SUPER_MAGIC;

/// A mounted image.
pub(crate) struct Volume {
    /// The source, for messages.
    name: CString,
    format: erofs::Superblock,
    metadata: Metadata,
    devices: Devices,
    /// Whose files are equal to this mount's, if that is asked for and the image can say so.
    domain: Option<Domain>,
    settings: Settings,
    decoders: Decoders,
    tails: Pin<KBox<Tails>>,
    /// Where the caches are: that of the metadata, and those that files are mapped through.
    ranges: RangeMount,
    /// Whether something wrong was logged for this mount.
    reported: Atomic<i32>,
    /// Block devices stay claimed until all of the above is gone.
    base: Base,
}

impl Volume {
    /// Opens the image and its blobs, and reads the superblock.
    ///
    /// # Errors
    ///
    /// Those of opening files, and of [`report::errno`]; told through `context`.
    pub(crate) fn open(
        sb: &mut NewSuperBlock<'_, Ferofs>,
        context: &Context<'_>,
        options: &mut Options,
    ) -> Result<KBox<Self>> {
        let Some(name) = context.source() else {
            context.error(fmt!("no source was given"));
            return Err(EINVAL);
        };
        options.check(context)?;
        // What is on the stack here is there while filesystems below, and their disks, are asked: it is kept small, by making
        // what is large elsewhere.
        let data = KBox::<Self>::new_uninit(GFP_KERNEL)?;
        let holes_are_errors = options.holes == Some(Holes::Error);
        let mut base = Base::new(
            holes_are_errors.then(|| sb.shared().workers.clone()),
            sb.shared().listeners.clone(),
        );
        let image = open_image(sb, context, name, options, &mut base)?;
        let ranges = RangeMount::new(&sb.shared().ranges)?;
        // What a mount itself reads is little, and read again by the next one.
        let size = image.file.size().saturating_sub(image.start);
        let cache = RangeCache::get(&ranges, &image.file.kept(), image.start, size)?;
        let metadata = Metadata::new(cache);
        let format = read_format(context, name, &metadata, image.start)?;
        let given = mem::take(&mut options.devices);
        let slots = Slots {
            read: &|index| read_slot(context, name, &metadata, &format, index),
            size,
        };
        let devices = Devices::new(context, name, &format, &slots, image, given, &mut base)?;
        let compression = read_compression(context, name, &metadata, &format)?;
        if compression.algorithms != 0 {
            metadata.set_mixed();
        }
        let domain = join_domain(sb, context, options, &format);
        let decoders = decoders::new(context, name, &compression)?;
        let tails = Tails::new(compression.algorithms != 0)?;

        sb.set_read_only();
        sb.set_magic(MAGIC);
        sb.set_block_bits(format.block_bits())?;
        sb.set_uuid(&format.uuid());
        sb.set_stack_depth(base.depth());
        let settings = Settings::new(options);
        if !settings.hides(Namespace::AclAccess) {
            sb.set_posix_acl();
        }
        let name = CString::try_from(name)?;
        Ok(data.write(Self {
            name,
            format: KBox::into_inner(format),
            metadata,
            devices: KBox::into_inner(devices),
            domain,
            settings,
            decoders,
            tails,
            ranges,
            reported: Atomic::new(0),
            base,
        }))
    }

    /// The image's superblock.
    pub(crate) fn format(&self) -> &erofs::Superblock {
        &self.format
    }

    /// The image's bytes.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The bytes that an operation reads names and inodes from; it waits for them unless `nowait` is set.
    #[inline]
    pub(crate) fn reader(sb: &SuperBlock<Ferofs>, nowait: bool) -> Reader<'_> {
        sb.data().metadata.reader(Some(sb), nowait)
    }

    /// What decodes the image's compressed data.
    pub(crate) fn decoders(&self) -> &Decoders {
        &self.decoders
    }

    /// Who fills pages that nobody waits for yet. None where filesystems are stacked below, which may be waiting for the same
    /// workers.
    pub(crate) fn workers(sb: &SuperBlock<Ferofs>) -> Option<&Workers> {
        (sb.data().base.depth() == 0).then_some(&*sb.shared().workers)
    }

    /// Whose files are equal to this mount's, if it takes part in such a domain.
    #[inline]
    pub(crate) fn domain(&self) -> Option<&Domain> {
        self.domain.as_ref()
    }

    /// Where decoded bytes are kept for pages that are not filled yet.
    pub(crate) fn tails(&self) -> &Tails {
        &self.tails
    }

    /// Where the caches are that files are mapped through.
    pub(crate) fn ranges(&self) -> &RangeMount {
        &self.ranges
    }

    /// The image's and blobs' files.
    pub(crate) fn devices(&self) -> &Devices {
        &self.devices
    }

    /// The options in force.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Applies the options of a remount.
    ///
    /// # Errors
    ///
    /// `EINVAL` for what cannot be changed.
    pub(crate) fn remount(&self, context: &Context<'_>, options: &Options) -> Result {
        self.settings
            .remount(context, &self.name, &self.devices, options)
    }

    /// Writes the options that differ from what is usual, each behind a comma.
    pub(crate) fn show_options(&self, seq: &SeqFile) {
        self.settings.show(seq, self.domain().map(Domain::trust));
        self.devices.show(seq);
    }

    /// The source, for messages.
    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// Whether this is asked for the first time: one error of a mount is logged.
    pub(crate) fn is_first_error(&self) -> bool {
        self.reported.xchg(1, Relaxed) == 0
    }

    /// What statfs(2) tells, as the C driver does.
    pub(crate) fn statfs(&self) -> Statfs {
        let uuid = self.format.uuid();
        let fsid = if uuid == [0; 16] {
            // What has no number that it keeps has none.
            self.devices.image_device_number().unwrap_or(0)
        } else {
            uuid.chunks_exact(8)
                .filter_map(|half| half.try_into().ok())
                .fold(0, |sum, half| sum ^ u64::from_le_bytes(half))
        };
        let devices = self.devices.bytes() >> self.format.block_bits().min(63);
        Statfs {
            block_size: self.format.block_size(),
            blocks: self.format.blocks().saturating_add(devices),
            files: u64::MAX,
            files_free: u64::MAX.wrapping_sub(self.format.inodes()),
            name_max: erofs::ondisk::NAME_MAX as u32,
            fsid,
        }
    }
}

/// Opens the image, or takes the open file, and sees that it may be what a mount lies on.
///
/// # Errors
///
/// Those of opening it, of [`Base::admit`], of what fs-verity says of it, and what listeners say.
#[inline(never)]
fn open_image(
    sb: &mut NewSuperBlock<'_, Ferofs>,
    context: &Context<'_>,
    name: &CStr,
    options: &mut Options,
    base: &mut Base,
) -> Result<KBox<Image>> {
    let file = match options.image.take() {
        Some(file) => file,
        None => devices::open_path(context, name)?,
    };
    let file = base.admit(context, name, file)?;
    if let Some(verity) = options.verity {
        // Not one byte is looked at of what nobody answers for.
        verity.check_image(context, name, &file)?;
    }
    sb.share_backing_device(&file)?;
    // Security modules are not asked when metadata is read, which can be wanted anywhere: so now. Listeners of fanotify
    // are, for what is read.
    let start = options.start.unwrap_or(0);
    let size = file.size().saturating_sub(start);
    file.ask(start, size.min(PAGE_SIZE as u64), Wait::Any)?;
    let image = Image {
        file,
        start,
        verity: options.verity,
    };
    Ok(KBox::new(image, GFP_KERNEL)?)
}

/// The superblock of an image that begins at `start` of its file.
///
/// # Errors
///
/// Those of [`report::errno`], and `EINVAL` if it begins within a block.
#[inline(never)]
fn read_format(
    context: &Context<'_>,
    name: &CStr,
    metadata: &Metadata,
    start: u64,
) -> Result<KBox<erofs::Superblock>> {
    let format = erofs::Superblock::read(&metadata.reader(None, false), PAGE_SHIFT as u8)
        .map_err(|error| report::at_mount(context, name, &error))?;
    let block = u64::from(format.block_size());
    if start % block != 0 {
        context.error(fmt!(
            "{}: fsoffset={} is no multiple of the image's blocks of {} bytes",
            name,
            start,
            block,
        ));
        return Err(EINVAL);
    }
    Ok(KBox::new(format, GFP_KERNEL)?)
}

/// What the image is compressed with.
///
/// # Errors
///
/// Those of [`report::errno`].
#[inline(never)]
fn read_compression(
    context: &Context<'_>,
    name: &CStr,
    metadata: &Metadata,
    format: &erofs::Superblock,
) -> Result<erofs::Compression> {
    format
        .compression(&metadata.reader(None, false))
        .map_err(|error| report::at_mount(context, name, &error))
}

/// The domain that the options ask for, if the image can take part in one.
#[inline(never)]
fn join_domain(
    sb: &NewSuperBlock<'_, Ferofs>,
    context: &Context<'_>,
    options: &Options,
    format: &erofs::Superblock,
) -> Option<Domain> {
    let (Some(trust), Some(name)) = (options.inode_share, &options.domain_id) else {
        return None;
    };
    if format.ishare_prefix().is_none() {
        context.warn(fmt!(
            "inode_share has no effect: the image's files have no fingerprints"
        ));
        return None;
    }
    let table = sb.shared().shares.clone();
    Some(Domain::new(table, name, trust, options.verity))
}

/// A device slot of an image, whose name is `name`.
///
/// # Errors
///
/// Those of [`report::errno`].
#[inline(never)]
fn read_slot(
    context: &Context<'_>,
    name: &CStr,
    metadata: &Metadata,
    format: &erofs::Superblock,
    index: u16,
) -> Result<erofs::DeviceSlot> {
    format
        .device(&metadata.reader(None, false), index)
        .map_err(|error| report::at_mount(context, name, &error))
}
