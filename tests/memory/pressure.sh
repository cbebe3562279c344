#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# A reader with much less memory than its file gets the right bytes, and what a mount has cached goes away
# with drop_caches and with the mount.

. "$FEROFS_TESTS/lib.sh"
BIG=${BIG:-$((160 << 20))}
LIMIT=${LIMIT:-$((32 << 20))}

cached() {
    awk '/^(Cached|Buffers|Slab):/ { sum += $2 } END { print sum }' /proc/meminfo
}

ferofs-testkit gen-tar big big.tar --size "$BIG"
mkfs.erofs --quiet --tar=i index.erofs big.tar >output 2>&1
mounted index.erofs under-test --option "device=$WORK/big.tar" >output 2>&1 || fail "mounts" output
expected=$(tar -xOf big.tar ./big | sha256sum)
# Page cache that is there already is charged to no one: begin with none.
echo 3 >/proc/sys/vm/drop_caches

# limited COMMAND...: in a control group with LIMIT bytes of memory, page cache included.
group=/sys/fs/cgroup/ferofs-tests
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir -p $group
if [ -e $group/memory.max ]; then
    echo "$LIMIT" >$group/memory.max
    for via in read mmap; do
        echo 3 >/proc/sys/vm/drop_caches
        found=$(sh -c "echo \$\$ >$group/cgroup.procs && exec ferofs-testkit manifest --via $via under-test" |
            sed -n 's/^big .*sha256=//p')
        check "a file of $((BIG >> 20)) MiB in $((LIMIT >> 20)) MiB of memory by $via" \
            test "$found  -" = "$expected"
    done
    check "the limit was felt" sh -c "grep -v '^max 0' $group/memory.events | grep -q '^max '"
    check "and nobody was killed" grep -qx 'oom_kill 0' $group/memory.events
    rmdir $group
else
    echo "ok - $SCRIPT: reading with little memory # SKIP no memory control groups"
fi

sync
echo 3 >/proc/sys/vm/drop_caches
before=$(cached)
head -c 30M under-test/big >/dev/null
during=$(cached)
check "reading 30 MB fills the cache (by $((during - before)) KiB)" test $((during - before)) -gt 20000
echo 3 >/proc/sys/vm/drop_caches
after=$(cached)
check "drop_caches empties it (down to $((after - before)) KiB)" test $((after - before)) -lt 8000

head -c 30M under-test/big >/dev/null
find under-test -ls >/dev/null
check "unmounts" umount under-test
rm big.tar index.erofs
sleep 1
after=$(cached)
check "unmounting and unlinking frees it (down to $((after - before)) KiB)" test $((after - before)) -lt 8000

finish
