#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 600
#
# Indexes of the layers of images, stored in Debian's docker-registry beside the images that skopeo brings there, and got
# from it: once without encryption, once with TLS and passwords.

# shellcheck disable=SC2317 # `check` calls the functions
. "$FEROFS_TESTS/peers/lib/peers.sh"
versions docker-registry skopeo
images
ip link set lo up
layout=$SHARED/images/layout

# built NAME: makes the indexes of an image in the directory NAME.built.
built() {
    ferofs build -q -o "$1.built" "oci:$layout:$1:1"
}

# equal ONE OTHER: whether two directories have the same indexes, and any.
equal() {
    for index in "$1"/*.erofs; do cmp "$index" "$2/${index##*/}" || return; done
    [ "$(find "$1" -name '*.erofs' | wc -l)" = "$(find "$2" -name '*.erofs' | wc -l)" ]
}

# changed FILE: writes over a byte in the middle of it.
changed() {
    printf '\377' | dd of="$1" bs=1 seek=$(($(wc -c <"$1") / 2)) conv=notrunc status=none
}

# --- without encryption -------------------------------------------------------------------------------------------------
plain=127.0.0.1:5000
check "a registry starts" registry 5000 "$WORK/registry-5000"
for image in app deep kinds; do
    check "skopeo brings $image there" skopeo --insecure-policy copy --preserve-digests --dest-tls-verify=false \
        "oci:$layout:$image:1" "docker://$plain/some/$image:1"
    check "the indexes of $image are made" built $image
    refuses "there are none of $image yet" "has no index of the layer" ferofs pull-index -o $image.early "$plain/some/$image:1"
    check "nothing is left of the try" [ ! -e $image.early ]
    check "those of $image are pushed" ferofs push-index --layers $image.built "$plain/some/$image:1"
    cp output first
    check "and again" ferofs push-index --layers $image.built "$plain/some/$image:1"
    cp output second
    check "which is the same artifact" cmp first second
    check "those of $image are pulled" ferofs pull-index -o $image.pulled "$plain/some/$image:1"
    check "and are what was made" equal $image.built $image.pulled
    check "those of $image are pulled and compared with the tars" ferofs pull-index -o $image.verified --verify \
        --blobs $image.built "$plain/some/$image:1"
    check "and are what was made, too" equal $image.built $image.verified
done
check "skopeo still gets the image" skopeo --insecure-policy copy --src-tls-verify=false "docker://$plain/some/app:1" oci:again:app
check "ferofs mounts an image with indexes that were pulled" sh -c \
    "cp app.built/*.tar app.pulled && ferofs build -q -o app.pulled --merge app.erofs oci:$layout:app:1 && mkdir mnt &&
    ferofs mount --blobs app.pulled app.erofs mnt && mnt/usr/bin/busybox true && ferofs umount mnt"

refuses "an image that is not there" "there is no such image" ferofs pull-index -o none "$plain/some/none:1"
refuses "indexes of another image" "No such file" ferofs push-index --layers app.built "$plain/some/deep:1"
cp -r app.built damaged
for index in damaged/*.erofs; do changed "$index"; done
refuses "damaged indexes are not pushed" "damaged/" ferofs push-index --layers damaged "$plain/some/app:1"
rm damaged/*.tar
check "damaged indexes are replaced by those of the registry" ferofs pull-index -o damaged "$plain/some/app:1"
check "which are what was made" equal app.built damaged
find registry-5000/docker/registry/v2/blobs -name data -size -4M >blobs
while read -r blob; do
    if [ "$(od -An -N4 -tx1 "$blob" | tr -d ' ')" = 28b52ffd ]; then changed "$blob"; fi
done <blobs
refuses "what the registry's disk made of them is not taken" "its digest is" ferofs pull-index -o lost "$plain/some/app:1"
check "and nothing is left of it" [ ! -e lost ]

# --- with TLS and passwords ---------------------------------------------------------------------------------------------
{
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=authority -keyout ca.key -out ca.crt &&
        openssl req -newkey rsa:2048 -nodes -subj /CN=registry -keyout server.key -out server.csr &&
        printf 'subjectAltName=IP:127.0.0.1,DNS:localhost\n' >extensions &&
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile extensions -out server.crt &&
        htpasswd -Bbn someone secret >passwords
} >output 2>&1 || fail "keys and passwords" output
safe=127.0.0.1:5443
check "a registry with TLS and passwords starts" registry 5443 "$WORK/registry-5443" \
    "  tls: {certificate: $WORK/server.crt, key: $WORK/server.key}" "auth: {htpasswd: {realm: registry, path: $WORK/passwords}}"
mkdir certificates && cp ca.crt certificates
check "skopeo brings app there" skopeo --insecure-policy copy --preserve-digests --dest-cert-dir certificates \
    --dest-creds someone:secret "oci:$layout:app:1" "docker://$safe/some/app:1"
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=other -keyout other.key -out other.crt >output 2>&1 ||
    fail "another authority" output
refuses "an authority that is unknown" "invalid peer certificate" env SSL_CERT_FILE="$WORK/other.crt" ferofs push-index --layers app.built "$safe/some/app:1"
export SSL_CERT_FILE="$WORK/ca.crt"
refuses "nobody without a password" "the answer is 401" ferofs push-index --layers app.built "$safe/some/app:1"
export REGISTRY_AUTH_FILE="$WORK/auth.json"
skopeo login --cert-dir certificates -u someone -p secret "$safe" >output 2>&1 || fail "skopeo logs in" output
check "the indexes of app are pushed with what skopeo knows" ferofs push-index --layers app.built "$safe/some/app:1"
check "and pulled" ferofs pull-index -o app.safe "$safe/some/app:1"
check "and are what was made" equal app.built app.safe
check "by the machine's name, too" sh -c "sed 's/$safe/localhost:5443/' auth.json >other.json &&
    REGISTRY_AUTH_FILE=other.json ferofs pull-index -o app.named localhost:5443/some/app:1"
check "and are what was made" equal app.built app.named
printf '{"auths": {"%s": {"auth": "%s"}}}' "$safe" "$(printf someone:wrong | base64)" >auth.json
refuses "a wrong password" "the answer is 401" ferofs pull-index -o denied "$safe/some/app:1"
check "nothing is left of the try" [ ! -e denied ]

# shellcheck disable=SC2086 # one word for each
kill $REGISTRIES
finish
