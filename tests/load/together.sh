#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debug
# slow: yes
# timeout: 1200
#
# Everything at once, for LOAD seconds (60): mounts, remounts, walks, listings, reads of every kind, also by who has little
# memory, caches that are dropped, files that outlive their mount, the module unloaded and loaded. What is read is right
# all the time, and at the end files, mounts and the module's uses are as many as before. Then 1,000 mounts and
# 10,000 open files. SEED says which images at which time. Other durations, and other machines: tests/load/vm.

# shellcheck disable=SC2317 # worker and check call most of it.

. "$FEROFS_TESTS/lib.sh"
[ -n "${FEROFS_KO:-}" ] || { echo "# no FEROFS_KO: a built-in file system has no module to load and unload"; exit 0; }
[ "$FS" = ferofs ] || { echo "# only ferofs can be unloaded while the tools need erofs"; exit 0; }
LOAD=${LOAD:-60}
SEED=${SEED:-1}
# So long at the most all mounts stand, and then, half as long, they come and go with the module.
STANDING=$((LOAD * 2 / 3 < 80 ? LOAD * 2 / 3 : 80))

# Small, for the images are made under emulation.
mkdir -p source/texts source/directory
seq 1 60000 | head -c 300000 >source/texts/300000
for size in 1 100 4095 4096 4097 20000; do head -c $size source/texts/300000 >source/texts/$size; done
for number in 0 1 2 3 4 5; do { seq $((number * 777)) && seq 4000; } >source/texts/common-$number; done
head -c 60000 /dev/urandom >source/random
{ cat source/random && seq 1 9000 && head -c 50001 source/random; } >source/mixed
truncate -s 1M source/zeros
(cd source/directory && touch $(seq -f '%04g-name' 200)) && ln -s ../texts/4097 source/directory/link && ln source/mixed source/texts/linked
# Whole seconds, for a tar has no others.
find source -exec touch -h -d @1600000000 {} +
tar -cf source.tar -C source .
ferofs-testkit manifest source >source.manifest
fixed="--quiet -x-1"
# shellcheck disable=SC2086 # $fixed is a list of words.
{
    mkfs.erofs $fixed plain.erofs source && mkfs.erofs $fixed --chunksize=4096 chunks.erofs source &&
        mkfs.erofs $fixed -zlz4 -C8192 -Efragments,dedupe lz4.erofs source &&
        mkfs.erofs $fixed -zlzma -C16384 lzma.erofs source &&
        mkfs.erofs $fixed -b1024 -zdeflate -C8192 -Eztailpacking deflate.erofs source &&
        ferofs build -o index.erofs source.tar && ferofs build --fingerprints -o shared.erofs source.tar &&
        cp shared.erofs again.erofs && ferofs build --fingerprints --mode=full -z lz4 -o packed.erofs source.tar &&
        cp packed.erofs repacked.erofs
} >output 2>&1 || fail "the images" output
KINDS="plain chunks lz4 lzma deflate index shared again verified packed repacked"
COUNT_OF_KINDS=11

# kind NUMBER: prints the name of one of them.
kind() {
    # shellcheck disable=SC2086 # KINDS is a list of words.
    set -- $(($1 % COUNT_OF_KINDS + 1)) $KINDS
    shift "$1"
    echo "$1"
}

# put KIND DIR: mounts an image of this kind.
put() {
    case $1 in
    index) mounted index.erofs "$2" --option "device=$WORK/source.tar" ;;
    shared | again) mounted "$1.erofs" "$2" --option "device=$WORK/source.tar" --option inode_share --option domain_id=one ;;
    packed | repacked) mounted "$1.erofs" "$2" --option inode_share --option domain_id=one ;;
    verified) mounted shared.erofs "$2" --option "device=$WORK/source.tar" --option inode_share=verify --option domain_id=two ;;
    *) mounted "$1.erofs" "$2" ;;
    esac
}

# What is done again and again. Each has the number of the round as its last argument, and fails if anything is wrong.

