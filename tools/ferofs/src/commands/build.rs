// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `ferofs build`: an image from a tar or a directory; `layers` has what it does for container images.

use super::Parsed;
use super::complain;
use super::progress::Bar;
use super::settings::Settings;
use super::settings::parse_block;
use super::sign::Signing;
use ferofs::digest::Digest;
use ferofs::error::Error;
use ferofs::error::Result;
use ferofs::image;
use ferofs::image::Mode;
use ferofs::image::Source;
use ferofs::image::Store;
use ferofs::image::source;
use ferofs::oci;
use ferofs::oci::Platform;
use ferofs::oci::Reference;
use ferofs::opened::Data;
use ferofs::opened::Opened;
use ferofs::opened::Reading;
use ferofs::output;
use ferofs::output::Output;
#[cfg(feature = "points")]
use ferofs::points;
#[cfg(feature = "points")]
use ferofs::points::Maker;
use ferofs::text::Shown;
use ferofs::tree::NameId;
use ferofs::tree::Tree;
use ferofs::tree::edit;
use ferofs::tree::scan::scan_without;
use ferofs::tree::whiteouts;
use ferofs::tree::whiteouts::Form;
use signal_hook::consts::SIGHUP;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use std::cell::Cell;
use std::cell::RefCell;
use std::fs;
use std::io;
use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Once;
use std::thread;

/// Build an image from a tar, a directory or a container image
///
/// From a tar, the image is an index unless --mode says otherwise: it has everything but the files'
/// data, which stays in the tar. Keep the tar, unchanged and uncompressed, and give it to mount. The
/// same input always gives the same image.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  ferofs build -o layer.erofs layer.tar
      Index a tar. Its data is not read, only its headers.
  ferofs build --digest -o layer.erofs layer.tar
      Also put the tar's sha256 into the image, to tell later which tar belongs to it.
  ferofs build --verity -o layer.erofs layer.tar
      The same with its fs-verity digest, for `ferofs mount --verity`.
  ferofs build --verity --sign key.pem --cert cert.pem -o layer.erofs layer.tar
      The same, and a signature of the image, layer.erofs.p7s.
  curl -s https://example.org/layer.tar | tee layer.tar | ferofs build -o layer.erofs -
      Index a tar as it comes. The sha256 is put into the image.
  ferofs build -o layer.erofs --tar-out layer.tar layer.tar.zst
      Unpack a tar and index it in one pass; gzip, xz and bzip2 will do, too.
  ferofs build -o layer.erofs --points layer.points --no-tar layer.tar.gz
      Index a tar for `ferofs serve`, without unpacking it anywhere.
  ferofs build -o root.erofs /srv/root
      Copy a directory with its data into an image.
  ferofs build -o layers --merge app.erofs oci:/srv/app:1.0
      Index all layers of a container image in the directory \"layers\", with their plain tars, and
      merge them. `ferofs mount --blobs layers app.erofs /mnt` mounts it.")]
