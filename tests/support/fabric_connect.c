/* tests/support/fabric_connect.c: see fabric.h.  rdma_cm: what callers do to connections. */
#include "support/fabric_own.h"

#include <errno.h>
#include <string.h>

static int fail(int err)
{
	errno = err;
	return -1;
}

static bool is_ud(const struct fabric_id *id)
{
	return id->pub.ps == RDMA_PS_UDP;
}

/* ---- parameters ---- */

/* librdmacm: more than the device can, 255 stands for its most. */
static bool is_param(const struct fabric_id *id, const struct rdma_conn_param *param)
{
	const struct ibv_device_attr *most = &id->object.device->limits.attr;

	if (is_ud(id))
		return true;
	if (!param)
		return id->pub.qp != NULL;
	return (param->responder_resources == RDMA_MAX_RESP_RES ||
		param->responder_resources <= most->max_qp_rd_atom) &&
	       (param->initiator_depth == RDMA_MAX_INIT_DEPTH ||
		param->initiator_depth <= most->max_qp_init_rd_atom);
}

static uint8_t least(uint8_t a, int b)
{
	return a < b ? a : (uint8_t)b;
}

static void take_param(struct fabric_id *id, const struct rdma_conn_param *param)
{
	const struct ibv_device_attr *most = &id->object.device->limits.attr;

	if (param)
		id->conn = *param;
	else if (id->state != FABRIC_REQUESTED)
		id->conn = (struct rdma_conn_param){.responder_resources = RDMA_MAX_RESP_RES,
						    .initiator_depth = RDMA_MAX_INIT_DEPTH,
						    .retry_count = 7,
						    .rnr_retry_count = 7};
	id->conn.private_data = NULL;
	id->conn.private_data_len = 0;
	id->conn.responder_resources = least(id->conn.responder_resources, most->max_qp_rd_atom);
	id->conn.initiator_depth = least(id->conn.initiator_depth, most->max_qp_init_rd_atom);
	if (id->pub.qp) {
		id->conn.qp_num = id->pub.qp->qp_num;
		id->conn.srq = id->pub.qp->srq != NULL;
	}
}

static void write_data(struct fabric_mail *mail, const void *data, uint8_t bytes)
{
	if (bytes > 0)
		memcpy(mail->data, data, bytes);
}

static bool has_room(const struct rdma_conn_param *param, uint32_t room)
{
	return !param || !param->private_data || param->private_data_len <= room;
}

static uint8_t data_bytes(const struct rdma_conn_param *param)
{
	return param && param->private_data ? param->private_data_len : 0;
}

/* ---- connecting ---- */

int fabric_connect(struct rdma_cm_id *pub, struct rdma_conn_param *param)
{
	struct fabric_id *id = fabric_id_of(pub);

	if (!id || id->state != FABRIC_ROUTE_RESOLVED || !is_param(id, param) ||
	    !has_room(param, is_ud(id) ? FABRIC_UD_CONNECT_BYTES : FABRIC_CONNECT_BYTES))
		return fail(EINVAL);
	struct fabric_device *device = id->object.device;
	if (fabric_call_fails(device))
		return -1;
	take_param(id, param);
	struct fabric_mail *mail = fabric_write(id, is_ud(id) ? FABRIC_SIDR_REQ : FABRIC_REQ);
	write_data(mail, param ? param->private_data : NULL, data_bytes(param));
	id->state = FABRIC_CONNECTING;
	fabric_set_deadline(id);
	fabric_post_mail(mail);
	fabric_kick(device->fabric);
	return 0;
}

/* ---- queue pairs ---- */

static void set_path(struct ibv_qp_attr *attr, const struct sockaddr *to)
{
	struct in6_addr address = fabric_address(to);

	attr->ah_attr.is_global = 1;
	attr->ah_attr.port_num = FABRIC_PORT;
	attr->ah_attr.grh.hop_limit = 64;
	attr->ah_attr.grh.sgid_index =
		IN6_IS_ADDR_V4MAPPED(&address) ? FABRIC_GID_V4 : FABRIC_GID_V6;
	memcpy(&attr->ah_attr.grh.dgid, &address, sizeof(address));
}

