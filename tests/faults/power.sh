#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# slow: yes
# timeout: 900
#
# The power goes while the commands write: all writes to a disk are recorded, and played afterwards to many a moment
# (lib/power.py). On what is there then each file is the old one or the whole new one, and what a command had said it wrote
# is there. So for block devices that images are written to.

. "$FEROFS_TESTS/lib.sh"
modprobe -q loop
modprobe -q dm-log-writes || { echo "ok - $SCRIPT: skipped: this kernel has no dm-log-writes"; exit 0; }
SEED=${SEED:-1}
MOST=${MOST:-8}

# What is not recorded: the inputs.
ferofs-testkit gen-tar tree,sizes plain.tar --files 60 --seed 1
ferofs-testkit gen-tar tree,sizes other.tar --files 50 --seed 2
unpack plain.tar source
mkdir change && seq 1 20000 >change/numbers && tar -C change -cf change.tar .
gzip -c plain.tar >plain.tar.gz
python3 "$FEROFS_TESTS/mount/lib/layout.py" layout plain.tar change.tar
mkdir tools && ln -s "$(command -v ferofs)" tools/mkfs.ferofs
mkdir upper && seq 1 9000 >upper/new

# recorded TYPE DISK: makes a device of the disk of which writes are recorded, $DEVICE.
DISKS=/dev/shm/ferofs-power
rm -rf $DISKS && mkdir $DISKS
recorded() {
    cp --sparse=always "$2" "$2.base"
    truncate -s 600M $DISKS/log
    DATA=$(losetup -f --show "$2") && LOG=$(losetup -f --show $DISKS/log) || exit 1
    dm create power --table "0 $(blockdev --getsz "$DATA") log-writes $DATA $LOG" || exit 1
    DEVICE=/dev/$(dm info -c --noheadings -o blkdevname power)
    : >$DISKS/steps
}

# play TYPE DISK [power.py's arguments]: nothing is recorded any more; looks at the moments.
play() {
    play_type=$1
    play_disk=$2
    shift 2
    dm remove power && losetup -d "$DATA" && losetup -d "$LOG" || exit 1
    if python3 "$FEROFS_TESTS/faults/lib/power.py" --type "$play_type" --base "$play_disk.base" --log $DISKS/log \
        --steps $DISKS/steps --seed "$SEED" --most "$MOST" "$@" >play.output 2>&1; then
        sed 's/^/# /' play.output
        pass "$play_type: each file is the old one or the new one, and there once its command has ended"
    else
        fail "$play_type: each file is the old one or the new one, and there once its command has ended" play.output
    fi
    rm -f $DISKS/log "$play_disk" "$play_disk.base"
}

# mark WORD NAME: a message to the device mapper has no spaces.
mark() {
    dm message power 0 mark "$1:$(echo "$2" | tr ' ' -)" || exit 1
}

# known PATH: the sha256 of a file, where a link leads, or - if there is nothing.
known() {
    if [ -L "$1" ]; then echo "link:$(readlink "$1")"; elif [ -e "$1" ]; then sha256sum <"$1" | cut -d ' ' -f 1; else echo -; fi
}

# step NAME FILES COMMAND...: a command that writes these files, and no others; a directory means all that is in it then.
step() {
    step_name=$1
    step_files=$2
    shift 2
    for file in $step_files; do known "$file"; done >before
    mark begin "$step_name"
    check "$TYPE: $step_name" "$@"
    mark end "$step_name"
    # shellcheck disable=SC2086 # $step_files is a list of words.
    set -- $step_files
    step_name=$(echo "$step_name" | tr ' ' -)
    while read -r old; do
        if [ -d "$1" ]; then
            find "$1" ! -type d | while read -r file; do
                printf '%s\t%s\t-\t%s\n' "$step_name" "${file#disk/}" "$(known "$file")"
            done
        else
            printf '%s\t%s\t%s\t%s\n' "$step_name" "${1#disk/}" "$old" "$(known "$1")"
        fi
        shift
    done <before >>$DISKS/steps
}

# copied FROM TO: as cp does it, without waiting for the disk.
# shellcheck disable=SC2317 # called through check
copied() {
    cat "$1" >"$2"
}

