/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two things that no shell command does for the lab's host:
 *
 *   tool seed FILE    credits FILE to the kernel's entropy pool and reseeds:
 *                     every restored checkpoint would draw the same numbers
 *   tool leave        ends the emulator through its debug-exit port
 *                     (a power-off takes the kernel half a second)
 */
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEBUG_EXIT_PORT 0xf4
#define SEED_BYTES 64

static int seed(const char *path)
{
	/* struct rand_pool_info with its array sized */
	struct {
		int entropy_count;
		int buf_size;
		unsigned char buf[SEED_BYTES];
	} pool = {.entropy_count = SEED_BYTES * 8, .buf_size = SEED_BYTES};
	int from = open(path, O_RDONLY | O_CLOEXEC);
	int to = open("/dev/urandom", O_RDWR | O_CLOEXEC);

	if (from < 0 || to < 0 ||
	    read(from, pool.buf, SEED_BYTES) != SEED_BYTES)
		return 1;
	return ioctl(to, RNDADDENTROPY, &pool) || ioctl(to, RNDRESEEDCRNG);
}

static int leave(void)
{
	if (iopl(3))
		return 1;
	outb(0, DEBUG_EXIT_PORT);
	return 1;
}

int main(int argc, char *argv[])
{
	int ret = 2;

	if (argc == 3 && !strcmp(argv[1], "seed"))
		ret = seed(argv[2]);
	else if (argc == 2 && !strcmp(argv[1], "leave"))
		ret = leave();
	if (ret)
		perror("tool");
	return ret;
}
