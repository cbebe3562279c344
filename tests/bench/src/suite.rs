// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! Which work is measured, on which systems, from which state of the caches.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;

use crate::meter::Meter;
use crate::meter::Sample;
use crate::random::Random;
use crate::results::Group;
use crate::results::Results;
use crate::results::Row;
use crate::system::System;
use crate::system::System::Erofs;
use crate::system::System::ErofsDirect;
use crate::system::System::Ext4;
use crate::system::System::Ferofs;
use crate::system::System::Raw;
use crate::system::Tree;
use crate::system::drop_caches;
use crate::system::drop_names;
use crate::work;

/// What `run` is told.
#[derive(clap::Args)]
pub struct Args {
    /// The mounted disk of make-data.
    #[arg(long)]
    disk: PathBuf,
    /// The device of that disk.
    #[arg(long)]
    device: PathBuf,
    /// A directory on a disk to write to.
    #[arg(long)]
    work: PathBuf,
    /// Where the results go: results.json and results.md.
    #[arg(long)]
    out: PathBuf,
    /// How often everything is measured.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Measure only what has one of these words in its name.
    #[arg(long)]
    only: Vec<String>,
}

/// Several mounts of images that share one blob.
const MOUNTS: usize = 20;

/// How often a mount is repeated in one measurement.
const MOUNT_TIMES: usize = 20;

struct Suite {
    disk: PathBuf,
    work: PathBuf,
    meter: Meter,
    repeat: usize,
    only: Vec<String>,
    results: Results,
}

/// How ferofs is to compare with another system.
type Aims = &'static [(System, f64)];

/// Measures everything.
pub fn run(args: &Args) -> Result<()> {
    let files = list(&args.disk.join("files"))?;
    let tar = fs::metadata(args.disk.join("usr.tar"))?.len();
    let paths = list(&args.disk.join("paths"))?;
    let mut suite = Suite {
        disk: args.disk.clone(),
        work: args.work.clone(),
        meter: Meter::new(&args.device)?,
        repeat: args.repeat,
        only: args.only.clone(),
        results: Results::new(format!(
            "Linux {}; tar of {} MB with {} entries, of which {} are files; medians of {}",
            release()?,
            tar / 1_000_000,
            paths.len(),
            files.len(),
            args.repeat,
        )),
    };
    suite.reading(&files)?;
    suite.large_file(&files)?;
    suite.compressed(&files)?;
    suite.names(&paths)?;
    suite.wide()?;
    suite.programs()?;
    suite.mounting()?;
    suite.sharing()?;
    suite.building()?;
    suite.results.write(&args.out)
}

fn list(path: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.lines().map(PathBuf::from).collect())
}

impl Suite {
    /// Measures one thing: for each system, as often as asked for, `prepare` and then `work`, of which
    /// only the latter counts.
    fn case<T>(
        &mut self,
        name: &str,
        systems: &[System],
        aims: Aims,
        mut prepare: impl FnMut(&Self, System, usize) -> Result<T>,
        mut work: impl FnMut(System, &mut T) -> Result<()>,
    ) -> Result<()> {
        if !self.wanted(name) {
            return Ok(());
        }
        let mut row = Row::new(name, Group::Reading, aims);
        for &system in systems {
            for time in 0..self.repeat {
                let mut state = prepare(self, system, time)
                    .with_context(|| format!("{name}, {}", system.name()))?;
                let sample = self
                    .meter
                    .measure(|| work(system, &mut state))
                    .with_context(|| format!("{name}, {}", system.name()))?;
                row.add(system, sample);
            }
        }
        self.results.add(row);
        Ok(())
    }

