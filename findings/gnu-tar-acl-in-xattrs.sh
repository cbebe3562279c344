#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# GNU tar 1.35 does not restore POSIX ACLs that are in an archive as extended attributes, not even when all attributes are
# asked for: a PAX record SCHILY.xattr.system.posix_acl_access, which is how programs in Go write layers of container
# images, is left out without a word, while SCHILY.xattr.user.* beside it is restored. bsdtar (libarchive 3.7.4) does not
# restore it either. What GNU tar restores is its own form, the text in SCHILY.acl.access.
#
# Wants mmdebstrap, and root; the temporary folder has to be where files can have ACLs. Fails if the behaviour has changed.

set -euo pipefail
tar=1.35+dfsg-3.1
libarchive=3.7.4-4+deb13u1
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
mmdebstrap --quiet --variant=apt --include="tar=$tar,libarchive-tools=$libarchive,acl,attr,python3" trixie "$work/root.tar"
mkdir "$work/root"
tar -xf "$work/root.tar" -C "$work/root" --exclude='./dev/*'
inside() { chroot "$work/root" "$@"; }

# u::rw-, u:1234:rw-, g::r--, m::rw-, o::r-- as the kernel has it in the attribute.
inside python3 - <<'PYTHON'
import struct
import tarfile

acl = struct.pack("<I", 2)
for tag, permissions, who in ((1, 6, -1), (2, 6, 1234), (4, 4, -1), (16, 6, -1), (32, 4, -1)):
    acl += struct.pack("<HHi", tag, permissions, who)
text = "user::rw-,user:1234:rw-,group::r--,mask::rw-,other::r--"
with tarfile.open("/layer.tar", "w", format=tarfile.PAX_FORMAT) as archive:
    for name, headers in (
        ("attribute", {"SCHILY.xattr.system.posix_acl_access": acl.decode("utf-8", "surrogateescape")}),
        ("text", {"SCHILY.acl.access": text}),
    ):
        info = tarfile.TarInfo(name)
        info.mode = 0o664
        info.pax_headers = {**headers, "SCHILY.xattr.user.seen": "yes"}
        archive.addfile(info)
PYTHON

status=0
judge() {
    local program=$1 name=$2 expected=$3 found=none
    if inside getfacl --absolute-names --omit-header --numeric "/out/$name" | grep -q '^user:1234:rw-$'; then found=restored; fi
    echo "$program: ACL of \"$name\": $found"
    if [ "$(inside getfattr --absolute-names --only-values -n user.seen "/out/$name")" != yes ]; then
        echo "expected: the attribute user.seen beside it" >&2
        status=1
    fi
    if [ "$found" != "$expected" ]; then
        echo "expected: $expected" >&2
        status=1
    fi
}

mkdir "$work/root/out"
inside tar -C /out --acls --xattrs --xattrs-include='*' -xpf /layer.tar
judge "GNU tar $tar" attribute none
judge "GNU tar $tar" text restored
rm -r "$work/root/out"
mkdir "$work/root/out"
inside bsdtar -C /out -x --acls --xattrs -p -f /layer.tar
judge "bsdtar $libarchive" attribute none
judge "bsdtar" text restored
exit "$status"
