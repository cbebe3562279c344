#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debian-7.2
# slow: yes
# timeout: 1200
#
# holes=error: what a blob or an image does not have is EIO for every way to read it, and never zeros; what it has is right, also
# beside that; and when the rest has come everything is right.

. "$FEROFS_TESTS/lib.sh"
[ "$FS" = ferofs ] || { pass "the C driver has no holes="; finish; }
modprobe -q loop
modprobe -q xfs

# 1 MiB that has no page of zeros, and no two pages alike; a file of holes; small files in a row.
mkdir tree
python3 - <<'PYTHON'
import random
random.seed(7)
open("tree/big", "wb").write(random.randbytes(1 << 20))
for number in range(40):
    open(f"tree/small{number:02}", "wb").write(random.randbytes(3000 + number * 100))
with open("tree/sparse", "wb") as file:
    file.seek(1 << 20)
    file.write(random.randbytes(5000))
    file.truncate(3 << 20)
PYTHON
(cd tree && tar -S -cf ../blob.tar big sparse small*) || fail "the tar"
ferofs build --quiet -o index.erofs blob.tar || fail "the index"
mkfs.erofs --quiet full.erofs tree >output 2>&1 || fail "an image" output
mkfs.erofs --quiet -zlz4hc -C65536 -Eall-fragments,ztailpacking packed.erofs tree >output 2>&1 ||
    fail "a compressed image" output
# So that something can be compressed.
mkdir texts && for number in 1 2 3 4 5 6; do seq $((number * 1000000)) $((number * 1000000 + 20000)) >"texts/$number"; done
mkfs.erofs --quiet -zlz4hc -C16384 texts.erofs texts >output 2>&1 || fail "compressed texts" output
truncate -s %4096 full.erofs packed.erofs texts.erofs

cat >probe.py <<'PYTHON'
# probe.py WAY FILE EXPECTED: reads FILE piece by piece, in some order; each piece is EIO or what EXPECTED has. Prints how many
# bytes were errors.
import ctypes, errno, mmap, os, random, sys

way, path, expected = sys.argv[1], sys.argv[2], open(sys.argv[3], "rb").read()
size = len(expected)
libc = ctypes.CDLL(None, use_errno=True)
file = os.open(path, os.O_RDONLY | (os.O_DIRECT if way == "direct" else 0))
page = mmap.mmap(-1, 1 << 20)
POPULATE_READ = 22


def piece(start, length):
    """The bytes between, as many as there are; an error if not one is."""
    if way == "read":
        return os.pread(file, length, start)
    if way == "direct":
        count = os.preadv(file, [memoryview(page)[:length]], start)
        return page[:count]
    if way == "nowait":
        count = os.preadv(file, [memoryview(page)[:length]], start, os.RWF_NOWAIT)
        return page[:count]
    if way == "splice":
        reading, writing = os.pipe()
        try:
            count = os.splice(file, writing, min(length, 65536), offset_src=start)
            return os.read(reading, count)
        finally:
            os.close(reading)
            os.close(writing)
    if way == "sendfile":
        target = os.memfd_create("target")
        try:
            count = os.sendfile(target, file, start, length)
            return os.pread(target, count, 0)
        finally:
            os.close(target)
    if way == "mmap":
        # An error in place of a signal.
        first = start & ~4095
        length = min(length, 4096 - (start - first))
        try:
            area.madvise(POPULATE_READ, first, 4096)
        except OSError as error:
            raise OSError(errno.EIO, "as SIGBUS") if error.errno == errno.EFAULT else error
        return area[start : start + length]
    raise ValueError(way)


