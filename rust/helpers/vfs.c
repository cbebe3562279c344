// SPDX-License-Identifier: GPL-2.0-only
/*
 * C wrappers for static inlines and macros of the VFS, the page cache and block devices, for ../vfs; what takes
 * several of them on one folio, one page cache or the state of readahead; and what a kernel has or lacks by its
 * configuration.
 */
#include <linux/backing-dev.h>
#include <linux/blkdev.h>
#include <linux/bvec.h>
#include <linux/cred.h>
#include <linux/folio_batch.h>
#include <linux/fs_dirent.h>
#include <linux/fsnotify.h>
#include <linux/fsverity.h>
#include <linux/highmem.h>
#include <linux/ioprio.h>
#include <linux/iversion.h>
#include <linux/kdev_t.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/posix_acl.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/shmem_fs.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/splice.h>
#include <linux/swait.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include "vfs.h"

void vfs_helper_logfc(struct fs_context *fc, char level, const char *message)
{
	if (fc->log.log)
		logfc(fc->log.log, fc->log.prefix, level, "%s", message);
}

char *vfs_helper_kstrdup(const char *s)
{
	return kstrdup(s, GFP_KERNEL);
}

char *vfs_helper_kmemdup_nul(const char *s, size_t len)
{
	return kmemdup_nul(s, len, GFP_KERNEL);
}

struct inode *vfs_helper_alloc_inode(struct super_block *sb, struct kmem_cache *cache)
{
	return alloc_inode_sb(sb, cache, GFP_KERNEL);
}

bool vfs_helper_inode_is_new(struct inode *inode)
{
	return inode_state_read_once(inode) & I_NEW;
}

void vfs_helper_i_uid_write(struct inode *inode, uid_t uid)
{
	i_uid_write(inode, uid);
}

void vfs_helper_i_gid_write(struct inode *inode, gid_t gid)
{
	i_gid_write(inode, gid);
}

loff_t vfs_helper_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

void vfs_helper_inode_set_times(struct inode *inode, time64_t sec, long nsec)
{
	inode_set_atime(inode, sec, nsec);
	inode_set_mtime(inode, sec, nsec);
	inode_set_ctime(inode, sec, nsec);
}

/*
 * The time of the last change, which the next change will differ from where the filesystem can do that; and
 * whether anyone may be writing.
 */
bool vfs_helper_inode_changed(struct inode *inode, s64 *sec, u32 *nsec)
{
	struct kstat stat = {};

	if (is_mgtime(inode))
		fill_mg_cmtime(&stat, STATX_CTIME, inode);
	else
		stat.ctime = inode_get_ctime(inode);
	*sec = stat.ctime.tv_sec;
	*nsec = stat.ctime.tv_nsec;
	/* Who writes was counted as a writer before the time was set: if the time is his, he is seen. */
	smp_rmb();
	return inode_is_open_for_write(inode);
}

int vfs_helper_deny_writing(struct file *file)
{
	return deny_write_access(file);
}

void vfs_helper_allow_writing(struct file *file)
{
	allow_write_access(file);
}

void vfs_helper_cache_no_acl(struct inode *inode)
{
	cache_no_acl(inode);
}

dev_t vfs_helper_new_decode_dev(u32 dev)
{
	return new_decode_dev(dev);
}

void vfs_helper_inode_set_cached_link(struct inode *inode, char *link, int len)
{
	inode_set_cached_link(inode, link, len);
}

void vfs_helper_super_set_uuid(struct super_block *sb, const u8 *uuid, unsigned int len)
{
	super_set_uuid(sb, uuid, len);
}

int vfs_helper_super_share_bdi(struct super_block *sb, struct inode *inode)
{
	struct backing_dev_info *bdi = inode_to_bdi(inode);

	if (sb->s_bdi != &noop_backing_dev_info)
		return -EBUSY;
	if (!bdi->ra_pages && !S_ISBLK(inode->i_mode) && !inode->i_sb->s_bdev)
		return super_setup_bdi(sb);
	sb->s_bdi = bdi_get(bdi);
	return 0;
}

int vfs_helper_super_alloc_bdi(struct super_block *sb, unsigned long ra_pages)
{
	struct backing_dev_info *bdi = bdi_alloc(NUMA_NO_NODE);

	if (!bdi)
		return -ENOMEM;
	bdi->ra_pages = ra_pages;
	sb->s_bdi = bdi;
	return 0;
}

