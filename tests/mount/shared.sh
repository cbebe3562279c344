#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debug
# slow: yes
# timeout: 900
#
# domain_id= and inode_share: which options go together; whose bytes a shared file has; what happens to them when the image they
# came from goes, is mounted anew, or its blob is to be written to; and that a fingerprint which is not that of the bytes gets no
# one anything with inode_share=verify, neither the bytes of others nor others its own.

# shellcheck disable=SC2015,SC2086,SC2317 # any of a row may fail; options are words; `check` calls the functions
. "$FEROFS_TESTS/lib.sh"
. "$FEROFS_TESTS/mount/lib/sharing.sh"

# Two trees with equal files of each kind, and one of its own; a third with a file that only looks equal.
python3 - <<'END' || fail "trees"
import os
common = os.urandom(700001)
for tree in ("a", "b", "c", "forged"):
    os.mkdir(tree)
    def put(name, *parts):
        with open(f"{tree}/{name}", "wb") as file:
            for start, data in parts:
                file.seek(start)
                file.write(data)
    put("one", (0, common))
    put("small", (0, common[:300]))
    put("tail", (0, common[:8200]))
    put("holes", (0, common[:5000]), (400000, common[5000:9000]), (900000, common[:70000]))
    put("hole", (65535, b"x"))
    put("empty")
    put("own", (0, tree.encode() * 3000))
    put("secret", (0, (b"not " if tree == "forged" else b"the ") + b"secret\n" * 10000))
END
for tree in a b c forged; do
    tar -S -C $tree -cf $tree.tar . && ferofs build --quiet --fingerprints -o $tree.index $tree.tar &&
        ferofs build --quiet --fingerprints --mode=full -o $tree.full $tree.tar &&
        tar -C $tree -cf - . | ferofs build --quiet --fingerprints=user.fp --mode=full --chunksize 4096 -o $tree.chunks - ||
        fail "images of $tree"
done
# mkfs.erofs knows fingerprints since 1.9; without them there is nothing to share.
ferofs build --quiet -o plain.index a.tar || fail "an image without"
# The forged image says that its file is the secret.
python3 - <<'END' || fail "a forged fingerprint"
import hashlib
digest = lambda tree: hashlib.sha256(open(f"{tree}/secret", "rb").read()).digest()
for kind in ("index", "full", "chunks"):
    image = open(f"forged.{kind}", "rb").read()
    assert image.count(digest("forged")) == 1
    open(f"forged.{kind}", "wb").write(image.replace(digest("forged"), digest("a")))
END
check "the forged one is found out" \
    sh -c '! ferofs check --fingerprints --device forged.tar forged.index 2>found && grep -q "/secret.*fingerprint" found'

# put TREE KIND [mount's arguments]: mounts an image of a tree on at-TREE.
put() {
    put_tree=$1
    put_kind=$2
    shift 2
    if [ "$put_kind" = index ]; then set -- --option "device=$WORK/$put_tree.tar" "$@"; fi
    mounted "$put_tree.$put_kind" "at-$put_tree" "$@"
}


# shellcheck disable=SC2086 # options are words.
options() {
    refuses "inode_share wants a domain" 'domain_id is needed' put a index --option inode_share
    refuses "inode_share= wants verify" 'wants verify' put a index --option domain_id=test --option inode_share=yes
    refuses "no two kinds of inode_share" 'given twice' put a index $share --option inode_share=verify
    refuses "inode_share without DAX" 'FSDAX is not allowed' put a index $share --option dax=always
    refuses "inode_share without holes=error" 'holes=error' put a index $share --option holes=error
    check "a domain alone has no effect" put a index --option domain_id=test
    check "and is not shown" sh -c '! grep -E "at-a .*(domain_id|inode_share)" /proc/mounts'
    umount at-a
    check "an image without fingerprints is mounted all the same" \
        mounted plain.index at-a $share --option "device=$WORK/a.tar"
    check "with nothing shared" sh -c '! grep "at-a .*inode_share" /proc/mounts'
    umount at-a
    for how in inode_share inode_share=verify; do
        put a index --option domain_id=test --option $how || fail "mounts with $how"
        check "$how is shown, its domain is not" \
            sh -c "grep -E 'at-a ferofs [^ ]*,$how,' /proc/mounts && ! grep domain_id /proc/mounts"
        check "$how: a remount as it is" mount -o remount,$how at-a
        check "$how: a remount with its domain" mount -o remount,domain_id=test at-a
        refuses "$how: no remount to another domain" 'remount\|bad option\|wrong' mount -o remount,domain_id=other at-a
        umount at-a
    done
}
[ "$FS" = ferofs ] && options

