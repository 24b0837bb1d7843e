/* tests/support/fabric_mail.c: see fabric.h.  rdma_cm: the messages of connection managers (IBA 12,
 * as Linux sends them).  They are not ordered, neither among themselves nor with data, and those
 * that want an answer are sent again until the sender gives up. */
#include "support/fabric_own.h"

#include <errno.h>
#include <string.h>

static void arrive(void *arg);

static struct fabric_id *id_of(const struct fabric *fabric, uint32_t number)
{
	return number < fabric->num_ids ? fabric->ids[number] : NULL;
}

/* ---- sending ---- */

struct fabric_mail *fabric_write(struct fabric_id *from, enum fabric_mail_kind kind)
{
	struct fabric_device *device = from->object.device;
	struct fabric_mail *mail = fabric_alloc(sizeof(*mail));
	struct in6_addr to = fabric_address(&from->pub.route.addr.dst_addr);
	const struct fabric_device *other = fabric_find(device->fabric, &to);

	mail->fabric = device->fabric;
	mail->kind = kind;
	mail->from_device = device->index;
	mail->to_device = from->peer != UINT32_MAX ? from->peer_device
			  : other                  ? other->index
						   : device->index;
	mail->from = from->number;
	mail->to = from->peer;
	mail->conn = from->conn;
	mail->source = from->pub.route.addr.src_storage;
	mail->target = from->pub.route.addr.dst_storage;
	return mail;
}

static void send_mail(struct fabric_mail *mail, uint64_t after_ns)
{
	struct fabric *fabric = mail->fabric;

	fabric_put_event(fabric, fabric_now(fabric) + after_ns, arrive, mail, NULL);
}

void fabric_post_mail(struct fabric_mail *mail)
{
	struct fabric *fabric = mail->fabric;
	uint64_t delay = fabric_delay(fabric);

	if (mail->kind == FABRIC_RTU && fabric_happens(fabric, fabric->chance.late_rtu))
		delay += 10 * fabric_delay(fabric);
	list_append(&fabric->mails, &mail->link);
	send_mail(mail, delay);
}

static void throw_away(struct fabric_mail *mail)
{
	list_remove(&mail->link);
	fabric_free(mail);
}

/* To where a message came from, of an id that may not be there. */
static void reply(const struct fabric_mail *to, enum fabric_mail_kind kind, int status)
{
	struct fabric_mail *mail = fabric_alloc(sizeof(*mail));

	mail->fabric = to->fabric;
	mail->kind = kind;
	mail->from_device = to->to_device;
	mail->to_device = to->from_device;
	mail->from = to->to;
	mail->to = to->from;
	mail->status = status;
	fabric_post_mail(mail);
}

/* ---- states ---- */

void fabric_close_id(struct fabric_id *id)
{
	id->state = FABRIC_CLOSED;
}

static void timewait_over(void *arg)
{
	struct fabric_id *id = arg;

	if (!id->object.dead && !id->object.device->removed)
		(void)fabric_report(id, RDMA_CM_EVENT_TIMEWAIT_EXIT, 0);
}

void fabric_wait_out(struct fabric_id *id)
{
	struct fabric *fabric = id->object.device->fabric;

	fabric_put_event(fabric, fabric_now(fabric) + id->object.device->limits.cm_timewait_ns,
			 timewait_over, id, &id->object);
}

static void end(struct fabric_id *id, int status)
{
	fabric_close_id(id);
	fabric_wait_out(id);
	(void)fabric_report(id, RDMA_CM_EVENT_DISCONNECTED, status);
}

/* No answer came to any of its tries, or nobody there has decided. */
static void overdue(void *arg)
{
	struct fabric_id *id = arg;
	struct fabric *fabric = id->object.device->fabric;

	if (id->object.dead || fabric_now(fabric) < id->deadline_ns)
		return;
	if (id->state == FABRIC_DISCONNECTING) {
		end(id, -ETIMEDOUT);
	} else if (id->state == FABRIC_CONNECTING || id->state == FABRIC_ACCEPTED) {
		if (id->pub.ps != RDMA_PS_UDP) {
			struct fabric_mail *mail = fabric_write(id, FABRIC_REJ);
			mail->status = FABRIC_REJECT_TIMEOUT;
			fabric_post_mail(mail);
		}
		fabric_close_id(id);
		(void)fabric_report(id, RDMA_CM_EVENT_UNREACHABLE, -ETIMEDOUT);
	}
}

void fabric_set_deadline(struct fabric_id *id)
{
	const struct fabric_limits *limits = &id->object.device->limits;
	struct fabric *fabric = id->object.device->fabric;

	id->deadline_ns = fabric_now(fabric) + limits->cm_response_ns * (limits->cm_retries + 1ULL);
	fabric_put_event(fabric, id->deadline_ns, overdue, id, &id->object);
}

