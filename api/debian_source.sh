# SPDX-License-Identifier: Apache-2.0
# For scripts that build a library from Debian's source package:
#
#   work=DIR name=LIBRARY
#   . debian_source.sh
#   fetch_source PACKAGE        unpacks it into $work/PACKAGE-VERSION
#
# Nothing on the host changes: apt works on a private state in $work, with the
# mirror that the host's own sources name.

say() { echo "$name: $*" >&2; }
fail() {
	say "$*"
	tail -n 5 "$work/log" >&2 2>/dev/null || true
	exit 1
}

# Debian's main archive and its suite, as this host gets them.
sources() {
	apt-get indextargets --format \
		'$(COMPONENT) $(CREATED_BY) $(RELEASE) $(REPO_URI)' |
		awk '$1 == "main" && $2 == "Packages" && $3 !~ /-/ &&
			$4 ~ /\/debian\/?$/ { print $4, $3; exit }'
}

private_apt() {
	apt-get -o Dir::State="$work/apt/state" \
		-o Dir::State::status=/dev/null \
		-o Dir::Cache="$work/apt/cache" \
		-o Dir::Etc::SourceParts="$work/apt/parts" \
		-o Dir::Etc::SourceList=/dev/null \
		-o APT::Sandbox::User= \
		-o Acquire::Languages=none \
		-o Acquire::Retries=3 \
		-o APT::Update::Post-Invoke::=true \
		"$@" >>"$work/log" 2>&1
}

fetch_source() {
	package=$1
	set -- $(sources)
	[ $# = 2 ] || fail "apt's sources name no Debian mirror"
	mkdir -p "$work/apt/state/lists/partial" \
		"$work/apt/cache/archives/partial" "$work/apt/parts"
	{
		echo "Types: deb-src"
		echo "URIs: $1"
		echo "Suites: $2"
		echo "Components: main"
		keyring=/usr/share/keyrings/debian-archive-keyring.gpg
		[ ! -e $keyring ] || echo "Signed-By: $keyring"
	} >"$work/apt/parts/ember.sources"
	private_apt -q update --error-on=any || fail "apt-get update failed"
	(cd "$work" && private_apt -q source "$package") ||
		fail "cannot fetch the source package"
}
