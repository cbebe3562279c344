#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Images that use what is not known are refused at mount, by the feature's name; those that say of themselves what cannot be
# are damaged. The C driver refuses all of them, too.

. "$FEROFS_TESTS/lib.sh"
sample
mkfs.erofs --quiet -x-1 plain.erofs "$SHARED/sample/sizes" >output 2>&1 || fail "an image" output
mkfs.erofs --quiet -x-1 -zzstd -C16384 packed.erofs "$SHARED/sample/sizes" >output 2>&1 || fail "a compressed image" output

# changed FROM OFFSET SIZE VALUE: makes image.erofs with another number in its superblock, which has no checksum then.
changed() {
    python3 - "$@" <<'PYTHON'
import sys

name, offset, size, value = sys.argv[1], *(int(number, 0) for number in sys.argv[2:])
image = bytearray(open(name, "rb").read())
image[1032] &= 0xFE
image[1024 + offset:1024 + offset + size] = value.to_bytes(size, "little")
open("image.erofs", "wb").write(image)
PYTHON
}

# refused NAME ERROR TEXT FROM OFFSET SIZE VALUE
refused() {
    name=$1
    error=$2
    text=$3
    shift 3
    changed "$@"
    refuses "$name: by the C driver, too" "mount: E" mounted -t erofs image.erofs under-test
    refuses "$name: $error" "$error" mounted image.erofs under-test
    refuses "$name: the context's log has its name" "context: .*$text" mounted image.erofs under-test
    log_mark
    refuses "$name: by mount(2)" "$error" ferofs-testkit mount --classic --type "$FS" image.erofs under-test
    logged "$name: the kernel's log has its name" "$text"
    check "$name: in one line" sh -c "dmesg | sed '1,/$LOG_MARK/d' | grep -c ferofs | grep -qx 1"
}

[ "$FS" = ferofs ] || { echo "# the messages are those of ferofs"; exit 0; }
changed plain.erofs 1 0 0
check "an image without checksum mounts" mounted image.erofs under-test
umount under-test
refused "a feature that is not known" EOPNOTSUPP "unknown incompatible feature" plain.erofs 80 4 0x8000
refused "larger directory blocks" EOPNOTSUPP "directory block size" plain.erofs 90 1 1
refused "an algorithm that is not known" EOPNOTSUPP "compression algorithm" packed.erofs 84 2 0x18
refused "blocks larger than a page" EOPNOTSUPP "block size above the page size" plain.erofs 12 1 16
refused "a metabox without its number" EUCLEAN "metabox" plain.erofs 80 4 0x100
# The configuration of Zstandard is the only one, 128 bytes behind the superblock's start: its length, format and window.
refused "a window of 2 MiB" EOPNOTSUPP "window of Zstandard" packed.erofs 131 1 11
refused "a configuration that is too short" EUCLEAN "configuration is cut off" packed.erofs 128 2 1
finish