# On the debug kernel, where each takes long, two of the three kinds that are alike.
kinds="index full chunks"
[ "${FEROFS_KERNEL:-}" != debug ] || kinds="index chunks"
for how in inode_share inode_share=verify; do
    with="--option domain_id=test --option $how"
    for kind in $kinds; do
        [ $kind = index ] && blob=tar || blob=$kind
        # shellcheck disable=SC2086
        { put a $kind $with && put b $kind $with; } >output 2>&1 || fail "$how, $kind: mounts" output
        check "$how, $kind: the first has its files" diff -r a at-a
        check "$how, $kind: the second, too" diff -r b at-b
        denied "$how, $kind: what they lie in cannot be written to" a.$blob
        check "$how, $kind: reads of all kinds" ferofs-testkit readcheck at-b b --ops 300 --threads 2 --pressure
        # The bytes are held by those who share them.
        check "$how, $kind: the first is unmounted" umount at-a
        check "$how, $kind: the second has its files" diff -r b at-b
        check "$how, $kind: still so without caches" sh -c 'echo 3 >/proc/sys/vm/drop_caches; diff -r b at-b'
        # shellcheck disable=SC2086
        check "$how, $kind: the first comes back" put a $kind $with
        check "$how, $kind: with its files" diff -r a at-a
        check "$how, $kind: and reads of all kinds" ferofs-testkit readcheck at-a a --ops 200 --threads 2
        umount at-b at-a || fail "$how, $kind: unmounts"
        check "$how, $kind: then it can be written to" open_for_writing a.$blob

        # An image's file that is not what it says. Trusted, it gets what others have, and gives others what it has.
        # shellcheck disable=SC2086
        { put a $kind $with && put forged $kind $with; } >output 2>&1 || fail "$how, $kind: mounts" output
        cat at-a/secret >/dev/null
        log_mark
        if [ $how = inode_share ]; then
            check "$how, $kind: who is trusted can steal" cmp a/secret at-forged/secret
        else
            check "$how, $kind: no one can steal" cmp forged/secret at-forged/secret
            check "$how, $kind: nor by mapping" ferofs-testkit readcheck at-forged/secret forged/secret --ops 50
            logged "$how, $kind: and it is said" "not the sha256 of its data"
        fi
        umount at-a at-forged
        # shellcheck disable=SC2086
        { put forged $kind $with && put a $kind $with && put b $kind $with; } >output 2>&1 ||
            fail "$how, $kind: mounts" output
        cat at-forged/secret >/dev/null
        if [ $how = inode_share ]; then
            check "$how, $kind: who is trusted can poison" cmp forged/secret at-b/secret
        else
            check "$how, $kind: no one can poison" cmp a/secret at-a/secret
            check "$how, $kind: nor by mapping" ferofs-testkit readcheck at-a/secret a/secret --ops 50
            check "$how, $kind: those with the bytes have them" cmp b/secret at-b/secret
        fi
        check "$how, $kind: other files of it are what they are" cmp forged/one at-forged/one
        umount at-a at-b at-forged || fail "$how, $kind: unmounts"
    done
done

# Neither in another domain, nor with another trust.
put forged index --option domain_id=other --option inode_share &&
    put a index --option domain_id=test --option inode_share &&
    put b index --option domain_id=other --option inode_share=verify || fail "domains: mounts"
cat at-forged/secret at-a/secret >/dev/null
check "another domain is apart" cmp a/secret at-a/secret
check "who trusts nobody is apart from who trusts" cmp b/secret at-b/secret
umount at-a at-b at-forged

# A blob that is being written to when it is opened is not shared.
for how in inode_share inode_share=verify; do
    exec 9>>a.tar
    put a index --option domain_id=test --option $how && put b index --option domain_id=test --option $how ||
        fail "$how, written to: mounts"
    check "$how: a blob that is open for writing has its files" diff -r a at-a
    check "$how: and nobody else has its files" diff -r b at-b
    denied "$how: the other one's is not written to" b.tar
    exec 9>&-
    check "$how: that one can be opened for writing again" open_for_writing a.tar
    umount at-a at-b
done

# An image comes back over another blob, whose headers are the same and whose data is not: the others keep what they have.
python3 - <<'END' || fail "another blob"
old, new = open("a.tar", "rb").read(), bytearray(open("a.tar", "rb").read())
secret = old.index(b"the secret\n")
new[secret:secret + 3] = b"THE"
open("changed.tar", "wb").write(new)
END
mkdir a2 && tar -C a2 -xf changed.tar || fail "another blob"
for how in inode_share inode_share=verify; do
    with="--option domain_id=test --option $how"
    { put a index $with && put b index $with; } >output 2>&1 || fail "$how, another blob: mounts" output
    check "$how, another blob: first that which it was" diff -r a at-a
    check "$how, another blob: shared" diff -r b at-b
    check "$how, another blob: the first is unmounted" umount at-a
    mounted a.index at-a --option "device=$WORK/changed.tar" $with >output 2>&1 || fail "$how, another blob: mounts" output
    if [ $how = inode_share ]; then
        check "$how, another blob: has what others have" cmp a/secret at-a/secret
    else
        check "$how, another blob: has its own" cmp a2/secret at-a/secret
    fi
    check "$how, another blob: what is equal is what it was" cmp a/one at-a/one
    check "$how, another blob: others have what they had" diff -r b at-b
    drop
    check "$how, another blob: without caches, too" cmp b/one at-b/one
    umount at-a at-b || fail "$how, another blob: unmounts"
done

# A mapping holds what it shows: the mount it is of, its first image, and the module.
put a index $share && put b index $share || fail "mapped: mounts"
cat at-a/holes at-a/one >/dev/null
outlives "caches, the first mount and its tar" a.tar

finish
