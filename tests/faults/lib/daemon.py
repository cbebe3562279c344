#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""Asks containerd-ferofs-grpc what containerd would ask, and says when it had answered.

    daemon.py record ROOT WORK DEVICE TAR...   layers are applied and committed, snapshots made, written to, committed and
                                               removed, with marks in the log of the dm-log-writes device
    daemon.py judge WORK MOUNT ENDED...        what had been answered when the power went is there, in MOUNT/root

Called by tests/faults/power.sh. It speaks as much of gRPC as that takes: one request a connection, whose answer is a message
if it succeeded and none if it did not.
"""

import hashlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import time

SNAPSHOTS = "/containerd.services.snapshots.v1.Snapshots/"
APPLY = "/containerd.services.diff.v1.Diff/Apply"
TARGET = "containerd.io/snapshot.ref"
TAR = "application/vnd.oci.image.layer.v1.tar"
WRITTEN = b"what a container wrote\n" * 5000


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def field(number, value):
    """A field of a message: a string, bytes, or a number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def fields(message):
    """The fields of a message, of which all have a length here."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
        else:
            size = number()
            yield key >> 3, message[at:at + size]
            at += size


class Failed(Exception):
    """The daemon said no."""


def ask(address, path, message):
    """Asks, and returns the answer's message."""
    def frame(kind, flags, stream, payload=b""):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload

    headers = b"".join(b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in [
        (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "daemon"), ("te", "trailers"),
        ("content-type", "application/grpc")])
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(address)
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 4, 1, headers) +
                           frame(0, 1, 1, b"\0" + struct.pack(">I", len(message)) + message))
        stream = connection.makefile("rb")
        answer = b""
        while True:
            head = stream.read(9)
            if len(head) < 9:
                raise Failed(f"{path}: the daemon ended")
            size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            payload = stream.read(size)
            if kind == 4 and not flags & 1:
                connection.sendall(frame(4, 1, 0))
            elif kind == 6 and not flags & 1:
                connection.sendall(frame(6, 1, 0, payload))
            elif kind == 0:
                answer += payload
            elif kind in (3, 7):
                raise Failed(f"{path}: the connection was ended")
            if kind in (0, 1) and flags & 1:
                break
    if len(answer) < 5:
        raise Failed(f"{path}: refused")
    return answer[5:]


