#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# append: ima_policy=tcb
#
# IMA: a file is hashed once, however often it is opened, executed or mapped, and once more after it changed: on the
# file system alone and below overlayfs, as on ext4.

. "$FEROFS_TESTS/lib.sh"

mountpoint -q /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security
check "IMA measures" grep -q "func=FILE_CHECK" /sys/kernel/security/ima/policy
code_trees
# Programs that this script uses are measured now.
for i in 1 2; do ferofs-testkit rights ext4/one && cat ext4/several && ext4/busybox true; done >output 2>&1

tracing=/sys/kernel/tracing
[ -e $tracing/kprobe_events ] || mount -t tracefs tracefs $tracing
check "hashes can be counted" sh -c "echo p:ferofs_tests/hash ima_calc_file_hash >$tracing/kprobe_events"

# hashes COMMAND...: runs it ten times, and prints how many files were hashed for that.
hashes() {
    echo 1 >$tracing/events/ferofs_tests/hash/enable
    echo >$tracing/trace
    for i in 1 2 3 4 5 6 7 8 9 10; do "$@" >/dev/null || echo "failed: $*"; done
    echo 0 >$tracing/events/ferofs_tests/hash/enable
    grep -c " hash: " $tracing/trace
}

# counted TREE FILE...: once for each file, and for the program.
counted() {
    tree=$1
    shift
    for file; do
        check "$tree: $file is hashed once for ten times it is read" test "$(hashes cat "$tree/$file")" = 1
        check "$tree: and not for ten times it is mapped" test "$(hashes ferofs-testkit rights "$tree/$file")" = 0
    done
    check "$tree: a program is hashed once for ten times it is executed" test "$(hashes "$tree/busybox" true)" = 1
    check "$tree: and not for ten times it is read" test "$(hashes cat "$tree/busybox")" = 0
}
for tree in $CODE_TREES; do
    case $tree in
    # The C driver has no version of a file that overlayfs could ask for.
    over-ext4) ;;
    over-*) [ "$FS" = ferofs ] || continue ;;
    esac
    counted "$tree" one several tail small
done

# changed BLOB TREE...: adds to the blob, and then changes bytes in it, by other opens of it.
changed() {
    blob=$1
    shift
    for tree; do
        printf x >>"$blob"
        check "$tree: hashed once more after $blob grew" test "$(hashes cat "$tree/one")" = 1
        check "$tree: so is a program" test "$(hashes "$tree/busybox" true)" = 1
        printf x | dd of="$blob" bs=1 seek="$(stat -c %s "$blob")" conv=notrunc 2>output
        check "$tree: hashed once more after $blob was written to" test "$(hashes cat "$tree/several")" = 1
        check "$tree: what else is in it, too" test "$(hashes cat "$tree/small")" = 1
    done
}
if [ "$FS" = ferofs ]; then
    for file in one several small busybox; do touch -c "ext4/$file"; done
    changed plain.image plain
    changed chunks.image chunks over-chunks
    changed tree.tar index over-index
fi

echo >$tracing/kprobe_events
finish
