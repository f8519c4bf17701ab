/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/mmds_sort.h"

#include "vmm/json_text.h"
#include "vmm/util.h"

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
static json_t *sort_object(json_t *object)
{
	AUTO_FREE const char **keys = json_text_keys(object);
	json_t *result;
	int ret = 0;

	if (!keys)
		return NULL;
	result = json_object();
	for (size_t i = 0; i < json_object_size(object) && !ret; i++)
		ret = json_object_set_new_nocheck(
			result, keys[i],
			mmds_sort(json_object_get(object, keys[i])));
	if (ret)
		json_decref(take_ptr(result));
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
