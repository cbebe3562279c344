#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debug
# timeout: 600
#
# Allocations that fail, each once: of mounting, walking, reading, mapping, decoding and unmounting. Whoever asked gets
# ENOMEM, or what was wanted all the same; afterwards everything is right, and at the end nobody uses the module, which can
# be unloaded. The runner of the virtual machine looks for the kernel's reports, and for what was not freed.
#
# The kernel counts the allocations of one task, of slabs and of pages, and lets the one of a number fail. How many there are
# is found out first. If they are more than TRIES (10; all with 10000) some are tried, which depends on SEED. What other tasks do for a reader
# (workqueues) is not counted: so in some rounds one in ten allocations fails that has this module on its stack, whoever asks.

. "$FEROFS_TESTS/lib.sh"
[ "$FS" = ferofs ] || { echo "# the faults are those of ferofs"; exit 0; }
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
for injector in failslab fail_page_alloc; do
    if ! [ -d /sys/kernel/debug/$injector ]; then
        fail "this kernel has $injector"
        finish
    fi
    # Also those that may wait; without a stack trace for each.
    echo N >/sys/kernel/debug/$injector/ignore-gfp-wait
    echo 0 >/sys/kernel/debug/$injector/verbose
done
echo 0 >/sys/kernel/debug/fail_page_alloc/min-order

mkdir -p source/dir/sub images mnt
seq 1 9000 >source/numbers && seq 5 4000 >source/dir/some && head -c 20000 source/numbers >source/dir/sub/start
perl -e 'srand 1; print chr int rand 256 for 1..9000' >source/random
echo small >source/dir/small
ln -s "$(printf '%0300d' 0)" source/link
perl -e 'chdir "source/dir/sub"; link "start", "name-$_" for 1..12'
setfattr -n user.comment -v text source/dir/small
find source -exec touch -h -d @1600000000 {} +
tar --xattrs --xattrs-include='user.*' -C source -cf images/index.blob .
ferofs build --quiet -o images/index.erofs images/index.blob >output 2>&1 || fail "an index" output
for image in fragments:-zlz4,-C8192,-Efragments deflate:-zdeflate,-C8192 lzma:-zlzma,-C8192,-Eall-fragments; do
    # shellcheck disable=SC2046 # options are words.
    mkfs.erofs --quiet $(echo "${image#*:}" | tr , ' ') "images/${image%%:*}.erofs" source >output 2>&1 || fail "an image: $image" output
done

cat >sweep.py <<'END'
import ctypes, errno, hashlib, mmap, os, random, stat, sys

TRIES, SEED = int(sys.argv[1]), sys.argv[2]
MANY = 1 << 20
RIGHT = (errno.ENOMEM,)
libc = ctypes.CDLL(None, use_errno=True)
counter = os.open("/proc/thread-self/fail-nth", os.O_RDWR)


def call(result):
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def failing(number, operation):
    """Does it while that allocation fails: what the operation raised, if anything, and how many allocations more it
    would have taken."""
    error = None
    os.pwrite(counter, b"%d" % number, 0)
    try:
        operation()
    except MemoryError:
        error = errno.ENOMEM
    except OSError as found:
        error = found.errno
    left = int(os.pread(counter, 32, 0).rstrip(b"\n\0") or 0)
    os.pwrite(counter, b"0", 0)
    return error, left


def mount(image):
    options = b""
    if os.path.exists(f"images/{image}.blob"):
        options = os.fsencode(f"device={os.getcwd()}/images/{image}.blob")
    call(libc.mount(os.fsencode(f"{os.getcwd()}/images/{image}.erofs"), b"mnt", b"ferofs", 0, options))


def unmount():
    call(libc.umount2(b"mnt", 0))


def names(top):
    yield top
    for entry in sorted(os.listdir(top)):
        path = f"{top}/{entry}"
        if stat.S_ISDIR(os.lstat(path).st_mode):
            yield from names(path)
        else:
            yield path


def walked(top):
    found = []
    for path in names(top):
        seen = os.lstat(path)
        link = os.readlink(path) if stat.S_ISLNK(seen.st_mode) else ""
        attributes = [(name, os.getxattr(path, name, follow_symlinks=False))
                      for name in os.listxattr(path, follow_symlinks=False)]
        size = 0 if stat.S_ISDIR(seen.st_mode) else seen.st_size
        found.append((path[len(top):], seen.st_mode, size, link, attributes))
    return found


def files(top):
    return [path for path in names(top) if stat.S_ISREG(os.lstat(path).st_mode) and "/name-" not in path]


