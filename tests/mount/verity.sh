#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debian-7.2
#
# verity=: only the image that was asked for is mounted, and only over the blobs that it says. The judge of digests is the
# fsverity command, which asks the kernel.

. "$FEROFS_TESTS/lib.sh"
[ "$FS" = ferofs ] || { pass "the C driver has no verity="; finish; }
verity_disk ext4.disk 300M ext4 >output 2>&1 || fail "ext4 with verity" output
cd ext4 || exit 1

# Three layers of which each has a file of its own, and one that all have, for who looks at the wrong tar.
for name in one two three; do
    mkdir "$name"
    { seq 20000 && echo "$name"; } >"$name/$name"
    echo "$name" >"$name/last"
    tar -cf "$name.tar" -C "$name" "$name" last
    ferofs build --quiet --verity -o "$name.erofs" "$name.tar" >output 2>&1 || fail "an index of $name" output
done
ferofs merge -o merged.erofs one.erofs two.erofs three.erofs >output 2>&1 || fail "merged" output
cp one.erofs plain.erofs
cp one.tar plain.tar
# One that has other bytes, and the same headers.
sed 's/^19999$/19998/' one.tar >other.tar
for file in one two three other; do fsverity enable "$file.tar" || fail "fs-verity of $file.tar"; done
for file in one two merged; do fsverity enable "$file.erofs" || fail "fs-verity of $file.erofs"; done
digest_of() { fsverity measure "$1" | sed 's/^sha256:\([0-9a-f]*\) .*/\1/'; }
ONE=$(digest_of one.erofs)
MERGED=$(digest_of merged.erofs)
ALL="--option device=one.tar --option device=two.tar --option device=three.tar"

# reads NAME: what is mounted is what is in the layers of a merged image.
reads() {
    check "$1: one" cmp under-test/one one/one
    check "$1: two" cmp under-test/two two/two
    check "$1: last" cmp under-test/last three/last
    umount under-test
}

# What tags say is what the kernel says.
python3 - >tags <<'PYTHON'
import base64, subprocess
for name in ["one", "two", "three"]:
    measured = subprocess.run(["fsverity", "measure", name + ".tar"], capture_output=True, text=True, check=True).stdout
    digest = bytes.fromhex(measured.removeprefix("sha256:").split()[0])
    tag = "fsverity-sha256:" + base64.urlsafe_b64encode(digest).decode().rstrip("=")
    print(name, tag, tag.encode() in open(name + ".erofs", "rb").read(), tag.encode() in open("merged.erofs", "rb").read())
PYTHON
check "tags have the digests that the kernel measures" test "$(grep -c "True True$" tags)" = 3
check "ferofs check --verity says the same" ferofs check --verity merged.erofs -d one.tar -d two.tar -d three.tar
refuses "ferofs check --verity finds another tar" "other.tar: its fs-verity digest is $(digest_of other.tar)" \
    ferofs check --verity one.erofs -d other.tar

# shellcheck disable=SC2086 # words
{
    check "verity=require" mounted merged.erofs under-test --option verity=require $ALL
    check "/proc/mounts has it" grep -q " $PWD/under-test ferofs ro,.*,verity=require,device=" /proc/mounts
    reads "verity=require"
    check "verity=HEX" mounted merged.erofs under-test --option "verity=$MERGED" $ALL
    check "/proc/mounts has the digest" grep -q ",verity=sha256:$MERGED,device=[^ ]*/one.tar,device=[^ ]*/two.tar," /proc/mounts
    reads "verity=HEX"
    check "verity=sha256:HEX, in capitals" \
        mounted merged.erofs under-test --option "verity=sha256:$(echo "$MERGED" | tr a-f A-F)" $ALL
    reads "verity=sha256:HEX"
}
# In any other order, the blobs are where they belong.
for order in "two one three" "three two one" "two three one"; do
    set -- merged.erofs under-test --option "verity=$MERGED"
    for name in $order; do set -- "$@" --option "device=$name.tar"; done
    check "blobs in the order $order" mounted "$@"
    check "$order: are shown in the order of the slots" \
        grep -q "device=[^ ]*/one.tar,device=[^ ]*/two.tar,device=[^ ]*/three.tar " /proc/mounts
    reads "$order"
done
check "blobs by descriptor, in another order" ferofs-testkit mount --fd source=merged.erofs --option verity=require \
    --fd device=three.tar --fd device=one.tar --fd device=two.tar under-test
reads "by descriptor"
# Without verity= the order decides, as ever: tars are taken for what they are given as.
check "without verity=: mounts in any order" \
    mounted merged.erofs under-test --option device=two.tar --option device=one.tar --option device=three.tar
refuses "without verity=: and has the wrong data" "differ\|EOF\|Structure needs cleaning" cmp under-test/one one/one
umount under-test

