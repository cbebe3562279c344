#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# append: security=selinux
#
# SELinux: what a domain may do with files that another one opened, what it may map executable, and what becomes of
# programs that change the domain, is the same as on ext4.

. "$FEROFS_TESTS/lib.sh"

check "SELinux is on" test -e /sys/fs/selinux || finish
[ -e /sys/fs/selinux/load ] || mount -t selinuxfs selinuxfs /sys/fs/selinux

# Four domains; files have the type base_t or data_t. What the policy does not name is allowed. It forbids:
# to use the files that later ones have opened, though these may use those of earlier ones, as policies have it for
# programs that are executed in another domain; later_t to execute data_t, and what is or was writable; reader_t to
# execute any file.
types="base_t opener_t later_t reader_t data_t"
{
    printf 'class %s\n' process file fd
    initial="kernel security unlabeled fs file file_labels init any_socket port netif netmsg node igmp_packet
        icmp_socket tcp_socket sysctl_modprobe sysctl sysctl_fs sysctl_kernel sysctl_net sysctl_net_unix sysctl_vm
        sysctl_dev kmod policy scmp_packet devnull"
    # shellcheck disable=SC2086 # words
    printf 'sid %s\n' $initial
    cat <<END
class process { transition dyntransition execmem }
class file { execute execmod execute_no_trans entrypoint }
class fd { use }
END
    # shellcheck disable=SC2086 # words
    printf 'type %s;\n' $types
    cat <<END
allow { $types } { $types }:process { transition dyntransition };
allow { base_t opener_t } self:process execmem;
allow { base_t opener_t } { $types }:file { execute execmod execute_no_trans entrypoint };
allow later_t base_t:file { execute execute_no_trans entrypoint };
allow { base_t opener_t } { base_t opener_t data_t }:fd use;
allow { later_t reader_t } { $types }:fd use;
role base_r;
role base_r types { $types };
user user_u roles { base_r };
END
    # shellcheck disable=SC2086 # words
    printf 'sid %s user_u:base_r:base_t\n' $initial
    printf 'fs_use_xattr %s user_u:base_r:base_t;\n' ext4 overlay erofs ferofs
} >policy.conf
check "the policy is compiled" checkpolicy --handle-unknown allow --output policy policy.conf
check "the policy is loaded" sh -c 'cat policy >/sys/fs/selinux/load'

code_files
cp ext4/one ext4/data
check "a file has another type" setfattr -n security.selinux -v user_u:base_r:data_t ext4/data
code_trees
echo 1 >/sys/fs/selinux/enforce

# as FROM [--exec TO] COMMAND...: runs it in a domain, or from a domain in another.
as() {
    as_current=user_u:base_r:$1
    shift
    if [ "$1" = --exec ]; then
        as_exec=user_u:base_r:$2
        shift 2
        set -- --exec "$as_exec" "$@"
    fi
    ferofs-testkit enter --current "$as_current" "$@"
}

# passed TREE FROM TO: how the files that FROM opened may be used after it became TO.
passed() {
    as "$2" ferofs-testkit rights --enter "user_u:base_r:$3" "$1/one" "$1/several" "$1/tail" "$1/small" "$1/data"
}

# executed TREE FROM TO: programs that FROM executes to become TO: a static one, one with a library, and one that maps
# files that it inherits.
executed() {
    as "$2" --exec "$3" "$1/busybox" true
    echo "static program: status $?"
    as "$2" --exec "$3" --root "$1" /bin/cat /small >cat.output
    echo "program with a library: status $?"
    cmp cat.output ext4/small
    for file in one several data; do
        echo "inherited, $file:"
        as "$2" --exec "$3" ferofs-testkit rights --stdin <"$1/$file"
    done
}

for domains in "opener_t opener_t" "opener_t later_t" "opener_t reader_t" "later_t later_t" "later_t opener_t"; do
    what=$(echo "$domains" | sed 's/ / to /')
    case=$(echo "$domains" | sed 's/ /-/')
    for tree in $CODE_TREES; do
        {
            # shellcheck disable=SC2086 # two domains
            passed "$tree" $domains
            # shellcheck disable=SC2086 # two domains
            case $domains in *reader_t) ;; *) executed "$tree" $domains ;; esac
        } >"$tree.$case" 2>&1
    done
    like_ext4 "$what" "$case"
done

# What the comparisons mean: what ext4 allows and forbids.
# on_ext4 NAME CASE ALLOWED FORBIDDEN: so many ways of the files that were passed.
on_ext4() {
    sed '/^static program/,$d' "ext4.$2" >on_ext4
    check "on ext4: $1" test "$(grep -c ': 42$' on_ext4) $(grep -c ': EACCES$' on_ext4)" = "$3 $4"
}
on_ext4 "a domain may use what it opened" opener_t-opener_t 85 0
on_ext4 "not the one that may execute nothing" opener_t-reader_t 0 85
check "on ext4: a program runs in the later domain" grep -q "static program: status 0" ext4.opener_t-later_t
check "on ext4: one with a library does, too" grep -q "with a library: status 0" ext4.opener_t-later_t
check "on ext4: the type of a file forbids to execute it" grep -q "data: private rx: EACCES" ext4.opener_t-later_t
check "on ext4: what was written to may not be executed" grep -q "one: private rw, written, later rx: EACCES" ext4.opener_t-later_t
check "on ext4: a domain may not use what a later one opened" grep -q "one: read: EACCES" ext4.later_t-opener_t

echo 0 >/sys/fs/selinux/enforce
finish
