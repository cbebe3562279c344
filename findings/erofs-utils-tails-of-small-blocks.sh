#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# erofs-utils 1.8.6 and 1.9.4: with LZ4, -Eztailpacking and blocks of 512 or 1024 bytes, mkfs.erofs ends without an error, and a file
# of text that is a little shorter than a block, by a dozen bytes for example, has other bytes in the image. fsck.erofs extracts them, and
# reports nothing. Much shorter files are right, longer ones, Zstandard, images without the option, and blocks of 4096 bytes.
#
# Wants mmdebstrap, and root or user namespaces; 1.8.6 is that of Debian 13 (it cannot read blocks of 1024 bytes), 1.9.4 that of
# Debian forky. Fails if the behaviour has changed.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
status=0
for one in trixie=1.8.6-1 forky=1.9.4-1; do
    release=${one%=*}
    # The state of a release that is not out yet can be older than it says to be valid.
    mmdebstrap --quiet --variant=apt --include="erofs-utils=${one#*=}" --aptopt='Acquire::Check-Valid-Until "false"' "$release" \
        "$work/$release.tar"
    mkdir "$work/$release"
    tar -xf "$work/$release.tar" -C "$work/$release" --exclude='./dev/*'
done
seq 20000 >"$work/text"

while read -r release options sizes wanted; do
    root=$work/$release
    rm -rf "$root/tree" "$root/out"
    mkdir "$root/tree"
    for size in ${sizes//,/ }; do head -c "$size" "$work/text" >"$root/tree/$size"; done
    # shellcheck disable=SC2086 # options are words
    chroot "$root" mkfs.erofs --quiet ${options//+/ } /image.erofs /tree
    chroot "$root" fsck.erofs --extract=/out /image.erofs >/dev/null
    found=$(for size in ${sizes//,/ }; do
        if cmp -s "$root/tree/$size" "$root/out/$size"; then echo same; else echo other; fi
    done | paste -sd ,)
    echo "$release: mkfs.erofs ${options//+/ }, files of $sizes bytes: $found"
    if [ "$found" != "$wanted" ]; then
        echo "expected: $wanted" >&2
        status=1
    fi
done <<'END'
trixie -zlz4+-b512+-Eztailpacking 300,500,511,513 same,other,other,same
forky -zlz4+-b512+-Eztailpacking 300,500,511,513 same,other,other,same
forky -zlz4+-b1024+-Eztailpacking 700,1000,1023,1025 same,other,other,same
forky -zlz4+-b4096+-Eztailpacking 3900,4000,4090,4095,4097 same,same,same,same,same
forky -zzstd+-b512+-Eztailpacking 300,500,511,513 same,same,same,same
forky -zlz4+-b512 300,500,511,513 same,same,same,same
END
exit "$status"
