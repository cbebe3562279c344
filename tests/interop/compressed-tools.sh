#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3
# image: peers
# slow: yes
# timeout: 900
#
# Compressed images by mkfs.erofs, of algorithms, cluster sizes, features and block sizes: `ferofs check` accepts what
# fsck.erofs accepts, and both extract the same, which is the tree that went in. The module has no part in it. ALL=1 tries every
# combination (an hour), else it is one in TIMES.

# shellcheck disable=SC2034 # for lib.sh
FS=erofs
. "$FEROFS_TESTS/lib.sh"

mkdir -p tree/dir tree/many tree/repeated
for size in 0 1 511 512 513 4095 4096 4097 70000; do
    seq 100000 120000 | head -c $size >tree/dir/text$size
    head -c $size /dev/urandom >tree/dir/noise$size
done
seq 1 120000 >tree/long
{ echo x && cat tree/long; } >tree/repeated/shifted
cp tree/long tree/repeated/same
{ head -c 300000 tree/long && head -c 5000 /dev/urandom && tail -c 200000 tree/long; } >tree/repeated/parts
head -c 2000000 /dev/zero >tree/zeros
yes pattern | head -c 3000000 >tree/pattern
truncate -s 3000000 tree/hole && echo end >>tree/hole
for name in $(seq 1 150); do seq 1 "$name" >"tree/many/a-file-with-a-name-$name"; done
ln -s "$(printf '%0600d' 0)" tree/long-link
ln tree/long tree/dir/hard
ferofs-testkit manifest tree >tree.manifest

# one NAME ARGUMENTS...: an image of the tree.
one() {
    name=$1
    shift
    if ! mkfs.erofs --quiet -x-1 "$@" made.erofs tree >output 2>&1; then
        fail "$name: mkfs.erofs" output
        return
    fi
    rm -rf theirs ours
    if ! fsck.erofs --extract=theirs made.erofs >output 2>&1; then
        # What mkfs.erofs itself made wrong must not pass here, either.
        if ferofs check made.erofs >output 2>&1; then
            fail "$name: an error that fsck.erofs finds, too" output
        else
            echo "# $name: fsck.erofs does not accept what mkfs.erofs made"
        fi
        return
    fi
    check "$name: ferofs check accepts it, and extracts" ferofs check made.erofs --extract ours
    ferofs-testkit manifest theirs >theirs.manifest
    ferofs-testkit manifest ours >ours.manifest
    # Of inodes in a metabox fsck.erofs 1.9.4 takes what lies behind them from elsewhere.
    case $name in
    *metabox*) ;;
    *) same "$name: the same files as by fsck.erofs" theirs.manifest ours.manifest --ignore mtime ;;
    esac
    same "$name: the same files as in the tree" tree.manifest ours.manifest --ignore mtime
    check "$name: dump counts" ferofs dump --statistics made.erofs
}

TIMES=${TIMES:-23}
[ -z "${ALL:-}" ] || TIMES=1
turn=0
for algorithm in lz4 lz4hc lzma deflate zstd; do
    for block in 512 1024 2048 4096; do
        for cluster in 4096 65536 1048576; do
            for features in '' -Elegacy-compress -Eztailpacking -Efragments -Eall-fragments -Ededupe \
                -Eztailpacking,fragments,dedupe -Elegacy-compress,ztailpacking,dedupe -E48bit,ztailpacking,dedupe; do
                # Levels above the lowest take long and change nothing here.
                case $cluster$features in 1048576-E*dedupe*) continue ;; esac
                turn=$((turn + 1))
                [ $((turn % TIMES)) -eq 0 ] || continue
                # shellcheck disable=SC2086 # no feature is no argument
                one "$algorithm, blocks of $block, clusters of $cluster, ${features:-no features}" \
                    -z$algorithm -b$block -C$cluster $features
            done
        done
    done
    case $algorithm:$TIMES in lz4:* | lzma:* | *:1) ;; *) continue ;; esac
    one "$algorithm, compressed directories" -z$algorithm -C16384 --zD=1
    for metadata in 4096 16384; do
        one "$algorithm, metabox with clusters of $metadata" -z$algorithm -C16384 "-m$metadata" --MZ=i
        one "$algorithm, metabox with clusters of $metadata, fragments" -z$algorithm -C16384 "-m$metadata:zstd" --MZ=i \
            -Efragments,dedupe
    done
done

finish