/* As librdmacm with what the kernel tells it: first to be ready, then to send. */
static int make_ready(struct fabric_id *id)
{
	struct ibv_qp *qp = id->pub.qp;
	struct ibv_qp_attr attr = {
		.qp_state = IBV_QPS_INIT,
		.port_num = FABRIC_PORT,
		.qp_access_flags = IBV_ACCESS_REMOTE_WRITE,
		.path_mtu = id->object.device->limits.mtu,
		.dest_qp_num = id->remote_qp,
		.max_dest_rd_atomic = id->conn.responder_resources,
		.max_rd_atomic = id->conn.initiator_depth,
		.timeout = id->ack_timeout ? id->ack_timeout : 14,
		.retry_cnt = id->conn.retry_count & 7U,
		.rnr_retry = id->conn.rnr_retry_count & 7U,
	};

	if (id->conn.responder_resources > 0)
		attr.qp_access_flags |= IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC;
	set_path(&attr, &id->pub.route.addr.dst_addr);
	int err = fabric_modify_qp(
		qp, &attr, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS);
	attr.qp_state = IBV_QPS_RTR;
	if (!err)
		err = fabric_modify_qp(qp, &attr,
				       IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
					       IBV_QP_DEST_QPN | IBV_QP_RQ_PSN |
					       IBV_QP_MAX_DEST_RD_ATOMIC | IBV_QP_MIN_RNR_TIMER);
	attr.qp_state = IBV_QPS_RTS;
	if (!err)
		err = fabric_modify_qp(qp, &attr,
				       IBV_QP_STATE | IBV_QP_SQ_PSN | IBV_QP_TIMEOUT |
					       IBV_QP_RETRY_CNT | IBV_QP_RNR_RETRY |
					       IBV_QP_MAX_QP_RD_ATOMIC);
	return err;
}

bool fabric_take_reply(struct fabric_id *id)
{
	if (id->state != FABRIC_RESPONDED)
		return true; /* gone meanwhile: the event of that follows */
	if (make_ready(id)) {
		struct fabric_mail *mail = fabric_write(id, FABRIC_REJ);
		mail->status = FABRIC_REJECT_CONSUMER;
		fabric_post_mail(mail);
		fabric_close_id(id);
		return false;
	}
	id->state = FABRIC_ESTABLISHED;
	fabric_post_mail(fabric_write(id, FABRIC_RTU));
	return true;
}

/* ---- the passive side ---- */

static int accept_datagrams(struct fabric_id *id, const struct rdma_conn_param *param)
{
	if (!has_room(param, FABRIC_UD_ACCEPT_BYTES))
		return fail(EINVAL);
	struct fabric_mail *mail = fabric_write(id, FABRIC_SIDR_REP);
	write_data(mail, param ? param->private_data : NULL, data_bytes(param));
	mail->qkey = RDMA_UDP_QKEY;
	if (id->pub.qp)
		mail->qp_num = id->pub.qp->qp_num;
	else if (param)
		mail->qp_num = param->qp_num;
	fabric_post_mail(mail);
	fabric_close_id(id);
	return 0;
}

static int accept_connection(struct fabric_id *id, const struct rdma_conn_param *param)
{
	uint8_t retries = id->conn.retry_count;
	uint8_t rnr_retries = id->conn.rnr_retry_count;

	if (!has_room(param, FABRIC_ACCEPT_BYTES) || (!param && !id->pub.qp))
		return fail(EINVAL);
	take_param(id, param);
	struct fabric_mail *mail = fabric_write(id, FABRIC_REP);
	mail->conn = id->conn;
	write_data(mail, param ? param->private_data : NULL, data_bytes(param));
	/* rdma_accept(3): of retries count those that the request said */
	id->conn.retry_count = retries;
	id->conn.rnr_retry_count = rnr_retries;
	int err = id->pub.qp ? make_ready(id) : 0;
	if (err) {
		fabric_free(mail);
		return fail(err);
	}
	id->state = FABRIC_ACCEPTED;
	fabric_set_deadline(id);
	fabric_post_mail(mail);
	return 0;
}

