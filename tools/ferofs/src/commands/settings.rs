// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Options that `ferofs build` and `mkfs.ferofs` share, under the names they have in mkfs.erofs.

use super::Parsed;
use super::parse_number;
use clap::builder::PossibleValue;
use ferofs::clusters::Compression;
use ferofs::clusters::Ends;
use ferofs::clusters::codec::Algorithm;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::image::Checksum;
use ferofs::image::Inodes;
use ferofs::image::Options;
use ferofs::image::Order;
use ferofs::image::XattrPrefix;
use ferofs::tree::FingerprintName;
use ferofs::tree::edit::Edit;
use ferofs::tree::edit::IdRange;
use ferofs::tree::edit::Ids;
use ferofs::tree::exclude::Exclude;
use ferofs::tree::exclude::Pattern;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// What an image is to be like, and what is to be in it.
#[derive(Clone, clap::Args)]
pub struct Settings {
    /// Label of the image, at most 16 bytes
    #[arg(short = 'L', long, value_name = "LABEL", default_value = "", hide_default_value = true,
          value_parser = parse_label)]
    pub label: Label,
    /// UUID of the image; `clear` for zeros, `random` [default: derived from what is in the image]
    #[arg(short = 'U', long, value_name = "UUID", value_parser = parse_uuid)]
    pub uuid: Option<Uuid>,
    /// Time of the image and, without --mkfs-time, of all files, in seconds since 1970
    #[arg(short = 'T', long, value_name = "SECONDS", allow_hyphen_values = true, value_parser = parse_number::<i64>)]
    pub timestamp: Option<i64>,
    /// With -T: all files have that time (the default)
    #[arg(long, requires = "timestamp", overrides_with = "mkfs_time")]
    pub all_time: bool,
    /// With -T: files keep their times, only the image has that one
    #[arg(long, requires = "timestamp", overrides_with = "all_time")]
    pub mkfs_time: bool,
    /// All files have the image's time
    #[arg(long, overrides_with = "preserve_mtime")]
    pub ignore_mtime: bool,
    /// Files keep their times (the default)
    #[arg(long, overrides_with = "ignore_mtime")]
    pub preserve_mtime: bool,
    /// Make root the owner of all files
    #[arg(long, conflicts_with_all = ["force_uid", "force_gid"])]
    pub all_root: bool,
    /// Owner of all files
    #[arg(long, value_name = "UID", value_parser = parse_owner)]
    pub force_uid: Option<u32>,
    /// Group of all files
    #[arg(long, value_name = "GID", value_parser = parse_owner)]
    pub force_gid: Option<u32>,
    /// Add this to all owners
    #[arg(
        long,
        value_name = "NUMBER",
        default_value = "0",
        allow_hyphen_values = true,
        value_parser = parse_number::<i64>
    )]
    pub uid_offset: i64,
    /// Add this to all groups
    #[arg(
        long,
        value_name = "NUMBER",
        default_value = "0",
        allow_hyphen_values = true,
        value_parser = parse_number::<i64>
    )]
    pub gid_offset: i64,
    /// Map COUNT owners from CONTAINER on to HOST and following; may be repeated, and must cover
    /// all owners then
    #[arg(long, value_name = "CONTAINER:HOST:COUNT", value_parser = parse_range)]
    pub map_uids: Vec<IdRange>,
    /// The same for groups
    #[arg(long, value_name = "CONTAINER:HOST:COUNT", value_parser = parse_range)]
    pub map_gids: Vec<IdRange>,
    /// Leave out the file with exactly this path, and what is below it; may be repeated
    #[arg(long, value_name = "PATH")]
    pub exclude_path: Vec<OsString>,
    /// Leave out files whose paths (without a slash in front) match, and what is below them; may
    /// be repeated
    #[arg(long, value_name = "REGEX", value_parser = Pattern::parse)]
    pub exclude_regex: Vec<Pattern>,
    /// Every name of a file with several becomes a file of its own
    #[arg(long)]
    pub hard_dereference: bool,
    /// Store an extended attribute once if more than so many files have it; below 0 leave all out
    #[arg(
        short = 'x',
        value_name = "COUNT",
        default_value = "1",
        allow_hyphen_values = true,
        value_parser = parse_number::<i64>
    )]
    pub xattr_tolerance: i64,
    /// Store this prefix of extended attributes' names once, like "user.overlay."; may be repeated
    #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
    pub xattr_prefix: Vec<XattrPrefix>,
    /// Give each file a fingerprint, the sha256 of its content, in an attribute of this name: by it drivers find equal
    /// files in different images (inode_share) [default: erofs.fingerprint.v1, which is hidden]
    #[arg(long, alias = "xattr-inode-digest", value_name = "NAME", num_args = 0..=1, require_equals = true,
          default_missing_value = FingerprintName::DEFAULT, value_parser = FingerprintName::parse)]
    pub fingerprints: Option<FingerprintName>,
    /// Cut all files into chunks of so many bytes, a power of two
    #[arg(long, visible_alias = "chunk-size", value_name = "BYTES", value_parser = parse_chunk)]
    pub chunksize: Option<u8>,
    /// Compress files: lz4, lz4hc, zstd, deflate or lzma, perhaps with a level (0 to 12, 22, 12 and 9) and the size
    /// of its window (dictsize=BYTES), with commas between; further algorithms behind colons may be used by the
    /// image's readers, but no file has them
    #[arg(short = 'z', long = "compress", value_name = "ALGORITHM[,LEVEL][:...]", value_parser = parse_algorithms)]
    pub compress: Option<Algorithms>,
    /// With -z: largest size of a physical cluster, a multiple of the block size up to 1 MiB
    /// [default: the block size]
    #[arg(short = 'C', long = "cluster-size", value_name = "BYTES", value_parser = parse_number::<u32>, requires = "compress")]
    pub cluster: Option<u32>,
    /// With -z: number of threads that compress [default: one for each processor]; it makes no
    /// difference to the image
    #[arg(long, value_name = "COUNT", value_parser = parse_number::<u32>)]
    pub workers: Option<u32>,
    /// Order of files' data in the image [default: none for a tar, path for a directory]
    #[arg(long, value_name = "ORDER", value_parser = orders())]
    pub sort: Option<String>,
    /// Extended options: noinline_data, inline_data, force-inode-extended, force-inode-compact,
    /// force-chunk-indexes (always so), xattr-name-filter (the default; with ^ in front not), nosbcrc or
    /// sbcrc (no checksum of the superblock, or one also in blocks of less than 2048 bytes), 48bit; with -z also
    /// ztailpacking (small ends of files are behind their inodes), fragments or all-fragments (small ends, or all
    /// files, are compressed as one; with =BYTES in physical clusters of this size), dedupe (equal clusters
    /// are stored once), legacy-compress (full indexes)
    #[arg(short = 'E', value_name = "OPTION,...", value_delimiter = ',')]
    pub extended: Vec<String>,
    /// Say nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// The time of the image, and of files that are younger.
    #[arg(skip)]
    pub latest: Option<i64>,
}

