#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debian-7.2
#
# Mount options: what is taken, what is refused and how it is told, and what /proc/mounts shows.

. "$FEROFS_TESTS/lib.sh"
sample
mkfs.erofs --quiet --tar=i index.erofs "$SHARED/sample.tar" >output 2>&1
device="device=$SHARED/sample.tar"

refuses "an unknown option" EINVAL mounted index.erofs under-test --option nonsense
refuses "the context's log names the unknown option" "context: .*nonsense" \
    mounted index.erofs under-test --option nonsense
log_mark
refuses "an unknown option, by mount(2)" EINVAL \
    ferofs-testkit mount --type "$FS" --classic --option nonsense=1 index.erofs under-test
logged "the kernel's log names it" nonsense

# Without device= the blobs should be behind the image, and this one has nothing there. The C driver
# mounts it and fails on reading.
[ "$FS" = erofs ] || refuses "no device for an index" EINVAL mounted index.erofs under-test
refuses "one device too many" EINVAL mounted index.erofs under-test --option "$device" --option "$device"
[ "$FS" = erofs ] || refuses "the message tells the numbers" "context: .*1.*2" \
    mounted index.erofs under-test --option "$device" --option "$device"
mkfs.erofs --quiet -x-1 full.erofs "$SHARED/sample" >output 2>&1
refuses "a device for an image without slots" EINVAL mounted full.erofs under-test --option "$device"
[ "$FS" = erofs ] || refuses "device= without a path" EINVAL mounted index.erofs under-test --option device=

# What the C driver takes, beside it.
padded full.erofs >/dev/null
for option in cache_strategy=disabled cache_strategy=readahead cache_strategy=readaround directio nodirectio dax \
    dax=always dax=never domain_id=any; do
    for type in erofs "$FS"; do
        check "$type takes $option" mounted -t "$type" full.erofs.padded under-test --option "$option"
        umount under-test
    done
done
for option in cache_strategy cache_strategy= cache_strategy=all directio=1 dax= dax=sometimes inode_share=1 domain_id; do
    for type in erofs "$FS"; do
        refuses "$type refuses $option" "EINVAL\|EOPNOTSUPP" \
            mounted -t "$type" full.erofs.padded under-test --option "$option"
    done
done
if [ "$FS" = ferofs ]; then
    refuses "the values of cache_strategy= are told" "context: .*disabled, readahead or readaround" \
        mounted full.erofs under-test --option cache_strategy=all
    refuses "inode_share without a domain is refused by name" "context: .*domain_id" \
        mounted full.erofs under-test --option inode_share
fi

check "one device: mounts" mounted index.erofs under-test --option "$device"
grep " $WORK/under-test $FS " /proc/mounts >mounts
check "/proc/mounts has the source" grep -q "^[^ ]*index.erofs " mounts
check "/proc/mounts says ro" grep -q " ro[, ]" mounts
if [ "$FS" = ferofs ]; then check "/proc/mounts has the device" grep -q ",device=$SHARED/sample.tar" mounts; fi
umount under-test

if [ "$FS" = ferofs ]; then
    # A path that the options' separators occur in comes out escaped.
    cp "$SHARED/sample.tar" "with space"
    check "a device with a blank in its name" mounted index.erofs under-test --option "device=$WORK/with space"
    check "is shown escaped" grep -q 'device=[^ ]*with\\040space' /proc/mounts
    umount under-test

    # mount(8), as a person calls it.
    mkdir -p by-hand
    check "mount -t ferofs" mount -t ferofs index.erofs by-hand -o "$device"
    check "is listed" test -d by-hand/sizes
    check "mount -o remount with the same options" mount -o remount by-hand
    check "remount with the same device" mount -o "remount,$device" by-hand
    ln -s "$SHARED/sample.tar" link
    check "remount with the same device by another path" mount -o "remount,device=$WORK/link" by-hand
    refuses "remount with another device" "cannot change the devices" \
        mount -o "remount,device=$WORK/index.erofs" by-hand
    refuses "remount with a device that is not there" "cannot change the devices" \
        mount -o "remount,device=$WORK/none" by-hand
    # As squashfs and the C driver have it: no error, and no effect.
    check "remount,rw" mount -o remount,rw by-hand
    check "stays read-only" grep -q " $WORK/by-hand ferofs ro," /proc/mounts
    umount by-hand

    # A blob that was unlinked has a path that leads nowhere, and mount(8) passes it on.
    cp "$SHARED/sample.tar" unlinked.tar
    mount -t ferofs index.erofs by-hand -o device=unlinked.tar
    rm unlinked.tar
    check "remount when the device was unlinked" mount -o remount,nouser_xattr by-hand
    check "has its effect" grep -q " $WORK/by-hand ferofs .*nouser_xattr" /proc/mounts
    umount by-hand
fi