    fn wanted(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| name.contains(word.as_str()))
    }

    /// A tree, freshly mounted, with nothing cached.
    fn cold(&self, system: System, name: &str) -> Result<Tree> {
        let tree = system.tree(&self.disk, name)?;
        drop_caches()?;
        Ok(tree)
    }

    fn reading(&mut self, files: &[PathBuf]) -> Result<()> {
        let all = [Ferofs, Erofs, ErofsDirect, Ext4, System::Squashfs, Raw];
        let tar = self.disk.join("usr.tar");
        let prepare = |suite: &Self, system: System, _| match system {
            Raw => drop_caches().map(|()| None),
            _ => suite.cold(system, "usr").map(Some),
        };
        self.case(
            "cold read of all files, tar order",
            &all,
            &[(Erofs, 0.6), (Raw, 1.1)],
            prepare,
            |_, tree| match tree {
                Some(tree) => work::read_files(tree.path(), files),
                None => work::read_file(&tar, &mut vec![0; work::READ]).map(drop),
            },
        )?;
        self.case(
            "cold read of all files, random order",
            System::TREES,
            &[(Erofs, 0.6)],
            |suite, system, time| {
                let mut files = files.to_vec();
                Random::new(time as u64).shuffle(&mut files);
                Ok((suite.cold(system, "usr")?, files))
            },
            |_, (tree, files)| work::read_files(tree.path(), files),
        )?;
        self.case(
            "read of all files, only the tar cached",
            &[Ferofs, Erofs, ErofsDirect, Raw],
            &[(Erofs, 0.6)],
            |suite, system, time| {
                let tree = prepare(suite, system, time)?;
                work::read_file(&tar, &mut vec![0; work::READ])?;
                Ok(tree)
            },
            |_, tree| match tree {
                Some(tree) => work::read_files(tree.path(), files),
                None => work::read_file(&tar, &mut vec![0; work::READ]).map(drop),
            },
        )?;
        self.case(
            "warm read of all files",
            System::TREES,
            &[],
            |suite, system, _| {
                let tree = suite.cold(system, "usr")?;
                work::read_files(tree.path(), files)?;
                Ok(tree)
            },
            |_, tree| work::read_files(tree.path(), files),
        )?;
        self.case(
            "cold mmap of all files, random order",
            System::TREES,
            &[],
            |suite, system, time| {
                let mut files = files.to_vec();
                Random::new(time as u64).shuffle(&mut files);
                Ok((suite.cold(system, "usr")?, files))
            },
            |_, (tree, files)| work::touch_files(tree.path(), files),
        )?;
        self.case(
            "cold read of all files, 8 readers at once",
            System::TREES,
            &[(Erofs, 0.6)],
            |suite, system, _| suite.cold(system, "usr"),
            |_, tree| {
                let every_eighth = |reader| files.iter().skip(reader).step_by(8);
                work::read_files_at_once(tree.path(), (0..8).map(every_eighth))
            },
        )?;
        self.case(
            "cold read of all files, 8 readers, a part of the tree each",
            System::TREES,
            &[(Erofs, 0.6)],
            |suite, system, _| suite.cold(system, "usr"),
            |_, tree| {
                let parts = files.chunks(files.len().div_ceil(8).max(1));
                work::read_files_at_once(tree.path(), parts.map(<[_]>::iter))
            },
        )
    }

    fn large_file(&mut self, files: &[PathBuf]) -> Result<()> {
        let tree = self.disk.join("tree");
        let mut largest = (0, PathBuf::new());
        for file in files {
            let size = fs::metadata(tree.join(file))?.len();
            if size > largest.0 {
                largest = (size, file.clone());
            }
        }
        let (size, file) = largest;
        let millions = size / 1_000_000;
        let tar = self.disk.join("usr.tar");
        let cold = |suite: &Self, system: System, _| suite.cold(system, "usr");
        let warm = |suite: &Self, system: System, _| {
            let tree = suite.cold(system, "usr")?;
            for _ in 0..2 {
                work::read_file(&tree.path().join(&file), &mut vec![0; work::READ])?;
            }
            Ok(tree)
        };
        self.case(
            &format!("cold sequential read, 128 KiB, {millions} MB file"),
            &[Ferofs, Erofs, ErofsDirect, Ext4, System::Squashfs, Raw],
            &[(Erofs, 0.6), (Raw, 1.1)],
            |suite, system, _| match system {
                Raw => drop_caches().map(|()| None),
                _ => suite.cold(system, "usr").map(Some),
            },
            |_, tree| match tree {
                Some(tree) => {
                    work::read_file(&tree.path().join(&file), &mut vec![0; work::READ]).map(drop)
                }
                None => work::read_beginning(&tar, size),
            },
        )?;
        self.case(
            &format!("warm sequential read, 128 KiB, {millions} MB file, 8 times"),
            System::TREES,
            &[(Erofs, 0.95)],
            warm,
            |_, tree| {
                let mut buffer = vec![0; work::READ];
                for _ in 0..8 {
                    work::read_file(&tree.path().join(&file), &mut buffer)?;
                }
                Ok(())
            },
        )?;
        let mut random = Random::new(1);
        let offsets: Vec<u64> = (0..20_000)
            .map(|_| random.below(size - work::PAGE as u64))
            .collect();
        self.case(
            "warm random pread of 4 KiB, 20,000 times",
            System::TREES,
            &[(Erofs, 1.0)],
            warm,
            |_, tree| work::read_pages(&tree.path().join(&file), &offsets),
        )?;
        let aligned: Vec<u64> = offsets.iter().map(|offset| offset & !4095).collect();
        self.case(
            "the same, at multiples of 4 KiB",
            System::TREES,
            &[(Erofs, 1.0)],
            warm,
            |_, tree| work::read_pages(&tree.path().join(&file), &aligned),
        )?;
        self.case(
            &format!("cold mmap of the {millions} MB file, sequential"),
            System::TREES,
            &[(Erofs, 0.25)],
            cold,
            |_, tree| work::touch(&tree.path().join(&file), None),
        )?;
        let mut pages: Vec<usize> = (0..size as usize / work::PAGE).collect();
        Random::new(2).shuffle(&mut pages);
        self.case(
            "cold mmap of it, random, every page",
            System::TREES,
            &[(Erofs, 0.75)],
            cold,
            |_, tree| work::touch(&tree.path().join(&file), Some(&pages)),
        )?;
        let few = &pages[..pages.len() / 16];
        self.case(
            "cold mmap of it, random, every 16th page",
            System::TREES,
            &[(Erofs, 0.75)],
            cold,
            |_, tree| work::touch(&tree.path().join(&file), Some(few)),
        )?;
        self.case(
            "mmap of it, sequential, only the tar cached",
            System::INDEXES,
            &[],
            |suite, system, _| {
                let tree = suite.cold(system, "usr")?;
                work::read_file(&tar, &mut vec![0; work::READ])?;
                Ok(tree)
            },
            |_, tree| work::touch(&tree.path().join(&file), None),
        )?;
        self.case(
            "warm mmap of it, sequential",
            System::TREES,
            &[],
            |suite, system, _| {
                let tree = suite.cold(system, "usr")?;
                work::touch(&tree.path().join(&file), None)?;
                Ok(tree)
            },
            |_, tree| work::touch(&tree.path().join(&file), None),
        )
    }

    /// Compressed images by mkfs.erofs.
    fn compressed(&mut self, files: &[PathBuf]) -> Result<()> {
        self.case(
            "LZ4: cold read of all files, in the tree's order",
            System::INDEXES,
            &[(Erofs, 0.85)],
            |suite, system, _| suite.cold(system, "lz4"),
            |_, tree| work::read_files(tree.path(), files),
        )?;
        self.case(
            "LZ4: cold read of all files, random order",
            System::INDEXES,
            &[],
            |suite, system, time| {
                let mut files = files.to_vec();
                Random::new(time as u64).shuffle(&mut files);
                Ok((suite.cold(system, "lz4")?, files))
            },
            |_, (tree, files)| work::read_files(tree.path(), files),
        )?;
        let mut large: Vec<(u64, PathBuf)> = files
            .iter()
            .map(|file| {
                let size = fs::metadata(self.disk.join("tree").join(file))?.len();
                Ok((size, file.clone()))
            })
            .collect::<Result<_>>()?;
        large.sort_unstable();
        large.drain(..large.len().saturating_sub(8));
        let mut random = Random::new(5);
        let places: Vec<(PathBuf, Vec<u64>)> = large
            .into_iter()
            .map(|(size, file)| {
                let offsets = (0..100).map(|_| random.below(size - work::PAGE as u64) & !4095);
                (file, offsets.collect())
            })
            .collect();
        for (name, image, aim) in [
            (
                "LZ4: cold random pread of 4 KiB, 100 times in each of 8 files",
                "lz4",
                0.85,
            ),
            ("ZSTD: the same", "zstd", 0.95),
        ] {
            let aims: Aims = if aim < 0.9 {
                &[(Erofs, 0.85)]
            } else {
                &[(Erofs, 0.95)]
            };
            self.case(
                name,
                System::INDEXES,
                aims,
                |suite, system, _| suite.cold(system, image),
                |_, tree| {
                    places.iter().try_for_each(|(file, offsets)| {
                        work::read_pages(&tree.path().join(file), offsets)
                    })
                },
            )?;
        }
        self.case(
            "LZ4: cold start of `python3 -c pass`",
            System::INDEXES,
            &[(Erofs, 0.8)],
            |suite, system, _| suite.cold(system, "lz4"),
            |_, tree| work::run_inside(tree.path(), &["/usr/bin/python3", "-c", "pass"]),
        )?;
        self.case(
            "ZSTD: cold read of all files, in the tree's order",
            System::INDEXES,
            &[(Erofs, 1.0)],
            |suite, system, _| suite.cold(system, "zstd"),
            |_, tree| work::read_files(tree.path(), files),
        )?;
        let python: Vec<&Path> = files
            .iter()
            .filter_map(|file| file.strip_prefix("usr/lib/python3.13").ok())
            .collect();
        for (name, image) in [
            ("DEFLATE: cold read of all files of Python", "deflate"),
            ("LZMA: cold read of all files of Python", "lzma"),
        ] {
            self.case(
                name,
                System::INDEXES,
                &[(Erofs, 1.0)],
                |suite, system, _| suite.cold(system, image),
                |_, tree| work::read_files(tree.path(), &python),
            )?;
        }
        Ok(())
    }

    fn names(&mut self, paths: &[PathBuf]) -> Result<()> {
        let find = |path: &Path| work::run(Command::new("find").arg(path).arg("-ls"));
        let empty = crate::system::place(1000)?;
        // The program itself is not what is to be read from the disk.
        let cold = |suite: &Self, system: System, _| {
            let tree = suite.cold(system, "usr")?;
            find(&empty)?;
            Ok(tree)
        };
        let warm = |suite: &Self, system: System, _| {
            let tree = suite.cold(system, "usr")?;
            find(tree.path())?;
            find(tree.path())?;
            Ok(tree)
        };
        self.case(
            "cold find -ls",
            System::TREES,
            &[(Erofs, 0.7)],
            cold,
            |_, tree| find(tree.path()),
        )?;
        self.case(
            "warm find -ls",
            System::TREES,
            &[(Erofs, 0.95)],
            warm,
            |_, tree| find(tree.path()),
        )?;
        let mut random = Random::new(3);
        let some: Vec<PathBuf> = (0..10_000)
            .filter_map(|_| {
                paths
                    .get(random.below(paths.len() as u64) as usize)
                    .cloned()
            })
            .collect();
        self.case(
            "cold lstat of 10,000 random paths",
            System::TREES,
            &[],
            cold,
            |_, tree| work::stat_paths(tree.path(), &some, true),
        )?;
        self.case(
            "warm lstat of 10,000 random paths",
            System::TREES,
            &[],
            warm,
            |_, tree| work::stat_paths(tree.path(), &some, true),
        )
    }

    fn wide(&mut self) -> Result<()> {
        // squashfs searches a directory from its beginning: 20 times as long, and minutes of a run.
        let systems = [Ferofs, Erofs, Ext4];
        let files = list(&self.disk.join("wide.files"))?;
        let mut hits = files;
        Random::new(4).shuffle(&mut hits);
        hits.truncate(10_000);
        let misses: Vec<PathBuf> = hits.iter().map(|path| path.with_extension("not")).collect();
        let cold = |suite: &Self, system: System, _| suite.cold(system, "wide");
        // The directory's blocks are cached, the names are not.
        let warm = |suite: &Self, system: System, _| {
            let tree = suite.cold(system, "wide")?;
            fs::read_dir(tree.path().join("directory"))?.for_each(drop);
            work::stat_paths(tree.path(), &hits, true)?;
            drop_names()?;
            Ok(tree)
        };
        for (name, prepare) in [
            (
                "cold",
                &cold as &dyn Fn(&Self, System, usize) -> Result<Tree>,
            ),
            ("warm", &warm),
        ] {
            for (kind, paths) in [("hits", &hits), ("misses", &misses)] {
                self.case(
                    &format!("{name}: 10,000 {kind} in a directory of 100,000"),
                    &systems,
                    &[(Erofs, 0.9)],
                    prepare,
                    |_, tree| work::stat_paths(tree.path(), paths, kind == "hits"),
                )?;
            }
        }
        self.case(
            "cold listing of a directory of 100,000",
            &systems,
            &[],
            cold,
            |_, tree| {
                fs::read_dir(tree.path().join("directory"))?.for_each(drop);
                Ok(())
            },
        )
    }

    fn programs(&mut self) -> Result<()> {
        let commands: [(&str, &[&str]); 2] = [
            (
                "cold start of `python3 -c pass`",
                &["/usr/bin/python3", "-c", "pass"],
            ),
            (
                "cold start of `gcc --version`",
                &["/usr/bin/gcc", "--version"],
            ),
        ];
        for (name, command) in commands {
            self.case(
                name,
                System::TREES,
                &[(Erofs, 0.6)],
                |suite, system, _| suite.cold(system, "usr"),
                |_, tree| work::run_inside(tree.path(), command),
            )?;
            self.case(
                &name.replace("cold", "warm"),
                System::TREES,
                &[(Erofs, 1.0)],
                |suite, system, _| {
                    let tree = suite.cold(system, "usr")?;
                    work::run_inside(tree.path(), command)?;
                    work::run_inside(tree.path(), command)?;
                    Ok(tree)
                },
                |_, tree| work::run_inside(tree.path(), command),
            )?;
        }
        Ok(())
    }

    fn mounting(&mut self) -> Result<()> {
        let one = vec![self.disk.join("usr.tar")];
        let many: Vec<PathBuf> = (0..100)
            .map(|number| self.disk.join(format!("blobs/{number:02}.tar")))
            .collect();
        for (name, image, blobs) in [
            ("mount and unmount, 1 blob, 20 times", "usr.erofs", &one),
            (
                "mount and unmount, 100 blobs, 20 times",
                "hundred.erofs",
                &many,
            ),
        ] {
            let image = self.disk.join(image);
            self.case(
                name,
                System::INDEXES,
                &[(Erofs, 1.0)],
                |_, system, _| system.index(0, &image, blobs).map(drop),
                |system, ()| {
                    for _ in 0..MOUNT_TIMES {
                        system.index(0, &image, blobs)?;
                    }
                    Ok(())
                },
            )?;
        }
        Ok(())
    }

    /// Images that differ, over one blob: what the first costs, and what each further one does.
    fn sharing(&mut self) -> Result<()> {
        let files = list(&self.disk.join("small.files"))?;
        let blobs = vec![self.disk.join("small.tar")];
        let millions = fs::metadata(&blobs[0])?.len() / 1_000_000;
        let images: Vec<PathBuf> = (0..MOUNTS)
            .map(|number| self.disk.join(format!("small/{number:02}.erofs")))
            .collect();
        for (way, use_files) in [
            (
                "read",
                work::read_files::<PathBuf> as fn(&Path, &[PathBuf]) -> Result<()>,
            ),
            ("mmap", work::touch_files),
        ] {
            let name = format!("20 images over one blob of {millions} MB, {way} in full");
            if !self.wanted(&name) {
                continue;
            }
            let mut first = Row::new(&format!("{name}: the first"), Group::Reading, &[]);
            let mut further = Row::new(&format!("{name}: each further one"), Group::Reading, &[]);
            for &system in System::INDEXES {
                for _ in 0..self.repeat {
                    let trees: Vec<Tree> = images
                        .iter()
                        .enumerate()
                        .map(|(number, image)| system.index(number, image, &blobs))
                        .collect::<Result<_>>()?;
                    drop_caches()?;
                    let Some((one, others)) = trees.split_first() else {
                        continue;
                    };
                    first.add(
                        system,
                        self.meter.measure(|| use_files(one.path(), &files))?,
                    );
                    let sample = self.meter.measure(|| {
                        others
                            .iter()
                            .try_for_each(|tree| use_files(tree.path(), &files))
                    })?;
                    further.add(system, divided(sample, MOUNTS - 1));
                }
            }
            self.results.add(first);
            self.results.add(further);
        }
        Ok(())
    }

    /// What it takes to get from a tar to something that can be mounted, or to a tree.
    fn building(&mut self) -> Result<()> {
        let layers: Vec<PathBuf> = (0..8)
            .map(|number| self.disk.join(format!("layers/{number}.tar")))
            .collect();
        for (name, tars, cached) in [
            ("the tar, cached", vec![self.disk.join("usr.tar")], true),
            (
                "the tar, not cached",
                vec![self.disk.join("usr.tar")],
                false,
            ),
            ("8 layers", layers, true),
            (
                "a directory of 20,000 files",
                vec![self.disk.join("fifth.tar")],
                true,
            ),
            (
                "a directory of 100,000 files",
                vec![self.disk.join("wide.tar")],
                true,
            ),
        ] {
            let name = format!("build: {name}");
            if !self.wanted(&name) {
                continue;
            }
            let mut row = Row::new(&name, Group::Building, &[(Erofs, 0.5)]);
            for system in [Ferofs, Erofs, Ext4] {
                // Insertion into a directory is linear in mkfs.erofs: it would take a quarter of an hour.
                if system == Erofs && name.contains("100,000") {
                    continue;
                }
                for _ in 0..self.repeat {
                    row.add(system, self.build(system, &tars, cached)?);
                }
            }
            self.results.add(row);
        }
        self.copying()?;
        self.merging()
    }

    /// Images that have the data in them: with mkfs.erofs, --tar=f.
    fn copying(&mut self) -> Result<()> {
        let name = "build: the tar with its data, cached";
        if !self.wanted(name) {
            return Ok(());
        }
        let tar = self.disk.join("usr.tar");
        let mut row = Row::new(name, Group::Building, &[(Erofs, 0.5)]);
        for system in [Ferofs, Erofs] {
            for _ in 0..self.repeat {
                let out = self.work.join("build");
                fs::create_dir_all(&out)?;
                drop_caches()?;
                work::read_file(&tar, &mut vec![0; work::READ])?;
                let mut command = match system {
                    Ferofs => Command::new("ferofs"),
                    _ => Command::new("mkfs.erofs"),
                };
                let image = out.join("full.erofs");
                match system {
                    Ferofs => command.args(["build", "-q", "--mode=full", "-o"]),
                    _ => command.args(["--quiet", "--tar=f"]),
                };
                command.arg(image).arg(&tar);
                let sample = self.meter.measure(|| work::run(&mut command))?;
                row.add(system, sample);
                fs::remove_dir_all(&out)?;
            }
        }
        self.results.add(row);
        Ok(())
    }

    /// One image of the indexes of 8 layers, each by its own tool.
    fn merging(&mut self) -> Result<()> {
        let name = "merge: 8 indexes";
        if !self.wanted(name) {
            return Ok(());
        }
        let mut row = Row::new(name, Group::Building, &[(Erofs, 0.5)]);
        for system in [Ferofs, Erofs] {
            let out = self.work.join("merge");
            fs::create_dir_all(&out)?;
            let mut indexes = Vec::new();
            for number in 0..8 {
                let index = out.join(format!("{number}.erofs"));
                let tar = self.disk.join(format!("layers/{number}.tar"));
                let mut command = match system {
                    Ferofs => Command::new("ferofs"),
                    _ => Command::new("mkfs.erofs"),
                };
                match system {
                    Ferofs => command.args(["build", "-q", "-o"]),
                    _ => command.args(["--quiet", "--tar=i"]),
                };
                work::run(command.arg(&index).arg(tar))?;
                indexes.push(index);
            }
            for _ in 0..self.repeat {
                let merged = out.join("merged.erofs");
                let mut command = match system {
                    Ferofs => Command::new("ferofs"),
                    _ => Command::new("mkfs.erofs"),
                };
                match system {
                    Ferofs => command.args(["merge", "-q", "-o"]),
                    _ => command.args(["--quiet", "--aufs", "--ovlfs-strip=1"]),
                };
                command.arg(&merged).args(&indexes);
                let sample = self.meter.measure(|| work::run(&mut command))?;
                row.add(system, sample);
                fs::remove_file(&merged)?;
            }
            fs::remove_dir_all(&out)?;
        }
        self.results.add(row);
        Ok(())
    }

    fn build(&self, system: System, tars: &[PathBuf], cached: bool) -> Result<Sample> {
        let out = self.work.join("build");
        fs::create_dir_all(&out)?;
        drop_caches()?;
        if cached {
            for tar in tars {
                work::read_file(tar, &mut vec![0; work::READ])?;
            }
        }
        for program in ["ferofs", "mkfs.erofs", "tar"] {
            work::run(Command::new(program).arg("--help"))?;
        }
        let sample = self.meter.measure(|| {
            for (number, tar) in tars.iter().enumerate() {
                let image = out.join(format!("{number}.erofs"));
                match system {
                    Ferofs => work::run(
                        Command::new("ferofs")
                            .args(["build", "-q", "-o"])
                            .arg(image)
                            .arg(tar),
                    ),
                    Erofs => work::run(
                        Command::new("mkfs.erofs")
                            .args(["--quiet", "--tar=i"])
                            .arg(image)
                            .arg(tar),
                    ),
                    _ => work::run(Command::new("tar").arg("-xpf").arg(tar).arg("-C").arg(&out)),
                }?;
            }
            Ok(())
        })?;
        fs::remove_dir_all(&out)?;
        Ok(sample)
    }
}

fn divided(sample: Sample, by: usize) -> Sample {
    Sample {
        cpu: sample.cpu / by as u64,
        wall: sample.wall / by as u64,
        cache: sample.cache / by as i64,
        reads: sample.reads / by as u64,
        read: sample.read / by as u64,
    }
}

/// The kernel's release.
fn release() -> Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(text.trim().to_owned())
}
