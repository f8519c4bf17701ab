/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration file (--config-file): one JSON object whose sections have
 * the bodies of the corresponding requests. Sections are applied in the order
 * of a table, then the microVM is started. A section that this version cannot
 * serve is refused; one that nobody knows is ignored.
 */
#include "api/resources.h"
#include "api/server.h"
#include "vmm/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define FILE_SIZE_MAX MIB(16)

static int run(struct vmm *vmm, struct vmm_action *action, struct error *err)
{
	action->when = VMM_PRE_BOOT;
	return vmm_act(vmm, action, err);
}

/* ---------------------------------------------------------------- sections */

typedef int (*section_fn)(struct vmm *vmm, const struct json_text *text,
			  const json_t *value, struct error *err);

static int apply_logger(struct vmm *vmm, const struct json_text *text,
			const json_t *value, struct error *err)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_LOGGER};
	int ret;

	logger_defaults(&action.logger);
	ret = json_read_object(text, value, &logger_shape, &action.logger, err);
	if (!ret)
		ret = run(vmm, &action, err);
	log_config_release(&action.logger);
	return ret;
}

static int apply_metrics(struct vmm *vmm, const struct json_text *text,
			 const json_t *value, struct error *err)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_METRICS};
	int ret = json_read_object(text, value, &metrics_shape, &action.metrics,
				   err);

	if (!ret)
		ret = run(vmm, &action, err);
	metrics_config_release(&action.metrics);
	return ret;
}

static int apply_machine(struct vmm *vmm, const struct json_text *text,
			 const json_t *value, struct error *err)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_MACHINE};
	int ret;

	machine_put_defaults(&action.machine);
	ret = json_read_object(text, value, &machine_put_shape, &action.machine,
			       err);
	return ret ? ret : run(vmm, &action, err);
}

static int apply_boot_source(struct vmm *vmm, const struct json_text *text,
			     const json_t *value, struct error *err)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_BOOT_SOURCE};
	int ret = json_read_object(text, value, &boot_source_shape,
				   &action.boot, err);

	if (!ret)
		ret = run(vmm, &action, err);
	boot_source_config_release(&action.boot);
	return ret;
}

static int apply_drive(struct vmm *vmm, const struct json_text *text,
		       const json_t *value, struct error *err)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_DRIVE};
	int ret = json_read_object(text, value, &drive_put_shape, &action.drive,
				   err);

	if (!ret)
		ret = api_valid_id(action.drive.drive_id, err);
	if (!ret)
		ret = run(vmm, &action, err);
	drive_config_release(&action.drive);
	return ret;
}

static int apply_net(struct vmm *vmm, const struct json_text *text,
		     const json_t *value, struct error *err)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_NET};
	int ret =
		json_read_object(text, value, &net_put_shape, &action.net, err);

	if (!ret)
		ret = api_valid_id(action.net.iface_id, err);
	if (!ret)
		ret = run(vmm, &action, err);
	net_config_release(&action.net);
	return ret;
}

static int apply_pmem(struct vmm *vmm, const struct json_text *text,
		      const json_t *value, struct error *err)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_PMEM};
	int ret = json_read_object(text, value, &pmem_put_shape, &action.pmem,
				   err);

	if (!ret)
		ret = api_valid_id(action.pmem.id, err);
	if (!ret)
		ret = run(vmm, &action, err);
	pmem_config_release(&action.pmem);
	return ret;
}

static int apply_list(struct vmm *vmm, const struct json_text *text,
		      const json_t *value, section_fn apply, struct error *err)
{
	int ret = 0;

	if (!json_is_array(value))
		return error_set(err, EINVAL, "it is not an array");
	for (size_t i = 0; i < json_array_size(value) && !ret; i++)
		ret = apply(vmm, text, json_array_get(value, i), err);
	return ret;
}

static int apply_drives(struct vmm *vmm, const struct json_text *text,
			const json_t *value, struct error *err)
{
	return apply_list(vmm, text, value, apply_drive, err);
}

static int apply_nets(struct vmm *vmm, const struct json_text *text,
		      const json_t *value, struct error *err)
{
	return apply_list(vmm, text, value, apply_net, err);
}

static int apply_pmems(struct vmm *vmm, const struct json_text *text,
		       const json_t *value, struct error *err)
{
	return apply_list(vmm, text, value, apply_pmem, err);
}

static int apply_vsock(struct vmm *vmm, const struct json_text *text,
		       const json_t *value, struct error *err)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_VSOCK};
	int ret =
		json_read_object(text, value, &vsock_shape, &action.vsock, err);

	if (!ret)
		ret = run(vmm, &action, err);
	vsock_config_release(&action.vsock);
	return ret;
}

static int apply_entropy(struct vmm *vmm, const struct json_text *text,
			 const json_t *value, struct error *err)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_ENTROPY};
	int ret = json_read_object(text, value, &entropy_shape, &action.entropy,
				   err);

	return ret ? ret : run(vmm, &action, err);
}

static int apply_mmds(struct vmm *vmm, const struct json_text *text,
		      const json_t *value, struct error *err)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_MMDS_CONFIG};
	int ret = json_read_object(text, value, &mmds_config_shape,
				   &action.mmds, err);

	if (!ret)
		ret = run(vmm, &action, err);
	mmds_config_release(&action.mmds);
	return ret;
}

static int apply_hotplug(struct vmm *vmm, const struct json_text *text,
			 const json_t *value, struct error *err)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_HOTPLUG};
	int ret;

	hotplug_defaults(&action.hotplug);
	ret = json_read_object(text, value, &hotplug_shape, &action.hotplug,
			       err);
	return ret ? ret : run(vmm, &action, err);
}