# refused NAME ERRNO TEXT MOUNT-ARGUMENTS...: the errno, and what the context's log says.
refused() {
    refused_name=$1
    refused_errno=$2
    refused_text=$3
    shift 3
    refuses "$refused_name: $refused_errno" "mount: $refused_errno$" mounted "$@"
    refuses "$refused_name: is told" "context: e ferofs: $refused_text" mounted "$@"
}
wants="wants sha256:"
refused "another image" EKEYREJECTED "two.erofs: its fs-verity digest is sha256:$(digest_of two.erofs), and verity= ${wants}$ONE" \
    two.erofs under-test --option "verity=$ONE" --option device=two.tar
refused "an image without fs-verity" ENODATA "plain.erofs: has no fs-verity, which verity= wants" \
    plain.erofs under-test --option "verity=$ONE" --option device=one.tar
refused "an image without fs-verity, if any will do" ENODATA "plain.erofs: has no fs-verity" \
    plain.erofs under-test --option verity=require --option device=one.tar
refused "a blob without fs-verity" ENODATA "[^ ]*plain.tar: has no fs-verity, which verity= wants" \
    one.erofs under-test --option verity=require --option device=plain.tar
refused "a blob with other bytes" EKEYREJECTED \
    "[^ ]*/other.tar: its fs-verity digest is sha256:$(digest_of other.tar), and one.erofs ${wants}$(digest_of one.tar) of device 1" \
    one.erofs under-test --option verity=require --option device=other.tar
refused "a blob with other bytes, below an image that is known" EKEYREJECTED "[^ ]*/other.tar: .* of device 1" \
    one.erofs under-test --option "verity=$ONE" --option device=other.tar
# Which one is wrong is known whatever the order is.
refused "one of three is wrong" EKEYREJECTED "[^ ]*/other.tar: .*${wants}$(digest_of one.tar) of device 1" \
    merged.erofs under-test --option verity=require --option device=two.tar --option device=three.tar --option device=other.tar
refused "a blob twice" EKEYREJECTED "[^ ]*two.tar: .*${wants}$(digest_of three.tar) of device 3" merged.erofs under-test \
    --option verity=require --option device=one.tar --option device=two.tar --option device=./two.tar
refused "a blob by descriptor is called by its path" EKEYREJECTED "$PWD/other.tar: its fs-verity digest is" \
    one.erofs under-test --option verity=require --fd device=other.tar
sha512=$(printf %0128d 0)
refused "a digest of another algorithm" EKEYREJECTED "one.erofs: .*wants sha512:$sha512" \
    one.erofs under-test --option "verity=sha512:$sha512" --option device=one.tar
log_mark
mounted one.erofs under-test --option verity=require --option device=other.tar >output 2>&1
logged "the kernel's log has it, too" "other.tar: its fs-verity digest is"

for value in require=1 Require sha256: "${ONE}0" "${ONE%?}" "sha512:$ONE" "sha256:sha256:$ONE" "md5:$ONE" "${ONE%??}0x" \
    "sha256:$sha512" "$ONE $ONE"; do
    refused "verity=$value" EINVAL "verity= wants require, or an fs-verity digest" \
        one.erofs under-test --option "verity=$value" --option device=one.tar
done
for option in verity verity=; do
    refuses "$option without a value" EINVAL mounted one.erofs under-test --option "$option" --option device=one.tar
done
refused "two that differ" EINVAL "verity= was given twice" \
    one.erofs under-test --option "verity=$ONE" --option verity=require --option device=one.tar
check "two that are the same" \
    mounted one.erofs under-test --option "verity=$ONE" --option "verity=sha256:$ONE" --option device=one.tar
umount under-test

# An image that says nothing of its blobs answers for none.
cp one.tar tagless.tar
ferofs build --quiet -o tagless.erofs tagless.tar
ferofs build --quiet --digest -o sha256.erofs tagless.tar
# Tags of a form that may come one day, and tags that are wrong.
sed 's/fsverity-sha256:/fsverity-sha512:/' one.erofs >future.erofs
for file in tagless.tar tagless.erofs sha256.erofs future.erofs; do fsverity enable "$file"; done
for file in tagless sha256; do
    refused "$file: a known image without digests" ENODATA \
        "$file.erofs: the image does not say the fs-verity digest of device 1" \
        "$file.erofs" under-test --option "verity=$(digest_of "$file.erofs")" --option device=tagless.tar
    check "$file: verity=require is content with any" \
        mounted "$file.erofs" under-test --option verity=require --option device=tagless.tar
    check "$file: and reads" cmp under-test/one one/one
    umount under-test