pub struct Arguments {
    /// Where to write the image; for a container image, the directory for its layers
    #[arg(short, long, value_name = "IMAGE")]
    pub(super) output: PathBuf,
    /// Also merge all layers of a container image into one image
    #[arg(long, value_name = "IMAGE")]
    pub(super) merge: Option<PathBuf>,
    /// Which of a container image's platforms [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", value_parser = parse_platform)]
    pub(super) platform: Option<Platform>,
    /// How large the plain tar of a layer may be that has to be unpacked
    #[arg(long, value_name = "BYTES", value_parser = super::parse_number::<u64>)]
    pub(super) max_size: Option<u64>,
    /// Where the files' data is to be [default: index for a tar, full for a directory]
    #[arg(long, value_name = "MODE")]
    pub(super) mode: Option<ModeName>,
    /// Put the tar's sha256 into the image even if the tar has to be read for it
    #[arg(long)]
    pub(super) digest: bool,
    /// Put the tar's fs-verity digest into the image instead of its sha256: mounted with verity=, the image takes no
    /// other tar. All of the tar is read for it
    #[arg(long, conflicts_with = "digest")]
    pub(super) verity: bool,
    #[command(flatten)]
    pub(super) signing: Signing,
    /// Where to write the plain tar, which an index needs if the tar is compressed
    #[arg(long, value_name = "FILE")]
    pub(super) tar_out: Option<PathBuf>,
    /// Where to write access points of the tar, in the same pass: `ferofs serve` needs them to get parts of it, compressed
    /// with gzip or not
    #[cfg(feature = "points")]
    #[arg(long, value_name = "FILE")]
    pub(super) points: Option<PathBuf>,
    /// Write access points in the form of SOCI and erofs-utils, zinfo, which has no checksums
    #[cfg(feature = "points")]
    #[arg(long, value_name = "FILE")]
    pub(super) zinfo: Option<PathBuf>,
    /// Have access points where this zinfo of another program has them, or a ztoc, and fail if what it says is not right
    #[cfg(feature = "points")]
    #[arg(long, value_name = "ZINFO", conflicts_with = "span")]
    pub(super) points_at: Option<PathBuf>,
    /// How much of the plain tar is between two access points [default: 1048576; with --zinfo alone 4194304]
    #[cfg(feature = "points")]
    #[arg(long, value_name = "BYTES", value_parser = super::parse_number::<u64>)]
    pub(super) span: Option<u64>,
    /// Do not keep the plain tar of what is compressed. For a container image access points of each layer, HEX.points, are
    /// written in its place
    #[cfg(feature = "points")]
    #[arg(long, conflicts_with = "tar_out")]
    pub(super) no_tar: bool,
    /// Fail unless this is the sha256 of the plain tar (its diff ID)
    #[arg(long, value_name = "sha256:HEX", value_parser = parse_digest)]
    pub(super) expect: Option<Digest>,
    /// What becomes of whiteouts of either form [default: overlay for a tar, keep for a directory]
    #[arg(long, value_name = "FORM")]
    pub(super) whiteouts: Option<Whiteouts>,
    /// Block size of an image that is no index: 512, 1024, 2048 or 4096 [default: 4096]
    #[arg(short, long, value_name = "BYTES", value_parser = parse_block)]
    pub(super) block_size: Option<u8>,
    /// Start each file's data in the image at a multiple of this power of two [default: 1]
    #[arg(long, value_name = "BYTES", value_parser = parse_align)]
    pub(super) align: Option<u64>,
    /// Do not put the ends of files behind their inodes
    #[arg(long)]
    pub(super) no_inline_data: bool,
    /// Leave out extended attributes, but those that make directories opaque
    #[arg(long)]
    pub(super) no_xattrs: bool,
    /// The tar has only headers, without the data of files, which are read as zeros
    #[arg(long, conflicts_with_all = ["digest", "expect", "tar_out", "verity"])]
    pub(super) headers_only: bool,
    #[command(flatten)]
    pub(super) settings: Settings,
    /// The tar, plain or compressed with gzip, zstd, xz or bzip2; `-` for standard input; a
    /// directory; or a container image: oci:DIR[:NAME], oci-archive:FILE[:NAME] or
    /// docker-archive:FILE[:NAME], where @sha256:HEX may replace :NAME
    #[arg(value_name = "INPUT")]
    pub(super) input: PathBuf,
}

/// [`Mode`] as it is called on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ModeName {
    /// In the tar
    Index,
    /// In the image
    Full,
    /// Nowhere: files are read as zeros
    Meta,
}

/// What becomes of whiteouts, as it is called on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Whiteouts {
    /// Character devices 0:0 and trusted.overlay.opaque, as overlayfs has them
    Overlay,
    /// Files called .wh.NAME and .wh..wh..opq, as OCI layers have them
    Aufs,
    /// They are left out
    Applied,
    /// They stay what they are
    Keep,
}

fn parse_digest(text: &str) -> Parsed<Digest> {
    let digest = text
        .starts_with("sha256:")
        .then(|| Digest::parse(text))
        .flatten();
    digest.ok_or_else(|| "expected \"sha256:\" and 64 hexadecimal digits".to_string())
}

pub(super) fn parse_platform(text: &str) -> Parsed<Platform> {
    Platform::parse(text).ok_or_else(|| "expected one like linux/arm64 or linux/arm/v7".to_string())
}

fn parse_align(text: &str) -> Parsed<u64> {
    let align = text
        .parse()
        .ok()
        .filter(|align: &u64| align.is_power_of_two());
    align
        .filter(|align| *align <= 1 << 30)
        .ok_or_else(|| "expected a power of two, at most 1073741824".to_string())
}

