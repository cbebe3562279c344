#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# What inode_share costs, on a machine whose clock counts instructions: mounts of an image with 20,000 fingerprints, opens of its files, the
# first read of a large one. Prints a table, in milliseconds. (An instruction is a nanosecond; waiting for the disk is up to a tick of the
# clock, so files are opened in the order of the tar, and what is read is cached.) By hand:
#
#   tests/vm/run --icount --mem 2g --timeout 1800 tests/bench/sharing.sh

# shellcheck disable=SC2015 # any of a row may fail
. "$FEROFS_TESTS/lib.sh"

# 20,000 files of up to 2 KB in 40 directories, and one of 32 MB.
python3 - <<'END' || fail "trees"
import os
for number in range(20000):
    if number % 500 == 0:
        os.makedirs(f"tree/{number // 500}")
    with open(f"tree/{number // 500}/{number}", "wb") as file:
        file.write(number.to_bytes(4, "little") * (number % 500 + 1))
with open("tree/large", "wb") as file:
    for _ in range(32):
        file.write(os.urandom(1 << 20))
END
tar -C tree -cf one.tar . && cp one.tar two.tar && mkdir at-one at-two || fail "tars"
ferofs build -q --fingerprints -o one.index one.tar && ferofs build -q --fingerprints -o two.index two.tar &&
    ferofs build -q -o plain.index one.tar && rm -r tree || fail "images"

cat >measure.py <<'END'
import glob, os, subprocess, time
def call(*words):
    subprocess.run(words, check=True)
def mount(image, blob, at, *options):
    words = [word for option in options for word in ("--option", option)]
    call("ferofs-testkit", "mount", "--type", "ferofs", "--option", f"device={os.getcwd()}/{blob}.tar", *words, image, at)
def umount(*places):
    for at in places:
        call("umount", at)
def drop(what=3):
    call("sync")
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write(str(what))
def measured(work, *arguments):
    start = time.perf_counter_ns()
    work(*arguments)
    return (time.perf_counter_ns() - start) / 1e6
def opens(paths):
    for path in paths:
        os.close(os.open(path, os.O_RDONLY))
def stats(paths):
    for path in paths:
        os.stat(path)
def read(path):
    with open(path, "rb", buffering=0) as file:
        buffer = bytearray(1 << 17)
        while file.readinto(buffer):
            pass
ways = {"no sharing": (), "inode_share": ("domain_id=d", "inode_share"), "inode_share=verify": ("domain_id=d", "inode_share=verify")}
listed = subprocess.run(["tar", "-tf", "one.tar"], capture_output=True, text=True, check=True).stdout.split()
order = [name[2:] for name in listed if not name.endswith(("/", "large"))]
rows = {}
def note(row, way, value):
    rows.setdefault(row, {})[way] = value
def mounts(options):
    for _ in range(60):
        mount("one.index", "one", "at-one", *options)
        umount("at-one")
# Before anything else, for what the kernel's caches have makes a difference; the first is for the programs themselves.
mounts(())
for way, options in ways.items():
    note("60 mounts of an image with 20,000 fingerprints", way, measured(mounts, options))
for way, options in ways.items():
    mount("one.index", "one", "at-one", *options)
    mount("two.index", "two", "at-two", *options)
    names = {at: [f"{at}/{name}" for name in order] for at in ("at-one", "at-two")}
    drop()
    read("one.tar"), read("two.tar")
    for at, which in (("at-one", "first"), ("at-two", "second")):
        stats(names[at])
        note(f"20,000 files opened the first time, inodes cached: the {which} image", way, measured(opens, names[at]))
    note("20,000 files opened again", way, measured(opens, names["at-two"]))
    for at, which in (("at-one", "first"), ("at-two", "second")):
        drop(2)
        note(f"20,000 files opened, inodes not cached: the {which} image", way, measured(opens, names[at]))
    drop(1)
    read("one.tar"), read("two.tar")
    note("32 MB read first, the tar cached: the first image", way, measured(read, "at-one/large"))
    note("32 MB read first, the tar cached: the second image", way, measured(read, "at-two/large"))
    note("32 MB read again", way, measured(read, "at-two/large"))
    umount("at-one", "at-two")
mount("plain.index", "one", "at-one")
def sums():
    call("sha256sum", "at-one/large")
sums()
sums = measured(sums)
umount("at-one")
print("|  |", " | ".join(ways), "|")
print("|---|" + "---:|" * len(ways))
for row, values in rows.items():
    base = values["no sharing"]
    print(f"| {row} |", " | ".join(f"{value:.1f}" + ("" if way == "no sharing" else f" ({value / base:.2f})") for way, value in values.items()), "|")
print(f"sha256sum of the large file, cached: {sums:.1f} ms")
END
python3 measure.py
