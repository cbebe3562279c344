#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# image: peers
# slow: yes
# timeout: 2400
#
# An unmodified containerd with ferofs' snapshotter and differ: layers of every form, containers of 2, 100 and 500 layers,
# trees as containerd's overlayfs snapshotter shows them, what containers changed as a layer, errors as containerd has them,
# a server that is killed in the middle, at random while 50 containers start, and while they run, mounts that are gone, a full
# disk, and nothing left. SEED repeats the moments at which it is killed.

# shellcheck disable=SC2317 # `check` calls the functions
SNAPSHOTTER=ferofs
. "$FEROFS_TESTS/peers/lib/containerd.sh"
. "$FEROFS_TESTS/peers/lib/proxied.sh"
versions containerd runc
images
modprobe overlay

# What the server is and how it is started. With DIFFER=walking and a program in its place that only has the snapshotter
# of overlayfs (that of tests/vm/make-suite), the script shows what of it is true of that one.
SERVER=${SERVER:-containerd-ferofs-grpc}
DIFFER=${DIFFER:-ferofs-diff}
serve() {
    mkdir -p "${SOCKET%/*}"
    # shellcheck disable=SC2086 # it may be none
    "$SERVER" $CONFIG --root $ROOT --address $SOCKET --log-level info >>"$WORK/server.log" 2>&1 &
    SERVED=$!
    within 60 answers
}

# again: starts it while containerd runs, which tries to reach it now and then only.
again() {
    serve && within 60 snapshots ls
}

answers() {
    python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])' "$SOCKET"
}

unserve() {
    kill "${1:--TERM}" "$SERVED"
    wait "$SERVED" 2>/dev/null
}

proxied "$DIFFER" walking

# Where that is: a short path, since mountinfo has it once for each layer, and 500 are to fit into a line.
STATE=/srv/state

# on IMAGE: both have their state on one mount of a disk, as in /var/lib. The disk itself is not cached.
on() {
    on_device=$(losetup -f --show --direct-io=on "$1") && mkdir -p "$STATE" && mount "$on_device" "$STATE" &&
        losetup -d "$on_device" && mkdir -p "$STATE/containerd" "$STATE/ferofs" &&
        rm -rf /var/lib/containerd $ROOT && ln -s "$STATE/containerd" /var/lib/containerd &&
        ln -s "$STATE/ferofs" $ROOT
}

off() {
    umount "$STATE"
}

snapshots() {
    ctr snapshots --snapshotter ferofs "$@"
}

import() {
    ctr images import --snapshotter ferofs "$SHARED/images/$1.tar"
}

# started IMAGE NAME: starts a container that waits.
started() {
    ctr run -d --snapshotter ferofs "local/$1" "$2" /bin/busybox sleep 100000
}

# ended [-n NAMESPACE] NAME: kills and removes it, with its snapshot.
ended() {
    ended_in=default
    if [ "$1" = -n ]; then ended_in=$2 && shift 2; fi
    ctr -n "$ended_in" tasks kill --signal KILL "$1" || return
    within 60 sh -c "ctr -n $ended_in tasks ls | grep -q '^$1 .*STOPPED'" && ctr -n "$ended_in" tasks rm "$1" &&
        ctr -n "$ended_in" containers rm "$1"
}

# rootfs NAME: where a container's root directory is mounted.
rootfs() {
    echo "/run/containerd/io.containerd.runtime.v2.task/default/$1/rootfs"
}

# unmounted, unused: whether nothing of the server's is mounted, and nobody uses the module.
unmounted() {
    ! mounted_below "$ROOT/" && ! mounted_below "$STATE/ferofs/" && ! mounted_below ' /run/containerd/'
}

unused() {
    [ "$(users)" = 0 ]
}

# emptied: whether nothing is left with the server but its database.
emptied() {
    find "$ROOT/" -type f ! -name metadata.redb
    [ -z "$(find "$ROOT/" -type f ! -name metadata.redb)" ]
}

