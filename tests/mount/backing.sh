#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# What an image and its blobs may lie on: ext4, xfs, tmpfs, the lower layer of an overlay, a block device.
# What they may not be: a directory, a fifo, a file that is not there; and mounts nest only so deep.

. "$FEROFS_TESTS/lib.sh"
sample
modprobe -q loop
mkfs.erofs --quiet --tar=i index.erofs "$SHARED/sample.tar" >output 2>&1
mkfs.erofs --quiet -x-1 full.erofs "$SHARED/sample" >output 2>&1

# works NAME DIRECTORY: the image and the tar lie in the directory.
works() {
    if mounted "$2/index.erofs" under-test --option "device=$2/sample.tar" >output 2>&1; then
        ferofs-testkit manifest under-test >f.manifest
        same "$1: the tree is the same" "$SHARED/sample.manifest" f.manifest
        ferofs-testkit manifest --via mmap under-test >f.manifest
        same "$1: the tree is the same through mmap" "$SHARED/sample.manifest" f.manifest
        check "$1: unmounts" umount under-test
    else
        fail "$1: mounts" output
    fi
}

# disk NAME MKFS...: a file system of its own at NAME, with copies of the image and the tar.
disk() {
    name=$1
    shift
    mkdir -p "$name"
    truncate -s 400M "$name.disk"
    if ! { "$@" "$name.disk" && mount -o loop "$name.disk" "$name"; } >output 2>&1; then
        fail "$name: could not be made" output
    fi
    cp index.erofs "$SHARED/sample.tar" "$name"
}

disk ext4 mkfs.ext4 -q
works "ext4" "$WORK/ext4"
# A block size of 1,024 has partial pages of its own.
disk ext4-1k mkfs.ext4 -q -b 1024
works "ext4 with blocks of 1 KiB" "$WORK/ext4-1k"
disk xfs mkfs.xfs -q
works "xfs" "$WORK/xfs"

mkdir tmpfs && mount -t tmpfs tmpfs tmpfs && cp index.erofs "$SHARED/sample.tar" tmpfs
# The C driver does not take tmpfs.
[ "$FS" = erofs ] || works "tmpfs" "$WORK/tmpfs"

# The image in an overlay's lower layer, reached by its own path and through the overlay.
mkdir lower upper temp merged && cp index.erofs "$SHARED/sample.tar" lower
if mount -t overlay -o "lowerdir=$WORK/lower,upperdir=$WORK/upper,workdir=$WORK/temp" overlay merged 2>output; then
    works "a lower layer of an overlay in use" "$WORK/lower"
    if [ "$FS" = ferofs ]; then works "a file in an overlay" "$WORK/merged"; fi
fi
umount merged

# Two overlays fit on top of a mount.
mounted index.erofs under-test --option "device=$SHARED/sample.tar" >output 2>&1
mkdir -p first second empty
if mount -t overlay -o "lowerdir=$WORK/under-test:$WORK/empty" first first 2>output; then
    check "a second overlay fits on top of one over the mount" \
        mount -t overlay -o "lowerdir=$WORK/first:$WORK/empty" second second
    # To an overlay a character device 0:0 is a whiteout: special/ has one.
    ferofs-testkit manifest second/tree >f.manifest
    ferofs-testkit manifest "$SHARED/sample/tree" >tree.manifest
    same "and has the same tree" tree.manifest f.manifest --ignore nlink
else
    fail "an overlay over the mount" output
fi
umount second first under-test

# A block device as source, and as device.
loop=$(losetup -f --show full.erofs)
check "a block device: mounts" mounted "$loop" under-test
ferofs-testkit manifest under-test >f.manifest
same "a block device: the tree is the same" "$SHARED/sample.manifest" f.manifest
umount under-test
losetup -d "$loop"
cp "$SHARED/sample.tar" blob.disk && truncate -s %4096 blob.disk
loop=$(losetup -f --show blob.disk)
if [ "$FS" = ferofs ]; then
    check "a block device as blob: mounts" mounted index.erofs under-test --option "device=$loop"
    ferofs-testkit manifest under-test >f.manifest
    same "a block device as blob: the tree is the same" "$SHARED/sample.manifest" f.manifest
    umount under-test
