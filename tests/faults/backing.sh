#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debug
# slow: yes
# timeout: 400
#
# Blobs and images that cannot be read for a while: bad sectors, a blob that is truncated. Readers get what
# is before that, then an error; nothing wrong is ever cached; and all is right again after the repair.

. "$FEROFS_TESTS/lib.sh"
modprobe -q loop
modprobe -q dm-mod
ferofs-testkit gen-tar tree,sizes,big plain.tar --size $((6 << 20)) --files 400
unpack plain.tar source
ferofs-testkit manifest source >source.manifest
ferofs build --quiet -o index.erofs plain.tar >output 2>&1 || fail "an index" output
SIZE=$((6 << 20))
# Where the large file's data is in the tar, and the page of the tar that goes bad: 3 MiB on from there.
DATA=$(python3 -c 'import tarfile; print(tarfile.open("plain.tar").getmember("./big").offset_data)')
BAD=$(((DATA + (3 << 20)) / 4096 * 4096))
FROM=$((BAD - DATA))

# table NAME: the lines on standard input become the device's.
table() {
    dm suspend --noflush "$1" && dm load "$1" && dm resume "$1" && echo 3 >/proc/sys/vm/drop_caches
}

# spoil NAME SECTOR COUNT: so many sectors cannot be read, until `repair`.
spoil() {
    table "$1" <<END
0 $2 linear $LOOP 0
$2 $3 error
$(($2 + $3)) $((SECTORS - $2 - $3)) linear $LOOP $(($2 + $3))
END
}

# sector FILE BYTE: where that byte is on the device, by sectors of 512.
sector() {
    filefrag -e -v -b512 "$1" | awk -v want=$(($2 / 512)) '
        $1 ~ /^[0-9]+:$/ {
            gsub(/[.:]/, " ")
            if (want >= $2 && want <= $3) print $4 + want - $2
        }'
}

# blob NAME BLOB SECTOR: BLOB is on the device NAME, and BAD of it on that sector.
blob() {
    if ! mounted index.erofs under-test --option "device=$2" >output 2>&1; then
        fail "$1: mounts" output
        return
    fi
    check "$1: reads" ferofs-testkit faultcheck under-test/big source/big
    spoil "$1" "$3" 8
    check "$1, a page is bad: what is before it, then EIO" \
        ferofs-testkit faultcheck under-test/big source/big --bad "$FROM-$((FROM + 4096))"
    # The reverse: a mapping first, so that its pages are not filled from the blob's cache.
    echo 3 >/proc/sys/vm/drop_caches
    check "$1, a page is bad: a mapping first" ferofs-testkit faultcheck under-test/big source/big \
        --bad "$FROM-$((FROM + 4096))" --only mapwrite,pread
    ferofs-testkit touch under-test/big "$FROM" >output 2>&1
    check "$1, a page is bad: touching it is SIGBUS" test $? = 135
    check "$1, a page is bad: the first page is no SIGBUS" ferofs-testkit touch under-test/big 0
    repair "$1"
    check "$1, repaired: touching it works" ferofs-testkit touch under-test/big "$FROM"
    check "$1, repaired: reads" ferofs-testkit faultcheck under-test/big source/big
    ferofs-testkit manifest --via mmap under-test >f.manifest
    same "$1, repaired: the tree is the source's" source.manifest f.manifest
    check "$1: unmounts" umount under-test
}

truncate -s 64M ext4.disk
disk ext4
mkfs.ext4 -q -O ^has_journal "$DEVICE" && mkdir ext4 && mount "$DEVICE" ext4 && cp plain.tar index.erofs ext4 && sync
blob ext4 "$WORK/ext4/plain.tar" "$(sector ext4/plain.tar "$BAD")"

# The image itself: metadata behind what a mount reads.
check "a spoiled image: mounts" mounted ext4/index.erofs under-test --option "device=$WORK/plain.tar"
spoil ext4 "$(sector ext4/index.erofs $(($(stat -c %s index.erofs) / 2)))" 8
log_mark
refuses "a spoiled image: walking it fails with EIO" "Input/output error" \
    sh -c 'find under-test -ls 2>&1 >/dev/null; exit 1'