# left NUMBER: whether so many snapshots are there.
left() {
    [ "$(snapshots ls | wc -l)" = $(($1 + 1)) ]
}

used_space() {
    sync
    df --output=used -k "$STATE" | tail -n 1
}

# --- layers of all forms ------------------------------------------------------------------------------------------------
# With fs-verity, for who wants it.
modprobe loop
truncate -s 4G state.img
check "a disk is made" mkfs.ext4 -q -b 4096 -O verity state.img
on state.img || exit 1
check "the server starts" serve
check "containerd starts" start
MAKER=ferofs
for image in app deep kinds; do check "$image is imported" import $image; done
snapshots ls >listed
# 100 of deep:1, one more of app:1, five of kinds:1, whose first two are those of app:1.
check "each chain of layers is one snapshot ($(grep -c Committed listed))" [ "$(grep -c Committed listed)" = 106 ]
check "no layer was unpacked" [ -z "$(find "$ROOT/" -xdev -name 'step-*' -o -xdev -name 'n*nnn')" ]
check "python prints in a container of 2 layers" prints hello run app:1 two /usr/bin/python3 -c 'print("hello")'
check "and in one of 100 layers" prints 99 run deep:1 hundred /usr/bin/python3 -c \
    'print(open("/steps/newest").read(), end="")'
for image in app:1 deep:1 kinds:1; do
    mounts_of $image
    same "$image is what the overlayfs snapshotter shows" $image.overlayfs "$MAKER.$image.ferofs" --ignore blocks
done

check "a container is started" started deep:1 long
check "ferofs is what is mounted" [ "$(users)" -gt 0 ]
grep -c ' ferofs ' /proc/self/mounts >before
check "another one of the same image is started" started deep:1 longer
grep -c ' ferofs ' /proc/self/mounts >after
check "one mount of ferofs is enough for both ($(cat before after | tr '\n' ' '))" cmp before after
check "and what a container has is one overlay" sh -c "grep -F '$(rootfs long)' /proc/self/mounts | cut -d ' ' -f 3 | grep -qx overlay"
check "it is removed" ended longer

# --- errors, labels, usage ----------------------------------------------------------------------------------------------
top=$(snapshots ls | awk '/Committed/ && $2 != "" { parents[$2] } /Committed/ { all[$1] } END { for (name in all) if (!(name in parents)) print name }' | head -n 1)
middle=$(snapshots ls | awk '/Committed/ && $2 ~ /^sha256/ { print $2; exit }')
refuses "what is not there is not found" 'not found\|does not exist' snapshots info nothing
refuses "nor mounted" 'not found\|does not exist' snapshots mounts /mnt nothing
refuses "nor prepared from" 'not found\|does not exist' snapshots prepare another nothing
refuses "nor removed" 'not found\|does not exist' snapshots rm nothing
check "a snapshot is prepared" snapshots prepare mine "$top"
refuses "not twice" 'already exists' snapshots prepare mine "$top"
refuses "a parent that is not committed is none" 'not committed\|expected a committed' snapshots prepare another mine
refuses "one with children stays" 'failed precondition\|cannot remove snapshot with child' snapshots rm "$middle"
check "a view is made" snapshots view look "$top"
mkdir -p view
snapshots mounts "$WORK/view" look >mount.command 2>output
check "what shall be mounted can be" sh mount.command
refuses "and not be written" 'Read-only file system' touch view/new
umount view
check "the view is removed" snapshots rm look
check "a label is set" snapshots label mine color=blue
check "and there" sh -c 'ctr snapshots --snapshotter ferofs info mine | grep -q "\"color\": \"blue\""'
check "and can be found by" sh -c 'ctr snapshots --snapshotter ferofs ls >all && grep -q "^mine " all'
snapshots mounts "$WORK/view" mine >mount.command 2>output
check "what was prepared is mounted" sh mount.command
dd if=/dev/zero of=view/new bs=1M count=3 status=none
umount view
snapshots usage mine >counted 2>&1
check "what was written is counted" grep -Eq '^mine +3(\.[0-9]+)? MiB' counted
check "it is committed" snapshots commit settled mine
refuses "and is mine no more" 'not found\|does not exist' snapshots info mine
check "and is removed" snapshots rm settled

