/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest memory: the only way from a guest-physical address to bytes.
 *
 * RAM is one or two regions (below and above the MMIO gap), each one host
 * mapping. Memory that comes and goes (virtio-mem) is one more, the last: all
 * of it is mapped, but only the blocks that are plugged can be reached. What
 * backs them (anonymous memory, a shared memfd, a snapshot's memory file or a
 * page-fault handler; 4 KiB, transparent or 2 MiB pages) is chosen at creation
 * and known to nobody but the code that writes snapshots.
 *
 * Every access takes a length and is refused (-EFAULT) unless all of it lies
 * in one region. There are three forms:
 *   copy   gmem_read, gmem_write: for everything that is parsed
 *   loan   gmem_map ... gmem_unmap: for bulk I/O by readv/writev only
 *   hold   gmem_hold: a loan for the life of the microVM, for virtqueue rings
 * The layer that writes marks dirty: gmem_write, gmem_unmap of a loan for
 * writing, and gmem_mark_dirty for holders.
 *
 * Threads: created and destroyed by the loop thread; copies, loans and marks
 * may be made from any thread (the dirty bitmap is atomic).
 */
#ifndef EMBER_GMEM_H
#define EMBER_GMEM_H

#include "vmm/error.h"

#include <stdbool.h>
#include <sys/uio.h>

#define GMEM_REGIONS_MAX 4

enum gmem_backing {
	GMEM_ANONYMOUS,
	GMEM_MEMFD, /* MAP_SHARED: can be handed to another process */
	GMEM_FILE,  /* MAP_PRIVATE of a snapshot's memory file */
	GMEM_UFFD,  /* as anonymous; see snapshot/uffd.h for who fills it */
};

enum gmem_pages {
	GMEM_PAGES_4K,
	GMEM_PAGES_TRANSPARENT, /* MADV_HUGEPAGE */
	GMEM_PAGES_2M,		/* hugetlbfs, reserved when mapped */
};

enum gmem_dir {
	GMEM_DEVICE_READS,
	GMEM_DEVICE_WRITES,
};

struct gmem_blocks;

struct gmem_region {
	uint64_t gpa;
	uint64_t len;
	uint8_t *hva;
	int fd;		 /* the memfd or memory file that is mapped, or -1 */
	uint64_t fd_off; /* the regions lie one behind the other in it */
	/* Of the pluggable region; NULL: RAM. See gmem_plug. */
	struct gmem_blocks *blocks;
	uint64_t slot_len; /* what KVM knows as one slot */
};

struct gmem_range {
	uint64_t gpa;
	uint64_t len;
};

/* A range of memory that comes and goes: a multiple of slot_len, which is one
 * of block_len. */
struct gmem_pluggable {
	uint64_t block_len, slot_len;
	const uint8_t *plugged; /* bits for gmem_blocks_create, or NULL */
};

/* A stretch of memory that exists. */
struct gmem_extent {
	uint64_t off, len; /* as in the memory file */
	uint8_t *hva;
};

struct gmem_request {
	const struct gmem_range *ranges; /* ascending, page-aligned, apart */
	size_t count;
	const struct gmem_pluggable *pluggable; /* the last; NULL: all is RAM */
	enum gmem_backing backing;
	enum gmem_pages pages;
	int fd; /* GMEM_FILE: the memory file; taken over in any case */
};

struct gmem;

/* Address space that begins at a multiple of 2 MiB, for other mappings to come
 * into (PROT_NONE until then). NULL: there is none. Given back by munmap. */
uint8_t *gmem_reserve(uint64_t len) must_check;

/*
 * Maps what @request asks for. On -errno @err holds a sentence and *@ret_mem is
 * untouched.
 *
 * A memory file holds the regions one behind the other and may be longer. It
 * is held by a shared lock (F_OFD_SETLK) for as long as it is mapped, so that
 * who wants to write into it can tell; -EBUSY if somebody is writing now. A
 * plain file cannot back 2 MiB pages: with these the file is copied and closed,
 * and the memory is GMEM_ANONYMOUS from then on.
 */
int gmem_create(struct gmem **ret_mem, const struct gmem_request *request,
		struct error *err) must_check;

/* Takes that lock on the memory file @fd ahead of gmem_create. -EBUSY with a
 * sentence. */
int gmem_lock_file(int fd, struct error *err) must_check;

/* Unmaps everything; accepts NULL. No vCPU may run and no loan be open. */
void gmem_destroy(struct gmem *mem);

size_t gmem_region_count(const struct gmem *mem);
const struct gmem_region *gmem_region(const struct gmem *mem, size_t i);
uint64_t gmem_size(const struct gmem *mem); /* bytes over all regions */

/*
 * The next one behind *@extent, which begins as zeros, in the order of the
 * memory file: RAM, and what is plugged. An extent is within a region. False:
 * there are no more.
 */
bool gmem_next_extent(const struct gmem *mem, struct gmem_extent *extent);

/* NULL: there is none. */
const struct gmem_region *gmem_pluggable(const struct gmem *mem);

/*
 * From now on whole blocks of the pluggable region can be reached, or not any
 * more. Nothing else happens to them: what is unplugged has been discarded
 * before. Pointers that somebody holds stay valid: the mapping stays, so that a
 * guest that takes away what its devices use gets nonsense and we no fault.
 * Loop thread.
 */
