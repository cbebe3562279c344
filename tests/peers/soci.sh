#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 600
#
# Access points of others in place of ours: SOCI's, of a ztoc that `soci create` has made of an image in containerd, and those that
# erofs-utils write. ferofs makes points where they are, serves layers by them, and finds what is wrong in them.

# shellcheck disable=SC2317 # `check` calls the functions
. "$FEROFS_TESTS/peers/lib/peers.sh"
versions soci-snapshotter containerd erofs-utils
ip link set lo up

# A layer of 12 MB.
python3 - >output 2>&1 <<'END' || fail "the image" output
import os, random, sys
sys.path.insert(0, os.path.join(os.environ["FEROFS_TESTS"], "peers/lib"))
import images
source = random.Random(5)
words = [source.randbytes(source.randint(3, 9)) for _ in range(500)]
layer = images.Layer()
layer.directory("files")
for number in range(12):
    text = b"".join(source.choice(words) for _ in range(180000))
    layer.add(f"files/{number}", content=text[:1000001])
images.Layout("layout").image("app:1", [(layer.finish(), "gzip")])
END
tar -C layout -cf layout.tar .
mkdir -p /etc/containerd store mnt reference
printf 'version = 2\nroot = "%s/root"\nstate = "/run/containerd"\n' "$WORK" >/etc/containerd/config.toml
containerd >containerd.log 2>&1 &
CONTAINERD=$!
check "containerd starts" within 60 ctr version
check "the image is imported" ctr images import --no-unpack --base-name local/app layout.tar
name=$(ctr images list -q | head -n 1)
check "soci makes a ztoc of it" soci create --min-layer-size 0 --span-size 1048576 "$name"
soci ztoc list 2>&1 | sed 's/^/# /'
digest=$(soci ztoc list | sed -n '2s/.*\(sha256:[0-9a-f]\{64\}\).*\(sha256:[0-9a-f]\{64\}\).*/\1/p')
find / -xdev -path "*${digest#sha256:}*" -type f 2>/dev/null | head -n 1 >found
ztoc=$(cat found)
kill $CONTAINERD

stored=$(find layout/blobs/sha256 -size +1M)
gzip -dc "$stored" >plain.tar
diff_id=$(sha256sum plain.tar | cut -c 1-64)
# made ARGUMENT...: makes points by what these say.
made() {
    ferofs build -q --no-tar -o "store/$diff_id.erofs" --points "store/$diff_id.points" "$@" "$stored"
}
# where ARGUMENT...: prints where the points are that these say, a line each.
where() {
    ferofs build -q --no-tar -o where.erofs --zinfo where.zinfo "$@" "$stored" &&
        python3 -c 'import sys
zinfo = open("where.zinfo", "rb").read()
for at in range(12, len(zinfo), 32785): print(zinfo[at:at + 17].hex())'
}
# served NAME: serves the layer by these points, and compares.
served() {
    served_name=$1
    rm -f store/*.sparse store/*.tar
    : >serve.out
    ferofs serve store oci:layout:app:1 >serve.out 2>serve.err &
    served_daemon=$!
    check "$served_name: served" within 60 grep -qx ready serve.out
    check "$served_name: mounted" ferofs mount -o holes=error --blobs store "store/$diff_id.erofs" mnt
    check "$served_name: what is read is what the layer has" diff -r reference mnt
    umount mnt
    kill $served_daemon
    wait $served_daemon 2>/dev/null
}
tar -C reference -xf plain.tar
check "points where SOCI has them" made --points-at "$ztoc"
served SOCI
where --points-at "$ztoc" >soci.where
check "as many as of a span of 1 MiB" test "$(wc -l <soci.where)" -ge 9
mkfs.erofs --quiet --tar=i --gzinfo=theirs.zinfo theirs.erofs "$stored" >output 2>&1 || fail "mkfs.erofs" output
check "points where erofs-utils have them" made --points-at theirs.zinfo
served erofs-utils
# A byte of the last window that is wrong, in each.
python3 - "$ztoc" <<'END'
import sys
ztoc = bytearray(open(sys.argv[1], "rb").read())
theirs = bytearray(open("theirs.zinfo", "rb").read())
last = bytes(theirs[-32768:])
theirs[-1] ^= 1
open("changed.zinfo", "wb").write(theirs)
# The zinfo of a ztoc ends with its last window.
tail = open("plain.tar", "rb").read()
for end in range(len(ztoc), 0, -1):
    if end >= 64 and tail.find(bytes(ztoc[end - 64:end])) >= 0:
        break
ztoc[end - 1] ^= 1
open("changed.ztoc", "wb").write(ztoc)
END
refuses "a byte of a window of erofs-utils is wrong" 'the zinfo has another window' made --points-at changed.zinfo
refuses "a byte of a window of SOCI is wrong" 'the zinfo has another window' made --points-at changed.ztoc
refuses "a file that is neither" 'no sound zinfo' made --points-at plain.tar
finish
