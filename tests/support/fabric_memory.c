/* tests/support/fabric_memory.c: see fabric.h.  Protection domains, regions, windows, address
 * handles, and what keys allow.
 *
 * A key's upper 24 bits number a region or window of the device and are never used again; the lower
 * 8 are of the region's choice or, of a window of type 2, of who binds it. */
#include "support/fabric_own.h"

#include <errno.h>
#include <string.h>

/* ---- protection domains ---- */

struct ibv_pd *fabric_alloc_pd(struct ibv_context *context)
{
	struct fabric_device *device = fabric_device_of(context);

	if (fabric_call_fails(device))
		return NULL;
	struct fabric_pd *pd = fabric_alloc(sizeof(*pd));
	pd->pub.context = context;
	fabric_born(device, &pd->object, FABRIC_PD, pd);
	return &pd->pub;
}

/* Something that others were made from. */
static int busy(struct fabric_object *object, const char *what)
{
	if (object->users == 0)
		return 0;
	fabric_misuse(object->device, what);
	return EBUSY;
}

int fabric_dealloc_pd(struct ibv_pd *pub)
{
	struct fabric_pd *pd = fabric_pd_of(pub);

	if (!pd)
		return EINVAL;
	int err = busy(&pd->object, "a protection domain that is in use is freed");
	if (!err)
		fabric_die(&pd->object);
	return err;
}

/* ---- keys ---- */

static uint32_t new_key(struct fabric_device *device, struct fabric_mr *mr, struct fabric_mw *mw)
{
	uint32_t number = device->num_keys++;

	if ((number & (number - 1)) == 0)
		device->keys = fabric_realloc(device->keys, (number ? 2 * (size_t)number : 1) *
								    sizeof(*device->keys));
	device->keys[number] = (struct fabric_key){.mr = mr, .mw = mw};
	return (number + 1) << 8 | (uint32_t)prng_below(&device->fabric->prng, 256);
}

static struct fabric_key *key_of(const struct fabric_device *device, uint32_t key)
{
	uint32_t number = (key >> 8) - 1;

	return number < device->num_keys ? &device->keys[number] : NULL;
}

static bool in_bounds(uint64_t at, uint64_t length, uint64_t start, uint64_t size)
{
	return at >= start && length <= size && at - start <= size - length;
}

static bool region_allows(const struct fabric_mr *mr, uint64_t at, uint64_t length)
{
	return in_bounds(at, length, (uint64_t)(uintptr_t)mr->pub.addr, mr->pub.length);
}

bool fabric_local_allows(const struct fabric_pd *pd, const struct ibv_sge *sge, uint32_t num_sge,
			 unsigned int access)
{
	for (uint32_t i = 0; i < num_sge; i++) {
		const struct fabric_key *key = key_of(pd->object.device, sge[i].lkey);
		if (sge[i].length == 0)
			continue;
		if (!key || !key->mr || key->mr->pub.lkey != sge[i].lkey ||
		    key->mr->pub.pd != &pd->pub || (key->mr->access & access) != access ||
		    !region_allows(key->mr, sge[i].addr, sge[i].length))
			return false;
	}
	return true;
}

/* IBA 10.6.7.2: a window of type 2 is its queue pair's, one of type 1 its domain's. */
static bool window_allows(const struct fabric_mw *mw, const struct fabric_qp *qp, uint64_t at,
			  uint64_t length, unsigned int access)
{
	if (!mw->mr || (mw->access & access) != access)
		return false;
	if (qp && mw->pub.type == IBV_MW_TYPE_2 && mw->qp != qp)
		return false;
	if (qp && mw->pub.pd != qp->pub.pd)
		return false;
	return in_bounds(at, length, mw->at, mw->length);
}

bool fabric_remote_allows(const struct fabric_device *device, const struct fabric_qp *qp,
			  uint32_t rkey, uint64_t at, uint64_t length, unsigned int access)
{
	const struct fabric_key *key = key_of(device, rkey);

	if (!key)
		return false;
	if (key->mw)
		return key->mw->key == rkey && window_allows(key->mw, qp, at, length, access);
	return key->mr && key->mr->pub.rkey == rkey && (key->mr->access & access) == access &&
	       (!qp || key->mr->pub.pd == qp->pub.pd) && region_allows(key->mr, at, length);
}

bool fabric_is_open(struct fabric_device *device, uint32_t rkey, uint64_t at, uint64_t length,
		    unsigned int access)
{
	return fabric_remote_allows(device, NULL, rkey, at, length, access);
}

