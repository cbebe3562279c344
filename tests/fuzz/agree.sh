#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# timeout: 900
#
# Mutated compressed images: what `ferofs check` calls sound mounts, and all of it can be read, to the bytes that `ferofs check
# --extract` writes. (What it finds wrong may be readable: it looks at more.) IMAGES of each kind, from seed FIRST on.

. "$FEROFS_TESTS/lib.sh"
IMAGES=${IMAGES:-25}
FIRST=${FIRST:-0}
[ "$FS" = ferofs ] || { echo "# both are of ferofs"; exit 0; }

mkdir -p tree/sub
seq 1 9000 >tree/numbers && seq 5 4000 >tree/sub/some && head -c 20000 tree/numbers >tree/start
perl -e 'srand 1; print chr int rand 256 for 1..9000' >tree/random
{ head -c 3000 tree/random && seq 1 3000; } >tree/mixed && truncate -s 60000 tree/zeros && seq 100 >tree/short
find tree -exec touch -h -d @1600000000 {} +
mount -t tmpfs tmpfs "$(mkdir -p work && echo work)" && cd work || exit 1

# agree: the image is sound for both, or not for `ferofs check`.
agree() {
    rm -rf extracted
    if ! ferofs check image.erofs --extract extracted >checked 2>&1; then
        unsound=$((unsound + 1))
        return 0
    fi
    sound=$((sound + 1))
    mounted image.erofs under-test && diff -r --no-dereference extracted under-test
    agreed=$?
    umount under-test 2>/dev/null
    return $agreed
}

while read -r options; do
    # shellcheck disable=SC2086 # options are words.
    mkfs.erofs --quiet -T1600000000 -U00000000-0000-0000-0000-000000000001 $options base.erofs ../tree >output 2>&1 ||
        fail "$options: the image" output
    sound=0
    unsound=0
    wrong=
    seed=$FIRST
    while [ "$seed" -lt $((FIRST + IMAGES)) ]; do
        ferofs-testkit mutate base.erofs image.erofs --seed "$seed" || break
        agree >output 2>&1 || { wrong="$wrong $seed" && cat output checked; }
        seed=$((seed + 1))
    done >wrong
    if [ -n "$wrong" ]; then
        fail "$options: sound for ferofs check, and not for the module: seeds$wrong" wrong
    else
        pass "$options: $sound sound images can be read, $unsound others are not sound"
    fi
done <<END
-zlz4
-zlz4hc -C16384 -Eztailpacking
-zlz4 -b512
-zlz4 -C8192 -Efragments,dedupe
-zlzma -C8192 -Eall-fragments
-zzstd -C16384 -Ededupe
-zdeflate -b1024 -C8192 -Efragments,ztailpacking
-zlz4:zstd -C8192
END
cd "$WORK" || exit 1
finish
