#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# In a VM: each tar in /data is indexed, mounted through ferofs, extracted by GNU tar beside it, and every
# entry of the two trees is compared: type, mode, owner, size, time, links, device number, content. Called by
# tests/demo/run.

# seconds COMMAND...: runs it and sets $took.
seconds() {
    begin=$(date +%s%N)
    "$@" || exit 1
    took=$(awk "BEGIN { printf \"%.2f s\", ($(date +%s%N) - $begin) / 1000000000 }")
}

cd /data/work || exit 1
status=0
modprobe ferofs || exit 1
echo "ferofs on Linux $(uname -r), emulated: times are for comparing with each other"
format='%-24s %9s %14s %10s %10s %10s %12s\n'
# shellcheck disable=SC2059 # the format is ours
printf "\n$format" layer entries bytes 'to index' 'to mount' 'to untar' differences
for tar in /data/*; do
    [ -f "$tar" ] || continue
    name=$(basename "$tar")
    mkdir -p mounted "untarred/$name"
    seconds ferofs build -o "$name.erofs" "$tar"
    index=$took
    seconds mount -t ferofs -o "device=$tar" "$name.erofs" mounted
    mount=$took
    seconds tar --numeric-owner --delay-directory-restore -xpf "$tar" -C "untarred/$name"
    untar=$took
    ferofs-testkit manifest mounted >mounted.manifest || exit 1
    ferofs-testkit manifest "untarred/$name" >untarred.manifest || exit 1
    ferofs-testkit manifest-diff untarred.manifest mounted.manifest >differences || status=1
    # shellcheck disable=SC2059
    printf "$format" "$name" "$(wc -l <mounted.manifest)" "$(stat -c %s "$tar")" "$index" "$mount" "$untar" \
        "$(tail -n 1 differences | cut -d ' ' -f 1)"
    if [ -n "$(sed '$d' differences)" ]; then cat differences; fi
    umount mounted
    rm -rf "untarred/$name"
done
echo
exit $status
