#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 900
#
# Compressed images by erofs-utils 1.9: records of extents, 48 bits, metadata in a metabox.

. "$FEROFS_TESTS/lib.sh"
compressed_source
OPS=200
mkfs.erofs --version | head -n 1 | sed 's/^/# /'

for options in "-zlz4hc -C65536" "-zlz4 -E48bit" "-zzstd -C65536 -E48bit,ztailpacking" "-zlz4 -C16384 -E48bit,fragments" \
    "-zlzma -C262144 -E48bit,all-fragments" "-zlz4 -m4096" "-zzstd -C65536 -m16384" \
    "-zlz4hc -C32768 -m32768 -Efragments,ztailpacking" "-zdeflate -b1024 -C8192 -m4096" "-zlz4 -m4096 -E48bit" "-zlz4 -C16384 --zD=1" \
    "-zlzma -C16384 -m16384:zstd --MZ=i -Efragments"; do
    compare_compressed "$options" "$OPS"
done
finish
