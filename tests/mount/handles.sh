#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debian-7.2
#
# File handles, as the NFS server and overlayfs use them: every file is found again by its handle when nothing of
# it is cached, and so is its directory; handles from elsewhere are stale. And the label, by ioctl(2).

. "$FEROFS_TESTS/lib.sh"
sample
modprobe -q overlay
mkfs.erofs --quiet -x-1 -L iron full.erofs "$SHARED/sample" >output 2>&1
mkfs.erofs --quiet -x-1 other.erofs "$SHARED/sample" >output 2>&1
mounted full.erofs under-test >output 2>&1 || fail "mounts" output
mounted other.erofs other >output 2>&1 || fail "mounts" output

cat >handles.py <<'END'
import ctypes, errno, fcntl, os, sys
from stat import S_ISDIR, S_ISREG

libc = ctypes.CDLL(None, use_errno=True)


class Handle(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint), ("type", ctypes.c_int), ("words", ctypes.c_uint * 32)]


def handle(path, flags):
    made = Handle(bytes=128)
    if libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(made), ctypes.byref(ctypes.c_int()), flags):
        raise OSError(ctypes.get_errno(), "name_to_handle_at", path)
    return made


def opened(root, made):
    fd = libc.open_by_handle_at(root, ctypes.byref(made), os.O_PATH | os.O_NOFOLLOW)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "open_by_handle_at")
    return fd


def error(function, *arguments):
    try:
        function(*arguments)
        return "no error"
    except OSError as failed:
        return errno.errorcode[failed.errno]


def all_are_found(top):
    # AT_HANDLE_CONNECTABLE: with the directory. A file with several names may come by any of them.
    CONNECTABLE = 2
    root = os.open(top, os.O_RDONLY)
    paths = [os.path.join(dir, name) for dir, dirs, files in os.walk(top) for name in dirs + files]
    assert len(paths) > 60, len(paths)
    known = [(path, os.lstat(path), handle(path, 0), handle(path, CONNECTABLE)) for path in paths]
    for which in 0, 1:
        with open("/proc/sys/vm/drop_caches", "w") as caches:
            caches.write("3")
        for path, stat, *handles in reversed(known):
            fd = opened(root, handles[which])
            now = os.fstat(fd)
            assert (now.st_ino, now.st_mode, now.st_size) == (stat.st_ino, stat.st_mode, stat.st_size), path
            isdir, isfile = S_ISDIR(stat.st_mode), S_ISREG(stat.st_mode)
            if isdir or isfile and which == 1 and stat.st_nlink == 1:
                shown = os.readlink("/proc/self/fd/%d" % fd)
                assert shown == path, (shown, path)
            os.close(fd)


def strange_are_stale(top, elsewhere):
    root = os.open(top, os.O_RDONLY)
    made = handle(elsewhere, 0)
    assert error(opened, root, made) == "ESTALE", error(opened, root, made)
    for place, change in (0, 1 << 31), (1, 1 << 30):
        made = handle(top, 0)
        made.words[place] ^= change
        assert error(opened, root, made) == "ESTALE", (place, error(opened, root, made))


def label(top, wanted):
    FS_IOC_GETFSLABEL = 0x81009431
    for name in ".", "sizes/1":
        fd = os.open(os.path.join(top, name), os.O_RDONLY)
        found = fcntl.ioctl(fd, FS_IOC_GETFSLABEL, bytes(256)).rstrip(b"\0").decode()
        assert found == wanted, found
        assert error(fcntl.ioctl, fd, 0xfe01) == "ENOTTY"


globals()[sys.argv[1]](*sys.argv[2:])
END

check "every file is found again by its handle" python3 handles.py all_are_found "$WORK/under-test"
[ "$FS" = erofs ] || check "handles from elsewhere are stale" \
    python3 handles.py strange_are_stale under-test other/sizes/1
check "the label" python3 handles.py label under-test iron
check "no label" python3 handles.py label other ""

# overlayfs knows by handles what it copied up from where.
mkdir upper work overlay
check "overlayfs can use the handles" \
    mount -t overlay overlay -o lowerdir=under-test,upperdir=upper,workdir=work,index=on,nfs_export=on overlay
check "and does" grep -q " $WORK/overlay overlay .*nfs_export=on" /proc/mounts
before=$(stat -c %i overlay/sizes/4096)
chmod 604 overlay/sizes/4096
echo 2 >/proc/sys/vm/drop_caches
check "a copied file keeps its inode number" test "$before" = "$(stat -c %i overlay/sizes/4096)"
umount overlay

finish
