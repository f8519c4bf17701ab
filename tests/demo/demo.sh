#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make demo: sets up what is missing, builds ember, and lets it run a Debian
# guest in a jail: configured by plain curl calls, used over its serial console.
#
# With a fast /dev/kvm the guest runs on it; anywhere else inside the lab, an
# emulated host with a KVM of its own (tests/lab/README.md).
set -eu
cd "$(dirname "$0")/../.."

say() { printf '\n== %s\n' "$*"; }

say "packages"
make --no-print-directory deps

say "building ember"
make --no-print-directory all build/tests/guests/agent
ls -l build/ember build/ember-jailer

say "kernel and root file system (fetched and made once, then cached)"
assets=$(python3 tests/lab/lab.py assets)
image=$(echo "$assets" | sed -n 's/^bzImage=//p')
files=$(dirname "$image")
echo "$image"

mkdir -p build/demo build/tests/lab
python3 tests/lab/cpio.py "$files/initrd" build/tests/guests/agent bin/agent \
	>build/demo/initrd

say "where can a Linux guest run?"
cc -O2 -o build/tests/lab/probe tests/lab/probe.c
us=$(build/tests/lab/probe) || us=
case ${TEST_KVM:-} in
native) where=native ;;
lab) where=lab ;;
*) where=lab; [ -z "$us" ] || [ "$us" -ge 20000 ] || where=native ;;
esac
if [ -n "$us" ]; then
	echo "/dev/kvm runs the probe's loop in $us us (hardware: under 20000)"
else
	echo "there is no usable /dev/kvm"
fi

if [ "$where" = native ]; then
	say "running on /dev/kvm"
	rm -rf build/demo/run
	mkdir build/demo/run
	cp build/demo/initrd tests/demo/call.py tests/demo/clones.py build/demo/run/
	ASSETS=$files EMBER=$PWD/build/ember \
		EMBER_JAILER=$PWD/build/ember-jailer \
		unshare --pid --fork --kill-child --mount-proc \
		sh tests/demo/guest.sh build/demo/run
else
	say "running in the lab: everything takes about ten times as long"
	rm -rf build/demo/job
	mkdir build/demo/job
	cp build/ember build/ember-jailer build/demo/initrd tests/demo/guest.sh tests/demo/call.py \
		tests/demo/clones.py build/demo/job/
	python3 tests/lab/lab.py run --job build/demo/job --timeout 300 \
		--env ASSETS=/assets --env EMBER=/job/ember \
		--env EMBER_JAILER=/job/ember-jailer \
		sh guest.sh /job
fi
say "done: the guest ran in its jail, answered, was cloned, and powered off"
