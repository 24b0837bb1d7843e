/* SPDX-License-Identifier: MIT
 * blkdev/nvme_uring/identify.c - what a drive says of itself: NVM Express 1.4, 5.15, and Zoned
 * Namespace Command Set 1.0, 5.1.
 */
#include "blkdev/nvme_command.h"
#include "blkdev/nvme_uring/nvme_uring.h"

#include <errno.h>
#include <linux/nvme_ioctl.h>
#include <string.h>
#include <sys/ioctl.h>

#define ANSWER 4096
/* The kernel takes at most 127 pieces of memory a command; what is in pages all over takes one a
 * page, and one more a segment. */
#define REQUEST_MAX ((uint64_t)256 << 10)

/* CNS, Controller or Namespace Structure */
enum {
	OF_NAMESPACE = 0,
	OF_CONTROLLER = 1,
	DESCRIPTORS = 3,
	ZONED_NAMESPACE = 5,
	ZONED_CONTROLLER = 6
};

#define CSI_ZONED     2
#define CSI_AT        24   /* in dword 11 */
#define NIDT_CSI      4    /* 5.15.2.4 type of a descriptor: one byte, the command set */
#define ZONED_LBAFE   2816 /* 16 bytes each: the size of a zone (64 bits) */
#define REPORT_HEADER 64   /* of Zone Management Receive; descriptors are as long */
#define REPORT_ZCAP   8    /* in a descriptor */

struct asking {
	struct sched *sched;
	const char *path;
	int fd;
	uint8_t answer[ANSWER];
};

static int told(const struct asking *asking, int err, const char *why)
{
	log_write(&asking->sched->log, LOG_LEVEL_ERROR, "%s: %s", asking->path, why);
	return err;
}

/* 0, -errno, or -EIO: the drive does not know this. */
static int identify(struct asking *asking, uint32_t cns, uint32_t nsid, uint32_t csi)
{
	struct nvme_admin_cmd command = {
		.opcode = NVME_IDENTIFY,
		.nsid = nsid,
		.addr = (uintptr_t)asking->answer,
		.data_len = ANSWER,
		.cdw10 = cns,
		.cdw11 = csi << CSI_AT,
	};
	int status;

	memset(asking->answer, 0, ANSWER);
	do
		status = ioctl(asking->fd, NVME_IOCTL_ADMIN_CMD, &command);
	while (status < 0 && errno == EINTR);
	if (status < 0 && (errno == EACCES || errno == EPERM))
		return told(asking, -EACCES,
			    "it cannot be asked what it is: that wants CAP_SYS_ADMIN");
	return status < 0 ? -errno : status > 0 ? -EIO : 0;
}

/* Is its command set that of zones?  A drive that has no descriptors is older than those. */
static bool in_zones(struct asking *asking, uint32_t nsid)
{
	uint32_t at = 0;

	if (identify(asking, DESCRIPTORS, nsid, 0))
		return false;
	while (at + 4 < ANSWER && asking->answer[at + 1] > 0) {
		if (asking->answer[at] == NIDT_CSI)
			return asking->answer[at + 4] == CSI_ZONED;
		at += 4U + asking->answer[at + 1];
	}
	return false;
}

/* Bytes by a power of two of pages, 0: any number. */
static uint64_t bound(uint8_t shift, uint64_t most)
{
	return shift > 0 && shift < 16 && most > (uint64_t)4096 << shift ? (uint64_t)4096 << shift
									 : most;
}

static int learn_controller(struct asking *asking, struct nvme_uring_drive *drive)
{
	int err = identify(asking, OF_CONTROLLER, 0, 0);

	if (err)
		return err;
	drive->request_bytes_max = bound(asking->answer[NVME_ID_MDTS], REQUEST_MAX);
	drive->volatile_cache = asking->answer[NVME_ID_VWC] & 1;
	drive->discards = nvme_answer16(asking->answer, NVME_ID_ONCS) >> 2 & 1;
	return 0;
}

static int learn_namespace(struct asking *asking, struct nvme_uring_drive *drive)
{
	int err = identify(asking, OF_NAMESPACE, drive->nsid, 0);

	if (err)
		return err;
	uint32_t format = nvme_answer_format(asking->answer);
	uint64_t blocks = nvme_answer64(asking->answer, NVME_NS_NSZE);
	drive->block_shift = format >> 16 & 0xff;
	if ((format & 0xffff) || (drive->block_shift != 9 && drive->block_shift != 12) ||
	    blocks == 0 || blocks > UINT64_MAX >> 1 >> drive->block_shift)
		return told(asking, -ENOTSUP,
			    "its blocks are not of 512 or 4096 bytes, or have metadata (nvme "
			    "format)");
	drive->capacity_bytes = blocks << drive->block_shift;
	return 0;
}

/* Blocks that can be written of a zone: as the first of them says.  0: it does not. */
static uint64_t zone_capacity(struct asking *asking, const struct nvme_uring_drive *drive)
{
	struct nvme_passthru_cmd command = {
		.opcode = NVME_ZONE_RECEIVE,
		.nsid = drive->nsid,
		.addr = (uintptr_t)asking->answer,
		.data_len = ANSWER,
		.cdw12 = ANSWER / 4 - 1,
	};

	memset(asking->answer, 0, ANSWER);
	if (ioctl(asking->fd, NVME_IOCTL_IO_CMD, &command))
		return 0;
	return nvme_answer64(asking->answer, REPORT_HEADER + REPORT_ZCAP);
}

static int learn_zones(struct asking *asking, struct nvme_uring_drive *drive)
{
	uint32_t format = asking->answer[NVME_NS_FLBAS] & 15U;

	if (!in_zones(asking, drive->nsid))
		return 0;
	if (identify(asking, ZONED_CONTROLLER, 0, CSI_ZONED) == 0) /* byte 0: ZASL */
		drive->request_bytes_max = bound(asking->answer[0], drive->request_bytes_max);
	int err = identify(asking, ZONED_NAMESPACE, drive->nsid, CSI_ZONED);
	if (err)
		return err;
	uint64_t zone = nvme_answer64(asking->answer, ZONED_LBAFE + 16 * format);
	uint64_t usable = zone_capacity(asking, drive);
	if (zone == 0 || usable == 0 || usable > zone ||
	    zone > drive->capacity_bytes >> drive->block_shift)
		return told(asking, -EIO, "its zones make no sense");
	drive->zone_bytes = zone << drive->block_shift;
	drive->zone_capacity_bytes = usable << drive->block_shift;
	drive->capacity_bytes -= drive->capacity_bytes % drive->zone_bytes;
	drive->discards = true;
	return 0;
}

int nvme_uring_identify(struct sched *sched, int fd, const char *path,
			struct nvme_uring_drive *drive)
{
	struct asking asking = {.sched = sched, .path = path, .fd = fd};
	int nsid = ioctl(fd, NVME_IOCTL_ID);

	if (nsid <= 0)
		return told(&asking, -ENODEV,
			    "it is no character device of an NVMe namespace, as /dev/ng0n1");
	*drive = (struct nvme_uring_drive){.nsid = (uint32_t)nsid};
	int err = learn_controller(&asking, drive);
	if (!err)
		err = learn_namespace(&asking, drive);
	if (!err)
		err = learn_zones(&asking, drive);
	if (err && err != -EACCES && err != -ENOTSUP)
		return told(&asking, err, "it does not say what it is");
	return err;
}