/// What to compress with.
#[derive(Clone, Debug)]
pub struct Algorithms(pub Vec<Algorithm>);

fn parse_algorithms(text: &str) -> Parsed<Algorithms> {
    let algorithms = text.split(':').map(Algorithm::parse);
    algorithms.collect::<Parsed<_>>().map(Algorithms)
}

/// A label, padded.
#[derive(Clone, Copy)]
pub struct Label(pub [u8; 16]);

/// A UUID.
#[derive(Clone, Copy)]
pub struct Uuid(pub [u8; 16]);

/// A user or a group. Linux takes the largest number for none of them.
fn parse_owner(text: &str) -> Parsed<u32> {
    match parse_number(text)? {
        u32::MAX => Err(format!("expected 0 to {}", u32::MAX - 1)),
        id => Ok(id),
    }
}

fn orders() -> [PossibleValue; 2] {
    [
        PossibleValue::new("path").help("That of the directories"),
        PossibleValue::new("none")
            .help("That of the tar: only so it can be read and written in one pass"),
    ]
}

pub fn parse_block(text: &str) -> Parsed<u8> {
    match text {
        "512" => Ok(9),
        "1024" => Ok(10),
        "2048" => Ok(11),
        "4096" => Ok(12),
        _ => Err("expected 512, 1024, 2048 or 4096".to_string()),
    }
}

fn parse_chunk(text: &str) -> Parsed<u8> {
    let size = text.parse().ok();
    let size = size.filter(|size: &u64| size.is_power_of_two() && (512..=1 << 40).contains(size));
    size.map(|size| size.trailing_zeros() as u8)
        .ok_or_else(|| "expected a power of two, at least 512".to_string())
}