# Images that begin somewhere in their file. The first one at an odd place, behind what looks like another image.
mkdir -p decoy && echo decoy >decoy/decoy
mkfs.erofs --quiet decoy.erofs decoy >output 2>&1
modprobe -q loop
# within OFFSET IMAGE: makes the file "within" with the image at an offset. Whole pages of it, for the C driver.
within() {
    cp decoy.erofs within
    truncate -s "$1" within
    cat "$2" >>within
    truncate -s $(($1 + ($(stat -c %s "$2") + 4095) / 4096 * 4096)) within
}
for offset in 69632 0x5000 67108864; do
    within $((offset)) full.erofs
    loop=$(losetup -f --show within)
    for source in within "$loop"; do
        for type in erofs "$FS"; do
            kind="block device"
            if [ "$source" = within ]; then kind="file"; fi
            check "$type: fsoffset=$offset in a $kind" mounted -t "$type" "$source" under-test --option "fsoffset=$offset"
            ferofs-testkit manifest under-test >found.manifest
            same "$type: fsoffset=$offset in a $kind: the tree" "$SHARED/sample.manifest" found.manifest
            check "$type: /proc/mounts has it" grep -q " $WORK/under-test $type .*fsoffset=$((offset))" /proc/mounts
            umount under-test
        done
    done
    losetup -d "$loop"
done
# The blocks of an index are smaller, and its data is elsewhere, where nothing is shifted.
within $((512 * 137)) index.erofs
for type in erofs "$FS"; do
    check "$type: fsoffset= of an index" mounted -t "$type" within under-test --option fsoffset=$((512 * 137)) --option "$device"
    ferofs-testkit manifest under-test >found.manifest
    same "$type: fsoffset= of an index: the tree" "$SHARED/sample.manifest" found.manifest
    if [ "$FS" = ferofs ]; then
        ferofs-testkit manifest --via mmap under-test >found.manifest
        same "$type: fsoffset= of an index: mapped" "$SHARED/sample.manifest" found.manifest
    fi
    umount under-test
done
# Flat: the tar lies behind the index in the same file.
cat index.erofs "$SHARED/sample.tar" >flat.erofs
within $((512 * 41)) flat.erofs
for type in erofs "$FS"; do
    check "$type: fsoffset= of a flat image" mounted -t "$type" within under-test --option fsoffset=$((512 * 41))
    ferofs-testkit manifest under-test >found.manifest
    same "$type: fsoffset= of a flat image: the tree" "$SHARED/sample.manifest" found.manifest
    umount under-test
done
within 69632 full.erofs
for option in fsoffset fsoffset= fsoffset=-1 fsoffset=18446744073709551616 fsoffset=4k fsoffset=69633 fsoffset=70144 fsoffset=65536 \
    fsoffset=9223372036854771712 fsoffset=18446744073709547520; do
    for type in erofs "$FS"; do
        # The C driver says EIO for what cannot be read at all.
        refuses "$type refuses $option" "EINVAL\|EIO" mounted -t "$type" within under-test --option "$option"
    done
done
if [ "$FS" = ferofs ]; then
    within 70144 full.erofs
    refuses "fsoffset= that is no multiple of a block is told" "context: .*multiple of .*4096" \
        mounted within under-test --option fsoffset=70144
    within 69632 full.erofs
    mkdir -p by-hand
    check "mount -o fsoffset=" mount -t ferofs within by-hand -o fsoffset=69632
    check "remount with it" mount -o remount,noacl by-hand
    refuses "remount with another" "cannot change" mount -o remount,fsoffset=4096 by-hand
    umount by-hand
fi

# A remount opens each device once, whatever their number.
if [ "$FS" = ferofs ]; then
    devices=
    tars=
    indexes=
    for number in $(seq 24); do
        mkdir -p "many/$number" && echo "$number" >"many/$number/file$number"
        tar -cf "many/$number.tar" -C "many/$number" .
        ferofs build --quiet -o "many/$number.erofs" "many/$number.tar" >output 2>&1
        tars="$tars $WORK/many/$number.tar"
        indexes="$indexes many/$number.erofs"
        devices="$devices,device=$WORK/many/$number.tar"
    done
    # shellcheck disable=SC2086 # words
    ferofs merge -o many.erofs $indexes >output 2>&1 || fail "many images are merged" output
    check "many devices: mounts" mount -t ferofs many.erofs by-hand -o "ro$devices"
    # shellcheck disable=SC2086 # words
    python3 - "$WORK/many.erofs" $tars >opened <<'END'
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None)
watch = libc.inotify_init()
names = {libc.inotify_add_watch(watch, path.encode(), 0x20): path for path in sys.argv[1:]}
subprocess.run(["mount", "-o", "remount", "by-hand"], check=True)
os.set_blocking(watch, False)
events = os.read(watch, 1 << 20)
for at in range(0, len(events), 16):
    print(names[int.from_bytes(events[at:at + 4], "little")])
END
    # mount(8) may look at the image as well.
    grep -v many.erofs opened | sort | uniq -c | awk '{ print $1 }' | sort -u >counts
    echo 1 >expected
    check "many devices: a remount opens each once" cmp counts expected
    check "many devices: all of them" test "$(grep -vc many.erofs opened)" = 24
    umount by-hand
fi

finish
