# SPDX-License-Identifier: Apache-2.0
"""What the lab is made of, as cached steps (steps.py):

    kernel   Debian's cloud kernels and a static busybox, unpacked
    guest    what Linux guests boot: kernels, initramfs, a root file system
    root     root file system of the lab's host, with Python and tools
    base     initramfs of the lab's host and its kernel
    rootcpio the root file system again, for a host without disks
"""

import os
import shutil

import debian
from cpio import Cpio
from kernel import Modules, extract_vmlinux
from steps import (LabError, command, digest, file_bytes, heartbeat, need,
                   say, step)

META_PACKAGE = "linux-image-cloud-amd64"
HOST_PACKAGES = ("python3", "curl", "iproute2", "kmod", "procps",
                 "util-linux", "e2fsprogs", "busybox-static", "iputils-ping",
                 "strace", "socat", "iperf3", "ethtool")
HOST_MODULES = ("virtio_pci", "virtio_blk", "overlay", "kvm_amd", "tun",
                "tap", "vhost_net", "vhost_vsock", "veth", "bridge", "loop",
                "msr")
GUEST_MODULES = ("virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng",
                 "virtio_balloon", "virtio_console",
                 "vmw_vsock_virtio_transport", "virtio_pmem", "nd_pmem",
                 "virtio_mem", "button", "erofs")
GUEST_ROOT_MIB = 32
HOST_ROOT_MIB = 1024
# The checkpointed host knows the size of its disks: it never changes.
GUEST_DISK_MIB = 512
NEWER = "-6.12"
GUEST_INIT = "../guests/linux/init"
OWN_CODE = ("assets.py", "debian.py", "kernel.py", "cpio.py")


def _read(*path):
    with open(os.path.join(*path), "rb") as source:
        return source.read()


def _write(data, *path):
    with open(os.path.join(*path), "wb") as out:
        out.write(data)


def _beside(name):
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), name)


def _unpack_kernel(apt, meta, directory, name):
    """Fetches one kernel into <directory>/<name>."""
    target = os.path.join(directory, name)
    package = apt.unpack(apt.depends(meta), target)
    say("kernel: " + package)
    _write((package + "\n").encode(), target, "package")


def _build_kernel(directory):
    """The newer kernel is a bonus: a mirror may lack the backports."""
    state = os.path.join(directory, "apt")
    os.mkdir(state)
    with heartbeat("fetching Debian's cloud kernel and busybox"):
        apt = debian.Apt(state, [debian.SUITE])
        _unpack_kernel(apt, META_PACKAGE, directory, "kernel")
        apt.unpack("busybox-static", os.path.join(directory, "busybox"))
    shutil.rmtree(state)
    os.mkdir(state)
    try:
        with heartbeat("fetching the newer kernel from the backports"):
            apt = debian.Apt(state, [debian.SUITE, debian.BACKPORTS])
            _unpack_kernel(apt, META_PACKAGE + "/" + debian.BACKPORTS,
                           directory, "kernel" + NEWER)
    except LabError as error:
        say("no newer kernel: %s" % error)
        shutil.rmtree(os.path.join(directory, "kernel" + NEWER), True)
    shutil.rmtree(state)


def kernel():
    """Step: unpacked packages, one directory each."""
    key = digest(debian.SUITE, META_PACKAGE, file_bytes("debian.py"))
    return step("kernel", key, _build_kernel)


def _image(unpacked):
    """Path of the bzImage in an unpacked kernel package."""
    boot = os.path.join(unpacked, "boot")
    (name,) = [n for n in os.listdir(boot) if n.startswith("vmlinuz")]
    return os.path.join(boot, name)


def _busybox(packages):
    return _read(packages, "busybox", "bin/busybox")


def _applets(packages):
    """The names that busybox answers to, linked when the file system is
    made: a read-only root cannot do it later."""
    program = os.path.join(packages, "busybox", "bin/busybox")
    names = command([program, "--list"]).decode().split()
    return [name for name in names if name != "busybox"]


def _add_modules(archive, unpacked, names):
    """Numbered, so that plain `insmod *` loads them in order."""
    modules = Modules(unpacked).load_order(names)
    for number, (name, data) in enumerate(modules):
        archive.file("modules/%02d-%s.ko" % (number, name), data)


def _new_initramfs(packages, init):
    """An archive with busybox, an init and the console it needs."""
    archive = Cpio()
    for name in ("proc", "sys", "dev", "tmp", "run", "sbin"):
        archive.directory(name)
    archive.device("dev/console", 5, 1)
    archive.file("bin/busybox", _busybox(packages), 0o755)
    for applet in _applets(packages):
        archive.link("bin/" + applet, "busybox")
    archive.file("init", init, 0o755)
    return archive


