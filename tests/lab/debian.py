# SPDX-License-Identifier: Apache-2.0
"""Debian packages, fetched through a private apt state.

Nothing on the host changes: apt gets its own lists, cache and sources, and
packages are unpacked, never installed. The mirror is the one that the host's
own sources name.
"""

import glob
import os
import subprocess

from steps import LabError, command, need

SUITE = "bookworm"
BACKPORTS = SUITE + "-backports"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCES = """Types: deb
URIs: %s
Suites: %s
Components: main
Targets: Packages
"""


def mirror():
    """The URI from which this host takes Debian itself."""
    need("apt-get", "dpkg-deb")
    text = command(["apt-get", "indextargets", "--format",
                    "$(REPO_URI) $(RELEASE) $(COMPONENT) $(CREATED_BY)"])
    found = []
    for line in text.decode().splitlines():
        uri, release, component, kind = (line.split(" ") + [""] * 4)[:4]
        if component == "main" and kind == "Packages":
            found.append((release != SUITE, "-" in release, uri))
    debian = sorted(f for f in found if f[2].rstrip("/").endswith("/debian"))
    if not debian:
        raise LabError("apt's sources name no Debian mirror")
    return debian[0][2]


class Apt:
    """A private apt in a directory of its own."""

    def __init__(self, directory, suites):
        self.directory = directory
        self.sources = os.path.join(directory, "parts", "lab.sources")
        for sub in ("state/lists/partial", "cache/archives/partial", "parts"):
            os.makedirs(os.path.join(directory, sub))
        text = SOURCES % (mirror(), " ".join(suites))
        if os.path.exists(KEYRING):
            text += "Signed-By: %s\n" % KEYRING
        with open(self.sources, "w") as out:
            out.write(text)
        self._apt("apt-get", "-q", "update", "--error-on=any")

    def _apt(self, *argv):
        """Runs an apt program against the private state."""
        settings = {
            "Dir::State": self.directory + "/state",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": self.directory + "/cache",
            "Dir::Etc::SourceParts": self.directory + "/parts",
            "Dir::Etc::SourceList": "/dev/null",
            "APT::Sandbox::User": "",
            "APT::Architecture": "amd64",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "DPkg::Post-Invoke": "",
            "APT::Update::Post-Invoke": "",
            "APT::Update::Post-Invoke-Success": "",
        }
        line = [argv[0]]
        for name, value in settings.items():
            line += ["-o", "%s=%s" % (name, value)]
        return command(line + list(argv[1:]), cwd=self.directory)

    def depends(self, package):
        """The first dependency of a package (of a metapackage: the thing)."""
        text = self._apt("apt-cache", "depends", package).decode()
        for line in text.splitlines():
            kind, _, name = line.strip().partition(": ")
            if kind == "Depends":
                return name
        raise LabError("%s depends on nothing" % package)

    def unpack(self, package, into):
        """Downloads a package and unpacks it; returns its file name."""
        pattern = os.path.join(self.directory, "*.deb")
        before = set(glob.glob(pattern))
        self._apt("apt-get", "-q", "download", package)
        (path,) = set(glob.glob(pattern)) - before
        command(["dpkg-deb", "-x", path, into])
        return os.path.basename(path)


def bootstrap(directory, packages, sources):
    """A root file system of @packages in @directory/root. Owners are not
    kept, so that a user who is not root gets the same tree."""
    need("mmdebstrap", "tar")
    tar = os.path.join(directory, "root.tar")
    root = os.path.join(directory, "root")
    try:
        command(["mmdebstrap", "--quiet", "--variant=minbase",
                 "--architectures=amd64", "--aptopt=Acquire::Retries \"3\"",
                 "--dpkgopt=path-exclude=/usr/share/doc/*",
                 "--dpkgopt=path-exclude=/usr/share/man/*",
                 "--dpkgopt=path-exclude=/usr/share/locale/*",
                 "--include=" + ",".join(packages), SUITE, tar, sources],
                stdin=subprocess.DEVNULL)
        os.mkdir(root)
        command(["tar", "-xf", tar, "-C", root, "--no-same-owner",
                 "--exclude=./dev/*", "--exclude=./var/lib/apt/*",
                 "--exclude=./var/cache/*"])
    finally:
        if os.path.exists(tar):
            os.unlink(tar)
    return root
