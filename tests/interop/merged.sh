#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 1200
#
# Merged images of layers whose files are compressed, by mkfs.erofs and by `ferofs build`: with the layers as devices, and as one
# file with them, ferofs and the C driver show what is in the layers' trees, one on top of the other. fsck.erofs up to
# 1.9.4 reads compressed data of other devices from the image itself, whether they are given or not: what it extracts is compared
# only if it says that nothing is wrong.

. "$FEROFS_TESTS/lib.sh"
compressed_source
mv source below

# What changes on top: files that are new, replaced, gone, and a directory in place of another.
mkdir -p above/texts above/directory above/new
cp below/texts/70000 above/texts/65537
cp below/mixed above/new/shifted && head -c 777 below/random >>above/new/shifted
cat below/texts/common-1 below/bash >above/new/long
for size in 1 100 511 512 513 4000 4096 5000 30000; do tail -c $size below/texts/300000 >above/new/$size; done
: >above/new/empty
ln above/new/long above/new/linked
ln -s long above/new/link
mknod above/holes c 0 0
mknod above/texts/4097 c 0 0
setfattr -n trusted.overlay.opaque -v y above/directory
echo alone >above/directory/alone
find above below -exec touch -h -d @1700000000 {} +
cp -a below both && rm -r both/directory both/holes both/texts/4097 && cp -a above/. both
rm both/holes both/texts/4097 && setfattr -x trusted.overlay.opaque both/directory
find both -exec touch -h -d @1700000000 {} +
ferofs-testkit manifest both >both.manifest

# The same layer as a tar.
tar --format=posix -C above --exclude=holes --exclude=4097 -cf above.tar . && mkdir gone && mkdir gone/texts
: >gone/.wh.holes && : >gone/texts/.wh.4097 && mkdir gone/directory && : >gone/directory/.wh..wh..opq
touch -d @1700000000 gone gone/texts gone/directory
tar --format=posix -C gone -rf above.tar ./.wh.holes ./texts/.wh.4097 ./directory/.wh..wh..opq

# layer NAME OPTIONS...: an image of the layer's tree; `ours` instead of options begins those of ferofs, `index` is of a tar.
layer() {
    layer_name=$1
    shift
    case $1 in
    ours)
        shift
        ferofs build -q "$@" -o "$layer_name.erofs" "$layer_name" || return
        ;;
    index) ferofs build -q -o "$layer_name.erofs" "$layer_name.tar" || return ;;
    *) mkfs.erofs --quiet "$@" "$layer_name.erofs" "$layer_name" || return ;;
    esac
    truncate -s %4096 "$layer_name.erofs"
}

# agree NAME IMAGE [DEVICE...]: both drivers show what is in both/.
agree() {
    agree_name=$1
    agree_image=$2
    shift 2
    devices=
    for device in "$@"; do devices="$devices --option device=$WORK/$device"; done
    # shellcheck disable=SC2086 # several words, or none
    if mounted "$agree_image" under-test $devices >output 2>&1; then
        ferofs-testkit manifest under-test >under-test.manifest
        same "$agree_name: ferofs shows the trees" both.manifest under-test.manifest
        check "$agree_name: the same files" diff -rq --no-dereference both under-test
        drop
        check "$agree_name: random reads" ferofs-testkit readcheck under-test both --ops 60 --seed 5
    else
        fail "$agree_name: mounts" output
    fi
    # shellcheck disable=SC2086
    if mounted -t erofs "$agree_image" reference $devices >output 2>&1; then
        ferofs-testkit manifest reference >reference.manifest
        same "$agree_name: the C driver shows the trees" both.manifest reference.manifest
        check "$agree_name: the same files by the C driver" diff -rq --no-dereference both reference
        drop
        check "$agree_name: random reads by the C driver" ferofs-testkit readcheck reference both --ops 60 --seed 6
        umount reference
    else
        fail "$agree_name: the C driver mounts" output
    fi
    umount under-test
}

