#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Makes the images that tests/bench/containerd.sh measures with, from what this machine has.

    containerd-images.py DIRECTORY MEGABYTES FILES

plain.tar and gzip.tar: an image of five layers with the files of /usr, so many megabytes together, as they are and by
`gzip -6`; many.tar: one layer of so many small files; steps20.tar and steps100.tar: so many layers, the first one with
busybox; share-0.tar to share-19.tar: three layers of plain.tar's that all have, and one of a megabyte. An archive has
only what is in none before it, but for gzip.tar: plain.tar is to be imported before what shares with it.
"""

import os
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../peers/lib"))
import images  # noqa: E402

LAYERS = 5
SHARED = 3


def slices(limit):
    """Lists of paths below /usr, each with so many bytes of files, directories before what is in them."""
    found, size = [], 0
    for top, directories, names in os.walk("/usr"):
        directories.sort()
        found.append(top)
        for name in sorted(names) + [name for name in directories if os.path.islink(os.path.join(top, name))]:
            path = os.path.join(top, name)
            if not (os.path.isfile(path) or os.path.islink(path)):
                continue
            found.append(path)
            # A header, and what its last block has beside the file's end.
            size += 512 + (0 if os.path.islink(path) else os.path.getsize(path) + 511 & ~511)
            if size >= limit:
                yield found
                found, size = [], 0


def layer(paths):
    made = images.Layer()
    for path in paths:
        made.tar.add(path, path[1:], recursive=False)
    return made.finish()


def main():
    out, megabytes, files = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.makedirs(out, exist_ok=True)
    layout = images.Layout(os.path.join(out, "layout"))
    images.FORMS["gzip"] = (images.FORMS["gzip"][0], lambda content: subprocess.run(
        ["gzip", "-6", "-n", "-c"], input=content, check=True, capture_output=True).stdout)
    there = set()

    def archived(name, layers, whole=False):
        blobs = layout.image(f"{name}:1", layers)
        layout.archive(os.path.join(out, f"{name}.tar"), [blob for blob in blobs if whole or blob not in there])
        there.update(blobs)

    parts = slices(megabytes * 1000000 // LAYERS)
    layers = [layer(next(parts)) for _ in range(LAYERS)]
    archived("plain", [(content, "plain") for content in layers])
    archived("gzip", [(content, "gzip") for content in layers], whole=True)
    many = images.Layer()
    for number in range(files):
        if number % 100 == 0:
            many.directory(f"many/{number // 100}")
        many.add(f"many/{number // 100}/{number}", content=b"%d\n" % number * 100)
    archived("many", [(many.finish(), "plain")])
    for count in (20, 100):
        bottom = images.Layer()
        with open("/usr/bin/busybox", "rb") as file:
            bottom.add("bin/busybox", content=file.read(), mode=0o755)
        for name in ("dev", "proc", "sys", "run", "tmp", "etc"):
            bottom.directory(name)
        archived(f"steps{count}", [(bottom.finish(), "plain")] + [(images.step(number), "plain") for number in range(1, count)])
    for number in range(20):
        own = images.Layer()
        own.add(f"own/{number}", content=os.urandom(1000000))
        archived(f"share-{number}", [(content, "plain") for content in layers[:SHARED]] + [(own.finish(), "plain")])
    with open(os.path.join(out, "sizes"), "w", encoding="ascii") as file:
        print(sum(map(len, layers)), sum(map(len, layers[:SHARED])) + 20000000, files, file=file)
    with tarfile.open(fileobj=__import__("io").BytesIO(layers[0])) as tar:
        print(f"{sum(map(len, layers))} bytes in {LAYERS} layers, the first of {len(tar.getmembers())} entries")


if __name__ == "__main__":
    main()
