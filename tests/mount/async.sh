#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Asynchronous reads give the right bytes: io_uring with and without registered buffers and files, from its
# workers, directly; AIO. Polling for completion is refused, as by files that cannot do it.

. "$FEROFS_TESTS/lib.sh"

# Every block of the file says which one it is and has a checksum.
fio --name=write --filename=data --rw=write --bs=4k --size=2M --verify=crc32c --do_verify=0 >output 2>&1 ||
    fail "fio writes" output
tar -cf layer.tar data
mkfs.erofs --quiet --tar=i layer.erofs layer.tar >output 2>&1
mounted layer.erofs under-test --option "device=$WORK/layer.tar" >output 2>&1 || fail "mounts" output

# shellcheck disable=SC2317 # `check` calls it
reads() {
    fio --name=read --readonly --filename="$WORK/under-test/data" --bs=4k --size=2M --verify=crc32c \
        --rw=randread --iodepth=16 "$@"
}
echo 0 >/proc/sys/kernel/io_uring_disabled
for cached in cold warm; do
    while read -r options; do
        [ $cached = warm ] || echo 3 >/proc/sys/vm/drop_caches
        # shellcheck disable=SC2086 # several options
        check "$cached: fio $options" reads $options
    done <<'OPTIONS'
--ioengine=io_uring
--ioengine=io_uring --fixedbufs --registerfiles
--ioengine=io_uring --force_async=1
--ioengine=io_uring --direct=1
--ioengine=libaio
--ioengine=libaio --direct=1
OPTIONS
done
refuses "polled I/O is refused" "Operation not supported" reads --ioengine=io_uring --hipri --direct=1
check "the mount still works" cmp data under-test/data
check "unmounts" umount under-test
finish
