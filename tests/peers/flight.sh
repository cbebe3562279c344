#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 900
#
# A thousand reads (READS) at once of a layer on demand, while its registry does not answer: all wait, the daemon that they wait for
# takes less than 128 MiB, and when the registry goes on each of them has what the layer has. Also if it may have fewer open files.

# shellcheck disable=SC2317 # `check` calls the functions
. "$FEROFS_TESTS/peers/lib/peers.sh"
versions docker-registry skopeo
READS=${READS:-1000}
wide
cat >flight.py <<'PYTHON'
"""Reads as many pages of the files at once as it is told, each in a thread and by a file of its own, while the registry is stopped."""
import collections, os, resource, signal, sys, threading, time

count, registry, daemon = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (100_000, 100_000))
threading.stack_size(64 << 10)
pages = [(number, page) for page in range(256) for number in range(48)][:count]
found = {}
threads = []


def read(number, page):
    try:
        file = os.open(f"mnt/{number}", os.O_RDONLY)
        found[number, page] = os.pread(file, 4096, page * 4096)
        os.close(file)
    except OSError as error:
        found[number, page] = error


def memory(name):
    with open(f"/proc/{daemon}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))


os.kill(registry, signal.SIGSTOP)
for number, page in pages:
    thread = threading.Thread(target=read, args=(number, page), daemon=True)
    thread.start()
    threads.append(thread)
# Until all are in the kernel, and what they wait for has been asked for.
time.sleep(20)
waiting = count - len(found)
print(f"# {waiting} reads wait, the daemon has {memory('VmRSS')} KiB")
assert waiting == count, "some did not wait"
os.kill(registry, signal.SIGCONT)
begin = time.monotonic()
for thread in threads:
    thread.join()
print(f"# all are answered {time.monotonic() - begin:.0f} s later; the daemon had {memory('VmHWM')} KiB at most, {memory('Threads')} threads")
errors = collections.Counter(str(value) for value in found.values() if isinstance(value, OSError))
assert not errors, errors
for number in range(48):
    with open(f"tree/{number}", "rb") as file:
        content = file.read()
    for page in range(256):
        if (number, page) in found:
            assert found[number, page] == content[page * 4096 : page * 4096 + 4096], f"page {page} of {number} has other bytes"
assert memory("VmHWM") < 128 << 10, "more than 128 MiB"
PYTHON
# flight NAME [WORD...]: the reads, with a daemon that is started by these words.
flight() {
    name=$1
    shift
    rm -rf store served.erofs
    check "$name: an index and access points" ferofs build -q -o store --no-tar --merge served.erofs oci:layout:wide:1
    "$@" ferofs serve --deadline 600 store "$WIDE" >serve.out 2>serve.err &
    daemon=$!
    check "$name: the daemon starts" within 60 grep -qx ready serve.out
    mkdir -p mnt
    check "$name: a mount" ferofs mount -o holes=error --blobs store served.erofs mnt
    check "$name: $READS reads at once" python3 flight.py "$READS" "$REGISTRY" "$daemon"
    grep '^#' output
    umount mnt
    kill $daemon
    check "$name: the daemon ends" wait $daemon
}

# It raises the limit on open files itself.
flight "with room for all"
# Unless it may not: what it cannot take waits, too.
flight "with 400 open files" prlimit --nofile=400:400 setpriv --bounding-set=-sys_resource
check "it says so" grep -q 'files for more cannot be open' serve.err
kill "$REGISTRY"
finish
