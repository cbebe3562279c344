#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Blobs that cannot be read past their cache: with fs-verity, with its data journalled, on a disk with
# sectors of 4096 bytes. What is mapped from them is cached once all the same.

. "$FEROFS_TESTS/lib.sh"
modprobe loop
SIZE=$((24 << 20))
KIB=$((SIZE >> 10))
ferofs-testkit gen-tar big big.tar --size "$SIZE"
ferofs build --quiet -o index.erofs big.tar >output 2>&1 || fail "an index" output
mkdir expected && tar -xf big.tar -C expected
ferofs-testkit manifest expected >expected.manifest

# disk NAME COMMAND [losetup's arguments]: makes a filesystem on a loop device and mounts it on NAME.
disk() {
    truncate -s 300M "$1.img"
    disk_device=$(losetup -f --show ${3:+"$3"} ${4:+"$4"} --direct-io=on "$1.img") || return
    mkdir "$1"
    $2 "$disk_device" >output 2>&1 && mount "$disk_device" "$1" && cp big.tar "$1/" && sync
}

# once NAME BLOB
once() {
    mounted index.erofs under-test --option "device=$WORK/$2" >output 2>&1 || fail "$1: mounts" output
    drop
    once_before=$(cached)
    ferofs-testkit manifest --via mmap under-test >found.manifest
    near "$1: what is mapped is cached once" $(($(cached) - once_before)) "$KIB" 4096
    same "$1: and is what GNU tar extracts" expected.manifest found.manifest
    drop
    # One page here and there, for which windows are read.
    python3 - >once.kib <<'PYTHON'
import mmap, random

def cached():
    with open("/proc/meminfo") as info:
        return next(int(line.split()[1]) for line in info if line.startswith("Cached:"))

with open("under-test/big", "rb") as file:
    area = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    random.seed(1)
    before = cached()
    assert sum(area[random.randrange(len(area))] for _ in range(200))
    print(cached() - before)
PYTHON
    check "$1: and so at random ($(cat once.kib) KiB)" test "$(cat once.kib)" -lt $((KIB + 2048))
    umount under-test
}

once "ext4" big.tar
disk verity "mkfs.ext4 -q -b 4096 -O verity" || fail "ext4 with verity" output
fsverity enable verity/big.tar >output 2>&1 || fail "fs-verity" output
once "ext4, with fs-verity" verity/big.tar

# It comes while the blob is in use.
cp big.tar verity/later.tar
sync
mounted index.erofs under-test --option "device=$WORK/verity/later.tar" >output 2>&1 || fail "mounts" output
fsverity enable verity/later.tar >output 2>&1 || fail "fs-verity" output
drop
before=$(cached)
ferofs-testkit manifest --via mmap under-test >found.manifest
near "fs-verity enabled while it is mounted: cached once" $(($(cached) - before)) "$KIB" 4096
same "and is what GNU tar extracts" expected.manifest found.manifest
umount under-test

disk journal "mkfs.ext4 -q" || fail "ext4" output
mount -o remount,data=journal journal 2>/dev/null || { umount journal; mount -o loop,data=journal journal.img journal; }
once "ext4, data journalled" journal/big.tar
disk sectors "mkfs.ext4 -q" --sector-size 4096 || fail "ext4 on sectors of 4096 bytes" output
once "ext4, on sectors of 4096 bytes" sectors/big.tar
# f2fs reads directly only what is aligned to its blocks, too, but may keep what was read through its cache.
modprobe f2fs
disk flash "mkfs.f2fs -q" || fail "f2fs" output
mounted index.erofs under-test --option "device=$WORK/flash/big.tar" >output 2>&1 || fail "f2fs: mounts" output
ferofs-testkit manifest --via mmap under-test >found.manifest
same "f2fs: what is mapped is what GNU tar extracts" expected.manifest found.manifest
umount under-test
umount verity journal sectors flash
losetup -D

finish
