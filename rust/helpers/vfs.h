/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * C wrappers for static inlines and macros of the VFS, the page cache and block devices, for ../vfs; what takes
 * several of them on one folio, one page cache or the state of readahead; and what a kernel has or lacks by its
 * configuration.
 */
#ifndef FEROFS_HELPERS_VFS_H
#define FEROFS_HELPERS_VFS_H

#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/mm_types.h>
#include <linux/pagemap.h>
#include <linux/uio.h>

void vfs_helper_logfc(struct fs_context *fc, char level, const char *message);
char *vfs_helper_kstrdup(const char *s);
char *vfs_helper_kmemdup_nul(const char *s, size_t len);

struct inode *vfs_helper_alloc_inode(struct super_block *sb, struct kmem_cache *cache);
bool vfs_helper_inode_is_new(struct inode *inode);
void vfs_helper_i_uid_write(struct inode *inode, uid_t uid);
void vfs_helper_i_gid_write(struct inode *inode, gid_t gid);
loff_t vfs_helper_i_size_read(const struct inode *inode);
void vfs_helper_inode_set_times(struct inode *inode, time64_t sec, long nsec);
bool vfs_helper_inode_changed(struct inode *inode, s64 *sec, u32 *nsec);
/* Writing to a regular file is denied until it is allowed as often. */
int vfs_helper_deny_writing(struct file *file);
void vfs_helper_allow_writing(struct file *file);
void vfs_helper_cache_no_acl(struct inode *inode);
dev_t vfs_helper_new_decode_dev(u32 dev);
void vfs_helper_inode_set_cached_link(struct inode *inode, char *link, int len);
void vfs_helper_super_set_uuid(struct super_block *sb, const u8 *uuid, unsigned int len);
/*
 * Gives a superblock that has none the backing device of the inode's filesystem; or one of its own, if the
 * filesystem has none, or is on no disk and has one that does not read ahead.
 */
int vfs_helper_super_share_bdi(struct super_block *sb, struct inode *inode);

/* Gives a superblock that has none a backing device of its own, which is not shown in sysfs. */
int vfs_helper_super_alloc_bdi(struct super_block *sb, unsigned long ra_pages);
/* Sets i_version, of which the highest bit is left out, if it is another one. */
void vfs_helper_inode_set_iversion(struct inode *inode, u64 version);
int vfs_helper_inode_generic_drop(struct inode *inode);

/* Pages that have an address, and can be moved. */
void vfs_helper_mapping_set_no_highmem(struct address_space *mapping);
void vfs_helper_mapping_set_large_folios(struct address_space *mapping);

/* Reads the pages that the file is mapped from, from `first` on and before `end`. False if nobody maps them. */
bool vfs_helper_read_mapped_ahead(struct file *file, pgoff_t first, pgoff_t end);

/* A folio that is up to date, and where its bytes are. */
struct vfs_helper_folio {
	struct folio *folio;
	void *address;
	loff_t pos;
	size_t size;
};

/* Both take a reference. The one finds nothing if the page is not there or not up to date. */
bool vfs_helper_find_folio(struct address_space *mapping, pgoff_t index,
			   struct vfs_helper_folio *found);
int vfs_helper_read_folio(struct address_space *mapping, pgoff_t index,
			  struct vfs_helper_folio *found);
/* A folio of no cache, and one that was read becoming part of a cache, where none may be yet. */
struct folio *vfs_helper_alloc_folio(struct address_space *mapping, unsigned int order);
int vfs_helper_add_read_folio(struct address_space *mapping, struct folio *folio, pgoff_t index,
			      struct vfs_helper_folio *found);
struct folio *vfs_helper_readahead_folio(struct readahead_control *rac);
unsigned int vfs_helper_readahead_count(const struct readahead_control *rac);

/* The page cache that a file's bytes are in, which may be that of a file below. */
struct address_space *vfs_helper_cache_of(const struct file *file, bool *below);
/* How many pages are read ahead at once on the device that the file is on. */
unsigned long vfs_helper_readahead_pages(const struct address_space *mapping);
/*
 * Begins to read the page `first` unless it is there, as a read does that wants what is before `end`; or what
 * comes next, if the page is where that is to begin. With `alone` no more is read ahead than up to the next page
 * that is there, and it is set to what was read; else it is null.
 */
struct vfs_helper_window {
	pgoff_t start;
	pgoff_t end;
};
void vfs_helper_read_ahead(struct address_space *mapping, struct file *file, struct file_ra_state *ra,
			   pgoff_t first, pgoff_t end, struct vfs_helper_window *alone);
/*
 * Copies what is in the folio at a position. 0 at the end of the file. If it is not there it is read, or the
 * result an error.
 */
ssize_t vfs_helper_copy_from_cache(struct address_space *mapping, struct file *file, loff_t pos,
				   size_t len, struct iov_iter *iter, bool read);
/*
 * Drops the folios from page `first` to `end`, as far as they are not in use. Returns where the first one begins
 * that is left, or `end`. One that goes on behind `end` is left, one that begins before `first` is dropped.
 */
pgoff_t vfs_helper_drop_pages(struct address_space *mapping, pgoff_t first, pgoff_t end);
bool vfs_helper_is_watched(const struct file *file);
/* Calls read_iter() for who has asked already whether that may be read. */
ssize_t vfs_helper_read_asked(struct kiocb *iocb, struct iov_iter *iter);
/* The same for splice_read(), which there is; the pipe has room. */
ssize_t vfs_helper_splice_asked(struct file *file, loff_t *pos, struct pipe_inode_info *pipe, size_t len,
				unsigned int flags);
