#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debug
# timeout: 1800
#
# Mutated images, mounted, walked and read: no hang, no report of the kernel. Those of mounts.seeds, each of which reached
# code that none before it had (tests/fuzz/reach), and 200 others; or IMAGES of them, from seed FIRST on, of the base images
# whose names BASES matches, with those of their changes that CHANGES says. What can be seen of each is put into the directory
# OUTCOMES, if that is given, with the base images beside it. The runner of the virtual machine looks for the kernel's
# reports.

. "$FEROFS_TESTS/lib.sh"
SEEDS=${SEEDS:-}
if [ -z "${IMAGES:-}${FIRST:-}${MAKE:-}" ] && [ "$FS" = ferofs ]; then SEEDS=$FEROFS_TESTS/fuzz/mounts.seeds; fi
FIRST=${FIRST:-0}

# Small images of different shapes. Fixed times and ids, so that a seed means the same image elsewhere.
mkdir -p bases tree/dir/sub tree/many
for size in 0 1 511 512 513 4095 4096 4097 9000; do head -c $size /dev/zero | tr '\0' "${size%"${size#?}"}" >tree/dir/f$size; done
for name in 1 2 3; do echo $name >tree/many/$name; done
perl -e 'chdir "tree/many"; link 1 + $_ % 3, "entry-with-a-name-$_" for 1..70'
ln -s dir/f512 tree/link
ln -s "$(printf '%0600d' 0)" tree/long-link
ln tree/dir/f4097 tree/dir/sub/hard
mknod tree/null c 1 3
mkfifo tree/fifo
truncate -s 50000 tree/dir/hole
find tree -exec touch -h -d @1600000000 {} +
if command -v setfattr >/dev/null; then
    setfattr -n user.comment -v text tree/dir/f1 tree/dir/f513 tree/many 2>/dev/null
fi
fixed="--quiet -T1600000000 -U00000000-0000-0000-0000-000000000001 --force-uid=0 --force-gid=0"
base() {
    name=$1
    shift
    # shellcheck disable=SC2086 # $fixed is a list of words.
    mkfs.erofs $fixed "$@" "bases/$name.erofs" tree >output 2>&1 || fail "base image $name" output
}
base inline
base inline-512 -b512
base plain-1024 -b1024 -Enoinline_data
base extended -Eforce-inode-extended
base chunks -b4096 --chunksize=4096
base chunks-512 -b512 --chunksize=512 -Eforce-chunk-indexes
ferofs-testkit reshape dot-omitted bases/inline.erofs bases/dotless.erofs >output || fail "base image dotless" output
ferofs-testkit reshape 48bit bases/chunks-512.erofs bases/wide.erofs >output || fail "base image wide" output
touch bases/blob.blob
base blob -b512 --chunksize=1024 "--blobdev=bases/blob.blob"
ferofs-testkit gen-tar sizes,special bases/index.blob
# shellcheck disable=SC2086
mkfs.erofs --quiet -T1600000000 -U00000000-0000-0000-0000-000000000002 --tar=i bases/index.erofs bases/index.blob >output 2>&1
if [ "$FS" = ferofs ] && command -v ferofs >/dev/null; then
    cp bases/index.blob bases/built.blob
    ferofs build -o bases/built.erofs bases/built.blob >output 2>&1 || fail "base image built" output
    cp bases/index.blob bases/fingerprints.blob
    ferofs build --fingerprints -o bases/fingerprints.erofs bases/fingerprints.blob >output 2>&1 ||
        fail "base image fingerprints" output
fi

# Compressed ones, of texts that compress and bytes that do not.
mkdir -p packed/sub
seq 1 9000 >packed/numbers && seq 5 4000 >packed/sub/some && head -c 20000 packed/numbers >packed/start
perl -e 'srand 1; print chr int rand 256 for 1..9000' >packed/random
{ head -c 3000 packed/random && seq 1 3000; } >packed/mixed && truncate -s 60000 packed/zeros && seq 100 >packed/short
find packed -exec touch -h -d @1600000000 {} +
compressed() {
    name=$1
    shift
    # shellcheck disable=SC2086 # $fixed is a list of words.
    mkfs.erofs $fixed "$@" "bases/$name.erofs" packed >output 2>&1 || fail "base image $name" output
}
compressed lz4 -zlz4
compressed lz4-big -zlz4hc -C16384 -Eztailpacking
compressed lz4-old -zlz4 -Elegacy-compress
compressed lz4-512 -zlz4 -b512
compressed lz4-fragments -zlz4 -C8192 -Efragments,dedupe
compressed lzma-packed -zlzma -C8192 -Eall-fragments
compressed zstd -zzstd -C16384 -Ededupe
compressed deflate -zdeflate -b1024 -C8192 -Efragments,ztailpacking
compressed two -zlz4:zstd -C8192

# MAKE: the image of the first seed is put to $FEROFS_OUT instead, with its blobs.
if [ -n "${MAKE:-}" ]; then
    # shellcheck disable=SC2086 # BASES is a pattern.
    set -- bases/${BASES:-*}.erofs
    shift $((FIRST % $#))
    check "the image of seed $FIRST" ferofs-testkit mutate "$1" "$FEROFS_OUT/seed-$FIRST.erofs" --seed "$FIRST" \
        --changes "${CHANGES:-4294967295}"
    for blob in "${1%.erofs}".*blob; do
        if [ -e "$blob" ]; then cp "$blob" "$FEROFS_OUT/seed-$FIRST.${blob#*.}"; fi
    done
    finish
fi

# The C driver does not take images on tmpfs.
mkdir -p work
if [ "$FS" = ferofs ]; then mount -t tmpfs tmpfs work; fi
# COVERAGE: a directory for which places of the module were passed (see tests/fuzz/reach).
if [ -n "${COVERAGE:-}" ]; then
    for section in /sys/module/ferofs/sections/.*; do
        if [ -f "$section" ]; then echo "${section##*/} $(cat "$section")"; fi
    done >"$COVERAGE/sections"
fi

if [ -n "${OUTCOMES:-}" ]; then mkdir -p "$OUTCOMES" && cp -r bases "$OUTCOMES/../"; fi

# mounts COUNT [OPTION...]: mounts so many.
mounts() {
    count=$1
    shift
    {
        # shellcheck disable=SC2086 # BASES is a pattern.
        ferofs-testkit fuzz-mounts --type "$FS" --work "$WORK/work" --first "$FIRST" --count "$count" "$@" \
            --changes "${CHANGES:-4294967295}" --limit "${LIMIT:-60}" ${COVERAGE:+--coverage "$COVERAGE"} \
            ${OUTCOMES:+--outcomes "$OUTCOMES"} bases/${BASES:-*}.erofs 2>&1
        echo $? >status
    } | sed -u 's/^/# /'
    if [ "$(cat status)" = 0 ]; then pass "$count mutated images"; else fail "$count mutated images"; fi
}

if [ -n "$SEEDS" ]; then
    mounts "$(grep -vc '^#' "$SEEDS")" --seeds "$SEEDS"
    IMAGES=200
fi
mounts "${IMAGES:-500}"

finish
