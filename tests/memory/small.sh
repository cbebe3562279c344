#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# slow: yes
# timeout: 900
#
# Small files that are read or mapped one after the other, as they lie in the blob, are read from the disk
# together, at several places at once, too, and cached once: on ext4, below an overlay, and in an image of their
# own with the ends of files among the metadata.

. "$FEROFS_TESTS/lib.sh"
FILES=2000

# disks: how many reads the disks were asked for, and of how many KiB.
disks() {
    awk '{ reads += $1; sectors += $3 } END { print reads, int(sectors / 2) }' /sys/block/*/stat
}

# few NAME LIMIT KIB SLACK COMMAND...: passes if the command succeeds, with fewer reads than that, of so many
# KiB or little more or less.
few() {
    few_name=$1
    few_limit=$2
    few_kib=$3
    few_slack=$4
    shift 4
    few_before=$(disks)
    "$@" >output 2>&1 || fail "$few_name: $*" output
    few_now=$(disks)
    few_count=$((${few_now% *} - ${few_before% *}))
    check "$few_name ($few_count reads)" test $few_count -lt "$few_limit"
    near "$few_name: read from the disk" $((${few_now#* } - ${few_before#* })) "$few_kib" "$few_slack"
}

# manifest VIA: of under-test, in VIA.manifest.
manifest() {
    ferofs-testkit manifest --via "$1" under-test >"$1.manifest"
}

# places STEP COUNT [FIRST]: reads every STEP-th file whole, of COUNT parts of the tar in turn, and compares it.
# tasks COUNT: so many do that at once, each with others.
cat >places.py <<'END'
import sys
step, count, first, files = map(int, sys.argv[1:])
part = files // count
for number in range(first, part, step):
    for place in range(count):
        name = f"{place * part + number:04}"
        with open(f"under-test/{name}", "rb", buffering=0) as file, open(f"unpacked/{name}", "rb") as packed:
            if file.read(1 << 20) != packed.read():
                sys.exit(f"{name} differs")
END

# shellcheck disable=SC2317 # few calls it.
places() {
    python3 places.py "$1" "$2" "${3:-0}" "$FILES"
}

# backwards: maps and reads all files, in runs of ten, the last run first, and compares them.
cat >backwards.py <<'END'
import mmap, sys
files = int(sys.argv[1])
for run in reversed(range(0, files, 10)):
    for number in range(run, run + 10):
        name = f"{number:04}"
        with open(f"under-test/{name}", "rb") as file, open(f"unpacked/{name}", "rb") as packed:
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as area:
                if area[:] != packed.read():
                    sys.exit(f"{name} differs")
END

# shellcheck disable=SC2317 # few calls it.
tasks() {
    tasks_pids=
    for tasks_first in $(seq 0 $(($1 - 1))); do
        places "$1" 1 "$tasks_first" &
        tasks_pids="$tasks_pids $!"
    done
    for tasks_pid in $tasks_pids; do wait "$tasks_pid" || return; done
}

for ahead in /sys/block/*/queue/read_ahead_kb; do echo 128 >"$ahead"; done
# A large one after each hundred.
FILES=$FILES python3 - <<'END' || fail "a tar of small files"
import io, os, random, tarfile
random.seed(1)
with tarfile.open("small.tar", "w", format=tarfile.GNU_FORMAT) as tar:
    for number in range(int(os.environ["FILES"])):
        info = tarfile.TarInfo(f"{number:04}")
        info.size = 300000 if number % 100 == 99 else random.randrange(1, 40000)
        tar.addfile(info, io.BytesIO(random.randbytes(info.size)))
END
ferofs build --quiet -o small.erofs small.tar >output 2>&1 || fail "an index" output
mkdir lower other layered unpacked
ln small.tar lower/
mount -t overlay overlay -o "lowerdir=$WORK/lower:$WORK/other" layered >output 2>&1 || fail "an overlay mounts" output
# In memory, so that it is not read from a disk.
mount -t tmpfs tmpfs unpacked
tar -C unpacked -xf small.tar || fail "tar unpacks them"
KIB=$(find unpacked -type f -printf '%s\n' | awk '{ sum += int(($1 + 4095) / 4096) * 4 } END { print sum }')
for where in . layered; do
    name="blob in $where"
    mounted small.erofs under-test --option "device=$WORK/$where/small.tar" >output 2>&1 || fail "$name: mounts" output
    drop
    before=$(cached)
    few "$name: mmap" 1000 "$KIB" 3000 manifest mmap
    near "$name: their bytes are cached once by mmap" $(($(cached) - before)) "$KIB" 3000
    drop
    before=$(cached)
    few "$name: read" 1000 "$KIB" 3000 manifest read
    near "$name: their bytes are cached once by read" $(($(cached) - before)) "$KIB" 3000
    same "$name: mmap and read" read.manifest mmap.manifest
    manifest mmap
    same "$name: mmap after read" read.manifest mmap.manifest
    few "$name: mmap leaves what was read in the cache" 20 0 300 manifest read
    drop
    find under-test -name '*[02468]' -type f -exec cat {} + >all
    manifest mmap
    same "$name: mmap, half of them read" read.manifest mmap.manifest
    few "$name: mmap leaves the half that was read in the cache" 20 0 300 \
        sh -c "find under-test -name '*[02468]' -type f -exec cat {} + | cmp - all"
    check "$name: as GNU tar unpacks them" diff -r unpacked under-test
    # What an overlay reads ahead is its own business.
    [ $where = layered ] || for places in 1 2 5 8; do
        drop
        python3 -c pass
        few "$name: read, $places at once" 500 "$KIB" 3000 places 1 $places
        drop
        python3 -c pass
        # Little more is read than is wanted.
        few "$name: every third read, $places at once" 1000 $((KIB / 2)) $((KIB / 6)) places 3 $places
    done
    drop
    few "$name: read by 8 tasks, every eighth by each" 2500 "$KIB" 9000 tasks 8
    drop
    python3 -c 'import mmap'
    before=$(cached)
    check "$name: mmap, runs of ten files backwards" python3 backwards.py "$FILES"
    near "$name: their bytes are cached once by mmap, backwards" $(($(cached) - before)) "$KIB" 3000
    umount under-test
done

ferofs build --quiet --mode=full -o full.erofs small.tar >output 2>&1 || fail "an image" output
mounted full.erofs under-test >output 2>&1 || fail "mounts" output
name="image of their own"
image=$(($(stat -c %s full.erofs) / 1024))
metadata=$((image - $(find unpacked -type f -printf '%s\n' | awk '{ sum += int($1 / 4096) * 4 } END { print sum }')))
drop
before=$(cached)
few "$name: mmap" 1000 "$image" 3000 manifest mmap
# With metadata, among it the ends of files, which are copied to the pages that are mapped.
near "$name: their bytes are cached once by mmap" $(($(cached) - before)) $((KIB + metadata)) 3000
drop
few "$name: read" 1000 "$image" 3000 manifest read
same "$name: mmap and read" read.manifest mmap.manifest
umount under-test

finish