pub fn parse_label(text: &str) -> Parsed<Label> {
    let mut label = [0; 16];
    match label.get_mut(..text.len()) {
        Some(start) => start.copy_from_slice(text.as_bytes()),
        None => return Err(format!("it has {} bytes, expected at most 16", text.len())),
    }
    Ok(Label(label))
}

pub fn parse_uuid(text: &str) -> Parsed<Uuid> {
    match text {
        "clear" => return Ok(Uuid([0; 16])),
        "random" => return random_uuid(),
        _ => {}
    }
    let shape = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    let number = u128::from_str_radix(&text.replace('-', ""), 16);
    match number {
        Ok(number) if shape => Ok(Uuid(number.to_be_bytes())),
        _ => Err(
            "expected a UUID like 123e4567-e89b-12d3-a456-426614174000, `clear` or `random`"
                .to_string(),
        ),
    }
}

/// A UUID of version 4.
fn random_uuid() -> Parsed<Uuid> {
    let mut uuid = [0; 16];
    let flags = rustix::rand::GetRandomFlags::empty();
    match rustix::rand::getrandom(&mut uuid, flags) {
        Ok(16) => {}
        _ => return Err("no random numbers to be had".to_string()),
    }
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    Ok(Uuid(uuid))
}

fn parse_range(text: &str) -> Parsed<IdRange> {
    let numbers: Option<Vec<u32>> = text.split(':').map(|part| part.parse().ok()).collect();
    match numbers.as_deref() {
        Some(&[inside, outside, count])
            if count > 0
                && inside.checked_add(count - 1).is_some()
                && outside.checked_add(count - 1).is_some() =>
        {
            Ok(IdRange {
                inside,
                outside,
                count,
            })
        }
        _ => Err("expected three numbers like 0:100000:65536".to_string()),
    }
}

fn parse_prefix(text: &str) -> Parsed<XattrPrefix> {
    match erofs_format::split_xattr_name(text.as_bytes()) {
        Some((base, infix)) if !infix.is_empty() && infix.len() < 255 => Ok(XattrPrefix {
            base,
            infix: infix.into(),
        }),
        _ => Err(
            "expected the start of a name like \"user.overlay.\", with one of user., trusted. and \
             security."
                .to_string(),
        ),
    }
}

impl Settings {
    /// Changes what an image is to be like as it is asked for.
    pub fn apply(&self, options: &mut Options) -> Result<()> {
        options.uuid = self.uuid.map(|uuid| uuid.0);
        options.label = self.label.0;
        options.build_time = self.timestamp.or(self.latest);
        options.one_time = self.ignore_mtime || self.timestamp.is_some() && !self.mkfs_time;
        if let Some(bits) = self.chunksize {
            if bits < options.block_bits {
                let (chunk, block) = (1_u64 << bits, 1_u64 << options.block_bits);
                return Err(Error::Request(format!(
                    "chunks of {chunk} bytes are less than a block of {block}"
                )));
            }
        }
        options.chunk_bits = self.chunksize;
        if self.sort.as_deref() == Some("none") {
            options.order = Order::Source;
        }
        if let Some(Algorithms(algorithms)) = &self.compress {
            let [first, ..] = algorithms.as_slice() else {
                return Ok(());
            };
            if self.chunksize.is_some() {
                let problem = "--chunksize and -z: chunks are not compressed";
                return Err(Error::Request(problem.to_string()));
            }
            let mut compression = Compression::new(*first)
                .with_cluster(self.cluster)
                .with_workers(self.workers.map(|count| count as usize));
            compression.algorithms.clone_from(algorithms);
            options.compression = Some(compression);
        }
        options.xattrs.share_from = u64::try_from(self.xattr_tolerance)
            .unwrap_or_default()
            .saturating_add(1);
        options.xattrs.prefixes.clone_from(&self.xattr_prefix);
        for option in &self.extended {
            match option.as_str() {
                "noinline_data" | "^inline_data" => options.inline_data = false,
                "inline_data" | "^noinline_data" => options.inline_data = true,
                "force-inode-extended" => options.inodes = Inodes::Extended,
                // Compact inodes have one time for all.
                "force-inode-compact" => options.one_time = true,
                "force-chunk-indexes" | "^48bit" => {}
                "xattr-name-filter" => options.xattrs.filter = true,
                "^xattr-name-filter" => options.xattrs.filter = false,
                "nosbcrc" | "^sbcrc" => options.checksum = Checksum::None,
                "sbcrc" | "^nosbcrc" => options.checksum = Checksum::Always,
                "48bit" => options.wide = true,
                other => self.apply_to_compression(other, options)?,
            }
        }
        Ok(())
    }

