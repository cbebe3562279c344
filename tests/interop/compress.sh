#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Compressed images by `ferofs build`: fsck.erofs extracts the tree that went in, and the module and the C driver show it, down to
# random reads. They are about as large as those of mkfs.erofs, and the same whatever the number of threads.
#
# ALL=1 is with two combinations more.
#
# slow: yes
# timeout: 900
# image: peers

. "$FEROFS_TESTS/lib.sh"
sample

# What compresses well, badly, not at all, and endlessly; and sizes around everything that has one.
mkdir tree
cp -a "$SHARED/sample" tree/sample
cp -aL /usr/share/perl/5.*/unicore tree/text 2>/dev/null || cp -a /usr/share/doc tree/text
cp /usr/bin/bash /usr/bin/perl tree 2>/dev/null
head -c 1000000 /dev/urandom >tree/random
head -c 17000000 /dev/zero >tree/zeros
cat tree/bash tree/random tree/bash >tree/mixed
cp tree/mixed tree/again
truncate -s 3M tree/holes
dd if=tree/bash of=tree/holes bs=64k seek=20 count=4 conv=notrunc status=none
for size in 1 511 512 513 2047 4032 4064 4095 4096 4097 8192 16383 65535 65536 65537; do
    head -c $size tree/bash >tree/program-$size
    head -c $size tree/random >tree/random-$size
    head -c $size tree/zeros >tree/zeros-$size
done
ferofs-testkit manifest tree >tree.manifest

while read -r name options; do
    # Those with a plus sign take long, and are for ALL=1.
    case $name in +*) [ -n "${ALL:-}" ] || continue ;; esac
    # shellcheck disable=SC2086 # several words
    if ! ferofs build -q $options -o image.erofs tree >output 2>&1; then
        fail "$name: builds" output
        continue
    fi
    # shellcheck disable=SC2086
    ferofs build -q $options --workers 1 -o alone.erofs tree
    check "$name: one thread makes the same" cmp image.erofs alone.erofs
    rm -rf extracted
    check "$name: fsck.erofs extracts it" fsck.erofs --extract=extracted --preserve image.erofs
    ferofs-testkit manifest extracted >extracted.manifest
    same "$name: what fsck.erofs extracts" tree.manifest extracted.manifest
    if mounted image.erofs under-test >output 2>&1; then
        ferofs-testkit manifest under-test >under-test.manifest
        same "$name: ferofs reads it" tree.manifest under-test.manifest
        umount under-test
    else
        fail "$name: mounts" output
    fi
    if mounted -t erofs "$WORK/image.erofs" reference >output 2>&1; then
        ferofs-testkit manifest reference >reference.manifest
        same "$name: the C driver reads it" tree.manifest reference.manifest
        umount reference
    else
        fail "$name: the C driver mounts it" output
    fi
    # shellcheck disable=SC2086
    mkfs.erofs --quiet $options mkfs.erofs tree >output 2>&1 || fail "$name: mkfs.erofs" output
    ours=$(stat -c %s image.erofs)
    theirs=$(stat -c %s mkfs.erofs)
    # Of files that are equal in part mkfs.erofs finds more.
    case $options in *fragments* | *dedupe*) most=115 ;; *) most=103 ;; esac
    check "$name: $ours bytes, with mkfs.erofs $theirs" test $((ours * 100)) -le $((theirs * most))
done <<END
lz4-512 -zlz4 -b512 -C4096
lz4hc-tails -zlz4hc -C65536 -Eztailpacking
+lz4hc-full -zlz4hc,12 -C16384 -Elegacy-compress
zstd-all -zzstd -C131072 -Eall-fragments
+deflate-1024 -zdeflate -b1024 -C16384 -Eztailpacking
lzma-fragments -zlzma -C131072 -Efragments
dedupe-fragments -zzstd -C16384 -Ededupe,fragments
END

finish