/// Builds the image.
pub fn run(arguments: &Arguments) -> Result<()> {
    remove_unfinished_on_signals()?;
    if let Some(reference) = Reference::parse(&arguments.input)? {
        return super::layers::build(arguments, &reference);
    }
    let only_images = [
        (arguments.merge.is_some(), "--merge"),
        (arguments.platform.is_some(), "--platform"),
        (arguments.max_size.is_some(), "--max-size"),
    ];
    if let Some((_, option)) = only_images.into_iter().find(|(given, _)| *given) {
        let path = Shown(&arguments.input);
        return Err(Error::Request(format!(
            "{path} is no container image, for which {option} is; such a one is called \
             oci:DIR[:NAME], for example"
        )));
    }
    let directory = arguments.input != Path::new("-")
        && fs::metadata(&arguments.input).is_ok_and(|metadata| metadata.is_dir());
    if directory {
        from_directory(arguments)
    } else {
        from_tar(arguments)
    }
}

/// Refuses options that are about data in the image where there is none: they would do nothing.
fn refuse_without_effect(arguments: &Arguments, mode: Mode) -> Result<()> {
    let path = Shown(&arguments.input);
    let reason = match mode {
        Mode::Index => {
            if arguments.block_size.is_some() {
                return Err(Error::Request(format!(
                    "{path}: --block-size is for images that are no index: the blocks of an index are those of the \
                     tar, 512 bytes"
                )));
            }
            "an index leaves the data in the tar"
        }
        Mode::Meta => "there is no data in this one",
        _ => return Ok(()),
    };
    let about_data = [
        (arguments.settings.sort.is_some(), "--sort"),
        (arguments.align.is_some(), "--align"),
        (arguments.no_inline_data, "--no-inline-data"),
        (arguments.settings.compress.is_some(), "-z"),
    ];
    match about_data.into_iter().find(|(given, _)| *given) {
        Some((_, option)) => Err(Error::Request(format!(
            "{path}: {option} is for images with their data in them (--mode=full): {reason}"
        ))),
        None => Ok(()),
    }
}

/// Refuses fingerprints of files that have no data: they would be those of zeros.
fn refuse_fingerprints_of_nothing(arguments: &Arguments, mode: Mode) -> Result<()> {
    if mode == Mode::Meta && arguments.settings.fingerprints.is_some() {
        return Err(Error::Request(format!(
            "{}: --fingerprints is for images of files with data",
            Shown(&arguments.input)
        )));
    }
    Ok(())
}

/// What the image is to be like.
fn options(arguments: &Arguments, mode: Mode) -> Result<image::Options> {
    let mut options = image::Options::default()
        .with_mode(mode)
        .with_block_bits(match mode {
            // Data in a tar is at multiples of 512 bytes.
            Mode::Index => 9,
            _ => arguments.block_size.unwrap_or(12),
        })
        .with_align(arguments.align.unwrap_or(1));
    arguments.settings.apply(&mut options)?;
    options.inline_data &= !arguments.no_inline_data;
    Ok(options)
}

/// Makes the changes to all files that are asked for.
fn edit_all(
    arguments: &Arguments,
    whiteouts: Whiteouts,
    tree: &mut Tree,
    input: &Path,
) -> Result<()> {
    let failed =
        |problem: &dyn std::fmt::Display| Error::Request(format!("{}: {problem}", Shown(input)));
    let form = match whiteouts {
        Whiteouts::Overlay => Some(Form::Overlay),
        Whiteouts::Aufs => Some(Form::Aufs),
        Whiteouts::Applied => Some(Form::Applied),
        Whiteouts::Keep => None,
    };
    if let Some(form) = form {
        let notes = whiteouts::convert(tree, form).map_err(|problem| failed(&problem))?;
        for note in notes.iter().filter(|_| !arguments.settings.quiet) {
            complain(&format!("{}: {note}", Shown(input)));
        }
    }
    let mut edit = arguments.settings.edit();
    edit.no_xattrs |= arguments.no_xattrs;
    edit::apply(tree, &edit).map_err(|problem| failed(&problem))
}

fn write(
    arguments: &Arguments,
    tree: &mut Tree,
    options: &image::Options,
    source: &dyn Source,
    output: &Output,
) -> Result<()> {
    if options.mode == Mode::Full && (options.chunk_bits.is_some() || options.compression.is_some())
    {
        let failed = || Error::image(&arguments.output);
        let aside = Output::create_unnamed(&arguments.output)?;
        let mut store = Store::new(output.file(), aside.file(), None, options)
            .map_err(Error::io("write", output.target()))?;
        store.take_all(tree, source).map_err(failed())?;
        store.finish(tree, options).map_err(failed())?;
        return Ok(());
    }
    image::write_file(tree, options, source, output.file())
        .map_err(Error::image(&arguments.output))?;
    Ok(())
}