done
for verity in require "$(digest_of future.erofs)"; do
    refused "a tag of another form" EOPNOTSUPP "future.erofs: the tag of device 1 is an fs-verity digest of a kind" \
        future.erofs under-test --option "verity=$verity" --option device=one.tar
done
# The same slot, by what is no digest: without verity= nobody looks.
check "a tag of another form without verity=" mounted future.erofs under-test --option device=one.tar
umount under-test
# A merged image over both kinds: who has a digest is found by it, the others come in their order.
ferofs build --quiet -o two-tagless.erofs two.tar
ferofs merge -o mixed.erofs two-tagless.erofs one.erofs
fsverity enable mixed.erofs
check "some slots with digests: those are found" \
    mounted mixed.erofs under-test --option verity=require --option device=one.tar --option device=two.tar
check "and the others get what is left" cmp under-test/two two/two
check "each its own" cmp under-test/one one/one
umount under-test

# Flat, the blob is in the image's file, whose digest is of both.
cat one.erofs one.tar >flat.erofs
fsverity enable flat.erofs
check "a flat image" mounted flat.erofs under-test --option "verity=$(digest_of flat.erofs)"
check "a flat image: reads" cmp under-test/one one/one
umount under-test

# Data in the image; as mkfs.erofs writes it, too.
mkfs.erofs --quiet full.erofs one >output 2>&1
fsverity enable full.erofs
check "an image without blobs" mounted full.erofs under-test --option "verity=$(digest_of full.erofs)"
umount under-test
# Digests by sha512, which no tag can have.
cp full.erofs long.erofs && fsverity enable --hash-alg=sha512 long.erofs
long=$(fsverity measure long.erofs | cut -d ' ' -f 1)
check "a digest by sha512" mounted long.erofs under-test --option "verity=$long"
check "is shown so" grep -q ",verity=$long" /proc/mounts
umount under-test
cp one.tar long.tar && fsverity enable --hash-alg=sha512 long.tar
refused "a blob with a digest by sha512" EKEYREJECTED "[^ ]*/long.tar: its fs-verity digest is sha512:" \
    one.erofs under-test --option verity=require --option device=long.tar
# The same bytes hashed in another way have another digest.
cp one.tar salted.tar && fsverity enable --salt=abcd salted.tar
refused "a blob with salt" EKEYREJECTED "[^ ]*/salted.tar: its fs-verity digest is sha256:$(digest_of salted.tar)" \
    one.erofs under-test --option verity=require --option device=salted.tar

# What cannot have fs-verity: block devices, other filesystems, files that are in an overlay.
loop=$(losetup -r -f --show full.erofs)
refused "an image on a block device" ENODATA "$loop: a block device has no fs-verity, .* dm-verity" \
    "$loop" under-test --option verity=require
losetup -d "$loop"
cp one.tar blob.disk && truncate -s %4096 blob.disk
loop=$(losetup -f --show blob.disk)
refused "a blob on a block device" ENODATA "$loop: a block device has no fs-verity" \
    one.erofs under-test --option verity=require --option "device=$loop"
losetup -d "$loop"
mkdir tmpfs && mount -t tmpfs tmpfs tmpfs && cp one.erofs one.tar tmpfs
refused "an image on tmpfs" ENODATA "tmpfs/one.erofs: has no fs-verity" \
    tmpfs/one.erofs under-test --option "verity=$ONE" --option device=one.tar
refused "a blob on tmpfs" ENODATA "tmpfs/one.tar: has no fs-verity" \
    one.erofs under-test --option "verity=$ONE" --option device=tmpfs/one.tar
umount tmpfs
mkdir upper work over && mount -t overlay -o "lowerdir=$PWD,upperdir=$PWD/upper,workdir=$PWD/work" overlay over 2>output &&
    refused "an image in an overlay" ENODATA "over/one.erofs: has no fs-verity" \
        over/one.erofs under-test --option "verity=$ONE" --option device=one.tar
umount over

# mount(8), and remounts, for which it passes what is in use once more.
check "mount -o verity=" mount -t ferofs one.erofs under-test -o "verity=$ONE,device=one.tar"
check "remount" mount -o remount,noacl under-test
check "remount with the same" mount -o "remount,verity=$ONE" under-test
for other in require "$MERGED"; do
    refuses "remount with verity=$other" "verity= was given twice" mount -o "remount,verity=$other" under-test
    # What the kernel says when nobody passes the old ones.
    refuses "and with nothing else" "a remount cannot change verity=" \
        python3 - "$other" <<'PYTHON'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