if [ "$FS" = ferofs ]; then
    logged "a spoiled image: is in the log" "metadata cannot be read"
    find under-test -ls >output 2>&1
    log_since >log
    check "a spoiled image: is logged once for the mount" test "$(grep -c "$FS.*cannot be read" log)" = 1
fi
repair ext4
ferofs-testkit manifest under-test >f.manifest
same "a repaired image: the tree is the source's" source.manifest f.manifest
umount under-test
spoil ext4 "$(sector ext4/index.erofs 0)" 8
refuses "a spoiled superblock: EIO" "EIO" mounted ext4/index.erofs under-test --option "device=$WORK/plain.tar"
repair ext4
check "a repaired superblock: mounts" mounted ext4/index.erofs under-test --option "device=$WORK/plain.tar"
umount under-test ext4
dm remove ext4 && losetup -d "$LOOP"

truncate -s 400M xfs.disk
disk xfs
mkfs.xfs -q "$DEVICE" && mkdir xfs && mount "$DEVICE" xfs && cp plain.tar xfs && sync
blob xfs "$WORK/xfs/plain.tar" "$(sector xfs/plain.tar "$BAD")"
umount xfs
dm remove xfs && losetup -d "$LOOP"

# A block device that is the blob.
cp plain.tar block.disk && truncate -s %4096 block.disk
disk block
blob block "$DEVICE" $((BAD / 512))
dm remove block && losetup -d "$LOOP"

# Small files in a row, several to a page, which are read ahead together: only the one with the bad sector fails.
# (On a block device: those of filesystems are not read directly past a device-mapper's `error`.)
mkdir row && for number in 10 11 12 13 14 15 16 17 18 19; do head -c 1000 /dev/urandom >row/$number; done
tar -C row --format=ustar -cf row.disk 10 11 12 13 14 15 16 17 18 19
ferofs build --quiet -o row.erofs row.disk >output 2>&1 || fail "an index of small files" output
disk row
check "small files: mounts" mounted row.erofs under-test --option "device=$DEVICE"
# Each has 512 bytes before its 1,000, which are padded to 1,024.
spoil row $(((5 * 1536 + 512) / 512)) 1
for number in 10 11 12 13 14 15 16 17 18 19; do
    ferofs-testkit touch under-test/$number 0 >output 2>&1
    status=$?
    check "small files, a sector is bad: touching $number" test $status = $((number == 15 ? 135 : 0))
done
repair row
for number in 10 11 12 13 14 15 16 17 18 19; do
    check "small files, repaired: $number" ferofs-testkit faultcheck under-test/$number row/$number --only mapwrite,pread
done
umount under-test
dm remove row && losetup -d "$LOOP"

# A blob that loses its end, and gets it back.
cp plain.tar short.tar
mounted index.erofs under-test --option "device=$WORK/short.tar" >output 2>&1 || fail "mounts" output
check "a blob: reads" ferofs-testkit faultcheck under-test/big source/big
truncate -s $((BAD + 100)) short.tar
# What mappings have cached is right, and may stay.
check "a truncated blob: what is before the end, then EUCLEAN" ferofs-testkit faultcheck under-test/big source/big \
    --bad "$((FROM + 100))-$SIZE" --errno EUCLEAN --only pread,splice,uring,aio,direct
echo 3 >/proc/sys/vm/drop_caches
check "a truncated blob, caches empty: and mapped, too" ferofs-testkit faultcheck under-test/big source/big \
    --bad "$((FROM + 100))-$SIZE" --errno EUCLEAN
ferofs-testkit touch under-test/big $((SIZE - 1)) >output 2>&1
check "a truncated blob: touching what is gone is SIGBUS" test $? = 135
cat plain.tar >short.tar
check "a restored blob: reads" ferofs-testkit faultcheck under-test/big source/big
ferofs-testkit manifest --via mmap under-test >f.manifest
same "a restored blob: the tree is the source's" source.manifest f.manifest
umount under-test

finish
