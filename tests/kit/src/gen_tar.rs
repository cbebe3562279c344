// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `gen-tar`: archives for the tests, the same bytes every time.

use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use clap::ValueEnum;

use crate::random::Random;
use crate::tar_writer::Dialect;
use crate::tar_writer::Member;
use crate::tar_writer::TarWriter;

/// Sizes at which blocks, pages and chunks begin and end.
const SIZES: &[u64] = &[
    0, 1, 2, 511, 512, 513, 1023, 1024, 1025, 2047, 2048, 2049, 4095, 4096, 4097, 8191, 8192, 8193,
    12_287, 65_535, 65_536, 65_537, 1_048_575, 1_048_576, 1_048_577,
];

/// What the archive holds.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Everything below except `wide` and `big`.
    All,
    /// A realistic tree of `--files` files.
    Tree,
    /// Regular files of critical sizes.
    Sizes,
    /// Names: long, not UTF-8, deep, and prefixes of each other.
    Names,
    /// Symbolic and hard links, devices, fifos, odd modes.
    Special,
    /// Nanoseconds, times before 1970 and beyond 32 bits, large ids.
    Times,
    /// One directory with `--files` entries.
    Wide,
    /// One file of `--size` bytes among small ones.
    Big,
}

/// What one archive is put together from.
#[derive(Clone)]
struct Kinds(Vec<Kind>);

impl Kinds {
    fn parse(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|kind| Kind::from_str(kind, false))
            .collect::<Result<_, _>>()
            .map(Kinds)
    }
}

