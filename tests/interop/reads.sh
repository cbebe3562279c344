#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Random reads by every interface at once, byte by byte against the extracted files, for each layout.

. "$FEROFS_TESTS/lib.sh"
sample
OPS=${OPS:-1500}

# reads NAME IMAGE [mount's arguments]
reads() {
    name=$1
    image=$2
    shift 2
    check "$name: mounts" mounted "$image" under-test "$@"
    check "$name: random reads" ferofs-testkit readcheck under-test "$SHARED/sample" --ops "$OPS" --seed 3
    echo 3 >/proc/sys/vm/drop_caches
    check "$name: random reads, four threads, cold" \
        ferofs-testkit readcheck under-test "$SHARED/sample" --ops $((OPS / 4)) --threads 4 --seed 4
    umount under-test
}

mkfs.erofs --quiet -x-1 inline.erofs "$SHARED/sample" >output 2>&1
reads "inline tails" inline.erofs
mkfs.erofs --quiet -x-1 -b512 -Enoinline_data plain.erofs "$SHARED/sample" >output 2>&1
reads "plain, blocks of 512" plain.erofs
mkfs.erofs --quiet -x-1 --chunksize=4096 chunks.erofs "$SHARED/sample" >output 2>&1
reads "chunks of 4 KiB" chunks.erofs
mkfs.erofs --quiet --tar=i index.erofs "$SHARED/sample.tar" >output 2>&1
reads "index over a tar" index.erofs --option "device=$SHARED/sample.tar"

# Holes, and files whose chunks alternate between data and holes.
mkdir -p holes
for index in 0 2 5 6 9 30; do
    dd if=/dev/urandom of=holes/sparse bs=4096 count=1 seek=$index conv=notrunc status=none
done
truncate -s 200001 holes/sparse
truncate -s 1000000 holes/empty
cp holes/sparse holes/copy
for size in 4096 8192; do
    mkfs.erofs --quiet -x-1 --chunksize=$size holes.erofs holes >output 2>&1
    check "holes in chunks of $size: mounts" mounted holes.erofs under-test
    check "holes in chunks of $size: random reads" ferofs-testkit readcheck under-test holes --ops "$OPS"
    mounted -t erofs "$(padded holes.erofs)" reference >output 2>&1
    ferofs-testkit extents reference >c.extents
    ferofs-testkit extents under-test >f.extents
    check "holes in chunks of $size: extents as with the C driver" diff c.extents f.extents
    umount under-test reference
done

finish
