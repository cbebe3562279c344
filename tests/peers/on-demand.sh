#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 2400
#
# Images in Debian's docker-registry, mounted by one command: who serves their layers meanwhile, and until when; mirrors that
# are gone or lie; TLS and passwords.

# shellcheck disable=SC2317 # `check` calls the functions
. "$FEROFS_TESTS/peers/lib/peers.sh"
versions docker-registry skopeo
images
ip link set lo up
layout=$SHARED/images/layout
plain=127.0.0.1:5000
store=$WORK/store

# mirror PORT UPSTREAM LOG [lies]: starts a mirror.
mirror() {
    python3 "$FEROFS_TESTS/peers/lib/proxy.py" "$@" >>"mirror-$1.log" 2>&1 &
    REGISTRIES="$REGISTRIES $!"
    within 60 python3 -c "import socket; socket.create_connection(('127.0.0.1', $1))"
}

# in_background: the processes that serve a mount. servers NUMBER: whether they are so many.
in_background() {
    grep -lza '^--background$' /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3
}

servers() {
    in_background >serving
    cat serving "$store/log" 2>/dev/null
    [ "$(wc -l <serving)" -eq "$1" ]
}

# begun IMAGE DIR [OPTION...]: mounts an image.
begun() {
    begun_image=$1
    begun_at=$2
    shift 2
    mkdir -p "$begun_at"
    ferofs mount --deadline 100 --store "$store" "$@" "$begun_image" "$begun_at"
}

# equals IMAGE DIR [PART]: whether all files of it are what they should be, or those of a part of it.
equals() {
    diff -r --no-dereference "reference.$1/${3:-}" "$2/${3:-}" >diff.out 2>&1
    # Some kinds of files are not compared.
    ! grep -v "is a .* special file\|is a fifo\|^$" diff.out
}

# fresh: nothing is there of any layer.
fresh() {
    rm -rf "$store"
}

check "a registry starts" registry 5000 "$WORK/registry"
for image in app deep; do
    check "skopeo brings $image there" skopeo --insecure-policy copy --preserve-digests --dest-tls-verify=false \
        "oci:$layout:$image:1" "docker://$plain/some/$image:1"
    check "indexes and access points of $image are made" ferofs build -q -o built --no-tar --span 100000 "oci:$layout:$image:1"
    check "a mount of $image with plain tars" ferofs build -q -o whole --merge "$image.erofs" "oci:$layout:$image:1"
    mkdir "reference.$image"
    check "to compare with" ferofs mount --blobs whole "$image.erofs" "reference.$image"
done

# --- what cannot be mounted ---------------------------------------------------------------------------------------------
refuses "an image that is not there" "there is no such image" begun "$plain/some/none:1" mnt
refuses "one without indexes in the registry" "push-index --make --layers DIR $plain/some/app:1" begun "$plain/some/app:1" mnt
for image in app deep; do
    check "those of $image are stored beside it" ferofs push-index --layers built "$plain/some/$image:1"
done
refuses "a directory that is not there" "No such file" ferofs mount --store "$store" "$plain/some/app:1" nowhere
refuses "a registry that is not there" "taken for an image in a registry" begun 127.0.0.1:4999/some/app:1 mnt
refuses "what makes no sense of it" "does not go with it" begun "$plain/some/app:1" mnt --verify
refuses "nor of anything else" "no image in a registry, for which mirror is" ferofs mount -o mirror=m.example app.erofs mnt
refuses "nor this" "for which --foreground is" ferofs mount --foreground app.erofs mnt
refuses "a store that can have no holes" "pre-content events" ferofs mount --store /run/store "$plain/some/app:1" mnt
check "nobody serves anything" servers 0

# --- one mount, and others of the same layers ---------------------------------------------------------------------------
check "an image is mounted" begun "$plain/some/app:1" mnt
check "by one server" servers 1
check "a program of it runs" mnt/usr/bin/busybox true
check "not all of it is there" sh -c "ls $store/*.sparse"
check "it is mounted again" begun "$plain/some/app:1" second
check "by the same server" within 60 servers 1
check "the first mount ends" ferofs umount mnt
sleep 5
check "the server goes on" servers 1
check "an image that shares a layer is mounted" begun "$plain/some/deep:1" deep
check "by a server of the other layers" servers 2
check "the second mount ends" ferofs umount second
sleep 5
check "a layer of it is still in use" servers 2
check "all of the other image is right" equals deep deep
check "its mount ends" umount deep
check "and so do both servers" within 60 servers 0

# --- a directory on top, and who uses it when it is unmounted ------------------------------------------------------------
check "it is mounted with a directory to write to" begun "$plain/some/app:1" mnt --upper "$WORK/upper"
check "and written to" sh -c 'echo changed >mnt/etc/motd && grep -q changed mnt/etc/motd'
exec 5<mnt/usr/bin/busybox
check "it is taken away while a file is open" ferofs umount --lazy mnt
sleep 5
check "which is still served" servers 1
check "and right" sh -c 'cmp - reference.app/usr/bin/busybox <&5'
exec 5<&-
check "until it is closed" within 60 servers 0

# --- mount(8) -----------------------------------------------------------------------------------------------------------
fresh
echo "$plain/some/app:1 $WORK/mnt ferofs store=$store,deadline=100,nosuid 0 0" >>/etc/fstab
ln -sf "$(command -v ferofs)" /sbin/mount.ferofs
ln -sf "$(command -v ferofs)" /sbin/umount.ferofs
check "mount(8) mounts it by /etc/fstab" mount mnt
check "which is served" servers 1
check "with its options" grep -q "$WORK/mnt ferofs ro,nosuid" /proc/self/mounts
# shellcheck disable=SC2016 # of the shell inside
check "and not once more" sh -c 'mount -t ferofs -a && [ "$(grep -c "^[^ ]* $PWD/mnt " /proc/self/mounts)" = 1 ]'
check "what is read is right" equals app mnt usr/bin
check "umount(8) ends it" umount mnt
check "and the server" within 60 servers 0
sed -i '$d' /etc/fstab
rm /sbin/mount.ferofs /sbin/umount.ferofs

