#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# A listener of fanotify who has to allow what is read, on the mount and on the filesystem of the blobs, and who
# reads and maps each file himself before he does, as virus scanners do. He must not have to wait for himself, nor for
# who waits for him. What he does not allow is not read, neither by a call nor through a mapping.

. "$FEROFS_TESTS/lib.sh"
[ "$FS" = ferofs ] || { echo "ok - listener # SKIP the C driver's readers wait for ever"; exit 0; }
mkdir source
echo iron >source/small
seq 50000 >source/large
truncate -s 1M source/large
seq 100000 >>source/large
tar -S -cf plain.tar -C source small large
cp plain.tar same.tar
for tar in plain same; do
    ferofs build --quiet -o $tar.erofs $tar.tar >output 2>&1 || fail "an index" output
done
ferofs merge --quiet -o index.erofs plain.erofs same.erofs >output 2>&1 || fail "a merged index" output
# A file in two blobs, which are the same: its first chunk in the one, what is behind the hole in the other.
ferofs dump --path /large index.erofs >large.txt 2>&1
python3 - "$(sed -n 's/^layout: .* indexes at //p' large.txt)" <<'END'
import struct, sys

with open("index.erofs", "r+b") as image:
    image.seek(int(sys.argv[1]) + 2)
    assert image.read(2) == struct.pack("<H", 2)
    image.seek(-2, 1)
    image.write(struct.pack("<H", 1))
END
ferofs dump --path /large index.erofs >large.txt 2>&1
check "a file is in two blobs" sh -c 'grep -q "in device 1" large.txt && grep -q "in device 2" large.txt'

cat >listener.py <<'END'
import ctypes, errno, mmap, os, signal, struct, subprocess, sys

libc = ctypes.CDLL(None, use_errno=True)
CLASS_CONTENT, ADD, MOUNT, FILESYSTEM, ACCESS_PERM, OPEN_PERM = 0x4, 0x1, 0x10, 0x100, 0x20000, 0x10000
ALLOW, DENY = 1, 2
EVENT = struct.Struct("IBBHQii")
blobs, mount, mounted, expected = sys.argv[1:5]
denied_blobs = [os.path.join(blobs, name) for name in ("plain.tar", "same.tar")]
deny = os.path.join(blobs, "deny")


def watch(group, kind, path):
    mask = ctypes.c_uint64(ACCESS_PERM | OPEN_PERM)
    if libc.fanotify_mark(group, ADD | kind, mask, -100, os.fsencode(path)):
        raise OSError(ctypes.get_errno(), "fanotify_mark", path)


def mapped(file):
    with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as area:
        return area[:]


def refused(do):
    try:
        do()
    except OSError as error:
        return error.errno == errno.EPERM
    return False


def touched(file):
    """The signal that ends who reads a mapping of a file whose pages were dropped."""
    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    child = os.fork()
    if child == 0:
        mapped(file)
        os._exit(0)
    return os.waitpid(child, 0)[1] & 0x7F


def listen(group):
    while True:
        events = os.read(group, 4096)
        while events:
            length, _, _, _, mask, fd, pid = EVENT.unpack_from(events)
            # In one piece, which is how a small file is read best, and in parts.
            with os.fdopen(fd, "rb", buffering=0) as file:
                os.pread(fd, 1 << 20, 0)
                os.pread(fd, 100, 3)
                if os.fstat(fd).st_size > 0:
                    mapped(file)
                # Who it is. That wants the lock of the task's memory.
                with open(f"/proc/{pid}/cmdline", "rb") as who:
                    who.read()
                denied = mask & ACCESS_PERM and os.path.exists(deny) and os.readlink(f"/proc/self/fd/{fd}") in denied_blobs
                os.write(group, struct.pack("iI", fd, DENY if denied else ALLOW))
            events = events[length:]


group = libc.fanotify_init(CLASS_CONTENT, os.O_RDONLY)
# Files that are open before anyone watches raise no events, so the mount comes after.
watch(group, FILESYSTEM, blobs)
listener = os.fork()
if listener == 0:
    listen(group)
try:
    subprocess.run(mount, shell=True, check=True, timeout=240)
    watch(group, MOUNT, mounted)
    for name in "small", "large":
        path = os.path.join(mounted, name)
        done = subprocess.run(["cmp", path, os.path.join(expected, name)], timeout=240)
        assert done.returncode == 0, path
        with open(path, "rb") as file, open(os.path.join(expected, name), "rb") as same:
            assert mapped(file) == same.read(), path
    with open(os.path.join(mounted, "large"), "rb", buffering=0) as file:
        os.mknod(deny)
        assert refused(lambda: file.read(100)), "read, though it was denied"
        assert touched(file) == signal.SIGBUS, "mapped and read, though it was denied"
        os.remove(deny)
        assert touched(file) == 0, "not read, though it was allowed"
        assert file.read(2) == b"1\n"
finally:
    os.kill(listener, signal.SIGKILL)
    os.waitpid(listener, 0)
    # No one answers any more.
    os.close(group)
END
mkdir mnt
check "a listener reads what he has to allow, and is obeyed" python3 listener.py "$WORK" \
    "mount -t ferofs index.erofs mnt -o device=plain.tar,device=same.tar" mnt source

finish
