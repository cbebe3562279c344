#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: none
#
#   tests/vm/run --append init_on_alloc=0 --mem 2g tests/bench/ahead.sh [OTHER.ko]
#
# How long a mapped file of 64 MiB takes to be read by the clock, on a disk that answers after a millisecond: from the beginning to
# the end with and without advice, and 400 pages at random, by ferofs, by the C driver and by the C driver with directio, and by
# another build of ferofs if one is given. The least of five.

. "$FEROFS_TESTS/lib.sh"
modprobe -a loop dm-delay erofs

cat >read.py <<'END'
import mmap, os, random, sys, time

fd = os.open(sys.argv[1], os.O_RDONLY)
size = os.fstat(fd).st_size
pages = mmap.mmap(fd, size, prot=mmap.PROT_READ)
if sys.argv[2] == 'advised':
    pages.madvise(mmap.MADV_SEQUENTIAL)
numbers = random.Random(1)
order = [numbers.randrange(size) for _ in range(400)] if sys.argv[2] == 'random' else range(0, size, mmap.PAGESIZE)
start = time.perf_counter()
for at in order:
    pages[at]
print(f'{(time.perf_counter() - start) * 1e3:.1f}')
END

truncate -s 200M disk
loop=$(losetup --direct-io=on --find --show disk)
echo "0 $(blockdev --getsz "$loop") delay $loop 0 1" | dmsetup create slow
dmsetup mknodes
mkfs.ext4 -q /dev/mapper/slow
mkdir slow at
mount /dev/mapper/slow slow
mkdir tree
head -c 67108864 /dev/urandom >tree/large
tar -cf slow/layer.tar tree
ferofs build -q -o slow/layer.erofs slow/layer.tar

# once NAME TYPE OPTIONS: mounts it so, and reads in each way.
once() {
    mount -t "$2" slow/layer.erofs at -o "device=slow/layer.tar$3"
    for way in plain advised random; do
        sync
        echo 3 >/proc/sys/vm/drop_caches
        echo "$1 $way $(python3 read.py at/tree/large $way)"
    done
    umount at
}

for _ in 1 2 3 4 5; do
    once ferofs ferofs ""
    once C-driver erofs ""
    once C-driver,directio erofs ,directio
    for other in "$FEROFS_WORK"/../*.ko; do
        [ -e "$other" ] || continue
        rmmod ferofs
        insmod "$other"
        once "$(basename "$other")" ferofs ""
        rmmod ferofs
        insmod "$FEROFS_KO"
    done
done >samples
python3 - <<'END'
least = {}
for line in open('samples'):
    who, way, ms = line.split()
    least.setdefault(way, {}).setdefault(who, []).append(float(ms))
for way, row in least.items():
    print(f'{way}:', ', '.join(f'{who} {min(ms):.0f} ms ({" ".join(f"{one:.0f}" for one in ms)})' for who, ms in row.items()))
END
umount slow
dmsetup remove slow
losetup -d "$loop"