    /// An extended option about compressed data, or none.
    fn apply_to_compression(&self, option: &str, options: &mut Options) -> Result<()> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let known = [
            "legacy-compress",
            "ztailpacking",
            "fragments",
            "all-fragments",
            "fragdedupe",
            "^fragdedupe",
            "dedupe",
        ];
        if !known.contains(&name) {
            return Err(Error::Request(format!("-E {option} is not supported")));
        }
        let Some(compression) = &mut options.compression else {
            return Err(Error::Request(format!(
                "-E {option} is about compressed data: it needs -z"
            )));
        };
        match (name, value) {
            ("legacy-compress", None) => compression.full_indexes = true,
            // Fragments take the ends of files, whatever the order of the options.
            ("ztailpacking", None) if compression.ends == Ends::Blocks => {
                compression.ends = Ends::Inline;
            }
            ("ztailpacking", None) => {}
            ("fragments" | "all-fragments", size) => {
                if let Some(size) = size {
                    let size = parse_number(size)
                        .map_err(|problem| Error::Request(format!("-E {option}: {problem}")))?;
                    compression.packed_cluster = Some(size);
                }
                if name == "all-fragments" {
                    compression.ends = Ends::AllFragments;
                } else if compression.ends != Ends::AllFragments {
                    compression.ends = Ends::Fragments;
                }
            }
            ("dedupe", None) => compression.dedupe = true,
            // Fragments that are equal are there once, and no parts of them.
            ("fragdedupe", None | Some("inode")) => {}
            _ => return Err(Error::Request(format!("-E {option} is not supported"))),
        }
        Ok(())
    }

    /// An option that is given, of those that make an image anything else than what a layer comes
    /// to by itself. Label and UUID do not count.
    pub fn deviation(&self) -> Option<&'static str> {
        let given = [
            (self.timestamp.is_some(), "--timestamp"),
            (self.ignore_mtime, "--ignore-mtime"),
            (self.all_root, "--all-root"),
            (self.force_uid.is_some(), "--force-uid"),
            (self.force_gid.is_some(), "--force-gid"),
            (self.uid_offset != 0, "--uid-offset"),
            (self.gid_offset != 0, "--gid-offset"),
            (!self.map_uids.is_empty(), "--map-uids"),
            (!self.map_gids.is_empty(), "--map-gids"),
            (!self.exclude_path.is_empty(), "--exclude-path"),
            (!self.exclude_regex.is_empty(), "--exclude-regex"),
            (self.hard_dereference, "--hard-dereference"),
            (self.xattr_tolerance != 1, "-x"),
            (!self.xattr_prefix.is_empty(), "--xattr-prefix"),
            (self.chunksize.is_some(), "--chunksize"),
            (self.sort.is_some(), "--sort"),
            (self.compress.is_some(), "-z"),
            (!self.extended.is_empty(), "-E"),
        ];
        let (_, option) = given.into_iter().find(|(given, _)| *given)?;
        Some(option)
    }

    /// The changes to all files that are asked for.
    pub fn edit(&self) -> Edit {
        let root = self.all_root.then_some(0);
        let users = Ids::default()
            .with_force(self.force_uid.or(root))
            .with_map(self.map_uids.clone())
            .with_offset(self.uid_offset);
        let groups = Ids::default()
            .with_force(self.force_gid.or(root))
            .with_map(self.map_gids.clone())
            .with_offset(self.gid_offset);
        Edit::default()
            .with_users(users)
            .with_groups(groups)
            .with_no_xattrs(self.xattr_tolerance < 0)
            .with_dereference(self.hard_dereference)
            .with_latest(self.latest.filter(|_| self.timestamp.is_none()))
    }

    /// What is left out.
    pub fn exclude(&self) -> Exclude {
        let mut exclude = Exclude::default();
        for path in &self.exclude_path {
            exclude.add_path(path.as_bytes());
        }
        for pattern in &self.exclude_regex {
            exclude.add_pattern(pattern.clone());
        }
        exclude
    }
}