/*
 * Waits for a completion of which all are told, as long as `most` jiffies at the most: 0 if that went by, and -ERESTARTSYS if
 * the task is being killed. It may be frozen meanwhile, whatever it holds: it waits for what will be thawed, too.
 */
long vfs_helper_wait_killable(struct completion *done, unsigned long most);
/* The module cannot be unloaded between them. */
void vfs_helper_hold_module(void);
void vfs_helper_release_module(void);

/*
 * Gives up the lock that a fault is handled with, if it can be handled again with VM_FAULT_RETRY, and takes a reference to the
 * area's file. Else null, and nothing has changed.
 */
struct file *vfs_helper_unlock_fault(struct vm_fault *fault);
/* Whether a fault is to be handled by somebody else if there is anything to wait for. */
bool vfs_helper_fault_is_nowait(const struct vm_fault *fault);
/* Whether a program's own access has led to a fault, so that the task holds no locks but for it. */
bool vfs_helper_fault_is_user(const struct vm_fault *fault);
/*
 * Which pages to read for a fault: those around it that are not cached, by the advice for its area and file. None if its page is
 * cached, or behind the end.
 */
struct vfs_helper_window vfs_helper_fault_window(const struct vm_fault *fault, unsigned long most);
/* Reads these pages. If the one that is wanted could not be read as part of them it is read alone. */
void vfs_helper_read_window(struct address_space *mapping, pgoff_t first, pgoff_t end, pgoff_t wanted);
/* The first page that is not cached, from `first` on and before `end`, or `end`. */
pgoff_t vfs_helper_first_missing(struct address_space *mapping, pgoff_t first, pgoff_t end);

loff_t vfs_helper_readahead_pos(const struct readahead_control *rac);
size_t vfs_helper_readahead_length(const struct readahead_control *rac);
/* Whether the next folio to be read ahead ends at the position or before. */
bool vfs_helper_readahead_fits(const struct readahead_control *rac, loff_t end);
/*
 * The position from which on nobody waits for what is read ahead, and there is another processor to fill it; or one behind all
 * of it.
 */
loff_t vfs_helper_readahead_waited(const struct readahead_control *rac);
struct workqueue_struct *vfs_helper_alloc_workqueue(const char *name);
void vfs_helper_flush_workqueue(struct workqueue_struct *queue);
/* A new folio of one page in a mapping, locked, or null if there is one already or no memory for it. */
struct folio *vfs_helper_add_folio(struct address_space *mapping, pgoff_t index);
/*
 * Maps the pages of segments that are whole folios one behind the other, between one page before and one behind them. Null if
 * there is no memory for it. The number of pages is that of vfs_helper_unmap().
 */
void *vfs_helper_map_segments(const struct bio_vec *segments, unsigned int count, struct page *before,
			      struct page *behind, unsigned int *pages);
void vfs_helper_unmap(void *address, unsigned int pages);
/* The bytes of a folio that has an address. */
void *vfs_helper_page_address(struct page *page);
struct page *vfs_helper_alloc_page(void);
void vfs_helper_free_page(struct page *page);
/* Has segments stand for memory of kvmalloc(). How many of them there are; 0 if more would be needed. */
unsigned int vfs_helper_bvec_set_memory(struct bio_vec *bv, unsigned int most, void *memory, size_t len);

struct inode *vfs_helper_folio_inode(struct folio *folio);
size_t vfs_helper_folio_size(const struct folio *folio);
loff_t vfs_helper_folio_pos(const struct folio *folio);
void vfs_helper_folio_put(struct folio *folio);
void vfs_helper_folio_zero_range(struct folio *folio, size_t start, size_t len);
void vfs_helper_memcpy_to_folio(struct folio *folio, size_t offset, const char *from, size_t len);
void vfs_helper_bvec_set_folio(struct bio_vec *bv, struct folio *folio, size_t len, size_t offset);

struct mnt_idmap *vfs_helper_mnt_idmap(const struct vfsmount *mnt);
int vfs_helper_security_file_post_open(struct file *file, int mask);
const struct cred *vfs_helper_current_cred(void);
const struct cred *vfs_helper_override_creds(const struct cred *cred);
void vfs_helper_revert_creds(const struct cred *cred);
/*
 * The fs-verity digest of a file that is open: its length, or 0 if it has none, and -EOPNOTSUPP if the kernel has no
 * fs-verity. There is room for 64 bytes.
 */
int vfs_helper_verity_digest(struct inode *inode, u8 *digest, u8 *algorithm);
/* Waits until all who are writing to the file, or the one below it on a stacked filesystem, are done. */
void vfs_helper_wait_for_writers(const struct file *file);
int vfs_helper_get_current_ioprio(void);
bool vfs_helper_fatal_signal_pending(void);
void vfs_helper_cond_resched(void);

bool vfs_helper_dir_emit(struct dir_context *ctx, const char *name, int len, u64 ino,
			 unsigned int ftype);

size_t vfs_helper_copy_to_iter(const void *addr, size_t bytes, struct iov_iter *iter);
void vfs_helper_register_lock_keys(struct file_system_type *type);
void vfs_helper_unregister_lock_keys(struct file_system_type *type);
bool vfs_helper_is_err(const void *ptr);

/* The file that holds the claim. */
struct file *vfs_helper_claim_device(struct inode *inode, void *holder);
void vfs_helper_release_device(struct file *file);
u64 vfs_helper_device_number(const struct inode *inode);

#if IS_ENABLED(CONFIG_KUNIT)
struct file *vfs_helper_kunit_file(loff_t size);
#endif

#endif
