#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# erofs-utils 1.8.6 cannot read back what it makes with blocks of 1024 bytes: mkfs.erofs -b1024 writes an image, and
# fsck.erofs, dump.erofs refuse it with "invalid sb_extslots 0 (more than a fs block)". The superblock begins at byte 1024,
# which is the end of such a block. Images with blocks of 512, 2048 and 4096 bytes are read.
#
# Wants mmdebstrap, and root or user namespaces. Fails if the behaviour has changed.

set -euo pipefail
version=1.8.6-1
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
mmdebstrap --quiet --variant=apt --include="erofs-utils=$version" trixie "$work/root.tar"
mkdir "$work/root"
tar -xf "$work/root.tar" -C "$work/root" --exclude='./dev/*'
inside() { chroot "$work/root" "$@"; }

mkdir "$work/root/tree"
echo hello >"$work/root/tree/file"
status=0
for bytes in 512 1024 2048 4096; do
    inside mkfs.erofs --quiet "-b$bytes" "/$bytes.erofs" /tree
    expected="read"
    if [ "$bytes" = 1024 ]; then expected="refused, invalid sb_extslots 0 (more than a fs block)"; fi
    if said=$(inside fsck.erofs "/$bytes.erofs" 2>&1); then
        found="read"
    else
        found="refused, $(grep -o 'invalid sb_extslots .*' <<<"$said" | head -n 1)"
    fi
    echo "erofs-utils $version, blocks of $bytes bytes: $found"
    if [ "$found" != "$expected" ]; then
        echo "expected: $expected" >&2
        status=1
    fi
done
exit "$status"