void vfs_helper_inode_set_iversion(struct inode *inode, u64 version)
{
	version &= U64_MAX >> I_VERSION_QUERIED_SHIFT;
	if (inode_peek_iversion(inode) != version)
		inode_set_iversion(inode, version);
}

int vfs_helper_inode_generic_drop(struct inode *inode)
{
	return inode_generic_drop(inode);
}

void vfs_helper_mapping_set_no_highmem(struct address_space *mapping)
{
	mapping_set_gfp_mask(mapping, GFP_USER | __GFP_MOVABLE);
}

void vfs_helper_mapping_set_large_folios(struct address_space *mapping)
{
	mapping_set_large_folios(mapping);
}

static void describe(struct folio *folio, struct vfs_helper_folio *found)
{
	found->folio = folio;
	found->address = folio_address(folio);
	found->pos = folio_pos(folio);
	found->size = folio_size(folio);
}

bool vfs_helper_find_folio(struct address_space *mapping, pgoff_t index,
			   struct vfs_helper_folio *found)
{
	/* As do_read_cache_folio() does: without, what is read once and never again would be kept longer. */
	struct folio *folio = __filemap_get_folio(mapping, index, FGP_ACCESSED, 0);

	if (IS_ERR(folio))
		return false;
	if (!folio_test_uptodate(folio)) {
		folio_put(folio);
		return false;
	}
	describe(folio, found);
	return true;
}

int vfs_helper_read_folio(struct address_space *mapping, pgoff_t index,
			  struct vfs_helper_folio *found)
{
	struct folio *folio = read_mapping_folio(mapping, index, NULL);

	if (IS_ERR(folio))
		return PTR_ERR(folio);
	describe(folio, found);
	return 0;
}

struct folio *vfs_helper_alloc_folio(struct address_space *mapping, unsigned int order)
{
	if (order > mapping_max_folio_order(mapping))
		return NULL;
	return filemap_alloc_folio(readahead_gfp_mask(mapping), order, NULL);
}

int vfs_helper_add_read_folio(struct address_space *mapping, struct folio *folio, pgoff_t index,
			      struct vfs_helper_folio *found)
{
	int error;

	folio_mark_uptodate(folio);
	error = filemap_add_folio(mapping, folio, index, readahead_gfp_mask(mapping));
	if (error)
		return error;
	folio_unlock(folio);
	describe(folio, found);
	return 0;
}

struct folio *vfs_helper_readahead_folio(struct readahead_control *rac)
{
	return readahead_folio(rac);
}

unsigned int vfs_helper_readahead_count(const struct readahead_control *rac)
{
	return readahead_count(rac);
}

struct address_space *vfs_helper_cache_of(const struct file *file, bool *below)
{
	struct inode *real = d_real_inode(file->f_path.dentry);

	*below = real && real != d_inode(file->f_path.dentry);
	return *below ? real->i_mapping : file->f_mapping;
}

unsigned long vfs_helper_readahead_pages(const struct address_space *mapping)
{
	return inode_to_bdi(mapping->host)->ra_pages;
}

/* The first page that is there, from `first` on and before `end`; or `end`. */
static pgoff_t first_page(struct address_space *mapping, pgoff_t first, pgoff_t end)
{
	XA_STATE(xas, &mapping->i_pages, first);
	void *entry;

	rcu_read_lock();
	xas_for_each(&xas, entry, end - 1) {
		if (xas_retry(&xas, entry) || xa_is_value(entry))
			continue;
		end = max(first, xas.xa_index);
		break;
	}
	rcu_read_unlock();
	return end;
}