# --- 500 layers, unpacked by a client that says for which layer a snapshot is by the key alone ------------------------------
check "500 layers are fetched" ctr images import --no-unpack "$SHARED/images/tall.tar"
tall=$(ctr images ls name==local/tall:1 | awk 'NR == 2 { print $3 }')
grep -c ' ferofs ' /proc/self/mounts >before
check "and unpacked" ctr snapshots unpack --snapshotter ferofs "$tall"
grep -c ' ferofs ' /proc/self/mounts >after
check "nothing is mounted for that ($(cat before after | tr '\n' ' '))" cmp before after
check "a container of 500 layers starts" started tall:1 tall
grep -c ' ferofs ' /proc/self/mounts >after
check "it has one mount of ferofs ($(cat before after | tr '\n' ' '))" [ $(($(cat after) - $(cat before))) = 1 ]
check "and the last layer's file" prints 499 ctr tasks exec --exec-id newest tall /bin/busybox cat /steps/newest
check "and one of each layer" prints 500 ctr tasks exec --exec-id count tall /bin/busybox sh -c 'set -- /steps/*; echo $#'
# What reads this by Go's bufio.Scanner takes lines of 65536 bytes.
longest=$(awk 'length > most { most = length } END { print most }' /proc/self/mountinfo)
check "what is said of its mount fits a line of others ($longest bytes)" [ "$longest" -lt 65536 ]
check "it is removed" ended tall
check "and the image" ctr images rm --sync local/tall:1

# --- what a container changed, as a layer -------------------------------------------------------------------------------
check "a container is started to be changed" started app:1 work
# edits: in the container's root directory, every kind of change. All times are whole seconds, for that is what
# containerd's own differ keeps.
edits() {
    (
        cd "$(rootfs work)" || exit
        echo more >>srv/kept/0 && rm srv/kept/2 && rm -r srv/opaque && mkdir srv/opaque && echo new >srv/opaque/other &&
            rm -r srv/long && chmod 600 srv/suid && chown 12:34 srv/empty && rm srv/attributes && mkdir srv/attributes &&
            rm -r srv/becomes-directory && echo file >srv/becomes-directory && mkdir -m 1777 srv/new &&
            echo linked >srv/new/one && ln srv/new/one srv/new/two && ln -s ../kept srv/new/link && mkfifo srv/new/fifo &&
            mknod srv/new/null c 1 3 && setfattr -n user.test -v value srv/new/one && truncate -s 3000001 srv/new/sparse &&
            echo long >"srv/new/$(printf '%0255d' 7)" && echo text >"srv/new/ünï" && echo end | dd of=srv/large bs=1 seek=99 conv=notrunc status=none &&
            mkdir -p srv/new/a/b/c && touch srv/new/a/b/c/d && mkdir srv/new/empty && mv srv/kept/0 srv/new/moved || exit
        find . -newermt @1700000001 -exec touch -h -d @1710000000 {} +
    )
}
check "it is changed" edits
ferofs-testkit manifest --xattrs "$(rootfs work)" | sed '1s/ mtime=[^ ]*//' >changed
# ctr's media type, and what the layer begins with.
for form in tar:7372762f tar+gzip:1f8b tar+zstd:28b52ffd; do
    media=application/vnd.oci.image.layer.v1.${form%:*}
    if ! snapshots diff --media-type "$media" work >layer 2>output; then
        fail "the changes are a layer: $media" output
        continue
    fi
    check "the changes are a layer: $media" sh -c "od -An -tx1 -N 16 layer | tr -d ' \n' | grep -Eq '^(${form#*:}|2e2f|737276)'"
    python3 "$FEROFS_TESTS/peers/lib/images.py" --add "$SHARED/images/layout" app:1 layer "changed-${form%:*}:1" changed.tar >output 2>&1 ||
        fail "an image with it" output
    for kind in overlayfs ferofs; do
        check "an image with it is imported by $kind" ctr images import --snapshotter $kind changed.tar
        viewed $kind "changed-${form%:*}:1" "changed.$kind"
        same "and shows with $kind what the container showed" changed "changed.$kind" --ignore blocks
    done
    check "it is removed" ctr images rm --sync "local/changed-${form%:*}:1"
