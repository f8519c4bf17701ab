/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost-user back end that says what the input has, and hangs up. Whatever it
 * says is taken for what it is or refused with a sentence.
 */
#include "virtio/vhost_user.h"
#include "vmm/log.h"

#include <assert.h>
#include <string.h>
#include <sys/socket.h>

#define INPUT_MAX 4096
#define CONFIG_LEN 60

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const struct log_config quiet = {.level = LOG_LEVEL_OFF};

	(void)argc;
	(void)argv;
	return log_configure(&quiet, NULL);
}

/* What the device does with a back end that it has agreed with. */
static void use(struct vhost_user *vhost)
{
	uint8_t config[CONFIG_LEN + 1];
	struct error err = {0};

	memset(config, 0xee, sizeof(config));
	assert(vhost->features & BIT(VIRTIO_F_VERSION_1));
	if (vhost_user_get_config(vhost, config, CONFIG_LEN, &err))
		assert(err.text[0] && config[0] == 0xee);
	assert(config[CONFIG_LEN] == 0xee);
	while (!vhost_user_ask_stop(vhost) && !vhost_user_end_stop(vhost))
		;
	assert(vhost_user_check_idle(vhost));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vhost_user vhost = {.fd = -1};
	struct error err = {0};
	int ends[2];

	if (size > INPUT_MAX ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends))
		return 0;
	if (send(ends[1], data, size, 0) != (ssize_t)size ||
	    shutdown(ends[1], SHUT_WR))
		abort();
	if (vhost_user_adopt(&vhost, ends[0], BIT(5) | BIT(29), &err))
		assert(err.text[0] && vhost.fd == -1);
	else
		use(&vhost);
	vhost_user_close(&vhost);
	close(ends[1]);
	return 0;
}