void vfs_helper_read_ahead(struct address_space *mapping, struct file *file, struct file_ra_state *ra,
			   pgoff_t first, pgoff_t end, struct vfs_helper_window *alone)
{
	DEFINE_READAHEAD(ractl, file, ra, mapping, first);
	unsigned int ra_pages = ra->ra_pages;
	pgoff_t missing = first, limit = ULONG_MAX;
	struct folio *folio;

	if (alone)
		alone->start = alone->end = 0;
	/* Without, folios are read one by one, for which others behind may have to be locked. */
	if (!mapping->a_ops->readahead)
		return;
	folio = filemap_get_folio(mapping, first);
	if (!IS_ERR(folio) && !folio_test_readahead(folio))
		goto out;
	if (alone) {
		if (!IS_ERR(folio)) {
			rcu_read_lock();
			missing = page_cache_next_miss(mapping, folio_next_index(folio),
						       ra->ra_pages + 1UL);
			rcu_read_unlock();
			/* Others have what is before it: a page that is missing then begins a window. */
			if (missing != ra->start + ra->size)
				goto out;
		}
		limit = max_t(pgoff_t, ra->ra_pages, end - first);
		limit = first_page(mapping, missing, missing + limit) - missing;
		if (!limit)
			goto out;
		ra->ra_pages = limit;
		/* The next window is not smaller than the last one. */
		if (!IS_ERR(folio) && ra->size > limit) {
			ra->start = missing - limit;
			ra->size = limit;
		}
	}
	if (IS_ERR(folio)) {
		page_cache_sync_ra(&ractl, min(end - first, limit));
	} else {
		ractl._index = folio->index;
		page_cache_async_ra(&ractl, folio, min(end - folio->index, limit));
	}
	ra->ra_pages = ra_pages;
	if (alone && ra->start == missing) {
		alone->start = missing;
		alone->end = missing + ra->size;
	}
out:
	if (!IS_ERR(folio))
		folio_put(folio);
}

bool vfs_helper_read_mapped_ahead(struct file *file, pgoff_t first, pgoff_t end)
{
	struct address_space *mapping = file->f_mapping;

	if (!mapping_mapped(mapping))
		return false;
	while (first < end && !fatal_signal_pending(current)) {
		/* One window, with nothing before it that it would go on from. */
		struct file_ra_state ra = {
			.ra_pages = min(end - first, SZ_2M / PAGE_SIZE),
			.prev_pos = -1,
		};
		DEFINE_READAHEAD(ractl, NULL, &ra, mapping, first);

		page_cache_sync_ra(&ractl, ra.ra_pages);
		first += ra.ra_pages;
		cond_resched();
	}
	return true;
}

static struct folio *find_read_folio(struct address_space *mapping, pgoff_t index)
{
	struct folio *folio = filemap_get_folio(mapping, index);

	if (IS_ERR(folio))
		return folio;
	if (!folio_test_uptodate(folio))
		folio_wait_locked(folio);
	if (folio_test_uptodate(folio))
		return folio;
	folio_put(folio);
	return ERR_PTR(-EAGAIN);
}

/* The lock keeps the size and the folio's bytes together: whoever makes the file shorter has it alone. */
ssize_t vfs_helper_copy_from_cache(struct address_space *mapping, struct file *file, loff_t pos,
				   size_t len, struct iov_iter *iter, bool read)
{
	pgoff_t index = pos >> PAGE_SHIFT;
	struct folio *folio;
	ssize_t copied = 0;
	loff_t end;

	filemap_invalidate_lock_shared(mapping);
	folio = read ? read_mapping_folio(mapping, index, file) : find_read_folio(mapping, index);
	if (IS_ERR(folio)) {
		copied = PTR_ERR(folio);
		goto out;
	}
	end = min_t(loff_t, folio_pos(folio) + folio_size(folio), i_size_read(mapping->host));
	if (pos < end) {
		len = min_t(loff_t, len, end - pos);
		copied = copy_folio_to_iter(folio, offset_in_folio(folio, pos), len, iter);
		if (copied != len)
			copied = -EFAULT;
	}
	folio_put(folio);
out:
	filemap_invalidate_unlock_shared(mapping);
	return copied;
}

/* Where the first folio between two pages begins, which may be before, or `end`. */
static pgoff_t first_folio(struct address_space *mapping, pgoff_t first, pgoff_t end)
{
	struct folio_batch batch;

	folio_batch_init(&batch);
	if (filemap_get_folios(mapping, &first, end - 1, &batch))
		end = batch.folios[0]->index;
	/* This takes new folios out of the processor's own batch, where they would be in use. */
	folio_batch_release(&batch);
	return end;
}

pgoff_t vfs_helper_drop_pages(struct address_space *mapping, pgoff_t first, pgoff_t end)
{
	first = first_folio(mapping, first, end);
	if (first >= end)
		return end;
	invalidate_mapping_pages(mapping, first, end - 1);
	return first_folio(mapping, first, end);
}