/* Also of the active side, whose id has no queue pair: its caller has made one ready. */
int fabric_accept(struct rdma_cm_id *pub, struct rdma_conn_param *param)
{
	struct fabric_id *id = fabric_id_of(pub);
	int err = 0;

	if (!id || (id->state != FABRIC_REQUESTED && id->state != FABRIC_RESPONDED) ||
	    !is_param(id, param))
		return fail(EINVAL);
	struct fabric_device *device = id->object.device;
	if (fabric_call_fails(device))
		return -1;
	if (id->state == FABRIC_RESPONDED) {
		id->state = FABRIC_ESTABLISHED;
		fabric_post_mail(fabric_write(id, FABRIC_RTU));
	} else if (is_ud(id)) {
		err = accept_datagrams(id, param);
	} else {
		err = accept_connection(id, param);
	}
	fabric_kick(device->fabric);
	return err;
}

int fabric_reject(struct rdma_cm_id *pub, const void *private_data, uint8_t bytes)
{
	struct fabric_id *id = fabric_id_of(pub);

	if (!id || (id->state != FABRIC_REQUESTED && id->state != FABRIC_RESPONDED) ||
	    bytes > (is_ud(id) ? FABRIC_UD_ACCEPT_BYTES : FABRIC_REJECT_BYTES))
		return fail(EINVAL);
	struct fabric_device *device = id->object.device;
	if (fabric_call_fails(device))
		return -1;
	struct fabric_mail *mail = fabric_write(id, is_ud(id) ? FABRIC_SIDR_REP : FABRIC_REJ);
	mail->status = is_ud(id) ? FABRIC_SIDR_REJECT : FABRIC_REJECT_CONSUMER;
	write_data(mail, private_data, bytes);
	fabric_post_mail(mail);
	fabric_close_id(id);
	fabric_kick(device->fabric);
	return 0;
}

/* ---- ends ---- */

int fabric_disconnect(struct rdma_cm_id *pub)
{
	struct fabric_id *id = fabric_id_of(pub);

	if (!id || is_ud(id) || id->state < FABRIC_RESPONDED || id->state == FABRIC_REQUESTED)
		return fail(EINVAL);
	struct fabric *fabric = id->object.device->fabric;
	if (id->pub.qp)
		fabric_error_qp((struct fabric_qp *)(void *)id->pub.qp);
	if (id->state == FABRIC_PEER_GONE) {
		fabric_post_mail(fabric_write(id, FABRIC_DREP));
		fabric_close_id(id);
		fabric_wait_out(id);
	} else if (id->state != FABRIC_DISCONNECTING && id->state != FABRIC_CLOSED) {
		id->state = FABRIC_DISCONNECTING;
		fabric_set_deadline(id);
		fabric_post_mail(fabric_write(id, FABRIC_DREQ));
	}
	fabric_kick(fabric);
	return 0;
}

static void say(struct fabric_id *id, enum fabric_mail_kind kind, int status)
{
	struct fabric_mail *mail = fabric_write(id, kind);

	mail->status = status;
	fabric_post_mail(mail);
}

/* As the kernel's connection manager when an id is destroyed. */
void fabric_leave(struct fabric_id *id)
{
	switch (id->state) {
	case FABRIC_CONNECTING:
		if (!is_ud(id))
			say(id, FABRIC_REJ, FABRIC_REJECT_TIMEOUT);
		break;
	case FABRIC_REQUESTED:
		if (is_ud(id))
			say(id, FABRIC_SIDR_REP, FABRIC_SIDR_REJECT);
		else
			say(id, FABRIC_REJ, FABRIC_REJECT_CONSUMER);
		break;
	case FABRIC_RESPONDED:
	case FABRIC_ACCEPTED:
		say(id, FABRIC_REJ, FABRIC_REJECT_CONSUMER);
		break;
	case FABRIC_ESTABLISHED:
		say(id, FABRIC_DREQ, 0);
		break;
	case FABRIC_PEER_GONE:
		say(id, FABRIC_DREP, 0);
		break;
	default:
		break;
	}
	fabric_close_id(id);
}
