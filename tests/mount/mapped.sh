#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Mapped files, as others see them: in /proc/PID/maps, in a core dump, with a probe in their code; and what
# mappings show when the blob is written to, cut short, and repaired.

. "$FEROFS_TESTS/lib.sh"

# A program (one extent of the blob), a file of several extents (one of them an inline tail), a large file.
mkdir -p tree
cp "$(command -v busybox)" tree/busybox
seq 1 20000 >tree/numbers
seq 1 1200 | head -c 5000 >tree/tail
tar -cf layer.tar -C tree .
mkfs.erofs --quiet --tar=i layer.erofs layer.tar >output 2>&1
mkfs.erofs --quiet -x-1 full.erofs tree >output 2>&1
mounted layer.erofs under-test --option "device=$WORK/layer.tar" >output 2>&1 || fail "mounts" output

# running PID FILE: waits until the process has code of the file mapped.
running() {
    for _ in $(seq 100); do
        if grep -q "r-xp .* $2\$" "/proc/$1/maps"; then return; fi
        sleep 0.1
    done
}

# maps NAME PROGRAM: whether a process that runs the program has its path in /proc/PID/maps.
maps() {
    "$2" sleep 100 &
    running "$!" "$2"
    check "$1: the program's code is in /proc/PID/maps by its path" grep "r-xp .* $2\$" "/proc/$!/maps"
    check "$1: /proc/PID/map_files leads to the program" \
        sh -c "readlink /proc/$!/map_files/* | grep -qx '$2'"
    kill "$!" && wait "$!"
}
maps "mount" "$WORK/under-test/busybox"

# The build ID of a mapped program, which profilers ask for (PROCMAP_QUERY).
build_id() {
    python3 - "$1" <<'PYTHON'
import ctypes, fcntl, mmap, struct, sys

file = open(sys.argv[1], "rb")
area = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
found = ctypes.create_string_buffer(64)
query = bytearray(struct.pack("=9Q4I2Q", 104, 0, address, *[0] * 6, 0, 0, 0, 64, 0, ctypes.addressof(found)))
fcntl.ioctl(open("/proc/self/maps"), 0xC0686611, query)
size = struct.unpack_from("=9Q4I2Q", query)[12]
assert size > 0, "no build ID"
print(found.raw[:size].hex())
PYTHON
}
build_id tree/busybox >expected.id
build_id under-test/busybox >found.id 2>&1
check "the program's build ID is known" diff expected.id found.id

# core DIRECTORY: the names of the mapped files in a core dump of the program there, which dies at some moment
# of its start.
core() {
    rm -f core
    prlimit --core=unlimited "$1/busybox" sleep 100 &
    running "$!" "$1/busybox"
    kill -SEGV "$!"
    wait "$!"
    python3 - <<'PYTHON'
import struct

data = open("core", "rb").read()
phoff, phentsize, phnum = *struct.unpack_from("<Q", data, 32), *struct.unpack_from("<HH", data, 54)
for at in range(phoff, phoff + phnum * phentsize, phentsize):
    kind, offset, size = *struct.unpack_from("<I", data, at), *struct.unpack_from("<Q16xQ", data, at + 8)
    end = offset + size
    while kind == 4 and offset + 12 <= end:
        namesz, descsz, note = struct.unpack_from("<III", data, offset)
        desc = offset + 12 + (namesz + 3) // 4 * 4
        if note == 0x46494C45:  # NT_FILE
            count = struct.unpack_from("<Q", data, desc)[0]
            names = data[desc + 16 + 24 * count : desc + descsz].split(b"\0")
            for i in range(count):
                print(names[i].decode())
        offset = desc + (descsz + 3) // 4 * 4
PYTHON
}
if [ -e /proc/sys/kernel/core_pattern ]; then
    pattern=$(cat /proc/sys/kernel/core_pattern)
    echo "$WORK/core" >/proc/sys/kernel/core_pattern
    core "$WORK/tree" | sed "s|$WORK/tree|DIRECTORY|" | sort -u >tree.core
    core "$WORK/under-test" | sed "s|$WORK/under-test|DIRECTORY|" | sort -u >under-test.core
    echo "$pattern" >/proc/sys/kernel/core_pattern
    check "a core dump has mapped files (of ext4)" grep -qx "DIRECTORY/busybox" tree.core
    check "a core dump has the same of this mount" diff tree.core under-test.core