uint64_t fabric_open_bytes(struct fabric_device *device, unsigned int access)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < device->num_keys; i++) {
		const struct fabric_key *key = &device->keys[i];
		if (key->mr && key->mr->access & access)
			bytes += key->mr->pub.length;
		if (key->mw && key->mw->mr && key->mw->access & access)
			bytes += key->mw->length;
	}
	return bytes;
}

/* ---- regions ---- */

/* ibv_reg_mr(3): what peers may write must be writable. */
static bool is_access(unsigned int access)
{
	return !(access & (IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC)) ||
	       access & IBV_ACCESS_LOCAL_WRITE;
}

struct ibv_mr *fabric_reg_mr(struct ibv_pd *pub, void *addr, size_t length, int access)
{
	struct fabric_pd *pd = fabric_pd_of(pub);

	if (!pd || !is_access((unsigned int)access) || length == 0) {
		errno = EINVAL;
		return NULL;
	}
	struct fabric_device *device = pd->object.device;
	if (fabric_call_fails(device))
		return NULL;
	if (length > device->limits.memlock_bytes - device->counts.registered_bytes) {
		errno = ENOMEM;
		return NULL;
	}
	struct fabric_mr *mr = fabric_alloc(sizeof(*mr));
	mr->pub =
		(struct ibv_mr){.context = pub->context, .pd = pub, .addr = addr, .length = length};
	mr->access = (unsigned int)access;
	mr->pub.lkey = new_key(device, mr, NULL);
	mr->pub.rkey = mr->pub.lkey;
	pd->object.users++;
	device->counts.registrations++;
	device->counts.registered_bytes += length;
	fabric_born(device, &mr->object, FABRIC_MR, mr);
	return &mr->pub;
}

int fabric_dereg_mr(struct ibv_mr *pub)
{
	struct fabric_mr *mr = fabric_mr_of(pub);

	if (!mr)
		return EINVAL;
	int err = busy(&mr->object, "a region that a window is bound to is deregistered");
	if (err)
		return err;
	if (fabric_uses_mr(mr->object.device, mr))
		fabric_misuse(mr->object.device, "a region is deregistered under work");
	fabric_unmake_mr(mr);
	return 0;
}

void fabric_unmake_mr(struct fabric_mr *mr)
{
	key_of(mr->object.device, mr->pub.lkey)->mr = NULL;
	mr->object.device->counts.registered_bytes -= mr->pub.length;
	((struct fabric_pd *)(void *)mr->pub.pd)->object.users--;
	fabric_die(&mr->object);
}

/* ---- windows ---- */

struct ibv_mw *fabric_alloc_mw(struct ibv_pd *pub, enum ibv_mw_type type)
{
	struct fabric_pd *pd = fabric_pd_of(pub);

	if (!pd || (type != IBV_MW_TYPE_1 && type != IBV_MW_TYPE_2)) {
		errno = EINVAL;
		return NULL;
	}
	struct fabric_device *device = pd->object.device;
	if (fabric_call_fails(device))
		return NULL;
	struct fabric_mw *mw = fabric_alloc(sizeof(*mw));
	mw->pub = (struct ibv_mw){.context = pub->context, .pd = pub, .type = type};
	mw->key = new_key(device, NULL, mw);
	mw->pub.rkey = mw->key;
	pd->object.users++;
	fabric_born(device, &mw->object, FABRIC_MW, mw);
	return &mw->pub;
}

static void unbind(struct fabric_mw *mw)
{
	if (mw->mr)
		mw->mr->object.users--;
	if (mw->qp)
		mw->qp->windows--;
	mw->mr = NULL;
	mw->qp = NULL;
}

/* IBA 10.6.7.2.3: a bound window may be freed; that ends what it allowed. */
int fabric_dealloc_mw(struct ibv_mw *pub)
{
	struct fabric_mw *mw = fabric_mw_of(pub);

	if (!mw)
		return EINVAL;
	if (fabric_uses_mw(mw->object.device, mw))
		fabric_misuse(mw->object.device, "a window is freed that a request is to bind");
	fabric_unmake_mw(mw);
	return 0;
}

void fabric_unmake_mw(struct fabric_mw *mw)
{
	unbind(mw);
	key_of(mw->object.device, mw->key)->mw = NULL;
	((struct fabric_pd *)(void *)mw->pub.pd)->object.users--;
	fabric_die(&mw->object);
}