class Daemon:
    """A daemon with its root directory."""

    def __init__(self, root, work):
        self.address = work + "/daemon.sock"
        self.log = work + "/daemon.log"
        config = work + "/daemon.toml"
        with open(config, "w") as file:
            file.write(f'[containerd]\naddress = "/nonexistent"\ncontent = "{work}/content"\n[layers]\nlinks = false\n')
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["containerd-ferofs-grpc", "--config", config, "--root", root, "--address",
                                             self.address], stderr=log)
        for _ in range(600):
            if self.process.poll() is not None:
                with open(self.log) as log:
                    raise Failed(f"the daemon does not start: {log.read()}")
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.connect(self.address)
                    return
            except OSError:
                time.sleep(0.05)
        raise Failed("the daemon does not answer")

    def end(self):
        self.process.kill()
        self.process.wait()

    def snapshots(self, method, *values, labels=()):
        """A request about snapshots: its fields in their order, the first of which is the snapshotter's name."""
        message = b"".join(field(number, value) for number, value in enumerate(values, 2))
        message += b"".join(field(4, field(1, key) + field(2, value)) for key, value in labels)
        return ask(self.address, SNAPSHOTS + method, message)

    def prepare(self, key, parent, labels=(), method="Prepare"):
        """Returns the mounts, encoded."""
        return self.snapshots(method, key, parent, labels=labels)

    def apply(self, work, tar, mounts):
        with open(tar, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.makedirs(work + "/content/blobs/sha256", exist_ok=True)
        shutil.copy(tar, f"{work}/content/blobs/sha256/{digest}")
        descriptor = field(1, TAR) + field(2, "sha256:" + digest) + field(3, os.path.getsize(tar))
        # The mounts are field 1 there and field 2 here.
        mounts = b"".join(field(2, value) for _, value in fields(mounts))
        ask(self.address, APPLY, field(1, descriptor) + mounts)


def options(mounts):
    """Type, source and options of the first mount."""
    first = next(value for _, value in fields(mounts))
    kind = source = None
    found = []
    for number, value in fields(first):
        value = value.decode()
        if number == 1:
            kind = value
        elif number == 2:
            source = value
        elif number == 4:
            found.append(value)
    return kind, source, found


def upper(mounts):
    _, source, found = options(mounts)
    return next((option[9:] for option in found if option.startswith("upperdir=")), source)


def record(root, work, device, *tars):
    daemon = Daemon(root, work)

    def mark(name):
        subprocess.run(["dmsetup", "message", device, "0", "mark", "end:" + name], check=True)

    parent = ""
    for number, tar in enumerate(tars, 1):
        labels = [(TARGET, f"chain-{number}")]
        mounts = daemon.prepare(f"extract-{number}", parent, labels)
        daemon.apply(work, tar, mounts)
        daemon.snapshots("Commit", f"layer-{number}", f"extract-{number}", labels=labels)
        parent = f"layer-{number}"
        mark(parent)
    for name in ("one", "two"):
        mounts = daemon.prepare(f"work-{name}", parent)
        mark(f"work-{name}")
        with open(upper(mounts) + "/written", "wb") as file:
            file.write(WRITTEN)
        if name == "one":
            daemon.snapshots("Commit", "committed", "work-one")
            mark("committed")
            parent = "committed"
    daemon.prepare("view", parent, method="View")
    mark("view")
    daemon.snapshots("Remove", "work-two")
    mark("removed")
    daemon.end()


def judge(work, mount, *ended):
    root = mount + "/root"
    if not os.path.isdir(root):
        if ended:
            sys.exit("there is no root directory")
        return
    daemon = Daemon(root, work)
    try:
        for name in ended:
            if name.startswith("layer-") or name == "committed":
                daemon.snapshots("Stat", name)
        last = ended[-1] if ended else None
        if last == "work-one":
            # It may have been committed, without being asked again.
            try:
                look(work, daemon.snapshots("Mounts", "work-one"), False)
            except Failed:
                daemon.snapshots("Stat", "committed")
        elif last == "work-two":
            look(work, daemon.snapshots("Mounts", "work-two"), True)
        elif last in ("view", "removed"):
            look(work, daemon.snapshots("Mounts", "view"), True)
        if "removed" in ended:
            try:
                daemon.snapshots("Stat", "work-two")
            except Failed:
                pass
            else:
                sys.exit("work-two had been removed, and is there")
        verify = subprocess.run(["containerd-ferofs-grpc", "--address", daemon.address, "store", "verify"],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if verify.returncode:
            sys.exit(f"store verify: {verify.stdout}")
        # What nobody knows was removed when it started.
        leavings = os.listdir(root + "/trash")
        if leavings:
            sys.exit(f"in the trash: {leavings}")
    except Failed as problem:
        with open(daemon.log) as log:
            sys.exit(f"{problem}; {log.read()}")
    finally:
        daemon.end()
        with open("/proc/mounts") as mounts:
            below = [line.split()[1] for line in mounts if line.split()[1].startswith(mount + "/")]
        for place in reversed(below):
            subprocess.run(["umount", place], check=True)


def look(work, mounts, committed):
    """Mounts a snapshot as containerd would, and reads what had been committed below it."""
    kind, source, found = options(mounts)
    place = work + "/look"
    os.makedirs(place, exist_ok=True)
    command = ["mount", "--bind", source, place] if kind == "bind" else \
        ["mount", "-t", kind, "-o", ",".join(found), source, place]
    subprocess.run(command, check=True)
    try:
        if committed:
            with open(place + "/written", "rb") as file:
                if file.read() != WRITTEN:
                    sys.exit("what had been committed has other bytes")
        else:
            os.listdir(place)
    finally:
        subprocess.run(["umount", place], check=True)


{"record": record, "judge": judge}[sys.argv[1]](*sys.argv[2:])