area = mmap.mmap(file, 0, prot=mmap.PROT_READ) if way == "mmap" and size else None
missing = 0
wrong = []
orders = ["forward", "backward"] if way in ("mmap", "read") else ["random"]
for order in orders:
    step = {"forward": 65536, "backward": 4096, "random": 4096}[order]
    if way == "mmap":
        step = 4096
    starts = list(range(0, size, step))
    if order == "backward":
        starts.reverse()
    if order == "random":
        random.Random(3).shuffle(starts)
    missing = 0
    for start in starts:
        end = min(start + step, size)
        pos = start
        while pos < end:
            try:
                found = piece(pos, end - pos)
            except BlockingIOError:
                # Nobody waits.
                missing += end - pos
                break
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                skip = min(4096, end - pos)
                missing += skip
                pos += skip
                continue
            if not found:
                wrong.append((order, pos, "nothing"))
                break
            if found != expected[pos : pos + len(found)]:
                wrong.append((order, pos, "zeros" if not any(found) else "other bytes"))
            pos += len(found)
print(missing)
if wrong:
    print(way, path, wrong[:5], file=sys.stderr)
    sys.exit(1)
PYTHON

# reads NAME FILE EXPECTED LEAST MOST: in every way so many bytes are errors, and the others are right.
reads() {
    for way in read direct splice sendfile mmap; do
        if reads_missing=$(python3 probe.py "$way" "$2" "$3" 2>output); then
            check "$1: $way: $reads_missing bytes are errors, expected $4 to $5" \
                sh -c "[ $reads_missing -ge $4 ] && [ $reads_missing -le $5 ]"
        else
            fail "$1: $way" output
        fi
    done
    check "$1: reads that may not wait" python3 probe.py nowait "$2" "$3"
}

# right NAME DIRECTORY: everything in what is mounted is as in DIRECTORY, by reads and by mapping.
right() {
    check "$1: read" diff -r --no-dereference under-test "$2"
    ferofs-testkit manifest "$2" >expected.manifest
    ferofs-testkit manifest --via mmap under-test >found.manifest
    same "$1: mapped" expected.manifest found.manifest --ignore nlink --ignore mtime --ignore blocks 2>/dev/null
}