done
check "the changed container is removed" ended work

# --- a server that goes away ------------------------------------------------------------------------------------------
unserve -KILL
pid=$(pgrep -f 'busybox sleep 100000')
echo 3 >/proc/sys/vm/drop_caches
check "what runs goes on without the server" grep -qx 99 "/proc/$pid/root/steps/newest"
check "also with new programs" prints again ctr tasks exec --exec-id second long /bin/busybox echo again
check "a container cannot start meanwhile" sh -c '! ctr run --rm --snapshotter ferofs local/app:1 none /bin/busybox true'
check "the server starts again" again
check "and a container then" prints hello run app:1 two /usr/bin/python3 -c 'print("hello")'
unserve
check "it ends on SIGTERM, and what runs goes on" grep -qx 99 "/proc/$pid/root/steps/newest"
check "it starts once more" again
check "all snapshots are there" [ "$(snapshots ls | grep -c Committed)" = 106 ]
check "the changed files of a container are, too" prints 99 ctr tasks exec --exec-id third long /bin/busybox cat /steps/newest

# killed_at: the server is killed at some time while an image is imported, and then does it all.
for image in deep kinds; do
    check "$image is removed" ctr images rm --sync "local/$image:1"
done
ended long >output 2>&1 || fail "the container is removed" output
check "then two snapshots are left" within 60 left 2
for delay in 0.5 1 1.5 2 3; do
    import kinds >import.log 2>&1 &
    importer=$!
    sleep $delay
    unserve -KILL
    again || fail "the server starts after it was killed" server.log
    wait $importer
    ctr images rm --sync local/kinds:1 >output 2>&1
done
check "after it was killed in the middle, an image is imported" import kinds
rm -f "ferofs.kinds:1.ferofs"
mounts_of kinds:1
same "and is what it was" kinds:1.overlayfs ferofs.kinds:1.ferofs --ignore blocks
check "it is removed" ctr images rm --sync local/kinds:1
check "an image of 100 layers is imported" import deep

# While 50 containers start and end, eight at a time: who does not get to start is started again.
# insist NUMBER: until the container prints what it should.
insist() {
    for insist_try in $(seq 1 30); do
        ctr run --rm --snapshotter ferofs local/deep:1 "many-$1" /bin/busybox sh -c "read newest </steps/newest; echo \$newest $1" \
            >"many.$1" 2>&1
        grep -qx "99 $1" "many.$1" && echo "$insist_try" >"tries.$1" && return
        cat "many.$1" >>many.failed
        for insist_what in "tasks rm -f" "containers rm" "snapshots --snapshotter ferofs rm"; do
            # shellcheck disable=SC2086 # they are words
            ctr $insist_what "many-$1"
        done >/dev/null 2>&1
        sleep 0.5
    done
}
SEED=${SEED:-$(date +%s)}
committed=$(snapshots ls | grep -c Committed)
(
    for lane in 0 1 2 3 4 5 6 7; do
        (for number in $(seq $((lane + 1)) 8 50); do insist "$number"; done) &
    done
    wait
) &
starting=$!
kills=0
moments=$(awk -v seed="$SEED" 'BEGIN { srand(seed); for (moment = 0; moment < 10; moment++) printf "%.2f\n", rand() * 5 }')
for delay in $moments; do
    sleep "$delay"
    kill -0 $starting 2>/dev/null || break
    unserve -KILL
    kills=$((kills + 1))
    serve || fail "the server starts after it was killed" server.log
