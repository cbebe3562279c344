#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Makes container images for the tests of peers: OCI layouts, from what this machine has.

    images.py DIRECTORY        in it: layout/, an OCI layout with the images app:1, deep:1 and those below, and app.tar,
                               deep.tar and so on, an archive of each as containerd imports it
    images.py --add LAYOUT IMAGE LAYER NEW ARCHIVE
                               an archive of the image NEW: the image with one layer more, of which the file is given
    images.py --wide LAYOUT DIRECTORY
                               a layout with the image wide:1, and the files of its layer in the directory

app:1 has two layers: python3 and busybox; and what changes them in every way that a layer can: whiteouts, opaque
directories, kinds that are exchanged, attributes, devices. deep:1 has the first layer, which is in the archive of app:1
only, and 99 small ones, each of which changes, adds and removes a file. tall:1 has it and 499 of the smallest. kinds:1 has a layer in each form that a layer can
have, two of them the same; its first layers are those of app:1 in other forms, so their diff IDs are known.
wide:1 has one layer: 48 files of 1 MiB, called 0 to 47, half of which can be compressed, and no page of which is zeros.
short:1, wrong:1 and text:1 each have a last layer that is no good: a gzip that ends in the middle, one with the diff ID of
another, one that is no archive. Called by tests/peers/*.sh.
"""

import gzip
import hashlib
import io
import json
import os
import random
import struct
import subprocess
import sys
import tarfile
import tempfile

TIME = 1700000000
DEEP = 100
TALL = 500


class Layer:
    """A tar of a layer, in the order in which things are added."""

    def __init__(self):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=tarfile.PAX_FORMAT)
        self.directory(".")

    def add(self, name, kind=tarfile.REGTYPE, content=b"", mode=None, pax=None, **fields):
        info = tarfile.TarInfo(name)
        info.type = kind
        info.size = len(content)
        info.mtime = TIME
        info.mode = mode if mode is not None else 0o755 if kind == tarfile.DIRTYPE else 0o644
        info.pax_headers = pax or {}
        for field, value in fields.items():
            setattr(info, field, value)
        self.tar.addfile(info, io.BytesIO(content))

    def directory(self, name, **fields):
        self.add(name, tarfile.DIRTYPE, **fields)

    def finish(self):
        self.tar.close()
        return self.bytes.getvalue()


def base():
    """Python, busybox, and some directories for the next layer to change."""
    version = os.path.basename(os.path.realpath("/usr/bin/python3"))
    # The modules without which it does not start.
    listed = subprocess.run(["python3", "-c", "import sys; print(*(getattr(module, '__file__', None) or '' for module in "
                             "sys.modules.values()))"], check=True, capture_output=True, text=True).stdout.split()
    libraries = [word for word in subprocess.run(["ldd", f"/usr/bin/{version}"], check=True, capture_output=True,
                                                 text=True).stdout.split() if word.startswith("/")]
    paths = {"/usr/bin/busybox"}
    for path in ["/usr/bin/python3"] + listed + libraries:
        # What was libraries' /lib is /usr/lib.
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        while not os.path.isdir(path) and path not in paths and os.path.lexists(path):
            paths.add(path)
            if os.path.islink(path):
                path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
    paths = sorted(path for path in paths if path.startswith("/usr/") and "/share/" not in path)

    layer = Layer()
    directories = set()
    for path in paths:
        parts = path.lstrip("/").split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            directory = "/".join(parts[:depth])
            if directory not in directories:
                directories.add(directory)
                layer.directory(directory)
        if os.path.islink(path):
            layer.add(path[1:], tarfile.SYMTYPE, linkname=os.readlink(path), mode=0o777)
        else:
            with open(path, "rb") as file:
                layer.add(path[1:], content=file.read(), mode=os.stat(path).st_mode & 0o777)
    # Python looks for it, and says so if it is not there.
    layer.directory(f"usr/lib/{version}/lib-dynload")
    for name in ("bin", "lib", "lib64", "sbin"):
        if not os.path.isdir(f"/usr/{name}"):
            continue
        if f"usr/{name}" not in directories:
            layer.directory(f"usr/{name}")
        layer.add(name, tarfile.SYMTYPE, linkname=f"usr/{name}", mode=0o777)
    for name in ("dev", "etc", "proc", "sys", "tmp", "run"):
        layer.directory(name, mode=0o1777 if name == "tmp" else 0o755)
    layer.add("etc/passwd", content=b"root:x:0:0:root:/:/bin/sh\n")
    layer.add("etc/motd", content=b"the first layer's\n")
    for name in ("opaque", "deleted", "kept", "becomes-file"):
        layer.directory(f"srv/{name}" if name != "opaque" else "srv", mode=0o750)
        if name == "opaque":
            layer.directory("srv/opaque")
        for number in range(3):
            layer.add(f"srv/{name}/{number}", content=f"{name} {number}\n".encode() * 1000)
    layer.directory("srv/opaque/below")
    layer.add("srv/opaque/below/file", content=b"not to be seen\n")
    layer.add("srv/becomes-directory", content=b"a file\n")
    layer.add("srv/becomes-link", content=b"a file\n")
    return layer.finish()


def changes():
    """A layer that changes the first one."""
    layer = Layer()
    layer.directory("srv", mode=0o711)
    layer.add("srv/.wh.deleted")
    layer.directory("srv/opaque", mode=0o700, uid=12, gid=34)
    layer.add("srv/opaque/.wh..wh..opq")
    layer.add("srv/opaque/new", content=b"in an opaque directory\n")
    layer.directory("srv/opaque/below")
    layer.add("srv/opaque/below/other", content=b"to be seen\n")
    layer.directory("srv/kept")
    layer.add("srv/kept/.wh.1")
    layer.add("srv/kept/2", content=b"the second layer's\n", mode=0o600)
    layer.add("srv/becomes-file", content=b"a file now\n")
    layer.directory("srv/becomes-directory")
    layer.add("srv/becomes-directory/inside", content=b"inside\n")
    layer.add("srv/becomes-link", tarfile.SYMTYPE, linkname="becomes-directory/inside", mode=0o777)
    layer.add("srv/hard", content=b"two names\n" * 777)
    layer.add("srv/hard-too", tarfile.LNKTYPE, linkname="srv/hard")
    for depth in range(1, 31):
        layer.directory("srv" + "/long" * depth)
    layer.add("srv" + "/long" * 30 + "/" + "n" * 200, content=b"a long name\n")
    layer.add("srv/\u00fcml\u00e4ut", content=b"a name in UTF-8\n")
    layer.add("srv/device", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    layer.add("srv/block", tarfile.BLKTYPE, devmajor=7, devminor=200, mode=0o600)
    layer.add("srv/fifo", tarfile.FIFOTYPE, mode=0o640)
    layer.add("srv/suid", content=b"#!/bin/sh\n", mode=0o4755, uid=1000, gid=1000)
    layer.add("srv/attributes", content=b"with attributes\n", pax={
        "SCHILY.xattr.user.test": "value",
        "SCHILY.xattr.user.long": "x" * 500,
        "SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
    })
    layer.add("srv/large", content=os.urandom(1) * 3000000)
    layer.add("srv/empty")
    return layer.finish()


def step(number):
    """One of many small layers: changes one file, adds one, removes the last but one."""
    layer = Layer()
    layer.directory("steps")
    layer.add("steps/newest", content=f"{number}\n".encode())
    layer.add(f"steps/step-{number}", content=f"step {number}\n".encode() * 50 * number)
    if number > 2:
        layer.add(f"steps/.wh.step-{number - 2}")
    return layer.finish()


def smallest(number):
    """A layer of hardly anything: changes one file, adds one."""
    layer = Layer()
    layer.directory("steps")
    layer.add("steps/newest", content=f"{number}\n".encode())
    layer.add(f"steps/{number}")
    return layer.finish()


def zstd(content):
    return subprocess.run(["zstd", "-1", "-c"], input=content, check=True, capture_output=True).stdout


def pieces(content):
    return [content[at:at + 5000] for at in range(0, len(content), 5000)]


def estargz(content):
    """Many members, the last an empty one that says where the table is."""
    footer = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff" + struct.pack("<H2sH", 26, b"SG", 22) + b"%016xSTARGZ" % 0
    return b"".join(gzip.compress(piece, 1, mtime=0) for piece in pieces(content)) + footer + b"\x01\0\0\xff\xff" + bytes(8)


def chunked(content):
    """Many frames, and one to be skipped."""
    return b"".join(zstd(piece) for piece in pieces(content)) + struct.pack("<II", 0x184D2A50, 100) + bytes(100)


def erofs(*options):
    """Makes images with their data in them by mkfs.erofs, with whiteouts as overlayfs has them."""
    def make(content):
        with tempfile.TemporaryDirectory() as place:
            image = os.path.join(place, "image")
            subprocess.run(["mkfs.erofs", "--quiet", "--tar=f", "--aufs", *options, image], input=content, check=True)
            with open(image, "rb") as file:
                return file.read()
    return make


OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker.image.rootfs.diff"
# How a layer is stored: its media type, and what makes it of a tar.
FORMS = {
    "plain": (f"{OCI}.layer.v1.tar", bytes),
    "gzip": (f"{OCI}.layer.v1.tar+gzip", lambda content: gzip.compress(content, 1, mtime=0)),
    "zstd": (f"{OCI}.layer.v1.tar+zstd", zstd),
    "docker": (f"{DOCKER}.tar", bytes),
    "docker gzip": (f"{DOCKER}.tar.gzip", lambda content: gzip.compress(content, 9, mtime=0)),
    "docker zstd": (f"{DOCKER}.tar.zstd", zstd),
    "estargz": (f"{OCI}.layer.v1.tar+gzip", estargz),
    "zstd:chunked": (f"{OCI}.layer.v1.tar+zstd", chunked),
    "erofs": (f"{OCI}.layer.v1.erofs", erofs("-Enoinline_data")),
    "erofs lz4": (f"{OCI}.layer.v1.erofs", erofs("-zlz4")),
    "cut short": (f"{OCI}.layer.v1.tar+gzip", lambda content: gzip.compress(content, 1, mtime=0)[:-len(content) // 200]),
    "another's": (f"{OCI}.layer.v1.tar", lambda content: content.replace(b"step 50", b"stop 50")),
    "no archive": (f"{OCI}.layer.v1.tar", lambda content: b"no archive\n" * 1000),
}


class Layout:
    """An OCI layout: blobs by their digests, and an index of manifests."""

    def __init__(self, top):
        self.top = top
        self.sizes = {}
        self.manifests = []
        self.command = ["/bin/busybox", "sh"]
        os.makedirs(os.path.join(top, "blobs/sha256"), exist_ok=True)

    def blob(self, content, media):
        digest = hashlib.sha256(content).hexdigest()
        with open(os.path.join(self.top, "blobs/sha256", digest), "wb") as file:
            file.write(content)
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)}

    def image(self, name, layers):
        """Adds an image of layers, each (tar, its form). Returns the names of its blobs."""
        descriptors, ids = [], []
        for content, form in layers:
            media, make = FORMS[form]
            stored = make(content)
            # An image of a layer is the layer itself, whatever it was made of.
            plain = stored if media.endswith(".erofs") else content
            ids.append("sha256:" + hashlib.sha256(plain).hexdigest())
            descriptors.append(self.blob(stored, media))
        return self.manifest(name, descriptors, ids)

    def manifest(self, name, descriptors, ids):
        config = self.blob(json.dumps({
            "architecture": "amd64", "os": "linux", "config": {"Cmd": self.command, "Env": ["PATH=/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": ids},
        }).encode(), f"{OCI}.config.v1+json")
        manifest = self.blob(json.dumps({
            "schemaVersion": 2, "mediaType": f"{OCI}.manifest.v1+json", "config": config, "layers": descriptors,
        }).encode(), f"{OCI}.manifest.v1+json")
        manifest["annotations"] = {"io.containerd.image.name": f"local/{name}", "org.opencontainers.image.ref.name": name}
        self.manifests.append(manifest)
        for file, text in self.documents(self.manifests):
            with open(os.path.join(self.top, file), "wb") as out:
                out.write(text)
        return [blob["digest"] for blob in descriptors + [config, manifest]]

    @staticmethod
    def documents(manifests):
        """The two files at the top of a layout."""
        return (("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
                ("index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()))

    def archive(self, path, blobs):
        """The newest image as a tar."""
        with tarfile.open(path, "w") as tar:
            for name, content in self.documents(self.manifests[-1:]):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            for digest in dict.fromkeys(blobs):
                name = "blobs/" + digest.replace(":", "/")
                tar.add(os.path.join(self.top, name), name)


def add(top, name, layer, new, archive):
    """An image with one layer more."""
    layout = Layout(top)
    with open(os.path.join(top, "index.json"), "rb") as file:
        layout.manifests = json.load(file)["manifests"]
    found = next(entry for entry in layout.manifests if entry["annotations"]["org.opencontainers.image.ref.name"] == name)

    def document(entry):
        with open(os.path.join(top, "blobs", entry["digest"].replace(":", "/")), "rb") as file:
            return json.load(file)

    manifest = document(found)
    with open(layer, "rb") as file:
        stored = file.read()
    form, content = "plain", stored
    if stored[:2] == b"\x1f\x8b":
        form, content = "gzip", gzip.decompress(stored)
    elif stored[:4] == b"\x28\xb5\x2f\xfd":
        form, content = "zstd", subprocess.run(["zstd", "-dc"], input=stored, check=True, capture_output=True).stdout
    blobs = layout.manifest(new, manifest["layers"] + [layout.blob(stored, FORMS[form][0])],
                            document(manifest["config"])["rootfs"]["diff_ids"] + ["sha256:" + hashlib.sha256(content).hexdigest()])
    layout.archive(archive, blobs)


def wide(top, tree):
    """The image wide:1, and its files."""
    choose = random.Random(20)
    os.makedirs(tree)
    layer = Layer()
    for number in range(48):
        content = b"".join(choose.randbytes(2048).ljust(4096, bytes([1 + number])) for _ in range(256))
        with open(os.path.join(tree, str(number)), "wb") as file:
            file.write(content)
        layer.add(str(number), content=content)
    Layout(top).image("wide:1", [(layer.finish(), "gzip")])


def main():
    if sys.argv[1] == "--add":
        return add(*sys.argv[2:])
    if sys.argv[1] == "--wide":
        return wide(*sys.argv[2:])
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    layout = Layout(os.path.join(out, "layout"))

    def archived(name, layers, first=0):
        layout.archive(os.path.join(out, f"{name}.tar"), layout.image(f"{name}:1", layers)[first:])

    bottom, second = base(), changes()
    archived("app", [(bottom, "plain"), (second, "gzip")])
    archived("deep", [(bottom, "plain")] + [(step(number), "plain") for number in range(1, DEEP)], first=1)
    archived("tall", [(bottom, "plain")] + [(smallest(number), "plain") for number in range(1, TALL)], first=1)
    archived("kinds", [(bottom, "zstd"), (second, "docker gzip"), (step(1), "docker"), (step(2), "docker zstd"), (step(2), "docker zstd"),
                       (step(3), "estargz"), (step(4), "zstd:chunked")])
    archived("native", [(bottom, "erofs"), (second, "erofs lz4"), (step(1), "plain"), (step(2), "plain"), (step(3), "erofs"),
                        (step(4), "plain")])
    for name, form in (("short", "cut short"), ("wrong", "another's"), ("text", "no archive")):
        archived(name, [(bottom, "plain"), (step(50), form)])


if __name__ == "__main__":
    main()