static bool wants_answer(enum fabric_mail_kind kind)
{
	return kind != FABRIC_REJ && kind != FABRIC_DREP;
}

static void lose(struct fabric_mail *mail)
{
	const struct fabric_limits *limits = &mail->fabric->devices[mail->from_device]->limits;

	if (!wants_answer(mail->kind) || mail->tries++ >= limits->cm_retries) {
		throw_away(mail);
		return;
	}
	send_mail(mail, limits->cm_response_ns);
}

/* ---- requests ---- */

static bool fits(const struct fabric_id *listener, const struct fabric_mail *mail)
{
	bool ud = mail->kind == FABRIC_SIDR_REQ;
	const struct sockaddr *target = (const struct sockaddr *)(const void *)&mail->target;
	struct in6_addr bound = fabric_address(&listener->pub.route.addr.src_addr);
	struct in6_addr wanted = fabric_address(target);

	if (listener->state != FABRIC_LISTENING || (listener->pub.ps == RDMA_PS_UDP) != ud ||
	    listener->port != fabric_port_of(target))
		return false;
	if (!listener->pub.verbs) /* any address */
		return IN6_IS_ADDR_V4MAPPED(&bound)
			       ? IN6_IS_ADDR_V4MAPPED(&wanted)
			       : !listener->only_v6 || !IN6_IS_ADDR_V4MAPPED(&wanted);
	return memcmp(&bound, &wanted, sizeof(bound)) == 0;
}

static struct fabric_id *find_listener(struct fabric_device *device, const struct fabric_mail *mail)
{
	list_for_each (item, &device->objects) {
		struct fabric_object *object = container_of(item, struct fabric_object, link);
		struct fabric_id *id = container_of(object, struct fabric_id, object);
		if (object->kind == FABRIC_ID && !device->killed && fits(id, mail))
			return id;
	}
	return NULL;
}

/* rdma_get_cm_event(3): what the request says, seen from the passive side. */
static void report_request(struct fabric_id *listener, struct fabric_id *id,
			   const struct fabric_mail *mail)
{
	bool ud = mail->kind == FABRIC_SIDR_REQ;
	struct fabric_cm_event *event = fabric_report(id, RDMA_CM_EVENT_CONNECT_REQUEST, 0);

	event->owner = listener;
	event->pub.listen_id = &listener->pub;
	if (!ud)
		event->pub.param.conn = id->conn;
	fabric_event_data(event, mail->data, ud ? FABRIC_UD_CONNECT_BYTES : FABRIC_CONNECT_BYTES);
	listener->waiting++;
}

static void take_request(struct fabric_id *listener, const struct fabric_mail *mail)
{
	struct fabric_id *id =
		fabric_make_id(listener->channel, listener->pub.context, listener->pub.ps);

	fabric_attach(id);
	id->state = FABRIC_REQUESTED;
	id->passive = true;
	id->peer = mail->from;
	id->peer_device = mail->from_device;
	id->port = listener->port;
	id->pub.route.addr.src_storage = mail->target;
	id->pub.route.addr.dst_storage = mail->source;
	id->remote_qp = mail->conn.qp_num;
	id->conn = mail->conn;
	id->conn.responder_resources = mail->conn.initiator_depth;
	id->conn.initiator_depth = mail->conn.responder_resources;
	report_request(listener, id, mail);
}

static void arrive_request(struct fabric_device *device, const struct fabric_mail *mail)
{
	bool ud = mail->kind == FABRIC_SIDR_REQ;
	struct fabric_id *listener = find_listener(device, mail);

	if (!id_of(mail->fabric, mail->from))
		return; /* a request of one that is gone: its rejection is on the way, or was */
	if (!listener)
		reply(mail, ud ? FABRIC_SIDR_REP : FABRIC_REJ,
		      ud ? FABRIC_SIDR_UNSUPPORTED : FABRIC_REJECT_NOBODY);
	else if (listener->waiting >= listener->backlog)
		reply(mail, ud ? FABRIC_SIDR_REP : FABRIC_REJ,
		      ud ? FABRIC_SIDR_REJECT : FABRIC_REJECT_CONSUMER);
	else
		take_request(listener, mail);
}

/* ---- answers ---- */

static void arrive_reply(struct fabric_id *id, const struct fabric_mail *mail)
{
	if (!id || id->state != FABRIC_CONNECTING) {
		reply(mail, FABRIC_REJ, FABRIC_REJECT_TIMEOUT);
		return;
	}
	id->state = FABRIC_RESPONDED;
	id->peer = mail->from;
	id->peer_device = mail->from_device;
	id->remote_qp = mail->conn.qp_num;
	/* The passive side has the last word, but of how often we try. */
	id->conn.initiator_depth = mail->conn.responder_resources;
	id->conn.responder_resources = mail->conn.initiator_depth;
	id->conn.rnr_retry_count = mail->conn.rnr_retry_count;
	struct fabric_cm_event *event = fabric_report(id, RDMA_CM_EVENT_CONNECT_RESPONSE, 0);
	event->pub.param.conn = id->conn;
	event->pub.param.conn.qp_num = mail->conn.qp_num;
	event->pub.param.conn.srq = mail->conn.srq;
	fabric_event_data(event, mail->data, FABRIC_ACCEPT_BYTES);
}

