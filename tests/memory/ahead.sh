#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Mapped files of several extents, which are cached by themselves, are read ahead as the device that the image
# lies on has it set, and no device is made for a mount; where the image lies in memory, one is.

. "$FEROFS_TESTS/lib.sh"

# Blocks, and an inline tail.
mkdir tree memory
seq 1 1000000 >tree/numbers
mkfs.erofs --quiet -x-1 disk.erofs tree >output 2>&1 || fail "an image" output
mount -t tmpfs tmpfs memory
cp disk.erofs memory/

# ahead KIB: has disks read ahead so much.
ahead() {
    for ahead_disk in /sys/block/*/queue/read_ahead_kb; do echo "$1" >"$ahead_disk"; done
}

# touched: how many pages of the file are cached after one in the middle was touched in a mapping.
touched() {
    drop
    python3 - <<'END'
import ctypes, mmap

file = open("under-test/numbers", "rb")
area = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
area[1 << 20]
pages = (ctypes.c_ubyte * (len(area) // 4096))()
assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(pages) * 4096), pages) == 0
print(sum(page & 1 for page in pages))
END
}

# own: the backing devices of mounts, as sysfs knows them.
own() {
    find /sys/class/bdi/ -name "$FS-*"
}

for kib in 0 64 512; do
    ahead $kib
    mounted disk.erofs under-test >output 2>&1 || fail "mounts" output
    pages=$(touched)
    check "on a disk that reads ahead $kib KiB: $pages pages" test "$pages" -ge $((kib / 4)) -a "$pages" -le $((kib / 4 + 1))
    check "on a disk: no device of its own" test -z "$(own)"
    umount under-test
done

# The device may change its mind while the image is mounted.
mounted disk.erofs under-test >output 2>&1 || fail "mounts" output
ahead 64
pages=$(touched)
check "less is read ahead from then on: $pages pages" test "$pages" -eq 16
umount under-test

mounted memory/disk.erofs under-test >output 2>&1 || fail "mounts" output
check "in memory: a device of its own" test -e "$(own)/read_ahead_kb"
echo 64 >"$(own)/read_ahead_kb"
pages=$(touched)
check "in memory: as much is read ahead: $pages pages" test "$pages" -eq 16
umount under-test
check "in memory: the device goes with the mount" test -z "$(own)"
finish