# on NAME: all of it with files in the directory NAME.
on() {
    # Where the data of "big" begins in the tar.
    big=$(python3 -c 'import tarfile; print(tarfile.open("blob.tar").getmember("big").offset_data)')
    size=$(stat -c %s blob.tar)

    # A hole in the middle of a file.
    cp --sparse=never blob.tar "$1/blob"
    cp index.erofs "$1/index"
    sync
    fallocate -p -o $((512 << 10)) -l $((128 << 10)) "$1/blob"
    check "$1: mounts" mounted "$1/index" under-test --option holes=error --option "device=$1/blob"
    check "$1: is shown" grep -q " $WORK/under-test ferofs ro,.*,holes=error,device=" /proc/mounts
    reads "$1, a hole in a file" under-test/big tree/big $((128 << 10)) $(((128 << 10) + 8192))
    drop
    reads "$1, a hole in a file, cold" under-test/big tree/big $((128 << 10)) $(((128 << 10) + 8192))
    check "$1: reads end before the hole" python3 - "$big" <<'PYTHON'
import os, sys
file = os.open("under-test/big", os.O_RDONLY)
hole = (512 << 10) - int(sys.argv[1])
assert len(os.pread(file, 1 << 20, hole - 100000)) == 100000
assert len(os.pread(file, 100, hole - 1)) == 1
os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
try:
    os.pread(file, 1, hole)
    sys.exit("read")
except OSError as error:
    assert error.errno == 5, error
assert len(os.pread(file, 100000, hole + (128 << 10))) == 100000
PYTHON
    refuses "$1: cat" "Input/output error" sh -c 'cat under-test/big >found'
    check "$1: cat gives what is before the hole" cmp -n "$(stat -c %s found)" found tree/big
    check "$1: other files are right" cmp under-test/small00 tree/small00
    check "$1: holes of the image are zeros" cmp under-test/sparse tree/sparse
    # Touched by a program, it is a signal.
    check "$1: a mapping is SIGBUS" python3 - "$big" <<'PYTHON'
import mmap, os, signal, sys
file = os.open("under-test/big", os.O_RDONLY)
area = mmap.mmap(file, 0, prot=mmap.PROT_READ)
hole = (512 << 10) - int(sys.argv[1])
expected = open("tree/big", "rb").read()
def touch(at):
    child = os.fork()
    if child == 0:
        os._exit(area[at] != expected[at])
    return os.waitpid(child, 0)[1]
assert touch(hole - 8192) == 0 and touch(hole + (132 << 10)) == 0
assert touch(hole + 4096) & 0x7f == signal.SIGBUS
PYTHON
    # A writer who waits for what only he can bring, with the lock that asking for holes wants. (His write fails, after which
    # ext4 and tmpfs have zeros there: the next one is to the same place.)
    check "$1: a blob is written from its own hole, mapped: ends" timeout 120 python3 - "$1/blob" "$big" <<'PYTHON'
import ctypes, mmap, os, sys
file = os.open("under-test/big", os.O_RDONLY)
blob = os.open(sys.argv[1], os.O_WRONLY)
hole = (512 << 10) - int(sys.argv[2]) + 8192
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long]
address = libc.mmap(None, 1 << 20, 1, 2, file, 0)
written = libc.pwrite(blob, address + (hole & ~4095), 4096, (512 << 10) + 32768)
assert written == -1 and ctypes.get_errno() == 14, (written, ctypes.get_errno())
PYTHON
    # It comes in two parts, while it is in use.
    exec 3<under-test/big
    dd if=blob.tar of="$1/blob" bs=64K skip=8 seek=8 count=1 conv=notrunc status=none
    reads "$1, half of it has come" under-test/big tree/big $((64 << 10)) $(((64 << 10) + 8192))
    dd if=blob.tar of="$1/blob" bs=64K skip=9 seek=9 count=1 conv=notrunc status=none
    reads "$1, all has come" under-test/big tree/big 0 0
    exec 3<&-
    right "$1, all has come" tree
    umount under-test

    # Nothing is there.
    truncate -s 0 "$1/blob"
    truncate -s "$size" "$1/blob"
    check "$1, an empty blob: mounts" mounted "$1/index" under-test --option holes=error --option "device=$1/blob"
    check "$1, an empty blob: names are there" test "$(find under-test -type f | wc -l)" = 42
    reads "$1, an empty blob" under-test/big tree/big $((1 << 20)) $((1 << 20))
    reads "$1, an empty blob, a small file" under-test/small07 tree/small07 3700 3700
    # Small files in a row, of which some are there.
    for number in 03 04 05 20 39; do
        offset=$(python3 -c 'import sys, tarfile; print(tarfile.open("blob.tar").getmember("small" + sys.argv[1]).offset_data)' $number)
        first=$((offset / 4096))
        last=$(((offset + 8000) / 4096))
        dd if=blob.tar of="$1/blob" bs=4096 skip=$first seek=$first count=$((last - first + 1)) conv=notrunc status=none
    done
    for number in 03 04 05 20 39; do
        check "$1, a few small files: $number" cmp "under-test/small$number" "tree/small$number"
    done
    refuses "$1, a few small files: no other" "Input/output error" cat under-test/small12
    # Files are filled in any order, while others read.
    check "$1: filled while it is read" timeout 300 python3 - "$1/blob" <<'PYTHON'
import errno, mmap, os, random, subprocess, sys, time
blob = os.open(sys.argv[1], os.O_WRONLY)
source = open("blob.tar", "rb").read()
blocks = list(range(0, len(source), 65536))
random.Random(5).shuffle(blocks)
readers = []
code = '''
import errno, mmap, os, random, sys
way = sys.argv[1]
expected = open("tree/big", "rb").read()
file = os.open("under-test/big", os.O_RDONLY)
area = mmap.mmap(file, 0, prot=mmap.PROT_READ)
numbers = random.Random(os.getpid())
found = set()
while len(found) < len(expected) // 4096:
    page = numbers.randrange(len(expected) // 4096)
    try:
        if way == "mmap":
            area.madvise(22, page * 4096, 4096)
            bytes = area[page * 4096 : page * 4096 + 4096]
        else:
            bytes = os.pread(file, 4096, page * 4096)
    except OSError as error:
        assert error.errno in (errno.EIO, errno.EFAULT), error
        assert page not in found, "was there before"
        continue
    assert bytes == expected[page * 4096 : page * 4096 + len(bytes)], (way, page)
    if len(bytes) == 4096:
        found.add(page)
'''
for way in ["read", "mmap"]:
    readers.append(subprocess.Popen([sys.executable, "-c", code, way]))
