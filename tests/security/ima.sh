#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# append: ima_policy=tcb
#
# IMA: a file is hashed once, however often it is opened, executed or mapped, and once more after it changed: on the
# file system alone and below overlayfs, as on ext4.

. "$FEROFS_TESTS/lib.sh"

mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security
check "IMA measures" test "$(cat /sys/kernel/security/ima/runtime_measurements_count)" -gt 1
code_files
code_trees
# Programs that this script uses are measured now, and so are the files of which the images were made.
for _ in 1 2; do ferofs-testkit rights ext4/one && cat ext4/several && ext4/busybox true; done >output 2>&1
cp -a ext4 copy-on-ext4

# hashed: how many files were hashed until now.
tracing=/sys/kernel/tracing
[ -e $tracing/kprobe_events ] || mount -t tracefs tracefs $tracing
check "hashes can be counted" sh -c "echo p:ferofs_tests/hash ima_calc_file_hash >$tracing/kprobe_events &&
    echo 1 >$tracing/events/ferofs_tests/hash/enable"
hashed() {
    while read -r event hits _; do
        if [ "$event" = hash ]; then echo "$hits"; fi
    done <$tracing/kprobe_profile
}

# hashes COMMAND...: runs it ten times, and prints how many files were hashed for that.
hashes() {
    before=$(hashed)
    for _ in 1 2 3 4 5 6 7 8 9 10; do "$@" >/dev/null || echo "failed: $*"; done
    echo $(($(hashed) - before))
}

# opened FILE: opens it for reading.
# shellcheck disable=SC2317 # hashes calls it
opened() {
    : <"$1"
}

# counted TREE: for each kind of file, and for a program.
counted() {
    for file in one several tail small; do
        check "$1: $file is hashed once for ten times it is opened" test "$(hashes opened "$1/$file")" = 1
    done
    check "$1: they are not when they are mapped" \
        test "$(hashes ferofs-testkit rights "$1/one" "$1/several" "$1/tail" "$1/small")" = 0
    check "$1: a program is hashed once for ten times it is executed" test "$(hashes "$1/busybox" true)" = 1
    check "$1: it is not when it is opened" test "$(hashes opened "$1/busybox")" = 0
}
for tree in copy-on-$CODE_TREES; do
    case $FS-$tree in
    # The C driver has no version of a file that overlayfs could ask for.
    erofs-over-ext4) counted "$tree" ;;
    erofs-over-*) echo "ok - $SCRIPT: $tree # SKIP the C driver's files have no version" ;;
    *) counted "$tree" ;;
    esac
done

# changed BLOB TREE: adds to the blob, and then changes bytes in it, by other opens of it. For files of the mount itself
# IMA does not ask whether they changed, for nobody can write to them; it does where overlayfs is above them.
changed() {
    printf x >>"$1"
    check "$2: hashed once more after $1 grew" test "$(hashes opened "$2/one")" = 1
    check "$2: so is a program" test "$(hashes "$2/busybox" true)" = 1
    printf x | dd of="$1" bs=1 seek="$(stat -c %s "$1")" conv=notrunc 2>output
    check "$2: hashed once more after $1 was written to" test "$(hashes opened "$2/several")" = 1
    check "$2: what else is in it, too" test "$(hashes opened "$2/small")" = 1
}
if [ "$FS" = ferofs ]; then
    changed plain.image over-plain
    changed chunks.image over-chunks
    changed tree.tar over-index
fi

echo 0 >$tracing/events/ferofs_tests/hash/enable
echo >$tracing/kprobe_events
finish
