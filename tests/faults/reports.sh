#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debian-7.2
# slow: yes
#
# FAN_FS_ERROR of fanotify: who watches a mount is told of damaged metadata, and of data that cannot be read, with the
# file. For data that lies on bad sectors xfs is asked as well.

. "$FEROFS_TESTS/lib.sh"
[ "$FS" = ferofs ] || { echo "ok - reports # SKIP the C driver reports no errors"; exit 0; }
modprobe -q loop
modprobe -q dm-mod
mkdir -p source/dir
seq 300000 >source/big
echo one >source/dir/one
echo two >source/dir/two
echo three >source/three
tar -cf plain.tar -C source .
ferofs build --quiet -o index.erofs plain.tar >output 2>&1 || fail "an index" output

cat >listen.py <<'END'
# listen.py MOUNT COMMAND...: runs the command, and then prints what was reported: the number of the error, and the
# path of the file below the mount, or a dash if it is about no file.
import ctypes, os, struct, subprocess, sys, time

libc = ctypes.CDLL(None, use_errno=True)
mount, command = sys.argv[1], sys.argv[2:]
group = libc.fanotify_init(0x200 | 0x2, 0)
if group < 0 or libc.fanotify_mark(group, 0x1 | 0x100, ctypes.c_uint64(0x8000), -100, mount.encode()):
    sys.exit(os.strerror(ctypes.get_errno()))
subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
# The kernel hands reports on from a workqueue.
time.sleep(1)
root = os.open(mount, os.O_RDONLY)
found = set()
while True:
    try:
        data = os.read(group, 65536)
    except BlockingIOError:
        break
    while data:
        length, _, _, start, mask, _, _ = struct.unpack_from("=IBBHQii", data)
        assert mask == 0x8000, hex(mask)
        number, path = None, "-"
        at = start
        while at < length:
            kind, _, size = struct.unpack_from("=BBH", data, at)
            if kind == 5:
                number, _ = struct.unpack_from("=iI", data, at + 4)
            elif kind == 1:
                handle = ctypes.create_string_buffer(data[at + 12:at + size])
                if struct.unpack_from("=I", handle)[0]:
                    fd = libc.open_by_handle_at(root, handle, os.O_PATH)
                    path = os.readlink(f"/proc/self/fd/{fd}") if fd >= 0 else os.strerror(ctypes.get_errno())
                    path = os.path.relpath(path, os.path.realpath(mount))
            at += size
        found.add(f"{number} {path}")
        data = data[length:]
for line in sorted(found):
    print(line)
END

# told NAME EXPECTED MOUNT COMMAND...: passes if just that is reported: a line, or nothing.
told() {
    told_name=$1
    if [ -n "$2" ]; then echo "$2"; fi >expected
    shift 2
    python3 listen.py "$@" >found 2>&1
    check "$told_name ($(cat expected))" diff expected found
}

# Metadata. An inode of no kind of file; a directory whose first name begins at a wrong place.
mounted index.erofs under-test --option device=plain.tar
told "nothing is wrong, nothing is reported" "" under-test find under-test -type f -exec cat {} +
umount under-test
cp index.erofs damaged.erofs
inode=$(ferofs dump --path /three index.erofs | sed -n 's/^inode at offset \([0-9]*\).*/\1/p')
printf '\0\0' | dd of=damaged.erofs bs=1 conv=notrunc status=none seek=$((inode + 4))
mounted damaged.erofs under-test --option device=plain.tar
told "an inode is damaged" "117 -" under-test stat under-test/three
told "and once more for who comes later" "117 -" under-test stat under-test/three
umount under-test
python3 - <<'END'
image = bytearray(open("index.erofs", "rb").read())
names = image.index(b"onetwo")
for begin in range(names - 12, names - 80, -1):
    # The first entry of a block says where its names begin.
    where = begin + int.from_bytes(image[begin + 8:begin + 10], "little")
    if names - 3 <= where <= names and (where - begin) % 12 == 0:
        image[begin + 8:begin + 10] = b"\5\0"
        break
else:
    raise SystemExit("no entry leads to the names")
open("damaged.erofs", "wb").write(image)
END
mounted damaged.erofs under-test --option device=plain.tar
told "a directory is damaged: looked up in" "117 dir" under-test cat under-test/dir/one
told "a directory is damaged: listed" "117 dir" under-test ls under-test/dir
umount under-test

# Data. The blob ends early; sectors are bad.
cp plain.tar short.tar
mounted index.erofs under-test --option device=short.tar
truncate -s 20K short.tar
echo 3 >/proc/sys/vm/drop_caches
told "a blob was truncated" "117 big" under-test tail -c 10 under-test/big
umount under-test

truncate -s 400M xfs.disk
disk xfs
mkfs.xfs -q "$DEVICE" && mkdir xfs && mount "$DEVICE" xfs && cp plain.tar source/big xfs && sync
mounted index.erofs under-test --option "device=$WORK/xfs/plain.tar"
cat >touch.py <<'END'
import mmap, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as area:
    sum(area[at] for at in range(0, len(area), 4096))
END
cat >direct.py <<'END'
import mmap, os, sys
file = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
area = mmap.mmap(-1, 1 << 16)
while os.readv(file, [area]):
    pass
END
cat >splice.py <<'END'
import os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
into, out = os.pipe()
while count := os.splice(file, out, 1 << 16):
    os.read(into, count)
END
cat >fault.py <<'END'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
file = os.open(sys.argv[1], os.O_RDONLY)
assert libc.read(file, 1, 100) == -1 and ctypes.get_errno() == 14
END
# What both files have behind their first 32 KiB is bad, wherever xfs has put it.
for file in xfs/plain.tar xfs/big; do
    filefrag -e -v -b512 $file | awk '$1 ~ /^[0-9]+:$/ { gsub(/[.:]/, " "); print $4, $5 - $4 + 1 }'
done | sort -n >extents
{
    next=0
    while read -r start count; do
        start=$((start + 64)) && count=$((count - 64))
        [ "$count" -gt 0 ] || continue
        echo "$next $((start - next)) linear $LOOP $next"
        echo "$start $count error"
        next=$((start + count))
    done <extents
    echo "$next $((SECTORS - next)) linear $LOOP $next"
} >table
dm suspend --noflush xfs && dm load xfs <table && dm resume xfs
for how in "cat" "python3 touch.py" "python3 direct.py" "python3 splice.py"; do
    echo 3 >/proc/sys/vm/drop_caches
    # shellcheck disable=SC2086 # words
    told "bad sectors: xfs reports for $how" "5 big" xfs $how xfs/big
    echo 3 >/proc/sys/vm/drop_caches
    # shellcheck disable=SC2086 # words
    told "bad sectors: so does this for $how" "5 big" under-test $how under-test/big
done
repair xfs
# What is wrong with the caller says nothing of the file.
told "bad memory is not reported" "" under-test python3 fault.py under-test/big
told "all is well again" "" under-test cat under-test/big
umount under-test xfs
dm remove xfs && losetup -d "$LOOP"
finish