static void arrive_look_up(struct fabric_id *id, const struct fabric_mail *mail)
{
	if (!id || id->state != FABRIC_CONNECTING)
		return;
	fabric_close_id(id);
	if (mail->status != 0) {
		(void)fabric_report(id, RDMA_CM_EVENT_UNREACHABLE, mail->status);
		return;
	}
	struct fabric_cm_event *event = fabric_report(id, RDMA_CM_EVENT_ESTABLISHED, 0);
	struct rdma_ud_param *ud = &event->pub.param.ud;
	struct in6_addr to = fabric_address(&id->pub.route.addr.dst_addr);
	ud->qp_num = mail->qp_num;
	ud->qkey = mail->qkey;
	ud->ah_attr.is_global = 1;
	ud->ah_attr.port_num = FABRIC_PORT;
	ud->ah_attr.grh.hop_limit = 64;
	ud->ah_attr.grh.sgid_index = IN6_IS_ADDR_V4MAPPED(&to) ? FABRIC_GID_V4 : FABRIC_GID_V6;
	memcpy(&ud->ah_attr.grh.dgid, &to, sizeof(to));
	fabric_event_data(event, mail->data, FABRIC_UD_ACCEPT_BYTES);
}

static void arrive_ready(struct fabric_id *id)
{
	if (!id || id->state != FABRIC_ACCEPTED)
		return;
	id->state = FABRIC_ESTABLISHED;
	(void)fabric_report(id, RDMA_CM_EVENT_ESTABLISHED, 0);
}

static void arrive_rejection(struct fabric_id *id, const struct fabric_mail *mail)
{
	if (!id || (id->state != FABRIC_CONNECTING && id->state != FABRIC_RESPONDED &&
		    id->state != FABRIC_REQUESTED && id->state != FABRIC_ACCEPTED &&
		    id->state != FABRIC_ESTABLISHED))
		return;
	fabric_close_id(id);
	struct fabric_cm_event *event = fabric_report(id, RDMA_CM_EVENT_REJECTED, mail->status);
	fabric_event_data(event, mail->data, FABRIC_REJECT_BYTES);
}

static void arrive_end(struct fabric_id *id, const struct fabric_mail *mail)
{
	if (id && (id->state == FABRIC_ESTABLISHED || id->state == FABRIC_ACCEPTED ||
		   id->state == FABRIC_RESPONDED)) {
		id->state = FABRIC_PEER_GONE;
		(void)fabric_report(id, RDMA_CM_EVENT_DISCONNECTED, 0);
		return;
	}
	reply(mail, FABRIC_DREP, 0);
	if (id && id->state == FABRIC_DISCONNECTING) /* both at once */
		end(id, 0);
}

/* By its number or, if the sender does not know that yet, as the one that has the request. */
static struct fabric_id *addressee(struct fabric_device *device, const struct fabric_mail *mail)
{
	if (mail->to != UINT32_MAX || mail->kind != FABRIC_REJ)
		return id_of(mail->fabric, mail->to);
	list_for_each (item, &device->objects) {
		struct fabric_object *object = container_of(item, struct fabric_object, link);
		struct fabric_id *id = container_of(object, struct fabric_id, object);
		if (object->kind == FABRIC_ID && id->passive && id->peer == mail->from)
			return id;
	}
	return NULL;
}

static void deliver(struct fabric_device *device, const struct fabric_mail *mail)
{
	struct fabric_id *id = device->killed ? NULL : addressee(device, mail);

	fabric_note(mail->fabric, 0x300U + mail->kind);
	switch (mail->kind) {
	case FABRIC_REQ:
	case FABRIC_SIDR_REQ:
		arrive_request(device, mail);
		break;
	case FABRIC_REP:
		arrive_reply(id, mail);
		break;
	case FABRIC_SIDR_REP:
		arrive_look_up(id, mail);
		break;
	case FABRIC_RTU:
		arrive_ready(id);
		break;
	case FABRIC_REJ:
		arrive_rejection(id, mail);
		break;
	case FABRIC_DREQ:
		arrive_end(id, mail);
		break;
	case FABRIC_DREP:
		if (id && id->state == FABRIC_DISCONNECTING)
			end(id, 0);
	}
}

static void arrive(void *arg)
{
	struct fabric_mail *mail = arg;
	struct fabric *fabric = mail->fabric;
	struct fabric_device *to = fabric->devices[mail->to_device];

	if (!fabric_path(fabric->devices[mail->from_device], to)) {
		lose(mail);
		return;
	}
	deliver(to, mail);
	throw_away(mail);
}
