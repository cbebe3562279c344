/* SPDX-License-Identifier: GPL-2.0-only */
/* The module's parameters, for ../vfs/parameters.rs. */
#ifndef FEROFS_PARAMETERS_H
#define FEROFS_PARAMETERS_H

#include <linux/types.h>

bool ferofs_parameter_erofs(void);

#endif
