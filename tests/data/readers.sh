#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debug
# timeout: 600
#
# Random reads by every interface from threads of two processes at once, while their pages are taken away,
# each compared byte by byte: images of every layout, on ext4, xfs and tmpfs. SEED=N for other reads.

. "$FEROFS_TESTS/lib.sh"
modprobe -q loop
SEED=${SEED:-1}
case ${FEROFS_KERNEL:-} in
debug) OPS=${OPS:-40} BIG=$((2 << 20)) ;;
*) OPS=${OPS:-150} BIG=$((9 << 20)) ;;
esac

# The source: sizes around every boundary, a large file, holes at the beginning, in the middle, at the end.
ferofs-testkit gen-tar sizes,big plain.tar --size $((BIG + 777)) && unpack plain.tar source
mkdir source/holes
for index in 0 2 5 6 9 30 77; do
    dd if=/dev/urandom of=source/holes/sparse bs=4096 count=1 seek=$index conv=notrunc status=none
done
truncate -s 400001 source/holes/sparse
truncate -s 1000000 source/holes/empty
{ truncate -s 65536 source/holes/late && printf end >>source/holes/late; }
tar -C source --sparse --format=posix -cf holes.tar holes

ferofs build --quiet -o index.erofs plain.tar >output 2>&1 || fail "an index" output
ferofs build --quiet -o holes.erofs holes.tar >output 2>&1 || fail "an index of a tar with holes" output
ferofs merge --quiet -o merged.erofs index.erofs holes.erofs >output 2>&1 || fail "merged layers" output

# both DIR SINKS: two processes, of which one has pages taken away from both. What is read is also written to
# files in SINKS.
# shellcheck disable=SC2317 # check calls it.
both() {
    ferofs-testkit readcheck "$1" source --ops "$OPS" --threads 2 --seed "$SEED" --sinks "$2" --pressure >first 2>&1 &
    first=$!
    ferofs-testkit readcheck "$1" source --ops "$OPS" --threads 2 --seed $((SEED + 100)) --sinks "$2" >second 2>&1
    second=$?
    wait "$first" && [ "$second" = 0 ] && return
    cat first second
    return 1
}

# reads NAME IMAGE [mount's arguments]
reads() {
    name=$1
    image=$2
    shift 2
    if mounted "$image" under-test "$@" >output 2>&1; then
        check "$name: random reads" both under-test "${SINKS:-$(dirname "$image")}"
        SEED=$((SEED + 1))
        check "$name: unmounts" umount under-test
    else
        fail "$name: mounts" output
    fi
}

# indexes NAME DIRECTORY: those whose data is in tars, which are in the directory.
indexes() {
    reads "$1, index" "$2/index.erofs" --option "device=$2/plain.tar"
    reads "$1, merged layers with holes" "$2/merged.erofs" --option "device=$2/plain.tar" \
        --option "device=$2/holes.tar"
}

indexes ext4 "$WORK"
mkfs.erofs --quiet -x-1 inline.erofs source >output 2>&1
reads "ext4, inline tails" "$WORK/inline.erofs"

if [ "${FEROFS_KERNEL:-}" != debug ]; then
    mkfs.erofs --quiet --tar=i mkfs.erofs plain.tar >output 2>&1
    reads "ext4, index by mkfs.erofs" "$WORK/mkfs.erofs" --option "device=$WORK/plain.tar"
    ferofs build --quiet -o full.erofs source >output 2>&1 || fail "a full image" output
    reads "ext4, full" "$WORK/full.erofs"
    ferofs build --quiet --no-inline-data --align 4096 -o aligned.erofs source >output 2>&1 ||
        fail "an aligned image" output
    reads "ext4, full and aligned" "$WORK/aligned.erofs"
    for size in 512 1024 2048; do
        mkfs.erofs --quiet -x-1 -b$size -Enoinline_data plain.erofs source >output 2>&1
        reads "ext4, plain, blocks of $size" "$WORK/plain.erofs"
    done
    for size in 512 4096; do
        mkfs.erofs --quiet -x-1 -b$size --chunksize=4096 chunks.erofs source >output 2>&1
        reads "ext4, chunks of 4096 in blocks of $size" "$WORK/chunks.erofs"
    done
fi
touch blob
mkfs.erofs --quiet -x-1 -b512 --chunksize=512 --blobdev=blob blobs.erofs source >output 2>&1
reads "ext4, chunks of 512 on a device" "$WORK/blobs.erofs" --option "device=$WORK/blob"

mkdir tmpfs xfs && mount -t tmpfs tmpfs tmpfs
cp ./*.tar index.erofs merged.erofs tmpfs
indexes tmpfs "$WORK/tmpfs"
truncate -s 400M xfs.disk
if { mkfs.xfs -q xfs.disk && mount -o loop xfs.disk xfs; } >output 2>&1; then
    cp ./*.tar index.erofs merged.erofs xfs
    indexes xfs "$WORK/xfs"
else
    fail "xfs could not be made" output
fi

# Blobs of an overlay, while files beside those below are written to.
for below in ext4 xfs; do
    [ $below = xfs ] && lower=$WORK/xfs || lower=$WORK/lower
    mkdir -p lower $below.upper $below.work $below.overlay
    [ -e "$lower/plain.tar" ] || cp plain.tar index.erofs "$lower"
    if mount -t overlay -o "lowerdir=$lower,upperdir=$WORK/$below.upper,workdir=$WORK/$below.work" overlay \
        $below.overlay 2>output; then
        SINKS=$lower reads "overlay over $below, index" "$WORK/$below.overlay/index.erofs" \
            --option "device=$WORK/$below.overlay/plain.tar"
        umount $below.overlay
    else
        fail "overlay over $below" output
    fi
done

# With less memory than the data takes, page cache included.
# shellcheck disable=SC2317 # check calls it.
reads_with_little() {
    limited $((4 << 20)) ferofs-testkit readcheck under-test source --ops "$OPS" --threads 2 --seed "$SEED"
}
mounted "$WORK/xfs/index.erofs" under-test --option "device=$WORK/xfs/plain.tar" >output 2>&1 || fail "mounts" output
check "xfs, index, in 4 MiB of memory: random reads" reads_with_little
check "and the limit was felt" grep -q '^max [1-9]' limited.events
umount under-test

finish