/// Files whose data is shown to be read.
struct Watched {
    source: source::Directory,
    done: Cell<u64>,
    bar: RefCell<Bar>,
}

impl Source for Watched {
    fn read(&self, tree: &Tree, name: NameId, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.source.read(tree, name, offset, buf)?;
        let done = self.done.get().saturating_add(buf.len() as u64);
        self.done.set(done);
        self.bar.borrow_mut().set(done);
        Ok(())
    }
}

fn from_directory(arguments: &Arguments) -> Result<()> {
    let path = Shown(&arguments.input);
    let only_tars = [
        (arguments.mode == Some(ModeName::Index), "--mode=index"),
        (arguments.digest, "--digest"),
        (arguments.verity, "--verity"),
        (arguments.expect.is_some(), "--expect"),
        (arguments.tar_out.is_some(), "--tar-out"),
        (arguments.headers_only, "--headers-only"),
        #[cfg(feature = "points")]
        (arguments.points.is_some(), "--points"),
        #[cfg(feature = "points")]
        (arguments.zinfo.is_some(), "--zinfo"),
        #[cfg(feature = "points")]
        (arguments.no_tar, "--no-tar"),
        #[cfg(feature = "points")]
        (arguments.span.is_some(), "--span"),
        #[cfg(feature = "points")]
        (arguments.points_at.is_some(), "--points-at"),
    ];
    if let Some((_, option)) = only_tars.into_iter().find(|(given, _)| *given) {
        return Err(Error::Request(format!(
            "{path} is a directory, but {option} is for tars"
        )));
    }
    let mode = match arguments.mode {
        Some(ModeName::Meta) => Mode::Meta,
        _ => Mode::Full,
    };
    refuse_without_effect(arguments, mode)?;
    if let Some(name) = oci::seems_to_be_layout(&arguments.input) {
        if !arguments.settings.quiet {
            complain(&format!("{path}: {}", oci::looks_like(&name)));
        }
    }
    refuse_fingerprints_of_nothing(arguments, mode)?;
    let mut bar = Bar::new("reading", None, arguments.settings.quiet).counting();
    let exclude = arguments.settings.exclude();
    let mut tree = scan_without(&arguments.input, &exclude, &mut |count| bar.set(count))?;
    drop(bar);
    let whiteouts = arguments.whiteouts.unwrap_or(Whiteouts::Keep);
    edit_all(arguments, whiteouts, &mut tree, &arguments.input)?;
    let output = Output::create(&arguments.output, &[])?;
    if output.replaces().is_some_and(|old| tree.comes_from(old)) {
        let (target, path) = (Shown(output.target()), Shown(&arguments.input));
        return Err(Error::Request(format!(
            "{target} is a file of the input {path}: it would be overwritten"
        )));
    }
    let source = Watched {
        source: source::Directory::new(arguments.input.clone()),
        done: Cell::new(0),
        bar: RefCell::new(Bar::new("copying", None, arguments.settings.quiet)),
    };
    if let Some(name) = &arguments.settings.fingerprints {
        tree.set_fingerprint_name(Some(name.clone()));
        let source = source::Directory::new(arguments.input.clone());
        image::fingerprint_all(&mut tree, &source)
            .map_err(|error| Error::image(&arguments.output)(error).below(&arguments.input))?;
    }
    write(
        arguments,
        &mut tree,
        &options(arguments, mode)?,
        &source,
        &output,
    )
    .map_err(|error| error.below(&arguments.input))?;
    // Whoever finds an image looks for its signature.
    let outputs = arguments.signing.of(&output)?.into_iter().chain([output]);
    Output::finish_all(outputs.collect())
}