# visit NAME ROUND: a mount that does not last.
visit() {
    point=visits/$1
    visited=$(kind $(($2 * 5 + SEED + ${#1})))
    put "$visited" "$point" || { grep -q ENODEV "of.visit-$1.output" && return 0; }
    case $(($2 % 4)) in
    0) cmp source/mixed "$point/mixed" && umount "$point" ;;
    1) ferofs-testkit readcheck "$point" source --ops 20 --threads 1 --seed "$2" && umount "$point" ;;
    2) (exec 3<"$point/texts/300000" && umount -l "$point" && cmp source/texts/300000 - <&3) ;;
    3) umount "$point" ;;
    esac
}

# look ROUND: a walk, compared.
look() {
    ferofs-testkit manifest "standing/$(kind $(($1 + SEED)))" >look.manifest &&
        ferofs-testkit manifest-diff --limit 8 source.manifest look.manifest
}

# list ROUND: directories in pieces.
list() { ferofs-testkit dircheck --resumes 10 --seed "$1" "standing/$(kind $(($1 + SEED + 3)))"; }

# look_up ROUND: names that are there and names that are not.
look_up() {
    looked=standing/$(kind $(($1 * 2 + SEED)))
    for number in 1 2 3 4 5 6 7 8 9; do
        test -e "$looked/texts/common-$((number % 6))" && test ! -e "$looked/texts/common-$((number + 6))" || return
    done
    stat "$looked"/directory/000* >/dev/null
}

# read_all NAME ROUND: reads by every interface.
read_all() {
    ferofs-testkit readcheck "standing/$(kind $(($2 * 4 + SEED + ${#1})))" source --ops 200 --threads 2 --seed $((SEED + $2))
}

# read_little ROUND: the same, by a process with little memory.
read_little() {
    limited $((24 << 20)) ferofs-testkit readcheck "standing/$(kind $(($1 * 7 + SEED)))" source --ops 60 --threads 1 \
        --max-length 65536 --seed $((SEED + $1))
}

# remount ROUND: other options, and back.
remount() {
    remounted=standing/$(kind $(($1 + SEED)))
    mount -o remount,noacl,nouser_xattr "$remounted" && mount -o remount,acl "$remounted"
}

# empty ROUND: takes what is cached away.
empty() {
    echo $(($1 % 3 + 1)) >/proc/sys/vm/drop_caches
    sleep 0.3
}

# stay ROUND: the module cannot be unloaded under its mounts.
stay() {
    sleep 0.2
    ! rmmod ferofs
}

# unload ROUND: the module goes when there is just now no mount, and comes again when there is one, or here.
unload() {
    if rmmod ferofs && [ $(($1 % 2)) = 0 ]; then insmod "$FEROFS_KO" || grep -qw ferofs /proc/modules; fi
    return 0
}

# worker NAME COMMAND...: does it until there is a file `stop`, or something is wrong, of which OF.NAME.failed tells then.
worker() {
    worker=$1
    shift
    (
        read -r round 2>/dev/null <"of.$worker.rounds" || round=0
        while [ ! -e stop ]; do
            if ! "$@" "$round" >"of.$worker.output" 2>&1; then
                { echo "round $round of: $*" && cat "of.$worker.output"; } >"of.$worker.failed"
                break
            fi
            round=$((round + 1))
            echo "$round" >"of.$worker.rounds"
        done
    ) &
    WORKERS="$WORKERS $!"
}

# together SECONDS: lets the workers work, and ends them.
together() {
    # The first that fails ends it.
    together_end=$(($(cut -d . -f 1 /proc/uptime) + $1))
    while [ "$(cut -d . -f 1 /proc/uptime)" -lt $together_end ] && ! ls of.*.failed >/dev/null 2>&1; do sleep 1; done
    : >stop
    # shellcheck disable=SC2086 # WORKERS is a list of words.
    wait $WORKERS
    rm stop
    WORKERS=
}

# counts: how many files are open and how much is mounted, and what the kernel has in slabs and cached, in KiB.
counts() {
    drop
    files=$(cut -f 1 /proc/sys/fs/file-nr)
    mounts=$(wc -l </proc/self/mountinfo)
    slabs=$(awk '/^Slab:/ { print $2 }' /proc/meminfo)
    echo "# $1: $files files, $mounts mounts, $slabs KiB of slabs, $(cached) KiB cached"
}