# --- until it is whole --------------------------------------------------------------------------------------------------
fresh
check "it is mounted, and got" begun "$plain/some/app:1" mnt --complete
check "the server ends when it is" within 300 servers 0
check "all is there" sh -c "! ls $store/*.sparse"
check "and right" equals app mnt
check "it is mounted from what is there" begun "$plain/some/app:1" second
check "by nobody" within 60 servers 0
check "and right" equals app second usr/bin
umount mnt second

# --- the server is killed -----------------------------------------------------------------------------------------------
fresh
check "it is mounted once more" begun "$plain/some/app:1" mnt
in_background | while read -r pid; do kill -9 "$pid"; done
check "the server is killed" within 60 servers 0
refuses "what is not there is an error" "Input/output error" find mnt -type f -exec cat {} +
check "another mount" begun "$plain/some/app:1" second
check "is served" equals app second usr/bin
check "and so is the first" equals app mnt usr/bin
umount mnt second
check "until both end" within 60 servers 0

# --- in the foreground --------------------------------------------------------------------------------------------------
fresh
ferofs mount --foreground --store "$store" "$plain/some/app:1" mnt >foreground.out 2>&1 &
foreground=$!
check "it is mounted by a process in the foreground" within 60 grep -qx ready foreground.out
check "a program of it runs" mnt/usr/bin/busybox true
check "it ends" umount mnt
check "and so does the process" wait $foreground

# --- mirrors ------------------------------------------------------------------------------------------------------------
fresh
check "a mirror starts" mirror 5001 5000 mirrored
check "with a mirror that is not there, and one that is" begun "$plain/some/app:1" mnt --mirror 127.0.0.1:4999 --mirror 127.0.0.1:5001
check "what is read is right" equals app mnt usr/bin
check "and from the mirror" grep -q /blobs/ mirrored
umount mnt
check "the server ends" within 60 servers 0
fresh
check "a mirror that lies starts" mirror 5002 5000 lies lies
check "with that" begun "$plain/some/app:1" mnt --mirror 127.0.0.1:5002
check "what is read is right" equals app mnt usr/bin
check "though the mirror was asked" grep -q /blobs/ lies
check "and somebody noticed" grep -q "checksum\|corrupt" "$store/log"
umount mnt
check "the server ends" within 60 servers 0

# --- with TLS and passwords ---------------------------------------------------------------------------------------------
{
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=authority -keyout ca.key -out ca.crt &&
        openssl req -newkey rsa:2048 -nodes -subj /CN=registry -keyout server.key -out server.csr &&
        printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\n' >extensions &&
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile extensions -out server.crt &&
        htpasswd -B -C 4 -bn someone secret >passwords
} >output 2>&1 || fail "keys and passwords" output
safe=127.0.0.1:5443
# Of the same images.
check "a registry with TLS and passwords starts" registry 5443 "$WORK/registry" \
    "  tls: {certificate: $WORK/server.crt, key: $WORK/server.key}" "auth: {htpasswd: {realm: registry, path: $WORK/passwords}}"
fresh
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=other -keyout other.key -out other.crt >output 2>&1 ||
    fail "another authority" output
refuses "an authority that is unknown" "invalid peer certificate" begun "$safe/some/app:1" mnt --ca-file other.crt
refuses "a file without certificates" "there are no certificates in it" begun "$safe/some/app:1" mnt --ca-file passwords
refuses "nobody without a password" "the answer is 401" begun "$safe/some/app:1" mnt --ca-file ca.crt
export REGISTRY_AUTH_FILE="$WORK/auth.json"
mkdir certificates && cp ca.crt certificates
skopeo login --cert-dir certificates -u someone -p secret "$safe" >output 2>&1 || fail "skopeo logs in" output
check "it is mounted with what skopeo knows" begun "$safe/some/app:1" mnt --ca-file ca.crt
check "and right" equals app mnt usr/bin
umount mnt
check "the server ends" within 60 servers 0
fresh
check "the registry as a mirror" begun "$plain/some/app:1" mnt -o "mirror=$safe,ca-file=ca.crt"
check "and what is read is right" equals app mnt usr/bin
umount mnt
check "the server ends" within 60 servers 0
fresh
mkdir "$store"
: >serve.out
SSL_CERT_FILE=ca.crt ferofs serve --deadline 100 "$store" "$safe/some/app:1" >serve.out 2>serve.err &
server=$!
check "serve, with an authority of the system's" within 60 grep -qx ready serve.out
check "a mount of what is served already" begun "$safe/some/app:1" mnt --ca-file ca.crt
check "needs nobody else" within 60 servers 0
check "and what is read is right" equals app mnt usr/bin
umount mnt
kill $server && wait $server

# --- where nothing is said --------------------------------------------------------------------------------------------------
mkdir -p /var/lib/ferofs "$WORK/lib" && mount --bind "$WORK/lib" /var/lib/ferofs
check "in the place for it" ferofs mount "$plain/some/app:1" mnt
check "which is for root alone" [ "$(stat -c %a /var/lib/ferofs/store)" = 700 ]
check "a program of it runs" mnt/usr/bin/busybox true
umount mnt
check "the server ends" within 60 servers 0
umount /var/lib/ferofs
umount reference.app reference.deep
# shellcheck disable=SC2086 # one word for each
kill $REGISTRIES
finish