fn from_tar(arguments: &Arguments) -> Result<()> {
    let mode = match arguments.mode {
        None if arguments.headers_only => Mode::Meta,
        None | Some(ModeName::Index) => Mode::Index,
        Some(ModeName::Full) => Mode::Full,
        Some(ModeName::Meta) => Mode::Meta,
    };
    refuse_without_effect(arguments, mode)?;
    if arguments.verity && mode != Mode::Index {
        let path = Shown(&arguments.input);
        return Err(Error::Request(format!(
            "{path}: --verity is for an index (--mode=index): this image leaves nothing in the tar"
        )));
    }
    let answers = arguments.verity || mode != Mode::Index;
    arguments
        .signing
        .refuse_unless(answers, &arguments.output)?;
    refuse_fingerprints_of_nothing(arguments, mode)?;
    let tar = open_tar(&arguments.input)?;
    let path = tar.path().to_path_buf();
    let input = tar.metadata().clone();
    let inputs = [(path.as_path(), &input)];
    let output = Output::create(&arguments.output, &inputs)?;
    let tar_out = match &arguments.tar_out {
        Some(target) => Some(Output::create(target, &inputs)?),
        None => None,
    };
    if let Some(tar_out) = &tar_out {
        output.expect_other(tar_out)?;
    }
    if arguments.headers_only && mode != Mode::Meta {
        return Err(Error::Request(
            "without the data of files there is no other --mode than meta".to_string(),
        ));
    }
    #[cfg(feature = "points")]
    let mut pointing = Pointing::new(arguments, mode, &inputs)?;
    #[cfg(feature = "points")]
    for other in pointing.outputs() {
        output.expect_other(other)?;
        tar_out.iter().try_for_each(|tar| tar.expect_other(other))?;
    }
    let mut options = options(arguments, mode)?;
    // With an order of its own, or without some of it, data is copied when all headers are known.
    let path_order = arguments.settings.sort.as_deref() == Some("path");
    let one_pass = mode == Mode::Full && !path_order && arguments.settings.exclude().is_empty();
    let aside = match one_pass {
        true => Some(Output::create_unnamed(&arguments.output)?),
        false => None,
    };
    let mut store = match &aside {
        Some(aside) => Some(
            Store::new(output.file(), aside.file(), tar.least(), &options)
                .map_err(Error::io("write", output.target()))?
                .with_fingerprints(arguments.settings.fingerprints.is_some()),
        ),
        None => None,
    };
    let mut tree = Tree::new();
    tree.set_fingerprint_name(arguments.settings.fingerprints.clone());
    let data = match (mode, store.as_mut()) {
        (_, Some(store)) => Data::Now(store),
        (Mode::Index, None) => Data::Stays,
        (Mode::Meta, None) => Data::Nowhere,
        (_, None) => Data::Later,
    };
    let reading = Reading::new(data, &arguments.output)
        .with_digest(arguments.digest || arguments.expect.is_some())
        .with_verity(arguments.verity)
        .with_headers_only(arguments.headers_only)
        .with_copy(tar_out.as_ref());
    #[cfg(feature = "points")]
    let reading = reading
        .with_no_copy(arguments.no_tar)
        .with_points(pointing.maker.as_mut());
    let mut bar = Bar::new("reading", tar.size(), arguments.settings.quiet);
    let (archive, plain) = tar.read(reading, &mut tree, &mut bar)?;
    drop(bar);
    if let (Some(expected), Some(found)) = (arguments.expect, archive.totals.digest) {
        if expected != found {
            let path = Shown(&path);
            return Err(Error::Request(format!(
                "{path}: the sha256 of the tar is {found}, expected {expected}"
            )));
        }
    }
    if !arguments.settings.quiet {
        if archive.totals.size == 0 {
            complain(&format!(
                "{}: there is not a byte in it; taken for an archive of nothing",
                Shown(&path)
            ));
        }
        for note in &archive.notes {
            complain(&format!("{}: {note}", Shown(&path)));
        }
        let has = |name: &[u8]| tree.lookup(NameId::ROOT, name).is_some();
        if let Some(name) = oci::seems_to_be_archive(has, &path) {
            complain(&format!("{}: {}", Shown(&path), oci::looks_like(&name)));
        }
    }
    arguments.settings.exclude().apply(&mut tree);
    let whiteouts = arguments.whiteouts.unwrap_or(Whiteouts::Overlay);
    edit_all(arguments, whiteouts, &mut tree, &path)?;
    if mode == Mode::Index {
        options.devices = vec![archive.totals.into()];
    }
    match store.map(|store| store.finish(&mut tree, &options)) {
        Some(finished) => {
            finished.map_err(Error::image(&arguments.output))?;
        }
        None => write(arguments, &mut tree, &options, &plain, &output)?,
    }
    // Whoever finds an image looks for its tar, and its signature.
    let outputs = tar_out.into_iter().chain(arguments.signing.of(&output)?);
    #[cfg(feature = "points")]
    let outputs = outputs.chain(pointing.finish(archive.totals.digest, &path)?);
    let outputs = outputs.chain([output]);
    Output::finish_all(outputs.collect())
}

