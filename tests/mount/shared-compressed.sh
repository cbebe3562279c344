#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debug
# timeout: 900
#
# domain_id= and inode_share with compressed files: they have their pages in common, whichever reads first; each fills them from
# its own image, so that what is wrong with one image is an error there alone; images come and go meanwhile. With
# inode_share=verify they have not.

# shellcheck disable=SC2015,SC2086,SC2317 # any of a row may fail; options are words; `check` calls the functions
. "$FEROFS_TESTS/lib.sh"
. "$FEROFS_TESTS/mount/lib/sharing.sh"

# Two trees with equal files of each kind, and one of its own; a third with a file that only looks equal.
python3 - <<'END' || fail "trees"
import os, random
def text(size, seed):
    source = random.Random(seed)
    words = [source.randbytes(source.randint(3, 9)) for _ in range(500)]
    found = bytearray()
    while len(found) < size:
        found += source.choice(words)
    return bytes(found[:size])
common = text(2500001, "common")
for tree in ("a", "b", "forged"):
    os.mkdir(tree)
    def put(name, *parts):
        with open(f"{tree}/{name}", "wb") as file:
            for start, data in parts:
                file.seek(start)
                file.write(data)
    put("one", (0, common))
    put("noise", (0, random.Random("noise").randbytes(200000)))
    put("small", (0, common[:300]))
    put("tail", (0, common[:8200]))
    put("holes", (0, common[:5000]), (400000, common[5000:9000]), (900000, common[:70000]))
    put("empty")
    put("own", (0, text(50000, tree)))
    put("secret", (0, (b"not " if tree == "forged" else b"the ") + b"secret\n" * 10000))
END

# make TREE: its images, one in each way of compressing.
make() {
    make_with="--quiet --fingerprints --mode=full"
    tar -S -C "$1" -cf "$1.tar" . && ferofs build $make_with -z lz4 -o "$1.lz4" "$1.tar" &&
        ferofs build $make_with -z zstd -C 65536 -E fragments -o "$1.zstd" "$1.tar" &&
        ferofs build $make_with -z deflate -E ztailpacking -o "$1.deflate" "$1.tar"
}
for tree in a b forged; do make $tree >output 2>&1 || fail "images of $tree" output; done
# The forged image says that its file is the secret.
python3 - <<'END' || fail "a forged fingerprint"
import hashlib
digest = lambda tree: hashlib.sha256(open(f"{tree}/secret", "rb").read()).digest()
for kind in ("lz4", "zstd", "deflate"):
    image = open(f"forged.{kind}", "rb").read()
    assert image.count(digest("forged")) == 1
    open(f"forged.{kind}", "wb").write(image.replace(digest("forged"), digest("a")))
END
# Images over compressed layers.
for tree in a b forged; do
    ferofs merge --quiet -o $tree.merged $tree.lz4 >output 2>&1 || fail "the merged image of $tree" output
done

# put TREE KIND [mount's arguments]: mounts an image of a tree on at-TREE.
put() {
    put_tree=$1
    put_kind=$2
    shift 2
    if [ "$put_kind" = merged ]; then set -- --option "device=$WORK/$put_tree.lz4" "$@"; fi
    mounted "$put_tree.$put_kind" "at-$put_tree" "$@"
}
verify="--option domain_id=test --option inode_share=verify"


# grows NAME LEAST MOST COMMAND...: how many KiB of the cache a command takes.
grows() {
    grows_name=$1
    grows_least=$2
    grows_most=$3
    shift 3
    grows_before=$(cached)
    "$@" >/dev/null || fail "$grows_name"
    grows_now=$(($(cached) - grows_before))
    echo "# $grows_name: $grows_now KiB"
    check "$grows_name" test $grows_now -ge "$grows_least" -a $grows_now -le "$grows_most"
}

