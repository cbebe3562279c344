#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# timeout: 600
#
# composefs, unmodified, on ferofs as `erofs`: what mkcomposefs made of a tree is mounted by mount.composefs, with and
# without fs-verity, and is the tree again, as it is with the C driver. A changed object and a changed image are refused.
# The same with images of each format by the crate composefs, mounted as the crate does it.

. "$FEROFS_TESTS/peers/lib/peers.sh"
versions composefs
sample
modprobe overlay
verity_disk disk.img 1G disk >output 2>&1 || { fail "a disk with fs-verity" output; finish; }

# What overlayfs takes for its own shows otherwise through it, with any driver.
cp -a "$SHARED/sample" source
rm source/special/whiteout
# The crate (0.9.4) takes no target of a symbolic link that is longer than 1024 bytes.
find source -type l -printf '%l %p\n' | awk 'length($1) > 1024 { print $2 }' | xargs rm -f
for name in $(getfattr -h --absolute-names -d -m 'overlay\.' source/special | sed -n 's/=.*//p'); do
    setfattr -h -x "$name" source/special
done
# A file in the image itself, some in objects.
head -c 40 /dev/urandom >source/inline
seq 100000 >source/object
# Version 2 of the crate (0.9.4) has no nanoseconds.
touch -r "$SHARED/sample" source source/*
ferofs-testkit manifest --xattrs source >source.manifest

for version in 0 1; do
    check "mkcomposefs makes an image of version $version" \
        mkcomposefs --min-version=$version --digest-store=disk/objects source disk/$version.cfs
    check "in which ferofs finds no mistake" ferofs check disk/$version.cfs
    fsverity enable disk/$version.cfs >output 2>&1 || fail "fs-verity of the image" output
done
digest=$(fsverity measure disk/1.cfs | sed 's/^sha256:\([^ ]*\).*/\1/')

# composefs IMAGE DIR OPTIONS: mounts the image, as `mount -t composefs` does.
composefs() {
    mkdir -p "$2"
    mount -t composefs -o "basedir=$WORK/disk/objects,$3" "disk/$1.cfs" "$2"
}

# tree NAME DIR: passes if what is mounted there is the source.
tree() {
    ferofs-testkit manifest --xattrs "$2" >found.manifest
    # A link count of a file with data elsewhere is 1: overlayfs counts the names in its own directories.
    same "$1" source.manifest found.manifest --ignore nlink,blocks
}

for version in 0 1; do
    check "version $version is mounted" composefs $version mnt ro
    check "by ferofs" [ "$(users)" -gt 0 ]
    tree "and is the source" mnt
    cp found.manifest ferofs.$version.manifest
    umount mnt
    mounted -t erofs disk/$version.cfs under-test >output 2>&1 || fail "the image alone is mounted" output
    ferofs-testkit manifest --xattrs --exact under-test >ferofs.$version.exact
    umount under-test
done
check "nothing is left mounted" [ "$(users)" = 0 ]

check "with fs-verity and the image's digest" composefs 1 mnt "ro,verity,digest=$digest"
check "ferofs is there again" [ "$(users)" -gt 0 ]
tree "it is the source, too" mnt
drop
ferofs-testkit manifest --via mmap --xattrs mnt >found.manifest
same "also mapped, and with dropped caches" source.manifest found.manifest --ignore nlink,blocks
umount mnt

mkdir upper work
touch -r source upper
check "writable, with an upper directory" composefs 1 mnt "rw,verity,digest=$digest,upperdir=$WORK/upper,workdir=$WORK/work"
tree "it is the source at first" mnt
check "a file is changed" sh -c 'echo more >>mnt/object && echo new >mnt/new && rm mnt/inline'
check "and is what was written" sh -c '{ seq 100000; echo more; } | cmp - mnt/object && [ -e mnt/new ] && [ ! -e mnt/inline ]'
check "and lies in the upper directory" [ -s upper/object ]
umount mnt

