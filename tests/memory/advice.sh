#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# What is said with madvise(2) and posix_fadvise(2) about mapped files has the effect that it has on ext4, and
# their pages are placed where ext4's are.

. "$FEROFS_TESTS/lib.sh"

# One extent, which does not begin at a page; several, with a hole; an inline tail.
mkdir tree copy
seq 1 600000 | head -c 4000000 >tree/one
head -c 1000000 tree/one >tree/several
truncate -s 2000000 tree/several
head -c 1000000 tree/one >>tree/several
seq 1 600000 | head -c 3000100 >tree/tail
cp --sparse=always tree/* copy/
sync
tar -S -cf layer.tar -C tree .
ferofs build --quiet -o layer.erofs layer.tar >output 2>&1 || fail "an index" output
mkfs.erofs --quiet full.erofs tree >output 2>&1 || fail "an image" output
mounted layer.erofs index --option "device=$WORK/layer.tar" >output 2>&1 || fail "mounts" output
mounted full.erofs image >output 2>&1 || fail "mounts" output

# What the disks have set, for others who come after.
for was in /sys/block/*/queue/read_ahead_kb; do echo "echo $(cat "$was") >$was"; done >"$SHARED/advice.restore"
trap 'sh "$SHARED/advice.restore"' EXIT
for disk in /sys/block/*/queue/read_ahead_kb; do echo 64 >"$disk"; done

cat >advice.py <<'PYTHON'
# advice.py DIRECTORY: for each file there, and each thing to say of it, how many pages are resident then: those
# of the part that it was about, and the rest.
import ctypes, mmap, os, sys, time

PAGE = 4096
FIRST, BEHIND = 64, 192
START, LENGTH = FIRST * PAGE, (BEHIND - FIRST) * PAGE
libc = ctypes.CDLL(None, use_errno=True)


def fadvise(advice):
    return lambda file, area: os.posix_fadvise(file.fileno(), START, LENGTH, advice)


def madvise(advice):
    return lambda file, area: area.madvise(advice, START, LENGTH)


def touch(first, behind):
    return lambda file, area: sum(area[page * PAGE] for page in range(first, behind))


def all_but(what):
    def do(file, area):
        touch(0, len(area) // PAGE)(file, area)
        area.madvise(mmap.MADV_DONTNEED)
        what(file, area)
    return do


def nothing(file, area):
    pass


def whole(advice):
    return lambda file: os.posix_fadvise(file.fileno(), 0, 0, advice)


POPULATE_READ, PAGEOUT = 22, 21
CASES = {  # what is done before the file is mapped, and after
    "willneed": (None, madvise(mmap.MADV_WILLNEED)),
    "fadvise-willneed": (None, fadvise(os.POSIX_FADV_WILLNEED)),
    "populate-read": (None, madvise(POPULATE_READ)),
    "random": (None, lambda file, area: (area.madvise(mmap.MADV_RANDOM), touch(FIRST, FIRST + 1)(file, area))),
    "fadvise-dontneed": (None, all_but(fadvise(os.POSIX_FADV_DONTNEED))),
    "pageout": (None, all_but(madvise(PAGEOUT))),
    "before-normal": (whole(os.POSIX_FADV_NORMAL), touch(FIRST, FIRST + 1)),
    "before-sequential": (whole(os.POSIX_FADV_SEQUENTIAL), touch(FIRST, FIRST + 1)),
}


def address_of(area):
    return ctypes.addressof(ctypes.c_char.from_buffer(area))


def resident(area, address):
    pages = (ctypes.c_ubyte * -(-len(area) // PAGE))()
    if libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(pages) * PAGE), pages):
        raise OSError(ctypes.get_errno(), "mincore")
    return [page & 1 for page in pages]


directory = sys.argv[1]
for name in "one", "several", "tail":
    for what, (before, after) in CASES.items():
        with open("/proc/sys/vm/drop_caches", "w") as drop:
            drop.write("1")
        with open(os.path.join(directory, name), "rb", buffering=0) as file:
            if before:
                before(file)
            area = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            area.madvise(mmap.MADV_NOHUGEPAGE)
            address = address_of(area)
            after(file, area)
            # What is read ahead may come a little later.
            pages = None
            while True:
                last, pages = pages, resident(area, address)
                if pages == last:
                    break
                time.sleep(0.05)
            print(name, what, sum(pages[FIRST:BEHIND]), sum(pages))
            area.close()
PYTHON

for dir in copy index image; do
    python3 advice.py $dir >$dir.found 2>&1 || fail "$dir: advice is taken" $dir.found
done
for dir in index image; do
    # Exactly what is on ext4, but for how far is read ahead around a page.
    for what in willneed fadvise-willneed populate-read random fadvise-dontneed pageout; do
        for found in copy $dir; do
            grep " $what " "$found.found" | cut -d " " -f 1-3 >"$found.part"
        done
        check "$dir: $what has the effect that it has on ext4" diff copy.part $dir.part
    done
done
for dir in copy index image; do
    for file in one several tail; do
        normal=$(sed -n "s/^$file before-normal .* //p" $dir.found)
        sequential=$(sed -n "s/^$file before-sequential .* //p" $dir.found)
        check "$dir/$file: what was said before it is mapped counts ($sequential pages are read ahead, else $normal)" \
            test "$sequential" -gt "$normal"
    done
done

# Pages of mapped files can be moved, as ext4's.
tracing=/sys/kernel/tracing
[ -e $tracing/events ] || mount -t tracefs tracefs $tracing
# placed DIRECTORY: how many pages are allocated for its files as they are read in mappings: those that can be moved
# (a migrate type of 1), and others.
placed() {
    drop
    echo >$tracing/trace
    echo 1 >$tracing/events/kmem/mm_page_alloc/enable
    # shellcheck disable=SC2016 # the inner shell's
    sh -c 'echo $$ >"$0/set_event_pid" && exec ferofs-testkit manifest --via mmap "$1"' $tracing "$1" >manifest
    echo 0 >$tracing/events/kmem/mm_page_alloc/enable
    echo >$tracing/set_event_pid
    awk '/mm_page_alloc:/ { match($0, /order=[0-9]+/); n = 2 ^ substr($0, RSTART + 6, RLENGTH - 6)
            if (/migratetype=1/) moved += n; else fixed += n }
        END { print moved + 0, fixed + 0 }' $tracing/trace
}
buffer=$(sed 's/ .*//' $tracing/buffer_size_kb)
echo 8192 >$tracing/buffer_size_kb
for dir in copy index image; do
    found=$(placed $dir)
    check "$dir: mapped pages can be moved (${found% *} pages, others ${found#* })" \
        test "${found% *}" -gt 2000 -a "${found#* }" -lt 1000
done
echo "$buffer" >$tracing/buffer_size_kb

finish
