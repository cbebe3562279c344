# SPDX-License-Identifier: GPL-2.0-only OR MIT
# shellcheck shell=sh
#
# What the tests of inode_share have in common: sourced behind tests/lib.sh. Images of the trees a and b, which have equal files, are
# mounted on at-a and at-b.

# Options of mounts that share, words.
# shellcheck disable=SC2034 # for whoever sources this
share="--option domain_id=test --option inode_share"

# open_for_writing FILE: whether someone may.
open_for_writing() { python3 -c 'import sys; open(sys.argv[1], "r+b")' "$1"; }
# denied NAME FILE: passes if nobody may.
denied() { refuses "$1" 'Text file busy' open_for_writing "$2"; }

# outlives WHAT [FILE]: a mapping of files on at-b holds what it shows, when caches, both mounts and the file are gone: the mount it
# is of, and the module. WHAT is said to be gone.
outlives() {
    python3 - <<'END' >/dev/null 2>output &
import mmap, os, time
maps = []
for name in ("one", "holes", "tail"):
    with open(f"at-b/{name}", "rb") as file:
        maps.append((name, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)))
open("mapped", "w").close()
while not os.path.exists("look"):
    time.sleep(0.05)
for name, found in maps:
    with open(f"b/{name}", "rb") as file:
        assert file.read() == found[:], name
open("looked", "w").close()
END
    outlives_mapper=$!
    while [ ! -e mapped ] && kill -0 $outlives_mapper 2>/dev/null; do sleep 0.1; done
    check "mapped: the first is unmounted" umount at-a
    check "mapped: the second lazily" umount -l at-b
    refuses "mapped: the module is in use" 'in use' rmmod ferofs
    if [ -n "${2:-}" ]; then rm "$2"; fi
    drop
    touch look
    wait $outlives_mapper
    check "mapped: the bytes are there when $1 are gone" test -e looked
    if [ -e output ]; then sed 's/^/# /' output; fi
    sleep 0.3
    check "then the module goes" rmmod ferofs
    modprobe ferofs || insmod "$FEROFS_KO"
}
