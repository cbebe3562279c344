#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debian-7.2 debug
# slow: yes
# timeout: 900
#
# Compressed images of every algorithm, cluster size, feature and block size that mkfs.erofs of Debian 13 writes: what is in
# them is what the C driver shows.

. "$FEROFS_TESTS/lib.sh"
compressed_source
case ${FEROFS_KERNEL:-} in
debug) OPS=40 ;;
*) OPS=150 ;;
esac

# few OPTIONS: whether it is one of those that are enough for other kernels.
few() {
    case ${FEROFS_KERNEL:-}:$1 in
    # The debug kernel has no Zstandard, and its C driver no DEFLATE.
    debug:*zstd* | debug:*deflate*) return 1 ;;
    debian-7.3:* | *:*-Eall-fragments,dedupe* | *:"-zzstd -b2048"* | *:"-zdeflate -C65536"* | *:"-zlzma -b1024"*) ;;
    *) return 1 ;;
    esac
}

for options in "-zlz4" "-zlz4hc,12 -C65536" "-zlz4hc -C65536 -Eztailpacking" "-zlz4 -Efragments" \
    "-zlz4 -Eall-fragments,dedupe -C16384" "-zlz4 -C65536 -Eforce-inode-extended" \
    "-zzstd -C65536" "-zzstd -C1048576 -Efragments,ztailpacking,dedupe" "-zdeflate -C65536 -Efragments,ztailpacking" \
    "-zdeflate -C4096 -Ededupe" "-zlzma -C65536" "-zlzma -C1048576 -Eztailpacking,fragments" "-zlz4:zstd -C32768" \
    "-zlz4 -b512" "-zlz4hc -b1024 -C8192 -Eztailpacking" "-zzstd -b2048 -C16384 -Efragments" "-zlzma -b1024 -C65536"; do
    if few "$options"; then compare_compressed "$options" "$OPS"; fi
done

# What mkfs.erofs wrote before Linux 5.3: without zeros in front of the data, which the C driver no longer reads.
mkfs.erofs --quiet -zlz4hc -C65536 -Elegacy-compress legacy.erofs source >output 2>&1 || fail "legacy: the image" output
check "legacy: mounts" mounted legacy.erofs under-test
check "legacy: the same files" diff -r source under-test
umount under-test

# Options that the C driver has for compressed data.
mkfs.erofs --quiet -zlz4 image.erofs source >output 2>&1 && truncate -s %4096 image.erofs
for strategy in disabled readahead readaround; do
    check "cache_strategy=$strategy: mounts" mounted image.erofs under-test --option cache_strategy=$strategy
    check "cache_strategy=$strategy: the same files" diff -r source under-test
    umount under-test
done

# A program, a library and a script out of a compressed image.
mounted image.erofs under-test
drop
check "a program runs" under-test/cat under-test/texts/70000
check "a program runs again" under-test/cat under-test/texts/70000
drop
check "a file is mapped" cmp under-test/mixed source/mixed
check "a file is spliced" sh -c 'cat under-test/mixed | cmp - source/mixed'
near "page cache of a file is its size" "$(drop && before=$(cached) && cat under-test/zeros >/dev/null && echo $(($(cached) - before)))" \
    3000 700
umount under-test
finish
