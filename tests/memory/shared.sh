#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3
# slow: yes
# timeout: 900
#
# Equal files of images that have nothing else in common: 20 images, each with its own tar, nine tenths of whose bytes are in
# all of them. With fingerprints and inode_share all files of all images, read or mapped, are cached once; with
# inode_share=verify, too, unless they are compressed. Lines of `# cache` say how it is without, and with the C driver's
# inode_share in the same machine.

# shellcheck disable=SC2015 # any of a row may fail
. "$FEROFS_TESTS/lib.sh"
IMAGES=20
mkdir empty trees
echo >empty/file

# 13.5 MiB that all have, 1.5 MiB of its own for each: in one extent, with holes, and with ends that are no whole blocks.
python3 - "$IMAGES" <<'END' || fail "trees"
import os, sys
def fill(tree, what, count):
    os.makedirs(f"trees/{tree}/{what}")
    for number in range(count):
        with open(f"trees/{tree}/{what}/{number}", "wb") as file:
            data = common[number] if what == "common" else some(300000 + number)
            file.write(data)
            if number % 9 == 8:
                file.seek(200000, 1)
                file.write(data[:4096])
# What compresses to about a half, by repeating.
def some(size):
    return b"".join(os.urandom(64) * 2 for _ in range(size // 128 + 1))[:size]
common = [some(300000 + number) for number in range(46)]
for tree in range(int(sys.argv[1])):
    fill(tree, "common", 46)
    fill(tree, f"own-{tree}", 5)
END
own=$(cat trees/*/own-*/* | wc -c)
shared=$(cat trees/0/common/* | wc -c)
expected=$(((own + shared) >> 10))
# Holes are in no blob, but in pages that are mapped.
holes=$((200000 * 5 >> 10))
# Metadata of images with data is read in pieces of up to 1 MiB, with the data that is there.
metadata=$((1280 * IMAGES))
for ahead in /sys/block/*/queue/read_ahead_kb; do
    # As most disks have it.
    echo 128 >"$ahead"
done

for tree in $(seq 0 $((IMAGES - 1))); do
    # What only this image has comes last: what is read ahead behind it is nothing.
    tar -S -C "trees/$tree" -cf "$tree.tar" common "own-$tree" &&
        ferofs build --quiet --fingerprints -o "$tree.index" "$tree.tar" &&
        ferofs build --quiet --fingerprints --mode=full -o "$tree.full" "$tree.tar" &&
        ferofs build --quiet --fingerprints --mode=full -z lz4 -o "$tree.lz4" "$tree.tar" || fail "images"
    truncate -s %4096 "$tree.index" "$tree.full"
done
check "the fingerprints are right" ferofs check --fingerprints --device 3.tar 3.index

# images KIND [mount's arguments]: mounts all of them.
images() {
    images_kind=$1
    shift
    for images_tree in $(seq 0 $((IMAGES - 1))); do
        case $images_kind in
        index) mounted "$@" --option "device=$WORK/$images_tree.tar" "$images_tree.index" "mounts/$images_tree" ;;
        full | lz4) mounted "$@" "$images_tree.$images_kind" "mounts/$images_tree" ;;
        esac || return
    done
}

mounted() {
    mounted_type=$FS
    if [ "$1" = -t ]; then mounted_type=$2 && shift 2; fi
    for mounted_dir; do :; done
    mkdir -p "$mounted_dir"
    ferofs-testkit mount --type "$mounted_type" "$@"
}

# empty: drops all caches, and has again what the programs themselves are.
empty() {
    drop
    find empty -type f -exec cat {} + >/dev/null
    ferofs-testkit manifest empty >/dev/null
    cached
}

# reads VIA: reads all files of all images.
reads() {
    for reads_image in mounts/*; do
        case $1 in
        read) find "$reads_image" -type f -exec cat {} + >/dev/null || return ;;
        *) ferofs-testkit manifest --via "$1" "$reads_image" >/dev/null || return ;;
        esac
    done
}

# measure KIND VIA [mount's arguments]: sets GROWN to what is cached when all was read.
measure() {
    measure_kind=$1
    measure_via=$2
    shift 2
    images "$measure_kind" "$@" >output 2>&1 || fail "$measure_kind: mounts $*" output
    measure_before=$(empty)
    reads "$measure_via" >output 2>&1 || fail "$measure_kind: all is read by $measure_via $*" output
    GROWN=$(($(cached) - measure_before))
    echo "# cache: $measure_kind, all files of $IMAGES images by $measure_via, $*: $GROWN KiB of $expected KiB," \
        "$((GROWN * 100 / expected)) %"
}

away() {
    ferofs-testkit manifest mounts/7 >away.manifest
    same "$1: the files are those of the source" trees.manifest away.manifest --ignore blocks,nlink,mtime
    umount mounts/* && rm -r mounts || fail "$1: unmounts"
}

ferofs-testkit manifest trees/7 >trees.manifest
for kind in index full lz4; do
    for via in read mmap; do
        for how in inode_share inode_share=verify; do
            [ $kind$how != lz4inode_share=verify ] || continue
            measure $kind $via --option domain_id=test --option $how
            most=$((expected * 105 / 100))
            [ $kind != full ] || most=$((most + metadata))
            check "$kind, $how, $via: cached once" test $GROWN -le $most
            check "$kind, $how, $via: it is cached" test $GROWN -ge $(((expected - holes) * 95 / 100))
            away "$kind, $how, $via"
        done
    done
    measure $kind mmap
    check "$kind: without it all is cached for each image" test $GROWN -ge $((expected * 400 / 100))
    away "$kind without"
done
# The C driver asks for a kernel with CONFIG_EROFS_FS_PAGE_CACHE_SHARE.
for kind in index full lz4; do
    measure $kind mmap -t erofs --option domain_id=test --option inode_share
    away "$kind, the C driver"
done
finish
