#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
#   tests/bench/on-demand [--size MEGABYTES] [--kinds "KIND..."] [--no-icount] [--no-build]
#
# Measures what it takes until `python3 -c pass` has run in a container of an image that is in a registry, 20 ms away and at
# 50 MB a second: with `ferofs mount`, with containerd and its overlayfs and erofs snapshotters, and with ferofs'. All in
# one virtual machine. Prints the results as Markdown; they stay in the cache, bench/on-demand-DATE.md. Kinds: on-demand
# ferofs erofs overlayfs. The image is made once, of what is in /usr of the peers' machine.

# shellcheck source=tests/kernel/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../kernel/lib.sh"

size=150
kinds="on-demand ferofs erofs overlayfs"
machine=(--icount)
built=()
while [ $# -gt 0 ]; do
    case $1 in
    --size) size=$2 && shift 2 ;;
    --kinds) kinds=$2 && shift 2 ;;
    --no-icount) machine=("${machine[@]/--icount/}") && shift ;;
    --no-build) machine+=("$1") built=("$1") && shift ;;
    *) die "usage: on-demand [--size MEGABYTES] [--kinds \"KIND...\"] [--no-icount] [--no-build]" ;;
    esac
done
mapfile -t machine < <(printf '%s\n' "${machine[@]}" | grep .)

work=$(mktemp -d "$cache/tmp/bench-XXXXXX")
trap 'rm -rf "$work"' EXIT

make_image() {
    say "making the image (a minute or two)"
    mkdir "$1/image"
    # shellcheck disable=SC2016 # the machine's
    echo 'python3 "$FEROFS_TESTS/bench/on-demand-images.py" /out '"$size" >"$1/script"
    "$checkout/tests/vm/run" "${built[@]}" --image peers --mem 3g --timeout 1500 --out "$1/image" "$1/script"
}

peers=$("$checkout/tests/vm/make-peers")
name=bench-on-demand-$(hash_of "$size" "$checkout/tests/bench/on-demand-images.py" "$checkout/tests/bench/containerd-images.py" \
    "$checkout/tests/peers/lib/images.py" "$(declare -f make_image)" "$(basename "$peers")")
make_once "$name" make_image

exit 0
truncate -s 8G "$work/disk.img"
mkdir "$work/out"
"$checkout/tests/vm/run" "${machine[@]}" --image peers --mem 3g --timeout 3000 --disk "$work/disk.img,rw" --out "$work/out" \
    "$checkout/tests/bench/on-demand.sh" "$work/options" "$cache/$name/image/layout" | tee "$work/log" >&2
mkdir -p "$cache/bench"
{
    echo "| | | ms | processor ms | MB from the registry | MB written |"
    echo "| --- | --- | ---: | ---: | ---: | ---: |"
    sed -n 's/^result \([^|]*\)|\([^|]*\)|\([^|]*\)|\([^|]*\)|\([^|]*\)|\(.*\)$/| \1 | \2 | \3 | \4 | \5 | \6 |/p' "$work/log"
    sed -n 's/^note /\n/p' "$work/log"
} | tee "$cache/bench/on-demand-$(date +%Y-%m-%d-%H%M%S).md"
