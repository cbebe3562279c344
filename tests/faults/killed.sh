#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debug
# timeout: 400
#
# Readers that are killed while they wait for a slow device leave nothing wrong in the caches
# (the C driver once marked what they had not read as read: CVE-2026-31514).

. "$FEROFS_TESTS/lib.sh"
modprobe -q loop
modprobe -q dm-delay
ROUNDS=${ROUNDS:-6}

ferofs-testkit gen-tar sizes,big plain.tar --size $((12 << 20))
unpack plain.tar source
ferofs build --quiet -o index.erofs plain.tar >output 2>&1 || fail "an index" output
mkfs.erofs --quiet -x-1 --chunksize=4096 chunks.erofs source >output 2>&1
truncate -s 96M slow.disk
mkdir slow
mkfs.ext4 -q -O ^has_journal slow.disk && mount -o loop slow.disk slow || exit 1
cp plain.tar index.erofs chunks.erofs slow && umount slow || exit 1
# Each request takes 10 ms longer.
LOOP=$(losetup -f --show slow.disk)
dmsetup --noudevrules --noudevsync create slow --table "0 $(blockdev --getsz "$LOOP") delay $LOOP 0 10" >output 2>&1 ||
    fail "a slow device" output
mount "/dev/$(dmsetup info -c --noheadings -o blkdevname slow)" slow

# killed NAME IMAGE [mount's arguments]
killed() {
    name=$1
    image=$2
    shift 2
    check "$name: mounts" mounted "$image" under-test "$@"
    check "$name: what killed readers leave is right" \
        ferofs-testkit kills under-test source --rounds "$ROUNDS"
    check "$name: unmounts" umount under-test
}

killed "index" slow/index.erofs --option "device=$WORK/slow/plain.tar"
killed "chunks" slow/chunks.erofs
umount slow
dmsetup --noudevrules --noudevsync remove slow
losetup -d "$LOOP"

finish