static int apply_balloon(struct vmm *vmm, const struct json_text *text,
			 const json_t *value, struct error *err)
{
	struct vmm_action action = {.type = VMM_ACTION_SET_BALLOON};
	int ret = json_read_object(text, value, &balloon_shape, &action.balloon,
				   err);

	return ret ? ret : run(vmm, &action, err);
}

/* An empty list asks for nothing, and is what GET /vm/config prints. */
static int refuse_section(struct vmm *vmm, const struct json_text *text,
			  const json_t *value, struct error *err)
{
	(void)vmm;
	(void)text;
	if (json_is_array(value) && json_array_size(value) == 0)
		return 0;
	return error_set(err, ENOTSUP, "it is not supported by this version");
}

static const struct {
	const char *name;
	bool required;
	section_fn apply;
} sections[] = {
	{"logger", false, apply_logger},
	{"metrics", false, apply_metrics},
	{"machine-config", false, apply_machine},
	{"boot-source", true, apply_boot_source},
	{"drives", true, apply_drives},
	{"network-interfaces", false, apply_nets},
	{"vsock", false, apply_vsock},
	{"mmds-config", false, apply_mmds}, /* names interfaces */
	{"cpu-config", false, refuse_section},
	{"balloon", false, apply_balloon},
	{"entropy", false, apply_entropy},
	{"pmem", false, apply_pmems},
	{"memory-hotplug", false, apply_hotplug},
};

static int apply_sections(struct vmm *vmm, const struct json_text *text,
			  const json_t *document, struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(sections); i++) {
		const json_t *value =
			json_object_get(document, sections[i].name);
		int ret = 0;

		if (value && !json_is_null(value))
			ret = sections[i].apply(vmm, text, value, err);
		else if (sections[i].required)
			ret = error_set(err, EINVAL, "it is missing");
		if (ret) {
			error_prefix(err, "section `%s`: ", sections[i].name);
			return ret;
		}
	}
	return 0;
}

/* ---------------------------------------------------------------- the file */

/* Reads to the end, whatever kind of file it is. -EFBIG: longer than @max. */
static int read_to_end(int fd, size_t max, char **ret_text, size_t *ret_len)
{
	AUTO_FREE char *text = NULL;
	size_t len = 0, size = 0;
	ssize_t n;

	do {
		if (len + 1 >= size) {
			char *grown = realloc(text, 2 * size + KIB(16));

			if (!grown)
				return -ENOMEM;
			text = grown;
			size = 2 * size + KIB(16);
		}
		n = read(fd, text + len, size - len - 1);
		if (n < 0 && errno != EINTR)
			return -errno;
		len += n > 0 ? (size_t)n : 0;
		if (len > max)
			return -EFBIG;
	} while (n);
	text[len] = '\0';
	*ret_len = len;
	*ret_text = take_ptr(text);
	return 0;
}

/* @what: "the ... file", for errors. It may be a pipe. */
static int read_file(const char *path, const char *what, char **ret_text,
		     size_t *ret_len, struct error *err)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ret = fd < 0 ? -errno
			 : read_to_end(fd, FILE_SIZE_MAX, ret_text, ret_len);

	if (ret == -EFBIG)
		return error_set(err, EINVAL,
				 "The %s file is longer than 16 MiB", what);
	if (ret)
		return error_set_os(
			err, -ret,
			"Unable to open or read from the %s file:", what);
	return 0;
}

static int configure(struct vmm *vmm, const char *path, struct error *err)
{
	AUTO_FREE char *buf = NULL;
	struct json_text text;
	json_t *document;
	int ret = read_file(path, "configuration", &buf, &text.len, err);

	if (ret)
		return ret;
	text.text = buf;
	document = json_parse(&text, err);
	if (!document)
		return -EINVAL;
	ret = apply_sections(vmm, &text, document, err);
	json_decref(document);
	return ret;
}

int api_apply_config_file(struct vmm *vmm, const char *path, struct error *err)
{
	struct vmm_action start = {.type = VMM_ACTION_START};
	int ret = configure(vmm, path, err);

	if (ret) {
		error_prefix(err, "Configuration for VMM from one single json "
				  "failed: ");
		return ret;
	}
	ret = run(vmm, &start, err);
	if (ret) {
		error_prefix(err,
			     "Could not Start MicroVM from one single json: ");
		return ret;
	}
	log_info("Successfully started microvm that was configured from one "
		 "single json");
	return 0;
}

/* ------------------------------------------------------------ the metadata */

static int put_metadata(struct vmm *vmm, const char *path, struct error *err)
{
	struct vmm_action action = {.type = VMM_ACTION_PUT_METADATA};
	AUTO_FREE char *buf = NULL;
	struct json_text text;
	int ret = read_file(path, "mmds content", &buf, &text.len, err);

	if (ret)
		return ret;
	text.text = buf;
	action.metadata = json_parse_exact(&text, err);
	if (!action.metadata) {
		error_prefix(err, "MMDS error: metadata provided not valid "
				  "json: ");
		return -EINVAL;
	}
	ret = run(vmm, &action, err);
	json_decref(action.metadata);
	if (ret == -EFBIG)
		return error_set(err, EFBIG,
				 "Populating MMDS from file failed: The MMDS "
				 "patch request doesn't fit.");
	return ret;
}

int api_apply_metadata_file(struct vmm *vmm, const char *path,
			    struct error *err)
{
	int ret = put_metadata(vmm, path, err);

	if (!ret)
		log_info("Successfully added metadata to mmds from file");
	return ret;
}
