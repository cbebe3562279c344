#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# erofs-utils 1.8.6: a tar without an entry for its root directory, as `tar -c` of some names makes it and many layers of
# container images are, becomes an image whose root has mode 0777, whatever the umask, and a time that is in no entry of
# the tar. With an entry for the root its mode and time are taken.
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

mkdir "$work/tree"
echo hello >"$work/tree/file"
chmod 0750 "$work/tree"
touch -d 2020-01-01T00:00:00Z "$work/tree" "$work/tree/file"
status=0
umask 022
for names in file .; do
    tar -cf "$work/root/layer.tar" --owner=0 --group=0 -C "$work/tree" "$names"
    inside mkfs.erofs --quiet --tar=f /image.erofs /layer.tar
    said=$(inside dump.erofs --path=/ /image.erofs)
    mode=$(sed -n 's/.*Access: \([0-9]*\).*/\1/p' <<<"$said" | head -n 1)
    if grep -q '2020-01-01' <<<"$said"; then time="that of the tar"; else time="another"; fi
    found="mode $mode, time: $time"
    if [ "$names" = file ]; then expected="mode 0777, time: another"; else expected="mode 0750, time: that of the tar"; fi
    echo "erofs-utils $version, tar of '$names': the root has $found"
    if [ "$found" != "$expected" ]; then
        echo "expected: $expected" >&2
        echo "$said" >&2
        status=1
    fi
done
exit "$status"
