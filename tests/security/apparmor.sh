#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# AppArmor: what a profile allows to map and to execute is the same as on ext4, however a file is stored, and
# whether it is mapped executable at once or made so later.

. "$FEROFS_TESTS/lib.sh"

[ -d /sys/kernel/security/apparmor ] || mount -t securityfs securityfs /sys/kernel/security
check "AppArmor is on" test -d /sys/kernel/security/apparmor
code_trees

# Both may read all files; what they may map executable differs.
cat >profiles <<'END'
profile ferofs-r {
  /** rw,
  /ferofs/bin/* rm,
}
profile ferofs-rm {
  /** rwm,
}
END
check "the profiles are loaded" apparmor_parser --skip-cache --replace profiles

# rights DIRECTORY [OPTION...]: the ways to the code of its files.
rights() {
    rights_directory=$1
    shift
    (cd "$rights_directory" && ferofs-testkit rights "$@" one several tail small)
}

# inherited DIRECTORY PROFILE: the same for files that another program opened.
inherited() {
    for file in one several; do
        echo "$file is standard input:"
        ferofs-testkit enter --exec "exec $2" ferofs-testkit rights --stdin <"$1/$file"
    done
}

# executed DIRECTORY PROFILE: what becomes of a program that is executed with the profile.
executed() {
    ferofs-testkit enter --exec "exec $2" "$1/program" true
    echo "program: status $?"
}

# answers DIRECTORY CASE
answers() {
    case $2 in
    none) rights "$1" ;;
    *) rights "$1" --enter "changeprofile ferofs-$2" && inherited "$1" "ferofs-$2" && executed "$1" "ferofs-$2" ;;
    esac
}

for case in none r rm; do
    for tree in $CODE_TREES; do answers "$tree" $case >"$tree.$case" 2>&1; done
    case $case in
    none) what="without a profile" ;;
    r) what="a profile to read" ;;
    rm) what="a profile to read and to map executable" ;;
    esac
    for tree in $CODE_TREES; do
        case $tree in
        ext4 | over-ext4) ;;
        over-*) check "$what: $tree is like overlayfs over ext4" diff over-ext4.$case "$tree.$case" ;;
        *) check "$what: $tree is like ext4" diff ext4.$case "$tree.$case" ;;
        esac
    done
done

# What the comparisons mean: in each way the profile to read forbids on ext4 what the others allow.
check "without a profile all is allowed" sh -c '! grep -v ": 42\$\|: read: 1\$" ext4.none'
check "the profile to read allows to read" test "$(grep -c ': read: 1$' ext4.r)" = 6
check "the profile to read allows nothing else, but what was mapped executable before" \
    sh -c '! grep ": 42\$" ext4.r | grep -v " before"'
check "the profile to read ends the program" grep -q "^program: status 1[0-9][0-9]$" ext4.r
check "the profile to map executable allows all" sh -c '! grep -v ": 42\$\|: read: 1\$\|:\$\|: status 0\$" ext4.rm'

finish
