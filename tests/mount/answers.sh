#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# What programs ask a mount besides what is in it: statx's attributes, statfs's number, the name in sysfs, and what
# a remount changes. The C driver is asked as well.

. "$FEROFS_TESTS/lib.sh"
modprobe -q loop
mkdir tree other
echo text >tree/file
ln -s file tree/link
cp tree/file tree/shared
chmod 600 tree/shared
setfacl -m u:1234:r tree/shared
mkfs.erofs --quiet image.erofs tree >output 2>&1
mkfs.erofs --quiet -U 00000000-0000-0000-0000-000000000000 nameless.erofs tree >output 2>&1

# attributes PATH: the attributes that statx knows of, and those that it says are set.
attributes() {
    python3 - "$1" <<'END'
import ctypes, struct, sys
buffer = ctypes.create_string_buffer(256)
libc = ctypes.CDLL(None, use_errno=True)
if libc.statx(-100, sys.argv[1].encode(), 0x100, 0xfff, buffer) != 0:
    sys.exit(ctypes.get_errno())
attributes, = struct.unpack_from("<Q", buffer, 8)
mask, = struct.unpack_from("<Q", buffer, 56)
# Whether it is the root of a mount is not the file system's to say.
print(hex(attributes & ~0x2000), hex(mask & ~0x2000))
END
}

# fsid DIR: the number that statfs has.
fsid() {
    python3 -c 'import os, sys; print(hex(os.statvfs(sys.argv[1]).f_fsid))' "$1"
}

mounted image.erofs under-test
mounted -t erofs "$(padded image.erofs)" other
for file in . file link; do
    attributes under-test/$file >found
    attributes other/$file >expected
    check "statx of $file: the attributes are those of the C driver ($(cat found))" cmp found expected
done
fsid under-test >found
fsid other >expected
check "statfs: the number is that of the C driver ($(cat found))" cmp found expected
umount other

# Whoever asks for the directory in sysfs expects to find it there.
cat >sysfs.py <<'END'
import errno, fcntl, os, sys
answer = bytearray(129)
try:
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x80811501, answer)
except OSError as error:
    sys.exit(0 if error.errno == errno.ENOTTY else error)
name = bytes(answer[1:1 + answer[0]]).decode()
os.listdir("/sys/fs/" + name)
END
mountpoint -q /sys || mount -t sysfs sysfs /sys
check "FS_IOC_GETFSSYSFSPATH: a directory in sysfs, or none" python3 sysfs.py under-test
umount under-test

# Without a UUID the number is that of the device, and there is none for a file.
DEVICE=$(padded nameless.erofs) && DEVICE=$(losetup -f --show "$DEVICE")
mounted -t erofs "$DEVICE" other
fsid other >expected
umount other
mounted "$DEVICE" under-test
fsid under-test >found
umount under-test
check "statfs of a device without a UUID: the number is that of the C driver ($(cat found))" cmp found expected
check "and not zero" grep -qvx 0x0 found
losetup -d "$DEVICE"
mounted -t erofs nameless.erofs.padded other
fsid other >expected
umount other
mounted nameless.erofs under-test
fsid under-test >found
umount under-test
check "statfs of a file without a UUID: the number is that of the C driver ($(cat found))" cmp found expected

# readable DIR: whether an access control list lets a user read a file. listed DIR: whether it is there to be seen.
readable() {
    setpriv --reuid=1234 --regid=1234 --clear-groups cat "$1/shared" >/dev/null 2>&1 && echo "may read"
}

listed() {
    getfattr --absolute-names -m - "$1/shared" 2>/dev/null | grep system.posix
    getfattr --absolute-names -n system.posix_acl_access "$1/shared" 2>&1 | sed 's/.*: //'
}

# seen DIR: what a user sees, also of a dentry and an inode that were not cached before.
seen() {
    readable "$1"
    listed "$1"
    echo 2 >/proc/sys/vm/drop_caches
    readable "$1"
}

# The C driver takes these options at a remount, but goes on as before. What they should do is what it does with them
# at a mount.
if [ "$FS" = ferofs ]; then
    chmod 755 .
    mounted image.erofs under-test
    for options in acl noacl nouser_xattr,noacl acl noacl,acl acl,noacl acl; do
        mounted -t erofs image.erofs.padded other --option "${options##*,}"
        seen other 2>&1 | sed "s|other|DIR|g" >expected
        umount other
        mount -i -o "remount,ro,$options" under-test || echo "is refused" >>expected
        seen under-test 2>&1 | sed "s|under-test|DIR|g" >found
        check "remount,$options: as mounted so ($(grep -c 'may read' found) of 2)" diff expected found
    done
    mount -o remount,noacl under-test
    check "/proc/mounts says noacl" grep -q " $WORK/under-test ferofs [^ ]*noacl" /proc/mounts
    mount -o remount,acl under-test
    check "/proc/mounts says noacl no more" sh -c "! grep -q ' $WORK/under-test ferofs [^ ]*noacl' /proc/mounts"
    umount under-test
fi

# What statmount(2) tells of a mount: its type and source, and which blobs back it. For the C driver it is the same, as
# far as it shows that.
cat >statmount.py <<'END'
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
buffer = ctypes.create_string_buffer(256)
assert libc.statx(-100, sys.argv[1].encode(), 0, 0x4000, buffer) == 0
unique, = struct.unpack_from("=Q", buffer, 144)
FS_TYPE, SB_SOURCE, OPT_ARRAY, FS_SUBTYPE = 0x20, 0x200, 0x400, 0x100
request = struct.pack("=IIQQQ", 32, 0, unique, FS_TYPE | SB_SOURCE | OPT_ARRAY | FS_SUBTYPE, 0)
answer = ctypes.create_string_buffer(65536)
if libc.syscall(457, request, answer, len(answer), 0):
    sys.exit(os.strerror(ctypes.get_errno()))
mask, = struct.unpack_from("=Q", answer, 8)
strings = answer.raw[512:]
def string(offset):
    start, = struct.unpack_from("=I", answer, offset)
    return strings[start:strings.index(b"\0", start)].decode()
print("type", string(36), "subtype" if mask & FS_SUBTYPE else "no subtype")
print("source", string(124))
number, at = struct.unpack_from("=II", answer, 128)
for _ in range(number):
    end = strings.index(b"\0", at)
    print("option", strings[at:end].decode())
    at = end + 1
END
sample
mkfs.erofs --quiet --tar=i index.erofs "$SHARED/sample.tar" >output 2>&1
cp "$SHARED/sample.tar" "a blob,#1.tar"
truncate -s %4096 index.erofs
for type in erofs "$FS"; do
    mounted -t "$type" "$WORK/index.erofs" under-test --option nouser_xattr --option "device=$WORK/a blob,#1.tar"
    python3 statmount.py under-test >found 2>&1
    check "statmount of $type: the type" grep -qx "type $type no subtype" found
    check "statmount of $type: the source" grep -qx "source $WORK/index.erofs" found
    check "statmount of $type: an option" grep -qx "option nouser_xattr" found
    if [ "$type" = ferofs ]; then
        check "statmount: the blob that backs it" grep -Fqx "option device=$WORK/a blob,#1.tar" found
    fi
    umount under-test
done

finish
