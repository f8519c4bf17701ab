/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ember: argv, log, microVM, API, loop, exit code. What happens in between is
 * in vmm.c (life cycle), machine.c (the machine) and loop.c (the main loop).
 */
#include "api/server.h"
#include "snapshot/describe.h"
#include "vmm/log.h"
#include "vmm/options.h"
#include "vmm/seccomp.h"
#include "vmm/serial.h"
#include "vmm/signals.h"
#include "vmm/vcpu.h"
#include "vmm/vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

enum {
	EXIT_BAD_CONFIGURATION = 152,
	EXIT_BAD_ARGUMENTS = 153,
};

/*
 * calloc clears what it takes from the room that the heap has left, and thereby
 * makes it private memory, needed or not; what the heap has to grow for is
 * clear already. So it has little room. An arena per thread would cost memory
 * and system calls; there is little to contend for.
 */
static void tune_malloc(void)
{
	enum { ROOM = 4096 };

	mallopt(M_ARENA_MAX, 1);
	mallopt(M_TOP_PAD, ROOM);
	malloc_trim(0); /* the 132 KiB from before main */
}

/*
 * Each connection of a socket device needs a descriptor, and 1024 is the usual
 * soft limit, there for the sake of select. Failing is no harm until then.
 */
static void raise_fd_limit(void)
{
	enum { ENOUGH = 32768 };
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= ENOUGH)
		return;
	limit.rlim_cur = MIN(limit.rlim_max, (rlim_t)ENOUGH);
	if (setrlimit(RLIMIT_NOFILE, &limit))
		log_warn("Cannot raise the limit of descriptors");
}

/*
 * A descriptor table that grows while threads share it waits for an RCU grace
 * period, milliseconds long. Grown here, before there are threads, it is free.
 */
static void grow_fd_table(void)
{
	enum { ENOUGH_FOR_ALL_DEVICES = 511 };
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, ENOUGH_FOR_ALL_DEVICES);

	close_fd(&fd);
}

/* The guest's serial output must not stall on whoever reads ours. */
static void unblock_stdout(void)
{
	int flags = fcntl(STDOUT_FILENO, F_GETFL);

	if (flags >= 0)
		fcntl(STDOUT_FILENO, F_SETFL, flags | O_NONBLOCK);
}

static void print_information(const struct options *options)
{
	if (options->help)
		options_print_help(stdout);
	else if (options->snapshot_version)
		printf("v%d.%d.0\n", STATE_VERSION_MAJOR, STATE_VERSION_MINOR);
	else
		printf("Ember v" VMM_VERSION "\nFirecracker v" VMM_API_LEVEL
		       "\n\n");
}

static int refuse_arguments(const struct error *err)
{
	log_error("Arguments parsing error: %s", err->text);
	fprintf(stderr,
		"Arguments parsing error: %s \n\nFor more information try "
		"--help.\n",
		err->text);
	return EXIT_BAD_ARGUMENTS;
}

static int describe(const char *path)
{
	struct error err = {0};

	if (snapshot_describe(path, stdout, &err) == 0)
		return EXIT_SUCCESS;
	fprintf(stderr, "Error: %s\n", err.text);
	return EXIT_FAILURE;
}

static int configure_log(const struct options *options, struct error *err)
{
	struct log_config config = {
		.level = LOG_LEVEL_INFO,
		.show_level = options->show_level,
		.show_origin = options->show_log_origin,
	};
	int ret;

	log_set_id(options->id);
	if (options->level && !log_level_parse(options->level, &config.level))
		return error_set(err, EINVAL, "Invalid LevelFilter: %s",
				 options->level);
	config.path = options->log_path ? strdup(options->log_path) : NULL;
	config.module = options->module ? strdup(options->module) : NULL;
	ret = log_configure(&config, err);
	log_config_release(&config);
	return ret;
}

static int configure_metrics(struct vmm *vmm, const struct options *options,
			     struct error *err)
{
	struct vmm_action action = {
		.type = VMM_ACTION_SET_METRICS,
		.when = VMM_ALWAYS,
	};
	int ret;

