#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Cuts the power, afterwards: plays what dm-log-writes recorded of a disk to many a moment, and looks at what is there.

    power.py --type ext4|xfs|raw --base DISK --log LOG --steps FILE [--seed N] [--most N] [--judge COMMAND]

DISK is what was on the disk before, LOG what the device mapper recorded since. Marks in it are `begin:NAME` and `end:NAME`
of steps. FILE has a line for each file that a step writes: the step, the path on the disk, the sha256 that it had (`-`:
there was none) and the one that it has, with tabs between them. Called by tests/faults/power.sh.

A moment is a flush, a write that the disk was told to keep (FUA), or a mark: at all marks `end`, and at so many others as
--most says. Of what came after the last flush a disk may have any part: at some flushes only a part of what they were for
is played. Then the disk is mounted, which plays the journal, and each file must be what it was before its step, or after it
was begun, what it came to; when the step had ended, only that. There must be no other file, but those without their
names yet (`.ferofs-*.tmp`), which are counted, and what is below a directory that FILE has with the step `anything`.
With the type raw the disk is a file itself, the only one, called `disk`; it may also be no filesystem at all meanwhile.

Steps that are called `control...` are to be found wrong: else this could find nothing. --judge is called with the mounted
directory and the names of the steps that had ended, and must succeed.
"""

import argparse
import collections
import fnmatch
import hashlib
import os
import random
import shlex
import shutil
import struct
import subprocess
import sys

MAGIC = 0x6a736677736872
FLUSH, FUA, DISCARD, MARK = 1, 2, 4, 8
EROFS = struct.pack("<I", 0xe0f5e1e2)

Entry = collections.namedtuple("Entry", "sector count flags at mark")


def entries(log):
    """All that was recorded, in its order."""
    magic, version, count, size = struct.unpack("<QQQI", log.read(28))
    if (magic, version) != (MAGIC, 1):
        sys.exit(f"power.py: expected a log of dm-log-writes, found magic {magic:#x}, version {version}")
    at = size
    for _ in range(count):
        log.seek(at)
        sector, sectors, flags, length = struct.unpack("<QQQQ", log.read(32))
        mark = log.read(length).rstrip(b"\0").decode() if flags & MARK else None
        at += size
        if flags & DISCARD:
            sectors = 0
        yield size, Entry(sector, sectors, flags, at, mark)
        at += sectors * size


def digest(path):
    """The sha256 of a file, where a link leads, or - if there is nothing."""
    if os.path.islink(path):
        return "link:" + os.readlink(path)
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "-"


class Step:
    """What a step writes to one file."""

    def __init__(self, line):
        self.name, self.path, self.before, self.after = line.rstrip("\n").split("\t")


class Moments:
    """The disk at one moment after the other."""

    def __init__(self, arguments):
        with open(arguments.steps) as file:
            self.steps = [Step(line) for line in file]
        self.arguments = arguments
        self.log = open(arguments.log, "rb")
        found = list(entries(self.log))
        self.size = found[0][0]
        self.all = [entry for _, entry in found]
        self.marks = {entry.mark: index for index, entry in enumerate(self.all) if entry.mark}
        self.work = arguments.steps + ".work"
        os.makedirs(self.work + "/mount", exist_ok=True)
        shutil.copy(arguments.base, self.work + "/now")
        subprocess.run(["fallocate", "-d", self.work + "/now"], check=True)
        self.looked = self.parts = self.unnamed = 0
        self.wrong = collections.defaultdict(list)

    def play(self, disk, entry):
        """Writes what was written."""
        self.log.seek(entry.at)
        disk.seek(entry.sector * self.size)
        disk.write(self.log.read(entry.count * self.size))

    def run(self):
        chance = random.Random(self.arguments.seed)
        flushes = [index for index, entry in enumerate(self.all) if entry.flags & FLUSH]
        ends = [index for index, entry in enumerate(self.all) if (entry.mark or "").startswith("end:")]
        others = [index for index, entry in enumerate(self.all) if entry.flags & (FLUSH | FUA)]
        # Whole moments are after an entry, partial ones before the flush.
        whole = set(ends) | set(chance.sample(others, min(len(others), self.arguments.most)))
        partial = set(chance.sample(flushes, min(len(flushes), self.arguments.most)))
        late = []
        with open(self.work + "/now", "r+b") as now:
            for index, entry in enumerate(self.all):
                if index in partial:
                    self.part(now, late, index, chance)
                if entry.flags & FLUSH:
                    for written in late:
                        self.play(now, written)
                    late = []
                if entry.count:
                    # What was flagged is on the disk at once; the rest when it is flushed.
                    if entry.flags & (FLUSH | FUA):
                        self.play(now, entry)
                    else:
                        late.append(entry)
                if index in whole:
                    now.flush()
                    self.look(index, self.work + "/now")
        print(f"{self.arguments.type}: {len(self.all)} records, {self.looked} moments, of which {self.parts} with a part of "
              f"what was not flushed; {self.unnamed} files without their names")

    def part(self, now, late, index, chance):
        """At a flush, with any of what it was for."""
        now.flush()
        self.copy(self.work + "/now", self.work + "/part")
        with open(self.work + "/part", "r+b") as part:
            for written in late:
                if chance.random() < 0.5:
                    self.play(part, written)
        self.parts += 1
        self.look(index - 1, self.work + "/part")

    def copy(self, source, target):
        subprocess.run(["cp", "--sparse=always", source, target], check=True)

    def look(self, index, disk):
        """Looks at a disk on which all up to an entry happened."""
        self.looked += 1
        ended = [name[4:] for name, at in self.marks.items() if name.startswith("end:") and at <= index]
        if self.arguments.type == "raw":
            self.compare(index, disk, lambda path: disk)
            return
        mount = self.work + "/mount"
        self.copy(disk, self.work + "/mounted")
        options = {"xfs": "loop,nouuid"}.get(self.arguments.type, "loop")
        command = ["mount", "-t", self.arguments.type, "-o", options, self.work + "/mounted", mount]
        subprocess.run(command, check=True)
        try:
            self.compare(index, mount, lambda path: os.path.join(mount, path))
            if self.arguments.judge:
                judged = subprocess.run([*shlex.split(self.arguments.judge), mount, *ended], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)
                if judged.returncode:
                    self.wrong["judge"].append(f"after entry {index} ({', '.join(ended[-1:])}): {judged.stdout.strip()}")
        finally:
            subprocess.run(["umount", mount], check=True)

    def compare(self, index, top, place):
        wanted = {}
        for step in self.steps:
            allowed, _ = wanted.setdefault(step.path, ({step.before}, step))
            begin, end = (self.marks.get(f"{word}:{step.name}") for word in ("begin", "end"))
            if begin is None or index < begin:
                continue
            if end is not None and index >= end:
                allowed = set()
            wanted[step.path] = (allowed | {step.after}, step)
        wanted.pop("", None)
        for path, (allowed, step) in wanted.items():
            if step.name == "anything":
                continue
            if self.arguments.type == "raw":
                self.raw(index, place(path), allowed, step)
                continue
            found = digest(place(path))
            if found not in allowed:
                size = os.path.getsize(place(path)) if found != "-" else None
                self.wrong[step.name].append(f"after entry {index}: {path} has sha256 {found}, size {size}, expected one of "
                                             f"{sorted(allowed)}")
        if self.arguments.type == "raw":
            return
        open_to = [step.path for step in self.steps if step.name == "anything"]
        for directory, _, names in os.walk(top):
            inside = os.path.relpath(directory, top)
            if any(inside == path or inside.startswith(path + "/") for path in open_to):
                continue
            for name in names:
                if os.path.normpath(os.path.join(inside, name)) in wanted:
                    continue
                if fnmatch.fnmatch(name, ".ferofs-*.tmp"):
                    self.unnamed += 1
                else:
                    self.wrong["names"].append(f"after entry {index}: {inside}/{name} should not be there")

    def raw(self, index, path, allowed, step):
        """Of a block device only what an image takes is compared, whose sizes are behind the digests."""
        with open(path, "rb") as file:
            head = file.read(1028)[1024:]
            for one in allowed:
                if one == "-":
                    continue
                expected, size = one.split(":")
                file.seek(0)
                if hashlib.sha256(file.read(int(size))).hexdigest() == expected:
                    return
        # Until it is there, none may be there.
        if head != EROFS and len(allowed) > 1 or "-" in allowed and head != EROFS:
            return
        self.wrong[step.name].append(f"after entry {index}: the device has neither of {sorted(allowed)}, and is a filesystem: "
                                     f"{head == EROFS}")


def main():
    parser = argparse.ArgumentParser()
    for option in ("--type", "--base", "--log", "--steps"):
        parser.add_argument(option, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, default=40)
    parser.add_argument("--judge")
    arguments = parser.parse_args()
    moments = Moments(arguments)
    moments.run()
    controls = {step.name for step in moments.steps if step.name.startswith("control")}
    failed = False
    for name in sorted(controls):
        found = moments.wrong.pop(name, None)
        if not found:
            print(f"{name}: expected to find it wrong, as it waits for no disk")
            failed = True
    for name, found in moments.wrong.items():
        print(f"{name}: wrong {len(found)} times; some of them:")
        for line in found[:: max(1, len(found) // 5)][:5]:
            print(f"    {line}")
        failed = True
    shutil.rmtree(moments.work)
    sys.exit(failed)


main()
