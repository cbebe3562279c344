#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 1200
#
# Layers on demand from Debian's docker-registry, where skopeo brings them: what is read is what the layers have or an
# error, whatever becomes of the daemon and of the registry, and never zeros.

# shellcheck disable=SC2317 # `check` calls the functions
. "$FEROFS_TESTS/peers/lib/peers.sh"
versions docker-registry skopeo
images
ip link set lo up
layout=$SHARED/images/layout
image=127.0.0.1:5000/some/app:1
DAEMON=

# serve [OPTION...]: starts the daemon, and waits until it is ready.
serve() {
    : >serve.out
    ferofs serve "$@" store "$image" >serve.out 2>>serve.err &
    DAEMON=$!
    within 60 grep -qx ready serve.out
}

# killed PID: kills it as nobody can prevent, and waits until it is gone.
killed() {
    kill -9 "$1"
    wait "$1" 2>/dev/null
    return 0
}

# there: how many KiB of the tars are there.
there() {
    du -k -c store/*.sparse store/*.tar 2>/dev/null | awk 'END { print $1 }'
}

# compare TREE OTHER [STOP]: prints how many files of the second are the same as in the first, and how many cannot be read.
# Fails if one is anything else. After STOP files it makes the file `middle` and waits a second.
cat >compare.py <<'PYTHON'
import errno, os, stat, sys, time

tree, other = sys.argv[1:3]
stop = int(sys.argv[3]) if len(sys.argv) > 3 else None
same = refused = count = 0
for directory, _, names in sorted(os.walk(tree)):
    for name in sorted(names):
        path = os.path.join(directory, name)
        if not stat.S_ISREG(os.lstat(path).st_mode):
            continue
        count += 1
        if count == stop:
            open("middle", "w").close()
            time.sleep(1)
        with open(path, "rb") as file:
            expected = file.read()
        try:
            with open(os.path.join(other, os.path.relpath(path, tree)), "rb") as file:
                found = file.read()
        except OSError as error:
            assert error.errno == errno.EIO, error
            refused += 1
            continue
        assert found == expected, f"{path}: {len(found)} bytes are other ones"
        same += 1
print(same, refused)
PYTHON
compare() {
    python3 compare.py "$@"
}

# both FILE: whether some files were the same, and some could not be read.
both() {
    read -r same refused <"$1" && [ "$same" -gt 0 ] && [ "$refused" -gt 0 ]
}

# --- what is needed beforehand ------------------------------------------------------------------------------------------
check "a registry starts" registry 5000 "$WORK/registry"
check "skopeo brings an image there" skopeo --insecure-policy copy --preserve-digests --dest-tls-verify=false \
    "oci:$layout:app:1" "docker://$image"
check "indexes and plain tars" ferofs build -q -o whole --merge whole.erofs "oci:$layout:app:1"
check "indexes and access points, without tars" ferofs build -q -o store --no-tar --span 100000 --merge served.erofs "oci:$layout:app:1"
check "are the same indexes" cmp whole.erofs served.erofs
check "there are no tars" sh -c '! ls store/*.tar'
check "they are stored beside the image" ferofs push-index --layers store "$image"
check "and got from there" ferofs pull-index --points -o pulled "$image"
for file in store/*.erofs store/*.points; do check "and are the same" cmp "$file" "pulled/${file##*/}"; done
mkdir reference mnt
check "a mount with plain tars" ferofs mount --blobs whole whole.erofs reference
mkdir empty
refuses "without access points nothing is served" "No such file" ferofs serve empty "oci:$layout:app:1"
refuses "nor from where nothing can be written" "Read-only file system" ferofs serve reference "oci:$layout:app:1"
total=$(du -k -c whole/*.tar | awk 'END { print $1 }')

# --- on demand ----------------------------------------------------------------------------------------------------------
check "the daemon starts" serve --deadline 100
check "nothing is there yet" test "$(there)" -lt 100
refuses "who would see zeros is told" "mount with holes=error" ferofs mount --blobs store served.erofs mnt
refuses "nobody else serves the same" "by another process" ferofs serve store "$image"
check "a mount of what is not there" ferofs mount -o holes=error --blobs store served.erofs mnt
check "a program runs" mnt/usr/bin/busybox true
some=$(there)
check "of the tars $some KiB are there, and not all $total" test "$some" -gt 0 -a "$some" -lt $((total * 3 / 4))

# --- the daemon is killed -----------------------------------------------------------------------------------------------
rm -f middle
compare reference mnt 5 >killed.out 2>&1 &
reader=$!
within 60 test -e middle
killed "$DAEMON"
check "what is read when the daemon is killed is right or EIO" wait "$reader"
echo "# $(cat killed.out) (the same, EIO)"
drop
check "and so it is without a daemon" sh -c 'python3 compare.py reference mnt >gone.out 2>&1'
echo "# $(cat gone.out) (the same, EIO)"
check "something is missing" both gone.out
before=$(there)
check "it starts again" serve --deadline 40
# A layer that was complete when the daemon was killed gets another name now.
check "with what was there" within 60 sh -c "test \$(du -k -c store/*.sparse store/*.tar | tail -n 1 | cut -f 1) -ge $before"

# --- the registry is gone -----------------------------------------------------------------------------------------------
killed "$REGISTRY"
drop
# One file only: who reads it waits for the deadline.
find reference -xdev -type f -size +16k | sort | tail -n 1 | sed 's/^reference//' >few
while read -r path; do
    if cat "mnt$path" >found 2>cat.err; then
        check "without a registry$path is right" cmp "reference$path" found
    else
        check "without a registry$path is EIO" grep -q "Input/output error" cat.err
    fi
done <few
check "the registry is back" registry 5000 "$WORK/registry"
while read -r path; do check "and so is$path" within 200 cmp "reference$path" "mnt$path"; done <few
# Whatever is not had in time on a slow machine is had by a later read.
for _ in 1 2 3 4 5; do
    check "no file is other than it should be" sh -c 'python3 compare.py reference mnt >all.out 2>&1'
    if grep -q " 0$" all.out; then break; fi
done
echo "# $(cat all.out) (the same, EIO)"
check "and none is missing" grep -q " 0$" all.out
kill "$DAEMON" && wait "$DAEMON"
umount mnt
cut -c 1-200 serve.err | head -n 20

# --- the registry lies --------------------------------------------------------------------------------------------------
rm -f store/*.sparse store/*.tar
largest=$(find registry/docker/registry/v2/blobs -name data -size +100k -printf '%s %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
cp "$largest" blob
printf '\377\377\377\377' | dd of="$largest" bs=1 seek=$(($(wc -c <blob) / 2)) conv=notrunc status=none
: >serve.err
check "the daemon starts over" serve --deadline 100
check "a mount again" ferofs mount -o holes=error --blobs store served.erofs mnt
check "what the registry's disk changed is EIO, and nothing else is wrong" sh -c 'python3 compare.py reference mnt >lies.out 2>&1'
echo "# $(cat lies.out) (the same, EIO)"
check "something is EIO" both lies.out
check "the daemon says why" grep -q "checksum\|corrupt" serve.err
kill "$DAEMON" && wait "$DAEMON"
umount mnt
cat blob >"$largest"

# --- a service manager keeps the descriptor of the group -------------------------------------------------------------------
cat >manager.py <<'PYTHON'
"""Does what systemd does with FileDescriptorStoreMax=1 and Restart=always, and reads a file while there is no daemon."""
import os, signal, socket, subprocess, sys, time

image, path = sys.argv[1:]
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind("notify")
notify.settimeout(120)


def start(kept):
    pid = os.fork()
    if pid:
        return pid
    environment = dict(os.environ, NOTIFY_SOCKET=os.path.abspath("notify"))
    if kept is not None:
        os.dup2(kept, 3)
        environment.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="fanotify")
    os.execvpe("ferofs", ["ferofs", "serve", "--deadline", "100", "store", image], environment)


def heard():
    said, descriptors, _, _ = socket.recv_fds(notify, 4096, 1)
    return said.decode().split("\n"), descriptors


daemon = start(None)
said, (group,) = heard()
assert "FDSTORE=1" in said and "FDNAME=fanotify" in said, said
assert "READY=1" in heard()[0]
subprocess.run(["ferofs", "mount", "-o", "holes=error", "--blobs", "store", "served.erofs", "mnt"], check=True)
os.kill(daemon, signal.SIGKILL)
os.waitpid(daemon, 0)
reader = subprocess.Popen(["cat", "mnt" + path], stdout=subprocess.PIPE)
time.sleep(5)
assert reader.poll() is None, "the reader does not wait for another daemon"
daemon = start(group)
said, descriptors = heard()
assert "READY=1" in said and not descriptors, said
found = reader.communicate(timeout=200)[0]
with open("reference" + path, "rb") as file:
    assert found == file.read(), "the reader has other bytes"
os.kill(daemon, signal.SIGTERM)
os.waitpid(daemon, 0)
PYTHON
rm -f store/*.sparse store/*.tar
check "who reads while a daemon is replaced waits for the next one" python3 manager.py "$image" "$(head -n 1 few)"
umount mnt

# --- everything, in the background --------------------------------------------------------------------------------------
check "a list of what is read first" serve --record list
check "a mount for it" ferofs mount -o holes=error --blobs store served.erofs mnt
check "something is read" mnt/usr/bin/busybox true
umount mnt
kill "$DAEMON" && wait "$DAEMON"
check "the list has something" grep -q "^sha256:.* [0-9]*$" list
rm -f store/*.sparse store/*.tar
# The points and indexes, too.
rm -f store/*
check "the daemon gets everything" ferofs serve --complete --first list store "$image"
check "tars are whole" sh -c '! ls store/*.sparse'
for tar in whole/*.tar; do check "and are right" cmp "$tar" "store/${tar##*/}"; done
check "they are mounted without a daemon" ferofs mount --blobs store served.erofs mnt
check "and every file is right" sh -c 'python3 compare.py reference mnt >whole.out 2>&1'
umount mnt reference
killed "$REGISTRY"
finish
