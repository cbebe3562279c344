#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# timeout: 900
#
# What is read is cached once, by read and by mmap, however many images refer to it; drop_caches frees it all,
# inodes too; and far more than the memory can be read: HUGE files of 1 GiB each (2). `tests/vm/run --mem 512M`
# runs it in a small machine.

. "$FEROFS_TESTS/lib.sh"
HUGE=${HUGE:-2}
SIZE=$((48 << 20))
KIB=$((SIZE >> 10))

# inodes: how many are in memory.
inodes() {
    awk '/^(ferofs|erofs_inode) / { sum += $2 } END { print sum + 0 }' /proc/slabinfo
}

ferofs-testkit gen-tar big big.tar --size "$SIZE"
ferofs build --quiet -o first.erofs big.tar >output 2>&1 || fail "an index" output
mkfs.erofs --quiet --tar=i second.erofs big.tar >output 2>&1
for image in first second; do
    mounted $image.erofs $image --option "device=$WORK/big.tar" >output 2>&1 || fail "$image mounts" output
done
for via in read mmap; do
    drop
    before=$(cached)
    ferofs-testkit manifest --via $via first >first.manifest
    now=$(cached)
    near "$via: the first image's bytes are cached once" $((now - before)) "$KIB" 4096
    ferofs-testkit manifest --via $via second >second.manifest
    near "$via: the second image's not at all" $(($(cached) - now)) 0 4096
    same "$via: both have the same" first.manifest second.manifest
    drop
    near "$via: drop_caches frees it all" $(($(cached) - before)) 0 4096
done
umount first second

# Inodes, and what is cached with them.
ferofs-testkit gen-tar wide wide.tar --files 20000
ferofs build --quiet -o wide.erofs wide.tar >output 2>&1 || fail "an index" output
mounted wide.erofs under-test --option "device=$WORK/wide.tar" >output 2>&1 || fail "mounts" output
drop
before=$(inodes)
find under-test -ls >/dev/null
during=$(inodes)
check "20,000 files are 20,000 inodes (from $before to $during)" test $((during - before)) -gt 19000
drop
after=$(inodes)
check "drop_caches frees the inodes (down to $after)" test $((after - before)) -lt 500
umount under-test

# Files of 1 GiB in a tar that is a hole but for some pages of each; the same files beside it.
mkdir huge
HUGE=$HUGE python3 - <<'END' || fail "a tar with holes"
import os, tarfile
with open("huge.tar", "wb") as tar:
    for name in range(int(os.environ["HUGE"])):
        info = tarfile.TarInfo(str(name))
        info.size = 1 << 30
        tar.write(info.tobuf())
        start = tar.tell()
        with open(f"huge/{name}", "wb") as file:
            for page in (0, name + 1, 1000 * name, 131072, 262143):
                data = os.urandom(4096)
                for out, base in ((tar, start), (file, 0)):
                    out.seek(base + page * 4096)
                    out.write(data)
        tar.seek(start + info.size)
    tar.write(bytes(1024))
END
ferofs build --quiet -o huge.erofs huge.tar >output 2>&1 || fail "an index" output
mounted huge.erofs under-test --option "device=$WORK/huge.tar" >output 2>&1 || fail "mounts" output
LIMIT=$((128 << 20))
# shellcheck disable=SC2016 # the inner shell's
check "$HUGE GiB by read in $((LIMIT >> 20)) MiB of memory" limited $LIMIT sh -c '
    for file in under-test/*; do
        dd if="$file" of=/dev/null bs=1M 2>&1 | grep "^1073741824 bytes" || exit 1
    done'
check "and the limit was felt" grep -q '^max [1-9]' limited.events
check "and nobody was killed" grep -qx 'oom_kill 0' limited.events
# shellcheck disable=SC2016
check "$HUGE GiB by mmap in $((LIMIT >> 20)) MiB of memory" limited $LIMIT sh -c '
    for file in under-test/*; do ferofs-testkit touch "$file" 0 --end 1073741824 || exit 1; done'
check "and the limit was felt by mmap" grep -q '^max [1-9]' limited.events
check "and nobody was killed by mmap" grep -qx 'oom_kill 0' limited.events
check "random reads of $HUGE GiB in $((LIMIT >> 20)) MiB of memory" \
    limited $LIMIT ferofs-testkit readcheck under-test huge --ops 150 --threads 2
check "unmounts" umount under-test

finish
