#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debian-7.2 debug
#
# Mapped files of several extents, which are cached by themselves, are read ahead as the device that the image
# lies on has it set, and no device is made for a mount; where the image lies in memory, one is. (The C driver
# makes one for each mount of a file.)

. "$FEROFS_TESTS/lib.sh"

# Blocks, and an inline tail.
mkdir tree memory lower other layered
seq 1 1000000 >tree/numbers
mkfs.erofs --quiet -x-1 disk.erofs tree >output 2>&1 || fail "an image" output
mount -t tmpfs tmpfs memory
cp disk.erofs memory/
ln disk.erofs lower/
mount -t overlay overlay -o "lowerdir=$WORK/lower:$WORK/other" layered >output 2>&1 || fail "an overlay mounts" output

# What the disks have set, for others who come after.
for was in /sys/block/*/queue/read_ahead_kb; do echo "echo $(cat "$was") >$was"; done >"$SHARED/ahead.restore"
trap 'sh "$SHARED/ahead.restore"' EXIT

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
# khugepaged reads much more for itself, should it come by.
area.madvise(mmap.MADV_NOHUGEPAGE)
area[1 << 20]
pages = (ctypes.c_ubyte * (len(area) // 4096))()
assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(pages) * 4096), pages) == 0
print(sum(page & 1 for page in pages))
END
}

# is_ahead NAME PAGES: passes if so many are, or some less: the kernel need not find memory for all.
is_ahead() {
    is_ahead_pages=$(touched)
    check "$1: $is_ahead_pages pages" test "$is_ahead_pages" -le "$2" -a "$is_ahead_pages" -gt $(($2 / 2))
}

# own: the backing devices of mounts, as sysfs knows them.
own() {
    find /sys/class/bdi/ -name "$FS-*"
}

for image in disk.erofs layered/disk.erofs; do
    # A megabyte at the most, for a fault waits for all of it.
    for case in 0:1 64:16 512:128 8192:256; do
        kib=${case%:*}
        ahead "$kib"
        mounted $image under-test >output 2>&1 || fail "mounts" output
        is_ahead "$image on a disk that reads ahead $kib KiB" "${case#*:}"
        check "$image on a disk: no device of its own" test -z "$(own)"
        umount under-test
    done
done

# The device may change its mind while the image is mounted.
mounted disk.erofs under-test >output 2>&1 || fail "mounts" output
ahead 64
is_ahead "less is read ahead from then on" 16
umount under-test

mounted memory/disk.erofs under-test >output 2>&1 || fail "mounts" output
check "in memory: a device of its own" test -e "$(own)/read_ahead_kb"
echo 64 >"$(own)/read_ahead_kb"
is_ahead "in memory: as much is read ahead" 16
umount under-test
check "in memory: the device goes with the mount" test -z "$(own)"
finish