done
wait $starting
within 60 snapshots ls
check "50 containers started, with the server killed $kills times meanwhile (seed $SEED)" [ "$(cat tries.* | wc -l)" = 50 ]
check "some of them not at once ($(cat tries.* | awk '{ sum += $1 } END { print sum }') tries)" grep -qvx 1 tries.*
sort many.failed | sed 's/many-[0-9]*/many-N/g' | cut -c 1-120 | uniq -c | sort -rn | head -n 5 | sed 's/^/# /'
# What did not start or could not be removed is removed now.
for number in $(seq 1 50); do
    ctr tasks rm -f "many-$number"
    ctr containers rm "many-$number"
    snapshots rm "many-$number"
done >output 2>&1
check "what nobody has is removed" ctr content prune references
check "no snapshot of them is left" within 60 left "$committed"
check "all that is left on disk is known" [ "$(find $ROOT/snapshots/ -mindepth 1 -maxdepth 1 | wc -l)" = "$committed" ]
check "and nothing is to be removed" prints "removed 0 files, 0 bytes" containerd-ferofs-grpc store gc
check "all layers are what they were" containerd-ferofs-grpc store verify
check "nothing of them is mounted" [ -z "$(grep -F '/many-' /proc/self/mounts)" ]
check "no more is mounted than there are images" [ "$(grep -c ' ferofs ' /proc/self/mounts)" -le 2 ]
check "nor does anything of them run" [ -z "$(pgrep -f 'many-[0-9]')" ]

# --- the machine starts again -------------------------------------------------------------------------------------------
check "a container is started" started deep:1 before
pkill -KILL -f containerd-shim
pkill -KILL -f 'busybox sleep 100000'
stop -KILL
unserve -KILL
# Of what is mounted nothing outlives a reboot, and nothing of /run.
awk '{ print $2 }' /proc/self/mounts | grep -e '^/run/containerd' -e "^$ROOT/" -e "^$STATE/ferofs/" | sort -r | while read -r mount; do umount "$mount"; done
rm -rf /run/containerd /run/containerd-ferofs-grpc
check "after a restart nothing is mounted" unmounted
check "the server starts" serve
check "containerd starts" start
check "an image is mounted again" prints 99 run deep:1 hundred /usr/bin/python3 -c 'print(open("/steps/newest").read(), end="")'
check "a container from before is there" sh -c 'ctr containers ls | grep -q "^before "'
check "and starts" sh -c 'ctr tasks start -d before && ctr tasks ls | grep -q "^before .*RUNNING"'
check "and is removed" ended before

# --- namespaces ---------------------------------------------------------------------------------------------------------
# Not of the disk: containerd may have given up what it had fetched, and fetch it again.
used_before=$(du -skx $STATE/ferofs | cut -f 1)
check "another namespace imports an image" ctr -n other images import --snapshotter ferofs "$SHARED/images/app.tar"
check "and another" ctr -n other images import --snapshotter ferofs "$SHARED/images/deep.tar"
sync
used_after=$(du -skx $STATE/ferofs | cut -f 1)
check "its layers are not there twice ($used_before KiB, $used_after KiB)" [ $((used_after - used_before)) -lt 4096 ]
ctr images rm --sync local/deep:1 >output 2>&1 || fail "the first namespace removes it" output
check "and it runs there when the first has removed it" prints 99 ctr -n other run --rm --snapshotter ferofs local/deep:1 hundred \
    /usr/bin/python3 -c 'print(open("/steps/newest").read(), end="")'
check "app is removed" ctr images rm --sync local/app:1
for image in app deep; do check "$image is removed from the other namespace" ctr -n other images rm --sync "local/$image:1"; done

# --- layers that are no good --------------------------------------------------------------------------------------------
for image in short wrong text; do
    check "$image is not imported" sh -c "! ctr images import --snapshotter ferofs '$SHARED/images/$image.tar'"
    sed 's/^/# /' output | tail -n 2 | cut -c 1-300
    ctr images rm --sync "local/$image:1" >output 2>&1
done

# --- nothing stays behind -----------------------------------------------------------------------------------------------
check "no snapshot is left" within 60 left 0
check "nothing is left mounted" within 30 unmounted
check "nobody uses the module" unused
check "and no layer is left" emptied