/* IBA 10.6.7.2.2, C10-67 and those after it. */
static bool may_bind(const struct fabric_qp *qp, const struct fabric_mw *mw,
		     const struct fabric_mr *mr, const struct ibv_send_wr *wr)
{
	const struct ibv_mw_bind_info *info = &wr->bind_mw.bind_info;
	const unsigned int writes = IBV_ACCESS_REMOTE_WRITE | IBV_ACCESS_REMOTE_ATOMIC;

	if (mw->pub.pd != qp->pub.pd || mr->pub.pd != qp->pub.pd)
		return false;
	if (mw->pub.type == IBV_MW_TYPE_2 &&
	    (mw->mr || info->length == 0 || wr->bind_mw.rkey == mw->key))
		return false; /* bound, or with the key that it had */
	if (!(mr->access & IBV_ACCESS_MW_BIND))
		return false;
	if (info->mw_access_flags & writes && !(mr->access & IBV_ACCESS_LOCAL_WRITE))
		return false;
	return region_allows(mr, info->addr, info->length);
}

bool fabric_bind(struct fabric_qp *qp, const struct ibv_send_wr *wr)
{
	const struct ibv_mw_bind_info *info = &wr->bind_mw.bind_info;
	struct fabric_mw *mw = fabric_mw_of(wr->bind_mw.mw);

	if (!mw)
		return false;
	if (mw->pub.type == IBV_MW_TYPE_1 && info->length == 0) {
		unbind(mw);
		mw->key = wr->bind_mw.rkey;
		return true;
	}
	struct fabric_mr *mr = fabric_mr_of(info->mr);
	if (!mr || !may_bind(qp, mw, mr, wr))
		return false;
	unbind(mw);
	mr->object.users++;
	mw->mr = mr;
	mw->qp = mw->pub.type == IBV_MW_TYPE_2 ? qp : NULL;
	if (mw->qp)
		mw->qp->windows++;
	mw->key = (mw->key & ~0xffU) | (wr->bind_mw.rkey & 0xffU);
	mw->at = info->addr;
	mw->length = info->length;
	mw->access = info->mw_access_flags;
	return true;
}

/* IBA 10.6.7.2.4: only type 2, only on its own queue pair, only by its key. */
bool fabric_invalidate(struct fabric_qp *qp, uint32_t rkey)
{
	const struct fabric_key *key = key_of(qp->object.device, rkey);

	if (!key || !key->mw || key->mw->key != rkey || key->mw->pub.type != IBV_MW_TYPE_2 ||
	    !key->mw->mr || key->mw->qp != qp)
		return false;
	unbind(key->mw);
	qp->object.device->counts.invalidations++;
	return true;
}

/* IBA 10.6.7.2.6: with its queue pair, a window of type 2 is invalid. */
void fabric_unbind_all(const struct fabric_qp *qp)
{
	struct fabric_device *device = qp->object.device;

	device->counts.windows_left += qp->windows;
	for (uint32_t i = 0; qp->windows > 0 && i < device->num_keys; i++)
		if (device->keys[i].mw && device->keys[i].mw->qp == qp)
			unbind(device->keys[i].mw);
}

/* ---- address handles ---- */

struct ibv_ah *fabric_create_ah(struct ibv_pd *pub, struct ibv_ah_attr *attr)
{
	struct fabric_pd *pd = fabric_pd_of(pub);

	/* On Ethernet an address is a GID, always. */
	if (!pd || !attr->is_global || attr->port_num != FABRIC_PORT ||
	    attr->grh.sgid_index > (pd->object.device->has_v6 ? FABRIC_GID_V6 : FABRIC_GID_V4)) {
		errno = EINVAL;
		return NULL;
	}
	if (fabric_call_fails(pd->object.device))
		return NULL;
	struct fabric_ah *ah = fabric_alloc(sizeof(*ah));
	ah->pub = (struct ibv_ah){.context = pub->context, .pd = pub};
	ah->attr = *attr;
	pd->object.users++;
	fabric_born(pd->object.device, &ah->object, FABRIC_AH, ah);
	return &ah->pub;
}

int fabric_destroy_ah(struct ibv_ah *pub)
{
	struct fabric_ah *ah = fabric_ah_of(pub);

	if (!ah)
		return EINVAL;
	if (fabric_uses_ah(ah->object.device, ah))
		fabric_misuse(ah->object.device, "an address handle is destroyed under work");
	fabric_unmake_ah(ah);
	return 0;
}

void fabric_unmake_ah(struct fabric_ah *ah)
{
	((struct fabric_pd *)(void *)ah->pub.pd)->object.users--;
	fabric_die(&ah->object);
}
