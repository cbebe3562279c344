// SPDX-License-Identifier: GPL-2.0-only OR MIT

//! The `ferofs` command as people and scripts use it: output, messages, exit codes, and what is
//! left behind.

#![allow(missing_docs)]

mod common;

use common::Scratch;
use common::archive::Archive;
use common::description;
use common::description_of_directory;
use common::wrong_image::seal_superblock;
use ferofs::digest::Digest;
use ferofs::error::Error;
use ferofs::image;
use ferofs::inspect::Image;
use ferofs::tree::scan::scan;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use std::fs;
use std::io::Cursor;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// A scratch directory with a tar in it, and the command run there.
struct Session(Scratch);

impl Session {
    fn new() -> Self {
        let scratch = Scratch::new();
        fs::write(scratch.join("layer.tar"), layer()).unwrap();
        Session(scratch)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferofs"));
        command
            .args(arguments)
            .current_dir(&self.0.0)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must be quiet and succeed; returns what it prints.
    fn good(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && errors.is_empty(),
            "{arguments:?}: {errors}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail with this exit code; returns its message.
    fn bad(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        errors
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Whether a process has a file open in the directory, with or without a name.
    fn is_written_to_by(&self, child: &Child) -> bool {
        let directory = fs::canonicalize(&self.0.0).unwrap();
        let open = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
        let mut open = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        open.any(|path| path.starts_with(&directory))
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).unwrap()
    }
}

fn layer() -> Vec<u8> {
    Archive::new()
        .directory("./")
        .directory("./etc/")
        .file("./etc/hostname", "iron\n")
        .symlink("./etc/mtab", "/proc/mounts")
        .hard_link("./name", "./etc/hostname")
        .end()
}

#[test]
fn builds_the_same_image_every_time() {
    let session = Session::new();
    for output in ["one", "two"] {
        assert_eq!(session.good(&["build", "-o", output, "layer.tar"]), "");
    }
    assert_eq!(session.read("one"), session.read("two"));
    session.good(&["build", "--digest", "-o", "tagged", "layer.tar"]);
    let mut child = session
        .command(&["build", "--output", "piped", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&layer()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(session.read("tagged"), session.read("piped"));
    let tag = format!("tag {}", Digest::of(&layer()));
    assert!(session.good(&["dump", "tagged"]).contains(&tag));
    assert!(session.good(&["dump", "one"]).contains("no tag"));
    assert_eq!(
        session.names(),
        ["layer.tar", "one", "piped", "tagged", "two"]
    );
}

#[test]
fn compressed_tars_are_written_plain_in_the_same_pass() {
    let session = Session::new();
    session.good(&["build", "--digest", "-o", "image", "layer.tar"]);
    let digest = format!("sha256:{}", Digest::of(&layer()));
    let wrong = format!("sha256:{}", Digest::of(b""));
    let bzip2 = "python3 -c 'import bz2, sys; \
                 sys.stdout.buffer.write(bz2.compress(sys.stdin.buffer.read()))'";
    for (name, tool) in [
        ("gzip", "gzip"),
        ("zstd", "zstd -q"),
        ("xz", "xz"),
        ("bzip2", bzip2),
    ] {
        session.0.sh(&format!("{tool} < layer.tar > layer"));
        let plain = ["build", "-o", "other", "--tar-out", "plain"];
        session.good(&[&plain[..], &["--expect", &digest, "layer"]].concat());
        assert_eq!(session.read("plain"), layer());
        assert_eq!(session.read("other"), session.read("image"));
        for made in ["plain", "other"] {
            fs::remove_file(session.0.join(made)).unwrap();
        }
        let message = session.bad(1, &["build", "-o", "other", "layer"]);
        assert!(
            message.contains("is compressed (") && message.contains("--tar-out"),
            "{message}"
        );
        let message = session.bad(1, &[&plain[..], &["--expect", &wrong, "layer"]].concat());
        assert!(
            message.contains(&digest[7..]) && message.contains(&wrong[7..]),
            "{message}"
        );
        let cut = session.read("layer");
        fs::write(session.0.join("cut"), &cut[..cut.len() / 2]).unwrap();
        let message = session.bad(1, &[&plain[..], &["cut"]].concat());
        assert!(message.contains(name), "{message}");
        assert_eq!(session.names(), ["cut", "image", "layer", "layer.tar"]);
    }
    session.good(&["build", "-o", "other", "--tar-out", "plain", "layer.tar"]);
    assert_eq!(session.read("plain"), layer());
    session.good(&["build", "-o", "other", "--expect", &digest, "layer.tar"]);
    assert_eq!(session.read("other"), session.read("image"));
    session.bad(1, &["build", "-o", "new", "--expect", &wrong, "layer.tar"]);
    session.bad(1, &["build", "-o", "new", "--tar-out", "new", "layer.tar"]);
    session.bad(
        1,
        &["build", "-o", "new", "--tar-out", "layer.tar", "layer.tar"],
    );
    session.bad(
        2,
        &["build", "-o", "new", "--expect", "sha256:12", "layer.tar"],
    );
    assert!(!session.names().contains(&"new".to_string()));
}

#[test]
fn dump_shows_tree_and_extents() {
    let session = Session::new();
    session.good(&["build", "-o", "image", "layer.tar"]);
    let tree = session.good(&["dump", "--tree", "image"]);
    let paths: Vec<_> = tree
        .lines()
        .map(|line| line.split(' ').next_back().unwrap())
        .collect();
    assert_eq!(
        paths,
        ["/", "/etc", "/etc/hostname", "/proc/mounts", "/name"]
    );
    let file = session.good(&["dump", "--path", "/etc/hostname", "image"]);
    assert!(
        file.contains("extent 0 to 5: in device 1 at 1536"),
        "{file}"
    );
    let message = session.bad(1, &["dump", "--path", "/etc/passwd", "image"]);
    assert!(
        message.contains("\"/etc/passwd\": not in the image"),
        "{message}"
    );
}

#[test]
fn leaves_nothing_behind_when_it_fails() {
    let session = Session::new();
    fs::write(session.0.join("broken.tar"), &layer()[..1538]).unwrap();
    fs::write(session.0.join("old"), b"old").unwrap();
    let message = session.bad(1, &["build", "-o", "old", "broken.tar"]);
    assert!(message.starts_with("ferofs: broken.tar: at offset 1536: entry \"./etc/hostname\":"));
    let message = session.bad(1, &["build", "-o", "layer.tar", "layer.tar"]);
    assert!(
        message.contains("layer.tar is the input layer.tar"),
        "{message}"
    );
    for arguments in [
        ["build", "-o", "image", "missing.tar"],
        ["build", "-o", "no/image", "layer.tar"],
        ["build", "-o", ".", "layer.tar"],
        ["build", "-o", "/dev/null", "layer.tar"],
        ["build", "-o", "-", "layer.tar"],
    ] {
        let message = session.bad(1, &arguments);
        assert!(
            message.starts_with("ferofs: ") && message.lines().count() == 1,
            "{message}"
        );
    }
    assert_eq!(session.read("old"), b"old");
    assert_eq!(session.read("layer.tar"), layer());
    assert_eq!(session.names(), ["broken.tar", "layer.tar", "old"]);
    session.bad(2, &["build", "layer.tar"]);
    session.bad(2, &["build", "--no-such-option"]);
    session.bad(2, &[]);
}

/// Waits for a child, but not for ever.
fn wait(child: &mut Child) -> std::process::ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "it does not end"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn leaves_nothing_behind_on_a_signal() {
    for (signal, code) in [
        ("INT", Some(130)),
        ("TERM", Some(143)),
        ("HUP", Some(129)),
        // Here it is the filesystem that leaves nothing behind.
        ("KILL", None),
    ] {
        let session = Session::new();
        let mut child = session
            .command(&["build", "-o", "image", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&layer()[..1024]).unwrap();
        let started = Instant::now();
        while !session.is_written_to_by(&child) {
            std::thread::sleep(Duration::from_millis(5));
            assert!(child.try_wait().unwrap().is_none());
            assert!(started.elapsed() < Duration::from_secs(20));
        }
        session.0.sh(&format!("kill -{signal} {}", child.id()));
        assert_eq!(wait(&mut child).code(), code);
        assert_eq!(session.names(), ["layer.tar"]);
        drop(stdin);
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let session = Session::new();
    let mut archive = Archive::new();
    for at in 0..20_000 {
        archive = archive.file(&format!("directory/a-name-of-some-length-{at}"), "");
    }
    fs::write(session.0.join("large.tar"), archive.end()).unwrap();
    session.good(&["build", "-o", "image", "large.tar"]);
    for command in ["dump --tree image", "--help", "build --help"] {
        let words: Vec<&str> = command.split(' ').collect();
        let mut command = session.command(&words);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut few = [0; 100];
        child.stdout.take().unwrap().read_exact(&mut few).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{words:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
    }
}

/// Whoever names a file may have the name from somebody else.
#[test]
fn messages_disturb_no_terminal() {
    let session = Session::new();
    let (name, shown) = ("a\x1b[31m\nb\r\u{9b}", "a\\x1b[31m\\nb\\x0d\\xc2\\x9b");
    let (tar, zipped) = (format!("{name}.tar"), format!("{name}.gz"));
    session.good(&["build", "-o", name, "layer.tar"]);
    fs::write(session.0.join(&tar), &layer()[..1300]).unwrap();
    fs::write(
        session.0.join(&zipped),
        [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0],
    )
    .unwrap();
    let (missing, reference) = (format!("{name}/x"), format!("oci:{name}/x:y"));
    for arguments in [
        &["build", "-o", "out", &missing][..],
        &["build", "-o", "out", &tar],
        &["build", "-o", "out", &zipped],
        &["build", "-o", name, name],
        &["build", "-o", &missing, "layer.tar"],
        &["build", "-o", "out", &reference],
        &["check", name, "-d", &tar],
        &["check", &missing],
        &["dump", &missing],
        &["dump", "--path", &missing, name],
        &["ls", &tar],
        &["ls", name, &missing],
        &["cat", name, "etc/hostname"],
        &["cat", "--blobs", &missing, name, "etc/hostname"],
        &["diff", &zipped, "layer.tar"],
        &["diff", name, &missing],
        &["merge", "-o", "out", name, &tar],
        &["mount", &missing, "/"],
        &["mount", name, &missing],
        &["umount", &missing],
    ] {
        let output = session.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let disturbing = said.chars().find(|&c| c.is_control() && c != '\n');
        assert_eq!(disturbing, None, "{arguments:?}: {said:?}");
        assert!(said.contains(&shown[..10]), "{arguments:?}: {said:?}");
        assert!(!said.contains("31m\nb"), "{arguments:?}: {said:?}");
    }
    // What is wrong with arguments takes several lines to say.
    for arguments in [
        &["build", "-o", "out", "--expect", name, "layer.tar"][..],
        &["build", &format!("--{name}"), "layer.tar"],
        &[name],
    ] {
        let said = session.bad(2, arguments);
        let disturbing = said.chars().find(|&c| c.is_control() && c != '\n');
        assert_eq!(disturbing, None, "{arguments:?}: {said:?}");
    }
}

#[test]
fn check_says_what_is_wrong_in_the_codes_of_fsck() {
    let session = Session::new();
    session.good(&["build", "--digest", "-o", "image", "layer.tar"]);
    let good = "image: 2 directories, 2 other files, no errors\n";
    assert_eq!(session.good(&["check", "image"]), good);
    assert_eq!(
        session.good(&["check", "image", "--device", "layer.tar", "--digest"]),
        good
    );
    assert_eq!(session.good(&["check", "--quiet", "image"]), "");

    let mut changed = layer();
    changed[2000] ^= 1;
    fs::write(session.0.join("changed.tar"), changed).unwrap();
    fs::write(session.0.join("short.tar"), &layer()[..1536]).unwrap();
    let message = session.bad(4, &["check", "image", "-d", "changed.tar", "--digest"]);
    assert!(message.contains("changed.tar: its sha256 is"), "{message}");
    let message = session.bad(4, &["check", "image", "-d", "short.tar"]);
    assert!(
        message.contains("device 1 has 1536 bytes, its slot says"),
        "{message}"
    );
    assert!(
        message.contains("\"/name\": its data at 0 is at 1536 to 1541"),
        "{message}"
    );

    session.bad(8, &["check", "missing"]);
    session.bad(8, &["check", "layer.tar"]);
    session.bad(8, &["check", "image", "-d", "layer.tar", "-d", "layer.tar"]);
    session.bad(16, &["check"]);
}

/// Where a file's inode is in an image.
fn inode_position(session: &Session, path: &str) -> u64 {
    let shown = session.good(&["dump", "--path", path, "image"]);
    let at = shown.split("inode at offset ").nth(1).unwrap();
    at.split(',').next().unwrap().parse().unwrap()
}

/// Puts the right checksum into an image.
fn seal(session: &Session) {
    let mut bytes = session.read("image");
    seal_superblock(&mut bytes);
    fs::write(session.0.join("image"), bytes).unwrap();
}

#[test]
fn check_finds_everything_not_just_the_first() {
    let session = Session::new();
    session.good(&["build", "-E", "sbcrc", "-o", "image", "layer.tar"]);
    let image = fs::OpenOptions::new()
        .write(true)
        .open(session.0.join("image"))
        .unwrap();
    // A wrong link count, and a wrong type in the directory that lists it.
    let file = inode_position(&session, "/etc/hostname");
    let etc = inode_position(&session, "/etc");
    image.write_all_at(&[7, 0], file + 6).unwrap();
    // The directory has its own inode's number as that of the link: it is in itself.
    let entries = etc + 32;
    let own = (etc / 32).to_le_bytes();
    image.write_all_at(&own, entries + 3 * 12).unwrap();
    seal(&session);
    let message = session.bad(4, &["check", "image"]);
    for expected in [
        "\"/name\": its link count is 7, but it has 2 names",
        "\"/etc/mtab\": it is the directory \"/etc\", and in it: a circle",
        "\"/etc/mtab\": its directory says type 7, its inode 2",
        "\"/etc\": its link count is 2, expected 3",
    ] {
        assert!(message.contains(expected), "{expected}\n{message}");
    }
    // A superblock that is not what its checksum says.
    image.write_all_at(&[1], 1024 + 16).unwrap();
    let message = session.bad(4, &["check", "image"]);
    assert!(message.contains("checksum"), "{message}");
}

#[test]
fn whiteouts_of_both_forms_become_those_of_one() {
    let session = Session::new();
    let layer = Archive::new()
        .directory("a/")
        .file("a/.wh.gone", "")
        .file("a/.wh..wh..opq", "")
        .file("a/.wh..wh.plnk", "")
        .file(".wh.new", "")
        .file("new", "replaces what was there")
        .file(".wh.dir", "")
        .directory("dir/")
        .header(common::archive::Header::new("device", b'3'))
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.opaque", "y"),
            ("SCHILY.xattr.user.a", "1"),
        ])
        .directory("overlay/")
        .file(".wh./kept", "")
        .end();
    fs::write(session.0.join("layer.tar"), layer).unwrap();
    let lines = |form: &str| {
        session.good(&["build", "--whiteouts", form, "-o", "image", "layer.tar"]);
        session.good(&["check", "image"]);
        let image = Image::open(&session.0.join("image")).unwrap();
        let files = description(&image, &session.0.join("layer.tar"));
        let shown = |file: &common::Described| {
            format!("{}{} {}", file.kind, file.path, file.xattrs.join(","))
        };
        files.iter().skip(1).map(shown).collect::<Vec<_>>()
    };
    let opaque = "trusted.overlay.opaque=y";
    assert_eq!(
        lines("overlay"),
        [
            "d/.wh. ".to_string(),
            "-/.wh./kept ".to_string(),
            format!("d/a {opaque},trusted.overlay.origin="),
            "c/a/gone ".to_string(),
            "c/device ".to_string(),
            format!("d/dir {opaque}"),
            "-/new ".to_string(),
            format!("d/overlay {opaque},user.a=1"),
        ]
    );
    assert_eq!(
        lines("aufs"),
        [
            "d/.wh. ",
            "-/.wh./kept ",
            "-/.wh.device ",
            "d/a ",
            "-/a/.wh..wh..opq ",
            "-/a/.wh.gone ",
            "d/dir ",
            "-/dir/.wh..wh..opq ",
            "-/new ",
            "d/overlay user.a=1",
            "-/overlay/.wh..wh..opq ",
        ]
    );
    assert_eq!(
        lines("applied"),
        [
            "d/.wh. ",
            "-/.wh./kept ",
            "d/a ",
            "d/dir ",
            "-/new ",
            "d/overlay user.a=1"
        ]
    );
    assert_eq!(lines("keep").len(), 12);
}

#[test]
fn directories_are_copied_with_their_data() {
    let session = Session::new();
    let script = "umask 022; mkdir -p root/d/e root/empty; echo data > root/d/file; \
                  ln root/d/file root/again; ln -s d/file root/link; mkfifo root/fifo; \
                  head -c 10000 layer.tar > root/large; chmod 4711 root/large; \
                  touch -d @1700000000.123456789 root/d/file root/d; chmod 1777 root";
    session.0.sh(script);
    session.good(&["build", "-o", "image", "root"]);
    session.good(&["check", "image"]);
    let image = Image::open(&session.0.join("image")).unwrap();
    let comparable = |mut file: common::Described| {
        // Filesystems differ in what they count as links of a directory.
        file.links = if file.kind == 'd' { 0 } else { file.links };
        // Attributes that the machine adds, as some do.
        file.xattrs.clear();
        file
    };
    let ours = description(&image, &session.0.join("layer.tar"))
        .into_iter()
        .map(comparable);
    let theirs = description_of_directory(&session.0.join("root"))
        .into_iter()
        .map(comparable);
    assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>());
    session.good(&["build", "--mode", "meta", "-o", "meta", "root"]);
    session.good(&["check", "meta"]);
    for option in [
        &["--digest"] as &[&str],
        &["--mode", "index"],
        &["--tar-out", "t"],
    ] {
        let message = session.bad(1, &[&["build", "-o", "new", "root"], option].concat());
        assert!(message.contains("root is a directory, but --"), "{message}");
    }
}

#[test]
fn directories_may_be_deeper_than_paths_are_long() {
    let session = Session::new();
    let name = "d".repeat(250);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let mut directory = rustix::fs::open(&session.0.0, flags, Mode::empty()).unwrap();
    for name in std::iter::once("deep").chain(std::iter::repeat_n(&*name, 40)) {
        rustix::fs::mkdirat(&directory, name, 0o755.into()).unwrap();
        directory = rustix::fs::openat(&directory, name, flags, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    let file = rustix::fs::openat(&directory, "file", flags, 0o644.into()).unwrap();
    fs::File::from(file).write_all(&[7; 5000]).unwrap();
    rustix::fs::symlinkat("file", &directory, "link").unwrap();
    session.good(&["build", "-o", "image", "deep"]);
    session.good(&["check", "image"]);
    session.0.sh("tar -C deep -cf deep.tar .");
    let ignored = "--ignore=mtime,links,xattr";
    assert_eq!(session.good(&["diff", ignored, "image", "deep.tar"]), "");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let session = Session::new();
    session
        .0
        .sh("mkdir root; echo data > root/file; echo data > root/short");
    let root = session.0.join("root");
    let tree = scan(&root, &mut |_| {}).unwrap();
    session.0.sh("rm root/file; : > root/short");
    for (name, problem) in [
        ("file", "No such file or directory"),
        ("short", "it became shorter while it was read"),
    ] {
        let options = image::Options::default()
            .with_block_bits(12)
            .with_mode(image::Mode::Full);
        let source = image::source::Directory::new(root.clone());
        let out = Cursor::new(Vec::new());
        let error = image::write(&tree, &options, &source, out).unwrap_err();
        let error = Error::image(Path::new("image"))(error);
        let expected = format!("the data of \"/{name}\" cannot be read: {problem}");
        assert_eq!(error.to_string(), format!("cannot write image: {expected}"));
        let path = root.join(name);
        let expected = format!("cannot read {}: {problem}", path.display());
        assert_eq!(error.below(&root).to_string(), expected);
        fs::write(&path, "data\n").unwrap();
    }
}

#[test]
fn an_image_is_no_tar() {
    let session = Session::new();
    session.good(&["build", "-o", "image", "layer.tar"]);
    let expected = "ferofs: image: at offset 1024: an EROFS image, expected a tar archive\n";
    assert_eq!(session.bad(1, &["build", "-o", "new", "image"]), expected);
    // Some other filesystem; and an archive of nothing, as tar writes it.
    fs::write(
        session.0.join("ext4"),
        [vec![0; 1080], vec![0x53, 0xef]].concat(),
    )
    .unwrap();
    let said = session.run(&["build", "-o", "new", "ext4"]).stderr;
    let said = String::from_utf8(said).unwrap();
    assert!(
        said.starts_with("ferofs: ext4: at offset 0: the archive ends here, but"),
        "{said}"
    );
    session.0.sh("tar -cf nothing.tar -T /dev/null");
    session.good(&["build", "-o", "new", "nothing.tar"]);
    fs::remove_file(session.0.join("new")).unwrap();
}

#[test]
fn tars_are_copied_with_their_data() {
    let session = Session::new();
    session.good(&["build", "--mode", "full", "-o", "one", "layer.tar"]);
    session.0.sh("gzip < layer.tar > layer.gz");
    session.good(&["build", "--mode", "full", "-o", "two", "layer.gz"]);
    assert_eq!(session.read("one"), session.read("two"));
    assert_eq!(session.names(), ["layer.gz", "layer.tar", "one", "two"]);
    session.good(&["build", "--mode=meta", "-o", "meta", "layer.gz"]);
    let uuid = "123e4567-e89b-12d3-a456-426614174000";
    session.good(&[
        "build",
        "-L",
        "a label",
        "-U",
        uuid,
        "-o",
        "two",
        "layer.tar",
    ]);
    let shown = session.good(&["dump", "two"]);
    assert!(
        shown.contains("\"a label\"") && shown.contains(uuid),
        "{shown}"
    );
    for option in [
        ["-U", "123"],
        ["-L", "seventeen letters"],
        ["-b", "1000"],
        ["--align", "3"],
    ] {
        session.bad(
            2,
            &[&["build", "-o", "two", "layer.tar"], &option[..]].concat(),
        );
    }
}

#[test]
fn mkfs_takes_the_command_lines_of_containerd() {
    let session = Session::new();
    let mkfs = session.0.join("mkfs.erofs");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_ferofs"), &mkfs).unwrap();
    let run = |arguments: &str, stdin: Option<&str>| {
        let mut command = Command::new(&mkfs);
        command
            .args(arguments.split(' '))
            .current_dir(&session.0.0)
            .stdin(Stdio::null());
        if let Some(stdin) = stdin {
            command.stdin(fs::File::open(session.0.join(stdin)).unwrap());
        }
        command.output().unwrap()
    };
    let good = |arguments: &str, stdin: Option<&str>| {
        let output = run(arguments, stdin);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && errors.is_empty(),
            "{arguments}: {errors}"
        );
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(good("--help", None).contains("--tar="));
    let uuid = "123e4567-e89b-12d3-a456-426614174000";
    let full = format!("--tar=f --aufs --quiet -Enoinline_data -b4096 -U {uuid} full");
    assert_eq!(good(&full, Some("layer.tar")), "");
    let shown = session.good(&["dump", "full"]);
    assert!(shown.contains("4096") && shown.contains(uuid), "{shown}");
    let index = format!("--tar=i --aufs --quiet -U {uuid} index");
    good(&index, Some("layer.tar"));
    good(&format!("{index} layer.tar"), None);
    session.good(&["check", "index", "--device", "layer.tar"]);
    good("--all-root -T5 -Llabel root .", None);
    let tree = session.good(&["dump", "--tree", "root"]);
    assert!(
        tree.lines()
            .all(|line| line.contains(" 0:0 ") && line.contains("1970-01-01 00:00:05"))
    );
    for bad in [
        "-zlz5 out .",
        "-Eno_such out .",
        "out",
        "out layer.tar",
        "--tar=x out layer.tar",
    ] {
        assert!(!run(bad, None).status.success(), "{bad}");
    }
}