/// Writes a test archive.
#[derive(clap::Args)]
pub struct Args {
    /// Kinds, separated by commas: all, or of tree, sizes, names, special, times, wide, big.
    #[arg(value_parser = Kinds::parse)]
    kinds: Kinds,
    /// Where to write it.
    out: PathBuf,
    /// Which of the archives of this kind.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// GNU headers instead of PAX ones.
    #[arg(long)]
    gnu: bool,
    /// How many files (`tree`: 200 unless given, `wide`: 100,000).
    #[arg(long)]
    files: Option<u64>,
    /// The size of the file of `big`.
    #[arg(long, default_value_t = 64 << 20)]
    size: u64,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let file = File::create(&args.out).with_context(|| args.out.display().to_string())?;
    let dialect = if args.gnu { Dialect::Gnu } else { Dialect::Pax };
    let writer = TarWriter::new(BufWriter::with_capacity(1 << 20, file), dialect);
    let archive = Archive {
        tar: writer,
        random: Random::new(args.seed),
    };
    archive
        .write(args)
        .with_context(|| args.out.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

struct Archive<W: Write> {
    tar: TarWriter<W>,
    random: Random,
}

impl<W: Write> Archive<W> {
    fn write(mut self, args: &Args) -> io::Result<()> {
        self.tar.add(&Member::dir("."))?;
        for kind in &args.kinds.0 {
            let kinds: &[Kind] = match kind {
                Kind::All => &[
                    Kind::Sizes,
                    Kind::Names,
                    Kind::Special,
                    Kind::Times,
                    Kind::Tree,
                ],
                one => std::slice::from_ref(one),
            };
            for kind in kinds {
                self.kind(*kind, args)?;
            }
        }
        self.tar.finish()?;
        Ok(())
    }

    fn kind(&mut self, kind: Kind, args: &Args) -> io::Result<()> {
        match kind {
            Kind::All => Ok(()),
            Kind::Tree => self.tree(args.files.unwrap_or(200)),
            Kind::Sizes => self.sizes(),
            Kind::Names => self.names(),
            Kind::Special => self.special(),
            Kind::Times => self.times(),
            Kind::Wide => self.wide(args.files.unwrap_or(100_000)),
            Kind::Big => self.big(args.size),
        }
    }

    fn file(&mut self, member: &Member, size: u64) -> io::Result<()> {
        let mut content = Random::new(self.random.next());
        self.tar.add_data(member, size, |out| {
            let mut buffer = [0; 8192];
            let mut left = size;
            while left > 0 {
                let part = left.min(buffer.len() as u64) as usize;
                content.fill(&mut buffer[..part]);
                out.write_all(&buffer[..part])?;
                left -= part as u64;
            }
            Ok(())
        })
    }

    fn sizes(&mut self) -> io::Result<()> {
        self.tar.add(&Member::dir("./sizes"))?;
        for size in SIZES {
            self.file(&Member::file(format!("./sizes/{size}")), *size)?;
        }
        Ok(())
    }

    fn names(&mut self) -> io::Result<()> {
        self.tar.add(&Member::dir("./names"))?;
        let mut names: Vec<Vec<u8>> = vec![
            vec![b'n'; 255],
            b"with space".to_vec(),
            b"new\nline".to_vec(),
            b"back\\slash".to_vec(),
            b"\xff\xfe not utf-8".to_vec(),
            b"\x01".to_vec(),
            b"...".to_vec(),
            b".hidden".to_vec(),
            b"-dash".to_vec(),
            "gr\u{fc}\u{df}e".as_bytes().to_vec(),
        ];
        // Names of which one is the beginning of the next are where a careless comparison goes wrong.
        for length in 1..40 {
            names.push(vec![b'p'; length]);
        }
        // Long names fill a 512-byte directory block with one or two entries.
        for letter in b'a'..=b'z' {
            names.push(
                [
                    &[letter][..],
                    &vec![b'x'; 200 + usize::from(letter - b'a')][..],
                ]
                .concat(),
            );
        }
        for name in &names {
            let path = [b"./names/", &name[..]].concat();
            self.file(&Member::file(path), name.len() as u64)?;
        }
        let mut deep = b"./names/deep".to_vec();
        for level in 0..60 {
            self.tar.add(&Member::dir(deep.clone()))?;
            deep.extend_from_slice(format!("/level-{level:02}-{}", "d".repeat(30)).as_bytes());
        }
        self.file(&Member::file(deep), 100)
    }

    fn special(&mut self) -> io::Result<()> {
        self.tar.add(&Member::dir("./special"))?;
        self.tar.add(&Member {
            mode: 0o1777,
            ..Member::dir("./special/sticky")
        })?;
        self.tar.add(&Member {
            mode: 0o700,
            uid: 1000,
            gid: 100,
            ..Member::dir("./special/empty")
        })?;
        for (path, mode) in [
            ("setuid", 0o4755),
            ("setgid", 0o2755),
            ("none", 0),
            ("all", 0o7777),
        ] {
            self.file(
                &Member {
                    mode,
                    ..Member::file(format!("./special/{path}"))
                },
                10,
            )?;
        }
        for length in [
            1, 2, 31, 59, 60, 100, 101, 255, 511, 512, 513, 1024, 2000, 4000,
        ] {
            let target = vec![b't'; length];
            self.tar
                .add(&Member::symlink(format!("./special/link-{length}"), target))?;
        }
        self.tar.add(&Member::symlink("./special/up", "../sizes"))?;
        let original = Member {
            uid: 7,
            ..Member::file("./special/original")
        };
        self.file(&original, 5000)?;
        for copy in 0..5 {
            self.tar.add(&Member::hard_link(
                format!("./special/copy-{copy}"),
                &original,
            ))?;
        }
        let inner = Member::symlink("./special/link-to-share", "original");
        self.tar.add(&inner)?;
        self.tar
            .add(&Member::hard_link("./special/shared-link", &inner))?;
        self.tar
            .add(&Member::device("./special/null", b'3', 1, 3))?;
        self.tar
            .add(&Member::device("./special/high", b'3', 300, 70_000))?;
        self.tar
            .add(&Member::device("./special/disk", b'4', 8, 17))?;
        self.tar
            .add(&Member::device("./special/whiteout", b'3', 0, 0))?;
        self.tar.add(&Member::device("./special/fifo", b'6', 0, 0))
    }

    fn times(&mut self) -> io::Result<()> {
        self.tar.add(&Member::dir("./times"))?;
        let times = [
            (0, 0),
            (0, 1),
            (1, 999_999_999),
            (1_700_000_000, 123_456_789),
            (1_700_000_000, 500_000_000),
            (-1, 0),
            (-1, 999_999_999),
            (-86_400, 250_000_000),
            (0x7fff_ffff, 0),
            (0x8000_0000, 5),
            (0xffff_ffff, 0),
            (0x1_0000_0000, 0),
            (0x3_0000_0000, 7),
        ];
        for (index, mtime) in times.into_iter().enumerate() {
            self.file(
                &Member {
                    mtime,
                    ..Member::file(format!("./times/{index}"))
                },
                1,
            )?;
        }
        for id in [
            1,
            65_534,
            65_535,
            65_536,
            2_097_151,
            2_097_152,
            0x7fff_ffff,
            0x8000_0000,
            0xffff_fffe,
        ] {
            self.file(
                &Member {
                    uid: id,
                    gid: id,
                    ..Member::file(format!("./times/id-{id}"))
                },
                1,
            )?;
        }
        Ok(())
    }

    /// Directories with a few dozen files each; most files small, a few large, as in `/usr`.
    fn tree(&mut self, files: u64) -> io::Result<()> {
        let mut dirs = vec!["./tree".to_owned()];
        self.tar.add(&Member::dir("./tree"))?;
        for file in 0..files {
            if file % 12 == 0 {
                let parent = self.random.pick(&dirs).clone();
                let dir = format!("{parent}/dir{file:06}");
                if dir.len() < 200 {
                    self.tar.add(&Member::dir(dir.clone()))?;
                    dirs.push(dir);
                }
            }
            let size = match self.random.below(100) {
                0..5 => 0,
                5..60 => self.random.below(4_000),
                60..95 => self.random.below(30_000),
                95..99 => self.random.below(300_000),
                _ => self.random.below(2_000_000),
            };
            let member = Member {
                mode: *self.random.pick(&[0o644, 0o755, 0o600, 0o4755]),
                uid: self.random.below(2_000),
                gid: self.random.below(2_000),
                mtime: (1_500_000_000 + self.random.below(200_000_000) as i64, 0),
                ..Member::file(format!("{}/file{file:06}", self.random.pick(&dirs)))
            };
            self.file(&member, size)?;
            if self.random.one_in(20) {
                let path = format!("{}/link{file:06}", self.random.pick(&dirs));
                self.tar.add(&Member::hard_link(path, &member))?;
            }
            if self.random.one_in(10) {
                let path = format!("{}/symlink{file:06}", self.random.pick(&dirs));
                self.tar
                    .add(&Member::symlink(path, format!("../file{file:06}")))?;
            }
        }
        Ok(())
    }

    fn wide(&mut self, files: u64) -> io::Result<()> {
        self.tar.add(&Member::dir("./wide"))?;
        for file in 0..files {
            // A multiplication by an odd number visits every name once, in no order a sort would like.
            let name = (file.wrapping_mul(2_654_435_761)) & 0xffff_ffff;
            let size = if file % 1000 == 0 { 100 } else { 0 };
            self.file(&Member::file(format!("./wide/entry-{name:08x}")), size)?;
        }
        Ok(())
    }

    fn big(&mut self, size: u64) -> io::Result<()> {
        self.file(&Member::file("./before"), 777)?;
        self.file(&Member::file("./big"), size)?;
        self.file(&Member::file("./after"), 4_097)
    }
}
