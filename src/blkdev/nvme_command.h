/* SPDX-License-Identifier: MIT
 * blkdev/nvme_command.h - registers, commands and data structures of NVM Express 1.4, as far as we
 * use them. All of it is little-endian, as the processors that we run on.
 */
#pragma once

#include <assert.h>
#include <stdint.h>
#include <string.h>

/* Registers: 3.1 */
enum nvme_register {
	NVME_CAP = 0x00,
	NVME_CC = 0x14,
	NVME_CSTS = 0x1c,
	NVME_AQA = 0x24,
	NVME_ASQ = 0x28,
	NVME_ACQ = 0x30,
	NVME_DOORBELLS = 0x1000,
};

#define NVME_GONE UINT32_MAX /* what any register of a controller that is gone reads as */

/* CAP: 3.1.1 */
#define NVME_CAP_MQES(cap)   ((uint32_t)((cap)&0xffff)) /* entries of a queue at most, less one */
#define NVME_CAP_TO(cap)     ((uint32_t)((cap) >> 24 & 0xff)) /* 500 ms until CSTS.RDY changes */
#define NVME_CAP_DSTRD(cap)  ((uint32_t)((cap) >> 32 & 15))   /* doorbells are 4 << this apart */
#define NVME_CAP_NVM(cap)    ((uint32_t)((cap) >> 37 & 1))    /* has the NVM command set */
#define NVME_CAP_MPSMIN(cap) ((uint32_t)((cap) >> 48 & 15))   /* pages of 4096 << this at least */

/* CC: 3.1.5, CSTS: 3.1.6 */
#define NVME_CC_ON     (4 << 20 | 6 << 16 | 1) /* entries of 16 and 64 bytes, pages of 4 KiB */
#define NVME_CC_STOP   (NVME_CC_ON | 1 << 14)  /* SHN: a normal shutdown */
#define NVME_CSTS_RDY  1
#define NVME_CSTS_CFS  2
#define NVME_CSTS_SHST 0xc
#define NVME_CSTS_SHUT 0x8 /* SHST: the shutdown is complete */

enum nvme_admin {
	NVME_CREATE_SQ = 1,
	NVME_CREATE_CQ = 5,
	NVME_IDENTIFY = 6,
	NVME_SET_FEATURES = 9,
	NVME_DOORBELL_BUFFERS = 0x7c
};

enum nvme_io {
	NVME_FLUSH = 0,
	NVME_WRITE = 1,
	NVME_READ = 2,
	NVME_DSM = 9,
	NVME_ZONE_SEND = 0x79, /* Zoned Namespace Command Set 1.0 */
	NVME_ZONE_RECEIVE = 0x7a,
	NVME_ZONE_APPEND = 0x7d,
};

#define NVME_FUA           (1U << 30) /* 6.15: dword 12 */
#define NVME_DSM_DISCARD   (1U << 2)  /* 6.7: dword 11, Attribute - Deallocate */
#define NVME_DSM_RANGES    256
#define NVME_NUM_QUEUES    7 /* 5.21.1.7: feature */
#define NVME_LIST_ENTRIES  (4096 / 8)
#define NVME_SGL_ENTRIES   (4096 / 16)
#define NVME_FLAG_SGL      0x40 /* 4.2: PSDT 01b */
#define NVME_SGL_DATA      0x00 /* 4.4: descriptor types */
#define NVME_SGL_LAST_LIST 0x30

struct nvme_sgl {
	uint64_t address;
	uint32_t bytes;
	uint8_t reserved[3];
	uint8_t type;
};

/* 4.2 */
struct nvme_command {
	uint8_t opcode;
	uint8_t flags;
	uint16_t id;
	uint32_t nsid;
	uint32_t cdw2;
	uint32_t cdw3;
	uint64_t metadata;

	union {
		uint64_t prp[2];
		struct nvme_sgl sgl;
	};

	uint32_t cdw10;
	uint32_t cdw11;
	uint32_t cdw12;
	uint32_t cdw13;
	uint32_t cdw14;
	uint32_t cdw15;
};

static_assert(sizeof(struct nvme_command) == 64, "CC.IOSQES");

/* 4.6 */
struct nvme_completion {
	uint32_t result;
	uint32_t reserved;
	uint16_t sq_head;
	uint16_t sq_id;
	uint16_t id;
	uint16_t status; /* bit 0: the phase */
};

static_assert(sizeof(struct nvme_completion) == 16, "CC.IOCQES");

/* 6.7 */
struct nvme_range {
	uint32_t attributes;
	uint32_t blocks;
	uint64_t first;
};

/* Offsets in the answers to Identify: 5.15.2.2 the controller, 5.15.2.1 a namespace. */
enum nvme_identified {
	NVME_ID_SERIAL = 4, /* 20 characters */
	NVME_ID_MDTS = 77,
	NVME_ID_OACS = 256, /* bit 8: Doorbell Buffer Config */
	NVME_ID_NN = 516,   /* number of namespaces */
	NVME_ID_ONCS = 520, /* bit 2: Dataset Management */
	NVME_ID_VWC = 525,  /* bit 0: there is a volatile write cache */
	NVME_ID_SGLS = 536,
	NVME_NS_NSZE = 0,
	NVME_NS_FLBAS = 26,
	NVME_NS_LBAF = 128, /* 4 bytes each: MS (16 bits), LBADS */
};

static inline uint16_t nvme_answer16(const void *answer, uint32_t offset)
{
	uint16_t value;

	memcpy(&value, (const char *)answer + offset, sizeof(value));
	return value;
}

static inline uint32_t nvme_answer32(const void *answer, uint32_t offset)
{
	uint32_t value;

	memcpy(&value, (const char *)answer + offset, sizeof(value));
	return value;
}

static inline uint64_t nvme_answer64(const void *answer, uint32_t offset)
{
	uint64_t value;

	memcpy(&value, (const char *)answer + offset, sizeof(value));
	return value;
}

/* The LBA format that a namespace has: bits 15:0 MS, 23:16 LBADS. */
static inline uint32_t nvme_answer_format(const uint8_t *answer)
{
	return nvme_answer32(answer, NVME_NS_LBAF + 4U * (answer[NVME_NS_FLBAS] & 15));
}