# fspick(2), fsconfig(2): a string, and to reconfigure.
picked = libc.syscall(433, -100, b"under-test", 0)
assert picked >= 0, os.strerror(ctypes.get_errno())
assert libc.syscall(431, picked, 1, b"verity", sys.argv[1].encode(), 0) == 0
failed = libc.syscall(431, picked, 7, None, None, 0)
print(os.read(picked, 1000).decode(), ctypes.get_errno())
sys.exit(failed != 0)
PYTHON
done
check "and stays what it was" grep -q ",noacl,verity=sha256:$ONE," /proc/mounts
umount under-test
mount -t ferofs plain.erofs under-test -o device=plain.tar
refuses "remount that asks for verity=" "a remount cannot change verity=" mount -o remount,verity=require under-test
umount under-test

# ferofs mount.
check "ferofs mount --verity" ferofs mount --verity "$MERGED" merged.erofs under-test \
    --device three.tar --device one.tar --device two.tar
reads "ferofs mount --verity"
check "ferofs mount -o verity=" ferofs mount -o "verity=require,device=one.tar" one.erofs under-test
umount under-test
mkdir blobs && for name in one two three; do ln -s "../$name.tar" "blobs/$(digest_of "$name.tar")"; done
check "ferofs mount --verity --blobs" ferofs mount --verity "$MERGED" --blobs blobs merged.erofs under-test
reads "ferofs mount --verity --blobs"
check "ferofs mount --verify compares fs-verity digests" ferofs mount --verify --blobs blobs merged.erofs under-test
umount under-test
refuses "ferofs mount --verify finds other bytes" "other.tar: its fs-verity digest is" \
    ferofs mount --verify --device other.tar one.erofs under-test
refuses "ferofs mount --verity, the wrong image" "two.erofs: its fs-verity digest is" \
    ferofs mount --verity "$ONE" --device two.tar two.erofs under-test
refuses "ferofs mount --verity, the wrong tar" "other.tar: its fs-verity digest is" \
    ferofs mount --verity "$ONE" --device other.tar one.erofs under-test
refuses "ferofs mount --verity of a tar" "an index in memory has no fs-verity" \
    ferofs mount --verity require one.tar under-test
# Options that are not known are left out with -s, but not this one.
refuses "-s, and a driver that knows no verity=" "Unknown parameter 'verity'\|verity" \
    ferofs mount -s -t erofs --verity require --device one.tar one.erofs under-test

# What was mapped before the blob had fs-verity is not taken for what it answers for: the disk had other bytes then.
# block_of FILE: where its fourth block is on the disk, in bytes.
block_of() { filefrag -e "$1" | awk '$1 == "0:" { print ($4 + 3) * 4096 }'; }
# change FILE: a byte of it on the disk, which the filesystem does not notice.
change() { printf 'x' | dd of="$WORK/ext4.disk" bs=1 seek=$(($(block_of "$1") + 100)) conv=notrunc status=none; }
cp one.tar late.tar
ferofs build --quiet -o late.erofs late.tar
fsverity enable late.erofs
mkdir first
mounted late.erofs first --option device=late.tar >output 2>&1 || fail "mounts" output
sync
ferofs-testkit manifest --via mmap first >output 2>&1 || fail "is mapped" output
dd if=late.tar iflag=nocache count=0 status=none
change late.tar
fsverity enable late.tar
check "fs-verity that came while it was mounted" \
    mounted late.erofs second --option verity=require --option device=late.tar
check "is for the bytes that the disk has now" sh -c '! cmp second/one one/one'
check "and so for what is mapped" python3 - <<'PYTHON'
import mmap, os, sys
file = os.open("second/one", os.O_RDONLY)
sys.exit(mmap.mmap(file, 0, prot=mmap.PROT_READ)[:] != os.pread(file, 1 << 20, 0))
PYTHON
umount second first

# Bytes that were changed on the disk, below the filesystem: what fs-verity is for.
mounted one.erofs under-test --option "verity=$ONE" --option device=one.tar >output 2>&1
check "before: reads" cmp under-test/one one/one
umount under-test
change one.tar
cd "$WORK" || exit 1
umount ext4 >output 2>&1 || fail "unmounts" output
mount -o loop ext4.disk ext4 && cd ext4 || exit 1
check "a blob that was changed on the disk: mounts, for it is read later" \
    mounted one.erofs under-test --option "verity=$ONE" --option device=one.tar
refuses "a blob that was changed on the disk: read" "Input/output error" cat under-test/one
check "a blob that was changed on the disk: mapped" python3 - <<'PYTHON'
import mmap, os, signal, sys
file = os.open("under-test/one", os.O_RDONLY)
area = mmap.mmap(file, 0, prot=mmap.PROT_READ)
child = os.fork()
if child == 0:
    bytes(area[:])
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1] & 0x7f != signal.SIGBUS)
PYTHON
check "and the rest is right" cmp under-test/last one/last
umount under-test

cd "$WORK" || exit 1
umount ext4
finish