while IFS='|' read -r name lower upper; do
    # shellcheck disable=SC2086 # options are words
    if ! layer below $lower >output 2>&1 || ! layer above $upper >output 2>&1; then
        fail "$name: the layers" output
        continue
    fi
    above=above.erofs
    [ "$upper" != index ] || above=above.tar
    if ! ferofs merge -o merged.erofs below.erofs above.erofs >output 2>&1; then
        fail "$name: merges" output
        continue
    fi
    check "$name: ferofs check accepts it" ferofs check --device=below.erofs --device=$above merged.erofs
    rm -rf extracted
    if fsck.erofs --extract=extracted --device=below.erofs --device=$above merged.erofs >output 2>&1; then
        check "$name: fsck.erofs extracts it" diff -rq --no-dereference both extracted
    else
        echo "# $name: fsck.erofs: $(grep -m1 '<E>' output)"
    fi
    agree "$name" merged.erofs below.erofs $above
done <<END
lz4, cluster of a block|-zlz4hc -C4096|-zlz4 -C65536
without compact indexes|-zzstd -C65536 -Elegacy-compress|-zlz4 -C4096 -Elegacy-compress
inline ends|-zlz4hc -C65536 -Eztailpacking|-zlzma -C65536 -Eztailpacking
fragments of both|-zlz4 -C16384 -Efragments|-zzstd -C65536 -Eall-fragments
dedupe, fragments, inline ends|-zzstd -C65536 -Ededupe,fragments,ztailpacking|-zlz4 -Ededupe -C16384
two algorithms in an image, and two more|-zlz4:zstd -C32768|-zdeflate:lzma -C65536 -Efragments
records|-zzstd -C65536 -E48bit,dedupe|-zlz4 -C16384 -E48bit,fragments
an index of a tar on blocks of 512 bytes|-zlz4hc -C4096 -b512 -Efragments|index
blocks of 512 bytes|ours -b512 -zlz4hc -C16384 -Eztailpacking|-zdeflate -b512 -C65536
blocks of 1024 bytes|-zlzma -b1024 -C65536 -Efragments|-zzstd -b1024 -C8192 -Ededupe
ferofs on mkfs.erofs|-zlz4 -C65536 -Efragments|ours -b4096 -zzstd -C65536 -Efragments
ferofs on ferofs|ours -b4096 -zlz4hc -C65536 -Eztailpacking|ours -b4096 -zlzma -C131072 -Eall-fragments
compressed on plain|-b4096|-zlz4 -C65536 -Efragments
plain on compressed|-zlz4 -C65536 -Efragments|-b4096
END

# The layers of the last but one case have all: one file, and a merged image as a layer.
layer below -zlz4 -C65536 -Efragments && layer above -zzstd -C65536 -Eztailpacking,dedupe
ferofs merge --digest -o merged.erofs below.erofs above.erofs
check "a flat file is exported" ferofs export -o flat.erofs --device=below.erofs --device=above.erofs merged.erofs
agree "a flat file" flat.erofs
# What of its fragments cannot be compressed is as it is.
mkdir -p upper/third && cp below/random upper/third/noise && tail -c 1234567 below/bash | head -c 7777 >upper/third/part
cp below/random upper/third/again && echo end >>upper/third/again
touch -d @1700000000 upper upper/third upper/third/*
ferofs build -q -b4096 -zlz4 -Eall-fragments -o third.erofs upper
ferofs merge -o all.erofs merged.erofs third.erofs
cp -a upper/third both/ && touch -d @1700000000 both
ferofs-testkit manifest both >both.manifest
agree "a merged image and another layer" all.erofs below.erofs above.erofs third.erofs

# What cannot be merged.
layer below -zlz4 -b4096 && layer above -zlz4 -b512
refuses "blocks of two sizes" "it has compressed files, in blocks of 4096 bytes, expected blocks of 512 bytes" \
    ferofs merge -o refused.erofs below.erofs above.erofs
check "nothing is left of it" sh -c "! test -e refused.erofs"
finish
