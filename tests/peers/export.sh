#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# timeout: 600
#
# Flat files of `ferofs export`: each is mounted by ferofs and by the C driver, as a file, over a loop device and over
# dm-verity, and shows what the image showed with its tars beside it. `veritysetup` (cryptsetup) makes the same tree of the same data
# and finds every change.

. "$FEROFS_TESTS/peers/lib/peers.sh"
versions cryptsetup-bin
sample
# Each driver under its own name.
c_driver
insmod "$FEROFS_KO"
modprobe loop
modprobe dm-verity || modprobe dm_verity
# There is no udev to make names of devices.
export DM_DISABLE_UDEV=1

mkdir -p upper/sub
seq 50000 >upper/sub/numbers
echo short >upper/short
tar -C upper -cf upper.tar .
{ ferofs build -q --digest -o base.erofs "$SHARED/sample.tar" && ferofs build -q --digest -o upper.erofs upper.tar &&
    ferofs merge -q -o merged.erofs base.erofs upper.erofs && ferofs build -q --mode=full -o full.erofs "$SHARED/sample.tar" &&
    ferofs build -q --mode=full -o upper.full upper.tar && ferofs merge -q -o merged.full full.erofs upper.full &&
    ferofs build -q --mode=full -z zstd -o zstd.erofs "$SHARED/sample.tar"; } >output 2>&1 || fail "the images" output

# shown NAME DIR: passes if what is mounted there is what the image shows, and unmounts it.
shown() {
    ferofs-testkit manifest --xattrs "$2" >found.manifest
    same "$1" expected.manifest found.manifest
    umount "$2"
}

# everywhere NAME DEVICE: the same by both drivers, from a block device.
everywhere() {
    for driver in ferofs erofs; do
        check "$1: $driver mounts it" mount -t $driver -o ro "$2" under-test
        shown "$1: $driver shows the same" under-test
    done
}

mkdir -p under-test reference
for kind in base.erofs merged.erofs full.erofs merged.full zstd.erofs; do
    case $kind in
    base.erofs) set -- "$SHARED/sample.tar" ;;
    merged.erofs) set -- "$SHARED/sample.tar" upper.tar ;;
    merged.full) set -- full.erofs upper.full ;;
    *) set -- ;;
    esac
    options=''
    devices=''
    for device; do
        case $device in /*) ;; *) device=$WORK/$device ;; esac
        options="$options --option device=$device" devices="$devices --device $device"
    done
    # shellcheck disable=SC2086 # options are words.
    mounted $kind reference $options >output 2>&1 || { fail "$kind: the image is mounted with its devices" output; continue; }
    ferofs-testkit manifest --xattrs reference >expected.manifest
    umount reference
    # shellcheck disable=SC2086
    check "$kind: is exported" ferofs export -q $devices --verity -o flat $kind
    cp output said
    root=$(sed -n 's/^root hash *//p' said)
    offset=$(sed -n 's/^hash offset *//p' said)
    check "$kind: is mounted as a file by ferofs" mounted -t ferofs flat under-test
    shown "$kind: as a file, ferofs shows the same" under-test
    check "$kind: is mounted as a file by the C driver" mounted -t erofs flat under-test
    shown "$kind: as a file, the C driver shows the same" under-test
    loop=$(losetup -r -f --show flat)
    everywhere "$kind, loop device" "$loop"
    check "$kind: veritysetup finds the tree sound" veritysetup verify flat flat --hash-offset="$offset" "$root"
    block=$(veritysetup dump flat --hash-offset="$offset" | sed -n 's/^Data block size:[^0-9]*\([0-9]*\).*/\1/p')
    head -c "$offset" flat >data
    veritysetup format data hashes --salt="$(printf %064d 0)" --data-block-size="$block" --hash-block-size="$block" >formatted
    check "$kind: and makes the same of the data" grep -q "^Root hash:[^0-9a-f]*$root" formatted
    # The superblock has another UUID, and veritysetup's file has more at its end.
    check "$kind: the hashes are the same" cmp -i "$block:$((offset + block))" -n $(($(stat -c %s flat) - offset - block)) hashes flat
    check "$kind: the sidecar is what containerd reads" python3 -c \
        'import json,sys; assert json.load(open("flat.dmverity")) == {"roothash": sys.argv[1], "hashoffset": int(sys.argv[2])}' "$root" "$offset"
    check "$kind: dm-verity takes it" veritysetup open "$loop" verified "$loop" --hash-offset="$offset" "$root"
    everywhere "$kind, dm-verity" /dev/mapper/verified
    veritysetup close verified
    losetup -d "$loop"
done

# A change of one bit of data is an error for who reads it, and no file has other bytes.
ferofs export -q --device "$SHARED/sample.tar" --verity -o flat base.erofs >said
root=$(sed -n 's/^root hash *//p' said)
offset=$(sed -n 's/^hash offset *//p' said)
python3 -c 'import sys; f = open("flat", "r+b"); at = int(sys.argv[1]) // 2; f.seek(at); b = f.read(1)[0]; f.seek(at); f.write(bytes([b ^ 1]))' "$offset"
refuses "a changed bit: veritysetup finds it" . veritysetup verify flat flat --hash-offset="$offset" "$root"
loop=$(losetup -r -f --show flat)
check "a changed bit: dm-verity takes it" veritysetup open "$loop" verified "$loop" --hash-offset="$offset" "$root"
check "a changed bit: ferofs mounts it" mount -t ferofs -o ro /dev/mapper/verified under-test
refuses "a changed bit: reading it fails" 'Input/output error' sh -c 'find under-test -type f -exec cat {} + >/dev/null'
umount under-test
veritysetup close verified
losetup -d "$loop"

finish
