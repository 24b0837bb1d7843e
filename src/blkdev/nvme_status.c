/* SPDX-License-Identifier: MIT
 * blkdev/nvme_status.c - see status.h.  NVM Express 1.4, 4.6.1.
 */
#include "blkdev/nvme_status.h"

#include "base/bits.h"

#include <errno.h>

#define CODE(status) ((status)&0x7ff)              /* its type and the code in that */
#define DNR(status)  (((status) & (1 << 14)) != 0) /* do not retry */

struct meaning {
	uint16_t code;
	bool again;
	int err;
};

/* All others are -EIO, for good. */
static const struct meaning meanings[] = {
	{0x000, false, 0},       {0x001, false, -EINVAL}, /* invalid opcode */
	{0x002, false, -EINVAL},                          /* invalid field */
	{0x004, true, -EIO},                              /* data transfer error */
	{0x006, true, -EIO},                              /* internal error */
	{0x007, true, -EIO},                              /* aborted, by request */
	{0x008, true, -EIO},                              /* aborted: its queue was deleted */
	{0x00b, false, -ENODEV},                          /* invalid namespace: it was detached */
	{0x080, false, -EIO},                             /* beyond the last block */
	{0x081, false, -ENOSPC}, /* capacity exceeded: a thin drive is full */
	{0x082, true, -EIO},     /* namespace not ready */
	{0x084, true, -EIO},     /* format in progress */
	{0x180, false, -EINVAL}, /* conflicting attributes */
	{0x300, true, -EIO},     /* internal error of the path */
	{0x303, true, -EIO},     /* asymmetric access transition */
	{0x370, true, -EIO},     /* host pathing error */
};

int nvme_status_error(uint16_t status, bool *again_out)
{
	*again_out = false;
	for (uint32_t i = 0; i < ARRAY_LENGTH(meanings); i++) {
		if (meanings[i].code != CODE(status))
			continue;
		*again_out = meanings[i].again && !DNR(status);
		return meanings[i].err;
	}
	return -EIO;
}
