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
    way("private rw, written, later rx", RW, &[Write, Protect(LATER_RX)]),
    way("no access, later rx", ProtFlags::empty(), &[Protect(LATER_RX)]),
    way("private r, a page later rx", R, &[ProtectPage(LATER_RX)]),
    way("private r, grown, later rx", R, &[Grow, Protect(LATER_RX)]),
    shared(way("shared r, grown, later rx", R, &[Grow, Protect(LATER_RX)])),
    way("private rx, later r, then rx", RX, &[Protect(LATER_R), Protect(LATER_RX)]),
    implied(way("no access, later r, which implies x", ProtFlags::empty(), &[Protect(LATER_R)])),
    early(way("private r before, rx after", R, &[Protect(LATER_RX)])),
    early(shared(way("shared r before, rx after", R, &[Protect(LATER_RX)]))),
    early(way("private rx before, r and rx after", RX, &[Protect(LATER_R), Protect(LATER_RX)])),
];

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut files = Vec::new();
    if args.stdin {
        let file = std::io::stdin().as_fd().try_clone_to_owned()?;
        files.push(("standard input".to_owned(), File::from(file)));
    }
    for path in &args.files {
        let name = path.file_name().unwrap_or(OsStr::new("")).to_string_lossy();
        let file = File::open(path).with_context(|| path.display().to_string())?;
        files.push((name.into_owned(), file));
    }
    let mut started = Vec::new();
    for (_, file) in &files {
        for way in WAYS {
            started.push(way.early.then(|| map(file, way)));
        }
    }
    if let Some(text) = &args.enter {
        enter::current(text)?;
    }
    let mut started = started.into_iter();
    for (name, file) in &files {
        let read = file.read_at(&mut [0], 0);
        println!("{name}: read: {}", read.map_or_else(|error| errno::io_name(&error), |n| n.to_string()));
        for way in WAYS {
            let mapping = started.next().flatten().unwrap_or_else(|| map(file, way));
            let result = mapping.and_then(|mapping| finish(mapping, way));
            println!("{name}: {}: {}", way.name, result.map_or_else(errno::name, |n| n.to_string()));
        }
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
