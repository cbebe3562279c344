#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# slow: yes
# timeout: 300
#
# Others are at work while `ferofs` is: system calls are held up by strace, and names are swapped, files changed and
# signals sent meanwhile. What was verified is what is mounted; a signal leaves nothing behind, a full disk
# nothing half written.

. "$FEROFS_TESTS/lib.sh"

# while_held CALL NUMBER COMMAND...: starts a command in the background whose NUMBER-th call of CALL begins late by
# $held_for seconds, and waits until it is held up.
held_for=2
while_held() {
    held_call=$1
    held_number=$2
    shift 2
    rm -f trace
    strace -f -qq -o trace -e "trace=$held_call" -e "inject=$held_call:delay_enter=${held_for}000000:when=$held_number" "$@" \
        >held.out 2>&1 &
    held=$!
    for _ in $(seq 200); do
        # A call is written down when it begins.
        held_count=$(grep -c "$held_call" trace 2>/dev/null)
        [ "${held_count:-0}" -ge "$held_number" ] && return
        sleep 0.05
    done
}

mkdir files mnt blobs
head -c 200000 /dev/urandom >files/data
echo right >files/text
tar -cf right.tar -C files .
cp right.tar wrong.tar
# Of the same size, with other data.
python3 - <<'END'
data = bytearray(open("wrong.tar", "rb").read())
at = data.index(b"right\n")
data[at : at + 6] = b"wrong\n"
open("wrong.tar", "wb").write(data)
END
ferofs build --digest -o image.erofs right.tar
hex=$(sha256sum right.tar | cut -d ' ' -f 1)

for fs in ferofs erofs; do
    ln -f right.tar "blobs/$hex"
    while_held fsconfig 1 ferofs mount --fs $fs --verify --blobs blobs image.erofs mnt
    cp wrong.tar other && mv other "blobs/$hex"
    check "$fs: a verified blob is mounted whatever has its name by then" wait $held
    check "$fs: it has the right data" grep -qx right mnt/text
    check "$fs: all of it" cmp files/data mnt/data
    umount mnt
done
refuses "the wrong one is found" "its sha256 is" ferofs mount --verify --blobs blobs image.erofs mnt

# A layer that is swapped between the cache's looking at it and the mount.
mkdir -p app/blobs/sha256
python3 - <<'END'
import gzip, hashlib, json

def put(kind, data):
    digest = hashlib.sha256(data).hexdigest()
    open("app/blobs/sha256/" + digest, "wb").write(data)
    return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(data)}

tar = open("right.tar", "rb").read()
ids = ["sha256:" + hashlib.sha256(tar).hexdigest()]
layer = put("layer.v1.tar+gzip", gzip.compress(tar, 1))
config = {"os": "linux", "architecture": "any", "rootfs": {"type": "layers", "diff_ids": ids}}
config = put("config.v1+json", json.dumps(config).encode())
image = put("manifest.v1+json", json.dumps({"config": config, "layers": [layer]}).encode())
open("app/index.json", "w").write(json.dumps({"manifests": [image]}))
open("app/oci-layout", "w").write('{"imageLayoutVersion":"1.0.0"}')
END
for what in new verified; do
    while_held fsconfig 1 ferofs mount --verify --cache cache oci:app mnt
    cp wrong.tar other && mv other "cache/$hex.tar"
    check "a $what layer is mounted whatever has its name by then" wait $held
    check "a $what layer: it has the right data" grep -qx right mnt/text
    umount mnt
    cp right.tar other && mv other "cache/$hex.tar"
done

# A signal when all is written and only the name is missing.
for signal in INT:130 TERM:143 HUP:129; do
    code=${signal#*:}
    signal=${signal%:*}
    for call in fsync linkat renameat; do
        # On a busy machine the signal may come after the delay: then again, with a longer one.
        for held_for in 2 10 30; do
            rm -rf empty
            mkdir empty
            while_held $call 1 ferofs build -o empty/image right.tar
            pkill -"$signal" -x ferofs
            # The call's line has its result when the call is over.
            over=$(grep -c "$call.* = " trace)
            wait $held
            exited=$?
            [ "$over" = 0 ] && break
        done
        held_for=2
        check "SIG$signal in $call: the exit code" [ "$exited" = "$code" ]
        # The rename may have been under way.
        check "SIG$signal in $call: nothing is left" sh -c '! find empty -type f ! -name image | grep .'
        if [ -e empty/image ]; then check "SIG$signal in $call: the image is whole" ferofs check --quiet empty/image; fi
        rm -rf empty
    done
done

# A disk that is full.
mkdir small
mount -t tmpfs -o size=128k small small
mkdir many
for number in $(seq 4000); do echo "$number" >"many/a-name-of-some-length-$number"; done
tar -cf many.tar -C many .
echo old >small/old
for arguments in "-o small/new many.tar" "-o small/old many.tar" "-o small/new --mode=full many.tar" \
    "-o small/new --tar-out small/new.tar many.tar" "-o small/new many"; do
    # shellcheck disable=SC2086
    refuses "a full disk: build $arguments" "No space left" ferofs build $arguments
    check "a full disk: nothing is left" sh -c '! find small -type f ! -name old | grep . && grep -qx old small/old'
done
umount small

finish
