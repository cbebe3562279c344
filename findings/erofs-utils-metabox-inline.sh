#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# erofs-utils 1.9.4: of an image whose inodes are in a compressed metabox (mkfs.erofs -m --MZ=i), fsck.erofs --extract writes
# other bytes for small files that are stored behind their inodes, and reports no error. dump.erofs --cat, and Linux 7.3, show
# the right ones of the same image. Files of whole blocks come out right.
#
# Wants mmdebstrap, and root or user namespaces; 1.9.4 is that of Debian forky. Fails if the behaviour has changed.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
root=$work/root
# The state of a release that is not out yet can be older than it says to be valid.
mmdebstrap --quiet --variant=apt --include=erofs-utils=1.9.4-1 --aptopt='Acquire::Check-Valid-Until "false"' forky "$work/root.tar"
mkdir "$root"
tar -xf "$work/root.tar" -C "$root" --exclude='./dev/*'
status=0

# expect WHAT EXPECTED FOUND
expect() {
    echo "erofs-utils 1.9.4, $1: $3"
    if [ "$3" != "$2" ]; then
        echo "expected: $2" >&2
        status=1
    fi
}

# same FILE FILE: whether two files are the same.
same() {
    if cmp -s "$1" "$2"; then echo same; else echo other; fi
}

mkdir "$root/tree"
# Bytes that do not compress, so that they are stored as they are.
openssl enc -aes-128-ctr -K 00000000000000000000000000000001 -iv 0 -in /dev/zero 2>/dev/null | head -c 8692 >"$work/bytes" || :
head -c 500 "$work/bytes" >"$root/tree/small"
head -c 8192 "$work/bytes" >"$root/tree/blocks"
for kind in plain metabox; do
    options=(-zlz4)
    if [ $kind = metabox ]; then options+=(-m4096 --MZ=i); fi
    chroot "$root" mkfs.erofs --quiet "${options[@]}" "/$kind.erofs" /tree
    chroot "$root" fsck.erofs --extract="/$kind" "/$kind.erofs" >/dev/null
    expect "$kind, exit status of fsck.erofs" 0 $?
    small=same
    if [ $kind = metabox ]; then small=other; fi
    expect "$kind, 8192 bytes that it extracts" same "$(same "$root/tree/blocks" "$root/$kind/blocks")"
    expect "$kind, 500 bytes that it extracts" $small "$(same "$root/tree/small" "$root/$kind/small")"
    chroot "$root" dump.erofs --cat --path=/small "/$kind.erofs" >"$work/small"
    expect "$kind, 500 bytes that dump.erofs prints" same "$(same "$root/tree/small" "$work/small")"
done
exit "$status"
