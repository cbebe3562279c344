# SPDX-License-Identifier: GPL-2.0-only OR MIT
# shellcheck shell=sh
#
# What the test scripts share. A script begins with `. "$FEROFS_TESTS/lib.sh"` and ends with `finish`.
#
# It expects to be root on a machine where `ferofs-testkit` is on PATH. FS is the file system under test;
# FS=erofs runs the same comparisons with the C driver in its place, which shows that a test judges by
# what is right and not by what ferofs does. Results are TAP lines: `ok - NAME`, `not ok - NAME`.

FS=${FS:-ferofs}
# The C driver wants its backing files on a disk file system: WORK must not be tmpfs.
SHARED=${FEROFS_WORK:-/var/tmp}/ferofs-tests
SCRIPT=$(basename "$0" .sh)
WORK=$SHARED/$SCRIPT
FAILED=0
COUNT=0

export FS
umount -R "$WORK"/* 2>/dev/null
rm -rf "$WORK"
mkdir -p "$WORK" && cd "$WORK" || exit 1

if [ "$FS" = ferofs ] && ! grep -qw ferofs /proc/filesystems; then
    if [ -n "${FEROFS_KO:-}" ]; then insmod "$FEROFS_KO"; else modprobe ferofs; fi || exit 1
fi
grep -qw erofs /proc/filesystems || modprobe erofs || exit 1

# pass NAME, fail NAME [FILE-WITH-DETAILS]: report one result.
pass() {
    COUNT=$((COUNT + 1))
    echo "ok - $SCRIPT: $1"
}

fail() {
    COUNT=$((COUNT + 1))
    FAILED=$((FAILED + 1))
    echo "not ok - $SCRIPT: $1"
    if [ -n "${2:-}" ]; then tail -n 20 "$2" | cut -c 1-400 | sed 's/^/#   /'; fi
}

# check NAME COMMAND...: passes if the command succeeds.
check() {
    check_name=$1
    shift
    if "$@" >"$WORK/output" 2>&1; then
        pass "$check_name"
    else
        echo "status $? of: $*" >>"$WORK/output"
        fail "$check_name" "$WORK/output"
    fi
}

# refuses NAME TEXT COMMAND...: passes if the command fails and its output has TEXT (a basic regular
# expression) in it.
refuses() {
    refuses_name=$1
    refuses_text=$2
    shift 2
    if "$@" >"$WORK/output" 2>&1; then
        echo "expected failure with '$refuses_text', but it succeeded: $*" >>"$WORK/output"
        fail "$refuses_name" "$WORK/output"
    elif grep -q "$refuses_text" "$WORK/output"; then
        pass "$refuses_name"
    else
        echo "expected '$refuses_text' from: $*" >>"$WORK/output"
        fail "$refuses_name" "$WORK/output"
    fi
}

# Every script ends with this.
finish() {
    cd / || exit 1
    umount -R "$WORK"/* 2>/dev/null
    [ "$COUNT" -gt 0 ] || { echo "not ok - $SCRIPT: expected at least one result"; exit 1; }
    echo "# $SCRIPT: $COUNT results, $FAILED failed"
    [ "$FAILED" -eq 0 ]
    exit
}

# mounted [-t TYPE] IMAGE DIR [mount's arguments]: mounts by file descriptors, without loop devices.
mounted() {
    mounted_type=$FS
    if [ "$1" = -t ]; then mounted_type=$2 && shift 2; fi
    mounted_image=$1
    mounted_dir=$2
    shift 2
    mkdir -p "$mounted_dir"
    ferofs-testkit mount --type "$mounted_type" "$@" "$mounted_image" "$mounted_dir"
}

# padded IMAGE: prints the name of a copy that ends on a page, for the C driver of Linux 7.3.
padded() {
    cp "$1" "$1.padded" && truncate -s %4096 "$1.padded" && echo "$1.padded"
}

# limited BYTES COMMAND...: runs it with that much memory, page cache included. What came of that is in
# $WORK/limited.events. Page cache that is there already is charged to no one, so it is dropped first.
limited() {
    limited_group=/sys/fs/cgroup/ferofs-$SCRIPT
    limited_bytes=$1
    shift
    mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
    echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir -p "$limited_group" || return
    echo "$limited_bytes" >"$limited_group/memory.max" || return
    echo 3 >/proc/sys/vm/drop_caches
    # shellcheck disable=SC2016 # the inner shell's $0
    sh -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$limited_group" "$@"
    limited_status=$?
    cat "$limited_group/memory.events" >"$WORK/limited.events"
    rmdir "$limited_group"
    return $limited_status
}

# drop: empties the caches of the kernel. cached: KiB of page cache, shared memory left out.
drop() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
}

cached() {
    awk '/^Cached:/ { sum += $2 } /^Shmem:/ { sum -= $2 } END { print sum }' /proc/meminfo
}

# near NAME FOUND EXPECTED SLACK: passes if so many KiB are what was expected, or little more or less.
near() {
    check "$1 ($2 KiB, expected $3 within $4)" sh -c "test $2 -ge $(($3 - $4)) && test $2 -le $(($3 + $4))"
}

# verity_disk FILE SIZE DIR: makes a file system whose files can have fs-verity and mounts it.
verity_disk() {
    modprobe loop
    truncate -s "$2" "$1" && mkfs.ext4 -q -b 4096 -O verity "$1" && mkdir -p "$3" && mount -o loop "$1" "$3"
}

# dm COMMAND...: dmsetup on a machine without udev.
dm() { dmsetup --noudevrules --noudevsync "$@"; }

# disk NAME: makes $DEVICE, which has the sectors of NAME.disk.
disk() {
    LOOP=$(losetup -f --show "$1.disk") && SECTORS=$(blockdev --getsz "$LOOP") || exit 1
    dm create "$1" --table "0 $SECTORS linear $LOOP 0" || exit 1
    # shellcheck disable=SC2034 # for the caller
    DEVICE=/dev/$(dm info -c --noheadings -o blkdevname "$1")
}

# repair NAME: the device has its sectors again. No cache is emptied: what is there must be right.
repair() {
    dm suspend --noflush "$1" && echo "0 $SECTORS linear $LOOP 0" | dm load "$1" && dm resume "$1"
}

# log_mark; log_since: the kernel's messages that came after the mark.
log_mark() {
    LOG_MARK="ferofs-tests mark $$ $(date +%s%N)"
    echo "$LOG_MARK" >/dev/kmsg
}

log_since() {
    dmesg | sed "1,/$LOG_MARK/d"
}

# logged NAME TEXT: passes if the kernel's log since the mark has a line of FS with TEXT in it.
logged() {
    log_since >"$WORK/log"
    if grep "$FS" "$WORK/log" | grep -q "$2"; then
        pass "$1"
    else
        echo "expected a line of $FS with '$2' in the kernel's log" >>"$WORK/log"
        fail "$1" "$WORK/log"
    fi
}

# unpack TAR DIR: as GNU tar extracts it.
unpack() {
    mkdir -p "$2" && tar --numeric-owner --warning=no-timestamp --delay-directory-restore -xpf "$1" -C "$2"
}

# same NAME MANIFEST-A MANIFEST-B [manifest-diff's arguments]
same() {
    same_name=$1
    shift
    check "$same_name" ferofs-testkit manifest-diff --limit 8 "$@"
}

# sample: makes, once for all scripts, $SHARED/sample.tar, its extraction sample/ and sample.manifest.
# Times before 1970 with fractions, which mkfs.erofs gets wrong, are not in it: times.tar has them.
sample() {
    [ -e "$SHARED/sample.manifest" ] && return
    ferofs-testkit gen-tar sizes,names,special,tree "$SHARED/sample.tar" --files 60 &&
        unpack "$SHARED/sample.tar" "$SHARED/sample" &&
        ferofs-testkit manifest "$SHARED/sample" >"$SHARED/sample.part" &&
        mv "$SHARED/sample.part" "$SHARED/sample.manifest" || exit 1
}

# code_files: makes ext4/, files that begin with code (for `ferofs-testkit rights`), and programs: a static one, and one
# that runs in that root directory with a library.
code_files() {
    mkdir -p ext4/bin ext4/lib64 ext4/lib/x86_64-linux-gnu
    # mov $42, %eax; ret
    printf '\270\052\0\0\0\303' >code
    # No two have a page in common, which images of chunks would have once.
    { cat code && seq 100000 120000; } | head -c 65536 >ext4/one
    for file in several holes; do
        { cat code && yes "$file"; } | head -c 4096 >ext4/$file
        truncate -s 65536 ext4/$file
        seq 200000 300000 | head -c 4096 >>ext4/$file
    done
    { cat code && seq 300000 400000; } | head -c 5000 >ext4/tail
    { cat code && seq 400000 500000; } | head -c 1000 >ext4/small
    cp "$(command -v busybox)" ext4/busybox
    cp /usr/bin/cat ext4/bin/
    cp /lib64/ld-linux-x86-64.so.2 ext4/lib64/
    cp /lib/x86_64-linux-gnu/libc.so.6 ext4/lib/x86_64-linux-gnu/
    chmod 755 ext4/one ext4/several ext4/tail ext4/small
}

# code_trees: ext4/, which is the judge, in directories that are the same but for the file system: the C driver; the
# file system under test with images of each layout; and overlayfs over these. CODE_TREES has their names.
code_trees() {
    mkdir -p empty
    tar -S --xattrs --xattrs-include='security.*' -C ext4 -cf tree.tar .
    { mkfs.erofs --quiet plain.image ext4 && mkfs.erofs --quiet --chunksize=4096 chunks.image ext4 &&
        ferofs build -o index.image tree.tar && truncate -s %4096 plain.image chunks.image index.image; } >output 2>&1 ||
        fail "code: the images" output
    { mounted -t erofs plain.image c-driver-plain && mounted -t erofs chunks.image c-driver-chunks &&
        mounted plain.image plain && mounted chunks.image chunks &&
        mounted index.image index --option "device=$WORK/tree.tar"; } >output 2>&1 || fail "code: the mounts" output
    CODE_TREES="ext4 c-driver-plain c-driver-chunks plain chunks index"
    for code_tree in ext4 plain chunks index; do
        mkdir -p "over-$code_tree"
        mount -t overlay -o "lowerdir=$WORK/$code_tree:$WORK/empty" overlay "over-$code_tree" ||
            fail "code: overlayfs over $code_tree"
        CODE_TREES="$CODE_TREES over-$code_tree"
    done
    for code_tree in ext4 chunks index; do
        check "code: a file of several extents in $code_tree" python3 -c \
            'import os, sys; sys.exit(os.lseek(os.open(sys.argv[1], os.O_RDONLY), 0, os.SEEK_HOLE) != 4096)' \
            "$code_tree/holes"
    done
}

# like_ext4 WHAT SUFFIX: compares what was found in the trees, in TREE.SUFFIX each, with what was found on ext4; what
# was found below overlayfs with that of overlayfs over ext4.
like_ext4() {
    for code_tree in $CODE_TREES; do
        case $code_tree in
        ext4 | over-ext4) ;;
        over-*) check "$1: $code_tree is like overlayfs over ext4" diff "over-ext4.$2" "$code_tree.$2" ;;
        *) check "$1: $code_tree is like ext4" diff "ext4.$2" "$code_tree.$2" ;;
        esac
    done
}

# compressed_source: makes source/, files whose compressed forms are of every kind.
compressed_source() {
    mkdir -p source/texts source/directory && cp "$(command -v cat)" "$(command -v bash)" source/ || exit 1
    python3 - <<'PYTHON'
import random

random.seed(1)
words = [bytes(random.choice(b"abcdefghij") for _ in range(random.randint(2, 9))) for _ in range(500)]


def text(size):
    return b" ".join(random.choice(words) for _ in range(size // 3 + 1))[:size]


def put(name, data):
    with open("source/" + name, "wb") as file:
        file.write(data)


for size in (1, 100, 511, 512, 513, 4095, 4096, 4097, 5000, 20000, 65535, 65536, 65537, 70000, 300000):
    put(f"texts/{size}", text(size))
    put(f"texts/{size}.copy", text(size // 2) + text(size - size // 2))
common = text(50000)
for index in range(6):
    put(f"texts/common-{index}", text(index * 777) + common + text(index * 3333))
put("zeros", bytes(3 << 20))
put("random", random.randbytes(300001))
put("mixed", b"".join(b"x" * 50000 + random.randbytes(30000) for _ in range(10)))
put("holes", bytes(1 << 20) + text(70001) + bytes(1 << 20))
put("empty", b"")
for index in range(300):
    put(f"directory/{index:04}-{'n' * (index % 50)}", b"")
PYTHON
    ln -s ../texts/4097 source/directory/link
    ln source/mixed source/texts/linked
    setfattr -n user.name -v value source/mixed
}

# compare_compressed "OPTIONS" OPERATIONS: an image that mkfs.erofs makes of source/ with these options is what the C driver
# shows, and reads of all kinds find what is in source/.
compare_compressed() {
    # shellcheck disable=SC2086 # options are words.
    if ! timeout 300 mkfs.erofs --quiet $1 image.erofs source >output 2>&1; then
        fail "$1: the image" output
        return
    fi
    truncate -s %4096 image.erofs
    if ! mounted image.erofs under-test >output 2>&1; then
        fail "$1: mounts" output
        return
    fi
    check "$1: the C driver mounts it" mounted -t erofs image.erofs reference
    drop
    ferofs-testkit manifest --exact under-test >f.exact
    ferofs-testkit manifest --exact reference >c.exact
    same "$1: as the C driver" c.exact f.exact
    check "$1: the same files as the source" diff -r --no-dereference source under-test
    ferofs-testkit extents reference >c.extents
    ferofs-testkit extents under-test >f.extents
    check "$1: extents as with the C driver" diff c.extents f.extents
    drop
    check "$1: random reads, cold" ferofs-testkit readcheck under-test source --ops "$2" --seed 5
    check "$1: random reads, pages taken away" \
        ferofs-testkit readcheck under-test source --ops "$2" --threads 3 --seed 6 --pressure
    umount under-test reference
}
