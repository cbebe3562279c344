#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR MIT
#
# In a fresh Debian 13: the packages are installed and the module is built, also for the next kernel and for a cloud
# flavour; what is missing is said, and nothing is left half done. Called by `run`.

# shellcheck source=tests/packages/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

old=$(basename "$(dirname "$(echo /lib/modules/7.2.*+deb13-amd64/build)")")
apt update
new=$(apt-cache pkgnames linux-headers-7.3 | sed -n 's/^linux-headers-\(7\.3\.[0-9]*+deb13-amd64\)$/\1/p' | sort -V | tail -n 1)
files >/var/tmp/before
dpkg-query -W -f '${Package}\n' | sort >/var/tmp/packages-before

# With the headers but without the source.
start=$SECONDS
before=$(used)
check "the packages install where the kernel's source is missing" \
    apt install "$packages"/ferofs-dkms_*.deb "$packages"/ferofs-tools_*.deb
says "and say which package brings it" "apt install linux-source-7.2=$(dpkg-query -W -f '${Version}' "linux-headers-$old")"
check "the kernel is passed over" test "$(dkms status -m ferofs -k "$old" | grep -c installed)" = 0
check "the tool says the same" bash -c "! kernel-rust-metadata check $old 2>/var/tmp/said && grep -q linux-source-7.2= /var/tmp/said"

# The source of another version is none.
wrong=$(apt-cache madison linux-source-7.2 | awk '{ print $3 }' | sort -V | head -n 1)
check "another version's source installs" apt install "linux-source-7.2=$wrong"
check "and is not taken for this kernel's" bash -c "! kernel-rust-metadata check $old 2>/var/tmp/said && grep -q 'is version' /var/tmp/said"

start=$SECONDS
check "the kernel's source installs" \
    apt install "linux-source-7.2=$(dpkg-query -W -f '${Version}' "linux-headers-$old")"
echo "# the module for $old, with its metadata: $((SECONDS - start)) s"
echo "# what it takes to build it: $(($(used) - before)) MB"
check "and the module is built when it is there" installed "$old"
check "it is signed with the key of dkms" bash -c "modinfo -k $old -F signer ferofs | grep -q DKMS"
check "modprobe finds it by the filesystem's name" bash -c "modprobe -S $old --show-depends fs-ferofs | grep -q updates/dkms/ferofs.ko"
check "the metadata takes less than 300 MB" bash -c "test \$(du -sm /var/lib/ferofs-dkms | cut -f 1) -lt 300"
check "no work is left of making it" bash -c "! ls -d /var/lib/ferofs-dkms/*.new"

# Another kernel is installed.
start=$SECONDS
check "the next kernel installs, with its source" \
    apt install "linux-image-$new" "linux-headers-$new" linux-source-7.3
echo "# the next kernel, with its module: $((SECONDS - start)) s"
check "the module is built for it" installed "$new"
check "and still there for the other" installed "$old"
# A kernel that cannot have it.
stable=$(apt-cache depends linux-headers-amd64=6.12* 2>/dev/null | sed -n 's/.*Depends: \(linux-headers-6[^ ]*\).*/\1/p' | head -n 1)
check "headers of a kernel without Rust install" apt install "$stable"
says "and it is said why the kernel is passed over" "is a kernel without Rust"

# Headers and compilers that do not match.
printf '#!/bin/sh\necho "rustc 1.97.1 (another one)"\n' >/usr/local/bin/rustc
chmod +x /usr/local/bin/rustc
check "another compiler is refused, by name" \
    bash -c "! kernel-rust-metadata check $new 2>/var/tmp/said && grep -q \"was built by 'rustc 1\\..* here is 'rustc 1.97.1\" /var/tmp/said"
rm /usr/local/bin/rustc

# The metadata serves other modules.
mkdir -p /var/tmp/hello
cat >/var/tmp/hello/hello.rs <<'END'
//! Says hello.
use kernel::prelude::*;

module! {
    type: Hello,
    name: "hello",
    authors: ["Nobody"],
    description: "Says hello",
    license: "GPL",
}

struct Hello;

impl kernel::Module for Hello {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        pr_info!("hello\n");
        Ok(Hello)
    }
}
END
echo 'obj-m := hello.o' >/var/tmp/hello/Kbuild
check "a module of somebody else builds with the metadata" \
    make -C "$(kernel-rust-metadata tree "$new")" M=/var/tmp/hello modules
check "for that kernel" bash -c "modinfo -F vermagic /var/tmp/hello/hello.ko | grep -q '^$new '"
