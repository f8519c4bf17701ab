/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/system_data.h"

#include "snapshot/state.h"
#include "vmm/gmem.h"
#include "vmm/memmap_x86.h"

#include <errno.h>

#define SECTION_VERSION 1

void system_data_save(const struct system_data *data, uint64_t gpa,
		      struct state_writer *writer)
{
	state_begin(writer, data->tag, SECTION_VERSION, 0);
	state_put_u64(writer, gpa);
	state_end(writer);
}

static bool is_possible(const struct system_data *data, const struct gmem *mem,
			uint64_t gpa)
{
	return gpa % data->align == 0 && gpa >= MEMMAP_SYSTEM &&
	       gpa <= MEMMAP_SYSTEM_END - data->len &&
	       gmem_contains(mem, gpa, data->len);
}

int system_data_load(const struct system_data *data, const struct gmem *mem,
		     const struct state_file *file, uint64_t *ret_gpa,
		     struct error *err)
{
	struct state_reader reader;
	uint64_t gpa;
	int ret = state_need(file, data->tag, 0, SECTION_VERSION, &reader, err);

	if (ret)
		return ret;
	gpa = state_get_u64(&reader);
	ret = state_reader_end(&reader, err);
	if (ret)
		return ret;
	if (!is_possible(data, mem, gpa))
		return error_set(err, EINVAL, "The %s cannot be at %#lx",
				 data->name, (unsigned long)gpa);
	*ret_gpa = gpa;
	return 0;
}
