#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# What options of `ferofs build` and `ferofs merge` make of an image: fsck.erofs accepts it, and through
# ferofs and through the C driver it is what GNU tar extracts.

. "$FEROFS_TESTS/lib.sh"

# agree NAME IMAGE MANIFEST [DEVICE...]: both drivers read what is in the manifest, and give the same.
agree() {
    name=$1
    image=$2
    manifest=$3
    shift 3
    devices=
    for device in "$@"; do devices="$devices --device=$device"; done
    # shellcheck disable=SC2086 # several words, or none
    check "$name: fsck.erofs accepts it" fsck.erofs $devices "$image"
    # shellcheck disable=SC2086
    check "$name: ferofs check accepts it" ferofs check $devices "$image"
    devices=
    for device in "$@"; do devices="$devices --option device=$device"; done
    for type in under-test erofs; do
        option=
        [ $type = under-test ] || option="-t erofs"
        # shellcheck disable=SC2086
        if mounted $option "$image" $type $devices >output 2>&1; then
            # shellcheck disable=SC2086
            ferofs-testkit manifest $flags $type >$type.manifest
            same "$name: $type reads it" "$manifest" $type.manifest
            umount $type
        else
            fail "$name: $type mounts it" output
        fi
    done
}

flags=
ferofs-testkit gen-tar all layer.tar --files 60
unpack "$WORK/layer.tar" extracted
ferofs-testkit manifest extracted >layer.manifest
while read -r name options; do
    # shellcheck disable=SC2086
    ferofs build --mode=full $options -o full.erofs layer.tar >output 2>&1 || fail "$name: builds" output
    agree "$name" full.erofs layer.manifest
done <<END
blocks
chunks --chunksize=4096
large-chunks --chunksize=1048576
extended -E force-inode-extended,noinline_data
tar-order --sort=none --align=16384
512-byte-blocks -b512 -E nosbcrc
END

# Holes of a directory's files.
mkdir holes
truncate -s 1M holes/hole
printf begin >holes/sparse
printf middle | dd of=holes/sparse bs=1M seek=5 conv=notrunc status=none
truncate -s 9M holes/sparse
ferofs-testkit manifest holes >holes.manifest
ferofs build -o holes.erofs holes
agree "holes" holes.erofs holes.manifest
check "holes take no room" test "$(stat -c %s holes.erofs)" -lt 200000

# Attributes whose names begin alike.
mkdir attributes
python3 - <<'END'
import os
for number in range(300):
    path = f"attributes/{number}"
    open(path, "w").write(str(number))
    os.setxattr(path, f"user.overlay.origin.{number}", f"value {number}".encode())
    os.setxattr(path, "trusted.overlay.everywhere", b"the same")
END
ferofs-testkit manifest --xattrs attributes >attributes.manifest
ferofs build -b4096 -o attributes.erofs attributes
check "attributes: their prefixes are stored once" sh -c \
    'ferofs dump attributes.erofs | grep -q "^incompatible features:.* xattr_prefixes"'
flags=--xattrs
agree "attributes" attributes.erofs attributes.manifest

# Layers with their data, merged.
flags=
mkdir -p below/d/e above/d above/o
echo 1 >below/f && echo 2 >below/d/gone && echo 3 >below/d/e/g && echo 4 >above/f && echo 5 >above/o/n
head -c 9000 /dev/urandom >below/large
ln below/large below/same
: >above/d/.wh.gone
for layer in below above; do
    tar --format=posix -C $layer -cf $layer.tar .
    ferofs build --mode=full --no-inline-data -o $layer.erofs $layer.tar
done
ferofs merge -o merged.erofs below.erofs above.erofs
mkdir both
tar -C both -xpf below.tar && tar -C both -xpf above.tar && rm both/d/gone both/d/.wh.gone && touch -r above/d both/d
ferofs-testkit manifest both >both.manifest
agree "merged" merged.erofs both.manifest below.erofs above.erofs

# A blob of more than 2 TiB: block numbers of more than 32 bits. fsck.erofs before 1.9 does not know them.
python3 - <<'END'
import tarfile
def header(name, size):
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)
with open("huge.tar", "wb") as tar:
    size = (3 << 40) + 512
    tar.write(header("huge", size) + b"start")
    tar.seek(512 + size - 5)
    tar.write(b"close" + header("behind", 6) + b"behind" + bytes(506 + 1024))
END
ferofs build -o huge.erofs huge.tar
check "3 TiB: ferofs check accepts it" ferofs check --device=huge.tar huge.erofs
for type in under-test erofs; do
    option=
    [ $type = under-test ] || option="-t erofs"
    # shellcheck disable=SC2086
    if mounted $option huge.erofs $type --option device="$WORK/huge.tar" >output 2>&1; then
        {
            stat -c %s $type/huge && head -c 5 $type/huge && tail -c 5 $type/huge && cat $type/behind
        } >$type.huge 2>&1
        umount $type
        printf '3298534883840\nstartclosebehind' >huge.expected
        same "3 TiB: $type reads it" huge.expected $type.huge
    else
        fail "3 TiB: $type mounts it" output
    fi
done

finish