for block in blocks:
    os.pwrite(blob, source[block : block + 65536], block)
    time.sleep(0.01)
for reader in readers:
    assert reader.wait() == 0
PYTHON
    right "$1, filled in any order" tree
    [ -e /sys/kernel/tracing/kprobe_events ] || mount -t tracefs tracefs /sys/kernel/tracing
    if [ "$1" = ext4 ] && [ -e /sys/kernel/tracing/kprobe_events ]; then
        # Once all is there nobody asks.
        echo 'p:holes/asked vfs_llseek' >/sys/kernel/tracing/kprobe_events
        echo 1 >/sys/kernel/tracing/events/holes/asked/enable
        echo >/sys/kernel/tracing/trace
        drop
        python3 probe.py mmap under-test/big tree/big >/dev/null
        python3 probe.py read under-test/big tree/big >/dev/null
        echo 0 >/sys/kernel/tracing/events/holes/asked/enable
        # Python asks where its own files end.
        grep -c 'asked:' /sys/kernel/tracing/trace >asked
        check "$1, once all is there nobody asks ($(cat asked))" test "$(cat asked)" -lt 40
        echo >/sys/kernel/tracing/kprobe_events
    fi
    umount under-test

    # Mounts that take holes for zeros bring pages that others must not see.
    truncate -s 0 "$1/blob"
    truncate -s "$size" "$1/blob"
    mounted "$1/index" lenient --option "device=$1/blob" >output 2>&1 || fail "$1: mounts as before" output
    check "$1: without the option holes are zeros" sh -c 'head -c 1048576 /dev/zero | cmp - lenient/big'
    ferofs-testkit manifest --via mmap lenient >/dev/null
    mounted "$1/index" under-test --option holes=error --option "device=$1/blob" >output 2>&1 || fail "$1: mounts" output
    reads "$1, zeros are cached for others" under-test/big tree/big $((1 << 20)) $((1 << 20))
    umount lenient under-test

    # The end of it is cut off and made longer again.
    cp --sparse=never blob.tar "$1/blob"
    truncate -s $((640 << 10)) "$1/blob"
    truncate -s "$size" "$1/blob"
    mounted "$1/index" under-test --option holes=error --option "device=$1/blob" >output 2>&1 || fail "$1: mounts" output
    reads "$1, the end is missing" under-test/big tree/big $(((384 << 10) + big)) $(((384 << 10) + big + 8192))
    umount under-test

    # Images with their data in them: a hole in data, in names and inodes, in compressed data.
    images="texts packed"
    parts="1 4"
    if [ "$1" = ext4 ]; then images="full texts packed" parts="1 3 4 6"; fi
    for image in $images; do
        source=tree
        if [ "$image" = texts ]; then source=texts; fi
        length=$(stat -c %s "$image.erofs")
        for part in $parts; do
            cp --sparse=never "$image.erofs" "$1/image"
            sync
            fallocate -p -o $((length * part / 8 / 4096 * 4096)) -l $((length / 16 / 4096 * 4096)) "$1/image"
            if ! mounted "$1/image" under-test --option holes=error >output 2>&1; then
                # The superblock, or the root directory.
                check "$1, $image, part $part: refused" grep -q EIO output
                continue
            fi
            check "$1, $image, part $part: EIO or right" python3 - "$source" <<'PYTHON'
import errno, mmap, os, sys
missing = right = 0
for name in sorted(os.listdir(sys.argv[1])):
    expected = open(f"{sys.argv[1]}/{name}", "rb").read()
    try:
        file = os.open(f"under-test/{name}", os.O_RDONLY)
    except OSError as error:
        assert error.errno == errno.EIO, (name, error)
        missing += 1
        continue
    area = mmap.mmap(file, 0, prot=mmap.PROT_READ)
    for pos in range(0, len(expected), 4096):
        for way in ("mmap", "read"):
            try:
                if way == "mmap":
                    area.madvise(22, pos, 4096)
                    found = area[pos : pos + 4096]
                else:
                    found = os.pread(file, 4096, pos)
            except OSError as error:
                assert error.errno in (errno.EIO, errno.EFAULT), (name, pos, error)
                missing += 1
                continue
            assert found and found == expected[pos : pos + len(found)], (name, pos, way)
            right += 1
