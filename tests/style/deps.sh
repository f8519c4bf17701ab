#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what packages.txt names and this machine lacks.
set -eu
cd "$(dirname "$0")/../.."

missing=
for package in $(grep -v '^#' packages.txt); do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) ||
		status=none
	[ "$status" = installed ] || missing="$missing $package"
done
if [ -z "$missing" ]; then
	echo "deps: all packages are installed"
	exit 0
fi
install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" != 0 ]; then
	echo "deps: not root; please run: $install"
	exit 1
fi
echo "deps: installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086 # the list is words
$install >/dev/null
