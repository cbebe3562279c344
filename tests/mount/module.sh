#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debian-7.2
#
# The module itself: loaded and unloaded many times, with and without having been used; found by mount(8)
# by its alias.

. "$FEROFS_TESTS/lib.sh"
[ -n "${FEROFS_KO:-}" ] || { echo "# no FEROFS_KO: a built-in file system has no module to test"; exit 0; }
sample
ROUNDS=${ROUNDS:-50}
mkfs.erofs --quiet -x-1 full.erofs "$SHARED/sample" >output 2>&1
mkdir -p under-test

check "modinfo has the alias that mount(8) asks for" sh -c "modinfo -F alias '$FEROFS_KO' | grep -qx fs-ferofs"
rmmod ferofs 2>output || fail "the module unloads" output
# shellcheck disable=SC2317 # check calls it.
load_and_unload() {
    round=0
    while [ "$round" -lt "$ROUNDS" ]; do
        insmod "$FEROFS_KO" || return 1
        # Every second time it is used, and every fourth with inodes still in the cache.
        if [ $((round % 2)) = 0 ]; then
            ferofs-testkit mount full.erofs under-test || return 1
            if [ $((round % 4)) = 0 ]; then find under-test -type f -exec cat {} + >/dev/null; fi
            umount under-test || return 1
        fi
        rmmod ferofs || return 1
        round=$((round + 1))
    done
}
check "loads and unloads $ROUNDS times" load_and_unload
check "and is gone" sh -c '! grep -qw ferofs /proc/filesystems /proc/modules'

insmod "$FEROFS_KO"
ferofs-testkit mount full.erofs under-test
refuses "a mount keeps the module" "in use\|busy\|temporarily" rmmod ferofs
exec 5<under-test/sizes/65537
umount -l under-test
refuses "an open file keeps the module" "in use\|busy\|temporarily" rmmod ferofs
exec 5<&-
check "then it unloads" sh -c 'for i in 1 2 3 4 5; do rmmod ferofs 2>/dev/null && exit 0; sleep 0.3; done; exit 1'

# Found by its alias: the kernel asks modprobe for fs-ferofs. The machine has the module where depmod finds it.
check "modprobe finds the alias" sh -c "modprobe --show-depends fs-ferofs | grep -q /ferofs.ko"
modprobe -r ferofs
check "it is not loaded" sh -c '! grep -qw ferofs /proc/filesystems /proc/modules'
check "mount -t ferofs loads the module" mount -t ferofs full.erofs under-test
check "and it is loaded" grep -qw ferofs /proc/modules
check "and mounted" findmnt --types ferofs --mountpoint under-test
umount under-test
grep -qw ferofs /proc/filesystems || insmod "$FEROFS_KO"

mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
if [ -w /sys/kernel/debug/kmemleak ]; then
    # An object counts as leaked from its fifth second on, and only the second scan is sure.
    sleep 6
    echo scan >/sys/kernel/debug/kmemleak
    echo scan >/sys/kernel/debug/kmemleak
    cat /sys/kernel/debug/kmemleak >leaks
    check "no leak of the module" sh -c '! grep -B 5 -A 20 ferofs leaks'
fi

finish
