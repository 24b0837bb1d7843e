/* SPDX-License-Identifier: MIT
 * blkdev/nvme/nvme.h - NVMe controllers by a driver of our own: NVM Express 1.4, one pair of I/O
 * queues an instance, polled, over a bus (bus.h).
 *
 * Data goes by PRP lists if pages allow it, else by scatter gather lists if the controller has
 * them, else, as what it cannot reach, through buffers of ours.
 *
 * A controller that does not answer, or says what cannot be, is reset, which happens in poll, step
 * by step: requests under way are put out once more, those that were before end with -EIO.  One
 * that cannot be brought up again, or is gone, is dead: it ends all requests with an error.
 *
 * Invariants: a slot has a request if it is not SLOT_FREE; num_free, num_sent count slots;
 * look_ns is 0 if anything but completions is to be done in the next poll.
 */
#pragma once

#include "blkdev/blkdev.h"
#include "blkdev/nvme/bus.h"
#include "blkdev/nvme/queue.h"
#include "blkdev/nvme_command.h"

#define NVME_DEPTH_MAX   128 /* slots: their numbers are the low byte of a command's id */
#define NVME_IOV_MAX     64
#define NVME_REQUEST_MAX ((uint64_t)1 << 20) /* its list of pages has room in one page */

enum nvme_state {
	NVME_STOPPING, /* CC.EN is 0, CSTS.RDY not yet */
	NVME_STARTING, /* CC.EN is 1, CSTS.RDY not yet */
	NVME_SETTING_UP,
	NVME_RUNNING,
	NVME_DEAD,
};

enum nvme_slot_state {
	SLOT_FREE,
	SLOT_SENT,
	SLOT_HELD, /* to be put out when the controller runs, from again_ns on */
	SLOT_BARE, /* waits for a buffer */
	SLOT_OVER, /* ends with err in the next poll */
};

struct nvme_slot {
	struct blk_request *request;
	struct nvme_command command;
	uint64_t list_address;
	void *list; /* a page: PRP or SGL entries, or ranges */
	uint64_t deadline_ns;
	uint64_t again_ns;
	uint64_t ticket; /* who waits longest for a buffer */
	int err;
	uint16_t id;
	uint8_t state;
	uint8_t retries;
	bool sent_twice; /* a reset was in between */
	int16_t buffer;  /* -1: none */
};

/* Where the superblocks of a range of addresses are to the controller. */
struct nvme_map {
	uintptr_t base;
	uint64_t bytes;
	uint64_t *entries; /* 0: not seen yet; NULL: none was */
};

struct nvme {
	struct blkdev dev;
	struct nvme_bus *bus;
	struct nvme_queue io;
	uint64_t look_ns; /* time of the next look at all that is no completion; TIMER_NEVER */
	struct nvme_slot *slots;
	uint8_t free[NVME_DEPTH_MAX];
	uint32_t num_free;
	uint32_t num_sent;
	enum nvme_state state;
	int err; /* NVME_DEAD: of every request */

	/* what it is */
	uint64_t cap;
	uint32_t nsid;
	uint32_t block_shift;
	bool identified;
	bool has_shadow;
	bool has_sgl;
	uint32_t sgl_align;

	/* bringing it up */
	struct nvme_queue admin;
	struct nvme_shadow shadow;
	uint64_t shadow_addresses[2];
	uint8_t *answer; /* to Identify: a page */
	uint64_t answer_address;
	uint32_t step;
	uint64_t deadline_ns; /* of the state, or the step */

	/* memory */
	struct heap_watcher watcher;
	struct nvme_map maps[2];
	char *buffers; /* of request_bytes_max each */
	uint64_t buffers_address;
	uint32_t num_buffers;
	uint32_t num_spare;
	uint32_t num_bare; /* slots that wait for one */
	uint8_t spare[NVME_DEPTH_MAX];
	uint64_t tickets;
};

static inline struct nvme *nvme_of(struct blkdev *dev)
{
	return container_of(dev, struct nvme, dev);
}

/* A device on a controller's namespace.  The bus is its from now on; closed if it fails.  0 or
 * -errno, told to the log. */
int nvme_attach(struct sched *sched, struct nvme_bus *bus, uint32_t nsid, struct blkdev **dev_out);

/* By the configuration: the place's path is a PCI address, as 0000:01:00.0, and /N behind it, if
 * another namespace than the first is meant. */
int nvme_open_configured(struct sched *sched, const struct blkdev_place *place,
			 struct blkdev **dev_out);

/* vfio.c: the bus of the device at a PCI address, which vfio-pci drives.  0 or -errno. */
int nvme_vfio_open(struct sched *sched, const char *address, struct nvme_bus **bus_out);

/* ---- controller.c ---- */

/* Looks at the controller, does the next step of bringing it up. */
void nvme_turn(struct nvme *nvme);

/* Running: it is to be brought up anew. */
void nvme_reset(struct nvme *nvme, const char *why);

void nvme_close(struct blkdev *dev);

/* ---- request.c ---- */

extern const struct blkdev_ops nvme_ops;

/* Slots and buffers, when it is known what the controller can do.  0 or -errno. */
int nvme_requests_open(struct nvme *nvme);

/* The controller touches no memory now: what was under way is to be put out once more. */
void nvme_requeue(struct nvme *nvme);

/* It is dead. */
void nvme_fail_all(struct nvme *nvme);

/* ---- memory.c ---- */

void nvme_memory_open(struct nvme *nvme);
void nvme_memory_close(struct nvme *nvme);

/* Where ptr, heap memory, is to the controller, and so many bytes behind it as *bytes says, which
 * becomes less if they are not all in its superblock.  False: it cannot be reached. */
bool nvme_address(struct nvme *nvme, const void *ptr, uint64_t *bytes, uint64_t *address_out);