def _guest_kernel(packages, directory, suffix):
    """bzImage, vmlinux and initrd of one kernel."""
    unpacked = os.path.join(packages, "kernel" + suffix)
    image = _read(_image(unpacked))
    _write(image, directory, "bzImage" + suffix)
    _write(extract_vmlinux(image), directory, "vmlinux" + suffix)
    archive = _new_initramfs(packages, _read(_beside(GUEST_INIT)))
    _add_modules(archive, unpacked, GUEST_MODULES)
    _write(archive.bytes(), directory, "initrd" + suffix)
    shutil.copy(os.path.join(unpacked, "package"),
                os.path.join(directory, "package" + suffix))


def _guest_root(packages, directory):
    """A small root, as ext4 and as erofs: busybox, the init, nothing else."""
    tree = os.path.join(directory, "tree")
    for name in ("bin", "sbin", "proc", "sys", "dev", "tmp", "run", "etc"):
        os.makedirs(os.path.join(tree, name))
    _write(_busybox(packages), tree, "bin/busybox")
    _write(_read(_beside(GUEST_INIT)), tree, "sbin/init")
    for applet in _applets(packages):
        os.symlink("busybox", os.path.join(tree, "bin", applet))
    for name in ("bin/busybox", "sbin/init"):
        os.chmod(os.path.join(tree, name), 0o755)
    _make_ext4(os.path.join(directory, "rootfs.ext4"), tree, GUEST_ROOT_MIB)
    _make_erofs(os.path.join(directory, "rootfs.erofs"), tree)
    shutil.rmtree(tree)


def _make_ext4(path, tree, mib):
    """Blocks are pages, so that files can be mapped where they are."""
    command(["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-m", "0", "-E",
             "root_owner=0:0", "-d", tree, path, "%dM" % mib])


def _make_erofs(path, tree):
    """Plain and apart from its metadata: files can be mapped as they are."""
    command(["mkfs.erofs", "--quiet", "--all-root", "-Enoinline_data",
             "-T0", path, tree])


def _build_guest(directory):
    packages = kernel()
    need("mke2fs", "mkfs.erofs")
    files = os.path.join(directory, "files")
    os.mkdir(files)
    with heartbeat("preparing kernels and file systems for Linux guests"):
        for suffix in ("", NEWER):
            if os.path.isdir(os.path.join(packages, "kernel" + suffix)):
                _guest_kernel(packages, files, suffix)
        _guest_root(packages, files)
        _make_ext4(os.path.join(directory, "disk"), files, GUEST_DISK_MIB)


def guest():
    """Step: "files" with bzImage, vmlinux, initrd, rootfs.ext4, rootfs.erofs
    and, with the suffix -6.12, the newer kernel's; the same as an ext4 image
    in "disk"."""
    key = digest(kernel(), GUEST_MODULES, GUEST_ROOT_MIB, GUEST_DISK_MIB,
                 file_bytes(GUEST_INIT, *OWN_CODE))
    return step("guest", key, _build_guest)


def _build_root(directory):
    state = os.path.join(directory, "apt")
    os.mkdir(state)
    with heartbeat("building the host's root file system"):
        sources = debian.Apt(state, [debian.SUITE]).sources
        tree = debian.bootstrap(directory, HOST_PACKAGES, sources)
        shutil.rmtree(state)
        _make_ext4(os.path.join(directory, "disk"), tree, HOST_ROOT_MIB)


def root():
    """Step: the host's root as a tree, "root", and as ext4, "disk"."""
    key = digest(HOST_PACKAGES, HOST_ROOT_MIB, file_bytes("debian.py"))
    return step("root", key, _build_root)


def _build_base(directory):
    packages = kernel()
    cc = os.environ.get("CC", "cc")
    need(cc.split()[0])
    tool = os.path.join(directory, "tool")
    with heartbeat("building the host's initramfs"):
        command(cc.split() + ["-std=gnu17", "-O2", "-static", "-o", tool,
                              _beside("tool.c")])
        archive = _new_initramfs(packages, _read(_beside("host-init")))
        archive.file("lab/serve", _read(_beside("host-serve")), 0o755)
        archive.file("lab/tool", _read(tool), 0o755)
        unpacked = os.path.join(packages, "kernel")
        _add_modules(archive, unpacked, HOST_MODULES)
        _write(archive.bytes(), directory, "initrd")
        shutil.copy(_image(unpacked), os.path.join(directory, "vmlinuz"))


def base():
    """Step: "vmlinuz" and "initrd" of the host."""
    key = digest(kernel(), HOST_MODULES,
                 file_bytes("host-init", "host-serve", "tool.c", *OWN_CODE))
    return step("base", key, _build_base)


def root_archive():
    """Step: the host's root as "cpio", for hosts without a disk."""
    source = root()

    def build(directory):
        with heartbeat("packing the host's root for the counted lab"):
            archive = Cpio()
            archive.tree(os.path.join(source, "root"))
            _write(archive.bytes(), directory, "cpio")

    return step("rootcpio", digest(source, file_bytes("cpio.py")), build)
