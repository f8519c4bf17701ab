#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# guest.sh DIR: the part of the demo that runs where KVM is. $ASSETS has kernel,
# root file system, DIR an initramfs with a function to call, $EMBER is the monitor.
set -eu
cd "$1"
socket=$PWD/api.sock
console=$PWD/console

say() { printf '\n== %s\n' "$*"; }

# Shows a request, sends it, shows the answer; anything but 2xx ends the demo.
api() {
	printf '$ curl --unix-socket api.sock -X %s http://localhost%s' "$1" "$2"
	if [ $# = 3 ]; then
		printf " -d '%s'" "$3"
		set -- "$1" "$2" -d "$3"
	fi
	method=$1 path=$2
	shift 2
	printf '\n'
	curl -sS --unix-socket "$socket" -X "$method" -w '[%{http_code}]\n' \
		"http://localhost$path" "$@" >answer
	cat answer
	grep -q '\[2..\]' answer
}

# Waits until the console has a line with this text since it last had one.
seen=0
await() {
	tries=0
	while ! tail -c "+$((seen + 1))" "$console" | grep -aq "$1"; do
		tries=$((tries + 1))
		if [ $tries -gt 1200 ] || ! kill -0 "$ember" 2>/dev/null; then
			cat "$console" log
			echo "demo: the guest never said '$1'" >&2
			exit 1
		fi
		[ $((tries % 20)) != 0 ] || printf '.'
		sleep 0.1
	done
	sleep 0.2
}

# Types a command into the guest's console and shows what comes back.
guest() {
	seen=$(wc -c <"$console")
	printf '%s\n' "$1" >&3
	await EMBER-EXIT
	printf '\nguest# %s\n' "$1"
	tail -c "+$((seen + 1))" "$console" | tr -d '\r' |
		grep -av "EMBER-EXIT" || true
	tail -c "+$((seen + 1))" "$console" | grep -aq "EMBER-EXIT 0"
}

# The guest starts its function by itself when it is up.
port=5000
step=$(printf 'agent function %s >/dev/null 2>&1 &' "$port" | base64 -w 0)

say "starting ember"
cp "$ASSETS/rootfs.ext4" disk.ext4
mkfifo input
start=$(date +%s.%N)
"$EMBER" --api-sock "$socket" --log-path log --boot-timer \
	<input >"$console" 2>stderr &
ember=$!
exec 3>input
while [ ! -S "$socket" ]; do sleep 0.02; done

say "configuring the microVM"
api GET /
api PUT /machine-config '{"vcpu_count":1,"mem_size_mib":128}'
api PUT /boot-source "{\"kernel_image_path\":\"$ASSETS/bzImage\",\"initrd_path\":\"initrd\",\"boot_args\":\"console=ttyS0 panic=1 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd ember.run=$step\"}"
api PUT /drives/disk '{"drive_id":"disk","path_on_host":"disk.ext4","is_root_device":false}'
api PUT /vsock '{"guest_cid":3,"uds_path":"v.sock"}'
api PUT /actions '{"action_type":"InstanceStart"}'

say "calling its function over vsock, from the moment it can answer"
python3 call.py v.sock "$port" 20 "hello, guest" "$start" | tee called

say "the guest's console"
await EMBER-READY
tr -d '\r' <"$console" | tail -n 25

say "using the guest (the first command tells the boot timer)"
guest "devmem 0xc0000000 8 123"
guest "uname -a"
guest "cat /proc/cpuinfo | grep 'model name'; grep MemTotal /proc/meminfo"
guest "mkdir -p /mnt; mount -t ext4 /dev/vda /mnt && ls /mnt"
guest "dd if=/dev/urandom of=/mnt/blob bs=64k count=16 2>/dev/null; sync; sha256sum /mnt/blob; umount /mnt"
api GET /

say "taking a snapshot"
api PATCH /vm '{"state":"Paused"}'
api PUT /snapshot/create '{"snapshot_path":"snap","mem_file_path":"snap.mem","sync":false}'
grep -a "Snapshot phases" log | sed 's/^.*] //'
du -k --apparent-size snap snap.mem | sed 's/\t/ KiB long: /'
du -k snap.mem | sed 's/\t/ KiB on disk: /'
"$EMBER" --describe-snapshot snap

say "restoring ten clones of it, each with a disk and a socket of its own"
python3 clones.py "$EMBER" snap snap.mem disk.ext4 "$port" 10
echo "the booted one, for comparison: $(grep 'first reply' called)"

say "the original goes on; powering it off"
api PATCH /vm '{"state":"Resumed"}'
python3 call.py v.sock "$port" 5 "hello again"
printf 'poweroff\n' >&3
code=0
wait "$ember" || code=$?
grep -a "Guest-boot-time" log | sed 's/^.*] //'
echo "EMBER-GUEST line: $(tr -d '\r' <"$console" | grep -a EMBER-GUEST) (seconds since the kernel started)"
echo "ember's exit code: $code"
exit "$code"
