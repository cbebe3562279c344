#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Forms of the format that mkfs.erofs 1.8 does not write: directories without `.`, the 48-bit layout, and directories
# and symbolic links whose data lies in a blob.
# Made from its images by ferofs-testkit, and the C driver says what they mean.

. "$FEROFS_TESTS/lib.sh"
sample

# compare NAME IMAGE [mount's arguments]
compare() {
    name=$1
    image=$2
    shift 2
    check "$name: ferofs check finds nothing" ferofs check "$image"
    compare_mounts "$name" "$image" "$@"
}

# compare_mounts NAME IMAGE [mount's arguments]
compare_mounts() {
    name=$1
    image=$2
    shift 2
    check "$name: mounts" mounted "$image" under-test "$@"
    check "$name: the C driver mounts it" mounted -t erofs "$(padded "$image")" reference "$@"
    ferofs-testkit manifest --exact reference >c.exact
    ferofs-testkit manifest --exact under-test >f.exact
    same "$name: as the C driver" c.exact f.exact
    check "$name: directories are sound" ferofs-testkit dircheck under-test
    ferofs-testkit manifest under-test >f.manifest
    same "$name: the same tree as the source" "$SHARED/sample.manifest" f.manifest --ignore mtime
    umount under-test reference
}

mkfs.erofs --quiet -x-1 compact.erofs "$SHARED/sample" -Eforce-inode-compact >output 2>&1
mkfs.erofs --quiet -x-1 -b512 --chunksize=4096 -Eforce-chunk-indexes chunks.erofs "$SHARED/sample" >output 2>&1
mkfs.erofs --quiet --tar=i index.erofs "$SHARED/sample.tar" >output 2>&1

for image in compact index; do
    check "$image: some directories lose their dot" \
        ferofs-testkit reshape dot-omitted $image.erofs $image-dotless.erofs
done
compare "dot omitted" compact-dotless.erofs
compare "dot omitted, blocks of 512" index-dotless.erofs --option "device=$SHARED/sample.tar"
for image in compact chunks index; do
    check "$image: some inodes become wide" ferofs-testkit reshape 48bit $image.erofs $image-wide.erofs
done
compare "48 bits, compact inodes" compact-wide.erofs
compare "48 bits, chunk indexes" chunks-wide.erofs
compare "48 bits, tar index" index-wide.erofs --option "device=$SHARED/sample.tar"

# Of whole blocks of a directory the addresses are flat, for there is no room for an index.
mkfs.erofs --quiet -x-1 -b512 small.erofs "$SHARED/sample" -Eforce-inode-compact >output 2>&1
for source in compact small index; do
    blob=
    [ $source != index ] || blob="--blob $SHARED/sample.tar"
    # shellcheck disable=SC2086 # two words or none
    check "$source: names move to a blob" ferofs-testkit reshape names-elsewhere $source.erofs $source-names.erofs \
        $blob --blob-out $source-names.blob
    compare_mounts "$source, names in a blob" $source-names.erofs --option "device=$WORK/$source-names.blob"
    refuses "$source, names in a blob: it has to be given" "EINVAL\|EUCLEAN" mounted $source-names.erofs under-test
    mounted $source-names.erofs under-test --option "device=$WORK/$source-names.blob"
    drop
    ferofs-testkit manifest under-test >f.manifest
    same "$source, names in a blob: the same tree after caches were dropped" "$SHARED/sample.manifest" f.manifest \
        --ignore mtime
    umount under-test
    check "$source, names in a blob: ferofs check finds nothing" \
        ferofs check $source-names.erofs --device $source-names.blob
    ferofs dump --tree $source.erofs | awk '{ print $1, $2, $3, $NF }' >tree
    ferofs dump --tree $source-names.erofs --device $source-names.blob | awk '{ print $1, $2, $3, $NF }' >names.tree
    check "$source, names in a blob: dump lists the same" cmp tree names.tree
    ferofs cat $source-names.erofs --device $source-names.blob sizes/65537 >found
    # The data of an index is in its blob, too.
    check "$source, names in a blob: cat finds a file" cmp found "$SHARED/sample/sizes/65537"
done

finish
