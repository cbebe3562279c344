#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# timeout: 900
#
# Mutated images: what `ferofs check` calls sound mounts, and all of it can be read, to the bytes that `ferofs check
# --extract` writes. (What it finds wrong may be readable: it looks at more.) IMAGES of each kind, from seed FIRST on. Of one
# that is wrong the changes that do not matter are left out, and the image is put to $FEROFS_OUT.

. "$FEROFS_TESTS/lib.sh"
IMAGES=${IMAGES:-25}
FIRST=${FIRST:-0}
[ "$FS" = ferofs ] || { echo "# both are of ferofs"; exit 0; }

mkdir -p tree/sub
seq 1 9000 >tree/numbers && seq 5 4000 >tree/sub/some && head -c 20000 tree/numbers >tree/start
perl -e 'srand 1; print chr int rand 256 for 1..9000' >tree/random
{ head -c 3000 tree/random && seq 1 3000; } >tree/mixed && truncate -s 60000 tree/zeros && seq 100 >tree/short
ln -s short tree/link
find tree -exec touch -h -d @1600000000 {} +
mount -t tmpfs tmpfs "$(mkdir -p work && echo work)" && cd work || exit 1

# agree: the image is sound for both, or not for `ferofs check`. Sets SOUND to say which.
agree() {
    rm -rf extracted
    SOUND=
    ferofs check image.erofs --extract extracted >checked 2>&1 || return 0
    SOUND=yes
    mounted image.erofs under-test && diff -r --no-dereference extracted under-test
    agreed=$?
    umount under-test 2>/dev/null
    return $agreed
}

# smaller SEED: the smallest set of the seed's changes, found by leaving out one after the other, with which they do not agree.
smaller() {
    changes=31
    for bit in 1 2 4 8 16; do
        ferofs-testkit mutate base.erofs image.erofs --seed "$1" --changes $((changes & ~bit)) || return
        if ! agree >/dev/null 2>&1; then changes=$((changes & ~bit)); fi
    done
    ferofs-testkit mutate base.erofs image.erofs --seed "$1" --changes $changes
    cp image.erofs "$FEROFS_OUT/disagree-$1.erofs"
    echo "seed $1, changes $changes"
}

kinds=0
while read -r options; do
    # shellcheck disable=SC2086 # options are words.
    mkfs.erofs --quiet -T1600000000 -U00000000-0000-0000-0000-000000000001 $options base.erofs ../tree >output 2>&1 ||
        fail "$options: the image" output
    if ! mounted base.erofs under-test >output 2>&1; then
        # The kernel for debugging has no Zstandard.
        if grep -q EOPNOTSUPP output; then echo "# $options: this kernel has no decoder for it"; else fail "$options: the image mounts" output; fi
        continue
    fi
    umount under-test
    kinds=$((kinds + 1))
    sound=0
    seed=$FIRST
    : >wrong
    while [ "$seed" -lt $((FIRST + IMAGES)) ]; do
        ferofs-testkit mutate base.erofs image.erofs --seed "$seed" || break
        agree >output 2>&1 || { smaller "$seed" && cat output checked; } >>wrong
        if [ -n "$SOUND" ]; then sound=$((sound + 1)); fi
        seed=$((seed + 1))
    done
    if [ -s wrong ]; then
        fail "$options: sound for ferofs check, and not for the module" wrong
    else
        pass "$options: $sound of $IMAGES images are sound, and can be read"
    fi
done <<END
-x-1
-b512 --chunksize=4096
-b1024 -Enoinline_data,force-inode-extended
-zlz4
-zlz4hc -C16384 -Eztailpacking
-zlz4 -b512
-zlz4 -C8192 -Efragments,dedupe
-zlzma -C8192 -Eall-fragments
-zzstd -C16384 -Ededupe
-zdeflate -b1024 -C8192 -Efragments,ztailpacking
-zlz4:zstd -C8192
END
check "images of $kinds kinds, at least nine" test $kinds -ge 9
cd "$WORK" || exit 1
finish