mkdir disk
for TYPE in ${TYPES:-ext4 xfs}; do
    case $TYPE in
    ext4) truncate -s 64M $DISKS/disk && mkfs.ext4 -q $DISKS/disk ;;
    xfs) truncate -s 300M $DISKS/disk && mkfs.xfs -q $DISKS/disk ;;
    esac || exit 1
    # Inputs that are on the same disk, as an archive to be cloned is.
    mount -o loop $DISKS/disk disk && cp other.tar disk/ && ferofs build --quiet -o disk/replaced.erofs other.tar &&
        ln -s replaced.erofs disk/link && umount disk || exit 1
    recorded "$TYPE" $DISKS/disk
    mount -t "$TYPE" "$DEVICE" disk || exit 1
    printf 'input\t%s\t%s\t\n' other.tar "$(known disk/other.tar)" link "$(known disk/link)" >>$DISKS/steps

    step control-cp disk/copied copied plain.tar disk/copied
    step index disk/index.erofs ferofs build --quiet --digest -o disk/index.erofs plain.tar
    step "index in place of another" disk/replaced.erofs ferofs build --quiet -o disk/link plain.tar
    step "all in one image" disk/full.erofs ferofs build --quiet --mode=full -o disk/full.erofs plain.tar
    step "an image and a tar from a pipe" "disk/piped.erofs disk/piped.tar" \
        sh -c 'ferofs build --quiet --tar-out disk/piped.tar -o disk/piped.erofs - <plain.tar.gz'
    step "access points" "disk/pointed.erofs disk/pointed.points" \
        ferofs build --quiet --points disk/pointed.points --no-tar -o disk/pointed.erofs plain.tar.gz
    step "layers of a container image" disk/layers ferofs build --quiet -o disk/layers oci:layout
    step "layers that are merged" "disk/others disk/merged.erofs" \
        ferofs build --quiet -o disk/others --merge disk/merged.erofs oci:layout
    step "a merged image" disk/two.erofs ferofs merge --quiet -o disk/two.erofs disk/index.erofs disk/full.erofs
    step "a compressed image" disk/compressed.erofs tools/mkfs.ferofs --quiet -zlz4 disk/compressed.erofs source
    step "a layer of changes" disk/committed.tar.gz ferofs commit --quiet -z gzip -o disk/committed.tar.gz upper
    step "a flat file" "disk/flat disk/flat.dmverity" ferofs export --quiet --verity -o disk/flat disk/index.erofs --device plain.tar
    for image in index replaced full piped compressed; do
        check "$TYPE: $image is sound" ferofs check --quiet disk/$image.erofs
    done
    umount disk
    play "$TYPE" $DISKS/disk
done

# A block device. What an image takes of it is behind the digests.
sized() { echo "$(known "$1"):$(stat -c %s "$1")"; }
TYPE=raw
ferofs build --quiet --mode=full -o old.erofs other.tar && ferofs build --quiet --mode=full -o new.erofs plain.tar &&
    tools/mkfs.ferofs --quiet made.erofs source || exit 1
truncate -s 16M $DISKS/disk && dd if=old.erofs of=$DISKS/disk conv=notrunc status=none || exit 1
recorded raw $DISKS/disk
mark begin "an image"
check "raw: an image in place of another" ferofs build --quiet --mode=full -o "$DEVICE" plain.tar
mark end "an image"
mark begin "another"
check "raw: and another" tools/mkfs.ferofs --quiet "$DEVICE" source
mark end "another"
printf '%s\tdisk\t%s\t%s\n' an-image "$(sized old.erofs)" "$(sized new.erofs)" \
    another "$(sized new.erofs)" "$(sized made.erofs)" >$DISKS/steps
play raw $DISKS/disk

# The store of the snapshotter for containerd, asked by itself.
if command -v containerd-ferofs-grpc >/dev/null; then
    TYPE=ext4
    truncate -s 64M $DISKS/disk && mkfs.ext4 -q $DISKS/disk || exit 1
    recorded ext4 $DISKS/disk
    mount -t ext4 "$DEVICE" disk && mkdir store || exit 1
    python="python3 $FEROFS_TESTS/faults/lib/daemon.py"
    # shellcheck disable=SC2086 # a command and its argument
    check "the store: layers and snapshots are made" $python record "$WORK/disk/root" "$WORK/store" power plain.tar change.tar
    umount -R disk
    printf 'anything\troot\t-\t-\n' >$DISKS/steps
    MOST=${STORE:-4} play ext4 $DISKS/disk --judge "$python judge $WORK/store"
fi

finish