refuses "another digest" "wrong fs-verity" composefs 1 mnt "ro,verity,digest=$(echo "$digest" | tr 0-9a-f 1-9a-f0)"
cp disk/1.cfs disk/changed.cfs
printf '\377' | dd of=disk/changed.cfs bs=1 seek=8192 conv=notrunc status=none
fsverity enable disk/changed.cfs
refuses "a changed image" "wrong fs-verity" composefs changed mnt "ro,verity,digest=$digest"

# An object in the place of another, which has the name and the size, and is not it.
object=$(find disk/objects -type f -size "$(stat -c %s source/object)c")
cp "$object" kept
tr 0-9 1-90 <kept >other
composefs 1 mnt "ro,verity,digest=$digest" >output 2>&1 || fail "mounts" output
cp other "$object.new"
mv "$object.new" "$object"
refuses "an object without fs-verity" "Input/output error\|No data available" cat mnt/object
fsverity enable "$object"
refuses "an object with other bytes and fs-verity" "Input/output error" cat mnt/object
check "and everything else is still right" cmp mnt/inline source/inline
umount mnt
check "who does not ask for fs-verity gets the other bytes" composefs 1 mnt ro
check "as they are" sh -c 'tr 0-9 1-90 <kept | cmp - mnt/object'
umount mnt
rm "$object"
composefs 1 mnt "ro,verity,digest=$digest" >output 2>&1 || fail "mounts" output
refuses "an object that is missing" "Input/output error\|No such file" cat mnt/object
umount mnt
cp kept "$object" && fsverity enable "$object"
composefs 1 mnt "ro,verity,digest=$digest" >output 2>&1 || fail "mounts" output
tree "with the object in its place all is right again" mnt
umount mnt

# What the crate composefs makes of the same tree, in the formats that it has.
composefs-info dump disk/1.cfs >dump.txt 2>output || fail "composefs-info dumps" output
for version in 0 1 2; do
    check "the crate makes an image of version $version" \
        sh -c "composefs-rs image $version <dump.txt >disk/crate-$version.cfs"
    check "in which ferofs finds no mistake (version $version)" ferofs check disk/crate-$version.cfs
    check "and mounts it" composefs-rs mount disk/crate-$version.cfs disk/objects mnt
    check "by ferofs (version $version)" [ "$(users)" -gt 0 ]
    tree "version $version of the crate is the source" mnt
    umount mnt
    mounted -t erofs disk/crate-$version.cfs under-test >output 2>&1 || fail "the crate's image alone is mounted" output
    ferofs-testkit manifest --xattrs --exact under-test >ferofs.crate-$version.exact
    umount under-test
done
mv "$object" aside
cp other "$object"
check "the crate mounts a tree with an object that is another" composefs-rs mount disk/crate-1.cfs disk/objects mnt
refuses "which is refused" "Input/output error\|No data available" cat mnt/object
check "but nothing else" cmp mnt/inline source/inline
umount mnt
mv aside "$object"

# The judge: the C driver. Of the image alone, inode numbers and all.
c_driver
for version in 0 1; do
    check "the C driver mounts version $version" composefs $version mnt ro
    ferofs-testkit manifest --xattrs mnt >c.manifest
    same "and shows the same" c.manifest ferofs.$version.manifest --ignore blocks
    umount mnt
    mounted -t erofs disk/$version.cfs under-test >output 2>&1 || fail "the image alone is mounted" output
    ferofs-testkit manifest --xattrs --exact under-test >c.exact
    same "and of the image alone" c.exact ferofs.$version.exact
    umount under-test
done
for version in 0 1 2; do
    mounted -t erofs disk/crate-$version.cfs under-test >output 2>&1 || fail "the crate's image alone is mounted" output
    ferofs-testkit manifest --xattrs --exact under-test >c.exact
    same "and of the crate's version $version alone" c.exact ferofs.crate-$version.exact
    umount under-test
done
as_erofs

umount disk
finish