print(missing, right)
assert missing and right
PYTHON
            dd if="$image.erofs" of="$1/image" bs=64K conv=notrunc status=none
            right "$1, $image, part $part: all has come" "$source"
            umount under-test
        done
    done
}

disk() {
    truncate -s 300M "$1.disk" && mkdir "$1" && "$2" -q "$1.disk" >output 2>&1 && mount -o loop "$1.disk" "$1" 2>>output
}
for kind in ext4 xfs; do
    if disk "$kind" "mkfs.$kind"; then
        on "$kind"
        umount "$kind"
    elif grep -qw "$kind" /proc/filesystems; then
        fail "$kind" output
    fi
done
mkdir tmpfs && mount -t tmpfs tmpfs tmpfs && on tmpfs && umount tmpfs

# What the option may be.
for value in "" zeros Error 1; do
    refuses "holes=$value" "EINVAL" mounted index.erofs under-test --option "holes=$value" --option device=blob.tar
done
refuses "holes=zeros is told" "context: e ferofs: holes= wants error or zero" \
    mounted index.erofs under-test --option holes=zeros --option device=blob.tar
refuses "two that differ" "holes= was given twice" \
    mounted index.erofs under-test --option holes=error --option holes=zero --option device=blob.tar
check "holes=zero" mounted index.erofs under-test --option holes=zero --option device=blob.tar
check "is the default, and not shown" sh -c "! grep -q holes= /proc/mounts"
refuses "remount with holes=error" "a remount cannot change holes=" mount -o remount,holes=error under-test
umount under-test
mount -t ferofs index.erofs under-test -o holes=error,device=blob.tar
check "remount" mount -o remount,noacl under-test
refuses "remount with holes=zero" "holes= was given twice" mount -o remount,holes=zero under-test
umount under-test
# A file that was opened elsewhere stays where it was read.
check "by descriptor: its position does not move" python3 - <<'PYTHON'
import ctypes, os, subprocess
blob = os.open("blob.tar", os.O_RDONLY)
os.lseek(blob, 12345, os.SEEK_SET)
libc = ctypes.CDLL(None, use_errno=True)
context = libc.syscall(430, b"ferofs", 0)
image = os.open("index.erofs", os.O_RDONLY)
assert libc.syscall(431, context, 1, b"holes", b"error", 0) == 0
assert libc.syscall(431, context, 5, b"source", None, image) == 0
assert libc.syscall(431, context, 5, b"device", None, blob) == 0
assert libc.syscall(431, context, 6, None, None, 0) == 0
mount = libc.syscall(432, context, 0, 0)
assert mount >= 0
file = os.open("big", os.O_RDONLY, dir_fd=mount)
assert os.pread(file, 1 << 20, 0) == open("tree/big", "rb").read()
assert os.lseek(blob, 0, os.SEEK_CUR) == 12345
PYTHON
# Where nobody says what is missing, and holes would be zeros.
mkdir ramfs && mount -t ramfs ramfs ramfs && cp blob.tar index.erofs ramfs
refuses "a filesystem that does not say: EOPNOTSUPP" "mount: EOPNOTSUPP" \
    mounted ramfs/index.erofs under-test --option holes=error --option device=blob.tar
refuses "a filesystem that does not say: is told" "ramfs/blob.tar: its filesystem does not say which parts" \
    mounted index.erofs under-test --option holes=error --option device=ramfs/blob.tar
umount ramfs
cp blob.tar device.disk && truncate -s %4096 device.disk
loop=$(losetup -r -f --show device.disk)
check "a block device has everything" mounted index.erofs under-test --option holes=error --option "device=$loop"
right "a block device" tree
umount under-test
losetup -d "$loop"

finish
