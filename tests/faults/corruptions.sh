#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# Every mistake of `ferofs-testkit corrupt --list`, one at a time: the right error, and one line in the
# kernel's log that says what is wrong and at which offset.

. "$FEROFS_TESTS/lib.sh"
sample

# Images of different shapes, so that every mistake has something to spoil.
mkdir -p images
mkfs.erofs --quiet -x-1 -Eforce-inode-extended images/1-inline.erofs "$SHARED/sample" >output 2>&1
mkfs.erofs --quiet -x-1 -b512 -Enoinline_data images/2-plain.erofs "$SHARED/sample" >output 2>&1
mkfs.erofs --quiet -x-1 --chunksize=4096 images/3-chunks.erofs "$SHARED/sample" >output 2>&1
mkfs.erofs --quiet --tar=i images/4-index.erofs "$SHARED/sample.tar" >output 2>&1
ln "$SHARED/sample.tar" images/4-index.blob
ferofs-testkit gen-tar tree images/5-merged.2.blob --seed 7 --files 20
ln "$SHARED/sample.tar" images/5-merged.blob
mkfs.erofs --quiet --tar=i second.erofs images/5-merged.2.blob >output 2>&1
mkfs.erofs --quiet images/5-merged.erofs images/4-index.erofs second.erofs >output 2>&1
mkdir texts && seq 9000 >texts/numbers && seq 5 4000 >texts/more && seq 100 >texts/few
for image in '6-full -zlz4 -Elegacy-compress' '7-lz4 -zlz4' '7-lzma -zlzma' '7-deflate -zdeflate' \
    '8-tail -zlz4 -Eztailpacking' '8-fragments -zlz4 -Eall-fragments'; do
    # shellcheck disable=SC2086 # options are words.
    mkfs.erofs --quiet -x-1 ${image#* } "images/${image%% *}.erofs" texts >output 2>&1 || fail "the image $image" output
done

no_log=
if [ "$FS" != ferofs ]; then no_log=--no-log; fi
# shellcheck disable=SC2086 # $no_log is one word or none.
ferofs-testkit corruptions --type "$FS" --work "$WORK/work" $no_log images/*.erofs >results 2>errors
status=$?
sed "s/^\(not \)\?ok - /&$SCRIPT: /" results
COUNT=$(grep -c '^\(not \)\?ok' results)
FAILED=$(grep -c '^not ok' results)
if [ -s errors ]; then fail "the table was worked through (status $status)" errors; fi

finish