bool vfs_helper_is_watched(const struct file *file)
{
	return FMODE_FSNOTIFY_HSM(file->f_mode) || FMODE_FSNOTIFY_ACCESS_PERM(file->f_mode);
}

ssize_t vfs_helper_read_asked(struct kiocb *iocb, struct iov_iter *iter)
{
	ssize_t done = 0;

	if (iov_iter_count(iter))
		done = iocb->ki_filp->f_op->read_iter(iocb, iter);
	if (done >= 0)
		fsnotify_access(iocb->ki_filp);
	return done;
}

ssize_t vfs_helper_splice_asked(struct file *file, loff_t *pos, struct pipe_inode_info *pipe, size_t len,
				unsigned int flags)
{
	if ((file->f_flags & O_DIRECT) || IS_DAX(file->f_mapping->host))
		return copy_splice_read(file, pos, pipe, len, flags);
	return file->f_op->splice_read(file, pos, pipe, len, flags);
}

long vfs_helper_wait_killable(struct completion *done, unsigned long most)
{
	return ___swait_event(done->wait, ___wait_cond_timeout(completion_done(done)),
			      (TASK_KILLABLE | TASK_FREEZABLE_UNSAFE), most, __ret = schedule_timeout(__ret));
}

void vfs_helper_hold_module(void)
{
	__module_get(THIS_MODULE);
}

void vfs_helper_release_module(void)
{
	module_put(THIS_MODULE);
}

struct file *vfs_helper_unlock_fault(struct vm_fault *fault)
{
	struct file *file;

	if (!fault_flag_allow_retry_first(fault->flags) || vfs_helper_fault_is_nowait(fault))
		return NULL;
	file = get_file(fault->vma->vm_file);
	release_fault_lock(fault);
	return file;
}

bool vfs_helper_fault_is_nowait(const struct vm_fault *fault)
{
	return fault->flags & FAULT_FLAG_RETRY_NOWAIT;
}

bool vfs_helper_fault_is_user(const struct vm_fault *fault)
{
	return fault->flags & FAULT_FLAG_USER;
}

static bool is_cached(struct address_space *mapping, pgoff_t index)
{
	struct folio *folio = filemap_get_folio(mapping, index);
	bool cached = !IS_ERR(folio) && folio_test_uptodate(folio);

	if (!IS_ERR(folio))
		folio_put(folio);
	return cached;
}

struct vfs_helper_window vfs_helper_fault_window(const struct vm_fault *fault, unsigned long most)
{
	const struct vm_area_struct *vma = fault->vma;
	struct file *file = vma->vm_file;
	struct address_space *mapping = file->f_mapping;
	pgoff_t index = fault->pgoff, end = DIV_ROUND_UP(i_size_read(mapping->host), PAGE_SIZE);
	struct vfs_helper_window window = { index, index };
	unsigned long pages = min(READ_ONCE(file->f_ra.ra_pages), most), before = pages / 2;

	if (index >= end || is_cached(mapping, index))
		return window;
	window.end++;
	if (vma->vm_flags & VM_RAND_READ)
		return window;
	if (vma->vm_flags & VM_SEQ_READ)
		before = 0;
	end = min(end, index + pages - before);
	while (index - window.start < before && window.start && !is_cached(mapping, window.start - 1))
		window.start--;
	while (window.end < end && !is_cached(mapping, window.end))
		window.end++;
	return window;
}

void vfs_helper_read_window(struct address_space *mapping, pgoff_t first, pgoff_t end, pgoff_t wanted)
{
	/* With nothing before it that it would go on from. */
	struct file_ra_state ra = { .ra_pages = end - first, .prev_pos = -1 };
	struct folio *folio;
	DEFINE_READAHEAD(ractl, NULL, &ra, mapping, first);

	if (end - first > 1)
		page_cache_sync_ra(&ractl, end - first);
	folio = read_mapping_folio(mapping, wanted, NULL);
	if (!IS_ERR(folio))
		folio_put(folio);
}

pgoff_t vfs_helper_first_missing(struct address_space *mapping, pgoff_t first, pgoff_t end)
{
	while (first < end && is_cached(mapping, first))
		first++;
	return first;
}

loff_t vfs_helper_readahead_pos(const struct readahead_control *rac)
{
	return readahead_pos((struct readahead_control *)rac);
}

size_t vfs_helper_readahead_length(const struct readahead_control *rac)
{
	return readahead_length((struct readahead_control *)rac);
}