else
    echo "ok - $SCRIPT: core dumps # SKIP this kernel has none"
fi

# probed NAME DIRECTORY: whether a probe at the program's entry is hit.
tracing=/sys/kernel/tracing
[ -e $tracing/uprobe_events ] || mount -t tracefs tracefs $tracing
entry=$(python3 - <<'PYTHON'
import struct

data = open("tree/busybox", "rb").read()
entry, phoff = struct.unpack_from("<QQ", data, 24)
phentsize, phnum = struct.unpack_from("<HH", data, 54)
for at in range(phoff, phoff + phnum * phentsize, phentsize):
    kind, _, offset, start, _, size = struct.unpack_from("<IIQQQQ", data, at)
    if kind == 1 and start <= entry < start + size:
        print(hex(entry - start + offset))
PYTHON
)
probed() {
    echo "p:ferofs_tests/entry $2/busybox:$entry" >$tracing/uprobe_events
    echo 1 >$tracing/events/ferofs_tests/enable
    echo >$tracing/trace
    "$2/busybox" true
    "$2/busybox" true
    echo 0 >$tracing/events/ferofs_tests/enable
    hits=$(grep -c "entry:" $tracing/trace)
    echo >$tracing/uprobe_events
    check "$1: a probe in the program is hit by each run" test "$hits" = 2
}
if [ -e $tracing/uprobe_events ]; then
    probed "ext4" "$WORK/tree"
    probed "mount" "$WORK/under-test"
    mkdir -p overlay empty
    mount -t overlay -o "lowerdir=$WORK/under-test:$WORK/empty" overlay overlay
    probed "overlay over the mount" "$WORK/overlay"
    maps "overlay over the mount" "$WORK/overlay/busybox"
    check "overlay over the mount: unmounts" umount overlay
else
    echo "ok - $SCRIPT: probes # SKIP this kernel has none"
fi

# agree NAME DIRECTORY: whether reading and mapping show the same, and that what is in tree/.
agree() {
    ferofs-testkit manifest tree >tree.manifest
    ferofs-testkit manifest "$2" >read.manifest
    ferofs-testkit manifest --via mmap "$2" >mmap.manifest
    same "$1: by read" tree.manifest read.manifest --ignore mtime
    same "$1: by mmap" tree.manifest mmap.manifest --ignore mtime
}

# change FILE: changes a line that numbers and tail have, at both places; the times stay what they were.
change() {
    cp -p "$1" old
    python3 - "$1" <<'PYTHON'
import sys

data = bytearray(open(sys.argv[1], "rb").read())
at = data.find(b"\n1000\n")
while at >= 0:
    data[at + 1 : at + 5] = b"####"
    at = data.find(b"\n1000\n")
with open(sys.argv[1], "r+b") as file:
    file.write(data)
PYTHON
    touch -r old "$1"
}

mounted full.erofs full >output 2>&1 || fail "mounts" output
agree "as it was" "$WORK/under-test"
agree "as it was, inline tails" "$WORK/full"
# Files that are mapped stay so.
python3 - <<'PYTHON' &
import mmap, time

files = [open(name, "rb") for name in ("under-test/numbers", "under-test/tail", "full/numbers", "full/tail")]
kept = [mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) for file in files]
touched = [page[0] for page in kept]
time.sleep(1000)
PYTHON
holder=$!
change tree/numbers
change tree/tail
change layer.tar
change full.erofs
check "the changed bytes are other ones" sh -c "! cmp -s tree/numbers old"
agree "after the blob was written to" "$WORK/under-test"
# The metadata that was read before stays cached, and an inline tail is part of it.
agree "after the image was written to, inline tails" "$WORK/full"

