/* SPDX-License-Identifier: MIT
 * blkdev/nvme/controller.c - brings a controller up, when it is opened and after each reset, one
 * step at a time: NVM Express 1.4, 7.6.1; and its end.
 */
#include "blkdev/nvme/nvme.h"

#include "blkdev/nvme_status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ADMIN_ENTRIES  16
#define IO_ENTRIES_MAX 256
#define IO_ID          1 /* of our pair of queues */
#define ADMIN_NS       UINT64_C(5000000000)
#define READY_UNIT_NS  UINT64_C(500000000) /* CAP.TO */
#define PAUSE_NS       20000               /* between two looks, where we block */

#define PAGES_IO_COMMANDS (IO_ENTRIES_MAX * sizeof(struct nvme_command) / NVME_PAGE)

static uint64_t now(const struct nvme *nvme)
{
	return nvme->dev.sched->now_ns;
}

#define tell(nvme, level, format, ...)                                                   \
	log_write(&(nvme)->dev.sched->log, level, "nvme %s: " format, (nvme)->bus->name, \
		  ##__VA_ARGS__)

/* ---- states ---- */

static void die(struct nvme *nvme, int err, const char *why)
{
	tell(nvme, LOG_LEVEL_ERROR, "%s: it is given up", why);
	nvme->bus->ops->cut_off(nvme->bus);
	nvme->state = NVME_DEAD;
	nvme->err = err;
	nvme_fail_all(nvme);
}

static uint64_t ready_ns(const struct nvme *nvme)
{
	uint64_t ns = NVME_CAP_TO(nvme->cap) * READY_UNIT_NS;

	return ns > ADMIN_NS ? ns : ADMIN_NS;
}

static void stop(struct nvme *nvme)
{
	nvme->bus->ops->write32(nvme->bus, NVME_CC, 0);
	nvme->state = NVME_STOPPING;
	nvme->deadline_ns = now(nvme) + ready_ns(nvme);
	nvme->look_ns = 0;
}

void nvme_reset(struct nvme *nvme, const char *why)
{
	if (nvme->state != NVME_RUNNING)
		return;
	tell(nvme, LOG_LEVEL_WARNING, "%s: it is reset", why);
	stop(nvme);
}

static void start(struct nvme *nvme)
{
	struct nvme_bus *bus = nvme->bus;
	uint32_t stride = 4U << NVME_CAP_DSTRD(nvme->cap);

	nvme_queue_reset(&nvme->admin, 0, stride);
	nvme_queue_reset(&nvme->io, IO_ID, stride);
	bus->ops->write32(bus, NVME_AQA, (ADMIN_ENTRIES - 1) << 16 | (ADMIN_ENTRIES - 1));
	bus->ops->write64(bus, NVME_ASQ, nvme->admin.commands_address);
	bus->ops->write64(bus, NVME_ACQ, nvme->admin.completions_address);
	bus->ops->write32(bus, NVME_CC, NVME_CC_ON);
	nvme->state = NVME_STARTING;
	nvme->deadline_ns = now(nvme) + ready_ns(nvme);
}

/* ---- what is found out about it ---- */

/* Bytes of a request at most: 2^MDTS pages; 0: any number. */
static uint64_t request_max(const struct nvme *nvme)
{
	uint8_t mdts = nvme->answer[NVME_ID_MDTS];
	uint64_t most = mdts == 0 || mdts > 8 ? NVME_REQUEST_MAX : (uint64_t)NVME_PAGE << mdts;

	return most < NVME_REQUEST_MAX ? most : NVME_REQUEST_MAX;
}

static int learn_controller(struct nvme *nvme)
{
	struct blkdev *dev = &nvme->dev;
	uint32_t sgls = nvme_answer32(nvme->answer, NVME_ID_SGLS) & 3;

	if (nvme->nsid > nvme_answer32(nvme->answer, NVME_ID_NN)) {
		tell(nvme, LOG_LEVEL_ERROR, "it has no namespace %u", nvme->nsid);
		return -ENODEV;
	}
	dev->request_bytes_max = request_max(nvme);
	dev->volatile_cache = nvme->answer[NVME_ID_VWC] & 1;
	dev->discards = nvme_answer16(nvme->answer, NVME_ID_ONCS) >> 2 & 1;
	nvme->has_shadow = nvme_answer16(nvme->answer, NVME_ID_OACS) >> 8 & 1;
	nvme->has_sgl = sgls == 1 || sgls == 2;
	nvme->sgl_align = sgls == 1 ? 1 : 4;
	return 0;
}

static int learn_namespace(struct nvme *nvme)
{
	struct blkdev *dev = &nvme->dev;
	uint32_t format = nvme_answer_format(nvme->answer);
	uint64_t blocks = nvme_answer64(nvme->answer, NVME_NS_NSZE);

	nvme->block_shift = format >> 16 & 0xff;
	if (blocks == 0) {
		tell(nvme, LOG_LEVEL_ERROR, "namespace %u is not active, or holds no plain blocks",
		     nvme->nsid);
		return -ENODEV;
	}
	if ((format & 0xffff) || (nvme->block_shift != 9 && nvme->block_shift != 12) ||
	    blocks > UINT64_MAX >> 1 >> nvme->block_shift) {
		tell(nvme, LOG_LEVEL_ERROR,
		     "namespace %u has blocks of 2^%u bytes and %u of metadata; 512 or 4096 and "
		     "none can be used (nvme format)",
		     nvme->nsid, nvme->block_shift, format & 0xffff);
		return -ENOTSUP;
	}
	dev->block_bytes = 1U << nvme->block_shift;
	dev->capacity_bytes = blocks << nvme->block_shift;
	dev->memory_align = nvme->has_sgl ? nvme->sgl_align : dev->block_bytes;
	return nvme_requests_open(nvme);
}

/* ---- the steps of setting up, each an administration command ---- */

enum step { CONTROLLER, NAMESPACE, NUM_QUEUES, COMPLETIONS, COMMANDS, SHADOW, STEPS };

static struct nvme_command step_command(const struct nvme *nvme, enum step step)
{
	const struct nvme_queue *io = &nvme->io;
	uint32_t size = (io->entries - 1) << 16;

	switch (step) {
	case CONTROLLER: /* 5.15: CNS 1 */
		return (struct nvme_command){
			.opcode = NVME_IDENTIFY, .prp = {nvme->answer_address}, .cdw10 = 1};
	case NAMESPACE:
		return (struct nvme_command){
			.opcode = NVME_IDENTIFY, .nsid = nvme->nsid, .prp = {nvme->answer_address}};
	case NUM_QUEUES: /* one of each, less one */
		return (struct nvme_command){.opcode = NVME_SET_FEATURES, .cdw10 = NVME_NUM_QUEUES};
	case COMPLETIONS: /* 5.3: in one piece, no interrupt */
		return (struct nvme_command){.opcode = NVME_CREATE_CQ,
					     .prp = {io->completions_address},
					     .cdw10 = size | IO_ID,
					     .cdw11 = 1};
	case COMMANDS: /* 5.4 */
		return (struct nvme_command){.opcode = NVME_CREATE_SQ,
					     .prp = {io->commands_address},
					     .cdw10 = size | IO_ID,
					     .cdw11 = IO_ID << 16 | 1};
	default:
		return (struct nvme_command){
			.opcode = NVME_DOORBELL_BUFFERS,
			.prp = {nvme->shadow_addresses[0], nvme->shadow_addresses[1]}};
	}
}

static bool step_needless(const struct nvme *nvme, uint32_t step)
{
	return (step <= NAMESPACE && nvme->identified) || (step == SHADOW && !nvme->has_shadow);
}

static int step_done(struct nvme *nvme, uint32_t step, uint16_t status)
{
	bool again;
	int err = nvme_status_error(status, &again);

	if (err && step == SHADOW) { /* it works without */
		nvme->has_shadow = false;
		return 0;
	}
	if (err) {
		tell(nvme, LOG_LEVEL_ERROR, "administration command %u ended with status 0x%x",
		     step_command(nvme, (enum step)step).opcode, status);
		return -EIO;
	}
	if (step == CONTROLLER)
		return learn_controller(nvme);
	if (step == NAMESPACE)
		return learn_namespace(nvme);
	if (step == SHADOW)
		nvme_queue_set_shadow(&nvme->io, &nvme->shadow);
	return 0;
}

static void running(struct nvme *nvme)
{
	nvme->state = NVME_RUNNING;
	if (nvme->identified)
		tell(nvme, LOG_LEVEL_INFO, "it runs again");
	nvme->identified = true;
	nvme->look_ns = 0;
}

/* Puts out the command of this step, or the first after it that is needed. */
static void begin_step(struct nvme *nvme, uint32_t step)
{
	while (step < STEPS && step_needless(nvme, step))
		step++;
	if (step == STEPS) {
		running(nvme);
		return;
	}
	nvme->state = NVME_SETTING_UP;
	nvme->step = step;
	nvme->deadline_ns = now(nvme) + ADMIN_NS;
	struct nvme_command command = step_command(nvme, (enum step)step);
	command.id = (uint16_t)step;
	nvme_queue_put(&nvme->admin, &command);
	nvme_queue_ring(nvme->bus, &nvme->admin);
}

static void look_at_step(struct nvme *nvme)
{
	struct nvme_completion completion;

	if (!nvme_queue_take(&nvme->admin, &completion)) {
		if (now(nvme) >= nvme->deadline_ns)
			die(nvme, -EIO, "an administration command was not answered");
		return;
	}
	nvme_queue_taken(nvme->bus, &nvme->admin);
	if (completion.id != nvme->step) {
		die(nvme, -EIO, "it answered what was not asked");
		return;
	}
	int err = step_done(nvme, nvme->step, completion.status);
	if (err)
		die(nvme, err, "it cannot be used");
	else
		begin_step(nvme, nvme->step + 1);
}

void nvme_turn(struct nvme *nvme)
{
	if (nvme->state == NVME_DEAD)
		return;
	uint32_t csts = nvme->bus->ops->read32(nvme->bus, NVME_CSTS);
	bool ready = csts & NVME_CSTS_RDY;
	if (csts == NVME_GONE) {
		die(nvme, -ENODEV, "it is gone");
	} else if (nvme->state == NVME_STOPPING && !ready) {
		nvme_requeue(nvme);
		start(nvme);
	} else if (nvme->state == NVME_STOPPING) {
		if (now(nvme) >= nvme->deadline_ns)
			die(nvme, -EIO, "it does not stop");
	} else if (csts & NVME_CSTS_CFS) {
		if (nvme->state == NVME_RUNNING)
			nvme_reset(nvme, "it has had a fatal error");
		else
			die(nvme, -EIO, "it has a fatal error");
	} else if (nvme->state == NVME_STARTING && ready) {
		begin_step(nvme, CONTROLLER);
	} else if (nvme->state == NVME_STARTING) {
		if (now(nvme) >= nvme->deadline_ns)
			die(nvme, -EIO, "it does not become ready");
	} else if (nvme->state == NVME_SETTING_UP) {
		look_at_step(nvme);
	}
}

/* ---- life ---- */

static void pause_blocked(struct nvme *nvme)
{
	(void)nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
	(void)sched_now(nvme->dev.sched);
}

/* Cuts memory of so many pages off a piece. */
static void *cut(char **at, uint64_t *address, uint64_t pages, uint64_t *address_out)
{
	void *piece = *at;

	*address_out = *address;
	*at += pages * NVME_PAGE;
	*address += pages * NVME_PAGE;
	return piece;
}

static int open_queues(struct nvme *nvme)
{
	struct nvme_queue *admin = &nvme->admin;
	struct nvme_queue *io = &nvme->io;
	uint64_t shadow_bytes = UINT64_C(4) * 4 << NVME_CAP_DSTRD(nvme->cap); /* 4 doorbells */
	uint64_t shadow_pages = (shadow_bytes + NVME_PAGE - 1) / NVME_PAGE;
	uint64_t address;
	void *memory;
	uint64_t pages = 4 + PAGES_IO_COMMANDS + 2 * shadow_pages;
	int err = nvme->bus->ops->alloc(nvme->bus, pages * NVME_PAGE, &memory, &address);

	if (err)
		return err;
	char *at = memory;
	admin->commands = cut(&at, &address, 1, &admin->commands_address);
	admin->completions = cut(&at, &address, 1, &admin->completions_address);
	io->completions = cut(&at, &address, 1, &io->completions_address);
	io->commands = cut(&at, &address, PAGES_IO_COMMANDS, &io->commands_address);
	nvme->answer = cut(&at, &address, 1, &nvme->answer_address);
	nvme->shadow.values = cut(&at, &address, shadow_pages, &nvme->shadow_addresses[0]);
	nvme->shadow.events = cut(&at, &address, shadow_pages, &nvme->shadow_addresses[1]);
	admin->entries = ADMIN_ENTRIES;
	io->entries = NVME_CAP_MQES(nvme->cap) + 1;
	if (io->entries > IO_ENTRIES_MAX)
		io->entries = IO_ENTRIES_MAX;
	nvme->dev.depth = io->entries - 1 < NVME_DEPTH_MAX ? io->entries - 1 : NVME_DEPTH_MAX;
	return 0;
}

static int look_at_capabilities(struct nvme *nvme)
{
	uint64_t doorbells;

	nvme->cap = nvme->bus->ops->read64(nvme->bus, NVME_CAP);
	if (nvme->cap == UINT64_MAX) {
		tell(nvme, LOG_LEVEL_ERROR, "its registers cannot be read: it is gone, or off");
		return -ENODEV;
	}
	doorbells = UINT64_C(4) * 4 << NVME_CAP_DSTRD(nvme->cap); /* bytes, of two queue pairs */
	if (NVME_DOORBELLS + doorbells > nvme->bus->registers_bytes) {
		tell(nvme, LOG_LEVEL_ERROR, "its doorbells are not within its registers");
		return -ENOTSUP;
	}
	if (!NVME_CAP_NVM(nvme->cap) || NVME_CAP_MPSMIN(nvme->cap) > 0 ||
	    NVME_CAP_MQES(nvme->cap) == 0) {
		tell(nvme, LOG_LEVEL_ERROR,
		     "it cannot be used: no NVM command set, or pages of more than 4 KiB only");
		return -ENOTSUP;
	}
	return 0;
}

static int bring_up(struct nvme *nvme)
{
	int err = look_at_capabilities(nvme);

	if (!err)
		err = open_queues(nvme);
	if (err)
		return err;
	(void)sched_now(nvme->dev.sched);
	stop(nvme);
	while (nvme->state != NVME_RUNNING && nvme->state != NVME_DEAD) {
		nvme_turn(nvme);
		pause_blocked(nvme);
	}
	return nvme->state == NVME_DEAD ? nvme->err : 0;
}

/* Sets CC and waits until those bits of CSTS are so, or it is gone, or late. */
static void set_and_wait(struct nvme *nvme, uint32_t cc, uint32_t bits, uint32_t wanted)
{
	struct nvme_bus *bus = nvme->bus;
	uint64_t late = sched_now(nvme->dev.sched) + ready_ns(nvme);
	uint32_t csts;

	bus->ops->write32(bus, NVME_CC, cc);
	while ((csts = bus->ops->read32(bus, NVME_CSTS)) != NVME_GONE && (csts & bits) != wanted &&
	       now(nvme) < late)
		pause_blocked(nvme);
}

/* 7.6.2: caches are written, and the next one need not repair anything. */
static void shut_down(struct nvme *nvme)
{
	set_and_wait(nvme, NVME_CC_STOP, NVME_CSTS_SHST, NVME_CSTS_SHUT);
	set_and_wait(nvme, 0, NVME_CSTS_RDY, 0);
}

static void nvme_free(struct nvme *nvme)
{
	nvme->bus->ops->cut_off(nvme->bus);
	nvme_memory_close(nvme);
	nvme->bus->ops->close(nvme->bus);
	free(nvme->slots);
	free(nvme);
}

void nvme_close(struct blkdev *dev)
{
	struct nvme *nvme = nvme_of(dev);

	if (nvme->state != NVME_DEAD)
		shut_down(nvme);
	nvme_free(nvme);
}

static void describe(struct nvme *nvme)
{
	(void)snprintf(nvme->dev.mode, sizeof(nvme->dev.mode), "%s%s%s",
		       nvme->bus->registers ? "vfio" : "remote", nvme->has_sgl ? ", SGL" : ", PRP",
		       nvme->has_shadow ? ", shadow doorbells" : "");
}

int nvme_attach(struct sched *sched, struct nvme_bus *bus, uint32_t nsid, struct blkdev **dev_out)
{
	struct nvme *nvme = calloc(1, sizeof(*nvme));

	if (!nvme) {
		bus->ops->close(bus);
		return -ENOMEM;
	}
	nvme->bus = bus;
	nvme->nsid = nsid;
	nvme->look_ns = TIMER_NEVER;
	nvme->dev = (struct blkdev){
		.ops = &nvme_ops, .sched = sched, .iov_max = NVME_IOV_MAX, .copies = bus->copies};
	nvme_memory_open(nvme);
	int err = bring_up(nvme);
	if (err) {
		nvme_free(nvme);
		return err;
	}
	describe(nvme);
	*dev_out = &nvme->dev;
	return 0;
}

/* Splits ADDRESS/N.  0 or -EINVAL. */
static int split(const char *path, char *address, size_t room, uint32_t *nsid_out)
{
	const char *slash = strchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) : strlen(path);
	char *end = NULL;
	unsigned long nsid = slash ? strtoul(slash + 1, &end, 10) : 1;

	if (length == 0 || length >= room || nsid == 0 || nsid >= UINT32_MAX || (end && *end))
		return -EINVAL;
	memcpy(address, path, length);
	address[length] = '\0';
	*nsid_out = (uint32_t)nsid;
	return 0;
}

int nvme_open_configured(struct sched *sched, const struct blkdev_place *place,
			 struct blkdev **dev_out)
{
	struct nvme_bus *bus;
	char address[32];
	uint32_t nsid;
	int err = split(place->path, address, sizeof(address), &nsid);

	if (err) {
		log_write(&sched->log, LOG_LEVEL_ERROR,
			  "demitasse.storage.device: \"%s\" is no PCI address, as 0000:01:00.0 or, "
			  "for its second namespace, 0000:01:00.0/2",
			  place->path);
		return err;
	}
	err = nvme_vfio_open(sched, address, &bus);
	return err ? err : nvme_attach(sched, bus, nsid, dev_out);
}