void gmem_plug(struct gmem *mem, uint64_t gpa, uint64_t len, bool plugged);

enum gmem_backing gmem_backing(const struct gmem *mem);
enum gmem_pages gmem_pages(const struct gmem *mem);

/* True when all of [gpa, gpa+len) is RAM within one region; len 0 is true
 * only for a gpa inside a region. */
bool gmem_contains(const struct gmem *mem, uint64_t gpa, uint64_t len);

int gmem_read(const struct gmem *mem, uint64_t gpa, void *buf,
	      size_t len) must_check;
int gmem_write(struct gmem *mem, uint64_t gpa, const void *buf,
	       size_t len) must_check;
int gmem_zero(struct gmem *mem, uint64_t gpa, size_t len) must_check;

/* Reads exactly @len bytes of @fd at @off straight into the guest.
 * -EFAULT, -errno of pread, or -ENODATA when the file ends before. */
int gmem_read_file(struct gmem *mem, uint64_t gpa, size_t len, int fd,
		   uint64_t off) must_check;

/*
 * Makes the host's pages of [gpa, gpa+len) present ahead of time, as if the
 * guest had read them, or (@write) written to them, and changes nothing. Any
 * thread, also while the guest runs. -EFAULT unless all of it is RAM, -errno of
 * madvise; with GMEM_UFFD it waits for the page-fault handler.
 */
int gmem_populate(struct gmem *mem, uint64_t gpa, uint64_t len,
		  bool write) must_check;

/*
 * GMEM_FILE: [gpa, gpa+len), in units of 2 MiB, becomes memory of this
 * process's own, a mapping apart, in huge pages where the host has them. It is
 * empty; gmem_copy_file brings the file's bytes back, by any threads at once on
 * different ranges. Apart, since who changes the memory map waits for whoever
 * is just getting a page. Until that is done nobody may touch the range. On
 * -errno the content is undefined.
 */
int gmem_copy_begin(struct gmem *mem, uint64_t gpa, uint64_t len) must_check;
int gmem_copy_file(struct gmem *mem, uint64_t gpa, uint64_t len) must_check;

/*
 * Gives [gpa, gpa+len) back to the host: it reads as zeros from now on, and
 * takes memory again where it is written to. Only host pages that lie in the
 * range as a whole: what is left of others keeps its bytes. Marks dirty what it
 * changes. Loop thread, also while the guest runs.
 *
 * -EFAULT unless all of it is RAM. -ENOMEM: a memory file is in so many pieces
 * by now that another would be too much. -EIO: the page-fault handler has ended
 * (one that does not read its events is waited for). -errno of madvise or mmap.
 * Then some of it may have kept its bytes.
 */
int gmem_discard(struct gmem *mem, uint64_t gpa, uint64_t len) must_check;

/* The bytes from @gpa on, at most @len, whose pages were all discarded at some
 * time, or all never. Any thread. */
uint64_t gmem_run(const struct gmem *mem, uint64_t gpa, uint64_t len,
		  bool *ret_discarded);

/* Or-s into @bits, one per page as in gmem_take_dirty, the pages that were ever
 * discarded: where they have no memory of their own they are zeros, whatever
 * the memory file or the last snapshot has there. False: none ever was. Loop
 * thread. */
bool gmem_add_discarded(const struct gmem *mem, uint64_t *bits);

/* GMEM_UFFD: the stream whose end is the page-fault handler's. Borrowed. */
void gmem_set_handler(struct gmem *mem, int socket);

/* It has ended: vCPUs may be waiting for it for ever, and whoever waits for
 * them. Loop thread. */
bool gmem_handler_ended(const struct gmem *mem);

/* Borrows [gpa, gpa+len) as one iovec; return it with gmem_unmap, which marks
 * the pages dirty for GMEM_DEVICE_WRITES. Bytes may change under the reader. */
int gmem_map(struct gmem *mem, uint64_t gpa, size_t len,
	     struct iovec *ret_iov) must_check;
void gmem_unmap(struct gmem *mem, uint64_t gpa, size_t len, enum gmem_dir dir);

/* Pointer that stays valid until gmem_destroy; for virtio/queue.c only. */
int gmem_hold(struct gmem *mem, uint64_t gpa, size_t len,
	      void **ret_ptr) must_check;
void gmem_mark_dirty(struct gmem *mem, uint64_t gpa, size_t len);

/* Host-side dirty tracking, one bit per 4 KiB page of all regions in order. */
int gmem_track_dirty(struct gmem *mem) must_check;
bool gmem_tracks_dirty(const struct gmem *mem);
bool gmem_page_dirty(const struct gmem *mem, uint64_t gpa);

/* Moves the marks into @bits, which are or-ed (a snapshot has KVM's in them
 * already), and puts them back for a snapshot that came to nothing. @bits has
 * gmem_size / 4096 bits in whole words. Nothing is tracked: nothing happens. */
void gmem_take_dirty(struct gmem *mem, uint64_t *bits);
void gmem_return_dirty(struct gmem *mem, const uint64_t *bits);

#endif
