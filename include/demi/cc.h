/* SPDX-License-Identifier: MIT
 * demi/cc.h - compiler annotations used by the public headers.
 *
 * The names are those of Demikernel 1.5, so that its programs compile unmodified.  The annotations
 * only inform compilers and analysers of callers: the library checks every argument itself and
 * answers EINVAL.
 */
#ifndef DEMI_CC_H
#define DEMI_CC_H

#ifdef _MSC_VER
#include <sal.h>
#else
/* Direction of a parameter, for readers and for static analysers that know SAL. */
#define _In_
#define _In_z_
#define _In_opt_
#define _Inout_
#define _In_reads_(count)
#define _In_reads_bytes_(bytes)
#define _Out_
#define _Out_opt_
#define _Out_writes_(count)
#define _Out_writes_to_(count, used)
#define _Out_writes_to_opt_(count, used)
#define _Deref_pre_z_
#endif

#ifdef __GNUC__
/* Parameters (counted from one) that must not be NULL; the value of a call that must not be
 * ignored.  The library itself is built without the first: gcc would delete its checks. */
#ifdef DEMI_BUILD
#define ATTR_NONNULL(...)
#else
#define ATTR_NONNULL(...) __attribute__((nonnull(__VA_ARGS__)))
#endif
#define ATTR_NODISCARD __attribute__((warn_unused_result))
#else
#define ATTR_NONNULL(...)
#define ATTR_NODISCARD
#endif

#endif
