#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debug
# slow: yes
#
# Memory pressure on inodes leaves pages of mapped files where they are, as on any filesystem; they go when they
# are not used, or with the mount. ext4, with a copy of the same files, is the judge.

. "$FEROFS_TESTS/lib.sh"
COUNT_OF_FILES=40
KIB=$((COUNT_OF_FILES * 256))

mkdir tree copy
for i in $(seq $COUNT_OF_FILES); do head -c 262144 /dev/urandom >"tree/$i"; done
cp tree/* copy/
tar -cf layer.tar -C tree .
ferofs build --quiet -o layer.erofs layer.tar >output 2>&1 || fail "an index" output
# A filesystem of its own for the blob: unmounting it tells whether anyone has the blob open.
truncate -s 64M blobs.img
mkfs.ext4 -q blobs.img
mkdir blobs
modprobe loop
mount "$(losetup -f --show --direct-io=on blobs.img)" blobs && cp layer.tar blobs/
check "a filesystem for the blob" test -e blobs/layer.tar

mkdir none
cat >map.py <<'PYTHON'
# Maps each file of a directory, touches all its pages, and closes it.
import mmap, os, sys
for name in os.listdir(sys.argv[1]):
    with open(os.path.join(sys.argv[1], name), "rb") as file:
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as area:
            assert len(area[:]) == 262144
PYTHON

# ranges: how many inodes of ranges are in memory.
ranges() {
    awk '$1 == "ferofs_range" { print $2 }' /proc/slabinfo
}

# slab: what shrinkers can free, and no page cache.
slab() {
    sync
    echo 2 >/proc/sys/vm/drop_caches
}

# stay NAME DIRECTORY: how much of what is mapped stays cached when inodes are reclaimed.
stay() {
    drop
    # What the program itself needs is cached before.
    python3 map.py none
    stay_before=$(cached)
    python3 map.py "$2"
    slab
    slab
    near "$1: pages of mapped files stay when inodes go" $(($(cached) - stay_before)) "$KIB" 4096
}
stay "ext4" copy
mounted layer.erofs first --option "device=$WORK/blobs/layer.tar" >output 2>&1 || fail "mounts" output
stay "one mount" first

# They are found again: nothing is read, and nothing cached twice.
before=$(cached)
python3 map.py first
near "and are found again" $(($(cached) - before)) 0 4096

# Another mount's are the same, and stay with it when the one that brought them goes.
mounted layer.erofs second --option "device=$WORK/blobs/layer.tar" >output 2>&1 || fail "mounts" output
python3 map.py second
near "another mount has the same" $(($(cached) - before)) 0 4096
# The blob's inode changes, as with a link or another mode, and its bytes do not.
chmod 600 blobs/layer.tar
python3 map.py first
python3 map.py second
near "and has so when the blob's mode was changed" $(($(cached) - before)) 0 4096
umount first
slab
slab
near "they stay with the other mount" $(($(cached) - before)) 0 4096
python3 map.py second
near "and are the same there" $(($(cached) - before)) 0 4096

stay "the other mount" second

# With the mount all goes, and the blob is not held open.
umount second
near "unmounted, nothing is cached" $(($(cached) - before)) $((0 - KIB)) 4096
check "and the blob's filesystem can be unmounted" umount blobs
losetup -D

# Far more ranges than memory: none is left behind.
mkdir wide
FILES=4000
[ "${FEROFS_KERNEL:-}" != debug ] || FILES=500
for i in $(seq $FILES); do echo "$i" >"wide/$i"; done
tar -cf wide.tar -C wide .
ferofs build --quiet -o wide.erofs wide.tar >output 2>&1 || fail "an index" output
mounted wide.erofs under-test --option "device=$WORK/wide.tar" >output 2>&1 || fail "mounts" output
cat >touch.py <<'PYTHON'
import mmap, os, sys
for name in os.listdir(sys.argv[1]):
    with open(os.path.join(sys.argv[1], name), "rb") as file:
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as area:
            assert area[:] == name.encode() + b"\n", name
PYTHON
python3 touch.py under-test
slab
during=$(ranges)
check "$FILES small files are kept as $during ranges" test "$during" -gt $((FILES - 100))
python3 touch.py under-test
near "mapped again they are the same ranges ($(ranges))" "$(ranges)" "$during" 200

# gone NAME: whether most of them go. Their memory is freed after a grace period, and some of it is kept for those
# to come; what checks its use keeps it for much longer.
gone() {
    [ "${FEROFS_KERNEL:-}" != debug ] || return 0
    for _ in $(seq 50); do
        [ "$(ranges)" -lt 1000 ] && break
        sleep 0.2
    done
    check "$1 ($(ranges))" test "$(ranges)" -lt 1000
}
# Without pages they go, as inodes of any file that was read do.
drop
drop
gone "no range is kept without pages"
python3 touch.py under-test
slab
umount under-test
gone "and with pages they go with the mount"

finish