# On the debug kernel, where each takes long, and which has no Zstandard, two of the four kinds.
kinds="lz4 zstd deflate merged"
[ "${FEROFS_KERNEL:-}" != debug ] || kinds="deflate merged"
for kind in $kinds; do
    [ $kind = merged ] && blob=lz4 || blob=$kind
    { put a $kind $share && put b $kind $share; } >output 2>&1 || fail "$kind: mounts" output
    drop
    # The programs themselves.
    ferofs-testkit manifest --via mmap at-a/small >/dev/null
    cat at-b/small >/dev/null
    grows "$kind: the first fills the cache" 2000 4000 cat at-a/one
    grows "$kind: the second reads what is there" 0 300 cat at-b/one
    grows "$kind: and maps it" 0 300 ferofs-testkit manifest --via mmap at-b/one
    check "$kind: the first has its files" diff -r a at-a
    check "$kind: the second, too" diff -r b at-b
    denied "$kind: what they lie in cannot be written to" a.$blob
    check "$kind: reads of all kinds" ferofs-testkit readcheck at-b b --ops 300 --threads 2 --pressure
    check "$kind: the first is unmounted" umount at-a
    check "$kind: the second has its files" diff -r b at-b
    # Small files, which are not compressed, are shared from where they lie as long as an inode of one is cached.
    drop
    check "$kind: then it can be written to" open_for_writing a.$blob
    check "$kind: the second has its files without caches" diff -r b at-b
    check "$kind: the first comes back" put a $kind $share
    check "$kind: with its files" diff -r a at-a
    umount at-a at-b || fail "$kind: unmounts"

    # An image's file that is not what it says. Trusted, it gets what others have, and gives others what it has.
    { put a $kind $share && put forged $kind $share; } >output 2>&1 || fail "$kind: mounts" output
    cat at-a/secret >/dev/null
    check "$kind: who is trusted can steal" cmp a/secret at-forged/secret
    umount at-a at-forged
    { put forged $kind $share && put b $kind $share; } >output 2>&1 || fail "$kind: mounts" output
    cat at-forged/secret >/dev/null
    check "$kind: who is trusted can poison" cmp forged/secret at-b/secret
    check "$kind: other files of it are what they are" cmp forged/own at-forged/own
    umount at-b at-forged
    for first in a forged; do
        { put a $kind $verify && put forged $kind $verify; } >output 2>&1 || fail "$kind: mounts" output
        cat at-$first/secret >/dev/null
        check "$kind, verify, $first first: no one can steal" cmp forged/secret at-forged/secret
        check "$kind, verify, $first first: no one can poison" cmp a/secret at-a/secret
        umount at-a at-forged || fail "$kind: unmounts"
    done
done

# Damaged data is an error for who reads it, as long as nobody has brought what is right.
cp a.lz4 sound
# Most of the image is the longest file.
dd if=/dev/zero bs=4096 count=16 status=none | tr '\0' '\377' |
    dd of=a.lz4 bs=4096 seek=$(($(stat -c %s a.lz4) / 8192)) conv=notrunc status=none || fail "damage"
{ put a lz4 $share && put b lz4 $share; } || fail "damaged: mounts"
refuses "a damaged file is an error" 'Input/output error\|Structure needs cleaning' cmp a/one at-a/one
check "not for the other one" cmp b/one at-b/one
check "who brings it for both" cmp a/one at-a/one
umount at-a at-b
mv sound a.lz4

# An image that is being written to when its file is opened is not shared from.
exec 9>>a.lz4
{ put a lz4 $share && put b lz4 $share; } || fail "written to: mounts"
check "an image that is open for writing has its files" diff -r a at-a
grows "from there nobody else has them" 2000 4000 cat at-b/one
denied "the other one is not written to" b.lz4
exec 9>&-
umount at-a at-b

# A mount goes while what was read ahead for it is still being decoded.
put b lz4 $share || fail "in a row: mounts"
gone=0
for _ in $(seq 30); do
    echo 3 >/proc/sys/vm/drop_caches
    { put a lz4 $share && dd if=at-a/one of=/dev/null bs=64k count=3 status=none && umount at-a; } || break
    cmp b/one at-b/one || break
    gone=$((gone + 1))
done
check "thirty mounts read, and are gone at once" test $gone = 30
umount at-b

# A mapping holds what it shows: the mount it is of, and the module.
{ put a deflate $share && put b deflate $share; } || fail "mapped: mounts"
cat at-a/holes at-a/one >/dev/null
outlives "caches and the first mount"

finish
