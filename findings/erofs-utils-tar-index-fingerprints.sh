#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# erofs-utils 1.9.4: mkfs.erofs --xattr-inode-digest=user.fp gives each file of a directory, and of a tar that is copied into the
# image (--tar=f), an attribute with the sha256 of its content. With --tar=i, an image whose data stays in the tar, it says in the
# superblock that files have such attributes, and writes none, without a warning.
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

# found IMAGE: whether the file's digest is anywhere in the image, and whether the bit ISHARE_XATTRS of feature_compat is set.
found() {
    python3 - "$root/$1" "$(sha256sum "$root/tree/file" | cut -d' ' -f1)" <<'PYTHON'
import sys

image = open(sys.argv[1], "rb").read()
bit = int.from_bytes(image[1024 + 8:1024 + 12], "little") >> 5 & 1
digest = bytes.fromhex(sys.argv[2])
print("the bit is", "set," if bit else "not set,", "a digest is", "there" if digest in image else "not there")
PYTHON
}

mkdir "$root/tree"
seq 1000 >"$root/tree/file"
tar -C "$root/tree" -cf "$root/tree.tar" .
make() { chroot "$root" mkfs.erofs --quiet --xattr-inode-digest=user.fp "$@" >&2; }
make /directory.erofs /tree
make --tar=f /full.erofs /tree.tar
make --tar=i /index.erofs /tree.tar
expect "of a directory" "the bit is set, a digest is there" "$(found directory.erofs)"
expect "--tar=f" "the bit is set, a digest is there" "$(found full.erofs)"
expect "--tar=i" "the bit is set, a digest is not there" "$(found index.erofs)"
exit "$status"
