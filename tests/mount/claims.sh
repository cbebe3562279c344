#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Block devices under a mount are claimed: no one else can mount them, make a filesystem on them, or make them part
# of another device, until the last mount is gone. What others claimed cannot be mounted. The C driver does the same
# with devices that are given by path, which all that it takes are.

. "$FEROFS_TESTS/lib.sh"
sample
modprobe -q loop
modprobe -q dm-mod
mkfs.erofs --quiet --tar=i index.erofs "$SHARED/sample.tar" >output 2>&1
mkfs.erofs --quiet -x-1 full.erofs "$SHARED/sample" >output 2>&1

# disk FILE: prints a block device with a copy of the file.
disk() {
    cp "$1" "$(basename "$1").disk"
    truncate -s %4096 "$(basename "$1").disk"
    losetup -P -f --show "$(basename "$1").disk"
}

FULL=$(disk full.erofs) && INDEX=$(disk index.erofs) && BLOB=$(disk "$SHARED/sample.tar") || exit 1

# exclusive DEVICE: opens it for this program alone.
# shellcheck disable=SC2317 # called by check and refuses
exclusive() {
    python3 -c 'import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)' "$1"
}

# held NAME DEVICE: no one else gets the device.
held() {
    refuses "$1: O_EXCL" "Device or resource busy" exclusive "$2"
    refuses "$1: mkfs.ext4" "in use\|is mounted" mkfs.ext4 -q "$2"
    refuses "$1: wipefs" "Device or resource busy" wipefs -a "$2"
    refuses "$1: dmsetup" "Device or resource busy" dmsetup --noudevrules --noudevsync create claims \
        --table "0 8 linear $2 0"
    refuses "$1: another filesystem" "EBUSY" mounted -t ext4 "$2" other
    refuses "$1: the partition table is not read again" "Device or resource busy" blockdev --rereadpt "$2"
}

# free NAME DEVICE: everyone gets it.
free() {
    check "$1: O_EXCL" exclusive "$2"
    check "$1: dmsetup" dmsetup --noudevrules --noudevsync create claims --table "0 8 linear $2 0"
    dmsetup --noudevrules --noudevsync remove --retry claims
    check "$1: the partition table is read again" blockdev --rereadpt "$2"
}

free "before" "$FULL"
check "an image: mounts" mounted "$FULL" under-test
held "an image" "$FULL"
check "an image: mounts again" mounted "$FULL" again
check "an image: is remounted" mount -o remount under-test
umount under-test
held "an image with one mount left" "$FULL"
umount again
free "an image with no mount left" "$FULL"

check "a blob: mounts" mounted "$INDEX" under-test --option "device=$BLOB"
held "the blob" "$BLOB"
held "the blob's image" "$INDEX"
ferofs-testkit manifest under-test >f.manifest
same "a blob: the tree is the same" "$SHARED/sample.manifest" f.manifest
check "a blob: mounts once more" mounted "$INDEX" again \
    --option "device=$BLOB"
umount under-test
ferofs-testkit manifest again >f.manifest
same "a blob: the tree is still the same" "$SHARED/sample.manifest" f.manifest
held "the blob with one mount left" "$BLOB"
umount again
free "the blob with no mount left" "$BLOB"
free "the blob's image with no mount left" "$INDEX"

# A mount that fails leaves nothing claimed.
refuses "a blob that is not there" "ENOENT" mounted "$INDEX" under-test --option "device=$WORK/nowhere"
free "after a mount that failed for want of a blob" "$INDEX"
refuses "no image" "EINVAL\|EUCLEAN" mounted "$BLOB" under-test
free "after a mount of what is no image" "$BLOB"

# What others have claimed.
truncate -s 16M ext4.disk && mkfs.ext4 -q ext4.disk
EXT4=$(losetup -f --show ext4.disk)
mount "$EXT4" other
refuses "a device that ext4 has, as image" "EBUSY" mounted "$EXT4" under-test
refuses "a device that ext4 has, as blob" "EBUSY" mounted "$INDEX" under-test --option "device=$EXT4"
cp output message
if [ "$FS" = ferofs ]; then check "and the message says so" grep -q "$EXT4: the block device is in use" message; fi
free "the image, when its blob was in use" "$INDEX"
umount other
if [ "$FS" = ferofs ]; then
    mounted -t erofs "$FULL" other
    refuses "a device that the C driver has, as image" "EBUSY" mounted "$FULL" under-test
    umount other
    mounted "$FULL" under-test
    refuses "the C driver does not get what is mounted" "EBUSY" mounted -t erofs "$FULL" other
    umount under-test
fi
exec 5<"$FULL"
check "a device that is open, but not claimed, mounts" mounted "$FULL" under-test
umount under-test
exec 5<&-

if [ "$FS" = ferofs ]; then
    # Open files instead of paths; and blobs of one mount that are the image of another.
    check "by descriptor: mounts" ferofs-testkit mount --fd "source=$INDEX" --fd "device=$BLOB" under-test
    held "an image by descriptor" "$INDEX"
    held "a blob by descriptor" "$BLOB"
    check "the same by path: mounts" mounted "$INDEX" again --option "device=$BLOB"
    umount again
    held "a blob by descriptor, when its path was unmounted" "$BLOB"
    umount under-test
    free "an image by descriptor" "$INDEX"
    free "a blob by descriptor" "$BLOB"
    check "a device as image" mounted "$FULL" under-test
    check "and as blob of another" mounted index.erofs again --option "device=$FULL"
    umount under-test
    held "a device with the mount left whose blob it is" "$FULL"
    umount again
    free "a device that was image and blob" "$FULL"
    check "an image and its blob can be one device" mounted "$INDEX" under-test --option "device=$INDEX"
    umount under-test
    free "an image that was its own blob" "$INDEX"
fi

# A mount that is gone from the tree, but in use, keeps its device.
mounted "$FULL" under-test
exec 5<under-test/sizes/65537
umount -l under-test
held "an open file after a lazy unmount" "$FULL"
exec 5<&-
free "that file closed" "$FULL"

losetup -d "$FULL" "$INDEX" "$BLOB" "$EXT4"
finish
