/* SPDX-License-Identifier: MIT
 * api/schedule.c - the application's policy over what has completed (sched/wait.h).
 */
#include "api/result.h"

#include "base/bits.h"

#include <demi/wait.h>
#include <errno.h>

static bool is_long(struct sched *sched, const struct op *op)
{
	struct demi *demi = container_of(sched, struct demi, sched);
	demi_qresult_t qr;

	result_read(demi, op, &qr);
	demi->open = 0;
	int is = demi->classify(demi->classify_arg, &qr);
	demi->open = 1;
	return is != 0;
}

int demi_set_schedule(demi_classify_t classify, void *arg, int reserved)
{
	int err = 0;
	struct demi *demi = instance_enter(&err);

	if (unlikely(!demi))
		return err;
	if (classify && reserved < 0)
		return EINVAL;
	demi->classify = classify;
	demi->classify_arg = arg;
	demi->sched.policy = (struct wait_policy){
		.is_long = classify ? is_long : NULL,
		.reserved = classify ? (uint32_t)reserved : 0,
	};
	return 0;
}
