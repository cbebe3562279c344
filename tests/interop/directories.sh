#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Directories as programs see them that seek in them or read them with small buffers, for each block size
# and for a large directory.

. "$FEROFS_TESTS/lib.sh"
sample

for bits in 512 1024 2048 4096; do
    mkfs.erofs --quiet -x-1 -b$bits image.erofs "$SHARED/sample" >output 2>&1
    check "block size $bits: mounts" mounted image.erofs under-test
    check "block size $bits: directories are sound" ferofs-testkit dircheck under-test
    umount under-test
done

ENTRIES=${ENTRIES:-20000}
ferofs-testkit gen-tar wide wide.tar --files "$ENTRIES"
if ferofs build -o wide.erofs wide.tar >output 2>&1; then
    check "$ENTRIES entries: mounts" mounted wide.erofs under-test --option "device=$WORK/wide.tar"
    check "$ENTRIES entries: directories are sound" ferofs-testkit dircheck under-test
    tar -tf wide.tar | sed 's,^\./,,; s,/$,,; /^$/d' | sort >expected
    (cd under-test && find . -mindepth 1 | sed 's,^\./,,' | sort) >found
    check "$ENTRIES entries: every one is listed" cmp expected found
    check "a name that is not there" sh -c '! ls under-test/wide/entry-zzzzzzzz'
    check "a name before all others" sh -c '! ls under-test/wide/a'
    umount under-test
else
    fail "$ENTRIES entries: ferofs build" output
fi

finish
