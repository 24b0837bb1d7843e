/* SPDX-License-Identifier: MIT
 * tests/compat/sizes.c - the sizes of the packed structures, computed as Demikernel's own check
 * does.
 */
#include "common.h"

int main(void)
{
	assert(sizeof(demi_qtoken_t) == 8);
	assert(sizeof(demi_sgaseg_t) == sizeof(void *) + 4);
	assert(sizeof(demi_sgarray_t) ==
	       sizeof(void *) + 4 + sizeof(demi_sgaseg_t) * DEMI_SGARRAY_MAXSIZE + 16);
	assert(sizeof(demi_accept_result_t) == 4 + 16);
	assert(sizeof(demi_qresult_t) == 4 + 4 + 8 + 8 + sizeof(demi_sgarray_t));
	assert(sizeof(struct demi_args) == 4 + 2 * sizeof(void *));
	assert(DEMI_OPC_INVALID == 0 && DEMI_OPC_PUSH == 1 && DEMI_OPC_POP == 2);
	assert(DEMI_OPC_ACCEPT == 3 && DEMI_OPC_CONNECT == 4 && DEMI_OPC_CLOSE == 5);
	assert(DEMI_OPC_FAILED == 6);
	return 0;
}
