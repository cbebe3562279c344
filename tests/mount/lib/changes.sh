# SPDX-License-Identifier: GPL-2.0-only OR MIT
# shellcheck shell=sh
#
# A directory and its tar, and all that can be done to it by an overlay. Sourced by tests/mount/commit.sh and
# tests/peers/commit.sh, behind tests/lib.sh.

# attribute FILE NAME VALUE: sets an attribute whose value is given in Python's way.
attribute() {
    python3 -c 'import os,sys; os.setxattr(sys.argv[1], sys.argv[2], eval("b\"" + sys.argv[3] + "\""), follow_symlinks=False)' "$@"
}

# make_base: makes base/ and base.tar.
make_base() {
    mkdir -p base/etc base/gone/deep base/again/deep base/emptied base/bin base/kept base/renamed/deep base/to-file base/to-link
    (
        cd base || exit 1
        for file in etc/hostname etc/removed etc/appended etc/mode etc/owner etc/time etc/same gone/deep/f again/old again/deep/f \
            emptied/a emptied/b kept/f renamed/f renamed/deep/f to-file/f to-link/f to-directory bin/linked bin/attributes; do
            echo "$file of the base" >$file
        done
        seq 100000 >bin/large
        ln -s large bin/link
        ln -s nowhere link-to-directory
        ln bin/linked bin/second
        touch "$(printf '%0255d' 1)"
        attribute bin/attributes user.gone 1
        find . -exec touch -hd @1700000000 {} +
    )
    tar --xattrs --xattrs-include='user.*' --numeric-owner --sort=name --format=posix -cf base.tar -C base .
}

# change: all that can be done to it, in the directory merged/.
change() (
    cd merged || exit 1
    rm "$(printf '%0255d' 1)" etc/removed && rm -r gone && rm -r again && mkdir again && echo new >again/new && mkdir again/deep && echo n >again/deep/n
    rm emptied/*
    seq 10 >>etc/appended && chmod 4750 etc/mode && chown 70000:4000000000 etc/owner && touch -d @-1.5 etc/time && touch -hd @1700000000 etc/same
    rm -r to-file to-link && echo file >to-file && ln -s to-file to-link
    rm to-directory link-to-directory && mkdir -m 1777 to-directory link-to-directory && echo in >to-directory/in
    # Without redirect_dir this copies.
    mv renamed moved
    # The names of a file that overlayfs copies are names of two then, unless it has an index; how many each has it does not know.
    echo more >>bin/linked && chmod 600 bin/second && ln bin/large bin/another && ln -s ../etc/mode bin/new-link && rm bin/link
    mkfifo -m 620 bin/pipe && mknod bin/null c 1 3 && mknod bin/disk b 8 1 && ln bin/pipe bin/pipe2
    truncate -s 3M bin/holes && echo middle | dd of=bin/holes bs=1 seek=1M conv=notrunc status=none
    attribute bin/attributes user.binary '\x00\n9 k=v\xff' && setfattr -x user.gone bin/attributes && attribute bin/attributes security.capability '\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
    setfacl -m u:70001:r-- etc/mode && setfacl -d -m g:5:rwx to-directory
    name=$(printf '%0251d' 0) && mkdir -p "long/$name/$name" && echo deep >"long/$name/$name/$name"
    python3 -c 'open(b"long/\xff\xfe", "w"); open("long/\u00fc \n \\", "w")'
    touch .wh && touch -- -n
    mkdir opaque opaque/sub && touch opaque/sub/f
    find . -newermt @1700000001 -exec touch -hd @1700000002.123456789 {} +
    # What is made in it changes its time, and the root has no entry in a layer.
    touch -hd @1700000000 .
)
