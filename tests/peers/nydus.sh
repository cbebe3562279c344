#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 600
#
# What the crates of Nydus make of a tree, on ferofs as `erofs`: RAFS v6 with chunks of 1 MiB and of 4096 bytes, of a
# directory and of a tar; tarfs, an index of a tar; and images of two layers, one blob each. All files are the source's, as
# they are with the C driver.

# shellcheck disable=SC2317 # `check` calls the functions
. "$FEROFS_TESTS/peers/lib/peers.sh"
sample

# The tree is a layer without deletions: what has a name or attributes of such a one is for `layers`.
cp -a "$SHARED/sample" source
rm -f source/special/whiteout
for name in $(getfattr -h --absolute-names -d -m 'overlay\.' source/special | sed -n 's/=.*//p'); do
    setfattr -h -x "$name" source/special
done
# Files of several chunks, and some that have chunks in common.
seq 700000 >source/long
cp source/long source/again
{ seq 200000 && head -c 1048576 /dev/zero && seq 200000; } >source/hole
mkdir source/many
for name in $(seq 400); do echo "$name" >source/many/file-with-a-name-"$name"; done
touch -r "$SHARED/sample" source source/* source/many/*
# From a tar of GNU tar's the crates (nydus-builder 0.2.0) take no FIFO, and hard links of files alone; and of a symbolic
# link that is longer than a block, which for tarfs is one of 512 bytes, they write the target where its end belongs.
cp -a source tree
find tree -type p -delete
find tree ! -type f ! -type d -links +1 -delete
find tree -type l -printf '%l %p\n' | awk 'length($1) > 512 { print $2 }' | xargs rm -f
(cd tree && find . -type d -exec touch -r ../source/{} {} \;)
tar --format=posix --xattrs --xattrs-include='*' --numeric-owner --sort=name -C tree -cf source.tar .

# What changes in a second layer, and both as one tree.
mkdir -p upper/many upper/new
echo changed >upper/long
seq 500000 >upper/new/more
: >upper/.wh.again
: >upper/many/.wh.file-with-a-name-7
find upper -exec touch -r "$SHARED/sample" {} +
tar --format=posix --numeric-owner --sort=name -C upper -cf upper.tar .
for lower in source tree; do
    cp -a $lower both-$lower
    rm both-$lower/again both-$lower/many/file-with-a-name-7
    cp -a upper/long upper/new both-$lower/
    touch -r "$SHARED/sample" both-$lower both-$lower/many
done

# manifest DIR: of the source or of an image. The time of the root, and how often a symbolic link is linked, are lost.
manifest() {
    ferofs-testkit manifest --xattrs "$1" | sed '1s/ mtime=[^ ]*//; / type=l/s/ nlink=[^ ]*//'
}
for tree in source tree both-source both-tree; do manifest $tree >$tree.manifest; done

# forms: each image with what it is compared to and its devices, in order.
forms() {
    cat <<END
directory source directory/*.blob.data
chunks source chunks/*.blob.data
tar tree tar/*.blob.data
tarfs tree source.tar
merged both-source directory/*.blob.data upper-directory/*.blob.data
merged-tarfs both-tree source.tar upper.tar
END
}

check "RAFS v6 of a directory" nydus-images directory source directory
check "with chunks of a block" env CHUNK=4096 nydus-images directory source chunks
check "RAFS v6 of a tar" nydus-images tar source.tar tar
check "tarfs" nydus-images tarfs source.tar tarfs
check "an upper layer as RAFS v6" nydus-images tar upper.tar upper-directory
check "and as tarfs" nydus-images tarfs upper.tar upper-tarfs
mkdir -p merged merged-tarfs
check "both layers as one image" nydus-images merge merged/image directory/image upper-directory/image
check "and as one tarfs" nydus-images merge merged-tarfs/image tarfs/image upper-tarfs/image

# mounts FORM DEVICE...: mounts it at mnt. options WORD DEVICE...: the word before each.
mounts() {
    mounts_form=$1
    shift
    # shellcheck disable=SC2046 # several
    mounted -t erofs "$mounts_form/image" mnt $(options "--option device=" "$@")
}

options() {
    options_word=$1
    shift
    for device; do echo "$options_word$device"; done
}

# each COMMAND: calls it with each form, its source and its devices.
each() {
    forms >list
    while read -r form source devices; do
        # shellcheck disable=SC2086 # several
        "$1" "$form" "$source" $devices
    done <list
}

# with_ferofs FORM SOURCE DEVICE...
with_ferofs() {
    form=$1
    source=$2
    shift 2
    # shellcheck disable=SC2046 # several
    check "ferofs finds no mistake in $form" ferofs check "$form/image" $(options "--device " "$@")
    check "$form is mounted" mounts "$form" "$@"
    check "by ferofs ($form)" [ "$(users)" -gt 0 ]
    manifest mnt >found.manifest
    same "$form is the source" "$source.manifest" found.manifest --ignore blocks
    ferofs-testkit manifest --xattrs --exact mnt >"$form.exact"
    drop
    ferofs-testkit manifest --via mmap --xattrs --exact mnt >found.manifest
    same "also mapped, and with dropped caches ($form)" "$form.exact" found.manifest
    check "it reads by every interface ($form)" ferofs-testkit readcheck mnt "$source" --ops 300
    umount mnt
}

with_c() {
    form=$1
    shift 2
    check "the C driver mounts $form" mounts "$form" "$@"
    ferofs-testkit manifest --xattrs --exact mnt >c.exact
    same "and shows the same ($form)" c.exact "$form.exact"
    umount mnt
}

each with_ferofs
check "nothing is left mounted" [ "$(users)" = 0 ]

# One file, as Nydus has it for block devices: the blob where the device table says.
at=$(ferofs dump tarfs/image | sed -n 's/^device 1: .* flat at \([0-9]*\),.*/\1/p')
cp tarfs/image flat
dd if=source.tar of=flat bs=64k seek="$at" oflag=seek_bytes conv=notrunc status=none
check "image and blob in one file are mounted" mounted -t erofs flat mnt
ferofs-testkit manifest --xattrs --exact mnt >found.manifest
same "and show the same" tarfs.exact found.manifest
umount mnt

# The blob as a registry has it is not what the image speaks of.
blob=$(find directory -name '*.blob.data')
refuses "the compressed blob is found to be too short" "its slot says" ferofs check directory/image --device "${blob%.blob.data}"

c_driver
each with_c
as_erofs
finish
