#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# timeout: 600
#
# Every command line that containerd 2.1 to 2.3 has for mkfs.erofs, with ferofs under that name: what comes out is
# mounted and compared with what the same line of erofs-utils gives, by ferofs. Then dm-verity over layers with blocks of
# 512 and of 4096 bytes.

. "$FEROFS_TESTS/peers/lib/peers.sh"
versions erofs-utils cryptsetup-bin dmsetup
sample
images
mkdir bin
ln -s "$(command -v ferofs)" bin/mkfs.erofs
OURS=$WORK/bin/mkfs.erofs
THEIRS=$(command -v mkfs.erofs)
UUID=6f38f9dc-5a2c-5b8e-9d3c-3f3f0c1b7a11

# What it looks for at its start, 2.2 and later.
check "mkfs.erofs --help succeeds" "$OURS" --help
check "and tells of --tar=" sh -c "$OURS --help | grep -q -- --tar="

# The layers of app:1 as plain tars, whiteouts and opaque directories among what they have.
number=0
for blob in $(python3 - "$SHARED/images/layout" <<'END'
import json, os, sys
top = sys.argv[1]
def load(digest):
    with open(os.path.join(top, "blobs", digest.replace(":", "/"))) as file:
        return json.load(file)
with open(os.path.join(top, "index.json")) as file:
    manifest = load(json.load(file)["manifests"][0]["digest"])
print(*(layer["digest"].replace(":", "/") for layer in manifest["layers"]))
END
); do
    number=$((number + 1))
    blob=$SHARED/images/layout/blobs/$blob
    gzip -dc <"$blob" >layer-$number.tar 2>/dev/null || cp "$blob" layer-$number.tar
done
ln -s "$SHARED/sample.tar" layer-3.tar

# list DIR: lists what is in it. Of directories with whiteouts in them both makers say trusted.overlay.origin, each of some
# more than the other (ferofs also where the tar has a device 0:0 itself, erofs-utils also of directories as sources): then
# overlayfs looks for whiteouts in them, which it does in every directory that is merged.
list() {
    ferofs-testkit manifest --xattrs "$1" | sed 's/ xattr:trusted\.overlay\.origin=[^ ]*//'
}

# look NAME IMAGE MANIFEST: mounts the image, which has all in one file, and lists what is in it.
look() {
    mkdir -p look
    if mounted -t erofs "$2" look >output 2>&1; then
        list look >"$3"
        umount look
    else
        fail "$1: is mounted" output
    fi
}

# line NAME LAYER APPEND ARGUMENT...: the command line, OUT standing for the image and the layer's tar coming from
# standard input; with APPEND the tar is put behind the image.
line() {
    line_name="$1, layer $2"
    line_layer=layer-$2.tar
    line_append=$3
    shift 3
    for line_maker in ours theirs; do
        case $line_maker in
        ours) line_program=$OURS ;;
        *) line_program=$THEIRS ;;
        esac
        rm -f image.$line_maker
        # shellcheck disable=SC2046 # the words of the command line
        if ! "$line_program" $(echo "$*" | sed "s/OUT/image.$line_maker/") <"$line_layer" >output 2>&1; then
            fail "$line_name: $line_maker" output
            return
        fi
        if [ "$line_append" = append ]; then cat "$line_layer" >>image.$line_maker; fi
        look "$line_name: $line_maker" image.$line_maker $line_maker.manifest
    done
    same "$line_name" theirs.manifest ours.manifest
    check "$line_name: ferofs finds no mistake" ferofs check image.ours
}

for layer in 1 2 3; do
    line "2.1 and 2.2: full" $layer keep --tar=f --aufs --quiet -Enoinline_data -U $UUID OUT
    line "2.3: full" $layer keep --tar=f --aufs --quiet -Enoinline_data -b4096 -U $UUID OUT
    cp image.ours full-$layer.erofs
    line "2.2: index, the tar behind it" $layer append --tar=i --aufs --quiet OUT
    line "2.3: index, the tar behind it" $layer append --tar=i --aufs --quiet -b4096 -U $UUID OUT
    cp image.ours index-$layer.erofs