bool vfs_helper_readahead_fits(const struct readahead_control *rac, loff_t end)
{
	struct folio *folio;

	if (rac->_nr_pages <= rac->_batch_count)
		return true;
	/* It is locked, and so stays. */
	folio = xa_load(&rac->mapping->i_pages, rac->_index + rac->_batch_count);
	return folio_pos(folio) + folio_size(folio) <= end;
}

loff_t vfs_helper_readahead_waited(const struct readahead_control *rac)
{
	const struct file_ra_state *ra = rac->ra;

	if (!ra || !ra->size || num_online_cpus() == 1)
		return LLONG_MAX;
	return (loff_t)(ra->start + ra->size - min(ra->size, ra->async_size)) << PAGE_SHIFT;
}

struct workqueue_struct *vfs_helper_alloc_workqueue(const char *name)
{
	return alloc_workqueue("%s", WQ_UNBOUND | WQ_MEM_RECLAIM, 0, name);
}

void vfs_helper_flush_workqueue(struct workqueue_struct *queue)
{
	flush_workqueue(queue);
}

struct folio *vfs_helper_add_folio(struct address_space *mapping, pgoff_t index)
{
	gfp_t gfp = readahead_gfp_mask(mapping);
	struct folio *folio = filemap_alloc_folio(gfp, 0, NULL);

	if (!folio)
		return NULL;
	if (filemap_add_folio(mapping, folio, index, gfp)) {
		folio_put(folio);
		return NULL;
	}
	/* The lock keeps it in the mapping, whose reference it has. */
	folio_put(folio);
	return folio;
}

void *vfs_helper_map_segments(const struct bio_vec *segments, unsigned int count, struct page *before,
			      struct page *behind, unsigned int *pages)
{
	struct page *few[34], **all = few;
	void *address = NULL;
	unsigned int total = 2, at = 0;

	for (unsigned int i = 0; i < count; i++)
		total += segments[i].bv_len >> PAGE_SHIFT;
	if (total > ARRAY_SIZE(few)) {
		all = kvmalloc_array(total, sizeof(*all), GFP_NOFS);
		if (!all)
			return NULL;
	}
	all[at++] = before;
	for (unsigned int i = 0; i < count; i++) {
		for (unsigned int page = 0; page < segments[i].bv_len >> PAGE_SHIFT; page++)
			all[at++] = segments[i].bv_page + page;
	}
	all[at++] = behind;
	for (int tries = 0; !address && tries < 2; tries++) {
		if (tries)
			vm_unmap_aliases();
		address = vm_map_ram(all, total, NUMA_NO_NODE);
	}
	if (all != few)
		kvfree(all);
	*pages = total;
	return address;
}

void vfs_helper_unmap(void *address, unsigned int pages)
{
	vm_unmap_ram(address, pages);
}

void *vfs_helper_page_address(struct page *page)
{
	return page_address(page);
}

struct page *vfs_helper_alloc_page(void)
{
	return alloc_page(GFP_NOFS);
}

void vfs_helper_free_page(struct page *page)
{
	__free_page(page);
}

unsigned int vfs_helper_bvec_set_memory(struct bio_vec *bv, unsigned int most, void *memory, size_t len)
{
	unsigned int count = 0;

	while (len > 0) {
		size_t part = len;
		struct page *page;

		if (is_vmalloc_addr(memory)) {
			part = min(len, PAGE_SIZE - offset_in_page(memory));
			page = vmalloc_to_page(memory);
		} else {
			page = virt_to_page(memory);
		}
		if (count == most || part > U32_MAX)
			return 0;
		bvec_set_page(&bv[count++], page, part, offset_in_page(memory));
		memory += part;
		len -= part;
	}
	return count;
}

struct inode *vfs_helper_folio_inode(struct folio *folio)
{
	return folio_inode(folio);
}

size_t vfs_helper_folio_size(const struct folio *folio)
{
	return folio_size(folio);
}

loff_t vfs_helper_folio_pos(const struct folio *folio)
{
	return folio_pos(folio);
}

void vfs_helper_folio_put(struct folio *folio)
{
	folio_put(folio);
}

void vfs_helper_folio_zero_range(struct folio *folio, size_t start, size_t len)
{
	folio_zero_range(folio, start, len);
}