/// The access points that are to be made of a tar.
#[cfg(feature = "points")]
struct Pointing {
    maker: Option<Maker>,
    points: Option<Output>,
    zinfo: Option<Output>,
    span: u64,
}

#[cfg(feature = "points")]
impl Pointing {
    fn new(arguments: &Arguments, mode: Mode, inputs: &[(&Path, &fs::Metadata)]) -> Result<Self> {
        let create = |target: &Option<PathBuf>| {
            let target = target.as_ref();
            target
                .map(|target| Output::create(target, inputs))
                .transpose()
        };
        let wanted = arguments.points.is_some() || arguments.zinfo.is_some();
        let path = Shown(&arguments.input);
        let without_effect = [
            (
                wanted && mode != Mode::Index,
                "--points and --zinfo are for an index",
            ),
            (
                arguments.no_tar && mode != Mode::Index,
                "--no-tar is for an index",
            ),
            (
                arguments.span.is_some() && !wanted,
                "--span is for access points",
            ),
            (
                arguments.points_at.is_some() && !wanted,
                "--points-at is for access points",
            ),
        ];
        if let Some((_, problem)) = without_effect.into_iter().find(|(given, _)| *given) {
            return Err(Error::Request(format!("{path}: {problem}")));
        }
        let usual = match arguments.points {
            Some(_) => points::SPAN,
            None => points::zinfo::SPAN,
        };
        let span = arguments.span.unwrap_or(usual);
        let mut maker = Maker::new(span).with_whole_windows(arguments.zinfo.is_some());
        if let Some(path) = &arguments.points_at {
            maker = maker.with_places(points::zinfo::Places::open(path)?);
        }
        Ok(Pointing {
            maker: wanted.then_some(maker),
            points: create(&arguments.points)?,
            zinfo: create(&arguments.zinfo)?,
            span,
        })
    }

    fn outputs(&self) -> impl Iterator<Item = &Output> {
        self.points.iter().chain(&self.zinfo)
    }

    /// Writes them. Returns the files.
    fn finish(self, diff_id: Option<Digest>, path: &Path) -> Result<Vec<Output>> {
        let Some((maker, diff_id)) = self.maker.zip(diff_id) else {
            return Ok(Vec::new());
        };
        let made = maker.finish(diff_id, path)?;
        if let Some(output) = &self.points {
            let written = made.write(&mut output.file());
            written.map_err(Error::io("write", output.target()))?;
        }
        if let Some(output) = &self.zinfo {
            let mut out = io::BufWriter::new(output.file());
            let written = made.write_zinfo(self.span, &mut out);
            let written = written.and_then(|()| io::Write::flush(&mut out));
            written.map_err(Error::io("write", output.target()))?;
        }
        Ok(self.points.into_iter().chain(self.zinfo).collect())
    }
}

/// Opens the tar that is the input.
fn open_tar(path: &Path) -> Result<Opened> {
    if path != Path::new("-") {
        return Opened::open(path).map_err(|error| oci::explain(error, path));
    }
    if io::stdin().is_terminal() {
        return Err(Error::Request(
            "standard input is a terminal, expected a tar; name a file instead of \"-\", or give one \
             with < or |"
                .to_string(),
        ));
    }
    Opened::stdin()
}

/// Lets no unfinished file stay behind when a signal ends the command.
pub(super) fn remove_unfinished_on_signals() -> Result<()> {
    static WATCHING: Once = Once::new();
    let mut result = Ok(());
    WATCHING.call_once(|| {
        let watch = |mut signals: Signals| {
            if let Some(signal) = signals.forever().next() {
                output::remove_all();
                // As if the signal had not been caught.
                std::process::exit(128 + signal);
            }
        };
        match Signals::new([SIGHUP, SIGINT, SIGTERM]) {
            Ok(signals) => drop(thread::spawn(move || watch(signals))),
            Err(error) => result = Err(Error::Request(format!("cannot handle signals: {error}"))),
        }
    });
    result
}
