#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# The other names of the command, in the place where mkfs(8), fsck(8), mount(8) and umount(8) look for them.

. "$FEROFS_TESTS/lib.sh"
[ "$FS" = ferofs ] || { echo "ok - names # SKIP only for ferofs"; exit 0; }
sample
for name in mkfs fsck mount umount; do ln -s "$(command -v ferofs)" "/sbin/$name.ferofs"; done

mkdir -p source mnt
echo iron >source/file
ln source/file source/again
check "mkfs(8) makes an image" mkfs -t ferofs image source
modprobe -q loop
truncate -s 64K disk
device=$(losetup -f --show disk) || exit 1
check "mkfs(8) makes one on a block device" mkfs -t ferofs "$device" source
check "and it is the same" cmp -n "$(stat -c %s image)" image "$device"
check "mount(8) mounts a block device" mount -t ferofs "$device" mnt
check "and it is the source, too" diff -r source mnt
refuses "a device that is in use" "busy" mkfs -t ferofs "$device" source
umount mnt
refuses "a device that is too small" "has 65536 bytes, expected at least" \
    mkfs.ferofs --tar=f "$device" "$SHARED/sample.tar"
tar -cf disk.tar -C source .
truncate -s 64K disk.tar
tars=$(losetup -f --show disk.tar)
mknod same b $((0x$(stat -c %t "$tars"))) $((0x$(stat -c %T "$tars")))
cp disk.tar disk.tar.old
for input in disk.tar "$tars" same; do
    refuses "a device that the input, $input, is in" "is the input .*overwritten" mkfs.ferofs --tar=f "$tars" "$input"
    refuses "the same by another node, $input" "is the input .*overwritten" mkfs.ferofs --tar=i same "$input"
done
check "the input is as it was" cmp disk.tar disk.tar.old
losetup -d "$tars"
check "keeps what it had" cmp -n "$(stat -c %s image)" image "$device"
losetup -d "$device"

# By itself, fsck(8) sees an EROFS image and calls fsck.erofs; /etc/fstab says otherwise.
for name in image spoiled; do echo "$WORK/$name $WORK/mnt ferofs noauto 0 2" >>/etc/fstab; done
check "fsck(8) checks it" fsck -T "$WORK/image"
cp output said
check "and says so" grep -q "1 directory, 1 other file, no errors" said
check "with its usual options" fsck -T -a -C "$WORK/image"
ferofs-testkit corrupt image spoiled inode-without-type >output
fsck -T "$WORK/spoiled" >output 2>&1
status=$?
check "a spoiled image has the exit code of uncorrected errors" [ "$status" -eq 4 ]
refuses "a tar is no image" "index it first" fsck -t ferofs -T "$SHARED/sample.tar"

check "mount(8) mounts" mount -t ferofs image mnt
check "and it is the source" diff -r source mnt
check "umount(8) unmounts" umount mnt
check "and nothing is there any more" sh -c '! mountpoint -q mnt'
check "mount(8) mounts a tar" mount -t ferofs "$SHARED/sample.tar" mnt
check "in use it is not unmounted" sh -c "cd mnt && ! umount '$WORK/mnt'"
check "lazily it is" sh -c "cd mnt && umount -l '$WORK/mnt'"
refuses "what is not mounted" "not mounted\|no EROFS image" umount.ferofs mnt
rm /sbin/*.ferofs

finish