def contents(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        data = b""
        while piece := os.read(fd, 1 << 20):
            data += piece
        return data
    finally:
        os.close(fd)


def mapped(path):
    """The file as a mapping shows it; populated by a system call, which has an error where touching it has a signal."""
    fd = os.open(path, os.O_RDONLY)
    try:
        with mmap.mmap(fd, 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED) as area:
            area.madvise(22)  # MADV_POPULATE_READ
            return area[:]
    finally:
        os.close(fd)


def cold(image):
    for end in ("erofs", "blob"):
        if os.path.exists(path := f"images/{image}.{end}"):
            fd = os.open(path, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def digest(how, top):
    return [(path[len(top):], hashlib.sha256(how(path)).digest()) for path in files(top)]


TREE, DATA = walked("source"), digest(contents, "source")
WAYS = {
    "walk": lambda: walked("mnt"),
    "read": lambda: [contents(path) for path in SOME],
    "map": lambda: [mapped(path) for path in SOME],
}
SOME = ["mnt/numbers", "mnt/random", "mnt/dir/sub/start"]


def judge(error, what, number):
    if error is not None and error not in RIGHT:
        raise SystemExit(f"{what}, allocation {number}: {errno.errorcode.get(error, error)}")


def verify(what, number):
    if walked("mnt") != TREE:
        raise SystemExit(f"{what}, allocation {number}: another tree")
    if digest(contents, "mnt") != DATA or digest(mapped, "mnt") != DATA:
        raise SystemExit(f"{what}, allocation {number}: other data")


def one(image, way, number):
    """One try; the error of the operation, and what was left to count."""
    what = f"{image}: {way}"
    cold(image)
    if way == "mount":
        error, left = failing(number, lambda: mount(image))
        judge(error, what, number)
        if error is not None:
            mount(image)
    else:
        mount(image)
        if way == "unmount":
            for path in SOME:
                contents(path), mapped(path)
            error, left = failing(number, unmount)
            judge(error, what, number)
            if error is not None:
                unmount()
            return error, left
        error, left = failing(number, WAYS[way])
        judge(error, what, number)
    verify(what, number)
    unmount()
    return error, left


def knob(name, value):
    for injector in ("failslab", "fail_page_alloc"):
        with open(f"/sys/kernel/debug/{injector}/{name}", "w") as file:
            file.write(str(value))


def others(image):
    """What is asked for with the module on the stack fails now and then, in any task."""
    start = int(open("/sys/module/ferofs/sections/.text").read(), 16)
    size = int(open("/sys/module/ferofs/coresize").read())
    for name, value in (("require-start", start), ("require-end", start + size), ("stacktrace-depth", 32), ("times", -1)):
        knob(name, value)
    failed = 0
    for turn in range(ROUNDS):
        cold(image)
        mount(image)
        for way in ("read", "map", "walk"):
            knob("probability", 10)
            try:
                WAYS[way]()
            except OSError as error:
                knob("probability", 0)
                judge(error.errno, f"{image}: {way}", turn)
                failed += 1
            knob("probability", 0)
        verify(f"{image}: others", turn)
        unmount()
    for name in ("require-start", "require-end"):
        knob(name, 0 if name.endswith("start") else (1 << 64) - 1)
    return failed


ROUNDS = max(4, TRIES // 8)
IMAGES = sorted(name[:-6] for name in os.listdir("images") if name.endswith(".erofs"))
for image in IMAGES:
    try:
        failed = others(image)
        print(f"ok - sweep: {image}: in any task, {ROUNDS} rounds, {failed} of which had an error", flush=True)
    except (SystemExit, OSError) as found:
        knob("probability", 0)
        print(f"not ok - sweep: {image}: in any task\n#   {found!r}", flush=True)
        libc.umount2(b"mnt", 2)
    for way in ("mount", "walk", "read", "map", "unmount"):
        failed = 0
        try:
            one(image, way, MANY)
            count = MANY - one(image, way, MANY)[1]
            numbers = range(1, count + 1)
            if count > TRIES:
                numbers = sorted(random.Random(f"{SEED} {image} {way}").sample(numbers, TRIES))
            for number in numbers:
                error, left = one(image, way, number)
                failed += error is not None
            print(f"ok - sweep: {image}: {way}: {len(numbers)} of {count} allocations, {failed} of which it cannot do without", flush=True)
        except (SystemExit, OSError) as found:
            print(f"not ok - sweep: {image}: {way}\n#   {found!r}", flush=True)
            libc.umount2(b"mnt", 2)
END
python3 sweep.py "${TRIES:-10}" "${SEED:-1}" 2>errors | tee results
COUNT=$((COUNT + $(grep -c '^\(not \)\?ok' results)))
FAILED=$((FAILED + $(grep -c '^not ok' results)))
if [ -s errors ]; then fail "the sweep runs to its end" errors; fi
check "nobody uses the module" grep -qx 0 /sys/module/ferofs/refcnt
check "it can be unloaded" rmmod ferofs
check "and loaded again" insmod "$FEROFS_KO"

finish