done
line "as its documentation advises" 2 keep --tar=f --aufs --quiet -Enoinline_data -T0 --mkfs-time --sort=none -U $UUID OUT
check "the UUID is the one that was asked for" sh -c "ferofs dump full-1.erofs | grep -q $UUID"
check "and in an index" sh -c "ferofs dump index-1.erofs | grep -q $UUID"

# What a container changed.
mkdir upper
tar -xf layer-2.tar -C upper --exclude='.wh.*' --xattrs --xattrs-include='*'
mknod upper/srv/deleted c 0 0
setfattr -n trusted.overlay.opaque -v y upper/srv/opaque
# mkfs.erofs drops the nanoseconds of what was changed in the second in which it makes the image.
touch -d @1700000000.25 upper/srv/deleted upper/srv
for maker in OURS THEIRS; do
    eval "program=\$$maker"
    # shellcheck disable=SC2154 # set by eval
    check "an upper directory at commit: $maker" "$program" --quiet -Enoinline_data upper-$maker.erofs upper
    look "upper directory: $maker" upper-$maker.erofs upper-$maker.manifest
done
same "an upper directory at commit" upper-THEIRS.manifest upper-OURS.manifest
list upper >upper.manifest
same "is what it was" upper.manifest upper-OURS.manifest --ignore nlink

# Merged layers, of 2.3's betas; the lowest one first, as blobs of their own.
for maker in OURS THEIRS; do
    eval "program=\$$maker"
    check "layers merged: $maker" "$program" --aufs --ovlfs-strip=1 --quiet merged-$maker.erofs full-1.erofs full-2.erofs
    mounted -t erofs merged-$maker.erofs look --option "device=$WORK/full-1.erofs" --option "device=$WORK/full-2.erofs" \
        >output 2>&1 || fail "merged layers: $maker" output
    # Stripped of what is overlayfs', the root directory of erofs-utils has no mode and time of the layers.
    list look | sed 1d >merged-$maker.manifest
    umount look
done
same "layers merged" merged-THEIRS.manifest merged-OURS.manifest

# dm-verity, with the tree in a file of its own and behind the layer, as containerd has it.
modprobe -a loop dm-verity
for layer in full-1:4096 full-2:4096 index-2:512 index-3:512; do
    block=${layer#*:}
    layer=${layer%:*}
    cp "$layer.erofs" verity.img
    truncate -s %"$block" verity.img
    size=$(stat -c %s verity.img)
    # dmsetup and veritysetup number these from the start, in blocks of the layer.
    veritysetup format --no-superblock --data-block-size="$block" --hash-block-size="$block" \
        --data-blocks=$((size / block)) --hash-offset="$size" --salt=- verity.img verity.img >verity.out 2>&1 ||
        fail "$layer: veritysetup format" verity.out
    root=$(sed -n 's/^Root hash:[[:space:]]*//p' verity.out)
    device=$(losetup -f --show verity.img)
    opened() {
        veritysetup open --no-superblock --data-block-size="$block" --hash-block-size="$block" \
            --data-blocks=$((size / block)) --hash-offset="$size" --salt=- "$device" layer "$device" "$1"
    }
    check "$layer: dm-verity over blocks of $block" opened "$root"
    check "$layer: is mounted" mount -t erofs -o ro /dev/mapper/layer look
    list look >found.manifest
    umount look
    look "$layer: the file" "$layer.erofs" expected.manifest
    same "$layer: and has what the file has" expected.manifest found.manifest
    veritysetup close layer
    losetup -d "$device"

    # A byte of the data.
    printf 'X' | dd of=verity.img bs=1 seek=$((size - 20000)) conv=notrunc status=none
    device=$(losetup -f --show verity.img)
    opened "$root" >output 2>&1 || fail "$layer: opens again" output
    mount -t erofs -o ro /dev/mapper/layer look >output 2>&1 || fail "$layer: is mounted again" output
    refuses "$layer: a changed byte is an error" "Input/output error\|Structure needs cleaning" \
        ferofs-testkit manifest look
    umount look
    veritysetup close layer
    losetup -d "$device"
done
check "nothing is left mounted" [ "$(users)" = 0 ]
finish