	if (!options->metrics_path)
		return 0;
	action.metrics.path = strdup(options->metrics_path);
	action.metrics.emit_snapshot_phases = options->emit_snapshot_phases;
	ret = vmm_act(vmm, &action, err);
	metrics_config_release(&action.metrics);
	return ret;
}

static int create_vmm(struct vmm **ret_vmm, struct loop *loop,
		      const struct options *options,
		      const struct seccomp_filters *filters, struct error *err)
{
	const struct vmm_options vmm_options = {
		.id = options->id,
		.boot_timer = options->boot_timer,
		.memory_backing = options->backing,
		.metadata_limit = options->metadata_limit,
		.filters = filters,
		.ready_fd = (int)options->ready_fd,
		.cgroups = options->cgroups,
		.start_time_us = options->start_time_us,
		.start_time_cpu_us = options->start_time_cpu_us,
		.parent_cpu_time_us = options->parent_cpu_time_us,
	};

	return vmm_create(ret_vmm, loop, &vmm_options, err);
}

/* "ID=TARGET" words as a list; the strings are the list's. */
static int parse_overrides(const struct argument_list *words,
			   struct snapshot_overrides *overrides,
			   struct error *err)
{
	overrides->list = calloc(words->count + 1, sizeof(*overrides->list));
	if (!overrides->list)
		return error_set_os(err, ENOMEM, "No memory:");
	for (size_t i = 0; i < words->count; i++) {
		struct snapshot_override *override = &overrides->list[i];
		const char *equals = strchr(words->values[i], '=');

		if (!equals)
			return error_set(err, EINVAL,
					 "'%s' does not have the form "
					 "ID=TARGET",
					 words->values[i]);
		override->id = strndup(words->values[i],
				       (size_t)(equals - words->values[i]));
		override->target = strdup(equals + 1);
		overrides->count++;
		if (!override->id || !override->target)
			return error_set_os(err, ENOMEM, "No memory:");
	}
	return 0;
}

/* NULL stays NULL; a lack of memory is remembered. */
static char *copy(const char *text, bool *failed)
{
	char *result = text ? strdup(text) : NULL;

	*failed |= text && !result;
	return result;
}

/* The same as PUT /snapshot/load, without anybody having to ask. */
static int restore(struct vmm *vmm, const struct options *options,
		   struct error *err)
{
	bool failed = false;
	struct snapshot_load_config config = {
		.snapshot_path = copy(options->restore, &failed),
		.has_backend = true,
		.backend = options->uffd ? MEMORY_BACKEND_UFFD
					 : MEMORY_BACKEND_FILE,
		.backend_path = copy(
			options->uffd ? options->uffd : options->mem, &failed),
		.track_dirty_pages = options->track_dirty_pages,
		.resume_vm = !options->paused,
		.clock_realtime = options->clock_realtime,
		.vsock_uds_path = copy(options->vsock_override, &failed),
		.working_set_path = copy(options->working_set, &failed),
		.prefetch = options->prefetch_at,
		.record_path = copy(options->record_working_set, &failed),
		.record_at = options->record_until,
	};
	struct vmm_action action = {
		.type = VMM_ACTION_LOAD_SNAPSHOT,
		.when = VMM_PRE_BOOT,
		.snapshot_load = {.config = &config},
	};
	int ret =
		parse_overrides(&options->drive_overrides, &config.drives, err);

	if (!ret)
		ret = parse_overrides(&options->network_overrides, &config.nets,
				      err);
	if (!ret)
		ret = parse_overrides(&options->pmem_overrides, &config.pmems,
				      err);
	if (!ret && failed)
		ret = error_set_os(err, ENOMEM, "No memory:");
	if (!ret)
		ret = vmm_act(vmm, &action, err);
	snapshot_load_config_release(&config);
	return ret;
}

static void log_version(void)
{
	log_info("Running Firecracker v" VMM_API_LEVEL " (Ember v" VMM_VERSION
		 ")");
}

/* A restored guest runs before anything is logged: the first line makes libc
 * read the time zone. */
static int restore_then_log(struct vmm *vmm, const struct options *options,
			    struct error *err)
{
	int ret = restore(vmm, options, err);

	log_version();
	return ret;
}