void vfs_helper_memcpy_to_folio(struct folio *folio, size_t offset, const char *from, size_t len)
{
	memcpy_to_folio(folio, offset, from, len);
}

void vfs_helper_bvec_set_folio(struct bio_vec *bv, struct folio *folio, size_t len, size_t offset)
{
	bvec_set_folio(bv, folio, len, offset);
}

struct mnt_idmap *vfs_helper_mnt_idmap(const struct vfsmount *mnt)
{
	return mnt_idmap(mnt);
}

int vfs_helper_security_file_post_open(struct file *file, int mask)
{
	return security_file_post_open(file, mask);
}

const struct cred *vfs_helper_current_cred(void)
{
	return current_cred();
}

const struct cred *vfs_helper_override_creds(const struct cred *cred)
{
	return override_creds(cred);
}

void vfs_helper_revert_creds(const struct cred *cred)
{
	revert_creds(cred);
}

int vfs_helper_verity_digest(struct inode *inode, u8 *digest, u8 *algorithm)
{
	BUILD_BUG_ON(FS_VERITY_MAX_DIGEST_SIZE != 64);
	if (!IS_ENABLED(CONFIG_FS_VERITY))
		return -EOPNOTSUPP;
	return fsverity_get_digest(inode, digest, algorithm, NULL);
}

void vfs_helper_wait_for_writers(const struct file *file)
{
	struct inode *inode = d_real_inode(file->f_path.dentry);

	inode_lock_shared(inode);
	inode_unlock_shared(inode);
}

int vfs_helper_get_current_ioprio(void)
{
	return get_current_ioprio();
}

bool vfs_helper_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

void vfs_helper_cond_resched(void)
{
	cond_resched();
}

bool vfs_helper_dir_emit(struct dir_context *ctx, const char *name, int len, u64 ino,
			 unsigned int ftype)
{
	return dir_emit(ctx, name, len, ino, fs_ftype_to_dtype(ftype));
}

size_t vfs_helper_copy_to_iter(const void *addr, size_t bytes, struct iov_iter *iter)
{
	return copy_to_iter(addr, bytes, iter);
}

void vfs_helper_register_lock_keys(struct file_system_type *type)
{
	lockdep_register_key(&type->s_lock_key);
	lockdep_register_key(&type->s_umount_key);
	lockdep_register_key(&type->s_vfs_rename_key);
	lockdep_register_key(&type->i_lock_key);
	lockdep_register_key(&type->i_mutex_key);
	lockdep_register_key(&type->invalidate_lock_key);
	lockdep_register_key(&type->i_mutex_dir_key);
	for (int i = 0; i < SB_FREEZE_LEVELS; i++)
		lockdep_register_key(&type->s_writers_key[i]);
}

void vfs_helper_unregister_lock_keys(struct file_system_type *type)
{
	lockdep_unregister_key(&type->s_lock_key);
	lockdep_unregister_key(&type->s_umount_key);
	lockdep_unregister_key(&type->s_vfs_rename_key);
	lockdep_unregister_key(&type->i_lock_key);
	lockdep_unregister_key(&type->i_mutex_key);
	lockdep_unregister_key(&type->invalidate_lock_key);
	lockdep_unregister_key(&type->i_mutex_dir_key);
	for (int i = 0; i < SB_FREEZE_LEVELS; i++)
		lockdep_unregister_key(&type->s_writers_key[i]);
}

bool vfs_helper_is_err(const void *ptr)
{
	return IS_ERR(ptr);
}

/* As for a filesystem that is mounted read-only. */
struct file *vfs_helper_claim_device(struct inode *inode, void *holder)
{
#ifdef CONFIG_BLOCK
	return bdev_file_open_by_dev(inode->i_rdev, BLK_OPEN_READ | BLK_OPEN_RESTRICT_WRITES,
				     holder, NULL);
#else
	return ERR_PTR(-ENXIO);
#endif
}

void vfs_helper_release_device(struct file *file)
{
#ifdef CONFIG_BLOCK
	bdev_fput(file);
#endif
}

u64 vfs_helper_device_number(const struct inode *inode)
{
	return huge_encode_dev(inode->i_rdev);
}

#if IS_ENABLED(CONFIG_KUNIT)
struct file *vfs_helper_kunit_file(loff_t size)
{
	return shmem_kernel_file_setup("ferofs-kunit", size, EMPTY_VMA_FLAGS);
}
#endif
