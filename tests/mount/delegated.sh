#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debian-7.2 debug
# slow: yes
#
# `ferofs mountd`: a user in a user namespace of his own mounts an image that the policy names, with owners as they are mapped there;
# and no other image, blob or option, and nothing for another user.

# shellcheck disable=SC2016 # the inner shells' words
. "$FEROFS_TESTS/lib.sh"
[ "$FS" = ferofs ] || { pass "the C driver makes no filesystems for others"; finish; }
verity_disk ext4.disk 100M ext4 >output 2>&1 || fail "ext4 with verity" output
cd ext4 || exit 1

# Files of root, who is nobody there; of the user, who is root there; of the user's group.
USER=1234
mkdir tree other-tree
seq 30000 >tree/numbers
for owner in "0:0" "$USER:$USER" "0:$USER"; do
    for mode in 600 640 644; do
        echo "$owner $mode" >"tree/$owner-$mode" && chown "$owner" "tree/$owner-$mode" && chmod $mode "tree/$owner-$mode"
    done
done
cp "$(command -v busybox)" tree/busybox
mknod tree/null c 1 3 && chmod 666 tree/null
cp -a tree/. other-tree && echo other >other-tree/numbers
for name in tree other-tree; do
    {
        tar -C $name -cf $name.tar . && ferofs build --quiet --verity -o $name.erofs $name.tar &&
            cp $name.erofs plain.erofs && fsverity enable $name.tar && fsverity enable $name.erofs
    } >output 2>&1 || fail "images" output
done
digest_of() { fsverity measure "$1" | sed 's/^sha256:\([0-9a-f]*\) .*/\1/'; }
ALLOWED=$(digest_of tree.erofs)
OTHER=$(digest_of other-tree.erofs)
mkdir -m 777 mnt
chmod 755 . ..

# as USER COMMAND: runs it as a user who is root in a user namespace and a mount namespace of his own.
as() {
    as_user=$1
    shift
    setpriv --reuid="$as_user" --regid="$as_user" --clear-groups unshare --user --map-root-user --mount sh -c "$*"
}
sysctl -qw kernel.unprivileged_userns_clone=1 2>/dev/null
wanted="ferofs mount -o verity=$ALLOWED --device tree.tar tree.erofs mnt"

refuses "nobody serves" 'ferofs-mountd, which does it, does not answer' as $USER "$wanted"
ferofs mountd --listen --policy policy 2>refused &
SERVICE=$!
for _ in $(seq 100); do [ -S /run/ferofs/mountd.sock ] && break; sleep 0.1; done
refuses "there is no policy" 'cannot read policy' as $USER "$wanted"
echo "allow" >policy
refuses "a policy that is wrong" 'line 1: expected an fs-verity digest' as $USER "$wanted"
printf '# for tests\nallow sha256:%s uid=%s\n' "$ALLOWED" "$USER" >policy

check "an allowed image is mounted" as $USER "$wanted && cmp mnt/numbers tree/numbers"
check "it is a mount of ferofs" as $USER "$wanted && grep ' ferofs ro,nodev,.*verity=sha256:$ALLOWED' /proc/mounts"
# Owners of the image are those of the namespace: root is root there, whoever is not mapped is nobody. And root there may read what
# others may not only where owner and group are mapped, as with any filesystem of a namespace.
as $USER "$wanted"' && cd mnt && for file in *-*; do stat -c "%n %u %g %a" $file; cat $file; done' >found.look 2>/dev/null
{
    for owner in "0:0 0 0" "0:$USER 0 65534" "$USER:$USER 65534 65534"; do
        for mode in 600 640 644; do
            echo "${owner%% *}-$mode ${owner#* } $mode"
            case $owner:$mode in $USER*:6?0) ;; *) echo "${owner%% *} $mode" ;; esac
        done
    done
} >expected.look
check "owners and rights are those of the namespace" diff expected.look found.look
refuses "devices are none" 'Permission denied' as $USER "$wanted && cat mnt/null"
check "programs run" as $USER "$wanted && mnt/busybox true"
check "it is seen there alone" sh -c "! grep ' ferofs ro' /proc/mounts"
check "an overlay over it can be written to" as $USER "$wanted && mount -t tmpfs tmpfs other-tree && mkdir other-tree/upper other-tree/work &&
    mount -t overlay -o userxattr,lowerdir=mnt,upperdir=other-tree/upper,workdir=other-tree/work overlay mnt && echo new >mnt/numbers && grep -qx new mnt/numbers"
refuses "an overlay by ferofs mount" 'as an overlay in a user namespace' as $USER "$wanted --upper upper"

