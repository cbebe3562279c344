#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debug
# slow: yes
# timeout: 2400
#
# A listener of fanotify's pre-content events who brings what is read of sparse blobs and images: he is asked for no more than
# is read, all that is read is right, what he denies is an error with his errno, and nobody is stuck when he is killed or waits
# for what the reader holds.

. "$FEROFS_TESTS/lib.sh"
[ "$FS" = ferofs ] || { pass "the C driver is asked beside ferofs"; finish; }

# both NAME COMMAND...: a check without holes=error, which the debug kernel, on which it takes minutes, is spared, and with it.
both() {
    both_name=$1
    shift
    if [ "${FEROFS_KERNEL:-}" != debug ]; then
        check "$both_name" "$@"
        grep '^# ' output
    fi
    check "$both_name, holes=error" "$@" holes=error
    grep '^# ' output
}

# 10.4 MiB without two pages alike; a file of holes and data; small files; what can be compressed.
mkdir tree texts && python3 - <<'PYTHON'
import random
random.seed(11)
open("tree/big", "wb").write(random.randbytes(10_900_000))
with open("tree/parts", "wb") as file:
    for part in range(5):
        file.seek(part << 20)
        file.write(random.randbytes(300_000))
for number in range(300):
    open(f"tree/small{number:03}", "wb").write(random.randbytes(700 + number * 17))
PYTHON
for number in 1 2 3 4; do seq $((number * 1000000)) $((number * 1000000 + 150000)) >"texts/$number"; done
(cd tree && tar -S -cf ../blob.tar big parts small*) || fail "the tar"
ferofs build --quiet -o index.erofs blob.tar || fail "the index"
truncate -s %4096 index.erofs
mkfs.erofs --quiet full.erofs tree >output 2>&1 || fail "an image" output
mkfs.erofs --quiet -zlz4hc -C65536 texts.erofs texts >output 2>&1 || fail "a compressed image" output
mkfs.erofs --quiet -zlz4hc -C16384 -Eall-fragments,ztailpacking packed.erofs tree >output 2>&1 || fail "a packed image" output
truncate -s %4096 full.erofs texts.erofs packed.erofs
# mkfs.erofs 1.8.6 writes the last fragment wrong: so with what is in the image.
fsck.erofs --extract=packed packed.erofs >output 2>&1 || fail "what is in it" output

cat >served.py <<'PYTHON'
# Files that are sparse, and a daemon who fills them when he is asked.
import contextlib, ctypes, errno, mmap, os, signal, struct, subprocess, sys, threading, time

libc = ctypes.CDLL(None, use_errno=True)
PRE_CONTENT, ADD, PRE_ACCESS = 0x8, 0x1, 0x100000
EVENT = struct.Struct("IBBHQii")