fi
losetup -d "$loop"

# Open files instead of paths.
check "the image by descriptor: mounts" \
    ferofs-testkit mount --type "$FS" --fd "source=$WORK/full.erofs" under-test
ferofs-testkit manifest under-test >f.manifest
same "the image by descriptor: the tree is the same" "$SHARED/sample.manifest" f.manifest
umount under-test
if [ "$FS" = ferofs ]; then
    check "image and blob by descriptor: mounts" ferofs-testkit mount \
        --fd "source=$WORK/index.erofs" --fd "device=$SHARED/sample.tar" under-test
    ferofs-testkit manifest under-test >f.manifest
    same "image and blob by descriptor: the tree is the same" "$SHARED/sample.manifest" f.manifest
    umount under-test
fi

# The backing files' names may go away: the mount has them open.
cp index.erofs gone.erofs && cp "$SHARED/sample.tar" gone.tar
mounted gone.erofs under-test --option "device=$WORK/gone.tar" && rm gone.erofs gone.tar
ferofs-testkit manifest under-test >f.manifest
same "backing files that were unlinked" "$SHARED/sample.manifest" f.manifest
umount under-test

mkdir -p dir && mkfifo fifo
refuses "a directory as image" "EINVAL\|EISDIR\|ENOTBLK" mounted dir under-test
refuses "a fifo as image" "EINVAL\|ENOTBLK" timeout 5 ferofs-testkit mount --type "$FS" fifo under-test
refuses "a character device as image" "EINVAL\|ENOTBLK" mounted /dev/zero under-test
refuses "an image that is not there" "ENOENT" mounted nowhere.erofs under-test
refuses "a directory as blob" "EINVAL\|EISDIR" mounted index.erofs under-test --option "device=$WORK/dir"
refuses "a fifo as blob" "EINVAL" timeout 5 \
    ferofs-testkit mount --type "$FS" index.erofs under-test --option "device=$WORK/fifo"
refuses "a blob that is not there" "ENOENT" mounted index.erofs under-test --option "device=$WORK/nowhere"
refuses "a file of zeros as image" "EINVAL\|EUCLEAN" mounted xfs.disk under-test

# Whoever has a lease on a file, as file servers do, is asked to give it up, and waited for.
leased() {
    python3 - "$1" <<'END' &
import fcntl, os, signal, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
def give_up(*_):
    time.sleep(1)
    fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    os._exit(0)
signal.signal(signal.SIGIO, give_up)
fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
open("has-lease", "w").close()
while True:
    signal.pause()
END
    while [ ! -e has-lease ]; do sleep 0.1; done
    rm has-lease
}
leased full.erofs
check "an image with a lease: mounts" timeout 60 ferofs-testkit mount --type "$FS" full.erofs under-test
wait
umount under-test
cp "$SHARED/sample.tar" leased.tar
leased leased.tar
check "a blob with a lease: mounts" timeout 60 ferofs-testkit mount --type "$FS" index.erofs under-test \
    --option "device=$WORK/leased.tar"
wait
umount under-test

# An image inside of a mount of an image, and so on: refused in the end, with a message.
mkdir nested && cp full.erofs nested/inner.erofs
depth=0
while [ $depth -lt 6 ]; do
    mkfs.erofs --quiet -x-1 "outer$depth.erofs" nested >output 2>&1
    rm nested/*
    cp "outer$depth.erofs" nested/inner.erofs
    depth=$((depth + 1))
done
mounted "outer5.erofs" level0 >output 2>&1 || fail "the outermost of nested images" output
depth=0
while [ $depth -lt 5 ]; do
    mounted "level$depth/inner.erofs" "level$((depth + 1))" >nesting 2>&1 || break
    depth=$((depth + 1))
done
check "nested images are refused at some depth (here $depth)" test $depth -lt 3
if [ "$FS" = ferofs ]; then check "and the message says why" grep -q 'context: e ferofs.*\(nest\|stack\)' nesting; fi
while [ $depth -ge 0 ]; do
    umount "level$depth"
    depth=$((depth - 1))
done

finish