refuses "another image" 'is not allowed for user' as $USER "ferofs mount -o verity=$OTHER --device other-tree.tar other-tree.erofs mnt"
refuses "an image that is not what it says" "digest is $OTHER\|digest is sha256:$OTHER" as $USER "ferofs mount -o verity=$ALLOWED --device other-tree.tar other-tree.erofs mnt"
refuses "an image without a digest" 'fs-verity' as $USER "ferofs mount -o verity=$ALLOWED --device tree.tar plain.erofs mnt"
refuses "another blob" 'device\|digest' as $USER "ferofs mount -o verity=$ALLOWED --device other-tree.tar tree.erofs mnt"
refuses "another user" 'is not allowed for user 1235' as 1235 "$wanted"
refuses "no digest" 'knows images by their fs-verity digests' as $USER "ferofs mount --device tree.tar tree.erofs mnt"
refuses "any digest" 'the option verity is for root only' as $USER "ferofs mount -o verity=require --device tree.tar tree.erofs mnt"
refuses "a domain" 'the option domain_id is for root only' as $USER "ferofs mount -o verity=$ALLOWED,domain_id=a --device tree.tar tree.erofs mnt"
refuses "no user namespace" 'only root can mount' setpriv --reuid=$USER --regid=$USER --clear-groups ferofs mount -o "verity=$ALLOWED" --device tree.tar tree.erofs mnt
echo "allow $ALLOWED noexec" >policy
refuses "without programs" 'Permission denied' as 1235 "$wanted && mnt/busybox true"

# Without the service, with all rights but those of the first namespace: the kernel says no. And it does so for root who is asked to
# make one of an image that nobody names.
cat >crafted.py <<'PYTHON'
import ctypes, json, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(*words):
    found = libc.syscall(*words)
    return -ctypes.get_errno() if found < 0 else found
FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432
def opened():
    fd = call(FSOPEN, b"ferofs", 0)
    assert fd >= 0, fd
    image = os.open("tree.erofs", os.O_RDONLY)
    assert call(FSCONFIG, fd, 5, b"source", None, image) == 0
    return fd
if sys.argv[1] == "alone":
    print(call(FSCONFIG, opened(), 6, None, None, 0))
elif sys.argv[1] == "send":
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.connect("peer")
    socket.send_fds(peer, [b"x"], [opened()])
    peer.recv(1)
elif sys.argv[1] == "create":
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind("peer")
    os.chmod("peer", 0o666)
    server.listen()
    peer = server.accept()[0]
    fd = socket.recv_fds(peer, 1, 1)[1][0]
    words = sys.argv[2:]
    for word in words:
        key, value = word.split("=")
        if key == "device":
            assert call(FSCONFIG, fd, 1, b"device", os.fsencode(value), 0) == 0
        else:
            assert call(FSCONFIG, fd, 1, os.fsencode(key), os.fsencode(value), 0) == 0
    print(call(FSCONFIG, fd, 6, None, None, 0), os.read(fd, 1000).decode(errors="replace"))
elif sys.argv[1] == "rubbish":
    for message, files in ((b"", []), (b"{}", []), (b'{"source":"a","digest":"b"}', []), (b"x" * 20000, []),
                           (json.dumps({"source": "a", "digest": sys.argv[2]}).encode(), []),
                           (json.dumps({"source": "a", "digest": sys.argv[2]}).encode(), [0, 0, 0]),
                           (json.dumps({"source": "a", "digest": sys.argv[2]}).encode(), [0] * 200)):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        peer.connect("/run/ferofs/mountd.sock")
        socket.send_fds(peer, [message], files) if files else peer.send(message)
        if message:
            reply = json.loads(peer.recv(20000))
            assert reply["error"], reply
PYTHON
as $USER "python3 crafted.py alone" >found
check "the kernel makes none for who has no rights" grep -qx -- -1 found
# delegate NAME OPTION...: root makes one for a context of that namespace, as no service should.
delegate() {
    delegate_name=$1
    shift
    rm -f peer
    timeout 60 python3 crafted.py create "$@" >found 2>&1 &
    for _ in $(seq 100); do [ -S peer ] && break; sleep 0.1; done
    as $USER "timeout 60 python3 crafted.py send" >output 2>&1
    wait $!
    check "$delegate_name: the module refuses" grep -q -e '^-1 .*with verity= and its digest only' found
}
delegate "without a digest" verity=require
delegate "a path, which root would look for" "verity=$ALLOWED" "device=$PWD/tree.tar"
delegate "in a domain" "verity=$ALLOWED" domain_id=others
check "rubbish is answered with errors" as $USER "python3 crafted.py rubbish $ALLOWED"
check "and the service goes on" as $USER "$wanted"
check "it says what it refused" grep -q "user $USER: the image with the fs-verity digest sha256:$OTHER is not allowed" refused
kill "$SERVICE"
cd "$WORK" || exit 1
for _ in $(seq 50); do umount ext4 2>/dev/null && break; sleep 0.2; done
check "nothing is held" sh -c '! mountpoint -q ext4'
check "the module is not in use any more" rmmod ferofs
insmod "$FEROFS_KO" || modprobe ferofs
finish
