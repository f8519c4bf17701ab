/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/mmds_sort.h"

#include "vmm/util.h"

#include <string.h>

static int compare_keys(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *sort_array(json_t *array)
{
	json_t *result = json_array();
	int ret = 0;

	for (size_t i = 0; i < json_array_size(array) && !ret; i++)
		ret = json_array_append_new(
			result, mmds_sort(json_array_get(array, i)));
	if (ret)
		json_decref(take_ptr(result));
	return result;
}

/* jansson's objects keep the order in which they are filled. */
static json_t *fill_object(json_t *object, const char *const *keys,
			   size_t count)
{
	json_t *result = json_object();
	int ret = 0;

	for (size_t i = 0; i < count && !ret; i++)
		ret = json_object_set_new_nocheck(
			result, keys[i],
			mmds_sort(json_object_get(object, keys[i])));
	if (ret)
		json_decref(take_ptr(result));
	return result;
}

static json_t *sort_object(json_t *object)
{
	size_t count = 0;
	const char **keys = calloc(json_object_size(object) + 1, sizeof(*keys));
	const char *key;
	json_t *value, *result;

	if (!keys)
		return NULL;
	json_object_foreach(object, key, value) keys[count++] = key;
	qsort(keys, count, sizeof(*keys), compare_keys);
	result = fill_object(object, keys, count);
	free(keys);
	return result;
}

json_t *mmds_sort(json_t *value)
{
	if (json_is_object(value))
		return sort_object(value);
	if (json_is_array(value))
		return sort_array(value);
	return json_incref(value);
}
