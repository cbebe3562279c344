#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# The part of tests/bench/containerd that runs in the virtual machine: what containerd costs with ferofs' snapshotter and
# differ, with its own erofs snapshotter and mkfs.erofs of erofs-utils, and with overlayfs. Prints lines
# `result ROW|KIND|MILLISECONDS|MEGABYTES WRITTEN|MORE`. /data has the images, and `options`: kinds and rows.

. "$FEROFS_TESTS/bench/containerd-lib.sh"
read -r KINDS </data/options
ROWS=$(sed -n 2p /data/options)
IMAGES=/data/images
read -r _ distinct files <"$IMAGES/sizes"
for module in erofs overlay xfs; do modprobe $module || exit 1; done
insmod "$FEROFS_KO" || exit 1
mkdir -p "$DISK" /etc/containerd ${SOCKET%/*} /run/view

# say ROW MORE: a result of what was measured last.
say() {
    echo "result $1|$kind|$spent|$written|$2"
}

# measured COMMAND...: sets $spent and $written (megabytes), the disk's writing included.
measured() {
    sync
    measured_sectors=$(sectors)
    measured_processor=$(processor)
    "$@" >/run/log 2>&1 || { echo "failed: $*"; tail -n 5 /run/log; }
    sync
    spent=$(($(processor) - measured_processor))
    written=$(awk "BEGIN { printf \"%.1f\", ($(sectors) - $measured_sectors) * 512 / 1000000 }")
}

import() {
    ctr images import --no-unpack "$IMAGES/$1.tar" >/dev/null
}

# unpack IMAGE: all its layers, with the differs in the order of the configuration.
unpack() {
    ctr snapshots unpack --snapshotter "$kind" "$(ctr images ls "name==local/$1:1" | awk 'NR == 2 { print $3 }')"
}

unpacking() {
    for file_system in ext4 xfs; do
        begin $file_system
        import plain
        measured unpack plain
        say "unpack plain, $file_system" "$(peak ${server:-$containerd})"
        end
    done
    begin ext4
    import gzip
    measured unpack gzip
    say "unpack gzip, ext4" "$(peak ${server:-$containerd})"
    end
}

# inflating: what gzip alone takes for the layers.
inflating() {
    kind=gzip
    python3 - $IMAGES/gzip.tar >/run/layers <<'END'
import json, sys, tarfile
with tarfile.open(sys.argv[1]) as tar:
    def load(digest):
        return json.load(tar.extractfile("blobs/" + digest.replace(":", "/")))
    for layer in load(json.load(tar.extractfile("index.json"))["manifests"][0]["digest"])["layers"]:
        print("blobs/" + layer["digest"].replace(":", "/"))
END
    tar -C /run -xf $IMAGES/gzip.tar -T /run/layers
    # One member after the other.
    measured sh -c "cat /run/blobs/sha256/* | gzip -dc >/dev/null"
    say "gzip -dc" ""
    rm -r /run/blobs
}

sharing() {
    begin ext4
    import plain
    for number in $(seq 0 19); do
        import "share-$number"
        unpack "share-$number" >/run/log 2>&1 || cat /run/log
    done
    for number in $(seq 0 19); do
        mkdir -p "/run/view/$number"
        ctr images mount --snapshotter "$kind" --platform linux/amd64 "local/share-$number:1" "/run/view/$number" >/run/log 2>&1 || cat /run/log
    done
    sync
    echo 3 >/proc/sys/vm/drop_caches
    find /run/view/0/own -type f -exec cat {} + >/dev/null
    echo 3 >/proc/sys/vm/drop_caches
    before=$(cached)
    measured sh -c "find /run/view -type f -exec cat {} + >/dev/null"
    say "read 20 images" "$(awk "BEGIN { printf \"%.1f MB cached, %.2f of the layers\", ($(cached) - $before) * 1024 / 1e6, ($(cached) - $before) * 1024 / $distinct }")"
    for number in $(seq 0 19); do ctr images unmount --rm --snapshotter "$kind" "/run/view/$number" >/dev/null 2>&1; done
    end
}

removing() {
    begin ext4
    import many
    measured unpack many
    say "unpack $files files" "$(peak ${server:-$containerd})"
    measured ctr images rm --sync local/many:1
    say "remove $files files" ""
    end
}

running() {
    begin ext4
    for steps in 20 100; do
        import "steps$steps"
        unpack "steps$steps" >/run/log 2>&1 || cat /run/log
        before=$(grep -c . /proc/self/mounts)
        measured ctr run --rm --snapshotter "$kind" "local/steps$steps:1" first /bin/busybox true
        say "first run, $steps layers" ""
        for try in 1 2 3 4 5; do
            measured ctr run --rm --snapshotter "$kind" "local/steps$steps:1" again /bin/busybox true
            say "run $try, $steps layers" ""
        done
        ctr run -d --snapshotter "$kind" "local/steps$steps:1" mounts /bin/busybox sleep 100000 >/run/log 2>&1
        spent=
        written=
        say "mounts, $steps layers" $(($(grep -c . /proc/self/mounts) - before))
        ctr tasks kill -s KILL mounts >/dev/null 2>&1
        sleep 1
        ctr tasks rm -f mounts >/dev/null 2>&1
        ctr containers rm mounts >/dev/null 2>&1
    done
    end
}

for row in $ROWS; do
    case $row in
    inflating) inflating ;;
    *) for kind in $KINDS; do $row; done ;;
    esac
done
cp /run/*.log "$FEROFS_OUT"