# --- a full disk --------------------------------------------------------------------------------------------------------
unserve
truncate -s 20M small.img
mkfs.ext4 -q small.img
check "a small disk is mounted" mount -o loop small.img $ROOT
check "the server starts on a small disk" again
check "an image that does not fit is not imported" sh -c "! ctr images import --snapshotter ferofs '$SHARED/images/app.tar' >full 2>&1"
check "containerd says why" grep -q 'o space left' full
ctr images rm --sync local/app:1 >output 2>&1
check "no snapshot is left" within 60 left 0
check "and no layer" emptied
unserve
umount $ROOT || fail "the small disk is unmounted"

# --- a file system with reflinks ----------------------------------------------------------------------------------------
stop
for kind in overlayfs ferofs; do umount -R /run/containerd/$kind 2>/dev/null; done
off || fail "the disk is unmounted"
truncate -s 2G xfs.img
modprobe xfs
check "a disk of XFS is made" mkfs.xfs -q xfs.img
on xfs.img || exit 1
check "the server starts on XFS" serve
check "containerd starts" start
used_before=$(used_space)
check "deep is fetched" ctr images import --no-unpack "$SHARED/images/deep.tar"
check "app is imported" import app
size=$((($(stat -c %s "$SHARED/images/app.tar") + $(stat -c %s "$SHARED/images/deep.tar")) / 1024))
used_after=$(used_space)
# The first layer of app:1 is plain, the second small.
check "a plain layer is not copied ($((used_after - used_before)) KiB for $size KiB)" [ $((used_after - used_before)) -lt $((size * 13 / 10)) ]
check "python prints" prints hello run app:1 two /usr/bin/python3 -c 'print("hello")'
for image in app deep; do check "$image is removed" ctr images rm --sync "local/$image:1"; done
check "nothing is left mounted" within 60 unmounted
unserve

# --- equal files of images that share no layer ----------------------------------------------------------------------------
mkdir sharing
printf '[snapshots]\nshare_domain = "containers"\n' >sharing.toml
CONFIG="--config $WORK/sharing.toml"
check "the server starts with a domain" again
head -c 30000000 /dev/urandom >sharing/same
for name in one two; do
    echo $name >sharing/own
    tar -C sharing -cf layer same own
    check "an image is made" python3 "$FEROFS_TESTS/peers/lib/images.py" --add "$SHARED/images/layout" app:1 layer "sharing-$name:1" sharing.tar
    check "it is imported" ctr images import --snapshotter ferofs sharing.tar
    check "a container of it starts" started "sharing-$name:1" "sharing-$name"
done
check "both are mounted in one domain" sh -c "[ \"\$(grep -c ' ferofs .*inode_share=verify' /proc/mounts)\" -ge 2 ]"
same_of() { ctr tasks exec --exec-id "read-$$-$(date +%N)" "sharing-$1" /bin/busybox sha256sum /same | cut -d' ' -f 1; }
# A file joins others when it was opened once, and its own bytes were hashed.
for name in one two; do same_of $name >output 2>&1; done
echo 3 >/proc/sys/vm/drop_caches
check "the first reads it" prints "$(sha256sum <sharing/same | cut -d' ' -f 1)" same_of one
before=$(cached)
check "the second reads it" prints "$(sha256sum <sharing/same | cut -d' ' -f 1)" same_of two
near "it is cached once" $(($(cached) - before)) 0 10000
for name in one two; do
    ctr tasks rm -f "sharing-$name" >output 2>&1
    ctr containers rm "sharing-$name" >output 2>&1
    check "the image is removed" ctr images rm --sync "local/sharing-$name:1"
done
check "nothing is left mounted" within 60 unmounted
unserve
stop
off || fail "the disk is unmounted"
check "the module can be removed" rmmod ferofs
grep -E 'level=(error|fatal)' containerd.log | grep -v -e 'context canceled' -e 'connection refused' | tail -n 5 | cut -c 1-300 | sed 's/^/# /'
finish
