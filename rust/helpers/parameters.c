// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module's parameters, and its version. They are here because the kernel crate's are not yet what users of modules expect: those of
 * Linux 7.2 know no bool, and none may be given twice, as options in several files of modprobe.d are.
 */
#include <linux/module.h>
#include "parameters.h"

MODULE_VERSION(FEROFS_VERSION);

static bool erofs;
module_param(erofs, bool, 0444);
MODULE_PARM_DESC(erofs, "Be the filesystem type erofs, too, unless another driver is");

bool ferofs_parameter_erofs(void)
{
	return erofs;
}
