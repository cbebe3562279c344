#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# erofs-utils 1.9.4: a file changed in the second in which mkfs.erofs runs, or that -T SECONDS --mkfs-time says, has that
# second as its time in the image, without its nanoseconds. Files of any other second have theirs. erofs-utils 1.8.6 keeps
# all of them.
#
# Wants mmdebstrap, and root or user namespaces; 1.9.4 is that of Debian forky. Fails if the behaviour has changed.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
# The state of a release that is not out yet can be older than it says to be valid.
mmdebstrap --quiet --variant=apt --include=erofs-utils=1.8.6-1 trixie "$work/1.8.6.tar"
mmdebstrap --quiet --variant=apt --include=erofs-utils=1.9.4-1 --aptopt='Acquire::Check-Valid-Until "false"' forky "$work/1.9.4.tar"
status=0

# expect WHAT EXPECTED FOUND
expect() {
    echo "erofs-utils $version, $1: $3"
    if [ "$3" != "$2" ]; then
        echo "expected: $2" >&2
        status=1
    fi
}

# nanoseconds FILE: those of a file in the image.
nanoseconds() {
    chroot "$root" dump.erofs --path="/$1" /image.erofs | sed -n 's/^Timestamp:.*\.\([0-9]*\).*/\1/p'
}

for version in 1.8.6 1.9.4; do
    root=$work/$version
    mkdir "$root"
    tar -xf "$root.tar" -C "$root" --exclude='./dev/*'
    mkdir "$root/tree"
    dropped=250000000
    if [ "$version" = 1.9.4 ]; then dropped=000000000; fi

    touch -d @1700000000.25 "$root/tree/file"
    touch -d @1600000000.25 "$root/tree/other"
    chroot "$root" mkfs.erofs --quiet -T 1700000000 --mkfs-time /image.erofs /tree
    expect "-T with the file's second, nanoseconds of .25" "$dropped" "$(nanoseconds file)"
    expect "-T with another second, nanoseconds of .25" 250000000 "$(nanoseconds other)"

    # Without options, until it begins and ends in one second.
    for _ in {1..20}; do
        now=$(date +%s)
        touch -d "@$now.25" "$root/tree/file"
        chroot "$root" mkfs.erofs --quiet /image.erofs /tree
        if [ "$(date +%s)" = "$now" ]; then break; fi
    done
    expect "a file of the second in which it runs, nanoseconds of .25" "$dropped" "$(nanoseconds file)"
    expect "a file of another second, nanoseconds of .25" 250000000 "$(nanoseconds other)"
done
exit "$status"
