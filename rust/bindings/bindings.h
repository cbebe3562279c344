/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Input of this module's bindgen run: C types and functions that kernel::bindings lacks or keeps
 * opaque, and the wrappers in ../helpers. Which of them are taken stands in bindgen_parameters.
 * Used by Kbuild alone; the result is included by ../vfs/bindings.rs.
 */
#include <crypto/sha2.h>
#include <linux/backing-file.h>
#include <linux/delay.h>
#include <linux/exportfs.h>
#include <linux/fadvise.h>
#include <linux/fiemap.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/fserror.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/splice.h>
#include <linux/statfs.h>
#include <linux/workqueue.h>
#include <linux/xattr.h>
#include <uapi/linux/fsverity.h>
#include "../helpers/parameters.h"
#include "../helpers/vfs.h"

/* bindgen does not evaluate these by itself. */
const unsigned int VFS_CONST_FS_IOC_GETFSLABEL = FS_IOC_GETFSLABEL;
/* Whether someone with privileges may make a filesystem for a context of another user namespace; Linux 7.2 knows it. */
#ifdef FS_USERNS_DELEGATABLE
const int VFS_CONST_FS_USERNS_DELEGATABLE = FS_USERNS_DELEGATABLE;
#else
const int VFS_CONST_FS_USERNS_DELEGATABLE = 0;
#endif
const unsigned int VFS_CONST_LOOKUP_FOLLOW = LOOKUP_FOLLOW;
const unsigned int VFS_CONST_LOOKUP_AUTOMOUNT = LOOKUP_AUTOMOUNT;
const unsigned int VFS_CONST_FMODE_READ = (__force unsigned int)FMODE_READ;
const unsigned int VFS_CONST_FMODE_CAN_READ = (__force unsigned int)FMODE_CAN_READ;
const unsigned int VFS_CONST_FMODE_CAN_ODIRECT = (__force unsigned int)FMODE_CAN_ODIRECT;
const unsigned int VFS_CONST_FMODE_NOWAIT = (__force unsigned int)FMODE_NOWAIT;
const unsigned int VFS_CONST_FMODE_RANDOM = (__force unsigned int)FMODE_RANDOM;
const unsigned int VFS_CONST_FMODE_NONOTIFY = (__force unsigned int)FMODE_NONOTIFY;
const unsigned int VFS_CONST_FMODE_FSNOTIFY_MASK = (__force unsigned int)FMODE_FSNOTIFY_MASK;
const int VFS_CONST_IOCB_NOWAIT = IOCB_NOWAIT;
const int VFS_CONST_IOCB_DONTCACHE = IOCB_DONTCACHE;
const unsigned long VFS_CONST_SB_RDONLY = SB_RDONLY;
const unsigned long VFS_CONST_SB_INTERNAL = SB_NOUSER | SB_NODEV | SB_NOEXEC;
const unsigned int VFS_CONST_FOP_DONTCACHE = (__force unsigned int)FOP_DONTCACHE;
const unsigned int VFS_CONST_S_PRIVATE = S_PRIVATE;
const unsigned int VFS_CONST_S_DAX = S_DAX;
const unsigned int VFS_CONST_S_VERITY = S_VERITY;
const unsigned int VFS_CONST_STATX_CHANGE_COOKIE = STATX_CHANGE_COOKIE;
const unsigned long VFS_CONST_SB_POSIXACL = SB_POSIXACL;
const unsigned long VFS_CONST_SB_I_VERSION = SB_I_VERSION;
const unsigned long VFS_CONST_SB_NOATIME = SB_NOATIME;
const unsigned long VFS_CONST_SB_ACTIVE = SB_ACTIVE;
const unsigned int VFS_CONST_GFP_NOFS = (__force unsigned int)GFP_NOFS;
const unsigned long VFS_CONST_SLAB_FLAGS =
	(__force unsigned long)(SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT);
const long long VFS_CONST_MAX_LFS_FILESIZE = MAX_LFS_FILESIZE;