/* Everything that has to be there before the loop runs. */
static int set_up(struct vmm *vmm, struct loop *loop,
		  const struct options *options,
		  const struct seccomp_filters *filters,
		  struct api_server **ret_server, struct error *err)
{
	const struct api_options api = {
		.socket_path = options->api_sock,
		.max_payload = options->max_payload,
		.filters = filters,
	};
	int ret = configure_metrics(vmm, options, err);

	if (!ret)
		ret = signals_install(loop, vmm_metrics(vmm));
	if (!ret)
		ret = vcpu_install_kick_handler();
	if (!ret && !options->no_api)
		ret = api_server_check(&api, err);
	if (!ret && options->metadata)
		ret = api_apply_metadata_file(vmm, options->metadata, err);
	if (!ret && options->config_file)
		ret = api_apply_config_file(vmm, options->config_file, err);
	if (!ret && options->restore)
		ret = restore_then_log(vmm, options, err);
	if (!ret && !options->no_api)
		ret = api_server_start(ret_server, vmm, &api, err);
	/* A microVM that runs already is served by the loop from here on. */
	return ret ? ret : vmm_confine(vmm, err);
}

/* What libraries would open files for when they first need it, where filters
 * do not allow that any more: the time zone, and jansson's seed. */
static void prepare_libraries(void)
{
	size_t seed = 0;

	tzset();
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) != sizeof(seed))
		seed = 0; /* jansson looks for itself */
	json_object_seed(seed);
}

/* What threads are held to, or NULL: no filters were wanted, or there are none.
 */
static int read_filters(const struct options *options,
			struct seccomp_filters **ret_filters, struct error *err)
{
	int ret;

	if (options->no_seccomp)
		return 0;
	if (options->seccomp_filter)
		return seccomp_read_file(options->seccomp_filter, ret_filters,
					 err);
	ret = seccomp_read_builtin(ret_filters, err);
	if (!ret && !*ret_filters)
		log_warn("This build has no system call filters.");
	return ret;
}

static int serve(const struct options *options, struct error *err)
{
	struct seccomp_filters *filters = NULL;
	struct api_server *server = NULL;
	struct loop *loop = NULL;
	struct vmm *vmm = NULL;
	int exit_code = EXIT_FAILURE;
	int ret;

	if (!options->restore)
		log_version();
	ret = read_filters(options, &filters, err);
	if (filters)
		prepare_libraries();
	if (!ret)
		ret = loop_create(&loop);
	if (!ret)
		ret = create_vmm(&vmm, loop, options, filters, err);
	if (!ret)
		ret = set_up(vmm, loop, options, filters, &server, err);
	if (!ret)
		ret = loop_run(loop);
	if (!ret)
		exit_code = vmm_exit_code(vmm);
	else if (!err->code)
		error_set_os(err, -ret, "Cannot run:");
	vmm_quiesce(vmm);
	api_server_stop(server);
	vmm_destroy(vmm);
	loop_destroy(loop);
	seccomp_free(filters);
	return exit_code;
}

int main(int argc, char *argv[])
{
	struct options options;
	struct error err = {0};
	int exit_code;

	if (options_parse(&options, argc, argv, &err) ||
	    options_check_id(options.id, &err))
		return refuse_arguments(&err);
	if (options.help || options.version || options.snapshot_version) {
		print_information(&options);
		return EXIT_SUCCESS;
	}
	if (options.describe_snapshot)
		return describe(options.describe_snapshot);
	tune_malloc();
	raise_fd_limit();
	grow_fd_table();
	unblock_stdout();
	if (configure_log(&options, &err)) {
		fprintf(stderr, "Error: %s\n", err.text);
		return EXIT_BAD_CONFIGURATION;
	}
	exit_code = serve(&options, &err);
	if (exit_code == EXIT_SUCCESS) {
		log_info("Firecracker exiting successfully. exit_code=0");
	} else {
		if (err.code)
			log_error("%s", err.text);
		fprintf(stderr, "Error: %s\n", err.text);
		log_error("Firecracker exiting with error. exit_code=%d",
			  exit_code);
	}
	serial_restore_terminal();
	return exit_code;
}
