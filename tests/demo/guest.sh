#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# guest.sh DIR: the part of the demo that runs where KVM is. $ASSETS has kernel,
# root file system, DIR an initramfs with a function to call, $EMBER is the monitor,
# $EMBER_JAILER what runs it in a jail.
set -eu
cd "$1"
jails=jails
jail=$jails/ember/demo/root
socket=$jail/run/firecracker.socket
console=$PWD/console
uid=20000

say() { printf '\n== %s\n' "$*"; }

# Shows a request, sends it, shows the answer; anything but 2xx ends the demo.
api() {
	printf '$ curl --unix-socket $jail/run/firecracker.socket -X %s http://localhost%s' "$1" "$2"
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
			cat "$console" "$jail/log"
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

say "furnishing a jail: what the microVM will have is what is in its root"
mkdir -p "$jail"
cp "$ASSETS/bzImage" initrd "$jail/"
cp "$ASSETS/rootfs.ext4" "$jail/disk.ext4"
chown "$uid:$uid" "$jail/disk.ext4"
echo "jail=$jail"

say "starting ember in it"
mkfifo input
set -- --id demo --exec-file "$EMBER" --uid "$uid" --gid "$uid" \
	--chroot-base-dir "$jails" -- --log-path log --boot-timer
echo "\$ ember-jailer $*"
start=$(date +%s.%N)
"$EMBER_JAILER" "$@" <input >"$console" 2>stderr &
ember=$!
exec 3>input
while [ ! -S "$socket" ]; do
	kill -0 "$ember" || { cat stderr && exit 1; }
	sleep 0.02
done

say "configuring the microVM"
api GET /
api PUT /machine-config '{"vcpu_count":1,"mem_size_mib":128}'
api PUT /boot-source "{\"kernel_image_path\":\"bzImage\",\"initrd_path\":\"initrd\",\"boot_args\":\"console=ttyS0 panic=1 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd ember.run=$step\"}"
api PUT /drives/disk '{"drive_id":"disk","path_on_host":"disk.ext4","is_root_device":false}'
api PUT /vsock '{"guest_cid":3,"uds_path":"v.sock"}'
api PUT /actions '{"action_type":"InstanceStart"}'

say "the jail from outside: no root, no capabilities, filtered, and all its files"
grep -E '^(Name|Uid|Gid|Groups|Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp):' \
	"/proc/$ember/status"
for task in "/proc/$ember/task/"*; do
	echo "thread $(cat "$task/comm"): $(grep '^Seccomp:' "$task/status")"
done
(cd "/proc/$ember/root" && ls -l . dev dev/net run)

say "calling its function over vsock, from the moment it can answer"
python3 call.py "$jail/v.sock" "$port" 20 "hello, guest" "$start" | tee called

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
grep -a "Snapshot phases" "$jail/log" | sed 's/^.*] //'
(
	cd "$jail"
	du -k --apparent-size snap snap.mem | sed 's/\t/ KiB long: /'
	du -k snap.mem | sed 's/\t/ KiB on disk: /'
	"$EMBER" --describe-snapshot snap
)

say "restoring ten clones of it: jails and users of their own, the same paths"
python3 clones.py "$EMBER_JAILER" "$EMBER" "$jails" "$jail" "$port" 10
echo "the booted one, for comparison: $(grep 'first reply' called)"

say "the original goes on; powering it off"
api PATCH /vm '{"state":"Resumed"}'
python3 call.py "$jail/v.sock" "$port" 5 "hello again"
printf 'poweroff\n' >&3
code=0
wait "$ember" || code=$?
grep -a "Guest-boot-time" "$jail/log" | sed 's/^.*] //'
echo "EMBER-GUEST line: $(tr -d '\r' <"$console" | grep -a EMBER-GUEST) (seconds since the kernel started)"
echo "ember's exit code: $code"

say "taking the jails away"
ls "$jails/ember" | while read -r id; do
	"$EMBER_JAILER" --cleanup --id "$id" --exec-file "$EMBER" \
		--uid "$uid" --gid "$uid" --chroot-base-dir "$jails"
done
echo "left of them: $(ls -A "$jails/ember" 2>/dev/null | wc -l)"
exit "$code"
