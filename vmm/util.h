/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small helpers that every module may use: sizes, container_of, little-endian
 * field types, and clean-up attributes for locals that own an fd or memory.
 * No state, no thread rules.
 */
#ifndef EMBER_UTIL_H
#define EMBER_UTIL_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define BIT(n) (UINT64_C(1) << (n))
#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define PAGE_SIZE_4K ((size_t)4096)

/* @align must be a power of two; ALIGN_UP may wrap, check before. */
#define ALIGN_DOWN(x, align) ((x) & ~((__typeof__(x))(align)-1))
#define ALIGN_UP(x, align) ALIGN_DOWN((x) + ((__typeof__(x))(align)-1), align)

#define container_of(ptr, type, member)                                        \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define must_check __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))

/* Guest-visible little-endian fields: the type says "convert before use". */
typedef struct {
	uint16_t v;
} le16;
typedef struct {
	uint32_t v;
} le32;
typedef struct {
	uint64_t v;
} le64;

static inline uint16_t le16_get(le16 x)
{
	return le16toh(x.v);
}

static inline uint32_t le32_get(le32 x)
{
	return le32toh(x.v);
}

static inline uint64_t le64_get(le64 x)
{
	return le64toh(x.v);
}

static inline le16 le16_make(uint16_t x)
{
	return (le16){htole16(x)};
}

static inline le32 le32_make(uint32_t x)
{
	return (le32){htole32(x)};
}

static inline le64 le64_make(uint64_t x)
{
	return (le64){htole64(x)};
}

/* Closes *@fd if it is open and sets it to -1; errno is preserved. Never
 * retried on EINTR: on Linux the descriptor is gone either way. */
void close_fd(int *fd);

/* free() for AUTO_FREE: takes the address of the pointer variable. */
void free_ptr(void *ptr_to_ptr);

#define AUTO_CLOSE __attribute__((cleanup(close_fd)))
#define AUTO_FREE __attribute__((cleanup(free_ptr)))

/* Hands ownership out of an AUTO_CLOSE variable. */
static inline int take_fd(int *fd)
{
	int ret = *fd;

	*fd = -1;
	return ret;
}

/* Hands ownership out of an AUTO_FREE pointer variable. */
#define take_ptr(p)                                                            \
	({                                                                     \
		__typeof__(p) taken_ = (p);                                    \
		(p) = NULL;                                                    \
		taken_;                                                        \
	})

/* Nanoseconds of CLOCK_MONOTONIC. Any thread. */
uint64_t monotonic_ns(void);

#endif