mkdir -p standing visits
counts "before"
files_before=$files
mounts_before=$mounts
WORKERS=
start=$(cut -d . -f 1 /proc/uptime)
while [ $(($(cut -d . -f 1 /proc/uptime) - start)) -lt "$LOAD" ] && ! ls of.*.failed >/dev/null 2>&1; do
    grep -qw ferofs /proc/modules || insmod "$FEROFS_KO"
    for one in $KINDS; do put "$one" "standing/$one" >output 2>&1 || fail "$one mounts" output; done
    worker visit-1 visit 1
    worker visit-two visit two
    worker look look
    worker list list
    worker look-up look_up
    worker read read_all 1
    worker read-more read_all two
    worker read-little read_little
    worker remount remount
    worker empty empty
    worker stay stay
    together "$STANDING"
    for one in $KINDS; do umount "standing/$one" || fail "$one unmounts"; done
    worker visit-1 visit 1
    worker visit-two visit two
    worker visit-three visit three
    worker empty empty
    worker unload unload
    together $((STANDING / 2))
done
took=$(($(cut -d . -f 1 /proc/uptime) - start))
for one in of.*.rounds; do
    one=${one#of.}
    echo "# ${one%.rounds}: $(cat "of.$one") rounds"
done
for one in visit-1 visit-two visit-three look list look-up read read-more read-little remount empty stay unload; do
    if [ -e "of.$one.failed" ]; then fail "$one" "of.$one.failed"; fi
    [ -s "of.$one.rounds" ] || fail "$one: at least once"
done
if [ $FAILED = 0 ]; then pass "everything at once for $took seconds, on $(nproc) processors"; fi

# A thousand mounts and ten thousand open files, which outlive them.
grep -qw ferofs /proc/modules || insmod "$FEROFS_KO"
cat >many.py <<'PYTHON'
import ctypes, os, resource, sys

libc = ctypes.CDLL(None, use_errno=True)
resource.setrlimit(resource.RLIMIT_NOFILE, (20000, 20000))


def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        sys.exit(f"{name}{arguments}: {os.strerror(ctypes.get_errno())}")


os.makedirs("many", exist_ok=True)
call("mount", b"tmpfs", b"many", b"tmpfs", 0, None)
images = [b"plain.erofs", b"lz4.erofs", b"chunks.erofs", b"lzma.erofs"]
names = [f"texts/common-{number}" for number in range(6)] + ["random", "texts/100", "texts/4097", "mixed"]
wanted = {name: open("source/" + name, "rb").read() for name in names}
files = []
for number in range(1000):
    point = f"many/{number}"
    os.mkdir(point)
    call("mount", os.path.abspath(images[number % 4]), point.encode(), b"ferofs", 0, None)
    files += [(name, os.open(f"{point}/{name}", os.O_RDONLY)) for name in names]
MNT_DETACH = 2
for number in range(1000):
    call("umount2", f"many/{number}".encode(), MNT_DETACH)
call("umount", b"many")
for index, (name, file) in enumerate(files):
    at = index * 97 % (len(wanted[name]) + 1)
    if os.pread(file, 3000, at) != wanted[name][at:at + 3000]:
        sys.exit(f"{name}, file {index}: other bytes at {at}")
for _, file in files:
    os.close(file)
print(len(files), "files")
PYTHON
check "1,000 mounts, and 10,000 files that outlive them" python3 many.py

# What closes a file last may be put off a little.
gone() {
    for _ in $(seq 50); do
        if ! grep -qw ferofs /proc/modules || rmmod ferofs; then return 0; fi
        sleep 0.2
    done
    return 1
}
check "then the module unloads" gone
check "nothing of it is left" sh -c '! grep -w ferofs /proc/filesystems /proc/modules && ! grep ferofs /proc/slabinfo'
counts "after"
check "as many mounts as before" test "$mounts" = "$mounts_before"
check "as many open files as before, within 64 that others may have" test "$files" -le $((files_before + 64))
insmod "$FEROFS_KO"

finish
