#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Images by mkfs.erofs, in every uncompressed shape it has: the tree through ferofs is the tree through
# the C driver, down to inode numbers and block counts, and what GNU tar or the source directory has.

. "$FEROFS_TESTS/lib.sh"
sample

# compare NAME IMAGE [--option device=BLOB]...: in this order: against the C driver, against the source.
compare() {
    name=$1
    image=$2
    shift 2
    check "$name: ferofs check finds nothing" ferofs check "$image"
    if ! mounted "$image" under-test "$@" >output 2>&1; then
        fail "$name: mounts" output
        return
    fi
    if ! mounted -t erofs "$(padded "$image")" reference "$@" >output 2>&1; then
        fail "$name: the C driver mounts it" output
        umount under-test
        return
    fi
    ferofs-testkit manifest --exact --no-content reference >c.exact
    ferofs-testkit manifest --exact --no-content under-test >f.exact
    same "$name: stat as the C driver gives it" c.exact f.exact
    ferofs-testkit manifest under-test >f.manifest
    same "$name: the same tree as the source" "$SHARED/sample.manifest" f.manifest --ignore "${IGNORE:-none}"
    ferofs-testkit manifest --via mmap under-test >f.mapped
    check "$name: mmap reads what read does" cmp f.manifest f.mapped
    ferofs-testkit extents reference >c.extents
    ferofs-testkit extents under-test >f.extents
    check "$name: fiemap, SEEK_DATA and SEEK_HOLE as with the C driver" diff c.extents f.extents
    stat -f -c '%t %s %S %b %f %a %c %d %l' reference >c.statfs
    stat -f -c '%t %s %S %b %f %a %c %d %l' under-test >f.statfs
    check "$name: statfs as the C driver gives it" diff c.statfs f.statfs
    check "$name: unmounts" umount under-test
    umount reference
    rm -f "$image" "$image.padded"
}

# made NAME ARGUMENTS...: an image of the sample directory.
made() {
    name=$1
    shift
    if mkfs.erofs --quiet -x-1 "$@" made.erofs "$SHARED/sample" >output 2>&1; then
        compare "$name" "$WORK/made.erofs"
    else
        fail "$name: mkfs.erofs" output
    fi
}

for bits in 512 1024 2048 4096; do
    made "block size $bits" -b$bits
done
made "block size 512, extended inodes" -b512 -Eforce-inode-extended
# Compact inodes have no times of their own.
IGNORE=mtime made "compact inodes" -Eforce-inode-compact
made "no inline data" -Enoinline_data
made "no inline data, block size 512" -b512 -Enoinline_data
made "chunks of 4 KiB" --chunksize=4096
made "chunks of 64 KiB, indexes" --chunksize=65536 -Eforce-chunk-indexes
made "chunks of 1 KiB in blocks of 512" -b512 --chunksize=1024
made "room for attributes of the root" --root-xattr-isize=256

for bits in 512 4096; do
    touch blob
    if mkfs.erofs --quiet -x-1 -b$bits --chunksize=8192 --blobdev=blob blobs.erofs "$SHARED/sample" >output 2>&1; then
        compare "blob device, block size $bits" "$WORK/blobs.erofs" --option "device=$WORK/blob"
    else
        fail "blob device, block size $bits: mkfs.erofs" output
    fi
    rm -f blob
done

mkfs.erofs --quiet --tar=f full.erofs "$SHARED/sample.tar" >output 2>&1
cp full.erofs twice.erofs
compare "--tar=f" "$WORK/full.erofs"
# The same once more in the same image, whose first inodes are nobody's then.
mkfs.erofs --quiet --tar=f --incremental=data twice.erofs "$SHARED/sample.tar" >output 2>&1
compare "--tar=f --incremental" "$WORK/twice.erofs"
mkfs.erofs --quiet --tar=i index.erofs "$SHARED/sample.tar" >output 2>&1
cp index.erofs flat.erofs
compare "--tar=i" "$WORK/index.erofs" --option "device=$SHARED/sample.tar"

# Without device= the addresses are flat: the image is one file with its blobs behind it.
cp flat.erofs index.erofs
cat "$SHARED/sample.tar" >>flat.erofs
compare "--tar=i, tar behind the index" "$WORK/flat.erofs"

# Two tars, two device slots with tags.
ferofs-testkit gen-tar tree second.tar --seed 7 --files 20
mkfs.erofs --quiet --tar=i second.erofs second.tar >output 2>&1
if mkfs.erofs --quiet merged.erofs index.erofs second.erofs >output 2>&1; then
    mounted -t erofs "$(padded merged.erofs)" reference --option "device=$SHARED/sample.tar" \
        --option "device=$WORK/second.tar" >output 2>&1 && ferofs-testkit manifest --exact reference >c.exact
    umount reference
    if mounted merged.erofs under-test --option "device=$SHARED/sample.tar" \
        --option "device=$WORK/second.tar" >output 2>&1; then
        ferofs-testkit manifest --exact under-test >f.exact
        same "two devices: as the C driver" c.exact f.exact
    else
        fail "two devices: mounts" output
    fi
    umount under-test
else
    fail "two devices: mkfs.erofs merges" output
fi

finish