class Daemon:
    """Serves copies without data of files, which it has in full."""

    def __init__(self, *names, directory="."):
        self.directory = directory
        self.names, self.log, self.seen = names, os.path.abspath("asked"), 0
        for name in names:
            served = self.path(name)
            with contextlib.suppress(FileNotFoundError):
                os.remove(served)
            with open(served, "wb") as file:
                file.truncate(os.path.getsize(name))
        self.group = libc.fanotify_init(PRE_CONTENT, os.O_RDWR | os.O_CLOEXEC)
        assert self.group >= 0, ctypes.get_errno()
        for name in names:
            mask = ctypes.c_uint64(PRE_ACCESS)
            if libc.fanotify_mark(self.group, ADD, mask, -100, os.fsencode(self.path(name))):
                raise OSError(ctypes.get_errno(), "fanotify_mark")
        # What he does: nothing but answering, and what is in these files.
        for name in ("deny", "narrow", "hold", "asked"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(name)
        self.child = os.fork()
        if self.child == 0:
            try:
                self.serve()
            finally:
                os._exit(1)
        os.close(self.group)

    def path(self, name):
        return f"{self.directory}/{name}.served"

    def serve(self):
        sources = {os.stat(self.path(name)).st_ino: os.open(name, os.O_RDONLY) for name in self.names}
        log = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        while True:
            events = os.read(self.group, 1 << 16)
            while events:
                length, _, _, header, _, fd, pid = EVENT.unpack_from(events)
                kind, _, _, _, offset, count = struct.unpack_from("BBHIQQ", events, header)
                assert kind == 6
                inode = os.fstat(fd).st_ino
                name = os.readlink(f"/proc/self/fd/{fd}")
                os.write(log, f"{os.path.basename(name)} {offset} {count} {pid}\n".encode())
                while os.path.exists("hold"):
                    time.sleep(0.01)
                # Who asks, which wants the lock of its memory.
                with contextlib.suppress(OSError):
                    open(f"/proc/{pid}/maps").read()
                answer = 1
                if os.path.exists("deny"):
                    answer = 2 | int(open("deny").read()) << 24
                elif os.path.exists("narrow") and count > 8192:
                    answer = 2 | errno.EIO << 24
                else:
                    data = os.pread(sources[inode], count, offset)
                    # Zeros, too: else they would be holes, which count as missing.
                    os.pwrite(fd, data, offset)
                os.write(self.group, struct.pack("iI", fd, answer))
                os.close(fd)
                events = events[length:]

    def asked(self):
        """What was asked for since the last call, by file: ranges."""
        found = {}
        with contextlib.suppress(FileNotFoundError):
            with open(self.log) as log:
                log.seek(self.seen)
                lines = log.read()
                self.seen += len(lines)
                for line in lines.splitlines():
                    name, offset, count, pid = line.split()
                    found.setdefault(name.removesuffix(".served"), []).append((int(offset), int(count)))
        return found

    def total(self):
        """How many different bytes that were."""
        pages = {(name, page) for name, ranges in self.asked().items() for start, count in ranges for page in range(start // 4096, -(-(start + count) // 4096))}
        return len(pages) * 4096

    def stop(self):
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)


def mount(image, *arguments, kind="ferofs", at="mnt"):
    os.makedirs(at, exist_ok=True)
    options = [word for argument in arguments for word in ("--option", argument)]
    subprocess.run(["ferofs-testkit", "mount", "--type", kind, *options, image, at], check=True, timeout=300)


def umount(at="mnt"):
    subprocess.run(["umount", at], check=True)


def drop():
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("3")


def piece(path, pos, length, way):
    """Some bytes of a file."""
    file = os.open(path, os.O_RDONLY | (os.O_DIRECT if way == "direct" else 0))
    try:
        if way == "read":
            return os.pread(file, length, pos)
        if way == "direct":
            with mmap.mmap(-1, -(-length // 4096) * 4096 + 4096) as page:
                start = pos // 4096 * 4096
                count = os.preadv(file, [page], start)
                return page[pos - start : min(count, pos - start + length)]
        if way == "splice":
            reading, writing = os.pipe()
            try:
                count = os.splice(file, writing, length, offset_src=pos)
                return os.read(reading, count)
            finally:
                os.close(reading)
                os.close(writing)
        with mmap.mmap(file, 0, prot=mmap.PROT_READ) as area:
            if way == "random":
                area.madvise(mmap.MADV_RANDOM)
            if way == "populate":
                start = pos // 4096 * 4096
                area.madvise(22, start, pos + length - start)
            if way == "kernel":
                # A system call touches it.
                reading, writing = os.pipe()
                try:
                    with memoryview(area) as all, all[pos : pos + length] as part:
                        count = os.write(writing, part)
                    return os.read(reading, count)
                finally:
                    os.close(reading)
                    os.close(writing)
            return area[pos : pos + length]
    finally:
        os.close(file)


WAYS = ["read", "direct", "splice", "mapped", "random", "populate", "kernel"]


def signal_of(do):
    """The signal that ends a process that does something, or None; an OSError is its number."""
    child = os.fork()
    if child == 0:
        try:
            do()
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    return -(status & 0x7F) if status & 0x7F else status >> 8
PYTHON

cat >few.py <<'PYTHON'
# 5,000 bytes of a large file, in every way: no more is asked for than of a plain file, or for a fault than what is around it.
from served import *

at, length = 4_567_890, 5_000
expected = open("tree/big", "rb").read()[at : at + length]
option = sys.argv[1:]
for way in WAYS:
    daemon = Daemon("blob.tar")
    mount("index.erofs", "device=blob.tar.served", *option)
    daemon.asked()
    assert piece("mnt/big", at, length, way) == expected, way
    asked = daemon.asked()
    total = sum(count for _, count in asked["blob.tar"])
    ranges = len(asked["blob.tar"])
    limit = {"read": 12288, "splice": 12288, "direct": 24576, "random": 16384}.get(way, (128 << 10) + 8192)
    print(f"# {way}: {total} bytes in {ranges} events")
    assert 0 < total <= limit, (way, asked)
    umount()
    daemon.stop()
PYTHON
both "5,000 bytes of a large file" python3 few.py

cat >beside.py <<'PYTHON'
# The same of an image that has its data in it, beside the C driver.
from served import *

at, length = 4_567_890, 5_000
expected = open("tree/big", "rb").read()[at : at + length]
totals = {}
for kind in "erofs", "ferofs":
    daemon = Daemon("full.erofs")
    mount("full.erofs.served", kind=kind)
    mounting = daemon.total()
    assert piece("mnt/big", at, length, "read") == expected
    reading = daemon.asked().get("full.erofs", [])
    totals[kind] = mounting, sum(count for _, count in reading)
    print(f"# {kind}: mount {mounting} bytes, 5,000 bytes of a file {totals[kind][1]}, in {reading}")
    assert piece("mnt/big", at + 5_000_000, length, "mapped") == open("tree/big", "rb").read()[at + 5_000_000 :][:length]
    print(f"# {kind}: mapped: {daemon.asked()}")
    umount()
    daemon.stop()
size = os.path.getsize("full.erofs")
assert totals["ferofs"][0] <= 256 << 10, totals
# Beside the data there may be an inode to be read.
assert totals["ferofs"][1] <= max(totals["erofs"][1], 12288) + (64 << 10), totals
PYTHON
check "an image, beside the C driver" python3 beside.py
grep '^# ' output

cat >all.py <<'PYTHON'
# All of what is in images, in every way, while who reads finds nothing there at first.
from served import *

name, source, blobs, options = sys.argv[1], sys.argv[2], sys.argv[3].split(), sys.argv[4:]
for way in "read", "mapped":
    daemon = Daemon(*blobs, name)
    mount(name + ".served", *[f"device={blob}.served" for blob in blobs], *options)
    assert sorted(os.listdir("mnt")) == sorted(os.listdir(source))
    for file in sorted(os.listdir(source)):
        expected = open(f"{source}/{file}", "rb").read()
        if way == "read":
            assert open(f"mnt/{file}", "rb").read() == expected, file
        else:
            assert piece(f"mnt/{file}", 0, len(expected), way) == expected, file
    daemon.asked()
    # What was dropped is asked for again.
    drop()
    assert sorted(os.listdir("mnt")) == sorted(os.listdir(source))
    assert piece(f"mnt/{sorted(os.listdir(source))[0]}", 0, 100, way)
    asked = daemon.asked()
    assert name in asked, asked
    umount()
    daemon.stop()
PYTHON
both "an index and a tar, all" python3 all.py index.erofs tree blob.tar
check "an image, all" python3 all.py full.erofs tree "" holes=error
both "a compressed image, all" python3 all.py texts.erofs texts ""
check "a packed image, all" python3 all.py packed.erofs packed "" holes=error

cat >compressed.py <<'PYTHON'
# Of compressed data what is decoded is asked for.
from served import *

expected = open("texts/3", "rb").read()
size = os.path.getsize("texts.erofs")
for way in "read", "splice", "mapped", "random":
    daemon = Daemon("texts.erofs")
    mount("texts.erofs.served")
    os.stat("mnt/3")
    daemon.asked()
    assert piece("mnt/3", 500_000, 5000, way) == expected[500_000:505_000]
    total = daemon.total()
    print(f"# {way}: {total} of {size} bytes")
    # A cluster or two, or what is around, and indexes.
    assert 0 < total <= (192 << 10 if way != "mapped" else 384 << 10), (way, total)
    umount()
    daemon.stop()
# In a row: each byte once, in pieces that are larger than what is read.
daemon = Daemon("texts.erofs")
mount("texts.erofs.served")
with open("mnt/3", "rb", buffering=0) as file:
    found = b""
    while part := file.read(4096):
        found += part
assert found == expected
asked = daemon.asked()["texts.erofs"]
print(f"# in a row: {len(asked)} events, {sum(count for _, count in asked)} bytes")
assert len(asked) < len(expected) // 4096 // 4, len(asked)
umount()
daemon.stop()
PYTHON
check "compressed data" python3 compressed.py
grep '^# ' output

cat >denied.py <<'PYTHON'
# What is denied is an error, with the listener's errno, for who wants just that; and right when it is allowed.
from served import *

option = sys.argv[1:]
expected = open("tree/big", "rb").read()
texts = open("texts/2", "rb").read()
for image, devices, path, data in (
    ("index.erofs", ["blob.tar"], "mnt/big", expected),
    ("texts.erofs", [], "mnt/2", texts),
):
    for number in errno.EIO, errno.EPERM, errno.EBUSY, errno.EDQUOT:
        daemon = Daemon(image, *devices)
        mount(image + ".served", *[f"device={blob}.served" for blob in devices], *option)
        os.stat(path)
        assert piece(path, 1_000_000, 100, "read") == data[1_000_000:1_000_100]
        open("deny", "w").write(str(number))
        for way, found in (
            ("read", number),
            ("splice", number),
            ("direct", number if devices else errno.EINVAL),
            ("kernel", errno.EFAULT),
            ("populate", errno.EFAULT),
            ("mapped", -signal.SIGBUS),
            ("random", -signal.SIGBUS),
        ):
            if way == "direct" and not devices:
                continue
            result = signal_of(lambda: piece(path, 300_000, 5000, way))
            assert result == found, (image, way, number, result, found)
        os.remove("deny")
        if devices:
            # What is around a page cannot be had, but the page can.
            open("narrow", "w").close()
            for turn, way in enumerate(["mapped", "kernel", "populate", "random", "read"]):
                at = 2_000_000 + turn * 300_000
                assert piece(path, at, 50, way) == data[at : at + 50], way
            os.remove("narrow")
        for way in WAYS:
            if way == "direct" and not devices:
                continue
            assert piece(path, 300_000, 5000, way) == data[300_000:305_000], way
        umount()
        daemon.stop()
# Metadata.
daemon = Daemon("index.erofs")
mount("index.erofs.served", "device=blob.tar", *option)
drop()
open("deny", "w").write(str(errno.EBUSY))
assert signal_of(lambda: os.stat("mnt/small123")) == errno.EBUSY
os.remove("deny")
os.stat("mnt/small123")
umount()
open("deny", "w").write(str(errno.EBUSY))
failed = subprocess.run(["ferofs-testkit", "mount", "--type", "ferofs", "--option", "device=blob.tar", "index.erofs.served", "mnt"], capture_output=True)
assert failed.returncode != 0 and b"EBUSY" in failed.stdout + failed.stderr, failed
daemon.stop()
PYTHON
both "what is denied" python3 denied.py

cat >killed.py <<'PYTHON'
# Readers who wait can be killed, others of the task go on, and nobody waits for a daemon who is gone.
from served import *

expected = open("tree/big", "rb").read()
option = sys.argv[1:]
for victim in "reader", "daemon":
    for way in "read", "splice", "mapped", "kernel", "metadata":
        print(f"# {victim} {way}", flush=True)
        daemon = Daemon("blob.tar", "index.erofs")
        mount("index.erofs.served", "device=blob.tar.served", *option)
        os.listdir("mnt")
        os.stat("mnt/big")
        if way != "metadata":
            piece("mnt/big", 0, 10, "read")
            piece("mnt/big", 0, 10, "mapped")
        else:
            drop()
        daemon.asked()
        open("hold", "w").close()
        child = os.fork()
        if child == 0:
            # A second thread, which maps and unmaps while the first one waits.
            turns = [0]
            def turn():
                while True:
                    mmap.mmap(-1, 4096).close()
                    turns[0] += 1
                    if turns[0] == 100:
                        open("turned", "w").close()
                    time.sleep(0.005)
            threading.Thread(target=turn, daemon=True).start()
            try:
                if way == "metadata":
                    os.stat("mnt/small299")
                    os._exit(0)
                found = piece("mnt/big", 5_000_000, 100, way)
            except OSError as error:
                os._exit(100 if error.errno in (errno.EIO, errno.EFAULT) else 101)
            os._exit(0 if found == expected[5_000_000:5_000_100] else 1 if found == bytes(100) else 2)
        while not daemon.asked():
            time.sleep(0.01)
        # The interpreter's own lock is held in a fault, but a system call gives it up.
        if way in ("read", "splice", "metadata"):
            while not os.path.exists("turned"):
                time.sleep(0.01)
            os.remove("turned")
        assert os.waitpid(child, os.WNOHANG) == (0, 0), (victim, way)
        began = time.monotonic()
        if victim == "reader":
            os.kill(child, signal.SIGKILL)
            assert os.waitpid(child, 0)[1] == signal.SIGKILL, way
            os.remove("hold")
            assert piece("mnt/big", 5_000_000, 100, "mapped") == expected[5_000_000:5_000_100], way
            daemon.stop()
        else:
            daemon.stop()
            status = os.waitpid(child, 0)[1]
            # Who is not asked for does not bring it: holes, which are errors, or zeros as in any file.
            right = {0, 1, -signal.SIGBUS, 100} if option else {0, 1}
            result = -(status & 0x7F) if status & 0x7F else status >> 8
            if way != "metadata":
                assert result in right and (not option or result != 1), (way, result)
            with contextlib.suppress(FileNotFoundError):
                os.remove("hold")
        took = time.monotonic() - began
        assert took < 60, (victim, way, took)
        umount()
PYTHON
both "who is killed" python3 killed.py

cat >circle.py <<'PYTHON'
# A task writes to a blob from a mapping of a file that lies there. It has the lock of the blob that the daemon wants to bring
# what the mapping shows: the fault gives up in the end.
from served import *

daemon = Daemon("blob.tar")
mount("index.erofs", "device=blob.tar.served", *sys.argv[1:])
file = os.open("mnt/big", os.O_RDONLY)
libc.mmap.restype = ctypes.c_void_p
libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
address = libc.mmap(None, 10 << 20, 1, 2, file, 0)
blob = os.open("blob.tar.served", os.O_WRONLY)
began = time.monotonic()
written = libc.pwrite(blob, address + (6 << 20), 4096, 8 << 20)
number = ctypes.get_errno()
# Either it was brought before the lock was taken, or it is an error.
assert (written, number) == (-1, errno.EFAULT) or written == 4096, (written, number)
print(f"# {written} {number}, after {time.monotonic() - began:.0f} s")
os.close(file)
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.munmap(address, 10 << 20)
umount()
daemon.stop()
PYTHON
check "a blob is written from its own hole, mapped: ends" timeout 300 python3 circle.py
grep '^# ' output

cat >frozen.py <<'PYTHON'
# A task writes from such a mapping to the filesystem that the blob is on, which is being frozen meanwhile: the daemon cannot
# write, and the filesystem is not frozen before the task has written.
from served import *

daemon = Daemon("blob.tar", directory="disk")
mount("index.erofs", "device=disk/blob.tar.served", *sys.argv[1:])
file = os.open("mnt/big", os.O_RDONLY)
libc.mmap.restype = ctypes.c_void_p
libc.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
address = libc.mmap(None, 10 << 20, 1, 2, file, 0)
open("hold", "w").close()
writer = os.fork()
if writer == 0:
    other = os.open("disk/other", os.O_WRONLY | os.O_CREAT)
    written = libc.write(other, address + (6 << 20), 4096)
    os._exit(ctypes.get_errno() if written < 0 else 0)
while not daemon.asked():
    time.sleep(0.01)
began = time.monotonic()
freezer = subprocess.Popen(["fsfreeze", "--freeze", "disk"])
time.sleep(1)
os.remove("hold")
status = os.waitpid(writer, 0)[1] >> 8
assert status in (0, errno.EFAULT), status
assert freezer.wait(120) == 0
subprocess.run(["fsfreeze", "--unfreeze", "disk"], check=True)
assert piece("mnt/big", 6 << 20, 4096, "kernel") == open("tree/big", "rb").read()[6 << 20 :][:4096]
print(f"# {status}, after {time.monotonic() - began:.0f} s")
os.close(file)
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.munmap(address, 10 << 20)
umount()
daemon.stop()
PYTHON
modprobe -q loop
truncate -s 100M disk.image && mkfs.ext4 -q disk.image && mkdir disk
mount -o loop disk.image disk || fail "a disk"
check "a filesystem is frozen while who writes to it waits: ends" timeout 300 python3 frozen.py
grep '^# ' output
umount disk
check "the module is not in use any more" rmmod ferofs
modprobe -q ferofs || insmod "$FEROFS_KO"

finish
