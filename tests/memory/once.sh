#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# timeout: 300
#
# What is read is cached once, by read and by mmap, however many images refer to it, and small files that are
# mapped one after the other are read from the disk together; drop_caches frees it all, inodes too; and far more
# than the memory can be read: HUGE files of 1 GiB each (2). `tests/vm/run --mem 512M` runs it in a small machine.

. "$FEROFS_TESTS/lib.sh"
HUGE=${HUGE:-2}
SIZE=$((48 << 20))
KIB=$((SIZE >> 10))

# cached: KiB of page cache, shared memory left out. inodes: those that are in memory.
cached() {
    awk '/^Cached:/ { sum += $2 } /^Shmem:/ { sum -= $2 } END { print sum }' /proc/meminfo
}

inodes() {
    awk '/^(ferofs|erofs_inode) / { sum += $2 } END { print sum + 0 }' /proc/slabinfo
}

drop() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
}

# reads: how many the disks were asked for.
reads() {
    awk '{ sum += $1 } END { print sum }' /sys/block/*/stat
}

# near NAME FOUND EXPECTED SLACK
near() {
    check "$1 ($2 KiB, expected $3 within $4)" sh -c "test $2 -ge $(($3 - $4)) && test $2 -le $(($3 + $4))"
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

# Small files in a row, with a large one after each hundred, and readahead of 128 KiB.
for ahead in /sys/block/*/queue/read_ahead_kb; do echo 128 >"$ahead"; done
python3 - <<'END' || fail "a tar of small files"
import io, random, tarfile
random.seed(1)
with tarfile.open("small.tar", "w", format=tarfile.GNU_FORMAT) as tar:
    for number in range(2000):
        info = tarfile.TarInfo(f"{number:04}")
        info.size = 300000 if number % 100 == 99 else random.randrange(1, 40000)
        tar.addfile(info, io.BytesIO(random.randbytes(info.size)))
END
ferofs build --quiet -o small.erofs small.tar >output 2>&1 || fail "an index" output
mkdir lower other layered unpacked
ln small.tar lower/
mount -t overlay overlay -o "lowerdir=$WORK/lower:$WORK/other" layered >output 2>&1 || fail "an overlay mounts" output
tar -C unpacked -xf small.tar
for where in . layered; do
    name="small files: blob in $where"
    mounted small.erofs under-test --option "device=$WORK/$where/small.tar" >output 2>&1 || fail "$name: mounts" output
    KIB=$(find under-test -type f -printf '%s\n' | awk '{ sum += int(($1 + 4095) / 4096) * 4 } END { print sum }')
    drop
    before=$(cached)
    reads_before=$(reads)
    ferofs-testkit manifest --via mmap under-test >mapped.manifest
    now=$(cached)
    now_reads=$(($(reads) - reads_before))
    near "$name: their bytes are cached once by mmap" $((now - before)) "$KIB" 3000
    check "$name: 2,000 are read together, with $now_reads reads" test $now_reads -lt 1000
    drop
    ferofs-testkit manifest --via read under-test >read.manifest
    same "$name: mmap and read" read.manifest mapped.manifest
    ferofs-testkit manifest --via mmap under-test >mapped.manifest
    same "$name: mmap after read" read.manifest mapped.manifest
    reads_before=$(reads)
    ferofs-testkit manifest --via read under-test >read.manifest
    now_reads=$(($(reads) - reads_before))
    check "$name: mmap leaves what was read in the cache ($now_reads reads)" test $now_reads -lt 20
    drop
    find under-test -name '*[02468]' -type f -exec cat {} + >all
    ferofs-testkit manifest --via mmap under-test >mapped.manifest
    same "$name: mmap, half of them read" read.manifest mapped.manifest
    reads_before=$(reads)
    find under-test -name '*[02468]' -type f -exec cat {} + | cmp - all >output 2>&1 || fail "$name: read again" output
    now_reads=$(($(reads) - reads_before))
    check "$name: mmap leaves the half that was read in the cache ($now_reads reads)" test $now_reads -lt 20
    check "$name: as GNU tar unpacks them" diff -r unpacked under-test
    umount under-test
done
umount layered

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
