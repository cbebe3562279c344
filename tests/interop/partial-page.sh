#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# An image whose last page is partial. The C driver of Linux 7.3 treats any short read of metadata as an
# error: a 2,048-byte image does not mount, and a longer one loses the inodes of its last page.

. "$FEROFS_TESTS/lib.sh"

# The index of an archive with N small files, whose length in bytes is not a multiple of 4,096.
for files in 0 1 20 33 60 150 151; do
    ferofs-testkit gen-tar tree one.tar --files $files --seed $files
    mkfs.erofs --quiet --tar=i index.erofs one.tar >output 2>&1
    size=$(stat -c %s index.erofs)
    rm -rf extracted
    unpack one.tar extracted
    ferofs-testkit manifest extracted >tar.manifest
    if mounted index.erofs under-test --option "device=$WORK/one.tar" >output 2>&1; then
        ferofs-testkit manifest under-test >f.manifest
        same "$files files, $size bytes: the tree is whole" tar.manifest f.manifest
        umount under-test
    else
        fail "$files files, $size bytes: mounts" output
    fi
    echo $((size % 4096)) >>rests
done
# If every image happened to end on a page, nothing was tested.
check "several different rests were met" test "$(grep -v '^0$' rests | sort -u | wc -l)" -ge 3

# The smallest: one page's half.
mkdir nothing
mkfs.erofs --quiet -b512 -Enoinline_data small.erofs nothing >output 2>&1
truncate -s 2048 small.erofs
check "an image of 2,048 bytes mounts" mounted small.erofs under-test
check "and is listed" sh -c "mountpoint -q under-test && ls -a under-test"
umount under-test

finish