# The time of a change is that of its beginning: nothing that is mapped in the middle of one may be taken for
# the bytes after it.
cat >stores.py <<'PYTHON'
import mmap, tarfile

# Other files have the same lines, and may come first.
with tarfile.open("layer.tar") as members:
    start = next(member.offset_data for member in members if member.name.split("/")[-1] == "numbers")
tar = open("layer.tar", "r+b")
blob = mmap.mmap(tar.fileno(), 0)
file = open("under-test/numbers", "rb")
kept = []


def shown():
    kept.append(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))
    return kept[-1][kept[0].find(b"\n1002\n") - 4 :][:4]


at = blob.find(b"\n1002\n", start) - 4
for value in b"1001", b"++++", b"----", b"1001":
    # Only the first store is a change that the file system notices.
    blob[at : at + 4] = value
    assert shown() == value, (value, shown())
blob.close()
tar.close()
assert shown() == b"1001", shown()
PYTHON
check "stores into the blob while it is mapped" python3 stores.py
agree "after them" "$WORK/under-test"

# Cut short: who touches what is gone gets SIGBUS, who reads it an error. Repaired: all is there again, for
# one who had the file mapped before, too.
touches() {
    python3 - "$1" "$2" <<'PYTHON'
import mmap, sys

file = open(sys.argv[1], "rb")
page = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
print(page[int(sys.argv[2])])
PYTHON
}
end=$(($(stat -c %s tree/numbers) - 1))
cut=$(python3 -c 'print(open("layer.tar", "rb").read().find(b"\n10000\n"))')
cp layer.tar whole.tar
truncate -s "$cut" layer.tar
touches under-test/numbers "$end" >output 2>&1
check "cut short: a page that is gone is SIGBUS" test $? -eq 135
check "cut short: a page that is there can be read" touches under-test/numbers 100
refuses "cut short: reading on ends with an error" "error\|cleaning" cat under-test/numbers
cat whole.tar >layer.tar
agree "repaired" "$WORK/under-test"
echo 3 >/proc/sys/vm/drop_caches
check "cut short and repaired under a mapping" python3 - "$cut" <<'PYTHON'
import mmap, os, signal, sys

file = open("under-test/numbers", "rb")
page = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
page.madvise(mmap.MADV_RANDOM)
first = page[0]

def touch():
    child = os.fork()
    if child == 0:
        os._exit(page[-2])
    status = os.waitpid(child, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

os.truncate("layer.tar", int(sys.argv[1]))
gone = touch()
with open("layer.tar", "r+b") as blob:
    blob.write(open("whole.tar", "rb").read())
again = touch()
print(gone, again)
sys.exit((gone, again) != (-signal.SIGBUS, ord("0")))
PYTHON
kill "$holder" && wait "$holder"
umount full

# Many map the same ranges, in two mounts, while the blob is changed (but for its bytes) and caches are dropped.
mounted layer.erofs second --option "device=$WORK/layer.tar" >output 2>&1 || fail "mounts" output
# The blob was written anew since: what is in it is in tree/, but for its times.
# reader MOUNT NUMBER: maps all of it again and again, and says what differs.
reader() {
    for round in $(seq 8); do
        ferofs-testkit manifest --via mmap "$1" >"$1.$2.manifest"
        ferofs-testkit manifest-diff --ignore mtime tree.manifest "$1.$2.manifest" >"$1.$2.difference" ||
            { echo "in round $round:" && cat "$1.$2.difference"; }
    done
    echo "the end"
}
(
    for number in 1 2; do
        reader under-test $number >under-test.$number.differences 2>&1 &
        reader second $number >second.$number.differences 2>&1 &
    done
    wait
) &
readers=$!
while kill -0 $readers 2>/dev/null; do
    touch -c layer.tar
    sleep 0.1
    echo 1 >/proc/sys/vm/drop_caches
    sleep 0.1
    echo 2 >/proc/sys/vm/drop_caches
done
for differences in ./*.differences; do
    check "all at once: $differences" test "$(cat "$differences")" = "the end"
done
check "unmounts" umount under-test second
finish
