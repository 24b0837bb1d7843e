/* tests/support/fabric_event.c: see fabric.h.  Events of rdma_cm. */
#include "support/fabric_own.h"

#include <errno.h>
#include <string.h>

struct fabric_cm_event *fabric_report(struct fabric_id *id, enum rdma_cm_event_type type,
				      int status)
{
	struct fabric_cm_event *event = fabric_alloc(sizeof(*event));

	event->pub.id = &id->pub;
	event->pub.event = type;
	event->pub.status = status;
	event->id = id;
	event->owner = id;
	fabric_note(id->object.device->fabric, 0x200U + type);
	fabric_inbox_put(&id->channel->inbox, &event->link);
	fabric_wake_host(id->object.device, true);
	return event;
}

void fabric_event_data(struct fabric_cm_event *event, const uint8_t *data, uint8_t room)
{
	memcpy(event->data, data, room);
	/* the members of conn and ud are in the same place */
	event->pub.param.conn.private_data = event->data;
	event->pub.param.conn.private_data_len = room;
}

static void drop(struct fabric_channel *channel, struct fabric_cm_event *event)
{
	fabric_inbox_drop(&channel->inbox, &event->link);
	fabric_free(event);
}

/* The first of an id that was not taken; NULL: none. */
static struct fabric_cm_event *first_of(struct fabric_id *id)
{
	list_for_each (item, &id->channel->inbox.items) {
		struct fabric_cm_event *event = container_of(item, struct fabric_cm_event, link);
		if (event->id == id || event->owner == id)
			return event;
	}
	return NULL;
}

/* With a listener go the requests that nobody has seen: they are refused. */
void fabric_unreport(struct fabric_id *id)
{
	struct fabric_cm_event *event;

	while ((event = first_of(id))) {
		struct fabric_id *other = event->id;
		drop(id->channel, event);
		if (other == id)
			continue;
		while ((event = first_of(other)))
			drop(other->channel, event);
		fabric_leave(other);
		fabric_forget_id(other);
	}
}

/* What librdmacm does before its caller sees an event. */
static void prepare(struct fabric_cm_event *event)
{
	struct fabric_id *id = event->id;

	switch (event->pub.event) {
	case RDMA_CM_EVENT_CONNECT_REQUEST:
		event->owner->waiting--;
		break;
	case RDMA_CM_EVENT_CONNECT_RESPONSE:
		if (!id->pub.qp)
			break;
		if (fabric_take_reply(id)) {
			event->pub.event = RDMA_CM_EVENT_ESTABLISHED;
		} else {
			event->pub.event = RDMA_CM_EVENT_CONNECT_ERROR;
			event->pub.status = -ENOMEM;
		}
		break;
	case RDMA_CM_EVENT_REJECTED:
		if (id->pub.qp)
			fabric_error_qp((struct fabric_qp *)(void *)id->pub.qp);
		break;
	default:
		break;
	}
}

int fabric_get_cm_event(struct rdma_event_channel *pub, struct rdma_cm_event **into)
{
	struct fabric_channel *channel = fabric_channel_of(pub);

	if (!channel) {
		errno = EINVAL;
		return -1;
	}
	struct fabric_device *device = channel->object.device;
	fabric_settle(device->fabric);
	struct list *item = fabric_inbox_take(&channel->inbox);
	if (!item) {
		errno = EAGAIN;
		return -1;
	}
	struct fabric_cm_event *event = container_of(item, struct fabric_cm_event, link);
	device->counts.cm_events++;
	event->owner->object.unacked++;
	prepare(event);
	*into = &event->pub;
	fabric_kick(device->fabric);
	return 0;
}

int fabric_ack_cm_event(struct rdma_cm_event *pub)
{
	struct fabric_cm_event *event;

	if (!pub) {
		errno = EINVAL;
		return -1;
	}
	event = (struct fabric_cm_event *)(void *)pub;
	if (event->owner->object.dead || event->owner->object.unacked == 0)
		fabric_misuse(event->owner->object.device, "an event is acknowledged too late");
	else
		event->owner->object.unacked--;
	fabric_free(event);
	return 0;
}
