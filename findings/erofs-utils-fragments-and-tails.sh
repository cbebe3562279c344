#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# erofs-utils 1.8.6 and 1.9.4: with -Efragments,ztailpacking and LZ4, mkfs.erofs ends without an error, and the last bytes of the
# last file that goes into the packed inode are others in the image. fsck.erofs of both versions extracts the same wrong bytes, and
# reports nothing. With either feature alone, or with Zstandard, the bytes are right.
#
# Wants mmdebstrap, and root or user namespaces; 1.8.6 is that of Debian 13, 1.9.4 that of Debian forky. Fails if the behaviour has
# changed.

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
    mkdir "$work/$release/tree"
    # Text, and then bytes that do not compress.
    seq 20000 | head -c 40000 >"$work/$release/tree/a" || :
    openssl enc -aes-128-ctr -K 00000000000000000000000000000001 -iv 0 -in /dev/zero 2>/dev/null | head -c 5497 >"$work/$release/tree/b" || :
done

# expect WHAT EXPECTED FOUND
expect() {
    echo "$1: $3"
    if [ "$3" != "$2" ]; then
        echo "expected: $2" >&2
        status=1
    fi
}

# extracted RELEASE IMAGE: by its fsck.erofs, whether the files are the same.
extracted() {
    local root=$work/$1 file
    rm -rf "$root/out"
    chroot "$root" fsck.erofs --extract=/out "$2" >/dev/null
    for file in a b; do
        if cmp -s "$root/tree/$file" "$root/out/$file"; then echo "$file same"; else echo "$file other"; fi
    done | paste -sd ' '
}

for made in "trixie lz4 fragments,ztailpacking other" "trixie lz4 fragments same" "trixie lz4 ztailpacking same" \
    "trixie zstd fragments,ztailpacking same" "forky lz4 fragments,ztailpacking other"; do
    read -r release algorithm features wanted <<<"$made"
    chroot "$work/$release" mkfs.erofs --quiet "-z$algorithm" -C16384 "-E$features" /image.erofs /tree
    for reader in trixie forky; do
        if [ $reader != "$release" ]; then cp "$work/$release/image.erofs" "$work/$reader/"; fi
        expect "mkfs.erofs of $release, -z$algorithm -E$features, by fsck.erofs of $reader" "a same b $wanted" \
            "$(extracted $reader /image.erofs)"
    done
done
exit "$status"
