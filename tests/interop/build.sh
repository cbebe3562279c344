#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# kernels: debian-7.3 debian-7.2
#
# Images by `ferofs build`: fsck.erofs accepts them, and through ferofs and through the C driver they are
# what GNU tar extracts.

. "$FEROFS_TESTS/lib.sh"

# compare NAME TAR [manifest-diff's arguments]
compare() {
    name=$1
    tar=$2
    shift 2
    if ! ferofs build -o index.erofs "$tar" >output 2>&1; then
        fail "$name: ferofs build" output
        return
    fi
    unpack "$tar" extracted
    ferofs-testkit manifest extracted >tar.manifest
    check "$name: fsck.erofs accepts it" fsck.erofs --device="$tar" index.erofs
    check "$name: ferofs check accepts it, and extracts" ferofs check index.erofs --device "$tar" --extract again
    ferofs-testkit manifest again >again.manifest
    same "$name: the same files as GNU tar" tar.manifest again.manifest "$@"
    check "$name: ferofs diff finds none with the tar" ferofs diff index.erofs "$tar"
    check "$name: ferofs diff finds none with what it extracts" ferofs diff "$tar" again
    if mounted index.erofs under-test --option "device=$tar" >output 2>&1; then
        ferofs-testkit manifest under-test >f.manifest
        ferofs-testkit manifest --exact --no-content under-test >f.exact
        same "$name: as GNU tar extracts it" tar.manifest f.manifest "$@"
        check "$name: unmounts" umount under-test
    else
        fail "$name: mounts" output
    fi
    if mounted -t erofs "$(padded index.erofs)" reference --option "device=$tar" >output 2>&1; then
        ferofs-testkit manifest reference >c.manifest
        ferofs-testkit manifest --exact --no-content reference >c.exact
        same "$name: the C driver reads what GNU tar extracts" tar.manifest c.manifest "$@"
        same "$name: stat as the C driver gives it" c.exact f.exact
        umount reference
    else
        fail "$name: the C driver mounts it" output
    fi
    rm -rf extracted again index.erofs*
}

ferofs-testkit gen-tar all pax.tar --files 60
compare "PAX archive" "$WORK/pax.tar"
ferofs-testkit gen-tar all gnu.tar --gnu --files 60
compare "GNU archive" "$WORK/gnu.tar"

mkdir -p real/a real/b && cp -a /etc/. real/a 2>/dev/null && ln real/a/passwd real/b/passwd
tar -C real --numeric-owner -cf real.tar .
compare "an archive by GNU tar" "$WORK/real.tar"

# Pieces of a sparse file that are parts of blocks: the index has copies of those blocks.
python3 - <<'END'
import random
import tarfile
random.seed(7)
pieces = [(13, 5000), (8192, 4096), (1000000, 700001), (2999000, 1000)]
with tarfile.open("parts.tar", "w", format=tarfile.PAX_FORMAT) as tar:
    root = tarfile.TarInfo(".")
    root.type, root.mode = tarfile.DIRTYPE, 0o755
    tar.addfile(root)
    entry = tarfile.TarInfo("parts")
    data = [random.randbytes(length) + bytes(-length % 512) for _, length in pieces]
    numbers = [str(number) for piece in pieces + [(3000000, 0)] for number in piece]
    entry.pax_headers = {
        "GNU.sparse.size": "3000000",
        "GNU.sparse.numblocks": str(len(pieces) + 1),
        "GNU.sparse.map": ",".join(numbers),
    }
    entry.size = sum(map(len, data))
    tar.fileobj.write(entry.tobuf(tarfile.PAX_FORMAT) + b"".join(data))
    tar.offset = tar.fileobj.tell()
    tar.addfile(tarfile.TarInfo("behind"))
END
compare "parts of blocks" "$WORK/parts.tar"

uuid=123e4567-e89b-12d3-a456-426614174000
ferofs build -L index -U $uuid -o named.erofs pax.tar
printf 'TYPE=erofs\nLABEL=index\nUUID=%s\n' $uuid | sort >expected
blkid -p -o export named.erofs | grep -E '^(TYPE|LABEL|UUID)=' | sort >known
check "blkid knows type, label and UUID" cmp expected known

ferofs build -o one.erofs pax.tar
ferofs build -o two.erofs pax.tar
check "the same archive gives the same bytes" cmp one.erofs two.erofs
ferofs build -o three.erofs - <pax.tar
check "from standard input the tree is the same" sh -c '
    ferofs dump --tree one.erofs >one.tree && ferofs dump --tree three.erofs >three.tree &&
    [ -s one.tree ] && cmp one.tree three.tree'

finish
