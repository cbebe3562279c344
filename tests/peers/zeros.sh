#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 1200
#
# Pages of a layer on demand, read in random order by pread(2) and through mappings, while the daemon is killed and started again:
# each has what the layer has, or is an error, and none is zeros. ROUNDS times (2), each with a new store, and READS each time.

# shellcheck disable=SC2317 # `check` calls the functions
. "$FEROFS_TESTS/peers/lib/peers.sh"
versions docker-registry skopeo
ROUNDS=${ROUNDS:-2}
READS=${READS:-20000}
wide
# Small units, so that much is missing for long.
check "an index and access points" ferofs build -q -o made --no-tar --span 100000 --merge served.erofs oci:layout:wide:1

cat >reads.py <<'PYTHON'
"""Reads so many pages, in two processes, and compares each. Prints how many were right, how many EIO, and how often each way."""
import errno, mmap, multiprocessing, os, random, sys, time

count, seed = map(int, sys.argv[1:])
trees = {}
for number in range(48):
    with open(f"tree/{number}", "rb") as file:
        trees[number] = file.read()


def reads(seed, results):
    choose = random.Random(seed)
    sink = os.memfd_create("sink")
    right = refused = zeros = other = mapped = 0
    for _ in range(count // 2):
        number, page = choose.randrange(48), choose.randrange(256)
        file = os.open(f"mnt/{number}", os.O_RDONLY)
        try:
            if choose.random() < 0.25:
                mapped += 1
                with mmap.mmap(file, 0, prot=mmap.PROT_READ) as area, memoryview(area) as view:
                    with view[page * 4096 : page * 4096 + 4096] as part:
                        # Where the page cannot be had this is an error, and no signal.
                        os.pwrite(sink, part, 0)
                found = os.pread(sink, 4096, 0)
            else:
                found = os.pread(file, 4096, page * 4096)
        except OSError as error:
            assert error.errno in (errno.EIO, errno.EFAULT), error
            refused += 1
            # There are more when there is a daemon again.
            time.sleep(0.002)
            continue
        finally:
            os.close(file)
        expected = trees[number][page * 4096 : page * 4096 + 4096]
        # What is missing may begin within the page: then fewer bytes come.
        if found and expected.startswith(found):
            right += 1
        elif not any(found):
            zeros += 1
        else:
            other += 1
    results.put((right, refused, zeros, other, mapped))


fork = multiprocessing.get_context("fork")
results = fork.Queue()
processes = [fork.Process(target=reads, args=(seed * 2 + half, results)) for half in range(2)]
for process in processes:
    process.start()
totals = [sum(each) for each in zip(*(results.get(timeout=900) for _ in processes))]
print("%d right, %d refused, %d zeros, %d other; %d through mappings" % tuple(totals))
assert totals[2] == totals[3] == 0 and totals[0] > 0, "wrong bytes"
PYTHON

# serve: starts the daemon, which need not be ready when this returns.
serve() {
    ferofs serve --deadline 20 store "$WIDE" >serve.out 2>>serve.err &
    DAEMON=$!
}

# pause: less than a second, at random.
pause() {
    sleep "0.$(shuf -i 1-9 -n 1)"
}

round=0
refused=0
while [ $round -lt "$ROUNDS" ]; do
    round=$((round + 1))
    rm -rf store && cp -r made store
    : >serve.out
    serve
    mkdir -p mnt
    check "round $round: the daemon starts" within 60 grep -qx ready serve.out
    check "a mount" ferofs mount -o holes=error --blobs store served.erofs mnt
    rm -f status
    { python3 reads.py "$READS" $round >reads.out 2>&1; echo $? >status; } &
    kills=0
    until [ -s status ]; do
        pause
        kill -9 $DAEMON
        wait $DAEMON 2>/dev/null
        kills=$((kills + 1))
        pause
        serve
        # It reads on while the daemon starts, and for a while after.
        within 20 grep -qx ready serve.out
        pause
    done
    check "round $round: $READS reads and $kills kills: no zeros" test "$(cat status)" = 0
    echo "# $(cat reads.out)"
    had=$(sed -n 's/^\([0-9]*\) right, \([0-9]*\) refused.*/\2/p' reads.out)
    refused=$((refused + ${had:-0}))
    umount mnt
    kill $DAEMON
    wait $DAEMON 2>/dev/null
done
check "some could not be had" test $refused -gt 0
kill "$REGISTRY"
finish
