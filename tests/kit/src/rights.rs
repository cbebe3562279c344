// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! `rights`: how a file may be mapped and executed where a security module has a say.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use rustix::mm::MprotectFlags;
use rustix::mm::ProtFlags;

use crate::enter;
use crate::errno;
use crate::raw;
use crate::raw::mapping::Mapping;

const PAGE: usize = 4096;

/// Maps FILEs in many ways, makes the mappings executable, and calls what is in them.
///
/// Prints a line for each way: what is in the file returned, or the error of the first call that failed. So what
/// one file system allows can be compared with what another does. The files must begin with the code of a
/// function without arguments.
#[derive(clap::Args)]
pub struct Args {
    /// Written to /proc/self/attr/current once the files are open: another domain.
    #[arg(long)]
    enter: Option<String>,
    /// Standard input is one of the files.
    #[arg(long)]
    stdin: bool,
    files: Vec<PathBuf>,
}

/// What is done to a mapping.
#[derive(Clone, Copy)]
enum Step {
    Protect(MprotectFlags),
    /// The first page only.
    ProtectPage(MprotectFlags),
    /// Writes to it what is there already, so that a page of it is the process' own.
    Write,
    /// Makes it one page longer, and has the kernel move it for that.
    Grow,
}
use Step::*;

const R: ProtFlags = ProtFlags::READ;
const RW: ProtFlags = R.union(ProtFlags::WRITE);
const RX: ProtFlags = R.union(ProtFlags::EXEC);
const LATER_R: MprotectFlags = MprotectFlags::READ;
const LATER_RX: MprotectFlags = LATER_R.union(MprotectFlags::EXEC);

/// A way to code of a file.
struct Way {
    name: &'static str,
    /// The mapping is made before the process enters another domain.
    early: bool,
    shared: bool,
    /// The protection at first.
    protection: ProtFlags,
    /// With READ_IMPLIES_EXEC.
    implied: bool,
    /// What follows.
    steps: &'static [Step],
}

const fn way(name: &'static str, protection: ProtFlags, steps: &'static [Step]) -> Way {
    Way {
        name,
        early: false,
        shared: false,
        protection,
        implied: false,
        steps,
    }
}

const fn shared(way: Way) -> Way {
    Way {
        shared: true,
        ..way
    }
}

const fn early(way: Way) -> Way {
    Way { early: true, ..way }
}

const fn implied(way: Way) -> Way {
    Way {
        implied: true,
        ..way
    }
}

const WAYS: &[Way] = &[
    way("private rx", RX, &[]),
    shared(way("shared rx", RX, &[])),
    way("private rwx", RW.union(RX), &[]),
    implied(way("private r, which implies x", R, &[])),
    way("private r, later rx", R, &[Protect(LATER_RX)]),
    shared(way("shared r, later rx", R, &[Protect(LATER_RX)])),
    way("private rw, later rx", RW, &[Protect(LATER_RX)]),
    way(
        "private rw, written, later rx",
        RW,
        &[Write, Protect(LATER_RX)],
    ),
    way(
        "no access, later rx",
        ProtFlags::empty(),
        &[Protect(LATER_RX)],
    ),
    way("private r, a page later rx", R, &[ProtectPage(LATER_RX)]),
    way("private r, grown, later rx", R, &[Grow, Protect(LATER_RX)]),
    shared(way(
        "shared r, grown, later rx",
        R,
        &[Grow, Protect(LATER_RX)],
    )),
    way(
        "private rx, later r, then rx",
        RX,
        &[Protect(LATER_R), Protect(LATER_RX)],
    ),
    implied(way(
        "no access, later r, which implies x",
        ProtFlags::empty(),
        &[Protect(LATER_R)],
    )),
    early(way("private r before, rx after", R, &[Protect(LATER_RX)])),
    early(shared(way(
        "shared r before, rx after",
        R,
        &[Protect(LATER_RX)],
    ))),
    early(way(
        "private rx before, r and rx after",
        RX,
        &[Protect(LATER_R), Protect(LATER_RX)],
    )),
];

/// An open file, and what it is mapped by if that was done early.
type Opened = (File, Option<rustix::io::Result<Mapping>>);

/// Something that is to be mapped in all ways.
struct Subject {
    name: String,
    /// Only read.
    reader: File,
    /// Each way has its own, for a security module may remember with an open file what was allowed before.
    ways: Vec<Opened>,
}

impl Subject {
    fn open(name: String, open: impl Fn() -> std::io::Result<File>) -> std::io::Result<Self> {
        let reader = open()?;
        let mut ways = Vec::new();
        for way in WAYS {
            let file = open()?;
            let mapping = way.early.then(|| map(&file, way));
            ways.push((file, mapping));
        }
        Ok(Subject { name, reader, ways })
    }

    fn print(self) {
        let name = self.name;
        let read = self.reader.read_at(&mut [0], 0);
        let read = read.map_or_else(|error| errno::io_name(&error), |count| count.to_string());
        println!("{name}: read: {read}");
        for (way, (file, mapping)) in WAYS.iter().zip(self.ways) {
            let result = mapping
                .unwrap_or_else(|| map(&file, way))
                .and_then(|mapping| finish(mapping, way))
                .map_or_else(errno::name, |value| value.to_string());
            println!("{name}: {}: {result}", way.name);
        }
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut subjects = Vec::new();
    if args.stdin {
        let open = || {
            std::io::stdin()
                .as_fd()
                .try_clone_to_owned()
                .map(File::from)
        };
        subjects.push(Subject::open("standard input".to_owned(), open).context("standard input")?);
    }
    for path in &args.files {
        let name = path.file_name().unwrap_or(OsStr::new("")).to_string_lossy();
        let subject = Subject::open(name.into_owned(), || File::open(path));
        subjects.push(subject.with_context(|| path.display().to_string())?);
    }
    if let Some(text) = &args.enter {
        enter::current(text)?;
    }
    for subject in subjects {
        subject.print();
    }
    Ok(ExitCode::SUCCESS)
}

fn map(file: &File, way: &Way) -> rustix::io::Result<Mapping> {
    let act = || Mapping::protected(file, 2 * PAGE, way.shared, way.protection);
    if way.implied {
        raw::read_implies_exec(act)
    } else {
        act()
    }
}

fn finish(mut mapping: Mapping, way: &Way) -> rustix::io::Result<u32> {
    for step in way.steps {
        match *step {
            Protect(protection) if way.implied => {
                raw::read_implies_exec(|| mapping.protect(2 * PAGE, protection))?;
            }
            Protect(protection) => mapping.protect(2 * PAGE, protection)?,
            ProtectPage(protection) => mapping.protect(PAGE, protection)?,
            Write => mapping.fill(|bytes| {
                let byte = std::hint::black_box(bytes[0]);
                bytes[0] = std::hint::black_box(byte);
            }),
            Grow => mapping.resize(3 * PAGE)?,
        }
    }
    Ok(mapping.call())
}
