/* SPDX-License-Identifier: MIT
 * base/expression.h - field expressions, as `udp.src == 53 && len < 512`, made into programs of
 * base/cbpf.h.
 *
 *	expression = comparison { "&&" | "||" comparison }, with "!" and parentheses; "!" binds
 *	             more tightly than "&&", and that more than "||"
 *	comparison = number-field [ "&" number ] [ relation number ]
 *	           | address-field ( "==" | "!=" ) address [ "/" bits ]
 *	relation   = "==" | "!=" | "<" | "<=" | ">" | ">="
 *
 *	ip.version        4 or 6
 *	ip.src, ip.dst    addresses of both families; of a prefix its bits alone count
 *	udp.src, udp.dst  ports; dst is the receiver's
 *	len               bytes of the payload
 *	data[I]           its byte I, from 0 on; data[I:2], data[I:4]: so many, in network order
 *
 * Numbers are decimal or hexadecimal (0x1f), unsigned, of 32 bits.  Without a relation a
 * comparison holds for what is not 0.  "!" in front of a comparison is about the whole of it, and
 * "&" binds more tightly than a relation (not as in C).  A number that its field cannot have is
 * an error.
 *
 * It is evaluated from left to right, as far as its value needs it.  An expression that gets to a
 * field which the element does not have - data beyond its end, or anything but len and data of
 * what is no datagram - is false as a whole, whatever "!" is around it: `len < 4 || data[3] == 1`
 * looks first.  An address of one family is no address of the other: `ip.src != 10.0.0.0/8` holds
 * for all of IPv6.
 */
#pragma once

#include "base/cbpf.h"

#define EXPRESSION_DEPTH_MAX 32 /* of parentheses and "!" that are open */

struct expression {
	struct sock_filter program[CBPF_MAX];
	uint32_t count;
	bool wants_datagram;      /* it names a field of ip or udp */
	bool wants_local_address; /* ip.dst */
	bool wants_local_port;    /* udp.dst */
};

struct expression_error {
	uint32_t at;   /* where it stands in the text: characters from 1 on */
	char text[88]; /* what is wrong: "a port is at most 65535" */
};

/* 0, or -EINVAL and *error. */
int expression_compile(const char *text, struct expression *out, struct expression_error *error);
