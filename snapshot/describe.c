/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/describe.h"

#include "snapshot/config_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TAG_META STATE_TAG('M', 'E', 'T', 'A')
#define META_VERSION 1

void snapshot_meta_save(struct state_writer *writer,
			const struct snapshot_meta *meta)
{
	state_begin(writer, TAG_META, META_VERSION, 0);
	state_put_string(writer, meta->version);
	state_put_string(writer, meta->id);
	state_put_u64(writer, meta->time);
	state_put_string(writer, meta->parent);
	state_end(writer);
}

int snapshot_meta_load(const struct state_file *file,
		       struct snapshot_meta *meta, struct error *err)
{
	struct state_reader reader;
	int ret = state_need(file, TAG_META, 0, META_VERSION, &reader, err);

	*meta = (struct snapshot_meta){0};
	if (ret)
		return ret;
	meta->version = state_get_string(&reader);
	meta->id = state_get_string(&reader);
	meta->time = state_get_u64(&reader);
	meta->parent = state_get_string(&reader);
	return state_reader_end(&reader, err);
}

void snapshot_meta_release(struct snapshot_meta *meta)
{
	free(take_ptr(meta->version));
	free(take_ptr(meta->id));
	free(take_ptr(meta->parent));
}

/* What comes from the file may hold anything; a line stays a line. */
static void print_text(FILE *out, const char *name, const char *text)
{
	fprintf(out, "%s: ", name);
	for (; text && *text; text++)
		fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?'
								   : *text,
		      out);
	fputc('\n', out);
}

static int describe_meta(const struct state_file *file, FILE *out,
			 struct error *err)
{
	struct snapshot_meta meta;
	int ret = snapshot_meta_load(file, &meta, err);
	time_t seconds = (time_t)meta.time;
	struct tm tm;
	char text[64];

	if (!ret) {
		print_text(out, "program", meta.version);
		print_text(out, "microvm", meta.id);
		if (gmtime_r(&seconds, &tm) &&
		    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm))
			print_text(out, "created", text);
		print_text(out, "parent", meta.parent ? meta.parent : "none");
	}
	snapshot_meta_release(&meta);
	return ret;
}

static int describe_machine(const struct state_file *file, FILE *out,
			    struct error *err)
{
	struct boot_source_config boot = {0};
	struct machine_config machine = {0};
	int ret = config_state_load_machine(file, &machine, err);

	if (!ret)
		ret = config_state_load_boot(file, &boot, err);
	if (!ret) {
		fprintf(out, "vcpus: %lu\n", (unsigned long)machine.vcpu_count);
		fprintf(out, "memory: %lu MiB\n",
			(unsigned long)machine.mem_size_mib);
		print_text(out, "kernel", boot.kernel_image_path);
	}
	boot_source_config_release(&boot);
	return ret;
}

static int describe_drives(const struct state_file *file, FILE *out,
			   struct error *err)
{
	bool found = true;
	int ret = 0;

	for (uint16_t i = 0; found && !ret; i++) {
		struct drive_config config = {0};

		ret = config_state_load_drive(file, i, &config, &found, err);
		if (!ret && found) {
			print_text(out, "drive", config.drive_id);
			print_text(out, "  path", config.path_on_host);
		}
		drive_config_release(&config);
	}
	return ret;
}

static int describe_nets(const struct state_file *file, FILE *out,
			 struct error *err)
{
	bool found = true;
	int ret = 0;

	for (uint16_t i = 0; found && !ret; i++) {
		struct net_config config = {0};

		ret = config_state_load_net(file, i, &config, &found, err);
		if (!ret && found) {
			print_text(out, "interface", config.iface_id);
			print_text(out, "  tap", config.host_dev_name);
		}
		net_config_release(&config);
	}
	return ret;
}

static int describe_pmems(const struct state_file *file, FILE *out,
			  struct error *err)
{
	bool found = true;
	int ret = 0;

	for (uint16_t i = 0; found && !ret; i++) {
		struct pmem_config config = {0};

		ret = config_state_load_pmem(file, i, &config, &found, err);
		if (!ret && found) {
			print_text(out, "pmem", config.id);
			print_text(out, "  path", config.path_on_host);
		}
		pmem_config_release(&config);
	}
	return ret;
}

static int describe_vsock(const struct state_file *file, FILE *out,
			  struct error *err)
{
	struct vsock_config config = {0};
	bool found;
	int ret = config_state_load_vsock(file, &config, &found, err);

	if (!ret && found) {
		fprintf(out, "vsock: CID %lu\n",
			(unsigned long)config.guest_cid);
		print_text(out, "  path", config.uds_path);
	}
	vsock_config_release(&config);
	return ret;
}

static int describe(const struct state_file *file, FILE *out, struct error *err)
{
	int ret;

	fprintf(out, "v%u.%u.0\n", file->major, file->minor);
	ret = describe_meta(file, out, err);
	if (!ret)
		ret = describe_machine(file, out, err);
	if (!ret)
		ret = describe_drives(file, out, err);
	if (!ret)
		ret = describe_nets(file, out, err);
	if (!ret)
		ret = describe_pmems(file, out, err);
	if (!ret)
		ret = describe_vsock(file, out, err);
	return ret;
}

int snapshot_describe(const char *path, FILE *out, struct error *err)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct state_file file;
	int ret;

	if (fd < 0)
		return error_set_os(err, errno,
				    "Failed to open snapshot file:");
	ret = state_file_read(&file, fd, err);
	if (ret)
		return ret;
	ret = describe(&file, out, err);
	state_file_release(&file);
	return ret;
}
