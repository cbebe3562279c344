#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Images that use what ferofs does not have are refused at mount, by the feature's name.

. "$FEROFS_TESTS/lib.sh"
sample

# refused NAME TEXT ARGUMENTS...: mkfs.erofs ARGUMENTS makes an image that is refused with TEXT.
refused() {
    name=$1
    text=$2
    shift 2
    if ! mkfs.erofs --quiet -x-1 "$@" image.erofs "$SHARED/sample/sizes" >output 2>&1; then
        fail "$name: mkfs.erofs" output
        return
    fi
    refuses "$name: EOPNOTSUPP" EOPNOTSUPP mounted image.erofs under-test
    refuses "$name: the context's log has its name" "context: .*$text" mounted image.erofs under-test
    log_mark
    refuses "$name: by mount(2)" EOPNOTSUPP ferofs-testkit mount --classic --type "$FS" image.erofs under-test
    logged "$name: the kernel's log has its name" "$text"
    check "$name: in one line" sh -c "dmesg | sed '1,/$LOG_MARK/d' | grep -c ferofs | grep -qx 1"
}

[ "$FS" = ferofs ] || { echo "# the C driver has these features"; exit 0; }
refused "lz4" "ompress" -zlz4
refused "lz4hc, large clusters" "ompress" -zlz4hc -C65536
refused "deflate" "ompress" -zdeflate
refused "lzma" "ompress" -zlzma
refused "zstd" "ompress" -zzstd
refused "tail packing" "ompress\|tail" -zlz4 -Eztailpacking
refused "fragments" "ompress\|ragment" -zlz4 -Efragments
refused "fragments of whole files" "ompress\|ragment" -zlz4 -Eall-fragments
refused "dedupe" "ompress\|edup" -zlz4 -Ededupe

finish
